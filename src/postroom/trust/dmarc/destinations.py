"""Where reports about a domain go: its record asked anew, each address verified.

RFC 9989 §4.7 `rua` and `ruf`, RFC 9990 §4, RFC 9991 §5. Whoever publishes a record may name
anybody's address in it, so an address elsewhere gets reports only if the domain there says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
    why: str = ""
    unanswered: bool = False  # DNS did not say whether it may have one: it may later


@dataclass(frozen=True, slots=True)
class Asked:
    """What the record of a policy domain says now. Raises nothing later: all is known."""

    record: Record | None  # None: there is none any more
    destinations: tuple[Destination, ...]


async def destinations(
    lookup: Lookup, domain: str, seconds: float = DEADLINE, *, failures: bool = False
) -> Asked:
    """Whom to tell about a policy domain: who wants aggregate reports, or those of `failures`.

    Raises DnsFailed if its record is not to be had.
    """
    walks = Walks(lookup)
    try:
        async with asyncio.timeout(seconds):
            record = await walks.record(domain)
            if record is None:
                return Asked(None, ())
            found = await asyncio.gather(
                *(_verified(walks, domain, uri, failures) for uri in _named(record, failures))
            )
    except TimeoutError as error:
        raise DnsFailed(detail=f"no answer within {seconds:g} s", reason="deadline") from error
    finally:
        walks.close()
    # Two URIs may come to name one address: it gets one report.
    unique = {each.address: each for several in reversed(found) for each in reversed(several)}
    return Asked(record, tuple(reversed(unique.values()))[:MOST])


def _named(record: Record, failures: bool) -> tuple[str, ...]:
    """The URIs that a record names."""
    if failures:  # of which a public suffix gets none: RFC 9991 §2
        return record.ruf if record.psd != "y" else ()
    return record.rua


async def _verified(walks: Walks, domain: str, uri: str, failures: bool) -> list[Destination]:
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
    instead = _named(acceptance, failures)
    if not instead:
        return [Destination(str(address))]
    return _instead(instead, address)


def _instead(uris: Sequence[str], address: Address) -> list[Destination]:
    """The addresses that the other domain wants instead, which must be in it. If it names others
    alone, nobody gets a report: neither they nor whom the record asked for. RFC 9990 §4."""
    named = [other for uri in uris if (other := mailbox(uri)) is not None]
    found = [Destination(str(other)) for other in named if other.domain == address.domain]
    if not found and named:
        why = f"{printable(address.domain)} names addresses of another domain instead"
        return [Destination(str(address), why=why)]
    return found or [Destination(str(address))]
