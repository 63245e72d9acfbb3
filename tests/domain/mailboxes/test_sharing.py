from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import AlreadyExists, InUse, MailError, NotAllowed, NotFound
from postroom.core.ids import ACCOUNT, external
from postroom.core.settings import Role
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.mailboxes import folders, rights, sharing
from postroom.domain.mailboxes.folders import Mailbox, Tree
from postroom.domain.mailboxes.rights import MissingRight, Right
from tests.domain.mailboxes.test_rights import put
from tests.domain.making import NOW, Town, checked


def seen(town: Town, viewer: Account) -> dict[str, bool]:
    """Every path beyond the viewer's own, and whether a mailbox is there."""
    tree = town.store.read(sharing.sight, viewer.id).tree
    own = town.store.read(folders.tree, viewer.id).by_path
    return {
        path: not sharing.is_level(box) for path, box in tree.by_path.items() if path not in own
    }


def find(town: Town, viewer: Account, path: str, needs: Right = Right.READ) -> Mailbox:
    return town.store.read(sharing.find, viewer.id, path, needs)


def public(town: Town) -> Account:
    """The owner of the domain's public folders."""
    return town.store.write(people.make_public, town.domain, next(town.ids), NOW)


def test_nobody_sees_what_nobody_shared(town: Town) -> None:
    bob = town.person("bob@a.test")
    assert seen(town, bob) == {}
    put(town, town.box(), "bob", "rswi")  # but no l
    assert seen(town, bob) == {}


def test_a_shared_mailbox_lies_below_its_owner(town: Town) -> None:
    bob = town.person("bob@a.test")
    put(town, town.box(), "bob", "lr")
    assert seen(town, bob) == {
        "Shared": False,
        "Shared/ann@a.test": False,
        "Shared/ann@a.test/INBOX": True,
    }
    box = find(town, bob, "Shared/ann@a.test/inbox")
    assert (box.id, box.account, box.role, box.subscribed) == (
        town.box(),
        town.ann.id,
        "",
        False,
    )
    assert seen(town, town.ann) == {}


def test_a_level_that_may_not_be_seen_is_told_as_if_nothing_were_there(town: Town) -> None:
    bob = town.person("bob@a.test")
    town.folder("Work/Secret/Plan")
    put(town, town.box("Work/Secret/Plan"), "bob", "lr")
    before = seen(town, bob)
    assert before == {
        "Shared": False,
        "Shared/ann@a.test": False,
        "Shared/ann@a.test/Work": False,
        "Shared/ann@a.test/Work/Secret": False,
        "Shared/ann@a.test/Work/Secret/Plan": True,
    }
    for path in ("Shared/ann@a.test/Work", "Shared/ann@a.test/Work/Secret", "Shared"):
        with pytest.raises(NotFound):
            find(town, bob, path)
    put(town, town.box("Work"), "bob", "l")
    assert seen(town, bob) == {**before, "Shared/ann@a.test/Work": True}


def test_without_a_right_it_is_as_if_the_mailbox_were_not_there(town: Town) -> None:
    """Attack classes 16 and 29: one answer for what is hidden, absent, and of nobody."""
    bob = town.person("bob@a.test")
    town.folder("Secret")
    said = set()
    for path in (
        "Shared/ann@a.test/Secret",
        "Shared/ann@a.test/Absent",
        "Shared/nobody@a.test/INBOX",
        "Shared/nobody@b.test/INBOX",
        "Shared/no address/INBOX",
        "Shared/a1/INBOX",
        "Shared/ann@a.test",
        "Shared/ann@a.test/",
        "Shared/",
        "Shared//",
        "Public/Absent",
        "Public/",
        f"Shared/{external(ACCOUNT, town.ann.id)}/Secret",
    ):
        for attempt in (
            lambda tx, p: sharing.find(tx, bob.id, p),
            lambda tx, p: sharing.delete(tx, bob.id, p, NOW),
            lambda tx, p: sharing.rename(tx, bob.id, p, "Mine", town.ids, NOW),
            lambda tx, p: sharing.subscribe(tx, bob.id, p, NOW, wanted=True),
            lambda tx, p: sharing.create(tx, bob.id, p, town.ids, NOW),
        ):
            with pytest.raises(NotFound) as caught:
                town.store.write(attempt, path)
            said.add(str(caught.value))
    assert said == {"No such mailbox"}


