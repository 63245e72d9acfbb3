from __future__ import annotations

import dataclasses

import pytest

from postroom.core.errors import AlreadyExists, InUse, Malformed, NotAllowed, NotFound
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import folders, reading
from postroom.domain.mailboxes.folders import DEPTH, Mailbox, Tree
from postroom.store import journal
from tests.domain.making import NOW, Town


def paths(town: Town) -> set[str]:
    return set(town.store.read(folders.tree, town.ann.id).by_path)


def test_a_new_account_has_its_folders(town: Town) -> None:
    tree = town.store.read(folders.tree, town.ann.id)
    assert {path: box.role for path, box in tree.by_path.items()} == {
        "INBOX": "inbox",
        "Drafts": "drafts",
        "Sent": "sent",
        "Junk": "junk",
        "Trash": "trash",
        "Archive": "archive",
    }
    boxes = list(tree.by_path.values())
    assert all(box.subscribed and box.uidnext == 1 and box.total == 0 for box in boxes)
    assert len({box.uidvalidity for box in boxes}) == len(boxes)
    assert min(box.uidvalidity for box in boxes) >= NOW // 1000


def test_missing_parents_are_made(town: Town) -> None:
    made = town.folder("Work/2026/May")
    assert paths(town) >= {"Work", "Work/2026", "Work/2026/May"}
    assert town.box("Work/2026/May") == made
    with pytest.raises(AlreadyExists):
        town.folder("Work/2026/May")
    with pytest.raises(AlreadyExists):
        town.folder("Work")


def test_inbox_has_one_name_in_any_case(town: Town) -> None:
    inbox = town.box("INBOX")
    assert town.box("inBox") == inbox
    town.folder("inbox/Sub")
    assert "INBOX/Sub" in paths(town)
    assert town.box("Inbox/Sub") == town.box("INBOX/Sub")
    with pytest.raises(AlreadyExists):
        town.folder("Inbox")
    with pytest.raises(NotAllowed):
        town.store.write(folders.delete, town.ann.id, "inbox", NOW, 1)
    with pytest.raises(NotAllowed):
        town.store.write(folders.rename, town.ann.id, "INBOX", "Old", town.ids, NOW, 1)
    # Deeper it is a name like any other, and other names do compare by case.
    town.folder("Work/Inbox")
    town.folder("Work/INBOX")
    town.folder("work")


def test_names_are_compared_after_normalisation(town: Town) -> None:
    composed, decomposed = "Gr\u00f6\u00dfe", "Gro\u0308\u00dfe"
    made = town.folder(decomposed)
    assert town.box(composed) == made
    assert composed in paths(town)
    with pytest.raises(AlreadyExists):
        town.folder(composed)


def test_a_name_that_could_not_be_kept_is_refused(town: Town) -> None:
    before = paths(town)
    for path in (
        *("", "/", "a//b", "/a", "a/", " a", "a ", "a/ b"),
        *("a\x00b", "a\nb", "a\x7f", "a\u2028b", "a\ud800"),
        *("x" * 256, "\u00e9" * 128, "/".join("x" * (DEPTH + 1))),
    ):
        with pytest.raises(Malformed):
            town.folder(path)
        with pytest.raises(Malformed):
            rename(town, "Trash", path)
    assert paths(town) == before


def test_the_deepest_and_the_longest_names_are_kept(town: Town) -> None:
    for path in ("/".join("x" * DEPTH), "y" * 255, "\u00e9" * 127):
        box = town.folder(path)
        assert town.store.read(folders.tree, town.ann.id).path(box) == path


def test_a_special_use_is_had_once(town: Town) -> None:
    account = town.ann.id
    with pytest.raises(NotAllowed):
        town.store.write(folders.create, account, "Bin", town.ids, NOW, 1, role="trash")
    with pytest.raises(NotAllowed):
        town.store.write(folders.create, account, "Bin", town.ids, NOW, 1, role="nonsense")
    box = town.store.write(folders.create, account, "A/All", town.ids, NOW, 1, role="all")
    found = town.store.read(folders.by_role, account, "all")
    assert found is not None
    assert found.id == box
    assert town.store.read(folders.get, town.box("A")).role == ""
    assert town.store.read(folders.by_role, account, "flagged") is None


