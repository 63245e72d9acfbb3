"""Packed sets of message numbers and what they have in common."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt
from postroom.store.search import (
    ALWAYS,
    SPAN,
    Collector,
    Segment,
    common,
    number,
    pack,
    renumbered,
    trigrams,
    unpack,
)

_NUMBERS = st.integers(0, SPAN - 1)
_SPARSE = st.sets(_NUMBERS, max_size=30)
_DENSE = st.builds(
    lambda low, high, without: set(range(low, high)) - without,
    st.integers(0, 500),
    st.integers(500, SPAN),
    st.sets(st.integers(0, SPAN - 1), max_size=30),
)
_SETS = st.one_of(_SPARSE, _DENSE)


@settings(max_examples=60)
@given(_SETS)
def test_a_packed_set_holds_what_was_put_in(numbers: set[int]) -> None:
    assert unpack(pack(sorted(numbers))) == sorted(numbers)


@settings(max_examples=60)
@given(st.lists(_SETS, min_size=1, max_size=5))
def test_what_is_common_is_the_intersection_whatever_the_forms(sets: list[set[int]]) -> None:
    assert common(pack(sorted(each)) for each in sets) == sorted(set.intersection(*sets))


def test_no_sets_have_nothing_in_common() -> None:
    assert common([]) == []


def test_the_shorter_form_is_taken() -> None:
    assert len(pack([7, 4000])) == 1 + 2 * 2
    assert len(pack(range(SPAN))) == 1 + SPAN // 8
    assert max(len(pack(range(0, SPAN, step))) for step in range(1, 64)) <= 1 + SPAN // 8


@pytest.mark.parametrize("numbers", [[SPAN], [1, 70_000], [-1]])
def test_a_number_outside_of_the_segment_is_refused(numbers: list[int]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        pack(numbers)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\2\0\0",  # no such form
        b"\0\1",  # half a number
        b"\0\0\x10",  # 4096
        b"\0" + bytes(2 * SPAN + 2),
        b"\1" + bytes(SPAN // 8 + 1),
    ],
)
def test_a_damaged_set_is_told_and_not_believed(packed: bytes) -> None:
    with pytest.raises(Corrupt):
        unpack(packed)
    with pytest.raises(Corrupt):
        common([pack([1]), packed])


def _strings(text: str) -> frozenset[str]:
    collector = Collector(10_000)
    collector.feed(text)
    return collector.found()


@settings(max_examples=40)
@given(
    st.lists(st.text(alphabet="abc", max_size=12), max_size=20),
    st.text(alphabet="abc", min_size=3, max_size=5),
)
def test_no_message_that_holds_a_string_is_missing_from_the_candidates(
    texts: list[str], needle: str
) -> None:
    segment = Segment()
    numbers = [segment.add(_strings(text)) for text in texts]
    sets = dict(segment.packed())
    wanted = trigrams(needle)
    candidates = common(sets[each] for each in wanted) if wanted <= sets.keys() else []
    assert {n for n in numbers if needle in texts[n]} <= set(candidates)
    assert candidates == [n for n in numbers if wanted <= trigrams(texts[n])]


def test_a_segment_takes_as_many_messages_as_it_spans() -> None:
    segment = Segment()
    for count in range(SPAN):
        assert segment.add(("abc", "odd" if count % 2 else "eve")) == count
    with pytest.raises(ValueError, match="full"):
        segment.add(("abc",))
    packed = dict(segment.packed())
    assert unpack(packed[number("abc")]) == list(range(SPAN))
    assert unpack(packed[number("odd")]) == list(range(1, SPAN, 2))


def test_who_has_no_trigrams_to_keep_is_in_the_set_of_those_who_are_always_candidates() -> None:
    segment = Segment()
    assert [segment.add(found) for found in (("abc",), None, ("abc",), None)] == [0, 1, 2, 3]
    packed = list(segment.packed())
    assert [key for key, _ in packed] == [ALWAYS, number("abc")]
    assert [unpack(numbers) for _, numbers in packed] == [[1, 3], [0, 2]]


@settings(max_examples=40)
@given(_SETS, st.data())
def test_numbers_are_put_in_new_places_or_left_out(numbers: set[int], data: st.DataObject) -> None:
    left = data.draw(st.sets(st.integers(0, SPAN - 1), max_size=50))
    kept = iter(range(SPAN))
    places = [-1 if n in left else next(kept) for n in range(SPAN)]
    into = array("H")
    renumbered(pack(sorted(numbers)), places, into)
    assert list(into) == [places[n] for n in sorted(numbers - left)]


def test_a_set_that_names_a_message_which_is_not_there_is_told() -> None:
    with pytest.raises(Corrupt):
        renumbered(pack([2]), [0, 1], array("H"))
