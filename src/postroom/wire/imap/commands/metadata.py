"""Commands about annotations of mailboxes and of the server. RFC 5464 §4, §5; RFC 9590 §5.

Names of entries are read as the octets that they are; what a name may be is the domain's to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

from postroom.wire.imap.cursor import BadSyntax, Cursor, unexpected

T = TypeVar("T")

ENTRIES: Final = 100
"""Entries in one command: a name that is not there is answered too."""

_LATE_OPTION: Final = re.compile(rb"\([A-Za-z]")  # an entry begins with a slash
_DEPTHS: Final = {b"0": 0, b"1": 1, b"INFINITY": None}


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """RFC 5464 §4.2."""

    mailbox: str  # empty for the server
    entries: tuple[str, ...]  # as given
    maxsize: int | None = None  # octets of a value
    depth: int | None = 0  # levels below each entry; None: all of them


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """RFC 5464 §4.3."""

    mailbox: str  # empty for the server
    values: tuple[tuple[str, bytes | None], ...]  # in the order given; None removes


def parse_getmetadata(args: Cursor) -> GetMetadata:
    """The options stand before the mailbox. RFC 5464 §4.2, §5.

    COMPAT: or after it, and entries without parentheses, as in the examples of RFC 5464 §4.2.1
    and §4.4.1, which clients followed.
    """
    args.sp()
    options: _Options | None = None
    if args.peek() == b"(":
        options = _options(args)
        args.sp()
    mailbox = _mailbox(args)
    args.sp()
    if options is None and args.look(_LATE_OPTION) is not None:
        options = _options(args)
        args.sp()
    listed = args.peek() == b"("
    entries = parse_entries(args)
    while not listed and args.accept(b" "):
        entries = tuple(_few([*entries, _entry(args)]))
    args.end()
    options = options or _Options()
    return GetMetadata(mailbox, entries, options.maxsize, options.depth)


@dataclass(slots=True)
class _Options:
    maxsize: int | None = None
    depth: int | None = 0


def _options(args: Cursor) -> _Options:
    """`(MAXSIZE n DEPTH 1)`, each once at most. RFC 5464 §4.2.1, §4.2.2."""
    found = _Options()
    seen: set[bytes] = set()
    args.expect(b"(")
    while True:
        name = args.keyword()
        if name in seen:
            raise BadSyntax("An option is given twice")
        seen.add(name)
        args.sp()
        if name == b"MAXSIZE":
            found.maxsize = args.number()
        elif name == b"DEPTH":
            depth = args.keyword()
            if depth not in _DEPTHS:
                raise BadSyntax("A depth is 0, 1 or infinity")
            found.depth = _DEPTHS[depth]
        else:
            unexpected("This option")
        if args.accept(b")"):
            return found
        args.sp()


def parse_entries(args: Cursor) -> tuple[str, ...]:
    """`entry` or `(entry SP entry …)`. RFC 5464 §5."""
    entries = args.list(_entry) if args.peek() == b"(" else [_entry(args)]
    return tuple(_few(entries))


def parse_setmetadata(args: Cursor) -> SetMetadata:
    """RFC 5464 §4.3."""
    args.sp()
    mailbox = _mailbox(args)
    args.sp()
    values = _few(args.list(_entry_value))
    args.end()
    return SetMetadata(mailbox, tuple(values))


def _entry_value(args: Cursor) -> tuple[str, bytes | None]:
    entry = _entry(args)
    args.sp()
    return entry, args.nstring8()


def _few(items: list[T]) -> list[T]:
    if len(items) > ENTRIES:
        raise BadSyntax("Too many entries at once")
    return items


def _entry(args: Cursor) -> str:
    name = args.astring()
    if not name.isascii():
        raise BadSyntax("The name of an entry is ASCII")
    return name.decode("ascii")


def _mailbox(args: Cursor) -> str:
    """A mailbox, or "" for the server: RFC 5464 §4.2."""
    return "" if args.accept(b'""') else args.mailbox()
