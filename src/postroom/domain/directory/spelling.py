"""Addresses and domains as administrators write them. An error names what it is about: in a
document of thousands nobody would find it otherwise.

What a peer says is parsed by `formats.address` alone, whose errors repeat nothing.
"""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Malformed
from postroom.formats.address import Address, canonical_domain, parse_mailbox

_SHOWN: Final = 320  # characters: more than an address may have. RFC 5321 §4.5.3.1


def address_of(text: str) -> Address:
    """Raises Malformed."""
    try:
        return parse_mailbox(text)
    except Malformed as error:
        raise Malformed(f"{_shown(text)} is not a valid address", detail=error.detail) from error


def named_domain(text: str) -> str:
    """The canonical name of a domain; raises Malformed."""
    try:
        return canonical_domain(text)
    except Malformed as error:
        raise Malformed(f"{_shown(text)} is not a valid domain", detail=error.detail) from error


def _shown(text: str) -> str:
    if not text:
        return "(empty)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
