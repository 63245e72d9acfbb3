"""xtext, and the form of it that carries non-ASCII addresses: RFC 3461 §4, RFC 6533 §3.

Decoding is liberal where nothing can be misread ("=" stands for itself: bounce addresses
carry it) and strict where something could ("+" needs two upper-case hexadecimal digits).
Encoding is always exact.
"""

from __future__ import annotations

import re
from typing import Final

from postroom.wire.smtp.errors import BadArgument

_VISIBLE: Final = bytes(range(33, 127))
_PLAIN: Final = bytes(c for c in _VISIBLE if c not in b"+=")
_HEX: Final = re.compile(rb"\+([0-9A-F]{2})?")
_POINT: Final = re.compile(r"\\(?:x\{([0-9A-Fa-f]{1,6})\})?")


def encode_xtext(data: bytes) -> bytes:
    """The octets with all but visible ASCII, and with "+" and "=", written as +XX."""
    if not data.translate(None, _PLAIN):
        return data
    return b"".join(b"%c" % c if c in _PLAIN else b"+%02X" % c for c in data)


def decode_xtext(text: bytes) -> bytes:
    """The octets behind xtext; they may be any, so look at them. Raises BadArgument."""
    if text.translate(None, _VISIBLE):
        raise BadArgument("Not xtext")
    if b"+" not in text:
        return text
    return _HEX.sub(_octet, text)


def encode_utf8_address(address: str) -> bytes:
    r"""A non-ASCII address in ASCII, other characters as \x{HEX}: RFC 6533 §3."""
    return "".join(
        c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in address
    ).encode("ascii")


def decode_utf8_address(text: bytes) -> str:
    r"""The address behind \x{HEX}, or in plain UTF-8. Raises BadArgument."""
    try:
        return _POINT.sub(_character, text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadArgument("Not UTF-8") from error


def _octet(found: re.Match[bytes]) -> bytes:
    digits = found.group(1)
    if digits is None:
        raise BadArgument("Not xtext")
    return bytes((int(digits, 16),))


def _character(found: re.Match[str]) -> str:
    digits = found.group(1)
    point = int(digits, 16) if digits else -1
    if not 0 <= point <= 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise BadArgument("Not an internationalised address")
    return chr(point)
