"""APPEND: the arguments before each message; the message itself is streamed.

RFC 9051 §6.3.12; several messages: RFC 3502; UTF8 (…): RFC 6855 §4; binary: RFC 3516 §4.4;
CATENATE (…): RFC 4469 §3, whose texts are streamed too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from postroom.wire.imap.cursor import BadSyntax, Cursor


@dataclass(frozen=True, slots=True)
class AppendMessage:
    """What is said of one message before its octets; whether they may hold NUL stands in
    the literal's announcement.
    """

    flags: tuple[str, ...] = ()
    date: datetime | None = None
    utf8: bool = False  # inside `UTF8 (…)`, which is closed after the literal
    catenate: bool = False  # its parts follow: `parse_parts`


@dataclass(frozen=True, slots=True)
class Append:
    mailbox: str
    message: AppendMessage


class Then(Enum):
    """What comes after URLs in the list of a CATENATE."""

    TEXT = auto()  # a literal is a part
    UTF8 = auto()  # a binary literal is a part, and after it the list goes on with `)`
    URL = auto()  # a literal is the URL of a part
    END = auto()  # of the list


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of a CATENATE up to the next literal, or to its end. RFC 4469 §5."""

    urls: tuple[bytes, ...]
    then: Then


def parse_append(args: Cursor) -> Append:
    """From the mailbox to the first literal, or into the list of a CATENATE."""
    args.sp()
    mailbox = args.mailbox()
    return Append(mailbox, _message(args))


def parse_append_more(args: Cursor, after: AppendMessage) -> AppendMessage | None:
    """What came after a message: what is said of the next one, or None for the end."""
    if after.utf8:
        args.expect(b")")
    return None if args.at_end else _message(args)


def parse_parts(args: Cursor, after: Then | None = None) -> Parts:
    """The parts up to the next literal; `after`: what the last literal was, None at the list's
    beginning."""
    urls: list[bytes] = []
    if after is Then.UTF8:
        args.expect(b")")
    if after is not None:
        if args.accept(b")"):
            return Parts((), Then.END)
        args.sp()
    while True:
        if args.accept_keyword(b"TEXT "):
            return _before_literal(args, urls, Then.TEXT)
        if args.accept_keyword(b"UTF8 ("):
            return _before_literal(args, urls, Then.UTF8)
        if not args.accept_keyword(b"URL "):
            raise BadSyntax("A part is TEXT or URL")
        if args.at_streamed:
            return Parts(tuple(urls), Then.URL)
        urls.append(args.astring())
        if args.accept(b")"):
            return Parts(tuple(urls), Then.END)
        args.sp()


def _before_literal(args: Cursor, urls: list[bytes], then: Then) -> Parts:
    if not args.at_streamed:
        raise BadSyntax("The literal of a part is missing")
    return Parts(tuple(urls), then)


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
    if args.accept_keyword(b"CATENATE ("):
        return AppendMessage(flags, date, catenate=True)
    utf8 = args.accept_keyword(b"UTF8 (")
    if not args.at_streamed:
        raise BadSyntax("A message literal is missing")
    return AppendMessage(flags, date, utf8)
