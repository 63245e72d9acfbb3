"""Replies: a code, an enhanced status, some lines. RFC 5321 §4.2, RFC 2034 §4."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from postroom.core.errors import Status
from postroom.wire.smtp.limits import REPLY_LINE

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_ASCII: Final = re.compile("[^ -~]")


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, as a server gives it or a client gets it.

    `code` is 200 to 599; `status`, if any, is of the same class and stands in each line
    (RFC 2034 §4; 3yz and the replies to HELO and EHLO have none). Raises ValueError otherwise.
    """

    code: int
    status: Status | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599 or not self.lines:
            raise ValueError("a reply has a code of 200 to 599 and a line")
        if self.status is not None and self.status.klass != self.code // 100:
            raise ValueError(f"{self.code} does not go with {self.status}")

    @property
    def positive(self) -> bool:
        """2yz: it was done. RFC 5321 §4.2.1."""
        return self.code < 300

    @property
    def intermediate(self) -> bool:
        """3yz: go on. RFC 5321 §4.2.1."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4yz: try again later. RFC 5321 §4.2.1."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz: do not try again unchanged. RFC 5321 §4.2.1."""
        return self.code >= 500

    @property
    def text(self) -> str:
        """The lines as one, for logs and notices."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        status = f" {self.status}" if self.status else ""
        return f"{self.code}{status} {self.text}"

    def render(self, *, utf8: bool = False) -> bytes:
        """The octets to send: each line at most 512 with its CRLF, wrapped at spaces.

        Whatever is not printable becomes "?", so text from elsewhere cannot start a line of
        its own; beyond ASCII only if `utf8` (RFC 6531 §3.7.4.2).
        """
        return _rendered(self, utf8)


def _render(reply: Reply, utf8: bool) -> bytes:
    status = f"{reply.status} " if reply.status is not None else ""
    room = REPLY_LINE - len("250-") - len(status) - len("\r\n")
    pieces = [piece for line in reply.lines for piece in _wrap(_clean(line, utf8), room)]
    last = pieces.pop()
    prefix = f"{reply.code}-{status}".encode("ascii")
    whole = [prefix + piece + b"\r\n" for piece in pieces]
    whole.append(f"{reply.code} {status}".encode("ascii") + last + b"\r\n")
    return b"".join(whole)


_rendered = lru_cache(maxsize=64)(_render)  # most are the same few


def ehlo_reply(domain: str, greeting: str, keywords: Iterable[str]) -> Reply:
    """The reply to EHLO or LHLO: RFC 5321 §4.1.1.1. A keyword carries its parameters.

    Raises ValueError for a keyword that would not arrive as it is.
    """
    offers = tuple(keywords)
    for offer in offers:
        if not offer or _NOT_ASCII.search(offer) or len(offer) > REPLY_LINE - 6:
            raise ValueError(f"not an EHLO keyword: {offer!r}")
    return Reply(250, None, (f"{domain} {greeting}".rstrip(), *offers))


def ehlo_keywords(reply: Reply) -> dict[str, str]:
    """What a server offers: keyword in upper case to its parameters, as one string.

    COMPAT: the old form AUTH=LOGIN counts as AUTH LOGIN, if AUTH itself is not offered.
    """
    offers: dict[str, str] = {}
    old = ""
    for line in reply.lines[1:]:
        keyword, _, parameters = line.strip().partition(" ")
        if keyword[:5].upper() == "AUTH=":
            old = f"{keyword[5:]} {parameters}".strip()
        elif keyword:
            offers.setdefault(keyword.upper(), parameters.strip())
    if old:
        offers.setdefault("AUTH", old)
    return offers


def _clean(line: str, utf8: bool) -> bytes:
    if line.isascii() and line.isprintable():
        return line.encode("ascii")
    if utf8:
        return _CONTROL.sub("?", line).encode("utf-8", "replace")
    return _NOT_ASCII.sub("?", line).encode("ascii")


def _wrap(line: bytes, room: int) -> list[bytes]:
    """Pieces of at most `room` octets, parted at a space where one is near."""
    pieces = []
    start = 0
    while len(line) - start > room:
        end = line.rfind(b" ", start + room // 2, start + room + 1)
        if end < 0:
            end = start + room
            while line[end] & 0xC0 == 0x80:  # never within a character: RFC 3629 §3
                end -= 1
            pieces.append(line[start:end])
            start = end
        else:
            pieces.append(line[start:end])
            start = end + 1
    pieces.append(line[start:])
    return pieces
