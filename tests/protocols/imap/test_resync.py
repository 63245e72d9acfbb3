"""The sets behind a resynchronisation: what is missing, what is in common, what still matches."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from postroom.protocols.imap.resync import common, matching
from postroom.protocols.imap.view import View
from postroom.wire.imap import SequenceSet, merge

UIDS = st.sets(st.integers(1, 60)).map(sorted)
RANGES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)).map(sorted), max_size=6).map(
    lambda found: merge([(lo, hi) for lo, hi in found])
)


def spread(ranges: list[tuple[int, int]]) -> list[int]:
    return [n for lo, hi in ranges for n in range(lo, hi + 1)]


@given(UIDS, st.integers(1, 70), st.integers(0, 20))
def test_what_is_absent_is_what_is_not_there(uids: list[int], first: int, more: int) -> None:
    last = first + more
    absent = [*View.of(array("I", uids), 1).absent(first, last)]
    assert spread(absent) == [n for n in range(first, last + 1) if n not in uids]
    assert absent == merge(absent)  # ascending, as few as can be


@given(RANGES, RANGES)
def test_what_is_common(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    assert spread([*common(some, others)]) == sorted(set(spread(some)) & set(spread(others)))


@given(UIDS, st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), max_size=12))
def test_the_highest_pair_that_matches(uids: list[int], pairs: list[tuple[int, int]]) -> None:
    rising: list[tuple[int, int]] = []
    for number, uid in sorted(pairs):
        if not rising or (number > rising[-1][0] and uid > rising[-1][1]):
            rising.append((number, uid))
    numbers, named = SequenceSet.of(n for n, _ in rising), SequenceSet.of(u for _, u in rising)
    right = [uid for number, uid in rising if number <= len(uids) and uids[number - 1] == uid]
    assert matching(View.of(array("I", uids), 1), numbers, named) == max(right, default=0)


def test_long_stretches_are_compared_without_counting_them() -> None:
    view = View.of(array("I", [*range(1, 50_001), *range(60_001, 110_001)]), 1)
    huge = SequenceSet.parse(b"1:4294967295")
    assert matching(view, huge, huge) == 50_000
    assert matching(view, SequenceSet.parse(b"1:4294957295"), SequenceSet.parse(b"10001:*")) == 0
    later = SequenceSet.parse(b"10001:4294967295")
    assert matching(view, SequenceSet.parse(b"1:4294957295"), later) == 110_000
