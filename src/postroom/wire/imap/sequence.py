"""Sets of message numbers or UIDs: read, resolved, written; never expanded. RFC 9051 §9."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Malformed

LARGEST: Final = 0xFFFFFFFF
"""The largest message number or UID: nz-number is 32 bits wide. RFC 9051 §9."""

_NUMBER: Final = rb"(?:[1-9][0-9]{0,9}+|\*)"
_SET: Final = re.compile(
    rb"(?:%b(?::%b)?+)(?:,%b(?::%b)?+)*+" % (_NUMBER, _NUMBER, _NUMBER, _NUMBER)
)
# `*` alone: no partner pulls the range below or above the largest number.
_STAR_ALONE: Final = (LARGEST, 0)


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Numbers as sorted, merged, inclusive ranges, and what `*` adds to them.

    Every range that names `*` contains the largest number in use, so all of them together
    are one range, known by the lowest and the highest partner of `*`.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    star: tuple[int, int] | None = None
    saved: bool = False
    """True for `$`, the result that SEARCH RETURN (SAVE) kept. RFC 9051 §6.4.4.1."""

    @classmethod
    def parse(cls, text: bytes) -> SequenceSet:
        """Read `1:3,7,10:*` or `$` in O(n log n); raises Malformed."""
        if text == b"1:*":
            return ALL  # what most clients ask most often
        if text == b"$":
            return cls(saved=True)
        if not _SET.fullmatch(text):
            raise Malformed("Not a set of message numbers")
        ranges: list[tuple[int, int]] = []
        low, high = _STAR_ALONE
        starred = False
        for part in text.split(b","):
            first, colon, last = part.partition(b":")
            if b"*" in part:
                starred = True
                partner = last if first == b"*" else first
                if partner not in (b"*", b""):
                    number = int(partner)
                    low, high = min(low, number), max(high, number)
                continue
            start = int(first)
            end = int(last) if colon else start
            ranges.append((start, end) if start <= end else (end, start))
        merged = merge(ranges) if len(ranges) > 1 else ranges
        if (merged and merged[-1][1] > LARGEST) or high > LARGEST:
            raise Malformed("A message number is too large")
        return cls(tuple(merged), (low, high) if starred else None)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> SequenceSet:
        """The set of these numbers, in any order."""
        return cls(tuple(merge([(number, number) for number in numbers])))

    def resolve(self, largest: int) -> list[tuple[int, int]]:
        """Sorted, disjoint ranges with `*` as `largest`, the largest number in use.

        `5:*` where 3 is the largest is 3:5 (RFC 9051 §9). In an empty mailbox (`largest` 0)
        `*` names nothing. A saved result (`$`) is the session's to look up: it is [] here.
        """
        if self.star is None or largest == 0:
            return list(self.ranges)
        low, high = self.star
        return merge([*self.ranges, (min(low, largest), max(high, largest))])

    def contains(self, number: int, largest: int) -> bool:
        """Whether `number` is in the set where `largest` is the largest in use."""
        if self.star is not None and largest:
            low, high = self.star
            if min(low, largest) <= number <= max(high, largest):
                return True
        at = bisect_right(self.ranges, (number, LARGEST + 1)) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def render(self) -> bytes:
        """The set on the wire, normalised; parses back to an equal set."""
        if self.saved:
            return b"$"
        parts = [_range(start, end) for start, end in self.ranges]
        if self.star is not None:
            low, high = self.star
            if high == 0:
                parts.append(b"*")
            else:
                parts.append(b"%d:*" % low)
                if high != low:
                    parts.append(b"%d:*" % high)
        return b",".join(parts)


ALL: Final = SequenceSet(star=(1, 1))
"""`1:*`."""


def merge(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, disjoint, not adjacent: the fewest ranges that hold the same numbers."""
    merged: list[tuple[int, int]] = []
    start = end = -2  # below every number, and adjacent to none
    for low, high in sorted(ranges):
        if low > end + 1:
            if end >= 0:
                merged.append((start, end))
            start, end = low, high
        elif high > end:
            end = high
    if end >= 0:
        merged.append((start, end))
    return merged


def compress(numbers: Iterable[int]) -> bytes:
    """Ascending, distinct numbers as `1:3,7`; b"" for none."""
    known = numbers if isinstance(numbers, (list, tuple)) else list(numbers)
    if not known:
        return b""
    if known[-1] - known[0] == len(known) - 1:  # no gap: most mailboxes
        return _range(known[0], known[-1])
    parts: list[bytes] = []
    start = previous = known[0]
    for number in known:
        if number - previous > 1:
            parts.append(b"%d:%d" % (start, previous) if start != previous else b"%d" % start)
            start = number
        previous = number
    parts.append(_range(start, previous))
    return b",".join(parts)


def in_order(numbers: Iterable[int]) -> bytes:
    """Distinct numbers in an order that counts, as `5,1:3,2`: a range is a run that ascends by one.
    RFC 5267 §3.2; b"" for none."""
    parts: list[bytes] = []
    start = previous = 0
    for number in numbers:
        if number == previous + 1 and start:
            previous = number
            continue
        if start:
            parts.append(_range(start, previous))
        start = previous = number
    if start:
        parts.append(_range(start, previous))
    return b",".join(parts)


def _range(start: int, end: int) -> bytes:
    return b"%d" % start if start == end else b"%d:%d" % (start, end)
