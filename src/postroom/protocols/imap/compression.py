"""DEFLATE over a connection: what COMPRESS turns on. RFC 4978, RFC 1951.

Both ways are bounded. What comes is inflated a step at a time, as much as is looked at next, so
that a few octets that stand for very many cost no memory. What goes out is compressed as it is
written and flushed when nobody writes any more; the compressor of a session that rests is let go,
for it is most of what such a session would hold.
"""

from __future__ import annotations

import zlib
from typing import Final

from postroom.core.errors import Malformed

STEP: Final = 16 * 1024
"""Octets that are inflated at a time."""
LEVEL: Final = 6
# 8 KiB of window and as much of a hash: 70 KiB while it is used, and mail gains as good as nothing
# by more. A client's window may be the largest.
_WINDOW: Final = -13
_MEMORY: Final = 6
_LARGEST_WINDOW: Final = -zlib.MAX_WBITS


class DamagedStream(Malformed):
    """What came is not DEFLATE, or it ended. Nothing that follows can be understood."""

    sentence = "The compressed stream is damaged"


class Compression:
    """One connection's two streams; knows no socket."""

    __slots__ = ("_deflate", "_held", "_inflate", "_more", "_unflushed")

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_LARGEST_WINDOW)
        self._held = b""  # came, and was not inflated yet
        self._more = False  # the last step may have left output behind
        self._deflate: zlib._Compress | None = None
        self._unflushed = False

    # --- out -------------------------------------------------------------------------------------

    def seal(self, data: bytes) -> bytes:
        """`data` compressed, as far as it comes out yet."""
        if self._deflate is None:
            self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY)
        self._unflushed = True
        return self._deflate.compress(data)

    def flush(self) -> bytes:
        """The rest of what was written: the peer can read all of it. RFC 4978 §4."""
        if self._deflate is None or not self._unflushed:
            return b""
        self._unflushed = False
        return self._deflate.flush(zlib.Z_SYNC_FLUSH)

    @property
    def is_warm(self) -> bool:
        """There is a compressor that could be let go."""
        return self._deflate is not None

    def rest(self) -> bytes:
        """`flush`, and let the compressor go: the next one goes on in the same stream, as a flush
        ends at a whole octet and nothing need look back."""
        last = self.flush()
        self._deflate = None
        return last

    # --- in --------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Octets that came and wait to be inflated."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """What came; `step` looks at it."""
        self._held = self._held + data if self._held else data

    def step(self) -> bytes:
        """What comes next, at most STEP octets; empty: nothing can be made of what came so far.

        Raises DamagedStream.
        """
        if not self._held and not self._more:
            return b""
        try:
            found = self._inflate.decompress(self._held, STEP)
        except zlib.error as error:
            raise DamagedStream(detail=str(error)) from error
        if self._inflate.eof:
            raise DamagedStream(detail="it ended")  # RFC 4978 §3: it lasts as the connection does
        self._held = self._inflate.unconsumed_tail
        self._more = len(found) == STEP
        return found
