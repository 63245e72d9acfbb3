"""Reports on single messages that failed DMARC: owed, told, and what was told to whom. RFC 9991.

In `mail`: a report is owed from the unit that accepts the message, or from one of its own before
the message is refused, and is settled in the unit that puts it into the queue. So it is sent once,
whatever happens between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from postroom.core.clock import Instant
from postroom.domain.feedback import day_of, tables
from postroom.domain.feedback.sent import Told
from postroom.store.sql import Tx, keepable


@dataclass(frozen=True, slots=True)
class Limits:
    """How many reports a day may be owed."""

    in_all: int
    of_domain: int
    every: int = 0  # milliseconds in which one is reported of those that are alike


@dataclass(frozen=True, slots=True)
class Owed:
    """A report that is to be sent."""

    id: int  # the transit of the message that failed
    policy_domain: str
    at: Instant
    record: dict[str, Any]  # what is told; empty if it cannot be read
    content: bytes  # what of the message goes with it
    limits: Limits = Limits(0, 0)
    source: str = ""  # the peer's IP address: with what failed, what makes them alike
    failure: str = ""

    @property
    def incidents(self) -> int:
        """How many messages it stands for. RFC 5965 §3.2."""
        count = self.record.get("incidents", 1)
        return count if isinstance(count, int) else 1


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of what was sent, or was not."""

    id: int
    policy_domain: str
    at: Instant
    waits: bool  # it is to be sent yet
    told: Told


def owe(tx: Tx, owed: Owed) -> bool:
    """Remember to report; False if one was just reported that was alike, or if enough are owed
    today, in all or about that domain. Then it is counted, for the next report on its like."""
    day, limits = day_of(owed.at), owed.limits
    domain = keepable(owed.policy_domain)
    alike = {"policy_domain": domain, "source": owed.source, "failure": owed.failure}
    row = tx.one(tables.ALIKE, **alike)
    last, more = (row[0], row[1]) if row is not None else (0, 0)
    if last and owed.at < last + limits.every:
        tx.run(tables.SET_ALIKE, at=last, more=more + 1, day=day, **alike)
        return False
    full = _count(tx, tables.OWED_OF_DAY, limits.in_all, day=day) >= limits.in_all
    if not full:
        asked = {"day": day, "policy_domain": domain}
        full = _count(tx, tables.OWED_OF_DOMAIN, limits.of_domain, **asked) >= limits.of_domain
    if full:
        if row is not None:  # new ones are not counted: a stranger may have very many addresses
            tx.run(tables.SET_ALIKE, at=last, more=more + 1, day=day, **alike)
        return False
    tx.run(tables.SET_ALIKE, at=owed.at, more=0, day=day, **alike)
    record = keepable(json.dumps({**owed.record, "incidents": more + 1}))
    tx.run(
        tables.OWE,
        id=owed.id,
        policy_domain=domain,
        day=day,
        now=owed.at,
        record=record,
        content=owed.content,
    )
    return True


def _count(tx: Tx, statement: Any, limit: int, **asked: Any) -> int:
    row = tx.one(statement, limit=limit, **asked)
    return int(row[0]) if row is not None else 0


def due(tx: Tx, now: Instant, limit: int) -> list[Owed]:
    """What is to be told by now, what waits longest first; damaged ones without a record."""
    rows = tx.all(tables.OWED, now=now, limit=limit)
    return [Owed(id_, name, at, _record(text), bytes(held)) for id_, name, at, text, held in rows]


def _record(text: str) -> dict[str, Any]:
    try:
        held = json.loads(text)
    except ValueError:
        return {}  # it keeps none of the others waiting
    return held if isinstance(held, dict) else {}


def sent_to(tx: Tx, destination: str, day: int, limit: int) -> int:
    """How many reports an address was sent on that day; no more than `limit` are counted."""
    asked = {"destination": keepable(destination), "day": day}
    return _count(tx, tables.SENT_TO, limit, **asked)


def postpone(tx: Tx, id_: int, why: str, until: Instant) -> None:
    """Try again later, unless it is settled."""
    tx.run(tables.PUT_OFF, id=id_, why=keepable(why), again=until)


def settle(tx: Tx, id_: int, told: Sequence[Told], why: str, now: Instant) -> bool:
    """Settle a report; False if that was done before, and then nothing is to be sent.

    What was kept of the message for it goes. `why` says why nobody was there to be told.
    """
    if not tx.run(tables.SETTLE_FAILURE, id=id_, why=keepable(why), nothing=b""):
        return False
    rows = [
        {
            "id": id_,
            "destination": keepable(each.destination),
            "day": day_of(now),
            "octets": each.octets,
            "trace": each.trace,
            "why": keepable(each.why),
        }
        for each in told
    ]
    if rows:
        tx.many(tables.FAILURE_SENT, rows)
    return True


def latest(tx: Tx, domain: str, limit: int) -> list[Listed]:
    """What was sent and what was not, the newest first; of one policy domain if it is named."""
    if domain:
        rows = tx.all(tables.FAILURES_OF, policy_domain=domain, limit=limit)
    else:
        rows = tx.all(tables.FAILURES, limit=limit)
    return [
        Listed(
            id_, name, at, again > 0, Told(destination or "", octets or 0, trace or 0, why or whole)
        )
        for id_, name, at, again, whole, destination, octets, trace, why in rows
    ]


def forget(tx: Tx, before: int, limit: int = 500) -> int:
    """Forget reports on messages of days before that one; returns how many."""
    rows = tx.all(tables.OLD_FAILURES, before=before, limit=limit)
    tx.many(tables.FORGET_FAILURE, [{"id": id_} for (id_,) in rows])
    alike = tx.all(tables.OLD_ALIKE, before=before, limit=limit)
    keys = ("policy_domain", "source", "failure")
    tx.many(tables.FORGET_ALIKE, [dict(zip(keys, each, strict=True)) for each in alike])
    return max(len(rows), len(alike))
