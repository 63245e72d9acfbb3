"""Lines of a peer, framed strictly: what SMTP, LMTP and POP3 read commands with.

A line ends with CR LF and with nothing else. A bare CR or LF may be a line end to whoever passed
the octets on, and a command of someone else's may follow it (RFC 5321 §2.3.8): such a line is
refused and nothing more is read, never repaired. Linear in the input, whatever the chopping.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

_CONTROLS: Final = bytes([*range(32), 127])
_CR: Final = 0x0D


class Fault(enum.Enum):
    """Why a line was refused; the value is the sentence for the reply."""

    BARE_CR = "Lines end with CR LF: a bare CR was sent"
    BARE_LF = "Lines end with CR LF: a bare LF was sent"
    CONTROL = "Control characters are not allowed here"
    TOO_LONG = "The line is too long"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was refused whole and is gone.

    If `fatal`, the two sides no longer agree where a line ends: the reader reads nothing more,
    and the server replies and closes.
    """

    reason: Fault
    fatal: bool


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was asked for and is no command, without its CRLF."""

    data: bytes


class LineReader:
    """Holds what was fed, and gives out a line at a time. `cap` bounds one with its CRLF."""

    __slots__ = (
        "_after_cr",
        "_buffer",
        "_closed",
        "_discard_cap",
        "_discarded",
        "_overlong",
        "_position",
        "_waiting",
        "_waiting_size",
        "cap",
    )

    def __init__(self, cap: int, discard_cap: int) -> None:
        """An overlong line is waited out up to `discard_cap` octets, then given up."""
        self.cap = cap
        self._discard_cap = discard_cap
        self._buffer = b""  # what is being read, from _position on
        self._position = 0
        self._waiting: list[bytes] = []  # fed since; joined only when it is needed
        self._waiting_size = 0
        self._overlong = False  # within a line that was too long
        self._discarded = 0  # octets of it that are gone
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
        """True if the peer has sent nothing beyond what was given out.

        An upgrade to TLS is refused unless it is: nothing said before may count after it
        (RFC 3207 §6, RFC 2595 §2.1), and the connection goes on with a new reader.
        """
        return self.buffered == 0 and not self._overlong

    def read_line(self) -> bytes | BadLine | None:
        """The next line without its CRLF, why it was refused, or None if more input is needed."""
        if self._closed:
            return None
        if self._overlong:
            return self._discard()
        buffer, start, cap = self._buffer, self._position, self.cap
        # A search that found nothing is repeated when more came: at most `cap` octets.
        end = buffer.find(b"\n", start, start + cap)
        if end < 0 and self._waiting and len(buffer) - start < cap:
            buffer, start = self.gather(), 0
            end = buffer.find(b"\n", 0, cap)
        if end < 0:
            if len(buffer) - start < cap:
                return None
            self._overlong, self._discarded, self._after_cr = True, 0, False
            return self._discard()
        line = buffer[start : end + 1]
        self.consume(end + 1)
        # One pass: a good line loses exactly its CR and LF.
        if line.endswith(b"\r\n") and len(line.translate(None, _CONTROLS)) == len(line) - 2:
            return line[:-2]
        if not line.endswith(b"\r\n"):
            return self._close(Fault.BARE_LF)
        if b"\r" in line[:-2]:
            return self._close(Fault.BARE_CR)
        return BadLine(Fault.CONTROL, fatal=False)

    def _discard(self) -> BadLine | None:
        """Drop an overlong line as it streams; it is reported at its end, or given up."""
        block = self.gather()
        end = block.find(b"\n")
        self._discarded += end + 1 if end >= 0 else len(block)
        if self._discarded > self._discard_cap:
            return self._close(Fault.TOO_LONG)
        if end < 0:
            if block:
                self._after_cr = block[-1] == _CR
            self._buffer = b""
            return None
        self.consume(end + 1)
        if not (block[end - 1] == _CR if end else self._after_cr):
            return self._close(Fault.BARE_LF)
        self._overlong = False
        return BadLine(Fault.TOO_LONG, fatal=False)

    def _close(self, reason: Fault) -> BadLine:
        self._closed = True
        self._overlong = False
        self._buffer, self._position = b"", 0
        self._waiting.clear()
        self._waiting_size = 0
        return BadLine(reason, fatal=True)

    # --- the buffer, for what is no line ------------------------------------------------------

    def gather(self) -> bytes:
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

    def consume(self, position: int) -> None:
        """Go on at `position`; a buffer used up is let go, so that idle sessions stay small."""
        if position == len(self._buffer):
            self._buffer, self._position = b"", 0
        else:
            self._position = position

    def keep(self, rest: bytes) -> None:
        """Go on with `rest` in place of what `gather` gave."""
        self._buffer, self._position = rest, 0
