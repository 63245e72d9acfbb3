"""The server's ear: octets in, events out, one at a time and only when asked.

The caller feeds what the socket gave and pulls `next()` until it returns None. Because
events are made on demand, a pipelined command is read in the state that the reply to its
predecessor left: `expect_data`, `expect_chunk` and `expect_line` say what the octets that
follow mean (RFC 2920 §3.2). The same class serves LMTP (RFC 2033), which frames alike.

Back-pressure: `feed` never refuses, so the server pauses reading while `buffered` is over
its limit (64 KiB before sign-in) and resumes when it has fallen below. In DATA and BDAT
every `next()` takes all that is buffered, so the limit bounds a chunk's size too.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from postroom.wire.lines import BadLine, Fault, Line, LineReader
from postroom.wire.smtp.limits import COMMAND_LINE_CAP, DISCARD_CAP
from postroom.wire.smtp.line_ends import LineEnds

__all__ = [
    "BadLine",
    "ChunkEnd",
    "Command",
    "DataChunk",
    "DataEnd",
    "Event",
    "Fault",
    "Line",
    "Receiver",
]

_DOT: Final = 0x2E
_CR: Final = 0x0D
_END: Final = b".\r\n"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line. The verb is in upper case, the argument without outer spaces.

    Both may hold octets beyond ASCII but no control characters; an empty line has an
    empty verb.
    """

    verb: bytes
    argument: bytes


@dataclass(frozen=True, slots=True)
class DataChunk:
    """Octets of the message, at least one; dots unstuffed, CRLFs kept."""

    data: bytes


@dataclass(frozen=True, slots=True)
class DataEnd:
    """CRLF.CRLF came. A message with a bare CR or LF must be refused: RFC 5321 §2.3.8."""

    bare_cr: bool
    bare_lf: bool
    nul: bool
    longest_line: int  # octets with its CRLF if beyond 1,000, otherwise 0: RFC 5321 §4.5.3.1.6
    size: int  # octets of the message, unstuffed


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """The chunk of BDAT is complete. The rest counts the message so far: RFC 3030 §2.

    A CR at the end of a chunk that is not the last is judged with the next one.
    """

    last: bool
    bare_cr: bool
    bare_lf: bool
    nul: bool
    longest_line: int
    size: int


Event = Command | BadLine | Line | DataChunk | DataEnd | ChunkEnd


class _Mode(enum.Enum):
    COMMAND = enum.auto()
    LINE = enum.auto()
    DATA = enum.auto()
    CHUNK = enum.auto()


