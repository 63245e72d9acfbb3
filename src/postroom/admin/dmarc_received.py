"""Operations on reports that others send on mail in our domains' names. RFC 9990, RFC 9991."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from postroom.admin.changes import bounded
from postroom.admin.house import AdminHouse, number_of
from postroom.admin.render import DETAIL
from postroom.core.clock import Instant, iso, to_datetime
from postroom.core.errors import Misuse, NotFound
from postroom.core.ids import REPORT, TRACE, external
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain import reported
from postroom.domain.directory.people import domain as own_domain
from postroom.domain.directory.spelling import named_domain
from postroom.domain.reported import AGGREGATE, DAY, Listed, SourceSum, Summary, Unfiled
from postroom.mailflow.understanding import summed
from postroom.trust import reverse

LARGEST: Final = 20
"""Sources of which a summary tells one by one."""
_LONGEST: Final = 520
_NAMING: Final = 5.0  # seconds for all names of sources together


@dataclass(frozen=True, slots=True)
class ReportsOf:
    """About whose mail, and how many."""

    domain: str = argument("Only about mail in the name of this domain", default="")
    limit: int = argument("How many at most, the latest first", default=100)

    def of_domain(self) -> str:
        return named_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class OneReport:
    """One report."""

    id: str = argument("The report's id, as `dmarc report list` shows it")
    domain: str = argument("The domain that it is about; who administers one names it", default="")

    def of_domain(self) -> str:
        return named_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class SummaryOf:
    """Of which domain, and how far back."""

    domain: str = argument("The domain's name, such as example.org")
    weeks: int = argument("How many weeks, this one among them", default=4)

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class UnfiledLimit:
    """How many."""

    limit: int = argument("How many at most, the latest first", default=100)


@dataclass(frozen=True, slots=True)
class ReportView:
    """One report."""

    id: str
    domain: str
    kind: str
    reporter: str
    vouched_by: str
    until: str
    messages: int
    aligned: int
    received: str = field(metadata=DETAIL)


@dataclass(frozen=True, slots=True)
class ReportText:
    """One report in sentences."""

    id: str
    sentences: tuple[str, ...]

    def told(self) -> str:
        return "\n".join(self.sentences)


@dataclass(frozen=True, slots=True)
class UnfiledView:
    """A message to where reports go of which nothing was filed."""

    message: str  # by which `trace` finds it
    at: str
    source: str
    state: str
    why: str
    octets: int
    address: str = field(metadata=DETAIL)


@dataclass(frozen=True, slots=True)
class SourceView:
    """What reporters tell of one address. The numbers are messages."""

    address: str  # empty: all that are not counted one by one
    name: str  # its own, if DNS knew one
    messages: int
    aligned: int
    dkim: int
    spf: int
    first_day: str
    last_day: str


@dataclass(frozen=True, slots=True)
class DomainSummary:
    """What is told of mail in a domain's name."""

    domain: str
    weeks: int
    messages: int
    aligned: int
    sources: tuple[SourceView, ...]
    sentences: tuple[str, ...]

    def told(self) -> str:
        return "\n".join(self.sentences)


@operation("dmarc report list", Role.DOMAIN_ADMIN, changes=False)
async def list_reports(house: AdminHouse, asked: ReportsOf) -> tuple[ReportView, ...]:
    """List the reports that others sent on mail in our domains' names: aggregate ones (RFC 9990)
    and those on single messages (RFC 6591)."""
    limit = bounded(asked.limit)
    found = await house.flow.mail.read_much(reported.latest, asked.of_domain(), limit)
    return tuple(map(_view, found))


def _view(each: Listed) -> ReportView:
    return ReportView(
        external(REPORT, each.id),
        each.domain,
        each.kind,
        each.reporter,
        each.voucher or "nobody",
        _day(reported.day_of(each.ends)),
        each.messages,
        each.aligned,
        iso(each.at),
    )


