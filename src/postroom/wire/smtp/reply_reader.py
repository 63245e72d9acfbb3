"""The client's ear: octets in, replies out."""

from __future__ import annotations

import re
from typing import Final

from postroom.core.errors import Status
from postroom.wire.smtp.errors import BadReply
from postroom.wire.smtp.limits import REPLY_LINE_CAP, REPLY_LINES_CAP
from postroom.wire.smtp.replies import Reply

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STATUS: Final = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |$)")  # RFC 3463 §2


class ReplyReader:
    """Reads the replies of an SMTP or LMTP server, pipelined or not.

    Liberal in what costs nothing: a bare LF ends a line (a reply is text for people and logs,
    nothing is framed by it further on), lines may be of up to 4 KiB, the codes of one reply
    may differ (the last counts), a status may be missing. At most 100 lines in a reply.

    Back-pressure: the client pauses reading while `buffered` is over its limit; a reply itself
    holds no more than 100 lines.
    """

    __slots__ = ("_buffer", "_error", "_lines", "_position", "_waiting", "_waiting_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._lines: list[str] = []  # of the reply that is being read
        self._error: BadReply | None = None

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
        """True if the server has said nothing beyond the last reply.

        After the reply to STARTTLS it must be, or what was added before TLS would be believed
        after it: RFC 3207 §6. The client then closes.
        """
        return self.buffered == 0 and not self._lines

    def next(self) -> Reply | None:
        """The next reply, or None if more input is needed.

        Raises BadReply, then and ever after, if the server does not speak SMTP.
        """
        if self._error is not None:
            raise self._error
        while (line := self._next_line()) is not None:
            code = line[:3]
            if len(code) < 3 or not code.isdigit() or code[0] not in b"2345":
                raise self._fail("No reply code", line)
            separator = line[3:4]
            if separator not in (b" ", b"-", b""):
                raise self._fail("No space or hyphen after the reply code", line)
            self._lines.append(_CONTROL.sub("?", line[4:].decode("utf-8", "replace")))
            if separator != b"-":
                lines, self._lines = self._lines, []
                return _reply(int(code), lines)
            if len(self._lines) >= REPLY_LINES_CAP:
                raise self._fail("Too many lines in a reply", line)
        return None

    def _next_line(self) -> bytes | None:
        cap = REPLY_LINE_CAP
        end = self._buffer.find(b"\n", self._position, self._position + cap)
        if end < 0 and self._waiting:
            # What is left is shorter than a line, or the line is too long already.
            self._buffer = b"".join((self._buffer[self._position :], *self._waiting))
            self._position = 0
            self._waiting.clear()
            self._waiting_size = 0
            end = self._buffer.find(b"\n", 0, cap)
        if end < 0:
            if len(self._buffer) - self._position >= cap:
                raise self._fail("Reply line too long", b"")
            return None
        line = self._buffer[self._position : end]
        self._position = end + 1
        return line.removesuffix(b"\r")

    def _fail(self, what: str, line: bytes) -> BadReply:
        self._error = BadReply(detail=f"{what}: {line[:80]!r}")
        self._buffer, self._position = b"", 0
        self._waiting.clear()
        self._waiting_size = 0
        self._lines.clear()
        return self._error


def _reply(code: int, lines: list[str]) -> Reply:
    """Part the enhanced status from the text: it is in every line or only in some."""
    status = None
    texts = []
    for line in lines:
        found = _STATUS.match(line)
        if found is not None and int(found.group(1)) == code // 100:
            klass, subject, detail = map(int, found.groups())
            status = Status(klass, subject, detail)
            line = line[found.end() :]  # noqa: PLW2901 - the rest of the same line
        texts.append(line)
    return Reply(code, status, tuple(texts))
