"""APPEND: the arguments before each message; the message itself is streamed.

RFC 9051 §6.3.12; several messages: RFC 3502; UTF8 (…): RFC 6855 §4; binary: RFC 3516 §4.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from postroom.wire.imap.cursor import BadSyntax, Cursor


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """What is said of one message before its octets; whether they may hold NUL stands in
    the literal's announcement.
    """

    flags: tuple[str, ...] = ()
    date: datetime | None = None
    utf8: bool = False  # inside `UTF8 (…)`, which is closed after the literal


@dataclass(frozen=True, slots=True)
class Append:
    mailbox: str
    message: AppendMessage


def parse_append(args: Cursor) -> Append:
    """From the mailbox to the first message literal."""
    args.sp()
    mailbox = args.mailbox()
    return Append(mailbox, _message(args))


def parse_append_more(args: Cursor, after: AppendMessage) -> AppendMessage | None:
    """What came after a message: what is said of the next one, or None for the end."""
    if after.utf8:
        args.expect(b")")
    return None if args.at_end else _message(args)


def _message(args: Cursor) -> AppendMessage:
    flags: tuple[str, ...] = ()
    date: datetime | None = None
    args.sp()
    if args.peek() == b"(":
        flags = args.flag_list()
        args.sp()
    if args.peek() == b'"':
        date = args.date_time()
        args.sp()
    utf8 = args.accept_keyword(b"UTF8 (")
    if not args.at_streamed:
        raise BadSyntax("A message literal is missing")
    return AppendMessage(flags, date, utf8)
