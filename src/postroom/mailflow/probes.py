"""The probes that ask only the store and the message itself."""

from __future__ import annotations

import asyncio

from postroom.domain.directory.aliases import Resolution, resolve
from postroom.domain.facts import ContentFact, RecipientFact, RoomFact
from postroom.domain.mailboxes.reading import usage
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Recipient, Transit
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store.blobs import Spool
from postroom.store.sql import Tx


async def directory(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Where the recipient leads, and whether there is room: one snapshot of the store."""
    if to is None:
        return ()
    found, room, to.policy = await house.mail.read(_look, house, transit, to)
    to.destinations = tuple(found.destinations)
    return (
        RecipientFact(str(to.address), found.local, len(found.destinations), found.problem),
        room,
    )


def _look(
    tx: Tx, house: MailHouse, transit: Transit, to: Recipient
) -> tuple[Resolution, RoomFact, Policy | None]:
    found = resolve(tx, to.address)
    full, setting = 0, ""
    first: Policy | None = None
    for at in found.destinations:
        along = house.chain(transit.visit.peer.listener, at.address.domain, at.account)
        # One look at the version serves all: they are read on one snapshot.
        policy = house.policies.latest(along) if first else house.policies.current(tx, along)
        first = first or policy
        quota = policy.of(QuotaSettings)
        if quota.octets or quota.messages:
            octets, messages = usage(tx, at.account)
            over = reached(quota, octets + transit.declared_size, messages + 1)
            full += bool(over)
            setting = setting or over
    return found, RoomFact(full, len(found.destinations), setting), first


def reached(quota: QuotaSettings, octets: int, messages: int) -> str:
    """The setting that forbids an account to hold so much; empty if none does."""
    if quota.octets and octets > quota.octets:
        return "quota.octets"
    return "quota.messages" if quota.messages and messages > quota.messages else ""


async def structure(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Parse the content, once for all who will ask; count the hops that it made."""
    seen = transit.facts.get(ContentFact)
    spool = transit.spool
    if spool is None or seen is None:
        return ()
    # What is small takes less than going to a thread and back.
    parsed = await asyncio.to_thread(_read, spool) if spool.in_file else _read(spool)
    transit.parsed = parsed
    return (
        ContentFact(
            seen.size,
            seen.bare_cr,
            seen.bare_lf,
            seen.nul,
            seen.longest_line,
            parsed.received,
            parsed.complex or "",
        ),
    )


def _read(spool: Spool) -> Parsed:
    return parse(spool.content())
