"""What never changes of a message, kept as it is told: texts of FETCH, subjects to search, keys to
sort by.

A placement's date, size, envelope and structure are what they were at delivery, whoever looks, and
a UID in a mailbox never names another message: a mailbox that is made again under its name has
another id, and with it another UIDVALIDITY. So what is kept needs no stamp. It says nothing of
whether a message is still there: only sessions that have it in their view ask. What was made by an
older maker, or made on demand, is not kept. RFC 3501 §2.3.1.1.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Generic, NamedTuple, TypeVar

KEPT_OCTETS: Final = 32 * 1024 * 1024
"""Octets of one worker; what was not asked for longest goes first."""

BLOCK: Final = 256
"""UIDs of one block of texts."""

SUBJECTS: Final = 1024
"""UIDs of one block of subjects."""

ONCE: Final = 8192
"""Blocks of texts of which is known that they were asked for once."""

_ENTRY: Final = 150  # octets of a text beside its characters: its object, its number, its place
_BLOCK: Final = 400  # octets of a block, empty
_TEXT_MOST: Final = 16 * 1024  # a longer one is read each time


V = TypeVar("V")


class Texts(NamedTuple):
    """Names a block of texts: what is told of some UIDs of a mailbox."""

    box: int
    told: bytes  # the items
    block: int  # uid // BLOCK


class Titles(NamedTuple):
    """Names a block of subjects."""

    box: int
    block: int  # uid // SUBJECTS


class Values(NamedTuple):
    """Names a block of values: what messages are sorted by or joined by."""

    box: int
    what: str
    block: int  # uid // SUBJECTS


Name = Texts | Titles | Values


class Subjects:
    """The folded subjects of some messages, as one text that is searched at once. Immutable."""

    __slots__ = ("_starts", "_text", "_uids", "_unknown", "octets", "top")

    def __init__(self, rows: Sequence[tuple[int, str | None]], top: int) -> None:
        """(uid, folded subject), ascending; None where it is not known. No other messages were
        there up to the UID `top`, and none will come."""
        pieces = [(subject or "").encode("utf-8", "surrogatepass") for _, subject in rows]
        # NUL stands in no subject that is kept, so what is found lies in one of them.
        self._text = b"\0".join(pieces)
        self._uids = array("I", [uid for uid, _ in rows])
        self._starts = array("I", accumulate((len(piece) + 1 for piece in pieces), initial=0))
        self._unknown = frozenset(uid for uid, subject in rows if subject is None)
        self.top = top
        self.octets = len(self._text) + 8 * len(rows) + 60 * len(self._unknown) + _BLOCK

    def holding(self, folded: str) -> set[int]:
        """The UIDs of those whose subject holds a text, and of those whose subject is not known."""
        wanted = folded.encode("utf-8", "surrogatepass")
        if not wanted or b"\0" in wanted:
            return set(self._uids)
        found = set(self._unknown)
        text, starts = self._text, self._starts
        at = text.find(wanted)
        while at >= 0:
            n = bisect_right(starts, at) - 1
            found.add(self._uids[n])
            at = text.find(wanted, starts[n + 1])
        return found


class Told:
    """A block of texts by UID."""

    __slots__ = ("octets", "texts")

    def __init__(self) -> None:
        self.texts: dict[int, bytes] = {}
        self.octets = _BLOCK

    def keep(self, uids: Sequence[int], texts: Sequence[bytes]) -> int:
        """Take more texts; returns how many octets they add."""
        before = self.octets
        more = {
            uid: text
            for uid, text in zip(uids, texts, strict=True)
            if len(text) <= _TEXT_MOST and uid not in self.texts
        }
        self.texts.update(more)
        self.octets += sum(map(len, more.values())) + _ENTRY * len(more)
        return self.octets - before


class Block(Generic[V]):
    """Values of some messages by UID. No other messages were there up to the UID `top`, and none
    will come."""

    __slots__ = ("by_uid", "octets", "top")

    def __init__(self, by_uid: Mapping[int, V], top: int, octets: int) -> None:
        """`octets` are those of the values."""
        self.by_uid = by_uid
        self.top = top
        self.octets = octets + _ENTRY * len(by_uid) + _BLOCK


class Kept:
    """Texts and subjects by mailbox and UID; what was not asked for longest is forgotten first.

    Texts are wanted from the second time on: a client that reads a large mailbox once, to keep it
    itself, does not displace what others ask for again and again.
    """

    __slots__ = ("_held", "_most", "_once", "octets")

    def __init__(self, most: int = KEPT_OCTETS) -> None:
        self._held: OrderedDict[Name, Told | Subjects | Block[Any]] = OrderedDict()
        self._once: OrderedDict[Texts, None] = OrderedDict()
        self._most = most
        self.octets = 0

    def texts(self, box: int, told: bytes, uids: Sequence[int]) -> list[bytes | None]:
        """What is kept of messages whose UIDs ascend; None where that is nothing."""
        found: list[bytes | None] = []
        start = 0
        while start < len(uids):
            block = uids[start] // BLOCK
            end = bisect_left(uids, (block + 1) * BLOCK, start)
            name = Texts(box, told, block)
            held = self._held.get(name)
            if isinstance(held, Told):
                self._held.move_to_end(name)
                found += map(held.texts.get, uids[start:end])
            else:
                found += [None] * (end - start)
            start = end
        return found

    def wants(self, box: int, told: bytes, uids: Sequence[int]) -> bool:
        """Whether texts of messages are to be kept: if somebody asked for all their blocks before;
        pieces of one answer share some."""
        names = [Texts(box, told, block) for block in {uid // BLOCK for uid in uids}]
        wanted = all(name in self._held or name in self._once for name in names)
        self._once.update(dict.fromkeys(names))
        while len(self._once) > ONCE:
            self._once.popitem(last=False)
        return wanted

    def keep_texts(
        self, box: int, told: bytes, uids: Sequence[int], texts: Sequence[bytes]
    ) -> None:
        """Keep what is told of messages whose UIDs ascend."""
        start = 0
        while start < len(uids):
            block = uids[start] // BLOCK
            end = bisect_left(uids, (block + 1) * BLOCK, start)
            name = Texts(box, told, block)
            held = self._held.get(name)
            if not isinstance(held, Told):
                held = self._held[name] = Told()
                self.octets += held.octets
            self.octets += held.keep(uids[start:end], texts[start:end])
            start = end
        self._forget()

    def subjects(self, box: int, block: int) -> Subjects | None:
        """The subjects of a block, up to its `top`."""
        name = Titles(box, block)
        held = self._held.get(name)
        if not isinstance(held, Subjects):
            return None
        self._held.move_to_end(name)
        return held

    def keep_subjects(self, box: int, block: int, subjects: Subjects) -> None:
        """Keep the subjects of a block in place of those that were kept."""
        name = Titles(box, block)
        before = self._held.pop(name, None)
        self.octets += subjects.octets - (before.octets if before is not None else 0)
        self._held[name] = subjects
        self._forget()

    def values(self, name: Values) -> Block[Any] | None:
        """The values of a block, up to its `top`; of the kind that was kept under this name."""
        held = self._held.get(name)
        if not isinstance(held, Block):
            return None
        self._held.move_to_end(name)
        return held

    def keep_values(self, name: Values, values: Block[Any]) -> None:
        """Keep the values of a block in place of those that were kept."""
        before = self._held.pop(name, None)
        self.octets += values.octets - (before.octets if before is not None else 0)
        self._held[name] = values
        self._forget()

    def _forget(self) -> None:
        while self.octets > self._most and self._held:
            _, held = self._held.popitem(last=False)
            self.octets -= held.octets