def test_an_owner_who_is_disabled_or_gone_is_not_there(town: Town) -> None:
    bob = town.person("bob@a.test")
    put(town, town.box(), "bob", "lr")
    town.store.write(people.set_state, town.ann, "disabled")
    assert seen(town, bob) == {}
    with pytest.raises(NotFound):
        find(town, bob, "Shared/ann@a.test/INBOX")
    town.store.write(people.set_state, town.ann, "active")
    assert "Shared/ann@a.test/INBOX" in seen(town, bob)
    town.store.write(people.delete_account, town.ann, NOW)
    assert seen(town, bob) == {}


def test_an_address_with_a_separator_is_named_by_its_id(town: Town) -> None:
    bob, odd = town.person("bob@a.test"), town.person("x/y@a.test")
    put(town, town.box(of=odd), "bob", "lr")
    path = f"Shared/{external(ACCOUNT, odd.id)}/INBOX"
    assert seen(town, bob)[path]
    assert find(town, bob, path).account == odd.id


def test_own_mailboxes_go_first(town: Town) -> None:
    """What was imported under a name of a namespace stays within reach."""
    bob = town.person("bob@a.test")
    mine = town.folder("Shared/ann@a.test/INBOX", bob)
    town.folder("Work")
    put(town, town.box(), "bob", "lr")
    put(town, town.box("Work"), "bob", "lr")
    assert find(town, bob, "Shared/ann@a.test/INBOX").id == mine
    assert seen(town, bob) == {"Shared/ann@a.test/Work": True}
    for path in ("Shared", "Public"):
        with pytest.raises(NotAllowed):
            town.store.write(sharing.create, bob.id, path, town.ids, NOW)
        with pytest.raises(NotAllowed):
            town.store.write(sharing.rename, bob.id, "Archive", path, town.ids, NOW)


def test_public_folders_are_those_of_the_domain(town: Town) -> None:
    house = public(town)
    assert public(town) == house
    town.folder("News/2026", house)
    put(town, town.box("News", house), "anyone", "lr")
    assert seen(town, town.ann) == {"Public": False, "Public/News": True}
    assert find(town, town.ann, "Public/News").account == house.id
    town.store.write(people.create_domain, next(town.ids), "b.test", NOW)
    eve = town.person("eve@b.test")
    put(town, town.box("News", house), "@b.test", "lr")
    assert seen(town, eve) == {}
    with pytest.raises(NotFound):
        find(town, eve, "Public/News")
    assert [str(a.address) for a in town.store.read(people.accounts, "a.test")] == [
        "ann@a.test",
        "root@a.test",
    ]
    assert checked(town.store).clean


def test_create_needs_k_in_what_lies_above(town: Town) -> None:
    bob, work = town.person("bob@a.test"), town.folder("Work")
    town.folder("Work/Hidden")

    def create(path: str) -> int:
        return town.store.write(sharing.create, bob.id, f"Shared/ann@a.test/{path}", town.ids, NOW)

    put(town, work, "bob", "l")
    put(town, town.box("Work/Hidden"), "anyone", "")
    with pytest.raises(MissingRight):
        create("Work/New")
    put(town, work, "bob", "lk")
    made = create("Work/New/Deep")
    assert town.store.read(folders.get, made).account == town.ann.id
    assert seen(town, bob)["Shared/ann@a.test/Work/New/Deep"]
    with pytest.raises(AlreadyExists):
        create("Work/New")
    with pytest.raises(MissingRight):
        create("Work/Hidden")  # not ALREADYEXISTS
    with pytest.raises(NotFound):
        create("Top")
    with pytest.raises(NotAllowed):
        town.store.write(
            sharing.create, bob.id, "Shared/ann@a.test/Work/B", town.ids, NOW, role="junk"
        )


def test_rename_needs_x_there_and_k_where_it_goes(town: Town) -> None:
    bob = town.person("bob@a.test")
    town.folder("From/It")
    town.folder("To")
    it, to = town.box("From/It"), town.box("To")

    def rename(old: str, new: str) -> None:
        town.store.write(sharing.rename, bob.id, old, new, town.ids, NOW)

    shared = "Shared/ann@a.test/"
    put(town, it, "bob", "l")
    put(town, to, "bob", "l")
    with pytest.raises(MissingRight):
        rename(shared + "From/It", shared + "To/It")
    put(town, it, "bob", "lx")
    with pytest.raises(MissingRight):
        rename(shared + "From/It", shared + "To/It")
    put(town, to, "bob", "lk")
    rename(shared + "From/It", shared + "To/It")
    assert town.box("To/It") == it
    for old, new in (
        (shared + "To/It", "Mine"),
        ("Archive", shared + "To/Archive"),
        (shared + "To/It", "Shared/root@a.test/It"),
    ):
        with pytest.raises(MailError):
            rename(old, new)
    assert town.box("To/It") == it


