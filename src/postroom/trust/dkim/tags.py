"""Lists of tags, as a signature and a key have them. RFC 6376 §3.2, RFC 8616 §5.

Strict, linear and bounded: what no strict reader would understand has no meaning at all.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from postroom.core.errors import Malformed

LIST_MAX: Final = 16_384
"""Octets of one list."""
TAGS_MAX: Final = 64

_IS_NAME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9_]*+").fullmatch
# From the start or a semicolon on: what a list is made of, if it is one.
_TAGS: Final = re.compile(
    r"(?:\A|(?<=;))[ \t\r\n]*+([A-Za-z][A-Za-z0-9_]*+)[ \t\r\n]*+=[ \t\r\n]*+([^;]*+)"
).findall
_BLANKS: Final = b" \t\r\n"
_FIT: Final = bytes((*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)))


class BadTags(Malformed):
    """What should be a list of tags is none."""

    sentence = "This is no list of tags"


def read(octets: bytes) -> dict[str, str]:
    """The tags by name, blanks around names and values gone; raises BadTags.

    Names are case-sensitive, and none may come twice: then the whole list is void.
    """
    if len(octets) > LIST_MAX:
        raise BadTags("The list of tags is too long")
    octets = octets.strip(_BLANKS)
    if not _is_fit(octets):
        raise BadTags("The list of tags holds a character that it may not")
    count = octets.count(b";") + (not octets.endswith(b";"))
    if count <= TAGS_MAX and octets.isascii():
        pairs: list[tuple[str, str]] = _TAGS(octets.decode("ascii"))
        found = {name: value.strip(" \t\r\n") for name, value in pairs}
        if len(found) == count:
            return found
    return _one_by_one(octets)


def _one_by_one(octets: bytes) -> dict[str, str]:
    """The same, in the way that finds out what is wrong."""
    pieces = octets.split(b";")
    if len(pieces) > 1 and not pieces[-1].strip(_BLANKS):
        pieces.pop()
    if len(pieces) > TAGS_MAX:
        raise BadTags("There are too many tags")
    found: dict[str, str] = {}
    for piece in pieces:
        name, equals, value = piece.partition(b"=")
        name = name.strip(_BLANKS)
        if not equals or not _IS_NAME(name):
            raise BadTags("A tag has no name or no value")
        key = name.decode("ascii")
        if key in found:
            raise BadTags(f"The tag {key[:20]}= stands there twice")
        try:
            found[key] = value.strip(_BLANKS).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadTags(f"The tag {key[:20]}= is not UTF-8") from error
    return found


def _is_fit(octets: bytes) -> bool:
    """No controls, and no end of a line but in folds."""
    if octets.translate(None, _FIT):
        return False
    ends = octets.count(b"\n")
    if not ends:
        return b"\r" not in octets
    folds = octets.count(b"\r\n ") + octets.count(b"\r\n\t")
    return octets.count(b"\r") == ends == folds


def listed(value: str) -> list[str]:
    """The parts of a list between colons, blanks around them gone."""
    return [part.strip(" \t\r\n") for part in value.split(":")]


def base64_of(value: str) -> bytes:
    """The octets of a base64 value, blanks in it left out; raises BadTags."""
    try:
        octets = value.encode("ascii").translate(None, _BLANKS)
        return binascii.a2b_base64(octets, strict_mode=True)
    except ValueError as error:  # UnicodeEncodeError and binascii.Error are such
        raise BadTags("A value is no base64") from error


def without_signature(value: bytes) -> bytes:
    """The value of a DKIM-Signature field as it was signed: that of b= left out, with the blanks
    around it. RFC 6376 §3.5."""
    at = 0
    while at < len(value):
        end = value.find(b";", at)
        end = len(value) if end < 0 else end
        equals = value.find(b"=", at, end)
        if equals >= 0 and value[at:equals].strip(_BLANKS) == b"b":
            return value[: equals + 1] + value[end:]
        at = end + 1
    return value