def test_a_mailbox_is_found_by_its_names_without_the_others(town: Town) -> None:
    for path in ("Work/2026/May", "Work/Inbox", "INBOX/Sub", "Gr\u00f6\u00dfe/Work", "a", "A"):
        town.folder(path)
    tree = town.store.read(folders.tree, town.ann.id)
    for path, there in tree.by_path.items():
        assert town.store.read(folders.at, town.ann.id, path) == there
    assert town.store.read(folders.at, town.ann.id, "inbox/Sub") == tree.find("INBOX/Sub")
    found = town.store.read(folders.at, town.ann.id, "Gro\u0308\u00dfe/Work")
    assert found == tree.find("Gr\u00f6\u00dfe/Work")
    for path in (
        *("", "/", "Work/", "/Work", "work", "Work/2027", "2026", "May", "Work/2026/May/x"),
        *("a\x00", "a\ud800", "/".join("x" * 100), "y" * 300),
    ):
        with pytest.raises(NotFound):
            tree.find(path)
        with pytest.raises(NotFound):
            town.store.read(folders.at, town.ann.id, path)
    town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    with pytest.raises(NotFound):
        town.store.read(folders.at, town.ann.id, "a")


# --- rename -------------------------------------------------------------------------------


def rename(town: Town, old: str, new: str) -> None:
    town.store.write(folders.rename, town.ann.id, old, new, town.ids, NOW, 1)


def test_what_lies_below_moves_along(town: Town) -> None:
    deep = town.folder("a/b/c")
    rename(town, "a", "x/y/z")
    assert town.box("x/y/z/b/c") == deep
    assert not {"a", "a/b", "a/b/c"} & paths(town)
    rename(town, "x/y/z", "top")
    assert town.box("top/b/c") == deep


def test_a_mailbox_does_not_go_below_itself_or_onto_another(town: Town) -> None:
    town.folder("a/b")
    with pytest.raises(NotAllowed):
        rename(town, "a", "a/b/a")
    with pytest.raises(AlreadyExists):
        rename(town, "a", "Sent")
    with pytest.raises(AlreadyExists):
        rename(town, "a", "a")
    with pytest.raises(NotFound):
        rename(town, "nothing", "b")


def test_a_rename_keeps_the_depth_in_bounds(town: Town) -> None:
    town.folder("a/b/c")
    town.folder("/".join("x" * (DEPTH - 2)))
    with pytest.raises(Malformed):
        rename(town, "a", "/".join("x" * (DEPTH - 2)) + "/a")
    rename(town, "a", "/".join("x" * (DEPTH - 3)) + "/a")
    deepest = "/".join("x" * (DEPTH - 3)) + "/a/b/c"
    assert town.store.read(folders.tree, town.ann.id).path(town.box(deepest)) == deepest


def test_a_rename_is_a_change_of_the_account(town: Town) -> None:
    town.folder("a")
    before = town.store.read(reading.account_state, town.ann.id).modseq
    town.store.events.clear()
    rename(town, "a", "n/b")
    box = town.store.read(folders.get, town.box("n/b"))
    after = town.store.read(reading.account_state, town.ann.id).modseq
    assert before < box.changed_modseq == after
    assert [e.types for e in town.store.events if isinstance(e, Changed)] == [Type.MAILBOX] * 2
    entry = town.store.read(journal.since, town.ann.id, before)[-1]
    assert (entry.kind, entry.before["name"], entry.before["parent"]) == ("mailbox.rename", "a", 0)


# --- delete -------------------------------------------------------------------------------


def test_a_deleted_mailbox_is_out_of_sight_and_its_name_is_free(town: Town) -> None:
    box = town.folder("a")
    old = town.store.read(folders.get, box)
    town.append(box)
    town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    assert "a" not in paths(town)
    with pytest.raises(NotFound):
        town.store.read(folders.get, box)
    with pytest.raises(NotFound):
        town.append(box)
    with pytest.raises(NotFound):
        town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    again = town.store.read(folders.get, town.folder("a"))
    assert again.id != box
    assert again.uidvalidity > old.uidvalidity, "a client would take the old messages for its own"
    assert (again.uidnext, again.total) == (1, 0)


def test_one_with_others_below_stays(town: Town) -> None:
    town.folder("a/b")
    with pytest.raises(InUse):
        town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    town.store.write(folders.delete, town.ann.id, "a/b", NOW, 1)
    town.store.write(folders.delete, town.ann.id, "a", NOW, 1)


def names(town: Town) -> list[str]:
    return town.store.read(folders.subscribed_names, town.ann.id)


