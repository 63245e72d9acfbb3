"""Annotations on both engines: names, limits, rights, and what happens to their mailbox."""

from __future__ import annotations

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, Malformed, NotAllowed, NotFound, OverQuota
from postroom.domain.directory import people
from postroom.domain.directory.people import Account
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import annotating, cleaning, folders, rights
from postroom.domain.mailboxes.annotated import tables as annotated
from postroom.domain.mailboxes.annotated.settings import MetadataSettings
from postroom.domain.mailboxes.annotating import (
    VALUE_OCTETS,
    Limits,
    Marks,
    NoSuchUse,
    Noted,
    TooManyAnnotations,
    ValueTooLarge,
    Wanted,
    entry,
    settable,
)
from postroom.domain.mailboxes.rights import MissingRight
from tests.domain.mailboxes.test_rights import put
from tests.domain.making import DAY, NOW, Town, checked

LIMITS = Limits(10, 100_000)
ALL = ("/private", "/shared")


def write(
    town: Town,
    path: str,
    values: Noted,
    *,
    of: Account | None = None,
    limits: Limits = LIMITS,
) -> None:
    viewer = (of or town.ann).id
    town.store.write(
        annotating.set_on_mailbox, viewer, path, values, lambda _tx, _account: limits, NOW
    )


def told(town: Town, path: str = "INBOX", *, of: Account | None = None) -> Noted:
    """All of a mailbox but its special use."""
    found = town.store.read(
        annotating.of_mailbox, (of or town.ann).id, path, Wanted(ALL, depth=None)
    )
    return {name: v for name, v in found.values.items() if name != annotating.SPECIAL_USE}


# --- names ----------------------------------------------------------------------------------------

GOOD = "".join(c for c in string.printable if " " <= c <= "~" and c not in "*%/")
PARTS = st.lists(st.text(GOOD, min_size=1, max_size=8), min_size=1, max_size=4)


@given(st.sampled_from(["shared", "PRIVATE", "Private", "sHared"]), PARTS)
def test_a_name_is_kept_in_lower_case(scope: str, parts: list[str]) -> None:
    """RFC 5464 §3.2: compared without case; what was kept once is kept so again."""
    name = "/".join(["", scope, *parts])
    assert entry(name) == name.lower() == entry(entry(name))
    if parts[0].lower() != "vendor":
        assert settable(name) == entry(name)


@given(PARTS, st.integers(0, 40), st.sampled_from([*"*%\0\r\n\t\x7f\xe9", "//", "/"]))
def test_what_is_no_name_is_refused(parts: list[str], at: int, wrong: str) -> None:
    name = "/".join(["/shared", *parts])
    at = min(at + 8, len(name))
    bad = name + "/" if wrong == "/" else name[:at] + wrong + name[at:]
    with pytest.raises(Malformed):
        entry(bad)


@pytest.mark.parametrize(
    "name",
    ["", "/", "shared/x", "/sharedx", "/sharedx/y", "/public/x", "/shared/", "/ſhared/x"],
)
def test_names_begin_with_their_scope(name: str) -> None:
    with pytest.raises(Malformed):
        entry(name)


def test_names_are_of_bounded_length() -> None:
    longest = "/shared/" + "x" * (annotating.NAME_OCTETS - 8)
    assert entry(longest) == longest
    with pytest.raises(Malformed):
        entry(longest + "x")


def test_a_vendor_names_himself_and_what_he_keeps() -> None:
    """RFC 5464 §3.2.1."""
    assert settable("/shared/vendor/example/color") == "/shared/vendor/example/color"
    for name in ("/private", "/shared/vendor", "/shared/Vendor/example"):
        assert entry(name) == name.lower()
        with pytest.raises(Malformed):
            settable(name)


