"""protocols.imap.view and session.picks: numbers, UIDs and the pieces that the store is asked."""

from __future__ import annotations

import array
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.protocols.imap import view as views_module
from postroom.protocols.imap.picking import picks
from postroom.protocols.imap.view import CHUNK, MOST_UIDS, MOST_VIEWS, SETS, Of, Views
from postroom.protocols.imap.view import View as TheView


def view(uids: list[int], stamp: int = 1) -> TheView:
    return TheView.of(array.array("I", uids), stamp)


uid_lists = st.lists(st.integers(1, 300), unique=True, max_size=80).map(sorted)


@given(uid_lists)
def test_a_number_and_its_uid_lead_to_each_other(uids: list[int]) -> None:
    seen = view(uids)
    assert (seen.size, len(seen), seen.last_uid) == (len(uids), len(uids), max(uids, default=0))
    for number, uid in enumerate(uids, 1):
        assert seen.uid(number) == uid
        assert seen.number(uid) == number
    for absent in set(range(1, 302)) - set(uids):
        assert seen.number(absent) == 0
    assert [seen.below(uid) for uid in range(302)] == [
        sum(1 for each in uids if each < uid) for uid in range(302)
    ]


def test_numbers_hold_across_chunks_of_every_length() -> None:
    uids = [*range(1, 3 * CHUNK + 8, 2), 4_000_000_000]
    seen = view(uids)
    for number in (1, 2, CHUNK, CHUNK + 1, len(uids) - 1, len(uids)):
        assert seen.number(seen.uid(number)) == number
    assert seen.last_uid == 4_000_000_000
    assert list(seen.uids(CHUNK - 1, CHUNK + 2)) == uids[CHUNK - 2 : CHUNK + 2]
    assert list(seen.all_uids()) == uids


@given(uid_lists, st.lists(st.tuples(st.integers(1, 320), st.integers(0, 60)), max_size=6))
def test_ranges_of_uids_become_ranges_of_numbers_that_name_the_same_messages(
    uids: list[int], spans: list[tuple[int, int]]
) -> None:
    seen = view(uids)
    ranges = sorted((lo, lo + length) for lo, length in spans)
    disjoint = [r for n, r in enumerate(ranges) if all(r[0] > q[1] for q in ranges[:n])]
    found = [seen.uid(n) for lo, hi in seen.by_uid(disjoint) for n in range(lo, hi + 1)]
    assert found == [uid for uid in uids if any(lo <= uid <= hi for lo, hi in disjoint)]


@given(uid_lists, st.data())
@settings(max_examples=60)
def test_a_change_makes_what_reading_anew_would_make(uids: list[int], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(uids))) if uids else set()
    top = max(uids, default=0)
    added = sorted(data.draw(st.sets(st.integers(top + 1, top + 50), max_size=10)))
    before = view(uids)
    after = before.changed(added, gone, 9)
    assert list(after.all_uids()) == [uid for uid in uids if uid not in gone] + added
    assert after.stamp == 9
    assert list(before.all_uids()) == uids  # views are immutable


def test_many_small_changes_leave_a_view_that_is_right() -> None:
    rng = random.Random(7)
    truth: list[int] = []
    seen, top = view([]), 0
    for step in range(400):
        gone = set(rng.sample(truth, min(len(truth), rng.randint(0, 40))))
        added = list(range(top + 1, top + 1 + rng.randint(0, 60)))
        top += len(added)
        truth = [uid for uid in truth if uid not in gone] + added
        seen = seen.changed(added, gone, step)
    assert list(seen.all_uids()) == truth
    assert all(seen.number(uid) == n for n, uid in enumerate(truth, 1))


# --- the views that a worker keeps ---------------------------------------------------------------


def of(box: int, viewer: int = 1) -> Of:
    return Of(box, viewer)


def test_views_are_kept_by_mailbox_and_the_latest_stays() -> None:
    views = Views()
    old, new, other = view([1], 1), view([1, 2], 2), view([7], 1)
    views.keep(of(1), old)
    views.keep(of(2), other)
    views.keep(of(1), new)
    assert views.get(of(1)) is new
    assert views.keep(of(1), old) is old  # for who asked; not kept
    assert views.get(of(1)) is new
    assert views.get(of(2)) is other
    assert views.get(of(3)) is None


