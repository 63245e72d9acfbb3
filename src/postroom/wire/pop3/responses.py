"""The client's ear: octets in, replies, challenges and lines out.

A reply does not say whether lines follow it: the client knows what it asked, and says
`expect_lines` before it pulls on. What follows then comes as Chunks, without stuffed dots and
with CRLFs, and an End; how much of it is kept is for the caller to say.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass

from postroom.core.errors import MailError, Status
from postroom.wire.pop3.content import Unstuffer
from postroom.wire.pop3.limits import RESPONSE_LINE_CAP
from postroom.wire.pop3.replies import Reply, parse_reply


class BadResponse(MailError):
    """What came is no POP3; the connection is of no more use."""

    status = Status(4, 5, 0)  # RFC 3463 §3.6: other protocol status; it may do better later
    sentence = "The other server does not speak POP3 properly"


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server goes on with an AUTH exchange: decoded. RFC 5034 §4."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of the lines that follow a reply, at least one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """The lines have ended."""


Response = Reply | Challenge | Chunk | End


class ResponseReader:
    """Reads what a POP3 server says, pipelined or not.

    Liberal in what costs nothing: a bare LF ends a reply line, which may be as long as a
    challenge. The client pauses reading while `buffered` is over its limit.
    """

    __slots__ = ("_buffer", "_ended", "_error", "_lines", "_position", "_waiting", "_waiting_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._lines: Unstuffer | None = None
        self._ended = False  # the lines have, and nobody was told
        self._error: BadResponse | None = None

    def feed(self, data: bytes) -> None:
        """Take what the socket gave."""
        if data and self._error is None:
            self._waiting.append(data)
            self._waiting_size += len(data)

    @property
    def buffered(self) -> int:
        """Octets fed and not yet given out."""
        return len(self._buffer) - self._position + self._waiting_size

    @property
    def empty(self) -> bool:
        """True if the server has said nothing beyond the last response.

        After the reply to STLS it must be, or what was added before TLS would be believed after
        it: RFC 2595 §2.1. The client then closes.
        """
        return self.buffered == 0 and self._lines is None and not self._ended

    def expect_lines(self) -> None:
        """The last reply is the first line of several. RFC 1939 §3."""
        if self._lines is not None or self._ended:
            raise RuntimeError("lines are expected already")
        self._lines = Unstuffer()

    def next(self) -> Response | None:
        """The next response, or None if more input is needed.

        Raises BadResponse, then and ever after, if the server does not speak POP3.
        """
        if self._error is not None:
            raise self._error
        if self._ended:
            self._ended = False
            return End()
        if self._lines is not None:
            return self._next_lines(self._lines)
        cap = RESPONSE_LINE_CAP
        end = self._buffer.find(b"\n", self._position, self._position + cap)
        if end < 0 and self._waiting and len(self._buffer) - self._position < cap:
            self._gather()
            end = self._buffer.find(b"\n", 0, cap)
        if end < 0:
            if len(self._buffer) - self._position >= cap:
                raise self._fail("the line is too long", b"")
            return None
        line = self._buffer[self._position : end].removesuffix(b"\r")
        self._position = end + 1
        if line == b"+" or line.startswith(b"+ "):
            return self._challenge(line[2:])
        reply = parse_reply(line)
        if reply is None:
            raise self._fail("no reply", line)
        return reply

    def _next_lines(self, lines: Unstuffer) -> Chunk | End | None:
        block = self._gather()
        text, rest = lines.feed(block)
        self._buffer = rest or b""
        if rest is not None:
            self._lines = None
            if not text:
                return End()
            self._ended = True
        return Chunk(text) if text else None

    def _challenge(self, encoded: bytes) -> Challenge:
        try:
            return Challenge(binascii.a2b_base64(encoded.strip(b" "), strict_mode=True))
        except binascii.Error:
            raise self._fail("a challenge that is no base64", encoded) from None

    def _gather(self) -> bytes:
        """All that is buffered, as one block that starts at 0."""
        if self._position or self._waiting:
            self._buffer = b"".join((self._buffer[self._position :], *self._waiting))
            self._position = 0
            self._waiting.clear()
            self._waiting_size = 0
        return self._buffer

    def _fail(self, what: str, line: bytes) -> BadResponse:
        self._error = BadResponse(detail=f"{what}: {line[:80]!r}")
        self._buffer, self._position = b"", 0
        self._waiting.clear()
        self._waiting_size = 0
        return self._error
