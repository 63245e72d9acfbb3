"""Where aggregate reports about a domain go: its record asked anew, each address verified.

RFC 9989 §4.7 `rua`, RFC 9990 §4. Whoever publishes a record may name anybody's address in it, so
an address elsewhere gets reports only if the domain there says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import DnsFailed
from postroom.formats.address import Address
from postroom.formats.compose import printable
from postroom.trust.dmarc.discover import Walks
from postroom.trust.dmarc.record import Record, mailbox
from postroom.trust.lookups import Lookup

MOST: Final = 10
"""Addresses that a report goes to, those that are named in place of others included."""
DEADLINE: Final = 10.0
"""Seconds for all of it."""


@dataclass(frozen=True, slots=True)
class Destination:
    """One address, and why it gets no report; empty: it gets one."""

    address: str  # an address, or the URI that names none
    most: int = 0  # octets that it takes; 0: it does not say
    why: str = ""
    unanswered: bool = False  # DNS did not say whether it may have one: it may later


@dataclass(frozen=True, slots=True)
class Asked:
    """What the record of a policy domain says now. Raises nothing later: all is known."""

    record: Record | None  # None: there is none any more
    destinations: tuple[Destination, ...]


async def destinations(lookup: Lookup, domain: str, seconds: float = DEADLINE) -> Asked:
    """Whom to tell about a policy domain. Raises DnsFailed if its record is not to be had."""
    walks = Walks(lookup)
    try:
        async with asyncio.timeout(seconds):
            record = await walks.record(domain)
            if record is None:
                return Asked(None, ())
            named = list(zip(record.rua, record.most, strict=True))
            found = await asyncio.gather(
                *(_verified(walks, domain, uri, most) for uri, most in named)
            )
    except TimeoutError as error:
        raise DnsFailed(detail=f"no answer within {seconds:g} s", reason="deadline") from error
    finally:
        walks.close()
    # Two URIs may come to name one address: it gets one report.
    unique = {each.address: each for several in reversed(found) for each in reversed(several)}
    return Asked(record, tuple(reversed(unique.values()))[:MOST])


async def _verified(walks: Walks, domain: str, uri: str, most: int) -> list[Destination]:
    address = mailbox(uri)
    if address is None:
        return [Destination(printable(uri), why="only mailto: is served")]
    there = address.domain
    if there.startswith("["):
        return [Destination(str(address), why="an address literal accepts no reports of others")]
    try:
        acceptance = await walks.acceptance(domain, there)
    except DnsFailed as error:
        why = f"DNS does not say whether {printable(there)} takes such reports: "
        why += printable(error.detail or str(error))
        return [Destination(str(address), why=why, unanswered=True)]
    if acceptance is None:
        why = f"{printable(there)} does not say that it takes reports about {printable(domain)}"
        return [Destination(str(address), why=why)]
    if not acceptance.rua:
        return [Destination(str(address), most)]
    return _instead(acceptance, address)


def _instead(acceptance: Record, address: Address) -> list[Destination]:
    """The addresses that the other domain wants instead, which must be in it: RFC 9990 §4."""
    named = [
        (mailbox(uri), most) for uri, most in zip(acceptance.rua, acceptance.most, strict=True)
    ]
    found = [
        Destination(str(other), most)
        for other, most in named
        if other is not None and other.domain == address.domain
    ]
    return found or [Destination(str(address))]
