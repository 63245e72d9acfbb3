"""Messages that are made to be dear: legal to send, hostile to parse. Class 6 of the attacks.

Each is as large as its kind needs and no larger. RFC 2046 §5.1, RFC 2231 §3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

LEVELS: Final = 10_000
PARTS: Final = 100_000
CONTINUATIONS: Final = 100_000
HEADER_OCTETS: Final = 5_000_000

_TOP: Final = (
    b"From: Mallory <mallory@example.org>\r\nTo: Bob <bob@example.net>\r\n"
    b"Subject: A present\r\nDate: Mon, 12 Jan 2026 08:00:00 +0000\r\n"
    b"Message-ID: <present@example.org>\r\nMIME-Version: 1.0\r\n"
)


def deep() -> bytes:
    """Multiparts in multiparts, LEVELS deep: some 0.5 MB."""
    opened = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(LEVELS)
    )
    closed = b"".join(b"\r\n--b%d--\r\n" % level for level in range(LEVELS - 1, -1, -1))
    return _TOP + opened + b"\r\nhidden\r\n" + closed


def wide() -> bytes:
    """A multipart of PARTS parts: 0.9 MB."""
    head = _TOP + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    return head + b"--b\r\n\r\nx\r\n" * PARTS + b"--b--\r\n"


def continued() -> bytes:
    """One parameter in CONTINUATIONS sections, in reverse order: 1.9 MB. RFC 2231 §3."""
    sections = b"".join(b";\r\n name*%d=x" % number for number in range(CONTINUATIONS - 1, -1, -1))
    return _TOP + b"Content-Type: text/plain" + sections + b"\r\n\r\nhidden\r\n"


def headers() -> bytes:
    """HEADER_OCTETS of header fields."""
    field = b"X-Present: " + b"a" * 62 + b"\r\n"
    return _TOP + field * (HEADER_OCTETS // len(field)) + b"\r\nhidden\r\n"


BOMBS: Final[Mapping[str, Callable[[], bytes]]] = {
    "depth": deep,
    "parts": wide,
    "rfc2231": continued,
    "headers": headers,
}
