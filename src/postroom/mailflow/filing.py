"""Mail that brings DMARC reports: taken at its address, looked into later, filed. RFC 9990 §4.

The address (`dns.dmarc_reports`) needs no account. The unit that answers the sender keeps a row
beside the content; the job takes the rows one after the other, reads what is within in a thread,
and ends each in the unit that files it. Killed anywhere, it does so again, and nothing is
counted twice. What cannot be read is kept for some days with the reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import structlog

from postroom.access.throttle import network
from postroom.core import metrics
from postroom.core.clock import Instant, iso
from postroom.core.errors import Corrupt, MailError, NotFound
from postroom.core.jobs import job
from postroom.core.plural import counted
from postroom.domain import reported, trace
from postroom.domain.facts import (
    BringsFact,
    DkimFact,
    DmarcFact,
    RecipientFact,
    ReportsFact,
    SpfFact,
)
from postroom.domain.policy import Policy
from postroom.domain.reported import DAY, FILED, FOREIGN, UNREADABLE, Brought, Report, Waiting
from postroom.domain.trace import TraceEvent
from postroom.domain.transit import Fact, Protocol, Recipient, Transit
from postroom.formats.address import parse_mailbox
from postroom.mailflow.filing_settings import ReportSettings
from postroom.mailflow.house import MailHouse
from postroom.mailflow.rules.filing import LARGEST
from postroom.mailflow.understanding import Understood, understand
from postroom.store.sql import Tx
from postroom.trust.dmarc import DmarcCode
from postroom.trust.publishing.settings import DnsSettings

TRIES: Final = 3
"""Times that a message is looked into: more, and the server ended each time."""
WEEK: Final = 7 * DAY

FILINGS: Final = metrics.counter(
    "dmarc.reports_received", "messages", "Messages with reports, by what came of them", label="end"
)

_log: Final = structlog.get_logger("postroom.mailflow")


# --- the way in -------------------------------------------------------------------------------


async def reports(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Whether the recipient is where others send reports, and whether more are taken today."""
    if to is None:
        return ()
    found = to.facts.get(RecipientFact)
    if found is None or not found.local_domain:
        return ()
    # As of MAIL, when the settings were read: one message meets one policy.
    listener = transit.visit.peer.listener
    policy = house.policies.latest(house.chain(listener, to.address.domain))
    ours = policy.of(DnsSettings).dmarc_reports
    settings = policy.of(ReportSettings)
    if not ours or not settings.file or parse_mailbox(ours).key != to.address.key:
        return ()
    to.policy = to.policy or policy
    source = _source(transit)
    if not source:
        return (ReportsFact(str(to.address), ""),)
    today = await house.mail.read(reported.brought_today, source, house.clock.now())
    return (_budget(str(to.address), settings, today),)


def _budget(address: str, settings: ReportSettings, today: tuple[int, int, int]) -> ReportsFact:
    own, messages, octets = today
    if own >= settings.a_source:
        return ReportsFact(
            address, f"its network brought {counted(own, 'message')}", "reports.a_source"
        )
    if messages >= settings.a_day:
        return ReportsFact(
            address, f"all together brought {counted(messages, 'message')}", "reports.a_day"
        )
    if octets >= settings.day_octets:
        return ReportsFact(
            address, f"all together brought {counted(octets, 'octet')}", "reports.day_octets"
        )
    return ReportsFact(address, "")


def _source(transit: Transit) -> str:
    """Whose budget it is; empty for what we composed."""
    ip = transit.visit.peer.ip
    if transit.visit.protocol is Protocol.COMPOSED:
        return ""
    return network(ip) if ip is not None else "local"


