"""The journal: one row for each unit and account, from which undo, audit and dry run read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from postroom.core.clock import Instant
from postroom.store import tables
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS


@dataclass(frozen=True, slots=True)
class Entry:
    """What one unit changed in one account."""

    modseq: int
    at: Instant
    actor: int
    kind: str
    before: dict[str, Any]


def note(
    tx: Tx, account: int, modseq: int, now: Instant, actor: int, kind: str, before: dict[str, Any]
) -> None:
    """Keep the before-image of a unit; `before` holds numbers, strings and lists of them."""
    tx.run(
        tables.NOTE,
        account=account,
        modseq=modseq,
        at=now,
        actor=actor,
        kind=kind,
        before=orjson.dumps(before),
    )


def since(tx: Tx, account: int, modseq: int, limit: int = 1_000) -> list[Entry]:
    """The entries after `modseq`, oldest first."""
    rows = tx.all(tables.JOURNAL_SINCE, account=account, since=modseq, limit=limit)
    return [Entry(m, Instant(at), actor, kind, orjson.loads(b)) for m, at, actor, kind, b in rows]


def last(tx: Tx, account: int) -> int:
    """The modseq of the account's newest entry, 0 without any."""
    row = tx.one(tables.JOURNAL_LAST, account=account)
    return int(row[0]) if row is not None else 0


def prune(tx: Tx, before: Instant, limit: int = UNIT_ROWS) -> int:
    """Forget the oldest entries before that moment, some `limit` of them; returns how many."""
    return tx.run(tables.PRUNE_JOURNAL, before=before, limit=limit)


def erase(tx: Tx, account: int, limit: int) -> int:
    """Remove entries of an account that is gone; returns how many, at most `limit`."""
    return tx.run(tables.ERASE_JOURNAL, account=account, limit=limit)
