"""Reported: what others tell of mail in our domains' names. RFC 9990, RFC 9991.

In `mail`, as it is worth as much as mail: the unit that answers its sender keeps a row for a
message that brings reports, and another unit ends that row and files what was in it. Run twice,
the second does nothing. Counts are kept for each policy domain, week and source, not for each
report, so that they stay small. Called by mailflow and admin. May import: store, core.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, NotFound
from postroom.domain.directory import people
from postroom.domain.reported import tables
from postroom.store.sql import Tx, keepable

DAY: Final = 24 * 3600 * 1000
AGGREGATE: Final = "aggregate"
WAITING: Final = "waiting"
FILED: Final = "filed"
FOREIGN: Final = "foreign"  # about domains that are not ours
UNREADABLE: Final = "unreadable"
SOURCES: Final = 1_000
"""Kinds of sources of one report that are counted by themselves."""
A_WEEK: Final = 20_000
"""Of one domain and week: those beyond are counted together, under no address."""
MOST_MESSAGES: Final = 10**9
"""That one row of a report may tell: none can make the sums overflow."""
_EPOCH: Final = 3  # the days from Monday to 1 January 1970


def day_of(at: int) -> int:
    """The day of a moment, since 1970, in UTC."""
    return at // DAY


def week_of(day: int) -> int:
    """The week of a day; it begins on Monday."""
    return (day + _EPOCH) // 7


# --- mail that brings reports -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Brought:
    """A message to an address for reports; made before the unit that accepts it."""

    id: int
    recipient: int  # which recipient of the transit, by position
    source: str
    address: str
    voucher: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """One that was not looked into yet."""

    id: int
    trace: int
    at: Instant
    address: str
    voucher: str
    blob: int
    tries: int


@dataclass(frozen=True, slots=True)
class Unfiled:
    """One that was not filed, and why."""

    id: int
    trace: int
    at: Instant
    source: str
    address: str
    voucher: str
    octets: int
    state: str
    why: str


def accept(tx: Tx, brought: Brought, trace: int, blob: int, octets: int, now: Instant) -> None:
    """Keep a message that brings reports, in the unit that answers its sender."""
    tx.run(
        tables.ACCEPT,
        id=brought.id,
        trace=trace,
        at=now,
        day=day_of(now),
        source=brought.source,
        address=keepable(brought.address),
        voucher=keepable(brought.voucher),
        octets=octets,
        blob=blob,
    )


def brought_today(tx: Tx, source: str, now: Instant) -> tuple[int, int, int]:
    """Messages of a source today, of all sources, and their octets."""
    day = day_of(now)
    own, whole = tx.one(tables.OF_SOURCE, day=day, source=source), tx.one(tables.OF_DAY, day=day)
    assert own is not None and whole is not None  # an aggregate has one row
    return int(own[0]), int(whole[0]), int(whole[1])


def next_waiting(tx: Tx) -> Waiting | None:
    """The first that waits."""
    row = tx.one(tables.NEXT)
    return Waiting(*row) if row is not None else None


def attempt(tx: Tx, number: int) -> None:
    """Note that it is looked into now: one at which servers die is not tried for ever."""
    tx.run(tables.TRY, id=number)


def unfiled(tx: Tx, limit: int) -> list[Unfiled]:
    """What waits, what could not be read and what was of no domain of ours, the latest first."""
    states = (WAITING, UNREADABLE, FOREIGN)
    return [Unfiled(*row) for row in tx.all(tables.UNFILED, states=states, limit=limit)]


def forget_mail(tx: Tx, state: str, before: Instant, limit: int = 500) -> int:
    """Forget messages in that state that came before; returns how many."""
    rows = tx.all(tables.OLD_MAIL, state=state, before=before, limit=limit)
    tx.many(tables.FORGET_MAIL, [{"id": number} for (number,) in rows])
    return len(rows)


# --- reports ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """Messages from one address that fared alike."""

    ip: str
    disposition: str  # none, pass, quarantine, reject; empty: not told
    dkim: str  # pass, fail: with alignment
    spf: str
    messages: int

    @property
    def aligned(self) -> bool:
        """Whether DMARC passed. RFC 9989 §5.3.5."""
        return "pass" in (self.dkim, self.spf)


@dataclass(frozen=True, slots=True)
class Report:
    """One report as it was understood; made before the unit that files it."""

    id: int
    domain: str  # the one whose mail it is about
    kind: str  # AGGREGATE, or what the feedback is
    reporter: str  # as it calls itself
    report_id: str
    begins: Instant
    ends: Instant
    sources: tuple[Source, ...]  # of an aggregate report
    record: dict[str, Any]  # what else is shown of it


@dataclass(frozen=True, slots=True)
class Listed:
    """One report as it lies here."""

    id: int
    domain: str
    kind: str
    reporter: str
    voucher: str
    begins: Instant
    ends: Instant
    at: Instant
    messages: int
    aligned: int
    trace: int
    record: dict[str, Any]


def file(
    tx: Tx, mail: Waiting, voucher: str, reports: Sequence[Report], why: str, now: Instant
) -> str:
    """End a message that waits, and file the reports that were in it; returns how it ended.

    That is empty if it was ended before: then nothing is counted again. `why` says why there is
    nothing to file. Only reports about domains of ours are kept, and each of a reporter once.
    """
    ours = [each for each in reports if people.find_domain(tx, each.domain) is not None]
    if not reports:
        state = UNREADABLE
    elif not ours:
        names = ", ".join(sorted({each.domain for each in reports}))
        state, why = FOREIGN, f"{names} is no domain of this server"
    else:
        state = FILED
    ended = tx.run(
        tables.END,
        id=mail.id,
        state=state,
        why=keepable(why),
        voucher=keepable(voucher),
        blob=mail.blob if state == UNREADABLE else None,
    )
    if not ended:
        return ""
    for each in ours:
        _add(tx, mail, voucher, each, now)
    return state


def _add(tx: Tx, mail: Waiting, voucher: str, report: Report, now: Instant) -> None:
    # Who stands behind it is part of the name: nobody else can come before a reporter.
    name = json.dumps([voucher, report.reporter, report.report_id, report.kind])
    fresh = tx.run(
        tables.ADD,
        id=report.id,
        domain=report.domain,
        key=hashlib.sha256(name.encode()).hexdigest()[:32],
        kind=keepable(report.kind),
        reporter=keepable(report.reporter),
        voucher=keepable(voucher),
        begins=report.begins,
        ends=report.ends,
        at=now,
        messages=sum(each.messages for each in report.sources),
        aligned=sum(each.messages for each in report.sources if each.aligned),
        trace=mail.trace,
        record=keepable(json.dumps(report.record, sort_keys=True)),
    )
    if fresh and report.sources:
        _count(tx, voucher, report)


def _count(tx: Tx, voucher: str, report: Report) -> None:
    first, last = day_of(report.begins), day_of(report.ends)
    week = week_of(first)
    known = tx.one(tables.KNOWN, domain=report.domain, week=week)
    assert known is not None  # an aggregate has one row
    most = min(SOURCES, max(A_WEEK - int(known[0]), 0))
    held: dict[tuple[str, str, str, str], int] = {}
    largest = sorted(report.sources, key=lambda each: -each.messages)
    for each in largest:
        kind = (each.ip, each.disposition, each.dkim, each.spf)
        if kind not in held and len(held) >= most:
            kind = ("", *kind[1:])
        held[kind] = held.get(kind, 0) + min(each.messages, MOST_MESSAGES)
    tx.many(
        tables.COUNT,
        [
            {
                "domain": report.domain,
                "week": week,
                "source": ip,
                "reporter": keepable(voucher or report.reporter),
                "vouched": int(bool(voucher)),
                "disposition": disposition,
                "dkim": dkim,
                "spf": spf,
                "messages": messages,
                "first": first,
                "last": last,
            }
            for (ip, disposition, dkim, spf), messages in held.items()
        ],
    )


def latest(tx: Tx, domain: str, limit: int) -> list[Listed]:
    """Reports, the latest first; about one domain if it is named."""
    if domain:
        rows = tx.all(tables.LATEST_OF, domain=domain, limit=limit)
    else:
        rows = tx.all(tables.LATEST, limit=limit)
    return [_listed(row) for row in rows]


def one(tx: Tx, number: int) -> Listed:
    """Raises NotFound."""
    row = tx.one(tables.ONE, id=number)
    if row is None:
        raise NotFound("There is no such report")
    return _listed(row)


def _listed(row: Sequence[Any]) -> Listed:
    try:
        record: dict[str, Any] = json.loads(row[-1])
        return Listed(*(*row[:-1], record))
    except ValueError as error:
        raise Corrupt(detail=f"a report: {error}") from error


# --- what they count --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceSum:
    """What reporters that somebody stands behind tell of one address."""

    ip: str  # empty: those past a bound
    messages: int
    aligned: int
    dkim: int  # of them with a signature that is aligned
    spf: int
    first: int  # day, since 1970
    last: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of one domain since a week."""

    messages: int
    aligned: int
    addresses: int
    reporters: int
    dispositions: dict[str, int]
    kinds: dict[str, tuple[int, int]]  # reports of each kind, and of these not vouched for
    sources: tuple[SourceSum, ...]  # the largest


