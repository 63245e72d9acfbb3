"""The probes that ask only the store and the message itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from postroom.core.errors import NotFound
from postroom.domain.directory import people
from postroom.domain.directory.aliases import Resolution, resolve
from postroom.domain.facts import (
    AuthorFact,
    ContentFact,
    PostingFact,
    RecipientFact,
    RoomFact,
    SenderRightsFact,
)
from postroom.domain.mailboxes import folders, rights
from postroom.domain.mailboxes.reading import usage
from postroom.domain.mailboxes.rights import Right
from postroom.domain.policy import Policy
from postroom.domain.transit import Fact, Outside, Recipient, Transit
from postroom.formats.address import Address, Group, Mailbox, parse_address_list, to_address
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow import batv
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store.blobs import Spool
from postroom.store.sql import Tx
from postroom.trust.dmarc import authors_of

_AUTHORS: Final = 20
"""Addresses in From and Sender that are looked up; a message with more is not believed."""


async def directory(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Where the recipient leads, and whether there is room: one snapshot of the store."""
    if to is None:
        return ()
    found, room, to.policy, *more = await house.mail.read(_look, house, transit, to)
    to.destinations = tuple(found.destinations)
    to.outside = tuple(found.outside) if found.local else (Outside(to.address),)
    return (
        RecipientFact(
            str(to.address),
            found.local,
            len(found.destinations),
            found.problem,
            len(to.outside),
        ),
        room,
        *more,
    )


async def sender_rights(
    house: MailHouse, transit: Transit, to: Recipient | None
) -> tuple[Fact, ...]:
    """Whether who signed in may use the reverse-path."""
    visit = transit.visit
    if visit.principal is None:
        return ()
    return (await house.mail.read(_rights, visit.principal, visit.epoch, transit.reverse_path),)


def _rights(tx: Tx, principal: int, epoch: int, sender: Address | None) -> SenderRightsFact:
    try:
        now, state = people.epoch(tx, principal)
    except NotFound:
        return SenderRightsFact(own=False, welcome=False)
    # <> claims to be nobody: RFC 5321 §4.5.5
    own = sender is None or _owns(tx, principal, sender)
    return SenderRightsFact(own, welcome=now == epoch and state == "active")


def _owns(tx: Tx, principal: int, address: Address) -> bool:
    """An address is somebody's own if its mail comes to him."""
    return any(at.account == principal for at in resolve(tx, address).destinations)


async def author(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Who the header says wrote the message, for one who signed in."""
    principal, spool, parsed = transit.visit.principal, transit.spool, transit.parsed
    if principal is None or spool is None or parsed is None:
        return ()
    found = transit.header()
    assert found is not None  # as there is content
    named = [
        to_address(box)
        for field in (b"from", b"sender")
        for value in found.all(field)
        for box in _mailboxes(value)
    ]
    addresses = tuple(dict.fromkeys(a for a in named if a is not None))
    foreign = await house.mail.read(_foreign, principal, addresses[:_AUTHORS])
    if None in named:
        foreign = (*foreign, "what is no address")
    if not found.over_cap and authors_of(found).problem:
        foreign = (*foreign, "what readers may take for the author")
    if len(addresses) > _AUTHORS:
        foreign = (*foreign, f"one beyond the first {_AUTHORS}")
    shown = tuple(map(str, addresses[:_AUTHORS]))
    return (AuthorFact(shown, foreign, len(found.find(b"from")), not found.over_cap),)


def _mailboxes(value: bytes) -> Iterator[Mailbox]:
    for entry in parse_address_list(value):
        if isinstance(entry, Group):
            yield from entry.members
        else:
            yield entry


def _foreign(tx: Tx, principal: int, addresses: tuple[Address, ...]) -> tuple[str, ...]:
    return tuple(str(each) for each in addresses if not _owns(tx, principal, each))


def _look(
    tx: Tx, house: MailHouse, transit: Transit, to: Recipient
) -> tuple[Resolution, RoomFact, Policy | None, *tuple[Fact, ...]]:
    found = resolve(tx, to.address)
    tag = batv.judged(tx, house, transit, to.address) if found.local else None
    if tag is not None and not found.destinations:
        found = resolve(tx, batv.untagged(to.address))
    posting = _posting(tx, transit.visit.principal, found)
    full, setting = 0, ""
    first: Policy | None = None
    for at in found.destinations:
        # As of MAIL, when the settings were read: one message meets one policy.
        along = house.chain(transit.visit.peer.listener, at.address.domain, at.account)
        policy = house.policies.latest(along)
        first = first or policy
        quota = policy.of(QuotaSettings)
        if quota.octets or quota.messages:
            octets, messages = usage(tx, at.account)
            over = reached(quota, octets + transit.declared_size, messages + 1)
            full += bool(over)
            setting = setting or over
    more: tuple[Fact, ...] = (*posting, tag) if tag is not None else posting
    return found, RoomFact(full, len(found.destinations), setting), first, *more


def _posting(tx: Tx, sender: int | None, found: Resolution) -> tuple[PostingFact, ...]:
    """Leave out the folders to which this sender may not post. RFC 4314 §2.1, `p`."""
    if not any(each.folder for each in found.destinations):
        return ()
    allowed, shown, forbidden = [], [], []
    for each in found.destinations:
        if not each.folder:
            allowed.append(each)
            continue
        named = replace(each, path=folders.tree(tx, each.account).path(each.folder))
        shown.append(named)
        if each.anybody or _may_post(tx, sender, each.folder):
            allowed.append(named)
        else:
            forbidden.append(named.path)
    found.destinations = allowed
    anybody = all(each.anybody for each in shown)
    return (PostingFact(tuple([each.path for each in shown]), anybody, tuple(forbidden)),)


def _may_post(tx: Tx, sender: int | None, mailbox: int) -> bool:
    return sender is not None and Right.POST in rights.of(tx, sender, folders.get(tx, mailbox))


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
    if spool.in_file:
        parsed = await asyncio.to_thread(_read, spool)
    else:
        parsed = parse(spool.content(), transit.header())
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
