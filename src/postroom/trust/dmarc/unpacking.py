"""A report as it was sent, unpacked: gzip, zip or plain, told by its content. RFC 9990 §3.5.2.

Its name and media type are a stranger's word and are not asked. One layer is opened, one file of
it, within a budget of octets and of growth (attack class 7). A zip is read by its first local
header, never by its directory: entries that overlap or refer to themselves are not reached.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from postroom.core.errors import Malformed, TooLarge

MOST_PACKED: Final = 16 * 1024 * 1024
MOST_UNPACKED: Final = 32 * 1024 * 1024
FREE: Final = 1024 * 1024
"""Octets that any report may grow to, however small it was."""
RATIO: Final = 400
"""Growth allowed past those. Reports of thousands of like rows grow 140 times, bombs 1,000."""
_PIECE: Final = 256 * 1024
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = b"PK\x03\x04"
_LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")  # the local file header of APPNOTE 4.3.7
_ENCRYPTED: Final = 1
_SIZES_FOLLOW: Final = 8
_STORED: Final = 0
_DEFLATED: Final = 8


def unpack(content: bytes) -> bytes:
    """The file within; what is not packed comes back as it is.

    Raises TooLarge past a budget, Malformed for what is damaged, encrypted or packed in a way
    that no reporter uses.
    """
    if len(content) > MOST_PACKED:
        raise TooLarge(detail=f"a report of {len(content)} octets")
    if content.startswith(_GZIP):
        return _inflate(content, 0, 16 + zlib.MAX_WBITS)
    if content.startswith(_ZIP):
        return _unzip(content)
    return content


def _unzip(content: bytes) -> bytes:
    if len(content) < _LOCAL.size:
        raise Malformed(detail="a zip file that ends in its first header")
    _, _, flags, method, _, _, crc, packed, _, name, extra = _LOCAL.unpack_from(content)
    start = _LOCAL.size + name + extra
    if flags & _ENCRYPTED:
        raise Malformed(detail="a zip file that is encrypted")
    if method == _DEFLATED:
        found = _inflate(content, start, -zlib.MAX_WBITS)
    elif method == _STORED and not flags & _SIZES_FOLLOW:
        found = content[start : start + packed]
    else:
        raise Malformed(detail=f"a zip file packed by method {method}")
    if not flags & _SIZES_FOLLOW and zlib.crc32(found) != crc:
        raise Malformed(detail="a zip file that is damaged")
    return found


def _inflate(content: bytes, start: int, window: int) -> bytes:
    """The first stream from `start` on; what follows it is not read."""
    most = min(MOST_UNPACKED, max(FREE, RATIO * (len(content) - start)))
    inflater = zlib.decompressobj(window)
    pieces: list[bytes] = []
    octets = 0
    left = content[start:]
    try:
        while not inflater.eof:
            piece = inflater.decompress(left, _PIECE)
            left = inflater.unconsumed_tail
            if not piece and not left and not inflater.eof:
                raise Malformed(detail="a packed report that ends too early")
            octets += len(piece)
            if octets > most:
                raise TooLarge(detail=f"a packed report that grows past {most} octets")
            pieces.append(piece)
    except zlib.error as error:
        raise Malformed(detail=f"a packed report that is damaged: {error}") from error
    return b"".join(pieces)
