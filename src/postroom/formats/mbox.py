"""Mailboxes as one file: mbox, in the dialects that programs have written. RFC 4155.

A message begins with a line `From sender date` and ends with a blank line. What a body holds of
such lines is quoted with `>`, or not, as the dialect has it:

- mboxo quotes `From ` alone, so that `>From ` of a body comes back without its `>`;
- mboxrd quotes `>From ` too, and so tells all bodies apart: the one that is written here;
- mboxcl counts the body in a Content-Length and quotes besides; mboxcl2 counts and does not.

Reading streams: a file of many GB costs a few hundred KiB. Line ends stay as the file has them.
Nothing is lost: what stands before the first message comes as an entry of its own.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import islice
from typing import BinaryIO, Final, NamedTuple

from postroom.formats import headers
from postroom.formats.dates import format_date, parse_date

_BLOCK: Final = 64 << 10  # octets read at once
_HELD: Final = 4 << 10  # octets held back: what is judged may need as much to be seen
_LINE_MAX: Final = 1_000  # octets of a From line, and of the field line after it
_QUOTES_MAX: Final = 255  # `>` before a quoted line; one that has more is text
_HEADER_MAX: Final = 256 << 10  # how far a Content-Length is looked for
_SENDER_MAX: Final = 320
_SAMPLE: Final = 100  # messages by which the dialect is told
_DIGITS_MAX: Final = 15  # of a Content-Length
_NOBODY: Final = frozenset({b"", b"-", b"MAILER-DAEMON", b"???@???"})  # the last is Eudora's

_FROM: Final = b"From "
_WEEKDAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
# asctime, with or without a zone, and the date of RFC 5322, which some write instead.
_WHEN: Final = re.compile(
    rb"[ \t]" + _WEEKDAY + rb"[ ,]{1,3}"
    rb"(?:" + _MONTH + rb" {1,2}\d{1,2}|\d{1,2} " + _MONTH + rb" \d{4})"
    rb" {1,2}\d{1,2}:\d\d(?::\d\d)?(?!\d)[^\r\n]{0,100}"
)
_FIELD_LINE: Final = re.compile(rb"(?:>?From |[!-9;-~]{1,200}+[ \t]{0,200}+:)")
_LINE_ENDS: Final = re.compile(rb"(?:\r?\n){0,2}+")
_QUOTED: Final = re.compile(rb"\n>(?=>{0,%d}+From )" % (_QUOTES_MAX - 1))
_TO_QUOTE: Final = re.compile(rb"\n(?=>{0,%d}+From )" % (_QUOTES_MAX - 1))


class Dialect(Enum):
    """How the lines of a body that begin with `From ` are kept from being taken for others."""

    MBOXO = "mboxo"
    MBOXRD = "mboxrd"
    MBOXCL = "mboxcl"
    MBOXCL2 = "mboxcl2"

    @property
    def counts(self) -> bool:
        """Whether a Content-Length says where a message ends."""
        return self in (Dialect.MBOXCL, Dialect.MBOXCL2)


@dataclass(slots=True, eq=False)
class Entry:
    """One message of the file. Its content must be taken before the next entry is."""

    offset: int
    """Of its From line in the file."""
    sender: str
    """The reverse path, as written; empty for none, an unknown one, `-` and MAILER-DAEMON."""
    date: datetime | None
    """When it came in, if the From line says so; UTC where it names no zone."""
    chunks: Iterator[bytes] = field(repr=False)
    """The message in pieces, unquoted, without the blank line that parts it from the next."""
    garbage: bool = False
    """True for what stands before the first From line, or in a file without any."""

    def read(self) -> bytes:
        """The rest of the message at once."""
        return b"".join(self.chunks)


def read(file: BinaryIO, dialect: Dialect | None = None) -> Iterator[Entry]:
    """The messages of the file from where it stands; without a dialect, as `detect` finds.

    A From line has a date. After a blank line it may have an address alone, or nothing, if a
    header field follows; without a blank line before it, it needs date and field. So `From here
    on` in a body that nobody quoted is text. In a dialect that counts, a Content-Length is
    believed where it leads to a From line or to the end of a file that can seek.
    """
    if dialect is None:
        dialect = detect(file)
    return _Reader(file, dialect).entries()


def detect(file: BinaryIO) -> Dialect:
    """The dialect of the file from where it stands, and there it stands again.

    A stranger may put a Content-Length into one message, to swallow the next; so lengths count
    only if each of the first hundred messages has one that is right. mboxo cannot be told from
    mboxrd, which reads it well: they differ on `>>From ` alone. What cannot seek is mboxrd.
    """
    if not file.seekable():
        return Dialect.MBOXRD
    start = file.tell()
    unquoted = quoted = False
    seen = 0
    try:
        for extent in islice(_Reader(file, Dialect.MBOXCL).extents(), _SAMPLE):
            if extent is None:
                return Dialect.MBOXRD
            at, size = extent
            seen += 1
            file.seek(at)
            body = b"\n" + file.read(min(size, _BLOCK))
            unquoted = unquoted or b"\nFrom " in body
            quoted = quoted or b"\n>From " in body
    finally:
        file.seek(start)
    if not seen:
        return Dialect.MBOXRD
    return Dialect.MBOXCL2 if unquoted and not quoted else Dialect.MBOXCL


class _FromLine(NamedTuple):
    sender: str
    date: datetime | None
    end: int  # of the line in its buffer, before its line end's LF


def _from_line(data: bytes, at: int, *, blank: bool) -> _FromLine | None:
    """The From line behind the LF at `at`, if it is one; `blank`: a blank line stands before it."""
    if not data.startswith(_FROM, at + 1):
        return None
    end = data.find(b"\n", at + 1, at + 2 + _LINE_MAX)
    if end < 0:
        end = len(data)
        if end - at > _LINE_MAX:
            return None
    line = data[at + 1 : end]
    when = _WHEN.search(line, len(_FROM) - 1)
    if not (when and blank) and not _FIELD_LINE.match(data, end + 1):
        return None
    if when is not None:
        return _FromLine(_sender(line[len(_FROM) : when.start()]), parse_date(when[0]), end)
    rest = line[len(_FROM) :].strip()
    if not blank or len(rest.split()) > 1 or (rest and rest != b"-" and b"@" not in rest):
        return None
    return _FromLine(_sender(rest), None, end)


def _sender(text: bytes) -> str:
    text = text.strip().strip(b"<>")
    if len(text) > _SENDER_MAX or text.upper() in _NOBODY:
        return ""
    try:
        sender = text.decode("utf-8")
    except UnicodeDecodeError:
        sender = text.decode("latin-1")
    return sender if sender.isprintable() else ""


class _Reader:
    """A window on the file. Before each message it begins with the LF before its From line, and
    while one is read with what is not yet given away.
    """

    __slots__ = ("_base", "_data", "_dialect", "_done", "_file", "_size")

    def __init__(self, file: BinaryIO, dialect: Dialect) -> None:
        self._file = file
        self._dialect = dialect
        self._base = 0  # the offset of the window in the file
        self._data = b""
        self._done = False  # the window holds the end of the file
        self._size = -1  # of the file, where lengths are checked against it
        if file.seekable():
            self._base = here = file.tell()
            if dialect.counts:
                self._size = file.seek(0, os.SEEK_END)
                file.seek(here)

    def entries(self) -> Iterator[Entry]:
        self._first()
        while self._data:
            line = self._line()
            offset = self._base + 1
            if line is None:  # the first, or a file that changes while it is read
                entry = Entry(offset, "", None, self._content(None), garbage=True)
            else:
                self._drop(line.end)
                extent = self._extent() if self._size >= 0 else None
                entry = Entry(offset, line.sender, line.date, self._content(extent))
            yield entry
            deque(entry.chunks, maxlen=0)

    def extents(self) -> Iterator[tuple[int, int] | None]:
        """Offset and size of each body, as Content-Length says; None, and no more, without."""
        self._first()
        while self._data:
            line = self._line()
            if line is None:
                yield None
                return
            self._drop(line.end)
            extent = self._extent()
            yield extent
            if extent is None:
                return
            self._base = self._file.seek(sum(extent))
            self._data = b""
            self._done = False
            self._next_line()

    # --- the window --------------------------------------------------------------------------

    def _fill(self, size: int = _BLOCK) -> None:
        """Widen the window by a block."""
        block = self._file.read(size)
        if block:
            self._data += block
        else:
            self._done = True

    def _drop(self, size: int) -> None:
        self._data = self._data[size:]
        self._base += size

    def _see(self, size: int) -> None:
        """Widen the window to that size, if the file has as much."""
        while len(self._data) < size and not self._done:
            self._fill()

    def _first(self) -> None:
        """Go to the first line that is not blank: a From line, or garbage."""
        while True:
            self._see(_HELD)
            text = self._data.lstrip(b" \t\r\n")
            if text or self._done:
                break
            self._drop(len(self._data))
        if not text:
            self._data = b""
            return
        self._drop(max(self._data.rfind(b"\n", 0, len(self._data) - len(text)), 0))
        if not self._data.startswith(b"\n"):
            self._data = b"\n" + self._data
            self._base -= 1

    def _line(self) -> _FromLine | None:
        """The From line that the window begins with, if it is one."""
        self._see(2 * _HELD)
        return _from_line(self._data, 0, blank=True)

    def _next_line(self) -> None:
        """Go over the line ends between a counted body and the next From line."""
        self._see(_HELD)
        ends = _LINE_ENDS.match(self._data)
        size = ends.end() if ends else 0
        self._data = b"\n" + self._data[size:] if len(self._data) > size else b""
        self._base += size - 1

    # --- a message ---------------------------------------------------------------------------

    def _extent(self) -> tuple[int, int] | None:
        """Offset and size of the body, if the header counts it, and rightly."""
        block = headers.scan(self._data, 1)
        while block.end >= len(self._data) < _HEADER_MAX and not self._done:
            self._fill()
            block = headers.scan(self._data, 1)
        said = block.first(b"content-length")
        if said is None or not said.isdigit() or len(said) > _DIGITS_MAX:
            return None
        body, size = self._base + block.end, int(said)
        if body + size > self._size:
            return None
        here = self._file.tell()
        self._file.seek(body + size)
        after = self._file.read(_HELD)
        self._file.seek(here)
        ends = _LINE_ENDS.match(after)
        rest = after[ends.end() if ends else 0 :]
        if rest and _from_line(b"\n" + rest, 0, blank=True) is None:
            return None
        return body, size

    def _content(self, extent: tuple[int, int] | None) -> Iterator[bytes]:
        """The message behind the LF that the window begins with, up to the next From line.

        Given away is only what is judged: a From line and the line below it, the marks of a
        quoted line, the blank line at the end must not be cut.
        """
        skip = 1  # that LF
        judged = 0
        while True:
            seen = len(self._data) - (0 if self._done else _HELD)
            if extent is not None:
                stop = sum(extent) - self._base
                found = stop - 1 if stop <= len(self._data) or self._done else -1
                end = stop
            else:
                found = self._separator(judged, seen)
                end = found + 1 - self._blank(found)
                if found < 0 and self._done:
                    found = len(self._data)
                    end = found - self._blank(found - 1)
            if found >= 0:
                piece = self._plain(self._data[:end])[skip:]
                if extent is None:
                    self._drop(found)
                else:
                    self._drop(end)
                    self._next_line()
                if piece:
                    yield piece
                return
            line = self._data.rfind(b"\n", max(0, seen - _QUOTES_MAX - 8), max(0, seen))
            cut = line if line >= 0 else max(0, seen)
            judged = 1 if line >= 0 and extent is None else 0
            if cut:
                piece = self._plain(self._data[:cut])[skip:]
                skip = 0
                self._drop(cut)
                if piece:
                    yield piece
            self._fill()

    def _separator(self, at: int, end: int) -> int:
        """Where the LF before the next From line is, from `at` and before `end`; -1 for none."""
        data = self._data
        at = data.find(b"\nFrom ", at)
        while 0 <= at < end:
            if _from_line(data, at, blank=self._blank(at) > 0):
                return at
            at = data.find(b"\nFrom ", at + 1)
        return -1

    def _blank(self, at: int) -> int:
        """The size of the blank line that the LF at `at` ends; 0 where its line is not blank."""
        data = self._data
        if at < 1 or data[at : at + 1] != b"\n":
            return 0
        if data[at - 1] == 0x0A:
            return 1
        return 2 if data[max(at - 2, 0) : at] == b"\n\r" else 0

    def _plain(self, data: bytes) -> bytes:
        """Unquoted, as the dialect has it."""
        if self._dialect is Dialect.MBOXCL2 or b"\n>" not in data:
            return data
        if self._dialect is Dialect.MBOXRD:
            return _QUOTED.sub(b"\n", data) if b">From " in data else data
        return data.replace(b"\n>From ", b"\nFrom ")


# --- writing -----------------------------------------------------------------------------------


def write(
    chunks: Iterable[bytes], *, sender: str | None, date: datetime, crlf: bool = False
) -> Iterator[bytes]:
    """One message as an entry of mboxrd, in pieces. RFC 4155 Appendix A has its first line.

    Lines end in LF, or in CRLF with `crlf`, whatever they had. `sender` is the reverse path,
    None the null one. A message without a line end at its end gets one. Raises ValueError for a
    date without a zone.
    """
    end = b"\r\n" if crlf else b"\n"
    yield _first_line(sender, date.astimezone(UTC) if date.tzinfo else date) + end
    held = b"\n"  # as if a line had ended, so that the first one is quoted like the others
    skip = 1
    for chunk in _with_lf(chunks):
        data = held + chunk
        # The marks of a line that has only begun wait until it is known for a From line.
        cut = data.rfind(b"\n", max(0, len(data) - _QUOTES_MAX - 8))
        cut = len(data) if cut < 0 else cut
        if cut > skip:
            yield _TO_QUOTE.sub(b"\n>", data[:cut])[skip:].replace(b"\n", end)
        if cut:
            skip = 0
        held = data[cut:]
    rest = _TO_QUOTE.sub(b"\n>", held)[skip:]
    ended = held.endswith(b"\n") if held else False
    yield (rest + (b"\n" if ended else b"\n\n")).replace(b"\n", end)


def _first_line(sender: str | None, date: datetime) -> bytes:
    name = "".join([c if c.isprintable() and c != " " else "_" for c in sender or "MAILER-DAEMON"])
    weekday, day, month, year, clock, _ = format_date(date).split()
    # asctime, which pads the day with a blank. RFC 4155 Appendix A has it in UTC.
    return f"From {name} {weekday[:3]} {month} {int(day):2d} {clock} {year}".encode()


def _with_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same text with each CRLF as LF, wherever the pieces were cut."""
    held = b""
    for chunk in chunks:
        data = held + chunk
        held = b"\r" if data.endswith(b"\r") else b""
        yield data[: len(data) - len(held)].replace(b"\r\n", b"\n")
    yield held


def with_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same text with each bare LF as CRLF, wherever the pieces were cut: what an import of
    a file with LF keeps.
    """
    for chunk in _with_lf(chunks):
        yield chunk.replace(b"\n", b"\r\n")
