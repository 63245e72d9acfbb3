"""What an administrator does to the queue: look, hold back, let go, try now, delete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.queue import tables
from postroom.domain.queue.values import Hop, QueuedMessage, Recipient, message_of, recipient_of
from postroom.domain.queue.waking import hasten
from postroom.store.sql import Row, Tx

MOST: Final = 10_000
"""Recipients of one message that are shown."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recipient, and where it goes next."""

    recipient: Recipient
    hop: Hop


@dataclass(frozen=True, slots=True)
class BusyDestination:
    """A destination that has mail."""

    hop: Hop
    due: Instant
    leased_until: Instant | None
    failures: int
    recipients: int
    tried_at: Instant | None
    attempts: int


def listed(tx: Tx, limit: int, *, quarantined: bool = False) -> list[Waiting]:
    """What waits, the first due first; or what is in quarantine, the oldest first."""
    wanted = tables.QUARANTINED_WAITING if quarantined else tables.WAITING
    return [_waiting(row) for row in tx.all(wanted, limit=limit)]


def quarantine_over(tx: Tx, now: Instant, limit: int) -> list[Recipient]:
    """Recipients who were in quarantine for as long as that lasts."""
    return [recipient_of(row) for row in tx.all(tables.QUARANTINE_OVER, now=now, limit=limit)]


def of_trace(tx: Tx, trace: int) -> list[Waiting]:
    """The recipients of a message who still wait; a message is named by its trace."""
    return [_waiting(row) for row in tx.all(tables.OF_TRACE, trace=trace, limit=MOST)]


def _waiting(row: Row) -> Waiting:
    return Waiting(recipient_of(row[:-2]), Hop(row[-2], row[-1]))


def messages(tx: Tx, trace: int) -> list[QueuedMessage]:
    """The envelopes of a message that wait; raises NotFound if none does."""
    rows = tx.all(tables.MESSAGES_OF_TRACE, trace=trace)
    if not rows:
        raise NotFound("There is no such message in the queue")
    return [message_of(row) for row in rows]


def destinations(tx: Tx, limit: int) -> list[BusyDestination]:
    """The destinations that have mail, the fullest first."""
    return [
        BusyDestination(
            Hop(queue, next_hop),
            Instant(due),
            Instant(lease) if lease else None,
            failures,
            recipients,
            Instant(tried) if tried else None,
            attempts,
        )
        for queue, next_hop, due, lease, failures, recipients, tried, attempts in tx.all(
            tables.BUSY_DESTINATIONS, limit=limit
        )
    ]


def hold_back(tx: Tx, trace: int) -> int:
    """Keep a message from being tried, and from expiring; returns for how many recipients."""
    messages(tx, trace)
    return tx.run(tables.HOLD, trace=trace)


def let_go(tx: Tx, trace: int, now: Instant, expires_at: Instant | None = None) -> int:
    """Try again what was held back; returns for how many recipients. What was in quarantine is
    tried until `expires_at`, if that is given."""
    messages(tx, trace)
    if expires_at is not None:
        tx.run(tables.RENEW, trace=trace, expires_at=expires_at)
    freed = tx.run(tables.LET_GO, trace=trace, now=now)
    _hasten_trace(tx, trace, now)
    return freed


def retry(tx: Tx, trace: int, now: Instant) -> int:
    """Try a message now; returns for how many recipients."""
    messages(tx, trace)
    hastened = tx.run(tables.RETRY_NOW, trace=trace, now=now)
    _hasten_trace(tx, trace, now)
    return hastened


def retry_destination(tx: Tx, hop: Hop, now: Instant) -> int:
    """Try all that waits for a next hop now; returns for how many recipients."""
    rows = tx.all(tables.QUEUE_DESTINATION, queue=hop.queue, next_hop=hop.next_hop)
    if not rows:
        raise NotFound(f"Nothing waits for {hop.next_hop or hop.queue}")
    hastened = tx.run(tables.RETRY_QUEUE, queue=hop.queue, next_hop=hop.next_hop, now=now)
    hasten(tx, [row[0] for row in rows], now)
    return hastened


def delete(tx: Tx, trace: int) -> int:
    """Take a message out of the queue, without telling its sender; returns for how many
    recipients. Its trace stays."""
    messages(tx, trace)
    waits = len(of_trace(tx, trace))
    tx.run(tables.DELETE_OF_TRACE, trace=trace)
    return waits


def _hasten_trace(tx: Tx, trace: int, now: Instant) -> None:
    hasten(tx, [row[0] for row in tx.all(tables.TRACE_DESTINATIONS, trace=trace)], now)
