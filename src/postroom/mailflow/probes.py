"""The probes that ask only the store and the message itself."""

from __future__ import annotations

from postroom.domain.directory.aliases import Resolution, resolve
from postroom.domain.facts import ContentFact, RecipientFact, RoomFact
from postroom.domain.mailboxes.reading import usage
from postroom.domain.transit import Fact, Recipient, Transit
from postroom.formats import headers
from postroom.formats.parsed import parse
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store.sql import Tx


async def directory(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Where the recipient leads, and whether there is room: one snapshot of the store."""
    if to is None:
        return ()
    found, full = await house.mail.read(_look, house, transit, to)
    to.destinations = tuple(found.destinations)
    return (
        RecipientFact(str(to.address), found.local, len(found.destinations), found.problem),
        RoomFact(full, len(found.destinations)),
    )


def _look(tx: Tx, house: MailHouse, transit: Transit, to: Recipient) -> tuple[Resolution, int]:
    found = resolve(tx, to.address)
    full = 0
    for at in found.destinations:
        along = house.chain(transit.visit.peer.listener, at.address.domain, at.account)
        quota = house.policies.current(tx, along).of(QuotaSettings)
        if quota.octets or quota.messages:
            octets, messages = usage(tx, at.account)
            over = quota.octets and octets + transit.declared_size > quota.octets
            full += bool(over or (quota.messages and messages >= quota.messages))
    return found, full


async def structure(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Parse the content, once for all who will ask; count the hops that it made."""
    seen = transit.facts.get(ContentFact)
    if transit.spool is None or seen is None:
        return ()
    raw = transit.spool.content()
    transit.parsed = parse(raw)
    hops = len(headers.scan(raw).all(b"received"))
    return (
        ContentFact(
            seen.size,
            seen.bare_cr,
            seen.bare_lf,
            seen.nul,
            seen.longest_line,
            hops,
            transit.parsed.complex or "",
        ),
    )
