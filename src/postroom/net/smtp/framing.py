"""The content on its way out: blocks of a good size, framed for DATA or for BDAT.

Both framings refuse what could be read as a second message behind us, and find out before the
last octet has left whether the content is what its size promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from postroom.core.errors import Corrupt
from postroom.net.smtp.values import Content
from postroom.wire.smtp import BareLineEnd, Bdat, DotStuffer, LineEnds, bdat_command

BLOCK: Final = 65_536  # octets that leave as one write


class Framing(Protocol):
    """The content's octets to the line's. Raises BareLineEnd, Corrupt."""

    def feed(self, block: bytes) -> bytes: ...

    def finish(self) -> bytes:
        """The end, which stands only when nothing is wrong with the whole."""
        ...


class Dotted:
    """For DATA: dots stuffed, a final dot. RFC 5321 §4.5.2."""

    __slots__ = ("_count", "_stuffer")

    def __init__(self, size: int) -> None:
        self._count = _Count(size)
        self._stuffer = DotStuffer()

    def feed(self, block: bytes) -> bytes:
        self._count.feed(block)
        return self._stuffer.feed(block)

    def finish(self) -> bytes:
        self._count.finish()
        return self._stuffer.finish()


class Chunked:
    """For BDAT: one chunk of the announced size. RFC 3030 §2.

    Line ends are judged although a chunk is not framed by them: the next hop may use DATA.
    """

    __slots__ = ("_count", "_lines", "_opening")

    def __init__(self, size: int, *, binary: bool) -> None:
        self._count = _Count(size)
        self._lines = None if binary else LineEnds()
        self._opening = bdat_command(Bdat(size, last=True))

    def feed(self, block: bytes) -> bytes:
        self._count.feed(block)
        if self._lines is not None:
            self._lines.feed(block)
            _refuse_bare(self._lines)
        return self._take_opening() + block

    def finish(self) -> bytes:
        self._count.finish()
        if self._lines is not None:
            self._lines.close()
            _refuse_bare(self._lines)
        return self._take_opening()

    def _take_opening(self) -> bytes:
        opening, self._opening = self._opening, b""
        return opening


class _Count:
    """Holds the content to its size: what is too much would be read as commands."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def feed(self, block: bytes) -> None:
        self._left -= len(block)
        if self._left < 0:
            raise Corrupt(detail="the content is longer than its size")

    def finish(self) -> None:
        if self._left:
            raise Corrupt(detail=f"the content is {self._left} octets shorter than its size")


def _refuse_bare(lines: LineEnds) -> None:
    if lines.bare_cr or lines.bare_lf:
        raise BareLineEnd


def blocks(content: Content) -> Iterator[bytes]:
    """The content in blocks of `BLOCK` octets, the last one shorter, whatever its slices."""
    waiting: list[bytes] = []
    size = 0
    for each in content.slices():
        waiting.append(each)
        size += len(each)
        if size < BLOCK:
            continue
        whole = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        end = size - size % BLOCK
        for start in range(0, end, BLOCK):
            yield whole[start : start + BLOCK]
        waiting = [whole[end:]]
        size -= end
    if size:
        yield b"".join(waiting)
