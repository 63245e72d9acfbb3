"""The delivery plan and the one unit that carries it out.

The plan is made before the unit: every id, every byte of trace. The unit places up to 50
messages itself; further recipients become rows of the local queue, so that the sender of an
all-staff message does not wait, and those elsewhere rows of the remote one. Only when its commit
is on disk does anybody say 250.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound, OverQuota
from postroom.domain import queue, reported, trace
from postroom.domain.feedback import failures
from postroom.domain.feedback.failures import Owed
from postroom.domain.mailboxes import flags, folders, messages
from postroom.domain.mailboxes.change import Change, begin_all
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import SYSTEM_ACTOR, NewMessage, Quota
from postroom.domain.queue import LOCALLY, Composed, Hop, Lease, NewRecipient, QueuedMessage
from postroom.domain.reported import Brought
from postroom.formats.parsed import Parsed
from postroom.store import blobs
from postroom.store.blobs import NewBlob
from postroom.store.sql import Tx

PLACEMENTS: Final = 50
"""Placements in the unit that answers the sender; the rest are queue rows."""


@dataclass(frozen=True, slots=True)
class Placing:
    """One copy for one account."""

    recipient: int  # which recipient of the transit, by position
    account: int
    address: str
    message: int  # the id that the copy gets
    role: str  # the place: a special use, or a mailbox of its own, `folders.place`
    flags: tuple[str, ...]
    quota: Quota
    notify: tuple[str, ...] = ()
    orcpt: str | None = None
    quarantined: str = ""  # why it is kept out of the mailbox; empty: it is not


@dataclass(frozen=True, slots=True)
class Relaying:
    """A recipient whom another server takes from here."""

    recipient: int  # which recipient of the transit, by position
    address: str
    hop: Hop
    notify: tuple[str, ...] = ()
    orcpt: str | None = None
    quarantined: str = ""  # why it is not sent on; empty: it is


@dataclass(frozen=True, slots=True)
class Settling:
    """What the unit also takes out of the queue: a message that we composed and that waited for
    its turn at intake."""

    lease: Lease
    recipients: tuple[queue.Recipient, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """A report of delivery that somebody asked for, sent if these copies were placed."""

    placed: frozenset[int]  # message ids
    composed: Composed


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the unit needs; made outside it, so that it may be rerun."""

    transit: int
    content: tuple[NewBlob, ...]  # all that is to be kept
    here: NewBlob | None  # the message as our accounts get it
    there: NewBlob | None  # and as other servers do
    parsed: Parsed | None  # of `here`
    now: Instant
    placings: tuple[Placing, ...]
    queued: tuple[Placing, ...]
    relayings: tuple[Relaying, ...]
    candidates: dict[Hop, int]  # ids of destinations that may be new
    ids: tuple[int, int, int, int]  # of the queue's envelopes: here, there; in quarantine likewise
    reverse_path: str | None
    envid: str | None
    ret: str | None
    utf8: bool
    eight_bit: bool
    origin: str
    expires_at: Instant
    quarantined_until: Instant
    record: dict[str, Any]
    packed: bytes
    keys: tuple[str, ...]
    notices: tuple[Notice, ...] = ()
    settling: Settling | None = None
    brought: Brought | None = None  # it brings reports
    no_room: tuple[dict[str, Any], ...] = ()
    """For each recipient, what the trace says if nobody behind it has room and the peer, who
    hears of each (LMTP), is to bring it again; empty: then it waits in the queue."""
    owed: Owed | None = None  # the report on it that its author's domain asks for


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the unit did with each placing, by message id."""

    placed: frozenset[int]
    waiting: tuple[tuple[int, str], ...]  # went to the queue, with the reason
    turned_away: frozenset[int] = frozenset()  # left to the peer


def deliver(tx: Tx, plan: Plan) -> Delivered:
    """Carry out a plan, all or nothing.

    A recipient whose account is full by now waits in the queue, or is left to a peer who hears
    of each; if that is so for every one, raises OverQuota and keeps nothing. An account that was
    deleted since RCPT counts as full: the next attempt finds out.
    """
    if plan.settling is not None:
        queue.hold(tx, plan.settling.lease)
        queue.done(tx, plan.settling.recipients)
    changes = begin_all(tx, (p.account for p in plan.placings))
    for blob in plan.content:
        blobs.insert(tx, blob, plan.now)
    placed, waiting = _place(tx, plan, changes)
    if waiting and not placed and not plan.queued and not plan.relayings and not plan.brought:
        raise OverQuota
    waiting, turned_away = _part(plan, placed, waiting)
    for change in changes.values():
        change.end(tx, plan.now, SYSTEM_ACTOR, "deliver", {"transit": plan.transit})
    _queue_here(tx, plan, waiting)
    _queue_there(tx, plan)
    if plan.brought is not None and plan.here is not None:
        here = plan.here
        reported.accept(tx, plan.brought, plan.transit, here.id, here.size, plan.now)
    for notice in plan.notices:
        if notice.placed <= placed:
            queue.submit(tx, notice.composed, plan.now)
    if plan.owed is not None:
        failures.owe(tx, plan.owed)
    packed = plan.packed
    if waiting or turned_away:
        packed = trace.pack(_told(plan.record, plan, waiting, turned_away))
    trace.keep(tx, plan.transit, plan.now, packed, plan.keys)
    return Delivered(
        frozenset(placed),
        tuple((p.message, why) for p, why in waiting),
        frozenset(p.message for p in turned_away),
    )


def _part(
    plan: Plan, placed: set[int], full: list[tuple[Placing, str]]
) -> tuple[list[tuple[Placing, str]], list[Placing]]:
    """Who waits here, and who is left to the peer: a recipient of whom nothing was taken.

    One that leads to several accounts, of which some have it, must not come to these again.
    """
    if not full or not plan.no_room:
        return full, []
    taken = {p.recipient for p in plan.placings if p.message in placed}
    taken |= {p.recipient for p in plan.queued} | {r.recipient for r in plan.relayings}
    if plan.brought is not None:
        taken.add(plan.brought.recipient)
    waiting = [(p, why) for p, why in full if p.recipient in taken]
    return waiting, [p for p, _ in full if p.recipient not in taken]


def _told(
    record: dict[str, Any],
    plan: Plan,
    waiting: list[tuple[Placing, str]],
    turned_away: list[Placing],
) -> dict[str, Any]:
    """The record, with what the unit found out."""
    away = {p.message for p in turned_away}
    refused = [{"address": p.address, **plan.no_room[p.recipient]} for p in turned_away]
    return {
        **record,
        "delivered": [each for each in record["delivered"] if each["message"] not in away],
        "refused": [*record["refused"], *refused],
        "waits": [{"to": placing.address, "because": why} for placing, why in waiting],
    }


def _place(
    tx: Tx, plan: Plan, changes: dict[int, Change]
) -> tuple[set[int], list[tuple[Placing, str]]]:
    placed: set[int] = set()
    waiting: list[tuple[Placing, str]] = []
    if plan.here is None or plan.parsed is None:
        return placed, waiting
    messages.store_parsed(tx, plan.here.id, plan.parsed)
    for placing in plan.placings:
        try:
            place_one(tx, changes, placing, plan.here, plan.parsed, plan.now)
        except (OverQuota, NotFound) as error:
            waiting.append((placing, str(error)))
        else:
            placed.add(placing.message)
    return placed, waiting


def place_one(
    tx: Tx,
    changes: dict[int, Change],
    placing: Placing,
    blob: NewBlob,
    parsed: Parsed,
    now: Instant,
) -> None:
    """Put one copy into its mailbox; raises OverQuota, or NotFound for a vanished account."""
    change = changes.get(placing.account)
    if change is None:
        raise NotFound("The account is gone")
    box = _mailbox(tx, placing)
    placing.quota.check(change, blob.size, 1)
    marks = flags.fitting(tx, placing.account, placing.flags) if placing.flags else ()
    new = NewMessage(placing.message, blob.id, blob.size, now, parsed, marks)
    messages.place(tx, change, box, new, now)


def _mailbox(tx: Tx, placing: Placing) -> Mailbox:
    """The mailbox of that place, or INBOX where the user has deleted it."""
    for at in (placing.role, "inbox"):
        box = folders.by_place(tx, placing.account, at)
        if box is not None:
            return box
    raise NotFound("The account has no INBOX")


def _queue_here(tx: Tx, plan: Plan, waiting: list[tuple[Placing, str]]) -> None:
    if plan.here is None:
        return
    rows = [(p, "") for p in plan.queued] + waiting
    for held in (False, True):
        recipients = [_waits(plan, p, why) for p, why in rows if bool(p.quarantined) is held]
        if recipients:
            message = _envelope(plan, plan.here, plan.ids[2 * held], held)
            queue.put(tx, message, recipients, {LOCALLY: plan.candidates[LOCALLY]})


def _waits(plan: Plan, p: Placing, why: str) -> NewRecipient:
    """`why` it could not be placed; empty: nobody has tried."""
    return NewRecipient(
        address=p.address,
        account=p.account,
        role=p.role,
        flags=p.flags,
        notify=p.notify,
        orcpt=p.orcpt,
        due=plan.now if not why else queue.later(plan.now, 1),
        attempts=1 if why else 0,
        last_reply=why or p.quarantined,
        quarantined=bool(p.quarantined),
    )


def _queue_there(tx: Tx, plan: Plan) -> None:
    if plan.there is None:
        return
    for held in (False, True):
        relayings = [r for r in plan.relayings if bool(r.quarantined) is held]
        if not relayings:
            continue
        recipients = [
            NewRecipient(
                r.address, None, "", (), r.notify, r.orcpt, plan.now,
                last_reply=r.quarantined, hop=r.hop, quarantined=held,
            )
            for r in relayings
        ]  # fmt: skip
        hops = {r.hop: plan.candidates[r.hop] for r in relayings}
        message = _envelope(plan, plan.there, plan.ids[1 + 2 * held], held)
        queue.put(tx, message, recipients, hops)


def _envelope(plan: Plan, blob: NewBlob, number: int, held: bool) -> QueuedMessage:
    """One of the queue; that of what is in quarantine ends with it."""
    return QueuedMessage(
        id=number,
        trace=plan.transit,
        blob=blob.id,
        size=blob.size,
        reverse_path=plan.reverse_path,
        envid=plan.envid,
        ret=plan.ret,
        arrived_at=plan.now,
        expires_at=plan.quarantined_until if held else plan.expires_at,
        utf8=plan.utf8,
        eight_bit=plan.eight_bit,
        origin=plan.origin,
    )


def split(placings: tuple[Placing, ...]) -> tuple[tuple[Placing, ...], tuple[Placing, ...]]:
    """What the unit places itself, and what it queues, be it for want of room or of trust."""
    free = tuple([p for p in placings if not p.quarantined])
    held = tuple([p for p in placings if p.quarantined])
    return free[:PLACEMENTS], free[PLACEMENTS:] + held
