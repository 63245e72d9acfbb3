"""SASLprep: one form for names and passwords however they were typed. RFC 4013, RFC 3454."""

from __future__ import annotations

import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final

from postroom.core.errors import Malformed

LONGEST: Final = 1024
"""Characters; counted before anything is normalised."""

# What no output may hold. RFC 4013 §2.3; table A.1, what Unicode 3.2 did not assign, because
# RFC 5802 §2.2 treats names and passwords as stored strings (RFC 4013 §2.5).
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared form; raises Malformed for what has none, such as text that is empty."""
    if len(text) > LONGEST:
        raise Malformed(f"A name or password has at most {LONGEST} characters")
    if not text.isascii():
        mapped = (
            " " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)
        )
        text = unicodedata.ucd_3_2_0.normalize("NFKC", "".join(mapped))
        _check(text)
    elif not text.isprintable():
        raise Malformed("A name or password holds no control characters")
    if not text:
        raise Malformed("A name or password is not empty")
    return text


def _check(text: str) -> None:
    for character in text:
        if any(prohibited(character) for prohibited in _PROHIBITED):
            raise Malformed(f"SASLprep does not allow U+{ord(character):04X}")
    # RFC 3454 §6: right-to-left text begins and ends so, and holds no left-to-right letter.
    if any(map(stringprep.in_table_d1, text)):
        if any(map(stringprep.in_table_d2, text)):
            raise Malformed("SASLprep does not allow both directions of writing")
        if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
            raise Malformed("Right-to-left text begins and ends with such a letter")


def password_octets(password: str) -> bytes:
    """What SCRAM hashes of a password; raises Malformed for an empty one or one with controls.

    SASLprep knows Unicode 3.2. What it cannot take is hashed as it is, like RFC 8265, which
    replaces it, would have it and many clients do: an emoji is no reason to lock its owner out.
    """
    try:
        return saslprep(password).encode()
    except Malformed:
        if password.isascii() or len(password) > LONGEST:
            raise
        try:
            return password.encode()
        except UnicodeEncodeError:
            raise Malformed("A password is UTF-8") from None
