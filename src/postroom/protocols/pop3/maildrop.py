"""What a session knows of its messages: a snapshot, and what it means to do. RFC 1939 §5.

Numbers, sizes and UIDs are fixed at sign-in. A deletion is a mark until QUIT, RSET takes the
marks back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, compress
from typing import Final

from postroom.core.errors import NotFound
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.maildrop import Opened

LINES: Final = 1000
"""Lines of a listing that are made at once."""

_DELETED: Final = 1
_READ: Final = 2

# From marks to others, or to whether they are what is looked for.
_UNDELETED: Final = bytes(mark & ~_DELETED & 0xFF for mark in range(256))
_IS_DELETED: Final = bytes(mark & _DELETED for mark in range(256))
_IS_READ_AND_KEPT: Final = bytes(mark == _READ for mark in range(256))


class NoSuchMessage(NotFound):
    """A number beyond the maildrop, or of a message that is marked as deleted. RFC 1939 §5."""

    sentence = "There is no such message"


class Maildrop:
    """One session's messages, numbered from 1."""

    __slots__ = ("_marks", "_opened", "_sizes", "_uids", "count", "octets")

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._uids = opened.uids
        self._sizes = opened.sizes
        self._marks: bytearray | None = None  # by index; most sessions come only to look
        self.count = len(opened.uids)  # without what is marked as deleted, as are the octets
        self.octets = opened.octets

    @property
    def mailbox(self) -> Mailbox:
        """As it was at sign-in."""
        return self._opened.mailbox

    @property
    def size(self) -> int:
        """How many messages there are, deleted ones included."""
        return len(self._uids)

    @property
    def last_uid(self) -> int:
        """The highest UID; 0 if the maildrop is empty."""
        return self._uids[-1] if self._uids else 0

    # --- one message ----------------------------------------------------------------------------

    def message(self, number: int) -> tuple[int, int]:
        """UID and octets; raises NoSuchMessage."""
        at = self._index(number)
        return self._uids[at], self._sizes[at]

    def unique_id(self, number: int) -> str:
        """What UIDL tells of it; raises NoSuchMessage."""
        return f"{self.mailbox.uidvalidity}.{self._uids[self._index(number)]}"

    def delete(self, number: int) -> None:
        """Mark it as deleted; raises NoSuchMessage."""
        at = self._index(number)
        self._mark(at, _DELETED)
        self.count -= 1
        self.octets -= self._sizes[at]

    def read(self, number: int) -> None:
        """It was sent whole."""
        self._mark(number - 1, _READ)

    def _index(self, number: int) -> int:
        at = number - 1
        if not 0 <= at < len(self._uids) or (
            self._marks is not None and self._marks[at] & _DELETED
        ):
            raise NoSuchMessage
        return at

    def _mark(self, at: int, mark: int) -> None:
        if self._marks is None:
            self._marks = bytearray(len(self._uids))
        self._marks[at] |= mark

    # --- all of them ----------------------------------------------------------------------------

    def undelete(self) -> None:
        """RSET. RFC 1939 §5."""
        if self._marks is not None:
            self._marks = self._marks.translate(_UNDELETED)
        self.count = len(self._uids)
        self.octets = self._opened.octets

    def deleted(self) -> list[int]:
        """The UIDs of messages that are marked as deleted, ascending."""
        return self._marked(_IS_DELETED)

    def read_and_kept(self) -> list[int]:
        """The UIDs of messages that were sent whole and stay, ascending."""
        return self._marked(_IS_READ_AND_KEPT)

    def _marked(self, wanted: bytes) -> list[int]:
        # Two passes of C over what may be hundreds of thousands.
        return [] if self._marks is None else [*compress(self._uids, self._marks.translate(wanted))]

    def scan_listing(self) -> Iterator[bytes]:
        """LIST: number and octets of each message, some lines at a time."""
        for start in range(0, self.size, LINES):
            yield self._lines(b"%d %d\r\n", start, self._sizes[start : start + LINES])

    def unique_id_listing(self) -> Iterator[bytes]:
        """UIDL: number and unique id of each message, some lines at a time."""
        line = b"%%d %d.%%d\r\n" % self.mailbox.uidvalidity
        for start in range(0, self.size, LINES):
            yield self._lines(line, start, self._uids[start : start + LINES])

    def _lines(self, line: bytes, start: int, values: Sequence[int]) -> bytes:
        pairs = list(enumerate(values, start + 1))
        if self._marks is not None:
            marks = self._marks
            pairs = [pair for pair in pairs if not marks[pair[0] - 1] & _DELETED]
        return line * len(pairs) % tuple(chain.from_iterable(pairs))
