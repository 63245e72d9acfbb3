"""Jobs as they are kept: when each is due, who holds it, how it went last.

Called by server, which runs them, and by administration. May import: store, core. A lease
carries a fence: an outcome that does not match it comes from a worker that was thought dead,
and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.domain.jobs import tables
from postroom.store.sql import Tx

ERROR_LENGTH = 500


@dataclass(frozen=True, slots=True)
class JobLease:
    """A job that is ours until its time is over."""

    name: str
    fence: int
    attempts: int  # failures so far


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as it is kept."""

    name: str
    due: Instant
    lease: Instant  # 0: free
    holder: int
    attempts: int
    last_error: str
    last_done: Instant  # 0: never


def ensure(tx: Tx, due: Mapping[str, Instant]) -> None:
    """Make the rows of jobs that have none yet."""
    tx.many(tables.ENSURE, [{"name": name, "due": at} for name, at in sorted(due.items())])


def due(tx: Tx, names: Iterable[str], now: Instant) -> list[str]:
    """Which of these are due and free, the longest due first."""
    return [row[0] for row in tx.all(tables.DUE, names=list(names), now=now)]


def next_due(tx: Tx, names: Iterable[str]) -> Instant | None:
    """When the next of these is due and free."""
    row = tx.one(tables.NEXT, names=list(names))
    return Instant(row[0]) if row is not None and row[0] is not None else None


def take(tx: Tx, name: str, holder: int, now: Instant, until: Instant) -> JobLease | None:
    """Lease a job that is due and free; None if it is not."""
    row = tx.one(tables.TAKE, name=name, holder=holder, now=now, until=until)
    return JobLease(name, int(row[0]), int(row[1])) if row is not None else None


def extend(tx: Tx, lease: JobLease, until: Instant) -> bool:
    """Hold it longer; False if it is ours no more."""
    return tx.run(tables.EXTEND, name=lease.name, fence=lease.fence, until=until) > 0


def done(tx: Tx, lease: JobLease, now: Instant, due: Instant) -> bool:
    """It went well, and is due again at `due`; False if it was ours no more."""
    return tx.run(tables.DONE, name=lease.name, fence=lease.fence, now=now, due=due) > 0


def failed(tx: Tx, lease: JobLease, due: Instant, error: str) -> bool:
    """It failed, and is tried again at `due`; False if it was ours no more."""
    text = error[:ERROR_LENGTH].replace("\0", "")
    return tx.run(tables.FAILED, name=lease.name, fence=lease.fence, due=due, error=text) > 0


def release(tx: Tx, lease: JobLease) -> None:
    """Give it back as it was: another worker takes it at once."""
    tx.run(tables.RELEASE, name=lease.name, fence=lease.fence)


def release_all_of(tx: Tx, holder: int) -> int:
    """Free the leases of a worker that died; returns how many."""
    return tx.run(tables.RELEASE_HOLDER, holder=holder)


def hasten(tx: Tx, name: str, now: Instant) -> None:
    """Let a job be due now; one that runs or is due stays as it is. `ensure` it before."""
    tx.run(tables.HASTEN, name=name, now=now)


def states(tx: Tx) -> list[JobState]:
    """Every job that was ever due."""
    return [JobState(*row) for row in tx.all(tables.ROWS)]
