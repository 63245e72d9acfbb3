"""The audit: who asked for what and how it ended, where no change set says so.

What was changed is in the history (`domain.policy.history`), durable with its change. Here is the
rest: what was refused, what failed, what only looks but at what is others', and changes that the
history does not know, such as to the queue. It lies in `state` and may lose a second.

Called by admin. May import: store, core.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.domain.audit import tables
from postroom.store.sql import Row, Tx, keepable
from postroom.store.units import UNIT_ROWS

_TEXT: Final = 2_000
"""Characters of each text that are kept."""


class Outcome(StrEnum):
    """How an operation ended."""

    PERFORMED = "performed"
    REFUSED = "refused"
    FAILED = "failed"  # by a mistake of ours; the log has it


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation that somebody asked for."""

    id: int
    at: Instant
    caller: int  # a principal; 0 is whoever owns the data directory
    operation: str
    outcome: Outcome
    asked: Mapping[str, Any]  # the input's fields as JSON has them; no secrets
    reason: str = ""
    answer: str = ""  # why it was refused


def note(tx: Tx, entry: Entry) -> None:
    """Keep an entry; for `Database.note`."""
    tx.run(
        tables.INSERT,
        id=entry.id,
        at=entry.at,
        caller=entry.caller,
        operation=entry.operation,
        outcome=str(entry.outcome),
        asked=json.dumps(entry.asked, separators=(",", ":"))[:_TEXT],
        reason=keepable(entry.reason[:_TEXT]),
        answer=keepable(entry.answer[:_TEXT]),
    )


def latest(
    tx: Tx, limit: int, caller: int | None = None, operation: str = "", outcome: str = ""
) -> list[Entry]:
    """The latest entries, the newest first; only one caller's, of one operation or with one
    outcome, if they are given."""
    wanted = {"limit": limit, "operation": operation, "outcome": outcome}
    if caller is None:
        rows = tx.all(tables.LATEST, **wanted)
    else:
        rows = tx.all(tables.LATEST_OF, caller=caller, **wanted)
    return [_entry(row) for row in rows]


def _entry(row: Row) -> Entry:
    id_, at, caller, operation, outcome, asked, reason, answer = row
    return Entry(id_, at, caller, operation, Outcome(outcome), _read(asked), reason, answer)


def _read(asked: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(asked)
    except ValueError:
        return {"cut": asked}  # it was longer than what is kept
    return told


def forget(tx: Tx, before: Instant, limit: int = UNIT_ROWS // 4) -> int:
    """Forget entries older than `before`; returns how many."""
    ids = [row[0] for row in tx.all(tables.OLD, before=before, limit=limit)]
    if ids:
        tx.run(tables.FORGET, ids=ids)
    return len(ids)
