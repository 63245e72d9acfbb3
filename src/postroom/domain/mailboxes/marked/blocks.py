"""Flags of 64 messages as groups: a set of flags, a modseq, and which of the 64 have both.

A group is 24 octets, and most blocks have few: who marks a folder as read makes one of each. At
worst each message has its own, 1.5 KB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import repeat
from struct import Struct
from typing import Final, NamedTuple

from postroom.core.errors import Corrupt
from postroom.domain.mailboxes import flags as bits

SIZE: Final = 64
"""UIDs of one block."""

FULL: Final = (1 << SIZE) - 1

_GROUP: Final = Struct("<qqQ")
_PLACES: Final = tuple(
    tuple(place for place in range(8) if octet >> place & 1) for octet in range(256)
)


class Group(NamedTuple):
    """Messages of one block that have the same flags since the same change."""

    flags: int
    modseq: int
    which: int  # bit n is UID SIZE * block + n


class Block:
    """The groups of one block; no message is in two."""

    __slots__ = ("groups", "number")

    def __init__(self, number: int, packed: bytes = b"") -> None:
        """Of a row; raises Corrupt."""
        if len(packed) % _GROUP.size:
            raise Corrupt(detail=f"block {number} of flags has {len(packed)} octets")
        self.number = number
        self.groups = [Group._make(group) for group in _GROUP.iter_unpack(packed)]

    @property
    def modseq(self) -> int:
        """Of the last change, as far as it still shows."""
        return max([group.modseq for group in self.groups], default=0)

    @property
    def marked(self) -> int:
        """Which messages are in a group."""
        return _union(group.which for group in self.groups)

    @property
    def unseen(self) -> int:
        """Which of those are not \\Seen."""
        return _union(group.which for group in self.groups if not group.flags & bits.SEEN)

    def mark(self, which: int, flags: int, modseq: int) -> None:
        """These messages have those flags from this change on."""
        self.forget(which)
        self.groups.append(Group(flags, modseq, which))

    def forget(self, which: int) -> None:
        """These messages are not there any more."""
        self.groups = [
            Group(flags, modseq, left)
            for flags, modseq, had in self.groups
            if (left := had & ~which)
        ]

    def row(self, mailbox: int) -> Mapping[str, object]:
        """What is kept of it."""
        return {
            "mailbox": mailbox,
            "block": self.number,
            "modseq": self.modseq,
            "marked": signed(self.marked),
            "unseen": signed(self.unseen),
            "groups": b"".join([_GROUP.pack(*group) for group in self.groups]),
        }

    def sets(self, since: int = -1) -> Iterator[tuple[tuple[int, int], list[int] | range]]:
        """(flags, modseq) of the groups that changed after `since`, with the UIDs of each."""
        for flags, modseq, which in self.groups:
            if modseq > since:
                yield (flags, modseq), uids(self.number, which)


def _union(masks: Iterator[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


def uids(block: int, which: int) -> list[int] | range:
    """The UIDs that a mask of a block means, ascending."""
    first = block * SIZE
    if which == FULL:
        return range(first, first + SIZE)
    found: list[int] = []
    for at, octet in enumerate(which.to_bytes(SIZE // 8, "little")):
        if octet:
            found += map(int.__add__, _PLACES[octet], repeat(first + 8 * at))
    return found


def masks(runs: Iterator[tuple[int, int]]) -> dict[int, int]:
    """Ranges of UIDs as masks, by block."""
    found: dict[int, int] = {}
    for first, last in runs:
        low, high = first // SIZE, last // SIZE
        for block in range(low, high + 1):
            which = FULL
            if block == low:
                which &= FULL << first % SIZE
            if block == high:
                which &= FULL >> (SIZE - 1 - last % SIZE)
            found[block] = found.get(block, 0) | which
    return found


def signed(mask: int) -> int:
    """A mask as the engines keep it: they know no unsigned numbers."""
    return mask - (1 << SIZE) if mask >> (SIZE - 1) else mask


def unsigned(kept: int) -> int:
    """The mask that was kept."""
    return kept & FULL
