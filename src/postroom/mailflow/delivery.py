"""The delivery plan and the one unit that carries it out.

The plan is made before the unit: every id, every byte of trace. The unit places up to 50
messages itself; further recipients become rows of the local queue, so that the sender of an
all-staff message does not wait. Only when its commit is on disk does anybody say 250.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound, OverQuota
from postroom.domain import queue, trace
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.change import Change, begin_all
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import SYSTEM_ACTOR, NewMessage, Quota
from postroom.domain.queue import LOCAL, NewRecipient, QueuedMessage
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
    role: str
    flags: tuple[str, ...]
    quota: Quota
    notify: tuple[str, ...] = ()
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the unit needs; made outside it, so that it may be rerun."""

    transit: int
    content: tuple[NewBlob, ...]  # the last one is the whole message
    parsed: Parsed
    now: Instant
    placings: tuple[Placing, ...]
    queued: tuple[Placing, ...]
    destination: int  # the id that the local destination gets if there is none yet
    reverse_path: str | None
    envid: str | None
    ret: str | None
    expires_at: Instant
    record: dict[str, Any]
    packed: bytes
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What the unit did with each placing: placed, or queued and why."""

    placed: frozenset[int]  # message ids
    waiting: tuple[tuple[int, str], ...]  # message ids that went to the queue, with the reason


def deliver(tx: Tx, plan: Plan) -> Delivered:
    """Carry out a plan, all or nothing.

    A recipient whose account is full by now waits in the queue; if that is so for every one,
    raises OverQuota and keeps nothing. An account that was deleted since RCPT counts as full:
    the queue finds out.
    """
    changes = begin_all(tx, (p.account for p in plan.placings))
    blobs_in(tx, plan.content, plan.parsed, plan.now)
    blob = plan.content[-1]
    placed: list[int] = []
    waiting: list[tuple[Placing, str]] = []
    for placing in plan.placings:
        try:
            place_one(tx, changes, placing, blob, plan.parsed, plan.now)
        except (OverQuota, NotFound) as error:
            waiting.append((placing, str(error)))
        else:
            placed.append(placing.message)
    if waiting and not placed and not plan.queued:
        raise OverQuota
    for change in changes.values():
        change.end(tx, plan.now, SYSTEM_ACTOR, "deliver", {"transit": plan.transit})
    _queue(tx, plan, blob, waiting)
    packed = plan.packed
    if waiting:
        waits = [{"to": placing.address, "because": why} for placing, why in waiting]
        packed = trace.pack({**plan.record, "waits": waits})
    trace.keep(tx, plan.transit, plan.now, packed, plan.keys)
    return Delivered(frozenset(placed), tuple((p.message, why) for p, why in waiting))


def blobs_in(tx: Tx, content: Iterable[NewBlob], parsed: Parsed, now: Instant) -> None:
    """Make content and parse part of the store; the last blob is the message."""
    last = 0
    for blob in content:
        blobs.insert(tx, blob, now)
        last = blob.id
    messages.store_parsed(tx, last, parsed)


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
    new = NewMessage(placing.message, blob.id, blob.size, now, parsed, placing.flags)
    messages.place(tx, change, box, new, now)


def _mailbox(tx: Tx, placing: Placing) -> Mailbox:
    """The mailbox of that role, or INBOX where the user has deleted it."""
    for role in (placing.role, "inbox"):
        box = folders.by_role(tx, placing.account, role)
        if box is not None:
            return box
    raise NotFound("The account has no INBOX")


def _queue(tx: Tx, plan: Plan, blob: NewBlob, waiting: list[tuple[Placing, str]]) -> None:
    rows = [(p, "") for p in plan.queued] + waiting
    if not rows:
        return
    message = QueuedMessage(
        id=plan.transit,
        blob=blob.id,
        size=blob.size,
        reverse_path=plan.reverse_path,
        envid=plan.envid,
        ret=plan.ret,
        arrived_at=plan.now,
        expires_at=plan.expires_at,
    )
    recipients = [
        NewRecipient(
            address=p.address,
            account=p.account,
            role=p.role,
            flags=p.flags,
            notify=p.notify,
            orcpt=p.orcpt,
            due=plan.now if not why else queue.later(plan.now, 1),
            attempts=1 if why else 0,
            last_reply=why,
        )
        for p, why in rows
    ]
    queue.put(tx, message, LOCAL, "", recipients, plan.destination)


def split(placings: tuple[Placing, ...]) -> tuple[tuple[Placing, ...], tuple[Placing, ...]]:
    """What the unit places itself, and what it queues."""
    return placings[:PLACEMENTS], placings[PLACEMENTS:]
