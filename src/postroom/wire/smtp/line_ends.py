"""Counting what a message's lines look like while they stream past.

The receiver reports it, the dot-stuffer refuses by it: both ends judge a bare CR or LF
by the same code, so what we send is what we would take.
"""

from __future__ import annotations

import io
from typing import Final

from postroom.wire.smtp.limits import TEXT_LINE

_LF: Final = b"\n"


class LineEnds:
    """Bare CRs, bare LFs, NULs, overlong lines and the size of a stream of octets.

    Any chopping of the stream gives the same answer once `close` was called. Linear, at
    memory speed: nothing here looks at an octet or at a line from Python.
    """

    __slots__ = ("_longest", "_newlines", "_open", "nul", "size")

    def __init__(self) -> None:
        # The C decoder behind text files notes which line ends it saw, a CRLF cut in two
        # included, in one pass: twice as fast as two searches and three times as counting.
        self._newlines = io.IncrementalNewlineDecoder(None, translate=False)
        self._open = 0  # octets since the last LF
        self._longest = 0
        self.nul = False
        self.size = 0

    def feed(self, block: bytes) -> None:
        """Take the next octets of the stream."""
        self.size += len(block)
        if not self.nul and 0 in block:
            self.nul = True
        self._newlines.decode(block.decode("latin-1"))
        self._measure(block)

    def close(self) -> None:
        """The stream is over: a CR still waiting for its LF was bare."""
        self._newlines.decode("", final=True)
        if self._open > TEXT_LINE:
            self._longest = max(self._longest, self._open)

    @property
    def bare_cr(self) -> bool:
        """True once a CR came without its LF."""
        return "\r" in self._kinds()

    @property
    def bare_lf(self) -> bool:
        """True once an LF came without its CR."""
        return "\n" in self._kinds()

    @property
    def longest_line(self) -> int:
        """The longest line in octets with its line end, if beyond 1,000; otherwise 0."""
        return self._longest

    def _kinds(self) -> tuple[str, ...]:
        seen = self._newlines.newlines
        if seen is None:
            return ()
        return (seen,) if isinstance(seen, str) else seen

    def _measure(self, block: bytes) -> None:
        """Hop from line end to line end in strides of up to 1,000 octets.

        The last LF within 1,000 octets of a line's start proves that no line up to it is too
        long, so an ordinary message costs one search for each 1,000 octets.
        """
        total = len(block)
        start = 0
        if self._open:
            end = block.find(_LF)
            if end < 0:
                self._open += total
                return
            if self._open + end >= TEXT_LINE:
                self._longest = max(self._longest, self._open + end + 1)
            start = end + 1
        while total - start > TEXT_LINE:
            end = block.rfind(_LF, start, start + TEXT_LINE)
            if end < 0:
                end = block.find(_LF, start + TEXT_LINE)
                if end < 0:
                    self._open = total - start
                    return
                self._longest = max(self._longest, end + 1 - start)
            start = end + 1
        end = block.rfind(_LF, start)
        self._open = total - (end + 1 if end >= 0 else start)
