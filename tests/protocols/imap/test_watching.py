"""What is told between two looks: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.domain.mailboxes import rights
from postroom.domain.mailboxes.annotating import Marks
from postroom.domain.mailboxes.folders import Mailbox, Tree
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Sight
from postroom.protocols.imap import watching
from postroom.protocols.imap.watching import Filters, Look, Opened, Tell, Told
from postroom.testing.scaling import grows_linearly
from postroom.wire.imap import EventGroup, FetchAttribute, Happening, Notify, Which

ME, OTHER = 7, 8
ARRIVAL = frozenset({Happening.MESSAGE_NEW, Happening.MESSAGE_EXPUNGE})
FLAGS = ARRIVAL | {Happening.FLAG_CHANGE}
NAME = frozenset({Happening.MAILBOX_NAME})
SUBSCRIPTION = frozenset({Happening.SUBSCRIPTION_CHANGE})
READABLE = Right.LOOKUP | Right.READ


def box(
    n: int,
    name: str,
    parent: int = 0,
    *,
    owner: int = ME,
    subscribed: bool = False,
    uidnext: int = 1,
    modseq: int = 1,
    total: int = 0,
    unseen: int = 0,
) -> Mailbox:
    role = "inbox" if name == "INBOX" else ""
    counters = (n, uidnext, modseq, total, unseen, 0, 0, 1, 1)
    return Mailbox(n, owner, parent, name, role, subscribed, *counters)


def look(*boxes: Mailbox, held: dict[int, Right] | None = None) -> Look:
    return watching.look(Sight(ME, Tree(boxes), held or {}))


def filters(*groups: EventGroup) -> Filters:
    return Filters.of(Notify(groups))


def of(which: Which, events: Iterable[Happening], *names: str) -> EventGroup:
    return EventGroup(which, names, frozenset(events))


def told(before: Look, now: Look, asked: Filters, opened: int = 0) -> list[tuple[Tell, str, str]]:
    return [
        (each.how, each.path, each.old) for each in watching.changes(before, now, asked, opened)
    ]


ALL = of(Which.PERSONAL, FLAGS | NAME | SUBSCRIPTION)


def test_what_the_client_did_is_known_to_it_and_what_others_did_is_not() -> None:
    """RFC 5465 §5: names that it changed itself are not told, counters are."""
    asked = filters(of(Which.PERSONAL, ARRIVAL | NAME | SUBSCRIPTION))
    before = look(box(1, "a"), box(2, "b", 1), box(3, "theirs"), box(4, "gone"), box(5, "aa"))
    now = look(
        box(1, "new", subscribed=True),
        box(2, "b", 1, uidnext=2, total=1),
        box(6, "up"),
        box(7, "made", 6),
        box(8, "elsewhere"),
    )
    done = watching.as_done(before, now, ["a", "new", "up/made", "gone"])
    assert set(told(done, now, asked)) == {
        (Tell.GONE, "theirs", ""),
        (Tell.GONE, "aa", ""),
        (Tell.NAMED, "elsewhere", ""),
        (Tell.COUNTED, "new/b", ""),
        (Tell.COUNTED, "elsewhere", ""),
    }
    assert watching.as_done(now, now, ["a"]) == now


def test_another_uidvalidity_is_told() -> None:
    """RFC 5465 §5.1, even where no counter changes."""
    asked = filters(of(Which.PERSONAL, ARRIVAL))
    before = look(box(1, "a"))
    now = look(replace(box(1, "a"), uidvalidity=9))
    assert told(before, now, asked) == [(Tell.COUNTED, "a", "")]
    assert told(now, now, asked) == []


# --- messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "arrivals", "flags"),
    [
        ({"uidnext": 2, "total": 1, "modseq": 2}, True, True),  # one came
        ({"uidnext": 2, "modseq": 3}, True, True),  # one came and went
        ({"total": 1, "modseq": 2}, True, True),
        ({"unseen": 1, "modseq": 2}, False, True),
        ({"modseq": 2}, False, True),
        ({}, False, False),
    ],
)
def test_counters_are_told_where_a_change_was_asked_for(
    changed: dict[str, Any], arrivals: bool, flags: bool
) -> None:
    before, now = look(box(1, "Work")), look(replace(box(1, "Work"), **changed))
    for events, expected in ((ARRIVAL, arrivals), (FLAGS, flags), (NAME, False)):
        found = told(before, now, filters(of(Which.PERSONAL, events)))
        assert found == [(Tell.COUNTED, "Work", "")] * expected


def test_messages_of_the_open_mailbox_are_not_told_by_counters() -> None:
    before, now = look(box(1, "INBOX")), look(box(1, "INBOX", uidnext=2, total=1))
    assert told(before, now, filters(ALL), 1) == []
    assert told(before, now, filters(ALL), 2) == [(Tell.COUNTED, "INBOX", "")]


def test_unseen_is_told_to_who_asked_for_flags() -> None:
    before, now = look(box(1, "a")), look(box(1, "a", uidnext=2, total=1))
    for events in (ARRIVAL, FLAGS):
        (each,) = watching.changes(before, now, filters(of(Which.PERSONAL, events)))
        assert each.flags == (events == FLAGS)


# --- which mailboxes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (of(Which.PERSONAL, ARRIVAL), {"INBOX", "Lists", "Lists/a", "Listserv"}),
        (of(Which.INBOXES, ARRIVAL), {"INBOX", "Lists", "Lists/a", "Listserv"}),
        (of(Which.SUBSCRIBED, ARRIVAL), {"Lists/a", "Theirs"}),
        (of(Which.SUBTREE, ARRIVAL, "Lists"), {"Lists", "Lists/a"}),
        (of(Which.SUBTREE, ARRIVAL, "inbox", "Theirs"), {"INBOX", "Theirs"}),
        (of(Which.MAILBOXES, ARRIVAL, "Lists", "Nowhere"), {"Lists"}),
        (of(Which.PERSONAL, ()), set()),
        (EventGroup(Which.SELECTED, (), ARRIVAL), set()),
    ],
)
def test_a_group_names_mailboxes(group: EventGroup, expected: set[str]) -> None:
    now = look(
        box(1, "INBOX"),
        box(2, "Lists"),
        box(3, "a", 2, subscribed=True),
        box(4, "Listserv"),
        box(5, "Theirs", owner=OTHER, subscribed=True),
        held={5: READABLE},
    )
    assert {each.path for each in watching.first(now, filters(group))} == expected


def test_groups_add_up() -> None:
    before, now = look(box(1, "a")), look(box(1, "a", uidnext=2, total=1, subscribed=True))
    groups = (
        of(Which.MAILBOXES, (), "a"),
        of(Which.PERSONAL, SUBSCRIPTION),
        of(Which.SUBTREE, ARRIVAL, "a"),
    )
    assert told(before, now, filters(*groups)) == [(Tell.NAMED, "a", ""), (Tell.COUNTED, "a", "")]


def test_of_what_may_not_be_read_no_messages_are_told() -> None:
    asked = filters(of(Which.MAILBOXES, FLAGS | NAME, "Theirs"))
    seen = look(box(5, "Theirs", owner=OTHER), held={5: READABLE})
    known = look(box(5, "Theirs", owner=OTHER, uidnext=4, total=3), held={5: Right.LOOKUP})
    assert told(seen, known, asked) == [(Tell.NO_ACCESS, "Theirs", "")]
    back = [(Tell.NAMED, "Theirs", ""), (Tell.COUNTED, "Theirs", "")]
    assert told(known, seen, asked) == back
    assert watching.first(known, asked) == []
    assert [each.how for each in watching.unreadable(known, asked.groups)] == [Tell.NO_ACCESS]
    assert watching.unreadable(seen, asked.groups) == []


def test_levels_without_a_mailbox_are_not_seen() -> None:
    level = box(-1, "Shared", owner=0)
    assert look(level, box(5, "x", -1, owner=OTHER), held={5: rights.ALL}).keys() == {5}


# --- names ---------------------------------------------------------------------------------------


def test_made_and_deleted_with_what_stands_above() -> None:
    alone, both = look(box(1, "a")), look(box(1, "a"), box(2, "b", 1))
    asked = filters(of(Which.PERSONAL, NAME))
    assert told(alone, both, asked) == [(Tell.NAMED, "a/b", ""), (Tell.NAMED, "a", "")]
    assert told(both, alone, asked) == [(Tell.GONE, "a/b", ""), (Tell.NAMED, "a", "")]


def test_what_is_new_is_told_with_its_counters() -> None:
    made = look(box(1, "a", uidnext=3, total=2))
    assert told({}, made, filters(ALL)) == [(Tell.NAMED, "a", ""), (Tell.COUNTED, "a", "")]


def test_a_rename_tells_the_old_name_and_not_what_lies_below() -> None:
    before = look(box(1, "a"), box(2, "b", 1), box(3, "c", 2))
    now = look(box(1, "z"), box(2, "b", 1), box(3, "c", 2))
    assert told(before, now, filters(ALL)) == [(Tell.NAMED, "z", "a")]
    below = filters(of(Which.SUBTREE, NAME, "a/b", "z/b"))
    assert told(before, now, below) == [(Tell.NAMED, "z/b", "a/b")]


def test_a_rename_into_and_out_of_what_is_watched() -> None:
    outside, inside = look(box(1, "a")), look(box(1, "b"))
    asked = filters(of(Which.MAILBOXES, NAME, "b"))
    assert told(outside, inside, asked) == [(Tell.NAMED, "b", "a")]
    assert told(inside, outside, asked) == [(Tell.GONE, "b", "")]


def test_two_that_changed_their_names_end_with_the_right_ones() -> None:
    before, now = look(box(1, "a"), box(2, "b")), look(box(1, "b"), box(2, "a"))
    found = told(before, now, filters(ALL))
    assert found == [
        (Tell.GONE, "a", ""),
        (Tell.NAMED, "a", "b"),
        (Tell.NAMED, "b", ""),
        (Tell.COUNTED, "b", ""),
    ]


def test_more_renames_at_once_than_are_followed_are_told_as_made() -> None:
    count = watching.RENAMES_MOST + 3
    before = look(*(box(n, f"a{n}") for n in range(1, count + 1)))
    now = look(*(box(n, f"b{n}") for n in range(1, count + 1)))
    found = told(before, now, filters(of(Which.PERSONAL, NAME)))
    assert sum(bool(old) for _, _, old in found) == watching.RENAMES_MOST
    assert [how for how, _, _ in found].count(Tell.GONE) == 3
    assert {path for how, path, _ in found if how is Tell.NAMED} == {
        f"b{n}" for n in range(1, count + 1)
    }


def test_deleted_and_made_again_is_another() -> None:
    before, now = look(box(1, "a", uidnext=5)), look(box(2, "a"))
    kinds = [how for how, _, _ in told(before, now, filters(ALL))]
    assert kinds == [Tell.GONE, Tell.NAMED, Tell.COUNTED]


def test_subscriptions() -> None:
    off, on = look(box(1, "a")), look(box(1, "a", subscribed=True))
    for group in (of(Which.PERSONAL, SUBSCRIPTION), of(Which.SUBSCRIBED, SUBSCRIPTION)):
        assert told(off, on, filters(group)) == [(Tell.NAMED, "a", "")]
        assert told(on, off, filters(group)) == [(Tell.NAMED, "a", "")]
    # What becomes subscribed is watched from then on: how it is, is told.
    assert told(off, on, filters(of(Which.SUBSCRIBED, ARRIVAL))) == [(Tell.COUNTED, "a", "")]


# --- annotations ---------------------------------------------------------------------------------

METADATA = frozenset({Happening.MAILBOX_METADATA_CHANGE})
SERVER_METADATA = frozenset({Happening.SERVER_METADATA_CHANGE})


def test_annotations_that_came_changed_and_went_are_told_by_name() -> None:
    now = look(box(1, "a"), box(2, "b"))
    before: dict[int, Marks] = {1: {"/shared/a": 1, "/shared/b": 1, "/shared/c": 1}, 2: {"/p": 1}}
    after: dict[int, Marks] = {1: {"/shared/b": 2, "/shared/c": 1, "/shared/d": 2}, 2: {"/p": 1}}
    asked = filters(of(Which.PERSONAL, METADATA))
    names = ["/shared/a", "/shared/b", "/shared/d"]
    assert watching.annotated(before, after, now, asked) == [("a", names)]
    assert watching.annotated(after, after, now, asked) == []
    assert watching.annotated({}, {2: {"/p": 1}}, now, asked) == [("b", ["/p"])]
    assert watching.annotated({2: {"/p": 1}}, {}, now, asked) == [("b", ["/p"])]
    for other in (of(Which.PERSONAL, FLAGS | NAME), of(Which.MAILBOXES, METADATA, "b")):
        assert watching.annotated(before, after, now, filters(other)) == []


def test_of_what_is_gone_or_may_not_be_read_no_annotation_is_told() -> None:
    asked = filters(of(Which.SUBTREE, METADATA, "Theirs"))
    before: dict[int, Marks] = {5: {"/shared/c": 1}}
    for held, told_of in (
        (READABLE, True),
        (Right.LOOKUP | Right.POST, True),
        (Right.LOOKUP, False),
    ):
        now = look(box(5, "Theirs", owner=OTHER), held={5: held})
        assert bool(watching.annotated(before, {5: {"/shared/c": 2}}, now, asked)) is told_of
    assert watching.annotated(before, {}, look(box(1, "a")), asked) == []


def test_annotations_of_the_server_are_told_whatever_mailboxes_were_named() -> None:
    after: dict[int, Marks] = {watching.SERVER: {"/private/c": 1}}
    group = of(Which.MAILBOXES, SERVER_METADATA, "Nowhere")
    assert watching.annotated({}, after, {}, filters(group)) == [("", ["/private/c"])]
    assert watching.annotated({}, after, {}, filters(of(Which.PERSONAL, METADATA))) == []


# --- what is asked for ---------------------------------------------------------------------------


def test_the_open_mailbox_is_told_of_only_if_it_was_named() -> None:
    assert Filters.of(Notify()).silent
    assert filters(of(Which.PERSONAL, ())).silent
    assert filters(of(Which.SELECTED, ())).silent
    assert filters(ALL).opened == Opened()
    items = (FetchAttribute.UID,)
    group = EventGroup(Which.SELECTED_DELAYED, (), FLAGS, items=items)
    asked = filters(group)
    assert asked.opened == Opened(messages=True, flags=True, delayed=True, items=items)
    assert not asked.silent


def test_unsupported_events() -> None:
    assert not watching.unsupported(Notify((ALL, of(Which.INBOXES, ()))))
    for other in set(Happening) - set(watching.SUPPORTED):
        assert watching.unsupported(Notify((ALL, of(Which.PERSONAL, {other}))))
    assert watching.unsupported(Notify((EventGroup(Which.PERSONAL, unknown=True),)))


# --- whatever happens ----------------------------------------------------------------------------

_PARENTS = st.lists(st.integers(0, 5), min_size=6, max_size=6)
_STATES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.booleans(), st.booleans()),
    min_size=6,
    max_size=6,
)


def _tree(parents: list[int], states: list[tuple[str, int, bool, bool]]) -> Look:
    """A tree of those that are there; who stands below itself or beside its like is left out."""
    boxes: list[Mailbox] = []
    taken: set[tuple[int, str]] = set()
    for n, (name, count, there, subscribed) in enumerate(states, 1):
        parent = parents[n - 1] if parents[n - 1] < n else 0
        if there and (parent, name) not in taken and (not parent or states[parent - 1][2]):
            taken.add((parent, name))
            boxes.append(
                box(n, name, parent, uidnext=count, modseq=count, total=1, subscribed=subscribed)
            )
    return look(*boxes)


@given(_PARENTS, _STATES, _PARENTS, _STATES)
def test_a_client_that_believes_what_it_is_told_ends_with_what_is_there(
    before_parents: list[int],
    before_states: list[tuple[str, int, bool, bool]],
    now_parents: list[int],
    now_states: list[tuple[str, int, bool, bool]],
) -> None:
    before, now = _tree(before_parents, before_states), _tree(now_parents, now_states)
    known = {watching.seen(row).path: _known(row) for row in before.values()}
    for each in watching.changes(before, now, filters(ALL)):
        _believe(known, each, now)
    assert known == {watching.seen(row).path: _known(row) for row in now.values()}
    assert watching.changes(now, now, filters(ALL)) == []


def _known(row: bytes) -> tuple[bool, int]:
    found = watching.seen(row)
    return found.subscribed, found.uidnext


def _believe(known: dict[str, tuple[bool, int]], each: Told, now: Look) -> None:
    row = now.get(each.box, b"")
    match each.how:
        case Tell.GONE:
            known.pop(each.path, None)
        case Tell.NAMED:
            _move(known, each)
            known[each.path] = (_known(row)[0], known.get(each.path, (False, 0))[1])
        case Tell.COUNTED:
            known[each.path] = (known[each.path][0], _known(row)[1])
        case Tell.NO_ACCESS:
            raise AssertionError(each)


def _move(known: dict[str, tuple[bool, int]], each: Told) -> None:
    """A client takes what lies below along. RFC 3501 §6.3.5."""
    if not each.old:
        return
    moved = [path for path in known if path == each.old or path.startswith(each.old + "/")]
    found = {path: known.pop(path) for path in moved}
    known.update({each.path + path[len(each.old) :]: value for path, value in found.items()})


def test_a_row_is_small_and_comparing_grows_with_what_is_there() -> None:
    now = look(*(box(n, f"Folder {n}") for n in range(1, 201)))
    assert sum(map(len, now.values())) / len(now) < 64

    def rows(count: int, end: str) -> tuple[Look, Look]:
        before = (box(n, f"Folder {n}") for n in range(1, count + 1))
        return look(*before), look(*(box(n, f"{end} {n}", total=1) for n in range(1, count + 1)))

    for end in ("Folder", "Renamed"):
        assert grows_linearly(
            lambda pair: watching.changes(*pair, filters(ALL)), rows(200, end), rows(2000, end), 10
        )
