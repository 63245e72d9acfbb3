"""Where each part of a message lies, packed: what IMAP's BODY[section] asks, answered by slices.

Made at delivery from the tree of `mime.scan` and stored beside the message. To answer for one
section nothing else is read: records of equal size stand in breadth-first order, so the children
of a part lie together and a path of numbers costs one step each. RFC 9051 §6.4.5.1.

The packed form, little-endian: version (u8), zero (u8), number of parts (u16), then for each part
start, body, end (u32), first child (u16), number of children (u16), kind (u8), encoding (u8).
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final, Literal

from postroom.core.errors import Corrupt
from postroom.formats.mime import Part
from postroom.formats.transfer import (
    BASE64,
    IDENTITY,
    QUOTED_PRINTABLE,
    UUENCODE,
    canonical,
)

VERSION: Final = 1

What = Literal["part", "HEADER", "TEXT", "MIME"]
Slice = tuple[int, int]

_HEAD: Final = struct.Struct("<BBH")
_RECORD: Final = struct.Struct("<IIIHHBB")

# Kinds: what decides how a section number is read.
_LEAF: Final = 0
_MULTIPART: Final = 1
_MESSAGE: Final = 2  # its one child is the encapsulated message

UNKNOWN: Final = "unknown"  # RFC 3516 §4.3: BINARY answers UNKNOWN-CTE
_ENCODINGS: Final = (IDENTITY, QUOTED_PRINTABLE, BASE64, UUENCODE, UNKNOWN)
_CODES: Final = {name: code for code, name in enumerate(_ENCODINGS)}
_SHORT: Final = 64  # octets of a Content-Transfer-Encoding value that are looked at
_PLAIN: Final = frozenset({"7bit", "8bit", "binary", ""})


def pack(part: Part) -> bytes:
    """The layout of the tree below `part`, the root of a message. 4 + 18 bytes for each part."""
    order = [part]
    records = []
    record = _RECORD.pack
    for each in order:  # grows while it is read: that is the breadth-first order
        children = each.children
        kind = _MULTIPART if each.is_multipart else _MESSAGE if children else _LEAF
        code = _encoding_code(each.encoding[:_SHORT]) if each.encoding is not None else 0
        first = len(order) if children else 0
        records.append(record(each.start, each.body, each.end, first, len(children), kind, code))
        order.extend(children)
    return _HEAD.pack(VERSION, 0, len(order)) + b"".join(records)


def moved(packed: bytes, by: int) -> bytes:
    """The layout of the same message below `by` octets of further header fields."""
    count = _HEAD.unpack_from(packed)[2]
    made = [packed[: _HEAD.size]]
    for n in range(count):
        start, body, end, *rest = _RECORD.unpack_from(packed, _HEAD.size + n * _RECORD.size)
        # The message itself still begins where it began: the new fields are its own.
        made.append(_RECORD.pack(start + by if n else start, body + by, end + by, *rest))
    return b"".join(made)


@lru_cache(maxsize=128)
def _encoding_code(value: bytes) -> int:
    """The code of a Content-Transfer-Encoding value, as sent."""
    text = value.decode("latin-1")
    name = canonical(text)
    if name == IDENTITY and text.partition(";")[0].strip(" \t\"'").lower() not in _PLAIN:
        name = UNKNOWN
    return _CODES[name]


class Layout:
    """A packed layout, read in place."""

    __slots__ = ("_count", "_data")

    def __init__(self, data: bytes, count: int) -> None:
        self._data = data
        self._count = count

    @classmethod
    def unpack(cls, data: bytes) -> Layout:
        """Raises Corrupt where `data` is not what `pack` of this version wrote."""
        if len(data) < _HEAD.size:
            raise Corrupt(detail="layout: too short")
        version, _, count = _HEAD.unpack_from(data)
        if version != VERSION:
            raise Corrupt(detail=f"layout: version {version}")
        if not count or len(data) != _HEAD.size + count * _RECORD.size:
            raise Corrupt(detail=f"layout: {len(data)} bytes for {count} parts")
        return cls(data, count)

    def __len__(self) -> int:
        """The number of parts, the message itself included."""
        return self._count

    def section(self, path: tuple[int, ...], what: What) -> Slice | None:
        """(offset, length) in the message of BODY[path.what]; None if there is no such section.

        `part` with the empty path is the whole message, with another path that part's body.
        HEADER, TEXT are those of the message at `path`; MIME is the header block of the part.
        HEADER.FIELDS reads within what HEADER answers.
        """
        if not path:
            start, body, end, _, _, _, _ = self._record(0)
            match what:
                case "part":
                    return start, end - start
                case "HEADER":
                    return start, body - start
                case "TEXT":
                    return body, end - body
                case _:
                    return None  # RFC 9051 §6.4.5.1: MIME needs a part number
        found = self._find(path)
        if found is None:
            return None
        start, body, end, first, _, kind, _ = self._record(found)
        match what:
            case "part":
                return body, end - body
            case "MIME":
                return start, body - start
            case _ if kind != _MESSAGE:
                return None  # HEADER and TEXT belong to messages only
        start, body, end, _, _, _, _ = self._record(first)
        return (start, body - start) if what == "HEADER" else (body, end - body)

    def binary(self, path: tuple[int, ...]) -> tuple[int, int, str] | None:
        """(offset, length, encoding) for BINARY[path], encoding as `transfer.decode` takes it.

        UNKNOWN stands for an encoding that nobody knows. A multipart or message is as it is.
        RFC 3516 §4.3.
        """
        found = 0 if not path else self._find(path)
        if found is None:
            return None
        start, body, end, _, _, kind, code = self._record(found)
        if not path:
            return start, end - start, IDENTITY
        return body, end - body, _ENCODINGS[code] if kind == _LEAF else IDENTITY

    def _find(self, path: tuple[int, ...]) -> int | None:
        """The record of the body part that a path of numbers names."""
        at = 0
        for step, number in enumerate(path):
            _, _, _, first, children, kind, _ = self._record(at)
            entity = step == 0
            if step and kind == _MESSAGE:
                at, entity = first, True
                _, _, _, first, children, kind, _ = self._record(at)
            if kind == _MULTIPART:
                if not 1 <= number <= children:
                    return None
                at = first + number - 1
            elif not entity or number != 1:
                return None  # only a message has a part 1 without being a multipart
        return at

    def _record(self, index: int) -> tuple[int, int, int, int, int, int, int]:
        if index >= self._count:
            raise Corrupt(detail=f"layout: part {index} of {self._count}")
        found: tuple[int, int, int, int, int, int, int] = _RECORD.unpack_from(
            self._data, _HEAD.size + index * _RECORD.size
        )
        return found
