"""Compressed content as independent zstd frames, so that a range costs what it is.

Every frame holds 128 KiB of content (the last one less). The frame table is the end offset
of each frame in what is stored, as 32-bit little-endian numbers. A file of frames ends with a
copy of its table in a skippable frame (RFC 8878 §3.1.2), so it can be read without its row,
by us and by any zstd tool.
"""

from __future__ import annotations

import array
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

import zstandard

from postroom.core.errors import Corrupt

FRAME: Final = 128 * 1024
RAW: Final = b""
"""The frame table of content that was tried and does not compress: it stays raw."""

_LEVEL: Final = 6
_SKIPPABLE: Final = 0x184D2A50  # RFC 8878 §3.1.2
_MOST_STORED: Final = (1 << 32) - 1
_GAIN: Final = 0.9  # less than a tenth saved is not worth a decompression at each read

Reader = Callable[[int, int], bytes]


class _Tools(threading.local):
    """Compressors are not shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True)
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()


def pack(content: Iterator[bytes]) -> tuple[bytes, bytes] | None:
    """Compress content given in pieces of FRAME octets (the last may be shorter).

    Returns the frame table and what to store, or None if it does not compress well.
    """
    ends = array.array("I")
    stored: list[bytes] = []
    raw = done = 0
    for piece in content:
        frame = _tools.compressor.compress(piece)
        raw += len(piece)
        done += len(frame)
        if done > _MOST_STORED:
            return None
        ends.append(done)
        stored.append(frame)
    if done >= raw * _GAIN:
        return None
    return _little_endian(ends).tobytes(), b"".join(stored)


def trailer(table: bytes) -> bytes:
    """What ends a file of frames: its table, in a frame that decompressors pass over."""
    return struct.pack("<II", _SKIPPABLE, len(table)) + table


def table_of(stored: int, size: int, reader: Reader) -> bytes:
    """The table at the end of a file of `stored` octets that holds `size` of content."""
    length = 4 * -(-size // FRAME)
    return reader(max(0, stored - length), length)


def read(table: bytes, reader: Reader, size: int, start: int, length: int) -> bytes:
    """A range of the content; `reader(offset, length)` gives stored octets.

    Raises Corrupt if a frame does not decompress to what the table promises.
    """
    length = min(length, size - start)
    if length <= 0:
        return b""
    first, last = start // FRAME, (start + length - 1) // FRAME
    if len(table) != 4 * -(-size // FRAME):
        raise Corrupt(detail="the frame table does not fit the content")
    ends = array.array("I")
    ends.frombytes(table)
    _little_endian(ends)
    base = ends[first - 1] if first else 0
    if any(ends[n] <= (ends[n - 1] if n else 0) for n in range(first, last + 1)):
        raise Corrupt(detail="the frame table goes back")
    stored = reader(base, ends[last] - base)
    pieces = []
    for n in range(first, last + 1):
        begin = (ends[n - 1] if n else 0) - base
        wanted = min(FRAME, size - n * FRAME)
        try:
            # A frame states its size: the bound is checked before anything is expanded.
            frame = stored[begin : ends[n] - base]
            if zstandard.frame_content_size(frame) != wanted:
                raise Corrupt(detail=f"frame {n} does not hold {wanted} octets")
            pieces.append(_tools.decompressor.decompress(frame))
        except zstandard.ZstdError as error:
            raise Corrupt(detail=f"frame {n}: {error}") from error
    joined = b"".join(pieces)
    offset = start - first * FRAME
    return joined[offset : offset + length]


def _little_endian(numbers: array.array[int]) -> array.array[int]:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