class Receiver(LineReader):
    """Frames what an SMTP or LMTP client sends."""

    __slots__ = (
        "_at_line_start",
        "_ended",
        "_last",
        "_lines",
        "_mode",
        "_remaining",
    )

    def __init__(self) -> None:
        super().__init__(COMMAND_LINE_CAP, DISCARD_CAP)
        self._mode = _Mode.COMMAND
        self._lines = LineEnds()
        self._at_line_start = True
        self._ended = False
        self._remaining = 0
        self._last = False

    # --- what the server does -----------------------------------------------------------

    def expect_data(self) -> None:
        """The reply to DATA is 354: the message follows, up to CRLF.CRLF."""
        self._enter(_Mode.DATA)
        self._lines = LineEnds()
        self._at_line_start = True  # the CRLF of the DATA line counts: RFC 5321 §4.1.1.4
        self._ended = False

    def expect_chunk(self, size: int, last: bool) -> None:
        """BDAT was said: exactly `size` octets follow, even if it will be refused.

        RFC 3030 §2. Line ends are judged over all chunks since the last `last`, or since
        `forget_chunks`.
        """
        if size < 0:
            raise ValueError("a chunk has no negative size")
        self._enter(_Mode.CHUNK)
        self._remaining = size
        self._last = last

    def forget_chunks(self) -> None:
        """The transaction was dropped (RSET, EHLO, a refused BDAT): the next starts afresh."""
        self._lines = LineEnds()

    def expect_line(self, limit: int) -> None:
        """The reply is 334: the next line, of at most `limit` octets with its CRLF, is no command.

        RFC 4954 §4. It comes as Line or as BadLine; then commands are expected again.
        """
        if limit < 2:
            raise ValueError("a line is at least its CRLF")
        self._enter(_Mode.LINE)
        self.cap = limit

    def next(self) -> Event | None:
        """The next event, or None if more input is needed."""
        match self._mode:
            case _Mode.COMMAND | _Mode.LINE:
                return self._next_line()
            case _Mode.DATA:
                return self._next_data()
            case _Mode.CHUNK:
                return self._next_chunk()

    def _next_line(self) -> Command | Line | BadLine | None:
        found = self.read_line()
        if found is None:
            return None
        asked = self._mode is _Mode.LINE
        self._expect_commands()
        if isinstance(found, BadLine):
            return found
        if asked:
            return Line(found)
        verb, _, argument = found.partition(b" ")
        # RFC 5321 §4.1.1: trailing space is tolerated; §2.4: verbs in any case.
        return Command(verb.upper(), argument.strip(b" "))

    # --- DATA -----------------------------------------------------------------------------

    def _next_data(self) -> DataChunk | DataEnd | None:
        if self._ended:
            return self._data_end()
        block = self.gather()
        if not block:
            return None
        if self._at_line_start and block[0] == _DOT:
            if block.startswith(_END):
                self.consume(len(_END))
                return self._data_end()
            if _END.startswith(block):
                return None
            block = block[1:]  # RFC 5321 §4.5.2

        body, kept, self._ended = _part(block)
        self.keep(kept)
        if not body:
            return None
        self._at_line_start = body.endswith(b"\r\n")
        self._lines.feed(body)
        return DataChunk(body)

    def _data_end(self) -> DataEnd:
        lines = self._lines
        lines.close()
        self._expect_commands()
        self._lines = LineEnds()
        return DataEnd(lines.bare_cr, lines.bare_lf, lines.nul, lines.longest_line, lines.size)

    # --- BDAT -----------------------------------------------------------------------------

    def _next_chunk(self) -> DataChunk | ChunkEnd | None:
        if self._remaining:
            block = self.gather()
            if not block:
                return None
            body = block[: self._remaining]
            self.consume(len(body))
            self._remaining -= len(body)
            self._lines.feed(body)
            return DataChunk(body)
        lines, last = self._lines, self._last
        if last:
            lines.close()
            self._lines = LineEnds()
        self._expect_commands()
        return ChunkEnd(
            last, lines.bare_cr, lines.bare_lf, lines.nul, lines.longest_line, lines.size
        )

    def _enter(self, mode: _Mode) -> None:
        if self._mode is not _Mode.COMMAND:
            raise RuntimeError(f"cannot enter {mode.name} from {self._mode.name}")
        self._mode = mode

    def _expect_commands(self) -> None:
        self._mode = _Mode.COMMAND
        self.cap = COMMAND_LINE_CAP


def _part(block: bytes) -> tuple[bytes, bytes, bool]:
    """Part a block of DATA that is not at its end: text without its dots, the rest, the end.

    If the end was found the rest is what follows it; if not, it is a tail that may be the
    start of the end. The first octet is no stuffed dot any more.

    Only CRLF.CRLF ends DATA. Every other mixture of CR, LF and dots is text, is noted by
    LineEnds, and has the message refused at its true end: RFC 5321 §4.1.1.4.
    """
    # In CPython rfind of a short needle takes half the time of find, and split with join
    # half that of replace.
    if block.rfind(b"\r\n.") < 0:
        return (block[:-1], b"\r", False) if block[-1] == _CR else (block, b"", False)
    end = block.rfind(b"\r\n.\r\n")
    if end >= 0:
        if block.rfind(b"\r\n.", 0, end) < 0:  # most messages: the only dot is the last
            return block[: end + 2], block[end + 5 :], True
        end = block.find(b"\r\n.\r\n")
        body, kept = block[: end + 2], block[end + 5 :]
    elif block.endswith(b"\r\n.\r"):
        body, kept = block[:-2], block[-2:]
    elif block.endswith((b"\r\n.", b"\r")):
        body, kept = block[:-1], block[-1:]
    else:
        body, kept = block, b""
    return b"\r\n".join(body.split(b"\r\n.")), kept, end >= 0  # RFC 5321 §4.5.2
