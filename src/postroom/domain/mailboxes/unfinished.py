"""Copies that take several units: what they have placed, until the last unit makes them whole.

A copy is all or none (RFC 3501 §6.4.7), also for who is killed in the middle of it: each unit but
the last notes what it placed, the last one forgets the notes, and what is noted of a worker
that died is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.mailboxes import messages, tables
from postroom.domain.mailboxes.messages import SYSTEM_ACTOR
from postroom.domain.mailboxes.picking import Pick
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class Copying:
    """A copy under way."""

    id: int
    holder: int  # the worker that does it, as leases name it
    mailbox: int  # where to


def placed(tx: Tx, copying: Copying, uids: Sequence[int]) -> None:
    """Note what a unit placed; UIDs of one unit lie together."""
    if uids:
        tx.run(
            tables.NOTE_COPIED,
            copying=copying.id,
            holder=copying.holder,
            mailbox=copying.mailbox,
            first=uids[0],
            last=uids[-1],
        )


def ended(tx: Tx, copying: Copying) -> None:
    """It is whole, or nothing of it is left."""
    tx.run(tables.FORGET_COPYING, copying=copying.id)


def take_back(tx: Tx, holders: Sequence[int], now: Instant) -> bool:
    """Remove the next piece that one of these placed and did not come to the end of; whether there
    was one. To be called when they are dead."""
    row = tx.one(tables.LEFT_COPIED, holders=list(holders))
    if row is None:
        return False
    copying, account, mailbox, first, last = row
    try:
        pick = Pick(first, last)
        messages.expunge(tx, account, mailbox, pick, now, SYSTEM_ACTOR, retention=0)
    except NotFound:
        pass  # its owner is going, and it with him
    tx.run(tables.FORGET_COPIED, copying=copying, first=first)
    return True
