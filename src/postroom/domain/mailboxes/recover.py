"""Deleted messages on their way back into mailboxes, in bounded units.

`find` looks for what can be brought back; `bring_back` does it for a piece of one mailbox. A
message keeps its id (EMAILID), its thread, INTERNALDATE, flags and keywords; its UID is a new
one, since a client may have seen the old one vanish: RFC 3501 §2.3.1.1. It loses \\Deleted alone,
or the next CLOSE would remove it again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, NotFound
from postroom.domain.events import Type
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, tables
from postroom.domain.mailboxes.change import begin
from postroom.domain.mailboxes.folders import SEPARATOR, Mailbox
from postroom.domain.mailboxes.messages import Quota, compressed
from postroom.store.sql import Row, Tx
from postroom.store.units import UNIT_ROWS

PIECE: Final = UNIT_ROWS // 4
"""Messages that a unit brings back: each is a row that comes and one that goes."""
_PAGE: Final = 10_000

Origin = tuple[int, str]
"""A mailbox from which messages were deleted: its id, and its path at that time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deleted messages; all that is given must fit."""

    messages: Set[int] = frozenset()  # their ids; empty for all
    path: str = ""  # of a mailbox, with all below it; empty for every one
    since: Instant | None = None  # removed then or later, as far as tombstones tell


@dataclass(slots=True)
class Found:
    """What can be brought back."""

    origins: dict[Origin, array[int]] = field(default_factory=dict)  # UIDs, ascending
    messages: set[int] = field(default_factory=set)  # of those that were asked for by id
    count: int = 0
    octets: int = 0


def find(tx: Tx, account: int, wanted: Wanted, now: Instant) -> Found:
    """Look through what the account can have back. Reads all of it, in pages."""
    found = Found()
    removed: Set[tuple[int, int]] = frozenset()
    if wanted.since is not None:
        rows = tx.all(tables.REMOVED_SINCE, account=account, since=wanted.since)
        removed = {(box, uid) for box, uid in rows}
    path = folders.canonical(wanted.path)
    for box, uid, message, lay, size in _pages(tx, account, now):
        if wanted.messages and message not in wanted.messages:
            continue
        if path and lay != path and not lay.startswith(path + SEPARATOR):
            continue
        if wanted.since is not None and (box, uid) not in removed:
            continue
        found.origins.setdefault((box, lay), array("q")).append(uid)
        if wanted.messages:
            found.messages.add(message)
        found.count += 1
        found.octets += size
    return found


def _pages(tx: Tx, account: int, now: Instant) -> Iterator[Row]:
    box = uid = 0
    while True:
        rows = tx.all(
            tables.RECOVERABLE_AFTER, account=account, now=now, mailbox=box, uid=uid, limit=_PAGE
        )
        yield from rows
        if len(rows) < _PAGE:
            return
        box, uid = rows[-1][:2]


@dataclass(frozen=True, slots=True)
class Brought:
    """What one unit brought back."""

    path: str  # of the mailbox that it lies in now
    uids: tuple[int, ...] = ()
    octets: int = 0
    there: int = 0  # messages that lay in that mailbox already
    made: bool = False  # whether the mailbox had to be made
    instead: bool = False  # whether it is INBOX, since no further mailbox fits


def bring_back(
    tx: Tx,
    account: int,
    origin: Origin,
    uids: Sequence[int],
    into: str,
    quota: Quota,
    ids: Sequence[int],
    now: Instant,
    actor: int,
) -> Brought:
    """Put deleted messages of one mailbox, at most `PIECE`, where they lay or into a mailbox.

    Those that are no longer to be had, since somebody brought them back or their time is over,
    are passed over. One that lies in the mailbox already is not put there twice. `ids` are
    `folders.DEPTH` new ones. Raises OverQuota, and Malformed or LimitReached for a mailbox that
    cannot be made.
    """
    change = begin(tx, account)  # the lock: what is read below stays true
    rows = tx.all(
        tables.RECOVERABLE_PICKED, account=account, mailbox=origin[0], uids=list(uids), now=now
    )
    if not rows:
        return Brought(into or origin[1])
    box, made, instead = _target(tx, account, origin, into, iter(ids), now, actor)
    lying = {row[0] for row in tx.all(tables.LIES_IN, ids=[r[1] for r in rows], mailbox=box.id)}
    coming: dict[int, Row] = {}  # by message
    for row in rows:
        if row[1] not in lying:
            coming.setdefault(row[1], row)
    tx.many(
        tables.FORGET_RECOVERABLE,
        [{"account": account, "mailbox": origin[0], "uid": row[0]} for row in rows],
    )
    path = folders.tree(tx, account).path(box.id)
    if not coming:
        return Brought(path, there=len(rows), made=made, instead=instead)
    octets = sum(row[3] for row in coming.values())
    change = begin(tx, account)  # anew: to make a mailbox was a change of its own
    quota.check(change, octets, len(coming))
    first = _counted(tx, change.modseq, box.id, list(coming.values()), octets)
    tx.many(
        tables.INSERT_PLACEMENT,
        [
            {
                "mailbox": box.id,
                "uid": first + n,
                "message": message,
                "blob": blob,
                "size": size,
                "received_at": received_at,
                "flags": set_ & ~bits.DELETED,
                "modseq": change.modseq,
                "now": now,
            }
            for n, (_, message, blob, size, set_, received_at) in enumerate(coming.values())
        ],
    )
    became = range(first, first + len(coming))
    change.touch(Type.EMAIL | Type.MAILBOX, octets=octets, messages=len(coming))
    before = {
        "box": box.id,
        "uids": compressed(became),
        "from": origin[0],
        "were": compressed([row[0] for row in rows]),
    }
    change.end(tx, now, actor, "recover", before)
    return Brought(path, tuple(became), octets, len(rows) - len(coming), made, instead)


def _counted(tx: Tx, modseq: int, box: int, rows: Sequence[Row], octets: int) -> int:
    """Move the mailbox's counters; returns the first of the new UIDs."""
    row = tx.one(
        tables.COUNT,
        id=box,
        modseq=modseq,
        uids=len(rows),
        total=len(rows),
        unseen=sum(not each[4] & bits.SEEN for each in rows),
        deleted=0,
        size=octets,
    )
    if row is None:
        raise NotFound("No such mailbox")
    return int(row[0]) - len(rows)


