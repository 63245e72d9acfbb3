"""A session's view of a mailbox: which message number means which UID.

An immutable chunked array, shared by the sessions of a worker and stamped with the mailbox's
modseq. A change makes a new view that shares every chunk it did not touch. RFC 3501 §2.3.1.2.
"""

from __future__ import annotations

import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

CHUNK: Final = 4096
MOST_VIEWS: Final = 2_000
"""Views of mailboxes that nobody has open, kept for the next SELECT."""

MOST_UIDS: Final = 4_000_000
"""Their UIDs in all: 4 octets each."""

Range = tuple[int, int]


class View:
    """UIDs in ascending order; the message number of the first is 1."""

    __slots__ = ("_chunks", "_firsts", "_starts", "size", "stamp")

    def __init__(self, chunks: Iterable[array.array[int]], stamp: int) -> None:
        self._chunks = tuple(chunk for chunk in chunks if chunk)
        self._firsts = [chunk[0] for chunk in self._chunks]
        starts, size = [], 0
        for chunk in self._chunks:
            starts.append(size)
            size += len(chunk)
        self._starts = starts
        self.size = size
        self.stamp = stamp

    @classmethod
    def of(cls, uids: array.array[int], stamp: int) -> View:
        """A view of these UIDs, ascending."""
        return cls((uids[n : n + CHUNK] for n in range(0, len(uids), CHUNK)), stamp)

    def __len__(self) -> int:
        return self.size

    @property
    def last_uid(self) -> int:
        """The highest UID, 0 in an empty mailbox."""
        return self._chunks[-1][-1] if self._chunks else 0

    def uid(self, number: int) -> int:
        """The UID of a message number from 1 to `size`."""
        at = bisect_right(self._starts, number - 1) - 1
        return self._chunks[at][number - 1 - self._starts[at]]

    def number(self, uid: int) -> int:
        """The message number of a UID, 0 if it is not here."""
        at = bisect_right(self._firsts, uid) - 1
        if at < 0:
            return 0
        chunk = self._chunks[at]
        place = bisect_left(chunk, uid)
        if place == len(chunk) or chunk[place] != uid:
            return 0
        return self._starts[at] + place + 1

    def numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """The message numbers of ascending UIDs; 0 for those that are not here."""
        first, last = self.number(uids[0]), self.number(uids[-1])
        if first and last and last - first == len(uids) - 1:
            return range(first, last + 1)  # as many as lie between them: all of them
        return [self.number(uid) for uid in uids]

    def below(self, uid: int) -> int:
        """How many UIDs are smaller than `uid`."""
        at = bisect_left(self._firsts, uid) - 1
        return self._starts[at] + bisect_left(self._chunks[at], uid) if at >= 0 else 0

    def uids(self, first: int, last: int) -> array.array[int]:
        """The UIDs of the message numbers from `first` to `last`, both within the view."""
        found = array.array("I")
        at = bisect_right(self._starts, first - 1) - 1
        while at < len(self._chunks) and self._starts[at] < last:
            start = self._starts[at]
            found += self._chunks[at][max(0, first - 1 - start) : last - start]
            at += 1
        return found

    def all_uids(self) -> Iterator[int]:
        return chain.from_iterable(self._chunks)

    def by_number(self, ranges: Iterable[Range]) -> list[Range]:
        """Ranges of message numbers, cut to what there is."""
        return [(lo, min(hi, self.size)) for lo, hi in ranges if lo <= self.size]

    def by_uid(self, ranges: Iterable[Range]) -> list[Range]:
        """Ranges of UIDs as ranges of message numbers; what does not exist is passed over."""
        found: list[Range] = []
        for lo, hi in ranges:
            first, last = self.below(lo) + 1, self.below(hi + 1)
            if first > last:
                continue
            if found and found[-1][1] + 1 == first:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        return found

    def changed(self, added: Sequence[int], gone: Iterable[int], stamp: int) -> View:
        """The view after `added` (ascending, above all here) came and `gone` went."""
        chunks = list(self._chunks)
        by_chunk: dict[int, set[int]] = {}
        for uid in gone:
            at = bisect_right(self._firsts, uid) - 1
            if at >= 0:
                by_chunk.setdefault(at, set()).add(uid)
        for at, here in by_chunk.items():
            chunks[at] = array.array("I", [uid for uid in chunks[at] if uid not in here])
        if added:
            if chunks and len(chunks[-1]) + len(added) <= CHUNK:
                chunks[-1] = chunks[-1] + array.array("I", added)
            else:
                new = array.array("I", added)
                chunks += [new[n : n + CHUNK] for n in range(0, len(new), CHUNK)]
        return View(chunks, stamp)


class Views:
    """The views of one worker: sessions of the same mailbox share one."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, View] = OrderedDict()
        self._uids = 0

    def get(self, box: int) -> View | None:
        """The view of a mailbox that was kept last. Its stamp says what it is good for."""
        found = self._held.get(box)
        if found is not None:
            self._held.move_to_end(box)
        return found

    def keep(self, box: int, view: View) -> View:
        """Keep a view, unless a later one is here: then that is not replaced."""
        known = self._held.get(box)
        if known is not None:
            if known.stamp > view.stamp:
                return view
            self._uids -= known.size
        self._held[box] = view
        self._held.move_to_end(box)
        self._uids += view.size
        while len(self._held) > 1 and (len(self._held) > MOST_VIEWS or self._uids > MOST_UIDS):
            _, dropped = self._held.popitem(last=False)
            self._uids -= dropped.size
        return view
