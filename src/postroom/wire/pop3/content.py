"""The content of messages on its way: line ends, the lines that TOP asks for, the dots.

Each takes a stream in pieces, cut anywhere, and gives the same octets whatever the cuts. Linear,
with no more than a few octets held back. A server chains Crlf, Top if it was asked for, and
Stuffer; a client has Unstuffer.
"""

from __future__ import annotations

from typing import Final

_DOT: Final = 0x2E
_CR: Final = 0x0D
_END: Final = b".\r\n"


class Crlf:
    """Makes every line end in CRLF: a bare LF and a bare CR are line ends too.

    Nothing is kept here with others. Were there one all the same, a client that takes a bare LF
    for a line end would see the end of the message where an attacker wants it, and take what
    follows for replies: so it never leaves.
    """

    __slots__ = ("_cr",)

    def __init__(self) -> None:
        self._cr = False  # a CR was last: the next octet says what it is

    def feed(self, data: bytes) -> bytes:
        """What is certain so far, whole lines or not."""
        if not data:
            return b""
        if self._cr:
            data = b"\r" + data
        self._cr = data[-1] == _CR
        if self._cr:
            data = data[:-1]
        pairs = data.count(b"\r\n")
        if data.count(b"\n") == pairs and data.count(b"\r") == pairs:
            return data
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """The rest, at the end of the stream."""
        held, self._cr = self._cr, False
        return b"\r\n" if held else b""


class Top:
    """Lets pass the header, the blank line, and so many lines of the body. RFC 1939 §7.

    Takes what Crlf gives: no piece ends between CR and LF. Once `done`, nothing more passes.
    """

    __slots__ = ("_at_line_start", "_in_header", "_left", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._in_header = True
        self._at_line_start = True
        self.done = False

    def feed(self, data: bytes) -> bytes:
        """What passes of the next octets."""
        if self.done or not data:
            return b""
        start = 0
        if self._in_header:
            start = self._header_end(data)
            self._at_line_start = data.endswith(b"\r\n")
            if not start:
                return data
            self._in_header = False
        body = data[start:]
        if body.count(b"\n") < self._left:
            self._left -= body.count(b"\n")
            return data
        self.done = True
        rest = body.split(b"\n", self._left)[-1]  # what lies behind so many lines
        return data[: len(data) - len(rest)]

    def _header_end(self, data: bytes) -> int:
        """Where the body begins; 0 if not here."""
        if self._at_line_start and data.startswith(b"\r\n"):
            return 2
        found = data.find(b"\r\n\r\n")
        return found + 4 if found >= 0 else 0


class Stuffer:
    """Doubles the dot that begins a line, and ends the whole with one. RFC 1939 §3.

    Takes what Crlf gives: no piece ends between CR and LF.
    """

    __slots__ = ("_at_line_start",)

    def __init__(self) -> None:
        self._at_line_start = True

    def feed(self, data: bytes) -> bytes:
        """The octets to send."""
        if not data:
            return b""
        begins_with_dot = self._at_line_start and data[0] == _DOT
        self._at_line_start = data.endswith(b"\r\n")
        if data.rfind(b"\r\n.") >= 0:  # in CPython rfind, split and join take half the time
            data = b"\r\n..".join(data.split(b"\r\n."))
        return b"." + data if begins_with_dot else data

    def finish(self) -> bytes:
        """The end: a CRLF if the last line lacks it, and the dot."""
        return _END if self._at_line_start else b"\r\n" + _END


class Unstuffer:
    """Reads lines up to the lone dot. RFC 1939 §3. Only CRLF.CRLF ends them: every other mixture
    of CR, LF and dots is text."""

    __slots__ = ("_at_line_start", "_held")

    def __init__(self) -> None:
        self._at_line_start = True
        self._held = b""  # it may be the beginning of the end

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """The text in the next octets, without the dots that were doubled; and, once the end has
        come, what lies behind it: then this is of no more use."""
        block = self._held + data
        self._held = b""
        if self._at_line_start and block[:1] == b".":
            if block.startswith(_END):
                return b"", block[len(_END) :]
            if _END.startswith(block):
                self._held = block
                return b"", None
            block = block[1:]
            self._at_line_start = False
        end = block.find(b"\r\n.\r\n")
        if end >= 0:
            return _plain(block[: end + 2]), block[end + 5 :]
        for tail in (b".\r", b".", b"\r"):
            # Of CRLF and a dot the line end is certain already.
            if block.endswith(tail if tail == b"\r" else b"\r\n" + tail):
                block, self._held = block[: -len(tail)], tail
                break
        if block:
            self._at_line_start = block.endswith(b"\r\n")
        return _plain(block), None


def _plain(block: bytes) -> bytes:
    return b"\r\n".join(block.split(b"\r\n.")) if block.rfind(b"\r\n.") >= 0 else block
