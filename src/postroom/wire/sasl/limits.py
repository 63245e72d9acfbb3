"""How large a message may be, and how much work a peer may ask for."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Malformed

LONGEST: Final = 12 * 1024
"""Octets of a message, decoded. RFC 4954 §4 asks for as many in base64."""

FIELDS_MOST: Final = 32
"""Attributes of a SCRAM message; the RFCs define at most four for one."""

SALT_MOST: Final = 1024
"""Octets of a salt."""

ITERATIONS_LEAST: Final = 4096
"""RFC 7677 §4. Less would let a false server ask for a proof that is quick to guess from."""

ITERATIONS_MOST: Final = 1_000_000
"""Half a second of a core: a server may not ask its clients for more."""


def text_of(message: bytes) -> str:
    """A message as text: UTF-8 without NUL, within the limit; raises Malformed."""
    if len(message) > LONGEST:
        raise Malformed(f"A SASL message has at most {LONGEST} octets")
    try:
        text = message.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("A SASL message is UTF-8") from None
    if "\0" in text:
        raise Malformed("A SASL message holds no NUL here")
    return text