@given(st.sets(PARTS.map(lambda parts: "/private/" + "/".join(parts).lower()), max_size=8), PARTS)
def test_depth_is_a_number_of_levels(names: set[str], parts: list[str]) -> None:
    asked = "/private/" + "/".join(parts[:1]).lower()
    sizes = dict.fromkeys(names, 1)
    below = [n for n in names if n.split("/")[: len(asked.split("/"))] == asked.split("/")]
    by_depth = {n: n.count("/") - asked.count("/") for n in below}
    for depth in (0, 1, None):
        chosen, longest = Wanted((asked,), depth).choose(sizes)
        assert set(chosen) == {n for n, d in by_depth.items() if depth is None or d <= depth}
        assert longest is None


# --- kept and removed -----------------------------------------------------------------------------


def test_a_change_of_annotations_is_a_change_of_the_account(town: Town) -> None:
    box = town.box()
    before = town.store.read(folders.get, box)
    town.store.events.clear()
    write(town, "INBOX", {"/shared/a": b"1", "/private/b": b"2"})
    after = town.store.read(folders.get, box)
    assert after.changed_modseq > before.changed_modseq
    assert after.modseq == after.changed_modseq  # RFC 7162 §3.2
    assert town.store.events == [Changed(town.ann.id, after.changed_modseq, Type.MAILBOX)]
    town.store.events.clear()
    write(town, "INBOX", {"/private/none": None})
    assert town.store.events == []
    assert town.store.read(folders.get, box) == after


def test_what_one_notes_for_himself_changes_nothing_for_the_owner(town: Town) -> None:
    bob = town.person("bob@a.test")
    put(town, town.box(), "bob", "lr")
    path = f"Shared/{town.ann.address}/INBOX"
    before = town.store.read(folders.get, town.box())
    town.store.events.clear()
    write(town, path, {"/private/c": b"bob's"}, of=bob)
    assert [e.account for e in town.store.events if isinstance(e, Changed)] == [bob.id]
    assert town.store.read(folders.get, town.box()) == before
    assert told(town, path, of=bob) == {"/private/c": b"bob's"}
    assert told(town) == {}
    with pytest.raises(MissingRight):
        write(town, path, {"/private/d": b"", "/shared/d": b""}, of=bob)
    assert told(town, path, of=bob) == {"/private/c": b"bob's"}
    put(town, town.box(), "bob", "lw")
    write(town, path, {"/shared/d": b"all"}, of=bob)
    assert told(town) == {"/shared/d": b"all"}
    put(town, town.box(), "bob", "rswipkxtea")
    with pytest.raises(NotFound):
        told(town, path, of=bob)


def test_limits_count_what_would_be_there(town: Town) -> None:
    ten = {f"/private/n{n}": b"x" for n in range(10)}
    write(town, "INBOX", ten)
    with pytest.raises(TooManyAnnotations):
        write(town, "INBOX", {"/private/n0": b"new", "/private/more": b"x"})
    assert told(town) == ten
    write(town, "INBOX", {"/private/n0": None, "/private/more": b"x"})
    write(town, "INBOX", {"/shared/more": b"x"})
    write(town, "Sent", ten)
    # A limit that became smaller: what is there can be replaced and removed, no more can come.
    small = Limits(5, 100_000)
    write(town, "INBOX", {"/private/n1": b"again"}, limits=small)
    write(town, "INBOX", {"/private/n2": None}, limits=small)
    with pytest.raises(TooManyAnnotations):
        write(town, "INBOX", {"/private/n2": b"x", "/private/other": b"x"}, limits=small)
    assert issubclass(TooManyAnnotations, LimitReached)


def test_octets_are_counted_over_all_mailboxes_and_the_server(town: Town) -> None:
    limits = Limits(10, 100_000)
    write(town, "INBOX", {"/private/a": b"x" * 50_000})
    server = {"/private/a": b"x" * 40_000}
    town.store.write(annotating.set_on_server, town.ann.id, server, limits, NOW)
    for values in ({"/shared/a": b"x" * 10_000}, {"/private/a": b"x" * 60_000}):
        with pytest.raises(OverQuota):
            write(town, "Sent", values)
    write(town, "INBOX", {"/private/a": b"x" * 40_000})
    write(town, "Sent", {"/shared/a": b"x" * 19_000})
    with pytest.raises(OverQuota):
        town.store.write(
            annotating.set_on_server, town.ann.id, {"/private/b": b"x" * 2_000}, limits, NOW
        )
    with pytest.raises(ValueTooLarge):
        write(town, "INBOX", {"/private/b": b"x" * (VALUE_OCTETS + 1)})
    assert set(told(town)) == {"/private/a"}


