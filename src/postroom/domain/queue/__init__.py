"""The queue: keeps each envelope until it is delivered or returned.

Called by mailflow and admin. May import: store, formats, core, domain below it. The leased
thing is a destination (queue and next hop), then its due recipients. A lease carries a fence:
an outcome that does not match it comes from a worker that was thought dead, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.events import QueueReady
from postroom.domain.queue import tables
from postroom.store.sql import Row, Tx, keepable

LOCAL: Final = "local"

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
_FIRST_WAITS: Final = (3 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE)
_LONGEST_WAIT: Final = 4 * HOUR
EXPIRY: Final = 5 * DAY
EXPIRY_NULL_SENDER: Final = 2 * DAY


def later(now: Instant, attempts: int) -> Instant:
    """When to try again after `attempts` (>= 1) failures: 3, 15, 30, 60 minutes, then doubling
    to 4 hours. RFC 5321 §4.5.4.1."""
    if attempts <= len(_FIRST_WAITS):
        return Instant(now + _FIRST_WAITS[attempts - 1])
    doubled = _FIRST_WAITS[-1] << min(attempts - len(_FIRST_WAITS), 8)
    return Instant(now + min(doubled, _LONGEST_WAIT))


def expiry(now: Instant, reverse_path: str | None) -> Instant:
    """Until when a message is tried. RFC 5321 §4.5.4.1; sooner where nobody waits for it."""
    return Instant(now + (EXPIRY if reverse_path is not None else EXPIRY_NULL_SENDER))


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """One envelope."""

    id: int
    blob: int
    size: int
    reverse_path: str | None
    envid: str | None
    ret: str | None
    arrived_at: Instant
    expires_at: Instant


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """A recipient who has to wait."""

    address: str
    account: int | None
    role: str
    flags: tuple[str, ...]
    notify: tuple[str, ...]
    orcpt: str | None
    due: Instant
    attempts: int = 0
    last_reply: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient as it waits."""

    message: QueuedMessage
    n: int
    address: str
    account: int | None
    role: str
    flags: tuple[str, ...]
    attempts: int
    due: Instant
    last_reply: str


@dataclass(frozen=True, slots=True)
class Lease:
    """A destination that is ours until `until`; `fence` must match every outcome."""

    destination: int
    queue: str
    next_hop: str
    fence: int
    until: Instant


def put(
    tx: Tx,
    message: QueuedMessage,
    queue: str,
    next_hop: str,
    recipients: Sequence[NewRecipient],
    destination: int,
) -> None:
    """Queue an envelope; `destination` is the id of a new destination if there is none yet."""
    tx.run(
        tables.INSERT_MESSAGE,
        id=message.id,
        blob=message.blob,
        size=message.size,
        reverse_path=message.reverse_path,
        envid=message.envid,
        ret=message.ret,
        arrived_at=message.arrived_at,
        expires_at=message.expires_at,
    )
    due = min(r.due for r in recipients)
    row = tx.one(tables.ENSURE_DESTINATION, id=destination, queue=queue, next_hop=next_hop, due=due)
    assert row is not None  # an upsert with RETURNING always answers
    tx.many(
        tables.INSERT_RECIPIENT,
        [
            {
                "message": message.id,
                "n": n,
                "destination": row[0],
                "address": r.address,
                "account": r.account,
                "role": r.role,
                "flags": json.dumps(r.flags),
                "notify": ",".join(r.notify),
                "orcpt": r.orcpt,
                "attempts": r.attempts,
                "due": r.due,
                "last_reply": keepable(r.last_reply),
            }
            for n, r in enumerate(recipients)
        ],
    )
    tx.after(QueueReady())


def lease(tx: Tx, queue: str, holder: int, now: Instant, seconds: int) -> Lease | None:
    """Take the destination that is due longest, if one is due and free."""
    row = tx.one(tables.DUE_DESTINATION, queue=queue, now=now)
    if row is None:
        return None
    until = Instant(now + seconds * 1000)
    taken = tx.one(tables.TAKE_LEASE, id=row[0], holder=holder, until=until, now=now)
    if taken is None:
        return None
    return Lease(row[0], queue, row[1], int(taken[0]), until)


def due(tx: Tx, lease: Lease, now: Instant, limit: int) -> list[Recipient]:
    """The due recipients of a leased destination, the oldest message first."""
    rows = tx.all(tables.DUE_RECIPIENTS, destination=lease.destination, now=now, limit=limit)
    return [_recipient(row) for row in rows]


def _recipient(row: Row) -> Recipient:
    n, address, account, role, flags, attempts, due_at, last_reply, *message = row
    return Recipient(
        QueuedMessage(*message),
        n,
        address,
        account,
        role,
        tuple(json.loads(flags)),
        attempts,
        due_at,
        last_reply,
    )


class LostLease(NotFound):
    """The lease was taken over: what this worker did counts no more."""

    sentence = "The lease on this destination was taken over"


def hold(tx: Tx, lease: Lease) -> None:
    """Make sure, within the unit, that the lease is still ours; raises LostLease."""
    row = tx.one(tables.FENCE, id=lease.destination)
    if row is None or row[0] != lease.fence:
        raise LostLease


def done(tx: Tx, recipients: Iterable[Recipient]) -> None:
    """These were delivered; a message without recipients leaves the queue."""
    gone = list(recipients)
    tx.many(tables.REMOVE_RECIPIENT, [{"message": r.message.id, "n": r.n} for r in gone])
    for message in sorted({r.message.id for r in gone}):
        tx.run(tables.REMOVE_IF_DONE, id=message)


def failed(tx: Tx, recipient: Recipient, reply: str, now: Instant) -> None:
    """This one could not be delivered now."""
    attempts = recipient.attempts + 1
    tx.run(
        tables.RETRY_RECIPIENT,
        message=recipient.message.id,
        n=recipient.n,
        attempts=attempts,
        due=later(now, attempts),
        last_reply=keepable(reply),
    )


def release(tx: Tx, lease: Lease) -> None:
    """Give a destination back; it is due again with its first recipient."""
    # Locked by a statement of its own: what `put` added while this waited for the row is then
    # seen by the next one, and counts.
    tx.one(tables.FENCE, id=lease.destination)
    tx.run(tables.RELEASE, id=lease.destination, fence=lease.fence)


def release_all_of(tx: Tx, holder: int) -> int:
    """Free the leases of a worker that died; returns how many."""
    return tx.run(tables.RELEASE_HOLDER, holder=holder)


def waiting(tx: Tx, limit: int) -> list[Recipient]:
    """What waits, the first due first."""
    return [_recipient(row) for row in tx.all(tables.WAITING, limit=limit)]


def next_due(tx: Tx, queue: str) -> Instant | None:
    """When the next destination of that queue is due."""
    row = tx.one(tables.NEXT_DUE, queue=queue)
    return Instant(row[0]) if row is not None and row[0] is not None else None


def counts(tx: Tx) -> dict[str, Any]:
    """How much waits."""
    row = tx.one(tables.COUNTS)
    return {"messages": row[0], "recipients": row[1]} if row is not None else {}
