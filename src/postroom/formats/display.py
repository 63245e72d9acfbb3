"""What a reader is shown for an address, from an ENVELOPE as it is kept. RFC 5957 §3."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final

from postroom.formats.parsed import SORT_MAX
from postroom.formats.words import decode_words

# A string as `formats.envelope` writes it. RFC 9051 §9, nstring.
_NSTRING: Final = re.compile(rb'NIL|"((?:[^"\\\r\n]++|\\.)*+)"|\{([0-9]{1,9}+)\}\r\n')
_ESCAPED: Final = re.compile(rb"\\(.)")
_OPEN: Final = ord("(")


class Addresses(IntEnum):
    """A list of addresses, by its place among those of an envelope. RFC 9051 §7.5.2."""

    FROM = 0
    TO = 3


def display(envelope: bytes, of: Addresses) -> str:
    """The display name of the first address of a list, decoded; without one its addr-spec; empty
    without an address. At most 256 characters, as written.

    Of a group the first address is the mark that opens it, so its name. Empty for what is no
    envelope as `formats.envelope` writes it. RFC 5957 §3, §4.
    """
    try:
        at = _list_at(envelope, of)
        if envelope[at] != _OPEN:
            return ""  # NIL
        name, at = _nstring(envelope, at + 2)
        _, at = _nstring(envelope, at + 1)
        local, at = _nstring(envelope, at + 1)
        host, at = _nstring(envelope, at + 1)
    except (ValueError, IndexError):
        return ""
    shown = decode_words(name) if name else ""
    if not shown and local:
        shown = (local + b"@" + host if host else local).decode("utf-8", "replace")
    return shown[:SORT_MAX]


def _list_at(envelope: bytes, of: Addresses) -> int:
    """Where a list of addresses begins: date and subject come first, and lists before it."""
    _, at = _nstring(envelope, 1)
    _, at = _nstring(envelope, at + 1)
    at += 1
    before = b""
    for _ in range(of):
        # Sender and Reply-To are From again in most mail.
        same = before and envelope.startswith(before, at)
        end = at + len(before) if same else _end_of_list(envelope, at)
        before, at = envelope[at:end], end + 1
    return at


def _end_of_list(envelope: bytes, at: int) -> int:
    if envelope[at] != _OPEN:
        return at + len(b"NIL")
    at += 1
    while envelope[at] == _OPEN:
        for _ in range(4):
            _, at = _nstring(envelope, at + 1)
        at += 1
    return at + 1


def _nstring(envelope: bytes, at: int) -> tuple[bytes | None, int]:
    """A string, None for NIL, and where it ends; raises ValueError."""
    found = _NSTRING.match(envelope, at)
    if found is None:
        raise ValueError("no string")
    quoted, length = found.groups()
    if length is not None:
        end = found.end() + int(length)
        return envelope[found.end() : end], end
    if quoted is None:
        return None, found.end()
    return _ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted, found.end()