def test_the_server_is_its_administrators(town: Town) -> None:
    settings = MetadataSettings(admin="mailto:root@a.test", comment="")
    with pytest.raises(NotAllowed):
        town.store.write(
            annotating.set_on_server, town.ann.id, {"/shared/comment": b"x"}, LIMITS, NOW
        )
    mine: Noted = {"/private/comment": b"\0", "/private/x": b""}
    town.store.write(annotating.set_on_server, town.ann.id, mine, LIMITS, NOW)
    town.store.write(annotating.set_on_server, town.ann.id, {"/private/x": None}, LIMITS, NOW)
    everything = Wanted(ALL, depth=None)
    found = town.store.read(annotating.of_server, town.ann.id, everything, settings)
    assert found.values == {"/private/comment": b"\0", "/shared/admin": b"mailto:root@a.test"}
    found = town.store.read(annotating.of_server, town.root.id, everything, settings)
    assert found.values == {"/shared/admin": b"mailto:root@a.test"}


# --- where mailboxes go ---------------------------------------------------------------------------


def test_annotations_move_and_go_with_their_mailbox(town: Town) -> None:
    town.folder("Work")
    write(town, "Work", {"/private/a": b"1", "/shared/a": b"2"})
    town.store.write(folders.rename, town.ann.id, "Work", "Old/Work", town.ids, NOW, town.ann.id)
    assert told(town, "Old/Work") == {"/private/a": b"1", "/shared/a": b"2"}
    town.store.write(folders.delete, town.ann.id, "Old/Work", NOW, town.ann.id)
    while town.store.write(cleaning.empty_doomed, NOW, DAY):
        pass
    assert town.store.read(lambda tx: tx.one(annotated.HELD, account=town.ann.id)) == (0,)
    town.folder("Old/Work")
    assert told(town, "Old/Work") == {}
    assert checked(town.store).clean


def test_what_a_deleted_account_noted_goes_with_it(town: Town) -> None:
    bob = town.person("bob@a.test")
    put(town, town.box(), "bob", "lrw")
    path = f"Shared/{town.ann.address}/INBOX"
    write(town, path, {"/private/c": b"bob's", "/shared/c": b"all"}, of=bob)
    write(town, "INBOX", {"/private/c": b"x", "/shared/c": b"y"}, of=bob)
    town.store.write(annotating.set_on_server, bob.id, {"/private/c": b"z"}, LIMITS, NOW)
    town.store.write(people.delete_account, bob, NOW)
    while town.store.write(cleaning.empty_gone, bob.id, Instant(NOW + DAY)):
        pass
    assert town.store.read(lambda tx: tx.one(annotated.HELD, account=bob.id)) == (0,)
    assert told(town) == {"/shared/c": b"all"}
    assert checked(town.store).clean


def test_many_mailboxes_are_read_at_once(town: Town) -> None:
    write(town, "INBOX", {"/private/c": b"1", "/shared/c": b"2"})
    write(town, "Sent", {"/private/other": b"3"})
    boxes = [town.store.read(folders.get, town.box(path)) for path in ("INBOX", "Sent", "Junk")]
    entries = ("/private/c", annotating.SPECIAL_USE)
    found = town.store.read(annotating.of_mailboxes, town.ann.id, boxes, entries)
    uses = (None, b"\\Sent", b"\\Junk")
    assert [found[box.id] for box in boxes] == [
        {"/private/c": value, annotating.SPECIAL_USE: use}
        for value, use in zip((b"1", None, None), uses, strict=True)
    ]


