from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from postroom.domain.mailboxes.picking import FEW, Pick, runs

UIDS = st.sets(st.integers(1, 200), min_size=1).map(sorted)


@given(UIDS)
def test_runs_are_the_same_numbers_in_as_few_ranges_as_can_be(uids: list[int]) -> None:
    found = list(runs(uids))
    assert [uid for first, last in found for uid in range(first, last + 1)] == uids
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(found))
    assert list(Pick.of(uids).runs()) == found


def test_no_numbers_are_no_runs() -> None:
    assert list(runs(())) == []


def test_neighbours_need_no_list() -> None:
    assert Pick.of([3, 4, 5]) == Pick(3, 5)
    assert Pick.of([7]) == Pick(7, 7)
    assert Pick.of([3, 5]).uids == [3, 5]


@given(UIDS, st.integers(1, 200))
def test_a_choice_can_be_cut(uids: list[int], last: int) -> None:
    cut = Pick.of(uids).up_to(last)
    left = [uid for first, end in cut.runs() for uid in range(first, end + 1)]
    assert [uid for uid in left if uid <= last] == [uid for uid in uids if uid <= last]


def test_few_are_counted_by_what_could_be_there() -> None:
    assert Pick(1, FEW).few
    assert not Pick(1, FEW + 1).few
    assert Pick(1, 10_000, list(range(1, 2 * FEW, 2))).few