def _target(
    tx: Tx, account: int, origin: Origin, into: str, ids: Iterator[int], now: Instant, actor: int
) -> tuple[Mailbox, bool, bool]:
    """Where the messages go, whether it was made, and whether it is INBOX instead.

    The mailbox that they lay in, whatever its name is now; if it is gone, the one that has its
    path now, which is where its owner looks for them; if there is none, it is made again. Where
    none fits any more INBOX takes them: better there than nowhere.
    """
    boxes = folders.tree(tx, account)
    same = None if into else boxes.by_id.get(origin[0])
    path = folders.canonical(into or origin[1])
    there = same or boxes.by_path.get(path)
    if there is not None:
        return there, False, False
    try:
        made = folders.create(tx, account, path, ids, now, actor)
    except LimitReached:
        inbox = folders.by_role(tx, account, "inbox")
        if into or inbox is None:
            raise
        return inbox, False, True
    # Many clients show the mailboxes alone that are subscribed to.
    folders.subscribe(tx, account, path, now, actor, wanted=True)
    return folders.get(tx, made), True, False


def lying(tx: Tx, account: int, messages: Sequence[int]) -> set[int]:
    """Of these messages, those that lie in a mailbox of the account."""
    rows = tx.all(tables.WHEREABOUTS, ids=list(messages))
    return {message for message, _, _, _, owner in rows if owner == account}
