"""Operations on DMARC reports. RFC 9990."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroom.admin.changes import bounded
from postroom.admin.house import AdminHouse
from postroom.admin.render import DETAIL
from postroom.core.clock import Instant, iso, to_datetime
from postroom.core.ids import TRACE, external
from postroom.core.operations import argument, operation
from postroom.core.settings import Role
from postroom.domain.feedback import DAY, failures, sent
from postroom.domain.feedback.sent import Listed


@dataclass(frozen=True, slots=True)
class ReportsSent:
    """Of whom, and how many."""

    domain: str = argument("Only about mail in the name of this domain", default="")
    limit: int = argument("How many at most, the latest day first", default=100)


@dataclass(frozen=True, slots=True)
class SentView:
    """One report to one address, or why there was none."""

    day: str
    domain: str
    to: str
    outcome: str  # sent, waits, or why it was not sent
    message: str  # by which `mail trace` finds it
    octets: int = field(metadata=DETAIL)
    at: str = field(metadata=DETAIL)
    report_id: str = field(metadata=DETAIL)


@operation("dmarc reports sent", Role.ADMIN, changes=False)
async def reports_sent(house: AdminHouse, asked: ReportsSent) -> tuple[SentView, ...]:
    """List the reports on mail in their name that other domains were sent, day by day, and those
    that were asked for and not sent, with the reason."""
    name = asked.domain.strip().lower().removesuffix(".")
    found = await house.flow.mail.read_much(sent.latest, name, bounded(asked.limit))
    return tuple([_view(each) for each in found])


def _view(each: Listed) -> SentView:
    told = each.told
    outcome = f"waits: {told.why}" if each.waits else told.why or "sent"
    day = to_datetime(Instant(each.day * DAY))
    return SentView(
        f"{day:%Y-%m-%d}",
        each.policy_domain,
        told.destination,
        outcome,
        external(TRACE, told.trace) if told.trace else "",
        told.octets,
        iso(each.at),
        each.report_id,
    )


# --- single messages --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailureView:
    """One report on one message to one address, or why there was none."""

    at: str
    domain: str
    about: str  # the message that failed, by which `trace` finds it
    to: str
    outcome: str  # sent, waits, or why it was not sent
    message: str  # the report, by which `mail trace` finds it
    octets: int = field(metadata=DETAIL)


@operation("dmarc failures sent", Role.ADMIN, changes=False)
async def failures_sent(house: AdminHouse, asked: ReportsSent) -> tuple[FailureView, ...]:
    """List the reports on single messages that failed DMARC, as other domains were sent them, and
    those that were asked for and not sent, with the reason. None is unless
    `dmarc.send_failure_reports` is on."""
    name = asked.domain.strip().lower().removesuffix(".")
    found = await house.flow.mail.read_much(failures.latest, name, bounded(asked.limit))
    return tuple([_failure(each) for each in found])


def _failure(each: failures.Listed) -> FailureView:
    told = each.told
    waits = f"waits: {told.why}" if told.why else "waits"
    return FailureView(
        iso(each.at),
        each.policy_domain,
        external(TRACE, each.id),
        told.destination,
        waits if each.waits else told.why or "sent",
        external(TRACE, told.trace) if told.trace else "",
        told.octets,
    )
