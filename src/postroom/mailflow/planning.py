"""From a message that was accepted to the plan of its delivery: nothing is decided after this.

The plan holds every id and every byte, so that the unit which carries it out is short and may be
rerun. A copy for our accounts begins with Return-Path, one for other servers does not: RFC 5321
§4.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from postroom.core.clock import Instant, to_datetime
from postroom.core.ids import TRACE, external
from postroom.domain import trace
from postroom.domain.feedback.failures import Owed
from postroom.domain.mailboxes.folders import place
from postroom.domain.mailboxes.messages import Quota
from postroom.domain.queue import HOUR, LOCALLY, Hop
from postroom.domain.transit import (
    Action,
    AddField,
    Destination,
    FileInto,
    Protocol,
    Recipient,
    SetFlags,
    Transit,
    Visit,
)
from postroom.formats.compose import received_field, return_path
from postroom.formats.parsed import Parsed, below, parse
from postroom.mailflow import (
    authentication,
    bimi,
    filing,
    quarantine,
    screening,
    sealing,
    signing,
    telling,
    vbr,
)
from postroom.mailflow.amending import Amendment, amend
from postroom.mailflow.delivery import Placing, Plan, Relaying, Settling, split
from postroom.mailflow.house import MailHouse
from postroom.mailflow.reports import delivered_notices
from postroom.mailflow.routing import next_hop
from postroom.mailflow.rules.recipients import no_room
from postroom.mailflow.settings import QueueSettings, QuotaSettings
from postroom.store.blobs import Form, Spool

JUNK: Final = "$Junk"
"""The keyword of junk that is filed elsewhere. RFC 9051 §2.3.2."""


async def make_plan(
    house: MailHouse,
    transit: Transit,
    settling: Settling | None = None,
    owed: Owed | None = None,
) -> Plan:
    """The plan for a message whose content and recipients were accepted.

    Raises MailError if the store cannot keep its content; then nothing was kept.
    """
    now = house.clock.now()
    spool, parsed = transit.spool, transit.parsed
    assert spool is not None and parsed is not None  # intake does not come here without them
    placings = _placings(house, transit)
    relayings = _relayings(transit)
    brought = filing.brought(house, transit)
    amendment = amend(transit, spool, house.hostname, house.default_domain)
    amended_here = amendment
    transit.amended += amendment.told
    vouched = authentication.fields(transit, house.hostname)
    received = vouched + _received(house, transit) + _added(transit) + amendment.added
    forms = []
    if placings or brought is not None:
        top = return_path(transit.reverse_path) + bimi.field(transit)
        shown = screening.rewritten(transit, spool) if placings else None
        if shown is not None:
            amended_here = replace(
                amendment,
                added=amendment.added + shown.added,
                cuts=tuple(sorted((*amendment.cuts, *shown.cuts))),
            )
            transit.amended += shown.told
        forms.append(Form(top + received + (shown.added if shown else b""), amended_here.cuts))
    if relayings:
        received += vbr.field(house, transit)
        plain = Form(received, amendment.cuts)
        # Signed last, and on top: what leaves is what was signed.
        signed = await signing.fields(house, transit, spool, plain)
        sealed = await sealing.fields(house, transit, spool, plain, vouched)
        forms.append(Form(sealed + signed + received, amendment.cuts))
    shape = await _shape(spool, parsed, forms[0], amended_here) if placings else None
    finished = await house.blobs.finish(spool, forms)
    here = finished.wholes[0] if placings or brought is not None else None
    there = finished.wholes[-1] if relayings else None
    unit, queued = split(placings)
    each = transit.visit.protocol is Protocol.LMTP  # the peer hears of each: RFC 2033 §4.2
    record = telling.accepted(transit, unit, queued, relayings, finished.wholes[0])
    message_id = amendment.message_id or (parsed.message_id or b"").decode("latin-1")
    record["message_id"] = message_id
    if brought is not None:
        record["reports"] = brought.address
    reverse_path = str(transit.reverse_path) if transit.reverse_path is not None else None
    hops = {r.hop for r in relayings} | ({LOCALLY} if placings else set())
    return Plan(
        transit=transit.id,
        content=finished.stored,
        here=here,
        there=there,
        parsed=shape,
        now=now,
        placings=unit,
        queued=queued,
        relayings=relayings,
        candidates={hop: house.ids.new() for hop in sorted(hops)},
        ids=(house.ids.new(), house.ids.new(), house.ids.new(), house.ids.new()),
        reverse_path=reverse_path,
        envid=transit.envid,
        ret=transit.ret,
        utf8=transit.utf8,
        eight_bit=spool.eight_bit,
        origin=str(transit.visit.protocol).lower(),
        expires_at=expires_at(transit, now),
        quarantined_until=quarantine.until(transit, now),
        record=record,
        packed=trace.pack(record),
        keys=_keys(transit, placings, relayings, reverse_path, message_id),
        notices=await delivered_notices(house, transit, unit, spool),
        settling=settling,
        brought=brought,
        no_room=_no_room(transit) if each else (),
        owed=owed,
    )


def _no_room(transit: Transit) -> tuple[dict[str, Any], ...]:
    policies = [each.policy or transit.policy for each in transit.recipients]
    return tuple([telling.decision(no_room(policy), policy) for policy in policies])


def expires_at(transit: Transit, now: Instant) -> Instant:
    """Until when this message is tried."""
    assert transit.policy is not None
    settings = transit.policy.of(QueueSettings)
    null = transit.reverse_path is None
    hours = settings.expire_null_hours if null else settings.expire_hours
    return Instant(now + hours * HOUR)


def _keys(
    transit: Transit,
    placings: Sequence[Placing],
    relayings: Sequence[Relaying],
    reverse_path: str | None,
    message_id: str,
) -> tuple[str, ...]:
    """By what the trace can be found."""
    keys = {trace.address_key(p.address) for p in placings}
    keys |= {trace.address_key(r.address) for r in relayings}
    keys |= {trace.address_key(str(r.address)) for r in transit.recipients}
    if reverse_path:
        keys.add(trace.address_key(reverse_path))
    if message_id:
        keys.add(trace.message_id_key(message_id))
    return tuple(sorted(keys))


# --- the content --------------------------------------------------------------------------


async def _shape(spool: Spool, parsed: Parsed, form: Form, amendment: Amendment) -> Parsed:
    """The parse of the form that our accounts get."""
    if not amendment.cuts and not amendment.added:
        return below(parsed, len(form.prefix))
    if spool.in_file:
        return await asyncio.to_thread(lambda: parse(form.of(spool.content())))
    return parse(form.of(spool.content()))


def _added(transit: Transit) -> bytes:
    """The fields that rules put on top."""
    edits = [e for v in transit.verdicts for e in v.edits if isinstance(e, AddField)]
    return b"".join(edit.field for edit in edits)


def _received(house: MailHouse, transit: Transit) -> bytes:
    """The Received field. RFC 5321 §4.4."""
    visit = transit.visit
    only = transit.recipients[0].address if len(transit.recipients) == 1 else None
    tls = visit.peer.tls
    return received_field(
        by=house.hostname,
        protocol=_with(visit, transit),
        identifier=external(TRACE, transit.id),
        date=to_datetime(transit.started),
        helo=visit.helo or None,
        peer=visit.peer.ip,
        peer_name=authentication.peer_name(transit),
        tls=f"{tls.version} {tls.cipher}" if tls is not None else None,
        recipient=only,
        utf8=transit.utf8,
    )


def _with(visit: Visit, transit: Transit) -> str:
    """The protocol of the Received field, none for what we composed. RFC 3848, RFC 6531 §4.3."""
    if visit.protocol is Protocol.COMPOSED:
        return ""
    if visit.protocol is Protocol.LMTP:
        base = "UTF8LMTP" if transit.utf8 else "LMTP"
    elif not visit.extended:
        return "SMTP"
    else:
        base = "UTF8SMTP" if transit.utf8 else "ESMTP"
    encrypted = "S" if visit.peer.tls is not None else ""
    signed_in = "A" if visit.principal is not None else ""
    return base + encrypted + signed_in


# --- the recipients -----------------------------------------------------------------------


def _placings(house: MailHouse, transit: Transit) -> tuple[Placing, ...]:
    """One placing for each account, however many addresses led to it."""
    made: dict[tuple[int, int], Placing] = {}
    listener = transit.visit.peer.listener
    for n, recipient in enumerate(transit.recipients):
        role, flags = _edits(transit, recipient)
        held = quarantine.reason(transit, recipient)
        for at in recipient.destinations:
            where, marks = _where(at, role, flags)
            if (at.account, at.folder) in made:
                continue
            # As of MAIL, when the settings were read, or later: one message meets one policy.
            chain = house.chain(listener, at.address.domain, at.account)
            quota = house.policies.latest(chain).of(QuotaSettings)
            made[at.account, at.folder] = Placing(
                recipient=n,
                account=at.account,
                address=str(at.address),
                message=house.ids.new(),
                role=where,
                flags=marks,
                quota=Quota(quota.octets, quota.messages),
                notify=recipient.notify,
                orcpt=recipient.orcpt,
                quarantined=held,
            )
    return tuple(made.values())


def _where(at: Destination, role: str, flags: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The place and the flags of a copy. What is posted to a folder lies there whatever it is."""
    if not at.folder:
        return role, flags
    return place(at.folder), (*flags, JUNK) if role == "junk" else flags


def _relayings(transit: Transit) -> tuple[Relaying, ...]:
    """One relaying for each address elsewhere, however many of ours led to it."""
    assert transit.policy is not None
    made: dict[str, Relaying] = {}
    for n, recipient in enumerate(transit.recipients):
        held = quarantine.reason(transit, recipient)
        for at in recipient.outside:
            if at.address.key not in made:
                hop: Hop = next_hop(at.address, transit.policy).hop
                made[at.address.key] = Relaying(
                    n, str(at.address), hop, recipient.notify, recipient.orcpt, held
                )
    return tuple(made.values())


def _edits(transit: Transit, recipient: Recipient) -> tuple[str, tuple[str, ...]]:
    role = "inbox"
    flags: tuple[str, ...] = ()
    for verdict in (*transit.verdicts, *recipient.verdicts):
        if verdict.action is Action.JUNK:
            role = "junk"
        for edit in verdict.edits:
            if isinstance(edit, FileInto):
                role = edit.role
            elif isinstance(edit, SetFlags):
                flags += edit.flags
    return role, tuple(dict.fromkeys(flags))