def subscribe(town: Town, path: str, *, wanted: bool = True) -> None:
    town.store.write(folders.subscribe, town.ann.id, path, NOW, 1, wanted=wanted)


def test_a_subscription_stays_with_the_name_of_what_is_deleted(town: Town) -> None:
    """RFC 3501 §6.3.6."""
    town.folder("a/b")
    subscribe(town, "a/b")
    town.store.write(folders.delete, town.ann.id, "a/b", NOW, 1)
    town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    assert names(town) == ["a/b"], "nobody subscribed to a"
    assert town.store.read(folders.get, town.folder("a/b")).subscribed
    assert names(town) == []
    town.store.write(folders.delete, town.ann.id, "a/b", NOW, 1)
    subscribe(town, "a/b", wanted=False)
    assert names(town) == []
    with pytest.raises(NotFound):
        subscribe(town, "a/b", wanted=False)
    assert not town.store.read(folders.get, town.folder("a/b")).subscribed


def test_what_is_renamed_to_such_a_name_is_subscribed_to(town: Town) -> None:
    for path in ("old", "old/x", "new/x"):
        town.folder(path)
    subscribe(town, "new/x")
    subscribe(town, "new")
    for path in ("new/x", "new"):
        town.store.write(folders.delete, town.ann.id, path, NOW, 1)
    rename(town, "old", "new")
    assert names(town) == []
    tree = town.store.read(folders.tree, town.ann.id)
    assert [tree.by_path[path].subscribed for path in ("new", "new/x")] == [True, True]


def test_so_many_names_are_kept_and_no_more(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "NAMES_MOST", 2)
    for path in ("a", "b", "c"):
        town.folder(path)
        subscribe(town, path)
        town.store.write(folders.delete, town.ann.id, path, NOW, 1)
    assert names(town) == ["a", "b"]
    town.folder("b")
    town.store.write(folders.delete, town.ann.id, "b", NOW, 1)
    assert names(town) == ["a", "b"]


def test_subscriptions_change_only_when_they_change(town: Town) -> None:
    town.folder("a")

    def subscribe(wanted: bool) -> int:
        town.store.write(folders.subscribe, town.ann.id, "a", NOW, 1, wanted=wanted)
        assert town.store.read(folders.get, town.box("a")).subscribed is wanted
        return town.store.read(reading.account_state, town.ann.id).modseq

    first = subscribe(True)
    assert subscribe(True) == first
    assert subscribe(False) == first + 1
    with pytest.raises(NotFound):
        town.store.write(folders.subscribe, town.ann.id, "b", NOW, 1, wanted=True)


# --- the tree by itself -------------------------------------------------------------------


def box(number: int, parent: int, name: str) -> Mailbox:
    return Mailbox(number, 1, parent, name, "", True, 1, 1, 1, 0, 0, 0, 0, 1, 1)


def test_damaged_parents_hide_their_own_and_stop_nobody() -> None:
    tree = Tree(
        [
            box(1, 0, "INBOX"),
            box(2, 1, "below"),
            box(3, 99, "orphan"),
            box(4, 3, "of orphan"),
            box(5, 5, "own parent"),
            box(6, 7, "round"),
            box(7, 6, "and round"),
        ]
    )
    assert set(tree.by_path) == {"INBOX", "INBOX/below"}
    assert tree.path(2) == "INBOX/below"
    assert tree.path(4) == "orphan/of orphan"
    assert len(tree.path(6).split("/")) <= DEPTH + 1
    assert [b.id for b in tree.below(1)] == [2]
    assert {b.id for b in tree.below(6)} <= {6, 7}
    assert {b.id for b in tree.below(5)} <= {5}


def test_below_gives_parents_before_children() -> None:
    boxes = [box(n, n // 2, str(n)) for n in range(1, 32)]
    found = [b.id for b in Tree(reversed(boxes)).below(1)]
    assert sorted(found) == list(range(2, 32))
    assert all(n // 2 == 1 or found.index(n // 2) < found.index(n) for n in found)


def test_a_tree_of_ten_thousand_is_walked_once() -> None:
    chain = [box(n, n - 1, "x") for n in range(1, 10_001)]
    wide = [dataclasses.replace(b, id=b.id + 20_000, parent=0, name=str(b.id)) for b in chain]
    tree = Tree([*wide, *chain[:DEPTH]])
    assert len(tree.by_path) == 10_000 + DEPTH
