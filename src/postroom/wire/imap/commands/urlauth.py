"""Commands about URLs that carry an authorization. RFC 4467 §7, §9.

URLs are read as the octets that they are: what a bad one means is the command's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from postroom.wire.imap.cursor import BadSyntax, Cursor

T = TypeVar("T")

URLS: Final = 50
"""URLs in one command: each costs a look at a mailbox and a message."""


@dataclass(frozen=True, slots=True)
class GenUrlAuth:
    """Rumps, each with the mechanism that is to authorize it, in upper case. RFC 4467 §7."""

    asked: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class ResetKey:
    """RFC 4467 §7. Without a mailbox: of all of them."""

    mailbox: str | None = None
    mechanisms: tuple[bytes, ...] = ()  # in upper case; none: all


@dataclass(frozen=True, slots=True)
class UrlFetch:
    """RFC 4467 §7."""

    urls: tuple[bytes, ...]


def parse_genurlauth(args: Cursor) -> GenUrlAuth:
    """`SP url SP mechanism`, once or more."""
    asked: list[tuple[bytes, bytes]] = []
    while True:
        args.sp()
        url = args.astring()
        args.sp()
        asked.append((url, args.keyword()))
        if args.at_end:
            return GenUrlAuth(tuple(_few(asked)))


def parse_resetkey(args: Cursor) -> ResetKey:
    """Nothing, or a mailbox and mechanisms."""
    mailbox: str | None = None
    mechanisms: list[bytes] = []
    while not args.at_end:
        args.sp()
        if mailbox is None:
            mailbox = args.mailbox()
        else:
            mechanisms.append(args.keyword())
    return ResetKey(mailbox, tuple(_few(mechanisms)))


def parse_urlfetch(args: Cursor) -> UrlFetch:
    """`SP url`, once or more."""
    urls: list[bytes] = []
    while True:
        args.sp()
        urls.append(args.astring())
        if args.at_end:
            return UrlFetch(tuple(_few(urls)))


def _few(items: list[T]) -> list[T]:
    if len(items) > URLS:
        raise BadSyntax("Too many URLs at once")
    return items
