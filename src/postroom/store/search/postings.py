"""Sets of message numbers, one for each trigram, in segments of at most `SPAN` messages.

A set is the shorter of two forms, its first octet says which: a list, two octets a number, sorted,
little-endian; or a bitmap, the bit of number n being `octet[n // 8] >> n % 8 & 1`. Neither is
decoded number by number: lists are intersected by `set`, bitmaps as integers, both in C. A loop
in Python goes at most over the shortest list.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress
from typing import Final

from postroom.core.errors import Corrupt
from postroom.store.search.trigrams import number

SPAN: Final = 4096
"""Messages in a segment: a bitmap of all is 512 octets, a list stays below 256 numbers."""

ALWAYS: Final = -1
"""The key, no trigram's, of the set of messages that are always candidates."""

_LIST: Final = 0
_BITMAP: Final = 1
_BITS: Final = bytes(octet & 1 for octet in range(256))  # "0" and "1" to 0 and 1


def pack(numbers: Collection[int]) -> bytes:
    """A set of numbers, sorted and each once.

    Raises ValueError or OverflowError for one that is not from 0 to below `SPAN`.
    """
    ordered = array("H", numbers)
    if ordered and ordered[-1] >= SPAN:
        raise ValueError(f"{ordered[-1]} is outside of a segment")
    if ordered and 2 * len(ordered) > ordered[-1] // 8 + 1:
        bitmap = bytearray(ordered[-1] // 8 + 1)
        for n in ordered:
            bitmap[n >> 3] |= 1 << (n & 7)
        return bytes((_BITMAP,)) + bitmap
    if sys.byteorder == "big":
        ordered.byteswap()
    return bytes((_LIST,)) + ordered.tobytes()


def unpack(packed: bytes) -> list[int]:
    """The numbers of a set, sorted. Raises Corrupt."""
    form, data = _opened(packed)
    return list(_listed(data) if form == _LIST else _set_bits(int.from_bytes(data, "little")))


def common(sets: Iterable[bytes]) -> list[int]:
    """The numbers that all of some packed sets hold, sorted; of no sets, none. Raises Corrupt."""
    lists: list[array[int]] = []
    bitmaps: list[int] = []
    for packed in sets:
        form, data = _opened(packed)
        if form == _LIST:
            lists.append(_listed(data))
        else:
            bitmaps.append(int.from_bytes(data, "little"))
    if not bitmaps and not lists:
        return []
    bits = -1
    for bitmap in bitmaps:
        bits &= bitmap
    if not lists:
        return list(_set_bits(bits))
    lists.sort(key=len)
    found = set(lists[0]).intersection(*lists[1:])
    if bits == -1:
        return sorted(found)
    octets = bits.to_bytes(SPAN // 8, "little")
    return sorted(n for n in found if octets[n >> 3] >> (n & 7) & 1)


def renumbered(packed: bytes, places: Sequence[int], into: array[int]) -> None:
    """Add the numbers of a set, each as its place says, to those of another; -1 leaves one out.
    Raises Corrupt."""
    for n in unpack(packed):
        if n >= len(places):
            raise Corrupt(detail="a set of the search index holds a message that is not there")
        if places[n] >= 0:
            into.append(places[n])


def _opened(packed: bytes) -> tuple[int, bytes]:
    form, data = packed[:1], packed[1:]
    if form == b"\0" and len(data) % 2 == 0 and len(data) <= 2 * SPAN:
        return _LIST, data
    if form == b"\1" and len(data) <= SPAN // 8:
        return _BITMAP, data
    raise Corrupt(detail="a set of the search index is in no known form")


def _listed(data: bytes) -> array[int]:
    numbers = array("H")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    if numbers and max(numbers) >= SPAN:
        raise Corrupt(detail="a set of the search index leaves its segment")
    return numbers


def _set_bits(bits: int) -> Iterator[int]:
    """Which bits are set, from the lowest, without a step for each in Python."""
    digits = f"{bits:b}"[::-1].encode().translate(_BITS)
    return compress(range(len(digits)), digits)


class Segment:
    """The sets of up to `SPAN` messages while they are gathered, in the order of their numbers."""

    __slots__ = ("_always", "_sets", "count")

    def __init__(self) -> None:
        self.count = 0
        self._sets: dict[str, array[int]] = {}
        self._always = array("H")

    def add(self, found: Iterable[str] | None) -> int:
        """A message by its trigrams, or None if it is to be a candidate always; returns its number
        in the segment. Raises ValueError."""
        if self.count >= SPAN:
            raise ValueError("the segment is full")
        mine = self.count
        self.count += 1
        if found is None:
            self._always.append(mine)
            return mine
        sets = self._sets
        for trigram in found:
            numbers = sets.get(trigram)
            if numbers is None:
                sets[trigram] = array("H", (mine,))
            else:
                numbers.append(mine)
        return mine

    def packed(self) -> Iterator[tuple[int, bytes]]:
        """Every key with its packed set, as they are to be kept, in the order of the keys."""
        if self._always:
            yield ALWAYS, pack(self._always)
        kept = {number(each): held for each, held in self._sets.items()}
        for key in sorted(kept):  # numbers alone: nobody else runs while they are sorted
            yield key, pack(kept[key])