def test_views_are_forgotten_by_count_and_by_size() -> None:
    views = Views()
    for box in range(MOST_VIEWS + 10):
        views.keep(of(box), view([1]))
    assert views.get(of(0)) is None
    assert views.get(of(MOST_VIEWS + 9)) is not None
    large = view(list(range(1, MOST_UIDS + 2)))
    views.keep(of(5_000_000), large)
    assert views.get(of(5_000_000)) is large  # who has it open needs it anyway
    assert views.get(of(MOST_VIEWS + 9)) is None
    views.keep(of(5_000_001), view([1]))
    assert views.get(of(5_000_000)) is None


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 9)), max_size=30))
def test_viewers_never_meet_each_others_view(steps: list[tuple[int, int, int]]) -> None:
    """Class 29: flags in a view are one viewer's; a mailbox may have several."""
    views = Views()
    kept: dict[tuple[int, int], TheView] = {}
    for box, viewer, stamp in steps:
        found = views.get(of(box, viewer))
        assert found is kept.get((box, viewer))
        made = view([box, 10 * viewer], stamp)
        if views.keep(of(box, viewer), made) is views.get(of(box, viewer)):
            kept[box, viewer] = made


# --- flags in a view -----------------------------------------------------------------------------


def flags_in(seen: TheView) -> dict[int, int | None]:
    """Flags by UID; None where they are not known."""
    found: dict[int, int | None] = {}
    for _, uids, sets, marks in seen.runs(1, max(1, seen.size)):
        told = [sets[mark] for mark in marks] if marks else [None] * len(uids)
        found.update(zip(uids, told, strict=True))
    return found


def read_all(seen: TheView, truth: dict[int, int]) -> TheView:
    while (span := seen.unread(1, seen.size)) is not None:
        first, last = span
        seen = seen.read([(uid, truth[uid]) for uid in seen.all_uids() if first <= uid <= last])
    return seen


def test_flags_are_not_known_until_they_were_read_and_then_chunk_by_chunk() -> None:
    uids = list(range(1, 2 * CHUNK + 4))
    seen = view(uids)
    assert seen.unread(1, 3) == (1, CHUNK)
    assert seen.unread(CHUNK, CHUNK + 1) == (1, CHUNK)
    seen = seen.read([(uid, uid % 3) for uid in range(1, CHUNK + 1)])
    assert seen.unread(1, CHUNK) is None
    assert seen.unread(CHUNK, CHUNK + 1) == (CHUNK + 1, 2 * CHUNK)
    assert [(run.first, len(run.uids)) for run in seen.runs(CHUNK - 1, CHUNK + 2)] == [
        (CHUNK - 1, 2),
        (CHUNK + 1, 2),
    ]
    with pytest.raises(ValueError, match="not the UIDs"):
        seen.read([(uid, 0) for uid in range(CHUNK + 2, 2 * CHUNK + 1)])
    with pytest.raises(ValueError, match="not the UIDs"):
        seen.read([])


@given(st.dictionaries(st.integers(1, 300), st.integers(0, 3), max_size=40))
def test_a_view_may_begin_with_its_flags(flags: dict[int, int]) -> None:
    rows = sorted(flags.items())
    seen = TheView.of_flagged(rows, 3)
    assert (seen.stamp, list(seen.all_uids())) == (3, sorted(flags))
    assert flags_in(seen) == flags
    assert not flags or seen.unread(1, seen.size) is None


