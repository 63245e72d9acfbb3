"""Copies: how often each signed message came within the hour, counted by all workers together.

In `state`: a second of it may be lost. What came once has no row. Called by mailflow. May import:
store, core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from postroom.core.clock import Instant
from postroom.domain.copies import tables
from postroom.store.sql import Tx

HOUR: Final = 3600 * 1000

Hourly = Mapping[tuple[int, int], int]
"""Copies by mark and hour."""


def hour_of(at: Instant) -> int:
    """The hour of a moment, since 1970."""
    return at // HOUR


def add(tx: Tx, copies: Hourly) -> None:
    """In `state`: count copies."""
    tx.many(
        tables.ADD,
        [{"mark": mark, "hour": hour, "copies": n} for (mark, hour), n in sorted(copies.items())],
    )


def of(tx: Tx, marks: Sequence[int], since: int) -> dict[tuple[int, int], int]:
    """In `state`: what was counted of these marks from the hour `since` on."""
    rows = tx.all(tables.OF, marks=tuple(marks), since=since)
    return {(mark, hour): copies for mark, hour, copies in rows}


def forget(tx: Tx, before: int, limit: int = 500) -> int:
    """In `state`: forget what was counted before that hour; returns how many rows."""
    rows = tx.all(tables.OLD, before=before, limit=limit)
    tx.many(tables.FORGET, [{"mark": mark, "hour": hour} for mark, hour in rows])
    return len(rows)
