"""Who wrote a message, as DMARC sees it: the domains of its From fields. RFC 9989 §5.3.1, §11.5.

Read by the same parser as what users are shown, so the domain that is checked is the one that
they see. What another reader might see otherwise is told as a problem instead of guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from postroom.formats.address import (
    BadAddress,
    Group,
    Mailbox,
    canonical_domain,
    parse_address_list,
)
from postroom.formats.headers import Headers
from postroom.formats.words import decode_words

_AT: Final = "@"
MOST_DOMAINS: Final = 5
"""Author domains that are checked; nobody writes for more at once."""
MOST_ADDRESSES: Final = 100
"""Addresses of the From fields that are looked at."""


@dataclass(frozen=True, slots=True)
class Authors:
    """What the From fields say."""

    domains: tuple[str, ...] = ()  # each once, canonical; five at most
    addresses: tuple[str, ...] = ()  # as shown, the domain canonical, for exemptions
    missing: bool = False  # there is nobody: no From field, or no address in it
    problem: str = ""  # why it is not certain who wrote it; empty if it is


def read_of(found: Headers) -> Authors:
    """Of a header, whose source goes on behind it."""
    hidden = "its header breaks off, and another From field follows" if hides(found) else ""
    return read(found.all(b"from"), whole=not found.over_cap, problem=hidden)


def hides(found: Headers) -> bool:
    """Whether a From field stands behind a line that is no field, before any blank line.

    There the header ends for us, as for others; those who pass over such a line read on. Linear.
    """
    source, end = found.source, found.end
    if end >= len(source) or source.endswith((b"\n\r\n", b"\n\n"), 0, end):
        return False
    if source[:end] in (b"\r\n", b"\n"):
        return False  # there is no header
    blank = _BLANK_LINE.search(source, end)
    return _FROM.search(source, end, blank.start() + 1 if blank else len(source)) is not None


_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_FROM: Final = re.compile(rb"^from[ \t]*+:", re.IGNORECASE | re.MULTILINE)


def read(values: Sequence[bytes], *, whole: bool, problem: str = "") -> Authors:
    """From the unfolded values of all From fields, in order.

    `whole` says that the header was looked at to its end; a `problem` what else is unclear.
    """
    domains: dict[str, None] = {}
    addresses: dict[str, None] = {}
    if not whole:
        problem = "its header is too long to be read to the end"
    if len(values) > 1:
        problem = problem or f"it has {len(values)} From fields"
    count = 0
    for value in values:
        listed = parse_address_list(value)
        if not _can_be_read(listed, value):
            problem = problem or "its From field has an address that cannot be read"
        for mailbox in _mailboxes(listed):
            if not mailbox.domain:
                continue  # `From: root` of a machine: nobody's domain is used
            if "@" in mailbox.local and f'"{mailbox.local}"@'.encode() not in value:
                # Unquoted, some readers take the first for the end of it, others the last.
                problem = problem or "its From field has an address with several @"
            count += 1
            domain = _domain(mailbox.domain)
            if domain is None:
                problem = problem or "its From field has a domain that is none"
                continue
            new = domain not in domains
            if (new and len(domains) == MOST_DOMAINS) or count > MOST_ADDRESSES:
                problem = problem or "its From fields name too many"
                break
            domains[domain] = None
            addresses[f"{mailbox.local}@{domain}".lower()] = None
    return Authors(tuple(domains), tuple(addresses), not domains and not problem, problem)


def _domain(text: str) -> str | None:
    """The domain in lower-case A-labels: RFC 9989 §5.3.1. None if it is none."""
    try:
        return canonical_domain(text.removesuffix("."))
    except BadAddress:
        return None


def _can_be_read(listed: Sequence[Mailbox | Group], value: bytes) -> bool:
    """Whether what looks like an address is one: not the name of a group, nor text that we found
    none in, encoded or not."""
    if any(_AT in entry.name for entry in listed if isinstance(entry, Group)):
        return False
    return any(each.domain for each in _mailboxes(listed)) or _AT not in decode_words(value)


def _mailboxes(listed: Iterable[Mailbox | Group]) -> Iterator[Mailbox]:
    for entry in listed:
        if isinstance(entry, Group):
            yield from entry.members
        else:
            yield entry