def test_delete_needs_x_and_tells_nothing_of_what_lies_below(town: Town) -> None:
    bob, work = town.person("bob@a.test"), town.folder("Work")
    below = town.folder("Work/Hidden")
    path = "Shared/ann@a.test/Work"
    put(town, work, "bob", "lr")
    with pytest.raises(MissingRight):
        town.store.write(sharing.delete, bob.id, path, NOW)
    put(town, work, "bob", "lx")
    with pytest.raises(MissingRight):
        town.store.write(sharing.delete, bob.id, path, NOW)
    put(town, below, "bob", "l")
    with pytest.raises(InUse):
        town.store.write(sharing.delete, bob.id, path, NOW)
    put(town, below, "bob", "lx")
    town.store.write(sharing.delete, bob.id, path + "/Hidden", NOW)
    assert town.store.write(sharing.delete, bob.id, path, NOW).id == work
    assert seen(town, bob) == {}


def test_a_subscription_is_the_viewers_own(town: Town) -> None:
    bob, box = town.person("bob@a.test"), town.box()
    path = "Shared/ann@a.test/INBOX"
    put(town, box, "bob", "l")

    def subscribed() -> bool:
        tree: Tree = town.store.read(sharing.sight, bob.id).tree
        return path in tree.by_path and tree.by_path[path].subscribed

    assert not subscribed()  # though its owner has
    town.store.write(sharing.subscribe, bob.id, path, NOW, wanted=True)
    assert subscribed()
    put(town, box, "bob", "")
    assert not subscribed()
    with pytest.raises(NotFound):
        town.store.write(sharing.subscribe, bob.id, path, NOW, wanted=False)
    put(town, box, "bob", "l")
    assert subscribed()
    town.store.write(sharing.subscribe, bob.id, path, NOW, wanted=False)
    assert not subscribed()
    assert town.store.read(folders.get, box).subscribed


PATHS = ("A", "A/B", "A/B/C", "A/D", "E", "INBOX")


@given(st.dictionaries(st.sampled_from(PATHS), st.sets(st.sampled_from("lrkx")), max_size=6))
@settings(max_examples=25, deadline=None)
def test_what_is_told_is_what_may_be_looked_up(given_: dict[str, set[str]]) -> None:
    """The tree of a viewer, from nothing but what he may look up: the names of all other mailboxes
    could be anything."""
    visible = {path for path, letters in given_.items() if "l" in letters}
    boxes, ids = [], {path: n for n, path in enumerate(PATHS, start=1)}
    rows = {ids[path]: (ids.get(path.rpartition("/")[0], 0), path.rpartition("/")[2])
            for path in PATHS}  # fmt: skip
    for path in PATHS:
        parent, name = rows[ids[path]]
        boxes.append(Mailbox(ids[path], 1, parent, name, "", True, 1, 1, 1, 0, 0, 0, 0, 1, 1))
    grafting = sharing._Grafting.__new__(sharing._Grafting)
    grafting._own = Tree([])
    grafting._boxes = {box.id: box for box in boxes if PATHS[box.id - 1] in visible}
    grafting._above = rows
    grafting._owners = {1: people.Account(1, "person", 1, "a.test", "ann", "",
                                          Role.USER, "active", 0, 0, NOW)}  # fmt: skip
    grafting._domain = 1
    grafting._levels = {}
    told = grafting.whole(()).by_path
    root = "Shared/ann@a.test"
    mailboxes = {path for path, box in told.items() if not sharing.is_level(box)}
    assert mailboxes == {f"{root}/{path}" for path in visible}
    needed = {p for path in mailboxes for p in _above(path)}
    assert set(told) == mailboxes | needed


def _above(path: str) -> set[str]:
    names = path.split("/")
    return {"/".join(names[:n]) for n in range(1, len(names))}


def test_the_rights_of_all_are_those_of_each(town: Town) -> None:
    bob = town.person("bob@a.test")
    for path in ("A", "A/B", "C"):
        town.folder(path)
    put(town, town.box("A"), "anyone", "lrs")
    put(town, town.box("A"), "-bob", "s")
    put(town, town.box("C"), "-anyone", "l")
    tree = town.store.read(folders.tree, town.ann.id)
    each = {box.id: town.store.read(rights.of, bob.id, box) for box in tree.by_id.values()}
    expected = {box: found for box, found in each.items() if found}
    assert town.store.read(rights.within, bob.id, town.ann.id) == expected
    assert town.store.read(sharing.held, bob.id) == expected