def grouped(flags: dict[int, int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for uid in sorted(flags):
        found.setdefault(flags[uid], []).append(uid)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_flags_follow_every_change_and_older_views_keep_theirs(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views_module, "CHUNK", 64)
    monkeypatch.setattr(views_module, "SETS", 8)
    rng = random.Random(seed)
    truth = {uid: rng.randrange(4) for uid in sorted(rng.sample(range(1, 900), 400))}
    seen = read_all(view(list(truth)), truth)
    older: list[tuple[TheView, dict[int, int | None]]] = []
    top = max(truth)
    for step in range(2, 60):
        gone = set(rng.sample(sorted(truth), min(len(truth), rng.choice((0, 0, 1, 30)))))
        added = list(range(top + 1, top + 1 + rng.choice((0, 0, 2, 200 if step == 30 else 3))))
        top += len(added)
        left = [uid for uid in truth if uid not in gone]
        some = (
            left
            if step % 10 == 0
            else sorted(rng.sample(left, min(len(left), rng.choice((0, 1, 40)))))
        )
        if step % 4 == 1 and left:  # neighbours
            at = rng.randrange(len(left))
            some = left[at : at + 100]
        alike = rng.randrange(1 << 62)
        changed = {uid: alike if step % 2 else rng.randrange(600) for uid in some}
        changed.update((uid, rng.randrange(3)) for uid in added)
        truth = {uid: changed.get(uid, truth.get(uid, 0)) for uid in [*left, *added]}
        older = [*older[-3:], (seen, flags_in(seen))]
        seen = seen.changed(added, gone, step, grouped(changed))
        assert flags_in(seen) == truth
        assert all(flags_in(each) == then for each, then in older)
        together: dict[int, list[int]] = {}
        for flags, uids in seen.grouped(1, seen.size).items():
            together[flags] = uids.tolist()
        assert together == grouped(truth)


def test_flags_of_what_came_unread_are_not_known() -> None:
    seen = read_all(view([1, 2]), {1: 5, 2: 6})
    after = seen.changed([3], (), 2)
    assert flags_in(after) == {1: None, 2: None, 3: None}
    assert flags_in(view([1, 2]).changed((), (), 2, {7: [1]})) == {1: None, 2: None}


def test_flags_of_as_many_as_are_here_are_not_the_flags_of_all() -> None:
    """What came is told with what changed: two of two, but one of them is new."""
    seen = read_all(view([1, 2]), {1: 5, 2: 6})
    assert flags_in(seen.changed([3], (), 2, {7: [2, 3]})) == {1: 5, 2: 7, 3: 7}


def test_sets_of_flags_that_occur_no_more_are_forgotten() -> None:
    uids = list(range(1, 50))
    seen = read_all(view(uids), dict.fromkeys(uids, 0))
    for step in range(1, 5 * SETS):
        seen = seen.changed((), (), step, {step: [1 + step % 49]})
    (run,) = seen.runs(1, 49)
    assert len(run.sets) <= SETS + 1
    assert flags_in(seen)[1 + (5 * SETS - 1) % 49] == 5 * SETS - 1


# --- pieces --------------------------------------------------------------------------------------


@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 90)), max_size=30),
    st.sampled_from([1, 2, 7, 40]),
)
@settings(max_examples=150)
def test_pieces_hold_every_chosen_message_once_in_order_and_are_no_larger_than_asked(
    count: int, spans: list[tuple[int, int]], size: int
) -> None:
    seen = view(list(range(10, 10 + 3 * count, 3)))
    ranges: list[tuple[int, int]] = []
    for lo, length in sorted(spans):
        if lo <= count and (not ranges or lo > ranges[-1][1]):
            ranges.append((lo, min(count, lo + length)))
    chosen = [seen.uid(n) for lo, hi in ranges for n in range(lo, hi + 1)]
    found: list[int] = []
    for (first, last), pick in picks(seen, ranges, size):
        inside = list(seen.uids(first, last))
        here = [u for u in inside if pick.uids is None or u in set(pick.uids)]
        here = [u for u in here if pick.first <= u <= pick.last]
        assert 0 < len(here) <= size
        found += here
    assert found == chosen


def test_a_list_that_is_nearly_full_takes_no_more_than_it_may_hold() -> None:
    """Small ranges among even smaller ones: 39 single messages, then nine in a row."""
    seen = view(list(range(1, 1000)))
    ranges = [(n, n) for n in range(1, 79, 2)] + [(80, 88), (90, 98)]
    pieces = picks(seen, ranges, 40)
    assert [len(pick.uids or ()) for _, pick in pieces] == [39, 18]
