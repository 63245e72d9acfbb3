"""The server's ear: octets in, command lines out, one at a time and only when asked.

The caller feeds what the socket gave and pulls `next()` until it returns None. `expect_line` says
that the next line answers a challenge and is no command, so pipelined commands are read in the
state that their predecessors left. `feed` never refuses: the server pauses reading while
`buffered` is over its limit.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from postroom.wire.pop3.limits import COMMAND_LINE_CAP, DISCARD_CAP

_CONTROLS: Final = bytes([*range(32), 127])
_CR: Final = 0x0D


class Fault(enum.Enum):
    """Why a line was refused; the value is the sentence for the reply."""

    BARE_CR = "Lines end with CR LF: a bare CR was sent"
    BARE_LF = "Lines end with CR LF: a bare LF was sent"
    CONTROL = "Control characters are not allowed here"
    TOO_LONG = "The line is too long"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: the verb in upper case, and all that stands behind the space after it.

    The argument is as it was said: spaces may be part of a password (RFC 1939 §7). Both may hold
    octets beyond ASCII but no control characters; an empty line has an empty verb.
    """

    verb: bytes
    argument: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """The line that `expect_line` asked for, without its CRLF."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was refused whole and is gone.

    If `fatal`, the two sides no longer agree where a line ends: nothing more is read.
    """

    reason: Fault
    fatal: bool


Event = Command | Line | BadLine


class Receiver:
    """Frames what a POP3 client sends. Linear in its input, whatever the chopping."""

    __slots__ = (
        "_after_cr",
        "_buffer",
        "_cap",
        "_closed",
        "_discarded",
        "_position",
        "_raw",
        "_waiting",
        "_waiting_size",
    )

    def __init__(self) -> None:
        self._buffer = b""  # what is being read, from _position on
        self._position = 0
        self._waiting: list[bytes] = []  # fed since; joined only when next() needs it
        self._waiting_size = 0
        self._cap = COMMAND_LINE_CAP
        self._raw = False  # the next line is no command
        self._discarded = 0  # octets of an overlong line that are gone; 0: there is none
        self._after_cr = False  # and the last of them is a CR
        self._closed = False

    def feed(self, data: bytes) -> None:
        """Take what the socket gave. After a fatal BadLine it is dropped."""
        if data and not self._closed:
            self._waiting.append(data)
            self._waiting_size += len(data)

    @property
    def buffered(self) -> int:
        """Octets fed and not yet given out."""
        return len(self._buffer) - self._position + self._waiting_size

    @property
    def empty(self) -> bool:
        """True if the client has sent nothing beyond the last event.

        STLS is refused unless it is: nothing said before TLS may count after it (RFC 2595 §2.1),
        and the connection goes on over TLS with a new Receiver.
        """
        return self.buffered == 0 and not self._discarded

    def expect_line(self, limit: int) -> None:
        """A challenge was said: the next line, of at most `limit` octets, is no command.

        RFC 5034 §4. It comes as Line or as BadLine; then commands are expected again.
        """
        if limit < 2:
            raise ValueError("a line is at least its CRLF")
        self._raw = True
        self._cap = limit

    def next(self) -> Event | None:
        """The next event, or None if more input is needed."""
        if self._closed:
            return None
        if self._discarded:
            return self._discard()
        buffer, start, cap = self._buffer, self._position, self._cap
        # A search that found nothing is repeated when more came: at most `cap` octets.
        end = buffer.find(b"\n", start, start + cap)
        if end < 0 and self._waiting and len(buffer) - start < cap:
            buffer, start = self._gather(), 0
            end = buffer.find(b"\n", 0, cap)
        if end < 0:
            return None if len(buffer) - start < cap else self._discard()
        line = buffer[start : end + 1]
        self._consume(end + 1)
        # One pass: a good line loses exactly its CR and LF.
        if not line.endswith(b"\r\n") or len(line.translate(None, _CONTROLS)) != len(line) - 2:
            return self._bad_line(line)
        if self._raw:
            self._expect_commands()
            return Line(line[:-2])
        verb, _, argument = line[:-2].partition(b" ")
        return Command(verb.upper(), argument)  # in any case: RFC 1939 §3

    def _bad_line(self, line: bytes) -> BadLine:
        # Whoever passed this on may see another line end, and another command behind it: refuse,
        # never repair.
        if not line.endswith(b"\r\n"):
            return self._close(Fault.BARE_LF)
        if b"\r" in line[:-2]:
            return self._close(Fault.BARE_CR)
        self._expect_commands()
        return BadLine(Fault.CONTROL, fatal=False)

    def _discard(self) -> BadLine | None:
        """Drop an overlong line as it streams; it is reported at its end, or given up."""
        block = self._gather()
        end = block.find(b"\n")
        self._discarded += end + 1 if end >= 0 else len(block)
        if self._discarded > DISCARD_CAP:
            return self._close(Fault.TOO_LONG)
        if end < 0:
            if block:
                self._after_cr = block[-1] == _CR
            self._buffer = b""
            return None
        self._consume(end + 1)
        self._discarded = 0
        if not (block[end - 1] == _CR if end else self._after_cr):
            return self._close(Fault.BARE_LF)
        self._expect_commands()
        return BadLine(Fault.TOO_LONG, fatal=False)

    # --- the buffer ---------------------------------------------------------------------------

    def _gather(self) -> bytes:
        """All that is buffered, as one block that starts at 0; a lone block is not copied."""
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._position = 0
        if self._waiting:
            if self._buffer or len(self._waiting) > 1:
                self._buffer = b"".join((self._buffer, *self._waiting))
            else:
                self._buffer = self._waiting[0]
            self._waiting.clear()
            self._waiting_size = 0
        return self._buffer

    def _consume(self, position: int) -> None:
        """Go on at `position`; a buffer used up is let go, so that idle sessions stay small."""
        if position == len(self._buffer):
            self._buffer, self._position = b"", 0
        else:
            self._position = position

    def _expect_commands(self) -> None:
        self._raw = False
        self._cap = COMMAND_LINE_CAP

    def _close(self, reason: Fault) -> BadLine:
        self._closed = True
        self._discarded = 0
        self._buffer, self._position = b"", 0
        self._waiting.clear()
        self._waiting_size = 0
        return BadLine(reason, fatal=True)