async def brings(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
    """Whether a message goes to an address for reports that leads nowhere else."""
    for each in transit.recipients:
        if each.facts.get(ReportsFact) and not each.destinations and not each.outside:
            return (BringsFact(),)
    return ()


def brought(house: MailHouse, transit: Transit) -> Brought | None:
    """What the plan is to keep of a message that brings reports, if it does: once, even if
    several of its recipients are such addresses."""
    assert transit.spool is not None  # its plan is being made
    for n, recipient in enumerate(transit.recipients):
        found = recipient.facts.get(ReportsFact)
        if found is not None and not found.spent and transit.spool.size <= LARGEST:
            number, voucher = house.ids.new(), voucher_of(house, transit)
            return Brought(number, n, _source(transit), str(recipient.address), voucher)
    return None


def voucher_of(house: MailHouse, transit: Transit) -> str:
    """The domain that stands behind a message; empty if none does. RFC 9990 §3.5.2.

    Reports have to pass DMARC. Those of a domain without a policy are taken if it passes DKIM or
    SPF: small reporters have none.
    """
    if transit.visit.protocol is Protocol.COMPOSED:
        return house.hostname
    dmarc = transit.facts.get(DmarcFact)
    if dmarc is None:
        return ""
    if dmarc.result == DmarcCode.PASS:
        return dmarc.domain
    if dmarc.result != DmarcCode.NONE:
        return ""
    signed, sender = transit.facts.get(DkimFact), transit.facts.get(SpfFact)
    for each in signed.signatures if signed is not None else ():
        if each["code"] == "pass" and each.get("domain"):
            return each["domain"].lower()
    return sender.domain.lower() if sender is not None and sender.result == "pass" else ""


# --- the job ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Filing:
    """What a unit files; made before it."""

    mail: Waiting
    reports: tuple[Report, ...]
    why: str
    now: Instant
    event: int


@job("reports.file", every=10.0)
async def file_reports(house: MailHouse) -> bool:
    """Look into the next message that brought DMARC reports, and file what it tells."""
    mail = await house.mail.read(reported.next_waiting)
    if mail is None:
        return False
    now = house.clock.now()
    if mail.tries >= TRIES:
        found = Understood((), "the server ended each time it was looked into")
    else:
        await house.mail.write_later(reported.attempt, mail.id)
        found = await _look(house, mail, now)
    made = tuple([each.report(house.ids.new()) for each in found.drafts])
    filing = _Filing(mail, made, found.why, now, house.ids.new())
    state = await house.mail.write_later(_file, filing)
    if state:
        FILINGS.add(label=state)
        _log.info("reports filed", state=state, reports=len(made), because=found.why)
    return True


async def _look(house: MailHouse, mail: Waiting, now: Instant) -> Understood:
    def content(tx: Tx) -> bytes:
        return house.blobs.read(tx, mail.blob)

    try:
        raw = await house.mail.read_much(content)
    except (Corrupt, NotFound) as error:
        return Understood((), f"its content is lost: {error.detail or error}")
    return await asyncio.to_thread(_understand, raw, now)


def _understand(raw: bytes, now: Instant) -> Understood:
    try:
        return understand(raw, now)
    except MailError as error:
        return Understood((), error.detail or str(error))
    except Exception:
        # What no reader foresaw must not stop those behind it.
        _log.exception("a report broke its reader")
        return Understood((), "its reader broke, see the log")


def _file(tx: Tx, filing: _Filing) -> str:
    mail = filing.mail
    state = reported.file(tx, mail, mail.voucher, filing.reports, filing.why, filing.now)
    if state:
        happened = {"what": _TOLD[state], "to": mail.address, "at": iso(filing.now)}
        told: dict[str, Any] = {**happened, "reports": len(filing.reports)}
        if filing.why:
            told["because"] = filing.why
        trace.add_events(tx, [TraceEvent(mail.trace, filing.event, filing.now, told)])
    return state


_TOLD: Final = {FILED: "filed", FOREIGN: "not ours", UNREADABLE: "not filed"}


# --- in the end -------------------------------------------------------------------------------


@job("reports.forget", every=6 * 3600.0)
async def forget_reports(house: MailHouse) -> bool:
    """Forget reports that others sent, and messages of which nothing was filed."""
    settings = (await house.mail.read(_policy, house)).of(ReportSettings)
    now = house.clock.now()
    weeks, days = Instant(now - settings.keep_weeks * WEEK), Instant(now - settings.keep_days * DAY)
    gone = await house.mail.write_later(reported.forget, weeks)
    for state in (FILED, FOREIGN, UNREADABLE):
        gone += await house.mail.write_later(reported.forget_mail, state, days)
    return bool(gone)


def _policy(tx: Tx, house: MailHouse) -> Policy:
    return house.policies.current(tx, house.chain(""))