@operation("dmarc report show", Role.DOMAIN_ADMIN, changes=False)
async def show_report(house: AdminHouse, asked: OneReport) -> ReportText:
    """Show what one report tells: who sent it, which policy it saw, its largest sources."""
    number = number_of(REPORT, asked.id, "a report")
    found = await house.flow.mail.read(reported.one, number)
    if asked.domain and found.domain != asked.of_domain():
        raise NotFound("There is no such report")
    lines = _aggregate(found) if found.kind == AGGREGATE else _failure(found)
    return ReportText(asked.id, (*_head(found), *lines))


@operation("dmarc report unfiled", Role.ADMIN, changes=False)
async def unfiled(house: AdminHouse, asked: UnfiledLimit) -> tuple[UnfiledView, ...]:
    """List messages to dns.dmarc_reports of which nothing was filed, and why: they wait, they
    could not be read, or they tell of domains that are not of this server."""
    found = await house.flow.mail.read(reported.unfiled, bounded(asked.limit))
    return tuple(map(_unfiled, found))


def _unfiled(each: Unfiled) -> UnfiledView:
    return UnfiledView(
        external(TRACE, each.trace),
        iso(each.at),
        each.source or "this server",
        each.state,
        each.why,
        each.octets,
        each.address,
    )


@operation("dmarc summary", Role.DOMAIN_ADMIN, changes=False)
async def summary(house: AdminHouse, asked: SummaryOf) -> DomainSummary:
    """Tell in sentences what others report of mail in a domain's name: how much of it there was,
    how much of it passed DMARC, and who sends without a signature of the domain. Reports whose
    sender nobody vouches for are not counted."""
    if not 1 <= asked.weeks <= _LONGEST:
        raise Misuse(f"Weeks are from 1 to {_LONGEST}")
    flow = house.flow
    name = (await flow.mail.read(own_domain, asked.domain)).name
    since = reported.week_of(reported.day_of(flow.clock.now())) - asked.weeks + 1
    found = await flow.mail.read_much(reported.summary, name, since, LARGEST)
    names = await _names(house, found)
    return DomainSummary(
        name,
        asked.weeks,
        found.messages,
        found.aligned,
        tuple([_source(each, names) for each in found.sources]),
        tuple(_sentences(name, asked.weeks, found, names)),
    )


# --- one report ---------------------------------------------------------------------------------


def _head(each: Listed) -> Iterator[str]:
    by = f"{each.voucher} vouches for it" if each.voucher else "nobody vouches for it"
    what = "aggregate report" if each.kind == AGGREGATE else f"{each.kind} report"
    yield f"An {what} on mail in the name of {each.domain}, by {each.reporter}; {by}."
    yield f"It came on {iso(each.at)} in the message {external(TRACE, each.trace)}."


def _aggregate(each: Listed) -> Iterator[str]:
    told = each.record
    yield f"It is about {iso(each.begins)} to {iso(each.ends)}."
    yield f"Its id is {told.get('report id') or '(none)'}."
    if told.get("contact"):
        yield f"Its sender can be asked at {told['contact']}."
    policy: Mapping[str, Any] = told.get("policy", {})
    seen = ", ".join(f"{name}={value}" for name, value in policy.items() if name != "domain")
    yield f"The policy that it saw: {seen or '(not told)'}."
    yield from (f"It tells of an error: {error}." for error in told.get("errors", ()))
    share = _share(each.aligned, each.messages)
    yield f"It counts {_number(each.messages, 'message')}, {share} of them aligned."
    if told.get("left out"):
        yield f"Of it {counted(told['left out'], 'row')} could not be read."
    for ip, disposition, dkim, spf, messages in told.get("largest", ()):
        done = f", disposition {disposition}" if disposition else ""
        yield f"  {ip}: {int(messages):,}, dkim {dkim}, spf {spf}{done}"


