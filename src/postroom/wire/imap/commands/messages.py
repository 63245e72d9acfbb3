"""Commands that change or copy messages: STORE, COPY, MOVE, UID EXPUNGE. RFC 9051 §6.4."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from postroom.wire.imap.cursor import BadSyntax, Cursor, unexpected
from postroom.wire.imap.sequence import SequenceSet


class StoreMode(Enum):
    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


@dataclass(frozen=True, slots=True)
class Store:
    messages: SequenceSet
    mode: StoreMode
    flags: tuple[str, ...]
    silent: bool = False
    unchanged_since: int | None = None  # RFC 7162 §3.1.3; 0 is legal and matches nothing


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY or MOVE."""

    messages: SequenceSet
    mailbox: str


@dataclass(frozen=True, slots=True)
class UidExpunge:
    messages: SequenceSet  # RFC 4315 §2.1


def parse_store(args: Cursor) -> Store:
    """RFC 9051 §6.4.6; `(UNCHANGEDSINCE n)`: RFC 7162 §3.1.3."""
    args.sp()
    messages = args.sequence_set()
    args.sp()
    unchanged_since: int | None = None
    if args.accept(b"("):
        if args.keyword() != b"UNCHANGEDSINCE":
            unexpected("This modifier")
        args.sp()
        unchanged_since = args.number64()
        args.expect(b")")
        args.sp()
    word, dot, suffix = args.keyword().decode("ascii").partition(".")
    try:
        mode = StoreMode(word)
    except ValueError:
        raise BadSyntax("This cannot be stored") from None
    if dot and suffix != "SILENT":
        unexpected("This word")
    args.sp()
    flags = args.flag_list() if args.peek() == b"(" else _bare_flags(args)
    args.end()
    return Store(messages, mode, flags, bool(dot), unchanged_since)


def _bare_flags(args: Cursor) -> tuple[str, ...]:
    flags = [args.flag()]
    while args.accept(b" "):
        flags.append(args.flag())
    return tuple(dict.fromkeys(flags))


def parse_copy(args: Cursor) -> Copy:
    """RFC 9051 §6.4.7, §6.4.8."""
    args.sp()
    messages = args.sequence_set()
    args.sp()
    mailbox = args.mailbox()
    args.end()
    return Copy(messages, mailbox)


def parse_uid_expunge(args: Cursor) -> UidExpunge:
    args.sp()
    messages = args.sequence_set()
    args.end()
    return UidExpunge(messages)
