"""What was told to whom: a row for each policy domain and day, and one for each address.

In `mail`, in the unit that puts the report into the queue, so no report is sent twice or lost:
RFC 9990 §3. A domain of a day is settled once; what DNS does not answer is tried again until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from postroom.core.clock import Instant
from postroom.domain.feedback import tables
from postroom.store.sql import Tx, keepable


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one address."""

    destination: str
    octets: int = 0
    trace: int = 0  # of the message; 0: none was sent
    why: str = ""  # why none was


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of what was sent, or was not."""

    policy_domain: str
    day: int  # since 1970, UTC
    at: Instant
    report_id: str
    waits: bool  # it is tried again
    told: Told


def reached(tx: Tx, day: int) -> str:
    """The last policy domain of a day, in their order, that was looked at; empty if none was."""
    row = tx.one(tables.REACHED, day=day)
    return str(row[0]) if row is not None and row[0] is not None else ""


def again(tx: Tx, first: int, now: Instant, limit: int) -> list[tuple[str, int]]:
    """Policy domains and days from the day `first` on that are to be tried once more."""
    rows = tx.all(tables.AGAIN, first=first, now=now, limit=limit)
    return [(name, int(day)) for name, day in rows]


def postpone(tx: Tx, domain: str, day: int, why: str, until: Instant, now: Instant) -> None:
    """Try again later, unless it is settled."""
    tx.run(
        tables.POSTPONE,
        policy_domain=domain,
        day=day,
        why=keepable(why),
        again=until,
        now=now,
    )


def settle(
    tx: Tx, domain: str, day: int, report_id: str, told: Sequence[Told], why: str, now: Instant
) -> bool:
    """Settle a policy domain's day; False if that was done before, and then nothing is to be sent.

    `why` says why nobody was there to be told.
    """
    fresh = tx.run(
        tables.SETTLE,
        policy_domain=domain,
        day=day,
        report_id=report_id,
        why=keepable(why),
        now=now,
    )
    if fresh and told:
        tx.many(
            tables.SENT,
            [
                {
                    "policy_domain": domain,
                    "day": day,
                    "destination": keepable(each.destination),
                    "octets": each.octets,
                    "trace": each.trace,
                    "why": keepable(each.why),
                }
                for each in told
            ],
        )
    return bool(fresh)


def latest(tx: Tx, domain: str, limit: int) -> list[Listed]:
    """What was sent and what was not, the newest day first; of one policy domain if it is named."""
    if domain:
        rows = tx.all(tables.LATEST_OF, policy_domain=domain, limit=limit)
    else:
        rows = tx.all(tables.LATEST, limit=limit)
    return [
        Listed(
            name,
            int(day),
            at,
            report_id,
            waits > 0,
            Told(destination or "", octets or 0, trace or 0, why or whole),
        )
        for name, day, at, report_id, waits, whole, destination, octets, trace, why in rows
    ]


def forget(tx: Tx, before: int, limit: int = 500) -> int:
    """Forget what was told of days before that one; returns of how many."""
    rows = tx.all(tables.OLD_TOLD, before=before, limit=limit)
    tx.many(tables.FORGET_TOLD, [{"policy_domain": name, "day": day} for name, day in rows])
    return len(rows)
