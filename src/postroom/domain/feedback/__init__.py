"""Feedback: what is told to domains about mail in their name, counted until it is told.

RFC 9990 §3. In `state`: a second of it may be lost. What was told lies in `mail`, in the unit of
the message that tells it (`sent`). Called by mailflow and admin. May import: store, formats, core.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt
from postroom.domain.feedback import tables
from postroom.store.sql import Tx, keepable

DAY: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM signature as a report tells it. RFC 9990 §3.1.1.12."""

    domain: str
    selector: str
    result: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What messages had in common that are counted together: a `record` of a report."""

    policy_domain: str
    record: str  # the policy as published
    source_ip: str
    header_from: str
    envelope_from: str  # the domain; that of HELO for <>
    disposition: str  # none, pass, quarantine, reject
    dkim: str  # pass, fail: with alignment
    spf: str
    override: str = ""  # why the disposition is not what the domain wished
    comment: str = ""
    spf_scope: str = "mfrom"  # or helo
    spf_result: str = "none"  # without alignment
    signatures: tuple[Signature, ...] = ()


def day_of(at: Instant) -> int:
    """The day of a moment, since 1970, in UTC."""
    return at // DAY


def add(tx: Tx, counted: Mapping[tuple[int, Seen], int]) -> None:
    """In `state`: add so many messages of each day and kind."""
    rows = []
    for (day, seen), messages in counted.items():
        record = keepable(json.dumps(asdict(seen), sort_keys=True))
        key = hashlib.sha256(record.encode()).hexdigest()[:32]
        row = {"policy_domain": keepable(seen.policy_domain), "day": day, "key": key}
        rows.append(row | {"record": record, "messages": messages})
    tx.many(tables.ADD, rows)


def tallies(tx: Tx, policy_domain: str, day: int, limit: int) -> list[tuple[Seen, int]]:
    """In `state`: what was seen of a domain on a day, and how often."""
    rows = tx.all(tables.TALLIES, policy_domain=policy_domain, day=day, limit=limit)
    return [(_seen(record), messages) for record, messages in rows]


def _seen(record: str) -> Seen:
    try:
        held = json.loads(record)
        held["signatures"] = tuple([Signature(**each) for each in held["signatures"]])
        return Seen(**held)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(detail=f"a tally of DMARC: {error}") from error


def domains(tx: Tx, day: int, after: str, limit: int) -> list[str]:
    """In `state`: the policy domains of a day, those behind `after`, in order."""
    return [name for (name,) in tx.all(tables.DOMAINS, day=day, after=after, limit=limit)]


def forget(tx: Tx, before: int, limit: int = 500) -> int:
    """In `state`: forget what was seen before that day; returns how many kinds."""
    rows = tx.all(tables.OLD, before=before, limit=limit)
    tx.many(
        tables.FORGET,
        [{"policy_domain": name, "day": day, "key": key} for name, day, key in rows],
    )
    return len(rows)
