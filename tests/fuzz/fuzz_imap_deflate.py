"""What a client compresses, or pretends to: any octets, in any slices."""

from __future__ import annotations

import zlib

from postroom.protocols.imap.compression import STEP, Compression, DamagedStream

_MOST = 8 << 20
"""Octets that are inflated of one input: a bomb would take the fuzzer's time, not its memory."""


def _deflated(content: bytes, level: int = 6, bits: int = -15) -> bytes:
    made = zlib.compressobj(level, wbits=bits)
    return made.compress(content) + made.flush(zlib.Z_SYNC_FLUSH)


SEEDS: list[bytes] = [
    _deflated(b"a NOOP\r\nb SELECT INBOX\r\n"),
    _deflated(b"a APPEND INBOX {5+}\r\nhello\r\n", 0),
    _deflated(b"x" * 100_000, 9),
    _deflated(bytes(range(256)) * 40, 1, -9),
    zlib.compress(b"a NOOP\r\n"),
    b"a NOOP\r\n",
]


def one_input(data: bytes) -> None:
    """In one piece and octet by octet it is the same, and never more than a step at a time."""
    assert _read(data, len(data) or 1) == _read(data, 1 + len(data) // 7)


def _read(data: bytes, size: int) -> tuple[int, bytes, bool]:
    """How much came out, the end of it, and whether the stream was damaged."""
    made = Compression()
    octets, last = 0, b""
    try:
        for at in range(0, len(data), size):
            made.feed(data[at : at + size])
            while (more := made.step()) and octets < _MOST:
                assert len(more) <= STEP and made.held <= len(data)
                octets, last = octets + len(more), (last + more)[-64:]
    except DamagedStream:
        return 0, b"", True
    return (octets, last, False) if octets < _MOST else (_MOST, b"", False)
