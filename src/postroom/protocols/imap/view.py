"""A session's view of a mailbox: which message number means which UID, and its flags.

An immutable chunked array, shared by the sessions of a worker and stamped with the mailbox's
modseq. A change makes a new view that shares every chunk it did not touch. Flags of a chunk are
read when somebody asks for one of them, and belong to the viewer for whom they were read.
RFC 3501 §2.3.1.2.
"""

from __future__ import annotations

import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

CHUNK: Final = 4096
SETS: Final = 256
"""Sets of flags in a chunk from which on those that occur no more are looked for."""

MOST_VIEWS: Final = 2_000
"""Views of mailboxes that nobody has open, kept for the next SELECT."""

MOST_UIDS: Final = 4_000_000
"""Their UIDs in all: 4 octets each, and 2 where flags are known."""

Range = tuple[int, int]


class Ranges:
    """Ranges of UIDs that are kept for long: 8 octets each. Ascending and disjoint."""

    __slots__ = ("_bounds",)

    def __init__(self, uids: Sequence[int] = ()) -> None:
        """Of UIDs that ascend."""
        self._bounds = array.array("I")
        last = 0
        for uid in uids:
            if uid == last + 1 and last:
                self._bounds[-1] = uid
            else:
                self._bounds.extend((uid, uid))
            last = uid

    def __iter__(self) -> Iterator[Range]:
        return zip(self._bounds[::2], self._bounds[1::2], strict=True)


class Chunk:
    """Some UIDs, ascending and not empty, and their flags if those are known: for each message
    which of the few sets of flags that occur here. Immutable."""

    __slots__ = ("marks", "sets", "uids")

    def __init__(
        self,
        uids: array.array[int],
        sets: Sequence[int] = (),
        marks: array.array[int] | None = None,
    ) -> None:
        self.uids = uids
        self.sets = sets
        self.marks = marks  # None: the flags are not known

    def flagged(self, flags: Sequence[int]) -> Chunk:
        """The same UIDs with their flags, one for each."""
        index = {each: n for n, each in enumerate(dict.fromkeys(flags))}
        return Chunk(self.uids, tuple(index), array.array("H", map(index.__getitem__, flags)))

    def changed(self, flags: Iterable[tuple[int, Sequence[int]]]) -> Chunk:
        """With other flags for some of its UIDs: sets, each with UIDs that ascend. What is not
        known stays so."""
        if self.marks is None:
            return self
        uids = self.uids
        index = {each: n for n, each in enumerate(self.sets)}
        marks = self.marks[:]
        for each, those in flags:
            mark = index.setdefault(each, len(index))
            at, count = bisect_left(uids, those[0]), len(those)
            if uids[at : at + count] == array.array("I", those):  # neighbours
                if count == len(uids):  # all of them
                    index, marks = {each: 0}, array.array("H", bytes(2 * count))
                else:
                    marks[at : at + count] = array.array("H", (mark,)) * count
                continue
            for uid in those:
                at = bisect_left(uids, uid)
                if at < len(uids) and uids[at] == uid:
                    marks[at] = mark
        changed = Chunk(uids, tuple(index), marks)
        if len(index) > SETS:  # many of them may occur no more
            return changed.flagged([changed.sets[mark] for mark in marks])
        return changed

    def without(self, gone: set[int]) -> Chunk:
        """Without some of its UIDs; may become empty."""
        kept = [n for n, uid in enumerate(self.uids) if uid not in gone]
        uids = array.array("I", [self.uids[n] for n in kept])
        if self.marks is None:
            return Chunk(uids)
        return Chunk(uids, self.sets, array.array("H", [self.marks[n] for n in kept]))

    def extended(self, uids: Sequence[int], flags: Mapping[int, int]) -> Chunk:
        """With more UIDs at its end."""
        longer = self.uids + array.array("I", uids)
        if self.marks is None or not all(uid in flags for uid in uids):
            return Chunk(longer)
        index = {each: n for n, each in enumerate(self.sets)}
        marks = [index.setdefault(flags[uid], len(index)) for uid in uids]
        return Chunk(longer, tuple(index), self.marks + array.array("H", marks))


_UNKNOWN: Final = array.array("H")


class Neighbours(NamedTuple):
    """Neighbours in one chunk: the number of the first, the UIDs of all, and their flags: of each
    the place in `sets`."""

    first: int
    uids: array.array[int]
    sets: Sequence[int]
    marks: array.array[int]


