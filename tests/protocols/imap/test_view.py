"""protocols.imap.view and session.picks: numbers, UIDs and the pieces that the store is asked."""

from __future__ import annotations

import array
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.protocols.imap.session import picks
from postroom.protocols.imap.view import CHUNK, MOST_UIDS, MOST_VIEWS, Views
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


def test_views_are_kept_by_mailbox_and_the_latest_stays() -> None:
    views = Views()
    old, new, other = view([1], 1), view([1, 2], 2), view([7], 1)
    views.keep(1, old)
    views.keep(2, other)
    views.keep(1, new)
    assert views.get(1) is new
    assert views.keep(1, old) is old  # for who asked; not kept
    assert views.get(1) is new
    assert views.get(2) is other
    assert views.get(3) is None


def test_views_are_forgotten_by_count_and_by_size() -> None:
    views = Views()
    for box in range(MOST_VIEWS + 10):
        views.keep(box, view([1]))
    assert views.get(0) is None
    assert views.get(MOST_VIEWS + 9) is not None
    large = view(list(range(1, MOST_UIDS + 2)))
    views.keep(5_000_000, large)
    assert views.get(5_000_000) is large  # who has it open needs it anyway
    assert views.get(MOST_VIEWS + 9) is None
    views.keep(5_000_001, view([1]))
    assert views.get(5_000_000) is None


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