def test_marks_tell_what_was_set_and_removed(town: Town) -> None:
    boxes = [town.store.read(folders.get, town.box(path)) for path in ("INBOX", "Sent")]
    inbox, sent = (box.id for box in boxes)

    def marks(of: Account = town.ann, most: int = 100) -> dict[int, Marks]:
        return town.store.read(annotating.marks, of.id, boxes, most)

    first = marks()
    assert first == {sent: {annotating.SPECIAL_USE: b"\\Sent"}}
    write(town, "INBOX", {"/private/c": b"1", "/shared/c": b"1"})
    second = marks()
    assert second[inbox].keys() == {"/private/c", "/shared/c"}
    assert second[sent] == first[sent]
    write(town, "INBOX", {"/private/c": b"1"})  # the same value: it was set
    third = marks()
    assert third[inbox].items() ^ second[inbox].items() == {
        ("/private/c", second[inbox]["/private/c"]),
        ("/private/c", third[inbox]["/private/c"]),
    }
    write(town, "INBOX", {"/private/c": None})
    assert marks()[inbox].keys() == {"/shared/c"}
    write(town, "INBOX", {"/private/c": b"1"})  # gone and there again is another
    assert marks()[inbox]["/private/c"] != third[inbox]["/private/c"]
    bob = town.person("bob@a.test")
    assert marks(bob)[inbox].keys() == {"/shared/c"}
    write(town, "Sent", {annotating.SPECIAL_USE: None})
    boxes[1] = town.store.read(folders.get, sent)
    assert sent not in marks()
    assert sum(map(len, marks(most=1).values())) == 2  # one more than was wanted


def test_marks_of_the_server_are_ones_own_and_what_it_says(town: Town) -> None:
    def marks(of: Account, comment: str = "") -> Marks:
        settings = MetadataSettings(admin="", comment=comment)
        return town.store.read(annotating.server_marks, of.id, settings)

    assert marks(town.ann) == {}
    assert marks(town.ann, "a") == {"/shared/comment": b"a"} != marks(town.ann, "b")
    town.store.write(annotating.set_on_server, town.ann.id, {"/private/c": b"x"}, LIMITS, NOW)
    first = marks(town.ann)
    town.store.write(annotating.set_on_server, town.ann.id, {"/private/c": b"x"}, LIMITS, NOW)
    assert first.keys() == marks(town.ann).keys() == {"/private/c"}
    assert first != marks(town.ann)
    assert marks(town.root) == {}
    town.store.write(annotating.set_on_server, town.ann.id, {"/private/c": None}, LIMITS, NOW)
    assert marks(town.ann) == {}


def test_a_special_use_belongs_to_one_mailbox(town: Town) -> None:
    """RFC 6154 §4, §2."""
    use = annotating.SPECIAL_USE
    town.folder("Mine")
    for path, value in itertools.product(("Mine",), (b"\\Sent", b"\\All", b"\xff", b"junk", b" ")):
        with pytest.raises(NoSuchUse):
            write(town, path, {use: value})
    with pytest.raises(NoSuchUse):
        write(town, "INBOX", {use: b"\\Important"})
    write(town, "INBOX", {use: None})
    assert town.store.read(folders.get, town.box()).role == "inbox"
    write(town, "Mine", {use: b"\\IMPORTANT"})
    assert town.store.read(folders.get, town.box("Mine")).role == "important"
    write(town, "Mine", {use: b"\\Important"})
    write(town, "Mine", {use: b""})
    assert town.store.read(folders.get, town.box("Mine")).role == ""
    assert checked(town.store).clean


def test_who_may_look_and_do_one_thing_may_read(town: Town) -> None:
    for letters, may in (("l", False), ("lr", True), ("lp", True), ("r", False), ("lkxtea", False)):
        assert annotating.may_read(rights.parse(letters)) is may
    with pytest.raises(NotFound):
        town.store.read(annotating.of_mailbox, town.ann.id, "Absent", Wanted(ALL))
