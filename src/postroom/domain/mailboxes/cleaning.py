"""Background work on what mailboxes leave behind, in bounded units that can be resumed."""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotAllowed
from postroom.domain.directory import people
from postroom.domain.mailboxes import messages, tables
from postroom.domain.mailboxes.annotated import tables as annotated
from postroom.domain.mailboxes.change import begin, begin_all
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.shares import tables as shares
from postroom.store import journal
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS

TOMBSTONES_MOST: Final = 100_000
"""Tombstones that an account keeps; the oldest go first."""


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
    gone = messages.held(tx, box, pick)
    messages.make_recoverable(tx, account, box, gone, name, Instant(now + retention))
    messages.remove(tx, change, box, pick, gone, now)
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
    """Raise the floor of accounts whose tombstones are old, or whose are too many; returns how
    many accounts. Call it again until that is none.

    Below its floor a client resynchronises in full, so the floor rises in the same unit.
    """
    floors: dict[int, int] = {}
    for account, modseq in tx.all(tables.OLD_TOMBSTONES, before=before, limit=UNIT_ROWS):
        floors[account] = max(modseq, floors.get(account, 0))
    if not floors:
        floors = _crowded(tx)
    begin_all(tx, floors)
    for account, floor in floors.items():
        tx.run(tables.RAISE_FLOOR, account=account, floor=floor)
        gone = tx.run(tables.PRUNE_TOMBSTONES, account=account, floor=floor)
        tx.run(tables.COUNT_TOMBSTONES, account=account, more=-gone)
    return len(floors)


def _crowded(tx: Tx) -> dict[int, int]:
    """The account with the most tombstones, if those are too many, and a floor that takes a piece
    of what is too much: a unit's rows, and what its last change has beyond them."""
    row = tx.one(tables.CROWDED, most=TOMBSTONES_MOST)
    if row is None:
        return {}
    account, held = row
    last = min(held - TOMBSTONES_MOST, UNIT_ROWS) - 1
    found = tx.one(tables.NTH_TOMBSTONE, account=account, n=last)
    return {account: found[0]} if found is not None else {}


def empty_gone(tx: Tx, account: int, now: Instant) -> bool:
    """Remove a piece of what a deleted account owns; returns whether more is left.

    Nothing of it becomes recoverable: who deletes an account wants it erased. The last piece is
    the account itself; to call this again after it does nothing. Raises NotAllowed for an
    account that was not deleted, or that can still be brought back.
    """
    change = begin_all(tx, (account,)).get(account)
    if change is None:
        return False
    if not people.begin_erasing(tx, account, now):
        raise NotAllowed("This account was not deleted, or can be brought back")
    left = UNIT_ROWS
    while left > 0 and (row := tx.one(tables.PLACED_BOX, account=account)) is not None:
        uids = [r[0] for r in tx.all(tables.FIRST_UIDS, mailbox=row[0], limit=left)]
        pick = Pick(uids[0], uids[-1])
        messages.erase(tx, change, row[0], pick, messages.held(tx, row[0], pick))
        left -= len(uids)
    change.end(tx, now, messages.SYSTEM_ACTOR, "account.erase", {})
    for erase in (*shares.ERASE_SHARES, *annotated.ERASE_ANNOTATIONS, *tables.ERASE):
        if left > 0:
            left -= tx.run(erase, account=account, limit=left)
    if left > 0:
        left -= journal.erase(tx, account, left)
    if left <= 0:
        return True
    people.forget_account(tx, account)
    return False
