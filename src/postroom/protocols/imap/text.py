"""The text of a message, for searching: decoded piece by piece, never all of it at once.

Text parts are decoded from their transfer encoding and charset; headers of body parts and of
messages inside the message are text of the body too. Other parts hold no text. Linear in the
message whatever it holds, and bounded: a piece is about 256 KiB, cut at a line end (a line of over
1 MiB is cut anywhere, and a string across that cut is not found). RFC 3501 §6.4.4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from postroom.formats import charsets, headers, mime
from postroom.formats.dates import parse_date
from postroom.formats.folding import fold
from postroom.formats.mime import Part
from postroom.formats.parsed import SUBJECT_MAX
from postroom.formats.transfer import Decoder
from postroom.formats.words import decode_words

PIECE: Final = 256 * 1024
EPOCH: Final = date(1970, 1, 1).toordinal()
"""The day from which days are counted."""

_LINE_MOST: Final = 1024 * 1024


class HeaderText:
    """A header block to search: fields are decoded when they are asked for, once."""

    __slots__ = ("_fields", "_texts")

    def __init__(self, raw: bytes) -> None:
        """`raw` may go on after the header block."""
        self._fields = headers.scan(raw)
        self._texts: dict[str, list[str]] = {}

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
            seeker.feed(piece)
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

    def feed(self, piece: str) -> None:
        text = self._tail + fold(piece)
        hits = {string for string in self.left if string in text}
        self.left -= hits
        self.found |= hits
        self._tail = text[-self._kept :] if self._kept else ""

    def stop(self) -> None:
        """The text ends here: what comes next is another."""
        self._tail = ""


def header_text(raw: bytes, start: int, end: int) -> str:
    """The header block at `start` as text, a line for each field."""
    found = headers.scan(raw, start, end)
    return "\r\n".join(
        f"{each.name.decode('latin-1')}: {decode_words(each.value(raw))}" for each in found.fields
    )


def body_texts(raw: bytes) -> Iterator[Iterator[str]]:
    """The texts of the body one after the other, each in pieces."""
    root = mime.scan(raw)
    for part in root.walk():
        if part is not root and part.body > part.start:
            yield iter((header_text(raw, part.start, part.body),))
        if part.end > part.body and (part.type == b"text" or _is_report(part)):
            yield _pieces(raw, part)


def _is_report(part: Part) -> bool:
    """Such as message/delivery-status: text of which people remember a line. RFC 3464 §2."""
    return part.type == b"message" and not part.is_message


def _pieces(raw: bytes, part: Part) -> Iterator[str]:
    charset = _charset(part)
    codec = charsets.lookup(charset) if charset else None
    wide = codec is not None and codec.startswith(("utf-16", "utf-32"))
    decoder = Decoder((part.encoding or b"").decode("latin-1"))
    held = b""
    for start in range(part.body, part.end, PIECE):
        stop = min(start + PIECE, part.end)
        held += decoder.feed(raw[start:stop])
        if stop == part.end:
            held += decoder.flush()
            cut = len(held)
        elif wide:
            cut = len(held) & ~3  # whole characters, but for a pair of surrogates
        else:
            cut = held.rfind(b"\n") + 1
            if not cut and len(held) < _LINE_MOST:
                continue
            cut = cut or len(held)
        yield charsets.decode(held[:cut], charset)
        held = held[cut:]


def _charset(part: Part) -> str | None:
    for name, value in part.params:
        if name.lower() == b"charset":
            return value.decode("latin-1")
    return None
