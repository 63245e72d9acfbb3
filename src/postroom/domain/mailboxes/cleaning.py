"""Background work on what mailboxes leave behind, in bounded units that can be resumed."""

from __future__ import annotations

from postroom.core.clock import Instant
from postroom.domain.mailboxes import messages, tables
from postroom.domain.mailboxes.change import begin
from postroom.domain.mailboxes.messages import Pick
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS


def empty_doomed(tx: Tx, now: Instant, retention: int) -> bool:
    """Remove a piece of one deleted mailbox; returns whether there was anything to do."""
    row = tx.one(tables.DOOMED, limit=1)
    if row is None:
        return False
    box, account, name = row
    change = begin(tx, account)
    uids = [r[0] for r in tx.all(tables.FIRST_UIDS, mailbox=box, limit=UNIT_ROWS)]
    if not uids:
        tx.run(tables.DELETE_MAILBOX, id=box)
        return True
    pick = Pick(uids[0], uids[-1])
    tx.run(
        pick.on(tables.TO_RECOVERABLE),
        **pick.params(box),
        account=account,
        path=name,
        until=now + retention,
    )
    messages.remove(tx, change, box, pick, now)
    before = {"box": box, "uids": messages.compressed(uids)}
    change.end(tx, now, messages.SYSTEM_ACTOR, "mailbox.empty", before)
    return True


def forget_expired(tx: Tx, now: Instant) -> int:
    """Forget recoverable items whose time is over; returns how many."""
    rows = tx.all(tables.EXPIRED_RECOVERABLE, now=now, limit=UNIT_ROWS // 2)
    tx.many(
        tables.FORGET_RECOVERABLE,
        [{"account": account, "mailbox": box, "uid": uid} for account, box, uid, _ in rows],
    )
    if rows:
        tx.run(tables.FORGET_MESSAGES, ids=sorted({row[3] for row in rows}))
    return len(rows)


def forget_tombstones(tx: Tx, before: Instant) -> int:
    """Raise the floor of accounts whose tombstones are old; returns how many accounts.

    Below its floor a client resynchronises in full, so the floor rises in the same unit.
    """
    rows = tx.all(tables.OLD_TOMBSTONES, before=before, limit=16)
    for account, floor in rows:
        begin(tx, account)
        tx.run(tables.RAISE_FLOOR, account=account, floor=floor)
        tx.run(tables.PRUNE_TOMBSTONES, account=account, floor=floor)
    return len(rows)