def _failure(each: Listed) -> Iterator[str]:
    told = each.record
    for name, what in _FAILURE.items():
        if told.get(name):
            yield f"{what}: {told[name]}."
    yield from (f"Authentication-Results: {result}" for result in told.get("results", ()))


_FAILURE: Final = {
    "failure": "What failed",
    "not aligned": "Not aligned",
    "source": "The message came from",
    "sender": "Its sender was",
    "signature": "Its signature was of",
    "delivery": "It was dealt with so",
    "incidents": "Incidents",
    "agent": "Reported by the program",
}


# --- the summary --------------------------------------------------------------------------------


async def _names(house: AdminHouse, found: Summary) -> dict[str, str]:
    """The names that sources have in DNS, as far as they are known soon."""
    checks = house.flow.checks
    ips = [each.ip for each in found.sources if each.ip]
    if checks is None or not ips:
        return {}
    asked = {asyncio.create_task(reverse.look_up(checks.lookup, ip_address(ip))): ip for ip in ips}
    try:
        done, _ = await asyncio.wait(asked, timeout=_NAMING)
    finally:
        for task in asked:
            task.cancel()
    named = {asked[task]: task.result().names for task in done}
    return {ip: names[0].rstrip(".") for ip, names in named.items() if names}


def _source(each: SourceSum, names: Mapping[str, str]) -> SourceView:
    return SourceView(
        each.ip,
        names.get(each.ip, ""),
        each.messages,
        each.aligned,
        each.dkim,
        each.spf,
        _day(each.first),
        _day(each.last),
    )


def _sentences(domain: str, weeks: int, found: Summary, names: Mapping[str, str]) -> Iterator[str]:
    within = counted(weeks, "week")
    if found.messages:
        sources = counted(found.addresses, "source")
        yield (
            f"{_number(found.messages, 'message')} from {sources} in {within}, as "
            f"{counted(found.reporters, 'reporter')} told; "
            f"{_share(found.aligned, found.messages)} aligned."
        )
        for name, what in _DONE.items():
            if found.dispositions.get(name):
                yield f"{_number(found.dispositions[name], 'message')} {what}."
    else:
        yield f"Nobody who can be believed told of mail in the name of {domain} in {within}."
    for each in found.sources:
        yield from _of_source(each, weeks, names)
    if found.addresses > len(found.sources):
        yield f"{found.addresses - len(found.sources)} smaller sources are not shown."
    for kind, (number, alone) in found.kinds.items():
        if kind != AGGREGATE:
            yield f"{summed(kind, number)} came in."
        elif alone:
            yield f"{summed(kind, alone)} did not count, as nobody vouches for who sent them."


_DONE: Final = {"quarantine": "were to be quarantined", "reject": "were to be rejected"}


def _of_source(each: SourceSum, weeks: int, names: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with one source, if anything is."""
    who = "Sources that are not told apart" if not each.ip else each.ip
    who += f" ({names[each.ip]})" if each.ip in names else ""
    verb = "sends" if each.ip else "send"
    unsigned, failing = each.messages - each.dkim, each.messages - each.aligned
    if failing:
        a_week = f"{-(-failing // weeks):,} a week"
        if each.aligned:
            yield f"{who} {verb} {a_week} that fail DMARC, of {each.messages:,} in all."
        else:
            yield f"{who} {verb} {a_week} without a signature or an SPF pass of yours."
    elif unsigned:
        a_week = f"{-(-unsigned // weeks):,} a week"
        yield f"{who} {verb} {a_week} without a signature of yours; SPF alone lets them pass."


def _share(part: int, whole: int) -> str:
    """A part in per cent: 100 only if it is all, 0 only if it is nothing."""
    if not whole:
        return "none"
    percent = round(100 * part / whole)
    if 0 < part < whole:
        percent = min(max(percent, 1), 99)
    return f"{percent} %"


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _day(day: int) -> str:
    return f"{to_datetime(Instant(day * DAY)):%Y-%m-%d}"
