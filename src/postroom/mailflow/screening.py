"""From fields that mislead: what is found in those of strangers, and what our users get to see.

Looked at when who vouches for the message is known, and changed only in the copies of our own
accounts: what goes to other servers keeps its signatures. Changing From breaks those for whoever
checks again; what we found is in Authentication-Results by then.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from postroom.core.errors import MailError
from postroom.domain.directory import people
from postroom.domain.facts import FromFact, PeerFact
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.formats import headers
from postroom.formats.address import (
    Address,
    Group,
    Mailbox,
    format_mailbox,
    parse_address_list,
    to_address,
)
from postroom.formats.headers import Field
from postroom.formats.lookalike import Lookalikes, Misleading, addresses_in, visible
from postroom.mailflow.exempt import exempt
from postroom.mailflow.house import MailHouse
from postroom.mailflow.screening_settings import FromSettings
from postroom.store.blobs import Spool
from postroom.store.sql import Tx

REFRESH: Final = 60.0
"""Seconds after which the domains of this server are read anew."""
MOST_NAMES: Final = 2_000
"""Names of strangers that are remembered, with who has them here."""
ORIGINAL: Final = b"X-Postroom-Original-"
_OURS: Final = re.compile(rb"^x-postroom-original-from[ \t]*+:", re.MULTILINE | re.IGNORECASE)
_LAST_LINE_END: Final = re.compile(rb"\n(?![ \t])")


@dataclass(frozen=True, slots=True)
class Author:
    """The one author of a message."""

    field: Field
    mailbox: Mailbox
    address: Address


def the_author(transit: Transit) -> Author | None:
    """None where it is not certain who wrote it: then other rules judge, and nothing is changed."""
    found = transit.header()
    fields = found.find(b"from") if found is not None else []
    if found is None or found.over_cap or len(fields) != 1:
        return None
    listed = parse_address_list(fields[0].value(found.source))
    if len(listed) != 1 or isinstance(listed[0], Group):
        return None
    address = to_address(listed[0])
    return Author(fields[0], listed[0], address) if address is not None else None


# --- the probe ----------------------------------------------------------------------------------


async def screened(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """What in the From of a stranger's message misleads; the gravest of it."""
    visit, policy = transit.visit, transit.policy
    if policy is None or transit.parsed is None:
        return ()
    if visit.protocol is not Protocol.SMTP or visit.principal is not None:
        return ()
    author = the_author(transit)
    if author is None:
        return ()
    real = str(author.address)
    if _exempt(transit, author.address):
        return (_fact(Misleading.NONE, "", real, "it is exempt", exempt=True),)
    ours = await _ours(house)
    domain, name = author.address.domain, visible(author.mailbox.name)
    like = ours.like(domain)
    if like is not None:
        why = f"{domain} {like.how} {like.domain}, a domain of this server"
        return (_fact(Misleading.LOOKALIKE, like.domain, real, why),)
    for shown in addresses_in(name):
        if not _related(shown.domain, domain):
            told = f"{shown.local}@{shown.domain}"
            why = f"the author's name shows {told}, and the message is from {real}"
            return (_fact(Misleading.MISMATCH, told, real, why),)
    key = people.name_key(name)
    if key and not ours.is_ours(domain):
        person = await _named(house, key)
        if person is not None:
            why = f"{person} has the author's name, and the message is from {real}"
            return (_fact(Misleading.IMPERSONATION, str(person), real, why),)
    return (_fact(Misleading.NONE, "", real, ""),)


def _fact(found: Misleading, shown: str, real: str, why: str, *, exempt: bool = False) -> FromFact:
    return FromFact(found.value, shown, real, why, exempt)


def _exempt(transit: Transit, address: Address) -> bool:
    assert transit.policy is not None
    listed = transit.policy.of(FromSettings).exempt
    if not listed:
        return False
    known, peer = exempt(listed), transit.facts.get(PeerFact)
    if str(address).lower() in known.names or known.above(address.domain):
        return True
    return peer is not None and bool(peer.ip) and known.holds_peer(ip_address(peer.ip))


def _related(some: str, other: str) -> bool:
    """The same domain, or one below the other."""
    some, other = some.lower(), other.lower()
    return some == other or some.endswith(f".{other}") or other.endswith(f".{some}")


async def _ours(house: MailHouse) -> Lookalikes:
    """The domains of this server; new ones count within a minute."""
    now = house.clock.monotonic()
    if now >= house.lookalikes_until:
        names = await house.mail.read(_domains)
        if not house.lookalikes.of(names):
            house.lookalikes = await asyncio.to_thread(Lookalikes, names)  # 10 us for each
        house.lookalikes_until = now + REFRESH
    return house.lookalikes


async def _named(house: MailHouse, key: str) -> Address | None:
    """Somebody here of that name; new names count within a minute, as new domains do."""
    now = house.clock.monotonic()
    if now >= house.named_until or len(house.named) >= MOST_NAMES:
        house.named.clear()
        house.named_until = now + REFRESH
    if key in house.named:
        return house.named[key]
    person = house.named[key] = await house.mail.read(people.named, key)
    return person


def _domains(tx: Tx) -> list[str]:
    return [each.name for each in people.domains(tx)]


# --- what our users get to see -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The From of the copies for our own accounts: what is left out and what is put in."""

    cuts: tuple[tuple[int, int], ...]
    added: bytes
    told: tuple[str, ...]


def rewritten(transit: Transit, spool: Spool) -> Rewritten | None:
    """None where the From stays as it came."""
    found, policy, parsed = transit.facts.get(FromFact), transit.policy, transit.parsed
    if found is None or found.exempt or policy is None or parsed is None:
        return None
    settings = policy.of(FromSettings)
    if settings.add_address == "off" and not settings.replace_mismatch:
        return None
    author = the_author(transit)
    if author is None:
        return None
    before = visible(author.mailbox.name).strip()
    name, told = before, []
    if settings.replace_mismatch:
        name = _replaced(name, author.address)
        if name != before:
            told.append("replaced an address in the author's name by the author's own")
    added = _with_address(name, author.address, settings.add_address)
    if added != name:
        told.append("added the author's address to the name")
    if not told:
        return None
    try:
        made = headers.field(
            "From", format_mailbox(added, author.address, utf8=transit.utf8), utf8=transit.utf8
        )
    except MailError as error:
        return Rewritten((), b"", (f"left the author's name as it came: {error}",))
    field = author.field
    original = spool.head(parsed.header_size)[field.start : field.end]
    return Rewritten(((field.start, field.end),), ORIGINAL + original + made, tuple(told))


def forged(head: bytes) -> tuple[tuple[int, int], ...]:
    """The fields of a header that say what its From was before we changed it: nobody else may."""
    found = []
    for match in _OURS.finditer(head):
        end = _LAST_LINE_END.search(head, match.end())
        found.append((match.start(), end.end() if end is not None else len(head)))
    return tuple(found)


def _replaced(name: str, real: Address) -> str:
    """The name with the real address in place of each other one."""
    for shown in reversed(addresses_in(name)):
        if f"{shown.local}@{shown.domain}".lower() != str(real).lower():
            name = f"{name[: shown.start]}{real}{name[shown.end :]}"
    return name


def _with_address(name: str, real: Address, where: str) -> str:
    """The name with the address, unless it shows that already or there is no name."""
    if where == "off" or not name or str(real).lower() in name.lower():
        return name
    return f"{name} ({real})" if where == "after" else f"{real} ({name})"