class View:
    """UIDs in ascending order; the message number of the first is 1."""

    __slots__ = ("_chunks", "_firsts", "_starts", "first_unseen", "size", "stamp")

    def __init__(self, chunks: Iterable[Chunk], stamp: int) -> None:
        self._chunks = tuple([chunk for chunk in chunks if chunk.uids])
        self._firsts = [chunk.uids[0] for chunk in self._chunks]
        starts, size = [], 0
        for chunk in self._chunks:
            starts.append(size)
            size += len(chunk.uids)
        self._starts = starts
        self.size = size
        self.stamp = stamp
        self.first_unseen: int | None = None
        """The lowest UID without \\Seen, 0 without any; None until somebody had to look."""

    @classmethod
    def of(cls, uids: array.array[int], stamp: int) -> View:
        """A view of these UIDs, ascending. Their flags are not known."""
        return cls((Chunk(uids[n : n + CHUNK]) for n in range(0, len(uids), CHUNK)), stamp)

    @classmethod
    def of_flagged(cls, rows: Sequence[tuple[int, int]], stamp: int) -> View:
        """A view of (uid, flags), ascending."""
        pieces = (rows[n : n + CHUNK] for n in range(0, len(rows), CHUNK))
        columns = (tuple(zip(*piece, strict=True)) for piece in pieces)
        return cls((Chunk(array.array("I", u)).flagged(f) for u, f in columns), stamp)

    def __len__(self) -> int:
        return self.size

    @property
    def last_uid(self) -> int:
        """The highest UID, 0 in an empty mailbox."""
        return self._chunks[-1].uids[-1] if self._chunks else 0

    def uid(self, number: int) -> int:
        """The UID of a message number from 1 to `size`."""
        at = bisect_right(self._starts, number - 1) - 1
        return self._chunks[at].uids[number - 1 - self._starts[at]]

    def number(self, uid: int) -> int:
        """The message number of a UID, 0 if it is not here."""
        at = bisect_right(self._firsts, uid) - 1
        if at < 0:
            return 0
        uids = self._chunks[at].uids
        place = bisect_left(uids, uid)
        if place == len(uids) or uids[place] != uid:
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
        return self._starts[at] + bisect_left(self._chunks[at].uids, uid) if at >= 0 else 0

    def uids(self, first: int, last: int) -> array.array[int]:
        """The UIDs of the message numbers from `first` to `last`, both within the view."""
        found = array.array("I")
        at = bisect_right(self._starts, first - 1) - 1
        while at < len(self._chunks) and self._starts[at] < last:
            start = self._starts[at]
            found += self._chunks[at].uids[max(0, first - 1 - start) : last - start]
            at += 1
        return found

    def all_uids(self) -> Iterator[int]:
        return chain.from_iterable(chunk.uids for chunk in self._chunks)

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

    def absent(self, first: int, last: int) -> Iterator[Range]:
        """The UIDs from `first` to `last` that are not here, as ranges."""
        at = first
        lo, hi = self.below(first) + 1, self.below(last + 1)
        for run in self.runs(lo, hi) if lo <= hi else ():
            uids = run.uids
            if at == uids[0] and uids[-1] - uids[0] == len(uids) - 1:
                at = uids[-1] + 1  # neighbours, as most are
                continue
            for uid in uids:
                if at < uid:
                    yield at, uid - 1
                at = uid + 1
        if at <= last:
            yield at, last

    # --- flags -----------------------------------------------------------------------------------

    def unread(self, first: int, last: int) -> Range | None:
        """Of the first chunk with messages from `first` to `last` whose flags are not known: its
        lowest and its highest UID."""
        at = max(0, bisect_right(self._starts, first - 1) - 1)
        while at < len(self._chunks) and self._starts[at] < last:
            chunk = self._chunks[at]
            if chunk.marks is None:
                return chunk.uids[0], chunk.uids[-1]
            at += 1
        return None

    def read(self, flags: Sequence[tuple[int, int]]) -> View:
        """With the flags of one chunk, as `unread` asked for them: (uid, flags), ascending.

        They are of this view's stamp. Raises ValueError if they are not those of the chunk.
        """
        chunks = list(self._chunks)
        at = bisect_right(self._firsts, flags[0][0]) - 1 if flags else -1
        if at < 0 or [uid for uid, _ in flags] != chunks[at].uids.tolist():
            raise ValueError("not the UIDs of a chunk")
        chunks[at] = chunks[at].flagged([each for _, each in flags])
        return View(chunks, self.stamp)

    def runs(self, first: int, last: int) -> Iterator[Neighbours]:
        """The messages from `first` to `last`; without marks where the flags are not known."""
        at = max(0, bisect_right(self._starts, first - 1) - 1)
        while at < len(self._chunks) and self._starts[at] < last:
            start, chunk = self._starts[at], self._chunks[at]
            lo, hi = max(0, first - 1 - start), last - start
            marks = chunk.marks[lo:hi] if chunk.marks is not None else _UNKNOWN
            yield Neighbours(start + lo + 1, chunk.uids[lo:hi], chunk.sets, marks)
            at += 1

    def grouped(self, first: int, last: int) -> dict[int, array.array[int]]:
        """The UIDs from `first` to `last` by their flags, which are all known."""
        found: dict[int, array.array[int]] = {}
        for _, uids, sets, marks in self.runs(first, last):
            for mark in sorted(set(marks)):
                here = uids
                if marks.count(mark) < len(marks):
                    here = array.array(
                        "I", [uid for uid, each in zip(uids, marks, strict=True) if each == mark]
                    )
                known = found.get(sets[mark])
                found[sets[mark]] = here if known is None else known + here
        return found

    # --- change ----------------------------------------------------------------------------------

    def changed(
        self,
        added: Sequence[int],
        gone: Iterable[int],
        stamp: int,
        flags: Mapping[int, Sequence[int]] | None = None,
    ) -> View:
        """The view after `added` (ascending, above all here) came and `gone` went.

        `flags` are sets, each with the UIDs, ascending, that came with it or have it now.
        """
        chunks = list(self._chunks)
        by_chunk: dict[int, list[tuple[int, Sequence[int]]]] = {}
        for each, uids in (flags or {}).items():
            for at, those in self._cut(uids):
                by_chunk.setdefault(at, []).append((each, those))
        for at, here in by_chunk.items():
            chunks[at] = chunks[at].changed(here)
        for at, those in self._cut(sorted(gone)):
            chunks[at] = chunks[at].without(set(those))
        if added:
            first = added[0]
            told = {
                uid: each
                for each, uids in (flags or {}).items()
                for uid in uids[bisect_left(uids, first) :]
            }
            if chunks and len(chunks[-1].uids) + len(added) <= CHUNK:
                chunks[-1] = chunks[-1].extended(added, told)
            else:
                none = Chunk(array.array("I"), (), array.array("H"))
                chunks += [
                    none.extended(added[n : n + CHUNK], told) for n in range(0, len(added), CHUNK)
                ]
        return View(chunks, stamp)

    def _cut(self, uids: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
        """UIDs that ascend, cut by the chunks in which they lie or would lie."""
        start = 0
        while start < len(uids):
            at = bisect_right(self._firsts, uids[start]) - 1
            end = len(uids)
            if at + 1 < len(self._firsts):
                end = bisect_left(uids, self._firsts[at + 1], start)
            if at >= 0:
                yield at, uids[start:end]
            start = end


class Of(NamedTuple):
    """What a view is kept for: flags may be a viewer's own, so viewers share none."""

    box: int
    viewer: int  # the principal


class Views:
    """The views of one worker: sessions of the same viewer and mailbox share one."""

    def __init__(self) -> None:
        self._held: OrderedDict[Of, View] = OrderedDict()
        self._uids = 0

    def get(self, of: Of) -> View | None:
        """The view that was kept last. Its stamp says what it is good for."""
        found = self._held.get(of)
        if found is not None:
            self._held.move_to_end(of)
        return found

    def peek(self, of: Of) -> View | None:
        """The same from any thread, for who keeps it again."""
        return self._held.get(of)

    def keep(self, of: Of, view: View) -> View:
        """Keep a view, unless a later one is here: then that is not replaced."""
        known = self._held.get(of)
        if known is not None:
            if known.stamp > view.stamp:
                return view
            self._uids -= known.size
        self._held[of] = view
        self._held.move_to_end(of)
        self._uids += view.size
        while len(self._held) > 1 and (len(self._held) > MOST_VIEWS or self._uids > MOST_UIDS):
            _, dropped = self._held.popitem(last=False)
            self._uids -= dropped.size
        return view
