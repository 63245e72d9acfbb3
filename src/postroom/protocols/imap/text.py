"""Looks for strings in a message: in its header fields, and in its texts as `formats.texts` has
them, which is what the index of searches knows too. RFC 3501 §6.4.4.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

from postroom.formats import headers
from postroom.formats.dates import parse_date
from postroom.formats.folding import fold
from postroom.formats.parsed import SUBJECT_MAX
from postroom.formats.texts import Piece, body_texts, header_text
from postroom.formats.words import decode_words

EPOCH: Final = date(1970, 1, 1).toordinal()
"""The day from which days are counted."""


class HeaderText:
    """A header block to search: read when a field is asked for, and each is decoded once."""

    __slots__ = ("_raw", "_scanned", "_texts")

    def __init__(self, raw: bytes) -> None:
        """`raw` may go on after the header block."""
        self._raw = raw
        self._scanned: headers.Headers | None = None
        self._texts: dict[str, list[str]] = {}

    @property
    def _fields(self) -> headers.Headers:
        if self._scanned is None:
            self._scanned = headers.scan(self._raw)
        return self._scanned

    def contains(self, name: str, folded: str) -> bool:
        """Whether a field of that name holds the text; the empty text asks for the field."""
        return any(folded in text for text in self._of(name))

    def _of(self, name: str) -> list[str]:
        texts = self._texts.get(name)
        if texts is None:
            values = self._fields.all(name.encode("utf-8"))
            if name.lower() == "subject":
                texts = [subject_text(value) for value in values[:1]]
            else:
                texts = [fold(decode_words(value)) for value in values]
            self._texts[name] = texts
        return texts

    def sent_day(self) -> int | None:
        """The day that the Date field names, in its own zone, counted from 1970."""
        value = self._fields.first(b"Date")
        at = parse_date(value) if value else None
        return at.date().toordinal() - EPOCH if at is not None else None


def subject_text(value: bytes) -> str:
    """A Subject as it is searched: what `formats.parsed` keeps of it, folded."""
    return fold(decode_words(value[: 4 * SUBJECT_MAX])[:SUBJECT_MAX])


@dataclass(frozen=True, slots=True)
class Found:
    """Which of the strings that were looked for stand in the header, and which in the body."""

    header: frozenset[str]
    body: frozenset[str]


def look(raw: bytes, in_header: Collection[str], in_body: Collection[str]) -> Found:
    """Look for folded strings: `in_header` in header and body, `in_body` in the body alone.

    What was found in the header is not looked for in the body too.
    """
    header: frozenset[str] = frozenset()
    if in_header:
        seeker = _Seeker(in_header)
        seeker.feed(header_text(raw, 0, len(raw)))
        header = frozenset(seeker.found)
    wanted = (set(in_header) - header) | set(in_body)
    if not wanted:
        return Found(header, frozenset())
    seeker = _Seeker(wanted)
    for pieces in body_texts(raw):
        for piece in pieces:
            seeker.take(piece)
            if not seeker.left:
                return Found(header, frozenset(seeker.found))
        seeker.stop()
    return Found(header, frozenset(seeker.found))


class _Seeker:
    """Looks for strings in a text that comes in pieces."""

    __slots__ = ("_kept", "_tail", "found", "left")

    def __init__(self, strings: Collection[str]) -> None:
        self.left = set(strings)
        self.found: set[str] = set()
        self._kept = max(map(len, strings)) - 1
        self._tail = ""

    def take(self, piece: Piece) -> None:
        """Look in a piece as it is, and decode it only if that does not find all."""
        hits = piece.holding(self.left)
        self.left -= hits
        self.found |= hits
        if self.left:
            self.feed(piece.text)

    def feed(self, piece: str) -> None:
        text = self._tail + fold(piece)
        hits = {string for string in self.left if string in text}
        self.left -= hits
        self.found |= hits
        self._tail = text[-self._kept :] if self._kept else ""

    def stop(self) -> None:
        """The text ends here: what comes next is another."""
        self._tail = ""
