"""Modified UTF-7: mailbox names of IMAP4rev1 (RFC 3501 §5.1.3), and of folders on a disk."""

from __future__ import annotations

import binascii
import re
from typing import Final

_SHIFTED: Final = re.compile(r"[^\x20-\x7e]+|&")
_PRINTABLE: Final = re.compile(rb"[\x20-\x7e]*")


def encode(name: str) -> bytes:
    """The name in modified UTF-7; raises ValueError for a lone surrogate."""
    return _SHIFTED.sub(_shift, name).encode("ascii")


def _shift(match: re.Match[str]) -> str:
    text = match[0]
    if text == "&":
        return "&-"
    packed = binascii.b2a_base64(text.encode("utf-16-be"), newline=False)
    return "&" + packed.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def decode(raw: bytes) -> str:
    """The name behind modified UTF-7; raises ValueError for what is not its one spelling.

    Superfluous shifts and shifted ASCII are refused: RFC 3501 §5.1.3 forbids them, and a
    name with two spellings is two names to a client and one to us.
    """
    name = decode_any(raw)
    if b"&" in raw and encode(name) != raw:
        raise ValueError("not the canonical form")
    return name


def decode_any(raw: bytes) -> str:
    """The same for any spelling, as Courier has `&AC4-` for a dot. Raises ValueError for none."""
    if not _PRINTABLE.fullmatch(raw):
        raise ValueError("not printable ASCII")
    first, *shifted = raw.split(b"&")
    parts = [first.decode("ascii")]
    for piece in shifted:
        packed, dash, plain = piece.partition(b"-")
        if not dash:
            raise ValueError("a shift without its end")
        parts.append(_unpack(packed) if packed else "&")
        parts.append(plain.decode("ascii"))
    return "".join(parts)


def _unpack(packed: bytes) -> str:
    padded = packed.replace(b",", b"/") + b"=" * (-len(packed) % 4)
    # binascii.Error and UnicodeDecodeError are both ValueErrors.
    return binascii.a2b_base64(padded, strict_mode=True).decode("utf-16-be")
