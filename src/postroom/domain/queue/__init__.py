"""The queue: keeps each envelope until it is delivered or returned.

Called by mailflow and admin. May import: store, formats, core, domain below it. The leased
thing is a destination (queue and next hop), then its due recipients. A lease carries a fence:
an outcome that does not match it comes from a worker that was thought dead, and is refused.
What an administrator does to the queue is in `byhand`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postroom.core.clock import Instant
from postroom.domain.queue import tables
from postroom.domain.queue.values import (
    COMPOSED,
    COMPOSED_HERE,
    DAY,
    HOUR,
    LOCAL,
    LOCALLY,
    MINUTE,
    REMOTE,
    Hop,
    Lease,
    LostLease,
    NewRecipient,
    Patience,
    QueuedMessage,
    Recipient,
    expiry,
    later,
    next_try,
    recipient_of,
)
from postroom.domain.queue.waking import hasten
from postroom.store import blobs
from postroom.store.blobs import NewBlob
from postroom.store.sql import Tx, keepable

__all__ = [
    "COMPOSED",
    "DAY",
    "HOUR",
    "LOCAL",
    "LOCALLY",
    "MINUTE",
    "REMOTE",
    "Composed",
    "Hop",
    "Lease",
    "LostLease",
    "NewRecipient",
    "Patience",
    "QueuedMessage",
    "Recipient",
    "any_due",
    "counts",
    "done",
    "due",
    "expired",
    "expiry",
    "extend",
    "failed",
    "failed_all",
    "forget_idle",
    "hold",
    "late",
    "later",
    "lease",
    "move",
    "next_due",
    "put",
    "release",
    "release_all_of",
    "still_wanted",
    "submit",
    "waiting",
    "warned",
]


def put(
    tx: Tx,
    message: QueuedMessage,
    recipients: Sequence[NewRecipient],
    candidates: Mapping[Hop, int],
) -> None:
    """Queue an envelope; `candidates` holds an id for each hop, used if it has none yet."""
    tx.run(
        tables.INSERT_MESSAGE,
        id=message.id,
        trace=message.trace,
        blob=message.blob,
        size=message.size,
        reverse_path=message.reverse_path,
        envid=message.envid,
        ret=message.ret,
        utf8=int(message.utf8),
        eight_bit=int(message.eight_bit),
        origin=message.origin,
        arrived_at=message.arrived_at,
        expires_at=message.expires_at,
    )
    at = _destinations(tx, candidates, message.arrived_at)
    due = [Instant(tables.NEVER) if r.quarantined else r.due for r in recipients]
    tx.many(
        tables.INSERT_RECIPIENT,
        [
            {
                "message": message.id,
                "n": n,
                "destination": at[r.hop],
                "address": r.address,
                "account": r.account,
                "role": r.role,
                "flags": json.dumps(r.flags),
                "notify": ",".join(r.notify),
                "orcpt": r.orcpt,
                "attempts": r.attempts,
                "due": due[n],
                "held": tables.QUARANTINED if r.quarantined else 0,
                "last_at": message.arrived_at if r.attempts else 0,
                "last_reply": keepable(r.last_reply),
            }
            for n, r in enumerate(recipients)
        ],
    )
    hasten(tx, at.values(), min(due))


def _destinations(tx: Tx, candidates: Mapping[Hop, int], now: Instant) -> dict[Hop, int]:
    """The destinations of these hops; those that are missing are made."""
    found: dict[Hop, int] = {}
    for queue in sorted({hop.queue for hop in candidates}):
        hops = sorted(hop.next_hop for hop in candidates if hop.queue == queue)
        known: dict[str, int] = dict(tx.all(tables.DESTINATIONS, queue=queue, hops=hops))
        missing = [hop for hop in hops if hop not in known]
        if missing:
            # In the order of their names, so that two units never wait for each other.
            tx.many(
                tables.ADD_DESTINATION,
                [
                    {
                        "id": candidates[Hop(queue, hop)],
                        "queue": queue,
                        "next_hop": hop,
                        "now": now,
                    }
                    for hop in missing
                ],
            )
            known |= dict(tx.all(tables.DESTINATIONS, queue=queue, hops=missing))
        found |= {Hop(queue, hop): known[hop] for hop in hops}
    return found


@dataclass(frozen=True, slots=True)
class Composed:
    """A message that we wrote ourselves: a notice, a report, an answer.

    `content` is whole but for the trace fields; `reverse_path` is None for <>, and must be for
    whatever answers a message (RFC 5321 §4.5.5). `destination` is a fresh id.
    """

    id: int  # its transit, by which its trace is found
    content: NewBlob
    reverse_path: str | None
    recipients: tuple[str, ...]
    origin: str  # what it is: dsn, delay
    destination: int
    utf8: bool = False
    eight_bit: bool = False


def submit(tx: Tx, composed: Composed, now: Instant, expires_at: Instant | None = None) -> None:
    """Send what we composed, in the unit of its cause: there is no other way to send.

    It then passes the same rules as all mail (mailflow.composed).
    """
    blobs.insert(tx, composed.content, now)
    message = QueuedMessage(
        id=composed.id,
        trace=composed.id,
        blob=composed.content.id,
        size=composed.content.size,
        reverse_path=composed.reverse_path,
        envid=None,
        ret=None,
        arrived_at=now,
        expires_at=expires_at or expiry(now, composed.reverse_path),
        utf8=composed.utf8,
        eight_bit=composed.eight_bit,
        origin=composed.origin,
    )
    recipients = [
        NewRecipient(address, None, "", (), ("NEVER",), None, now, hop=COMPOSED_HERE)
        for address in composed.recipients
    ]
    put(tx, message, recipients, {COMPOSED_HERE: composed.destination})


# --- leases -------------------------------------------------------------------------------


def any_due(tx: Tx, queue: str, now: Instant) -> bool:
    """Whether a destination is due and free: cheaper to ask than to lease."""
    return tx.one(tables.ANY_DUE, queue=queue, now=now) is not None


def lease(tx: Tx, queue: str, holder: int, now: Instant, seconds: int) -> Lease | None:
    """Take the destination that is due longest, if one is due and free."""
    row = tx.one(tables.DUE_DESTINATION, queue=queue, now=now)
    if row is None:
        return None
    until = Instant(now + seconds * 1000)
    taken = tx.one(tables.TAKE_LEASE, id=row[0], holder=holder, until=until, now=now)
    if taken is None:
        return None
    return Lease(row[0], queue, row[1], int(taken[0]), until, int(row[2]))


def extend(tx: Tx, lease: Lease, now: Instant, seconds: int) -> None:
    """Keep a lease for longer; raises LostLease."""
    until = Instant(now + seconds * 1000)
    if not tx.run(tables.EXTEND_LEASE, id=lease.destination, fence=lease.fence, until=until):
        raise LostLease


def due(tx: Tx, lease: Lease, now: Instant, limit: int) -> list[Recipient]:
    """The due recipients of a leased destination, the oldest message first."""
    rows = tx.all(tables.DUE_RECIPIENTS, destination=lease.destination, now=now, limit=limit)
    return [recipient_of(row) for row in rows]


def hold(tx: Tx, lease: Lease) -> None:
    """Make sure, within the unit, that the lease is still ours; raises LostLease."""
    row = tx.one(tables.FENCE, id=lease.destination)
    if row is None or row[0] != lease.fence:
        raise LostLease


def release(tx: Tx, lease: Lease, now: Instant, failures: int = 0) -> None:
    """Give a destination back; it is due again with its first recipient.

    `failures` is in how many rounds in a row nobody behind it could be reached.
    """
    # Locked by a statement of its own: what `put` added while this waited for the row is then
    # seen by the next one, and counts.
    tx.one(tables.FENCE, id=lease.destination)
    tx.run(tables.RELEASE, id=lease.destination, fence=lease.fence, now=now, failures=failures)


def release_all_of(tx: Tx, holder: int) -> int:
    """Free the leases of a worker that died; returns how many."""
    return tx.run(tables.RELEASE_HOLDER, holder=holder)


# --- outcomes -----------------------------------------------------------------------------


def still_wanted(tx: Tx, lease: Lease, recipients: Sequence[Recipient]) -> list[Recipient]:
    """Those of one message who are to be tried still: since they were read, an administrator
    may have deleted them, held them back, or had them routed elsewhere."""
    if not recipients:
        return []
    rows = tx.all(tables.WANTED, message=recipients[0].message.id, destination=lease.destination)
    wanted = {row[0] for row in rows}
    return [r for r in recipients if r.n in wanted]


def done(tx: Tx, recipients: Iterable[Recipient]) -> int:
    """These are dealt with; a message without recipients leaves the queue. Returns how many
    were there: none if an administrator has deleted them."""
    of_message: dict[int, list[int]] = {}
    for r in recipients:
        of_message.setdefault(r.message.id, []).append(r.n)
    gone = 0
    for message, numbers in sorted(of_message.items()):
        gone += tx.run(tables.REMOVE_RECIPIENTS, message=message, numbers=numbers)
        tx.run(tables.REMOVE_IF_DONE, id=message)
    return gone


def failed(
    tx: Tx,
    recipients: Iterable[Recipient],
    reply: str,
    now: Instant,
    patience: Patience = Patience(),  # noqa: B008 - immutable
) -> None:
    """These could not be delivered now; they are due again later, and each later still."""
    tx.many(
        tables.RETRY_RECIPIENT,
        [
            {
                "message": r.message.id,
                "n": r.n,
                "due": next_try(r, now, patience),
                "now": now,
                "last_reply": keepable(reply),
            }
            for r in recipients
        ],
    )


def failed_all(
    tx: Tx,
    lease: Lease,
    reply: str,
    now: Instant,
    patience: Patience = Patience(),  # noqa: B008 - immutable
) -> tuple[int, int]:
    """Nobody behind this destination could be reached: all that is due waits, however much it
    is. Returns how many, and in how many rounds in a row that was so (for `release`).

    Mail that came while others wait already only joins them: how long a host is left alone
    follows from how long it is down, not from how much is sent to it.
    """
    due, failures = later(now, lease.failures + 1, patience.longest), lease.failures + 1
    row = tx.one(tables.NEXT_RETRY, destination=lease.destination, now=now)
    if lease.failures and row is not None and row[0] is not None:
        due, failures = min(due, row[0]), lease.failures
    count = tx.run(
        tables.RETRY_ALL_DUE,
        destination=lease.destination,
        due=due,
        now=now,
        soon=now + MINUTE,
        notice=patience.notice or tables.NEVER,
        last_reply=keepable(reply),
    )
    return count, failures


def move(tx: Tx, recipients: Sequence[Recipient], hop: Hop, candidate: int, now: Instant) -> None:
    """Route recipients anew: another next hop serves them from now on."""
    at = _destinations(tx, {hop: candidate}, now)[hop]
    tx.many(
        tables.MOVE_RECIPIENT,
        [{"message": r.message.id, "n": r.n, "destination": at} for r in recipients],
    )
    hasten(tx, [at], min(r.due for r in recipients))


def expired(tx: Tx, lease: Lease, now: Instant, limit: int) -> list[Recipient]:
    """Recipients of a leased destination who were tried for long enough."""
    rows = tx.all(tables.EXPIRED, destination=lease.destination, now=now, limit=limit)
    return [recipient_of(row) for row in rows]


def late(tx: Tx, lease: Lease, before: Instant, limit: int) -> list[Recipient]:
    """Recipients of a leased destination who wait since `before` and were tried in vain, and
    whose senders were not told yet."""
    rows = tx.all(tables.LATE, destination=lease.destination, before=before, limit=limit)
    return [recipient_of(row) for row in rows]


def warned(tx: Tx, recipients: Iterable[Recipient]) -> None:
    """The senders of these were told of the delay, or want no such notice."""
    tx.many(tables.WARNED, [{"message": r.message.id, "n": r.n} for r in recipients])


# --- looking ------------------------------------------------------------------------------


def waiting(tx: Tx, limit: int) -> list[Recipient]:
    """What waits, the first due first."""
    return [recipient_of(row[:-2]) for row in tx.all(tables.WAITING, limit=limit)]


def next_due(tx: Tx, queue: str) -> Instant | None:
    """When the next destination of that queue is due and free; None while none has mail."""
    row = tx.one(tables.NEXT_DUE, queue=queue, never=tables.NEVER)
    return Instant(row[0]) if row is not None and row[0] is not None else None


def counts(tx: Tx) -> dict[str, Any]:
    """How much waits."""
    row = tx.one(tables.COUNTS)
    return {"messages": row[0], "recipients": row[1]} if row is not None else {}


def forget_idle(tx: Tx, before: Instant, limit: int = 500) -> int:
    """Forget destinations to which nothing has gone since `before`; returns how many."""
    ids = [row[0] for row in tx.all(tables.IDLE_DESTINATIONS, before=before, limit=limit)]
    return tx.run(tables.FORGET_DESTINATIONS, ids=ids) if ids else 0
