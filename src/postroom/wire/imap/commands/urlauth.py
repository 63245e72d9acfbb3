"""Commands about URLs that carry an authorization. RFC 4467 §7, §9, RFC 5524.

URLs are read as the octets that they are: what a bad one means is the command's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

from postroom.wire.imap.cursor import BadSyntax, Cursor, unexpected

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


class UrlItem(StrEnum):
    """What is to be told of what a URL names. RFC 5524 §3.1."""

    BODY = "BODY"
    BINARY = "BINARY"
    BODYPARTSTRUCTURE = "BODYPARTSTRUCTURE"


class AskedUrl(NamedTuple):
    """Without items it is answered as RFC 4467 §8 says."""

    url: bytes
    items: tuple[UrlItem, ...] = ()


@dataclass(frozen=True, slots=True)
class UrlFetch:
    """RFC 4467 §7, RFC 5524 §3."""

    urls: tuple[AskedUrl, ...]


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
    """`SP url` or `SP (url items)`, once or more. RFC 5524 §5."""
    urls: list[AskedUrl] = []
    while True:
        args.sp()
        urls.append(_with_items(args) if args.accept(b"(") else AskedUrl(args.astring()))
        if args.at_end:
            return UrlFetch(tuple(_few(urls)))


def _with_items(args: Cursor) -> AskedUrl:
    url = args.astring()
    items: list[UrlItem] = []
    while not args.accept(b")"):
        args.sp()
        try:
            items.append(UrlItem(args.keyword().decode("ascii")))
        except ValueError:
            unexpected("This item of a URL")
        if len(items) > len(set(items)) or {UrlItem.BODY, UrlItem.BINARY} <= set(items):
            raise BadSyntax("Each item once, and of BODY and BINARY one")  # RFC 5524 §3.1
    return AskedUrl(url, tuple(items))


def _few(items: list[T]) -> list[T]:
    if len(items) > URLS:
        raise BadSyntax("Too many URLs at once")
    return items