def summary(tx: Tx, domain: str, since: int, limit: int) -> Summary:
    """Of a domain from the week `since` on. Nothing counts that nobody stands behind."""
    total = tx.one(tables.TOTAL, domain=domain, since=since)
    assert total is not None  # an aggregate has one row
    messages, aligned, addresses, reporters = map(int, total)
    done = tx.all(tables.DISPOSITIONS, domain=domain, since=since)
    kinds = tx.all(tables.KINDS, domain=domain, since=(since * 7 - _EPOCH) * DAY)
    sources = tx.all(tables.SOURCES, domain=domain, since=since, limit=limit)
    return Summary(
        messages,
        aligned,
        addresses,
        reporters,
        {name: int(number) for name, number in done},
        {kind: (int(number), int(alone)) for kind, number, _, alone in kinds},
        tuple([SourceSum(ip, *(int(each) for each in rest)) for ip, *rest in sources]),
    )


def forget(tx: Tx, before: Instant, limit: int = 500) -> int:
    """Forget reports that came before, and counts of weeks before; returns how many."""
    rows = tx.all(tables.OLD, before=before, limit=limit)
    tx.many(tables.FORGET, [{"id": number} for (number,) in rows])
    names = ("domain", "week", "source", "reporter", "vouched", "disposition", "dkim", "spf")
    counts = tx.all(tables.OLD_COUNTS, before=week_of(day_of(before)), limit=limit)
    tx.many(tables.FORGET_COUNT, [dict(zip(names, row, strict=True)) for row in counts])
    return len(rows) + len(counts)
