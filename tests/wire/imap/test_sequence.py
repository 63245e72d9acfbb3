"""Sets of numbers: read, resolved, written."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Malformed
from postroom.wire.imap import SequenceSet, compress, merge

NUMBERS = st.integers(1, 40)
MEMBER = st.one_of(NUMBERS, st.just("*"))
RANGES = st.one_of(
    st.tuples(MEMBER).map(lambda one: one * 2), st.tuples(MEMBER, MEMBER)
)  # fmt: skip


def written(first: int | str, last: int | str) -> bytes:
    return f"{first}".encode() if first == last else f"{first}:{last}".encode()


def expanded(ranges: list[tuple[int | str, int | str]], largest: int) -> set[int]:
    """RFC 9051 §9 read literally: `*` is the largest number, ranges go either way."""
    numbers: set[int] = set()
    for ends in ranges:
        low, high = sorted(largest if end == "*" else int(end) for end in ends)
        numbers.update(range(low, high + 1))
    return numbers


@given(st.lists(RANGES, min_size=1, max_size=6), st.integers(1, 50))
def test_a_set_holds_what_the_rfc_says(
    ranges: list[tuple[int | str, int | str]], largest: int
) -> None:
    parsed = SequenceSet.parse(b",".join(written(*ends) for ends in ranges))
    expected = expanded(ranges, largest)
    resolved = parsed.resolve(largest)
    assert {n for low, high in resolved for n in range(low, high + 1)} == expected
    assert resolved == sorted(resolved)
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(resolved))
    assert {n for n in range(1, 60) if parsed.contains(n, largest)} == expected
    assert SequenceSet.parse(parsed.render()) == parsed
    assert SequenceSet.parse(b"1:*") == SequenceSet.parse(b"*:1")


@pytest.mark.parametrize(
    ("text", "largest", "resolved"),
    [
        (b"2,4:7,9,12:*", 15, [(2, 2), (4, 7), (9, 9), (12, 15)]),  # RFC 9051 §9
        (b"*:4,5:7", 10, [(4, 10)]),
        (b"5:*", 3, [(3, 5)]),
        (b"*", 7, [(7, 7)]),
        (b"*:*", 7, [(7, 7)]),
        (b"7:5,1,2,3", 9, [(1, 3), (5, 7)]),
        (b"1:*", 0, []),
        (b"1:*", 9, [(1, 9)]),
        (b"*:1", 9, [(1, 9)]),
        (b"3,1:*", 0, [(3, 3)]),
        (b"4294967295", 1, [(4294967295, 4294967295)]),
        (b"4294967295:*", 5, [(5, 4294967295)]),
    ],
)
def test_resolve(text: bytes, largest: int, resolved: list[tuple[int, int]]) -> None:
    assert SequenceSet.parse(text).resolve(largest) == resolved


def test_the_saved_result_is_a_set_of_its_own() -> None:
    saved = SequenceSet.parse(b"$")
    assert saved.saved
    assert saved.render() == b"$"
    assert not SequenceSet.parse(b"1").saved


@pytest.mark.parametrize(
    "text",
    [b"", b"0", b"01", b"1,", b",1", b"1,,2", b":", b"1:", b":1", b"1:2:3", b"4294967296",
     b"1:99999999999", b"4294967296:*", b"**", b"$,1", b"1 2", b"-1", b"1:$", b"0:*", b"\xb2"],
)  # fmt: skip
def test_what_is_no_set_is_refused(text: bytes) -> None:
    with pytest.raises(Malformed):
        SequenceSet.parse(text)


@given(st.sets(st.integers(1, 80)))
def test_compress_and_parse_are_inverse(numbers: set[int]) -> None:
    text = compress(sorted(numbers))
    assert text == compress(iter(sorted(numbers)))
    if numbers:
        assert SequenceSet.parse(text) == SequenceSet.of(numbers)
    else:
        assert text == b""
    assert {n for low, high in SequenceSet.of(numbers).ranges for n in range(low, high + 1)} == (
        numbers
    )


def test_compress_writes_the_fewest_ranges() -> None:
    assert compress([1, 2, 3, 7]) == b"1:3,7"
    assert compress([5]) == b"5"
    assert compress((1, 3, 4)) == b"1,3:4"


def test_merge_joins_what_touches() -> None:
    assert merge([(4, 6), (1, 3), (5, 5), (9, 9)]) == [(1, 6), (9, 9)]


def test_a_hundred_thousand_members_are_no_matter() -> None:
    numbers = list(range(1, 200_000, 2))
    start = time.process_time()
    text = compress(numbers)
    parsed = SequenceSet.parse(text)
    assert parsed.resolve(200_000) == [(n, n) for n in numbers]
    assert all(parsed.contains(n, 1) for n in range(1, 200_000, 1998))
    assert time.process_time() - start < 2  # about 0.1; a quadratic reading takes minutes


def test_a_range_costs_what_it_says_not_what_it_holds() -> None:
    start = time.process_time()
    text = b",".join([b"1:4294967295"] * 1000)
    assert SequenceSet.parse(text).resolve(4294967295) == [(1, 4294967295)]
    assert time.process_time() - start < 1
