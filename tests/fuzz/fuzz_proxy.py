"""Hostile PROXY protocol headers: one reading however chopped, bounded, never an octet too many."""

from __future__ import annotations

from postroom.core.errors import Malformed
from postroom.net.proxy import LONGEST_BLOCK, LONGEST_LINE, HeaderReader, Route, crc32c

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FOUR = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x67\x00\x19"
_SIX = (b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01") * 2 + b"\xff\xff\x00\x00"


def _checked(header: bytes) -> bytes:
    return header + crc32c(header + bytes(4)).to_bytes(4, "big")


SEEDS: list[bytes] = [
    b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 25\r\nEHLO a.example\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 65535 0\r\n\x16\x03\x01",
    b"PROXY UNKNOWN\r\n",
    b"PROXY UNKNOWN " + b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " * 2 + b"65535 65535\r\n",
    _SIGNATURE + b"\x21\x11\x00\x0c" + _FOUR + b"EHLO a.example\r\n",
    _SIGNATURE + b"\x21\x21\x00\x24" + _SIX,
    _SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216),
    _SIGNATURE + b"\x20\x00\x00\x00",
    _SIGNATURE + b"\x21\x00\x00\x05abcde",
    _SIGNATURE + b"\x21\x11\x00\x13" + _FOUR + b"\x04\x00\x04abcd",
    _checked(_SIGNATURE + b"\x21\x11\x00\x13" + _FOUR + b"\x03\x00\x04"),
    _SIGNATURE + b"\x21\x11\x10\x00" + _FOUR + b"\x04\x0f\xf1" + bytes(4081),
]

TOKENS: list[bytes] = [
    *(b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b" 1 2\r\n", b"::", b"%eth0", b"0.0.0.0"),
    *(_SIGNATURE, b"\x20", b"\x21", b"\x11", b"\x12", b"\x22", b"\x00\x0c", b"\x10\x00"),
    *(b"\x10\x01", b"\x03\x00\x04", b"\x04\x00\x00", b"\x20\x00\x05"),
]

LONGEST: int = 8192


def one_input(data: bytes) -> None:
    """Read whole and in pieces; what was read stands in the header, and in no other octets."""
    if not data:
        return
    route, done, taken = whole = _read(data, len(data))
    assert _read(data, len(data) % 29 + 1) == whole
    assert _read(data, 1) == whole
    if done is None:
        return
    most = LONGEST_LINE if data.startswith(b"P") else len(_SIGNATURE) + 4 + LONGEST_BLOCK
    assert taken <= most
    if not done:
        assert taken == len(data) < most
        return
    assert _read(data[:taken] + b"\r\n" + data, len(data)) == whole
    if route is not None:
        for ip in (route.ip, route.local_ip):
            assert ip.version == 4 or ip.ipv4_mapped is None
        assert 0 <= route.port <= 65535
        assert 0 <= route.local_port <= 65535


def _read(data: bytes, step: int) -> tuple[Route | None, bool | None, int]:
    """The route, whether the header was whole (None: refused), and how many octets it had."""
    reader, taken = HeaderReader(), 0
    try:
        while not reader.done and taken < len(data):
            ahead = data[taken : taken + step]
            used = reader.feed(ahead)
            assert 0 < used <= len(ahead)
            assert used == len(ahead) or reader.done
            taken += used
    except Malformed:
        return None, None, 0
    return reader.route, reader.done, taken
