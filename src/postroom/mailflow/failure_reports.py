"""Reports to domains on single messages that failed DMARC in their name. RFC 9991, RFC 6591.

Off by default. What is told is written down with the message's fate (`owed`): in the unit that
accepts it, or in one of its own before the peer reads the refusal. A job then asks DNS who is to
be told, and the unit that puts the reports into the queue settles what was owed. They go out from
`<>`, and mail from `<>` is never reported, so no report causes another.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from typing import Final

import structlog

from postroom import __version__
from postroom.core import metrics
from postroom.core.clock import Instant, to_datetime
from postroom.core.errors import DnsFailed, MailError
from postroom.core.ids import TRACE, external
from postroom.core.jobs import job
from postroom.core.plural import counted
from postroom.domain import queue
from postroom.domain.facts import DkimFact, DmarcFact, SpfFact
from postroom.domain.feedback import day_of, failures
from postroom.domain.feedback.failures import Limits, Owed
from postroom.domain.feedback.sent import Told
from postroom.domain.policy import Policy
from postroom.domain.queue import HOUR, Composed
from postroom.domain.transit import Action, Transit, Verdict
from postroom.formats import compose, headers
from postroom.formats.address import format_mailbox, parse_mailbox
from postroom.formats.compose import Message, MessageId, printable
from postroom.formats.dates import format_date
from postroom.mailflow import authentication
from postroom.mailflow.dmarc_reports import ORIGIN
from postroom.mailflow.dmarc_reports_settings import DmarcReportSettings
from postroom.mailflow.failure_reports_settings import REDACTED, WHOLE, FailureReportSettings
from postroom.mailflow.feedback import is_report
from postroom.mailflow.house import MailHouse
from postroom.net.dns import Kind, from_labels
from postroom.store.sql import Tx
from postroom.trust.dkim import BODY_CHANGED, canonical, signatures
from postroom.trust.dkim.signature import key_name
from postroom.trust.dmarc import failure, select
from postroom.trust.dmarc.destinations import Destination, destinations

HEADER: Final = 32 * 1024
MOST: Final = 256 * 1024
"""Octets of a header, and of a whole message, that are told; of a longer one the header alone."""
CANONICAL: Final = 64 * 1024
"""Octets of what a signature is over, header and body each, that are told."""
BATCH: Final = 10
MINUTE: Final = 60_000
RETRY: Final = HOUR
PATIENCE: Final = 24 * HOUR
"""How long an answer of DNS is waited for; then those are told who are known."""
AGENT: Final = f"Postroom/{__version__}"

SENT: Final = metrics.counter("dmarc.failures_sent", "reports", "Failure reports that were sent")
UNSENT: Final = metrics.counter(
    "dmarc.failures_unsent", "reports", "Failure reports that somebody asked for and did not get"
)

_log: Final = structlog.get_logger("postroom.mailflow")


# --- what is owed ---------------------------------------------------------------------------------


def owed(
    house: MailHouse, transit: Transit, verdicts: Sequence[Verdict], stop: Verdict | None
) -> Owed | None:
    """The report that a message is worth, once it is known what becomes of it; None if nobody
    wants one, or it will come again."""
    found, policy, path = transit.facts.get(DmarcFact), transit.policy, transit.reverse_path
    if found is None or policy is None or path is None or found.result not in ("pass", "fail"):
        return None
    settings = policy.of(FailureReportSettings)
    if not settings.send_failure_reports or (stop is not None and stop.action is Action.DEFER):
        return None
    failed = _failed(transit, found)
    header = _header(transit)
    if not failed or _is_feedback(header) or is_report(transit, passed=found.result == "pass"):
        return None
    signature = _signature(transit, found)
    if failed == failure.SIGNATURE and signature.get("why") == BODY_CHANGED:
        failed = failure.BODY
    told = _told(house, transit, found, failed, _delivery(verdicts, stop), signature)
    told = _with_canonical(settings, transit, told, signature)
    told, content, whole = _kept_back(house, settings, transit, told, header)
    limits = Limits(
        settings.all_failure_reports_a_day,
        settings.failure_reports_a_day,
        settings.failure_reports_every * MINUTE,
    )
    record = {"told": asdict(told), "whole": whole}
    peer = str(transit.visit.peer.ip or "")
    now = house.clock.now()
    return Owed(transit.id, found.policy_domain, now, record, content, limits, peer, failed)


async def owe(house: MailHouse, report: Owed) -> None:
    """Remember a report on a message that is about to be refused.

    If the store cannot, the message is refused all the same: that matters more.
    """
    try:
        await house.mail.write_mail(failures.owe, report)
    except MailError as error:
        why = error.detail or str(error)
        _log.warning("failure report not owed", domain=report.policy_domain, because=why)


def _failed(transit: Transit, found: DmarcFact) -> str:
    record = select([found.txt.encode("latin-1", "replace")])
    if record is None:
        return ""
    sender, signed = transit.facts.get(SpfFact), transit.facts.get(DkimFact)
    results = failure.Found(
        found.spf,
        found.dkim,
        sender.result if sender is not None else "none",
        tuple([each["code"] for each in signed.signatures]) if signed is not None else (),
    )
    return failure.wanted(record, results)


def _header(transit: Transit) -> bytes:
    spool, parsed = transit.spool, transit.parsed
    if spool is None or parsed is None:
        return b""
    return failure.header_within(spool.head(min(parsed.header_size, HEADER + 1)), HEADER)


def _is_feedback(header: bytes) -> bool:
    """Whether a message is a feedback report, of whatever kind. RFC 5965 §2."""
    declared = headers.scan(header).first(b"content-type") or b""
    return b"feedback-report" in declared.lower()


_DELIVERIES: Final = {
    Action.JUNK: "spam",
    Action.QUARANTINE: "policy",
    Action.DROP: "other",
}


def _delivery(verdicts: Sequence[Verdict], stop: Verdict | None) -> str:
    """In the words of RFC 6591 §3.2."""
    if stop is not None:
        return "reject"
    done = {each.action for each in verdicts}
    return next((word for action, word in reversed(_DELIVERIES.items()) if action in done), "") or (
        "delivered"
    )


def _signature(transit: Transit, found: DmarcFact) -> Mapping[str, str]:
    """The uppermost signature that does not vouch for the author; empty without one."""
    signed = transit.facts.get(DkimFact)
    bad = [
        each
        for each in (signed.signatures if signed is not None else ())
        if "domain" in each and (each["code"] != "pass" or not found.dkim)
    ]
    return bad[0] if bad else {}


def _with_canonical(
    settings: FailureReportSettings,
    transit: Transit,
    told: failure.Told,
    signature: Mapping[str, str],
) -> failure.Told:
    """What a signature that does not hold was found to be over, as far as that much of the message
    is shown: RFC 6591 §3.2.2. Nothing is hidden in it, as it would be something else then."""
    spool, header = transit.spool, transit.header()
    if signature.get("code") != "fail" or spool is None or header is None:
        return told
    if settings.failure_reports_content == REDACTED or spool.size > MOST:
        return told
    now = transit.started // 1000
    read = [
        each
        for each in signatures(header, now)
        if (each.of.domain, each.of.selector) == (told.dkim_domain, told.dkim_selector)
        and each.of.signature == signature.get("signature", "")
    ]
    found = canonical(header, read[0], spool.content()) if read else None
    if found is None:
        return told
    hide = settings.failure_reports_hide_ips
    shown = [
        each
        if len(each) <= CANONICAL and not (hide and failure.hide_reserved(each) != each)
        else b""
        for each in (found.header, found.body)
    ]
    body = shown[1] if settings.failure_reports_content == WHOLE else b""
    return replace(
        told,
        dkim_header=b64encode(shown[0]).decode("ascii"),
        dkim_body=b64encode(body).decode("ascii"),
    )


def _told(
    house: MailHouse,
    transit: Transit,
    found: DmarcFact,
    failed: str,
    delivery: str,
    signature: Mapping[str, str],
) -> failure.Told:
    sender = transit.facts.get(SpfFact)
    said = headers.scan(authentication.fields(transit, house.hostname))
    alike = failure.Found(found.spf, found.dkim)
    return failure.Told(
        failure=failed,
        alignment=failure.alignment(alike),
        delivery=delivery,
        domain=found.domain,
        source_ip=str(transit.visit.peer.ip or ""),
        mail_from=str(transit.reverse_path),
        arrived=format_date(to_datetime(transit.started)),
        envelope_id=external(TRACE, transit.id),
        results=(said.first(b"authentication-results") or b"").decode("utf-8", "replace"),
        dkim_domain=signature.get("domain", ""),
        dkim_selector=signature.get("selector", ""),
        dkim_identity=signature.get("identity", ""),
        spf_domain=sender.domain if sender is not None and sender.result != "pass" else "",
    )


def _kept_back(
    house: MailHouse,
    settings: FailureReportSettings,
    transit: Transit,
    told: failure.Told,
    header: bytes,
) -> tuple[failure.Told, bytes, bool]:
    """What is told, what of the message, and whether that is all of it."""
    spool, parsed = transit.spool, transit.parsed
    body = b""
    whole = settings.failure_reports_content == WHOLE
    if whole and spool is not None and parsed is not None and spool.size <= MOST:
        body = spool.content()[parsed.header_size :]
        whole = len(header) == parsed.header_size
    else:
        whole = False
    if settings.failure_reports_content == REDACTED:
        key = _key(house)
        header = failure.redacted(header, key)
        told = replace(
            told,
            mail_from=_hidden(told.mail_from, key),
            results=_hidden(told.results, key),
            dkim_identity=_hidden(told.dkim_identity, key),
        )
    if settings.failure_reports_hide_ips:
        header = failure.hide_reserved(header)
        shown = told.source_ip and ip_address(told.source_ip).is_global
        results = failure.hide_reserved(told.results.encode()).decode()
        told = replace(told, source_ip=told.source_ip if shown else "", results=results)
    return told, header + body if whole else header, whole


def _hidden(text: str, key: bytes) -> str:
    return failure.hide_local_parts(text.encode(), key).decode()


def _key(house: MailHouse) -> bytes:
    """The same for all reports until the keys of secrets rotate; empty where there are none.

    Sealing the same text gives the same octets, which only who holds the key can tell.
    """
    try:
        return failure.key_of(house.secrets.seal("local parts", "dmarc.failure_reports"))
    except MailError:
        return b""  # nothing tells one person from another, then


# --- the job --------------------------------------------------------------------------------------


@job("dmarc.failures", every=30.0)
async def send_failure_reports(house: MailHouse) -> bool:
    """Send the reports on single messages that failed DMARC to those who ask for them, a bounded
    piece at a time."""
    due = await house.mail.read_much(failures.due, house.clock.now(), BATCH)
    if not due:
        return False
    policy = await house.mail.read(_policy, house)
    telling = _Telling(house, policy.of(FailureReportSettings), policy.of(DmarcReportSettings))
    for each in due:  # one after the other: what one address gets in a day is counted
        await telling.tell(each)
    return len(due) == BATCH


def _policy(tx: Tx, house: MailHouse) -> Policy:
    return house.policies.current(tx, house.chain(""))


@dataclass(frozen=True, slots=True)
class _Telling:
    house: MailHouse
    settings: FailureReportSettings
    sender: DmarcReportSettings

    async def tell(self, report: Owed) -> None:
        """Send what is to be sent, and settle the report or put it off."""
        house = self.house
        if house.checks is None or not self.settings.send_failure_reports:
            await self._settle(report, (), (), "dmarc.send_failure_reports is off")
            return
        if not report.record:
            _log.error("failure report cannot be read", about=external(TRACE, report.id))
            await self._settle(report, (), (), "what was kept of it cannot be read")
            return
        patient = house.clock.now() < report.at + PATIENCE
        try:
            asked = await destinations(house.checks.lookup, report.policy_domain, failures=True)
        except DnsFailed as error:
            why = f"DNS does not tell its record: {printable(error.detail or str(error))}"
            await (self._postpone(report, why) if patient else self._settle(report, (), (), why))
            return
        unanswered = [each.why for each in asked.destinations if each.unanswered]
        if unanswered and patient:
            await self._postpone(report, unanswered[0])
            return
        why = "" if asked.destinations else "its record asks for no failure reports any more"
        told: list[Told] = []
        letters: list[Composed] = []
        for each in asked.destinations:
            outcome = await self._one(report, each, letters)
            told.append(outcome)
        await self._settle(report, told, letters, why)

    async def _one(self, report: Owed, to: Destination, letters: list[Composed]) -> Told:
        """What one address is told; the message is added to `letters`."""
        if to.why:
            return Told(to.address, why=to.why)
        house, most = self.house, self.settings.failure_reports_a_day
        day = day_of(house.clock.now())
        if await house.mail.read(failures.sent_to, to.address, day, most) >= most:
            return Told(to.address, why=f"it was sent {most} of these reports today")
        try:
            composed = await self._letter(report, to)
        except MailError as error:
            why = error.detail or str(error)
            _log.error("failure report not made", domain=report.policy_domain, because=why)
            return Told(to.address, why=f"the report could not be made: {printable(why)}")
        letters.append(composed)
        return Told(to.address, composed.content.size, composed.id)

    async def _letter(self, report: Owed, to: Destination) -> Composed:
        house, number = self.house, self.house.ids.new()
        address = parse_mailbox(to.address)
        author = parse_mailbox(self.sender.report_from or f"postmaster@{house.default_domain}")
        utf8 = not (address.ascii and author.ascii)
        told = failure.Told(**report.record["told"])
        published = failure.Published(
            await self._record(told.spf_domain, b"v=spf1"),
            await self._record(_key_name(told), b""),
        )
        message = Message(
            MessageId(external(TRACE, number), house.hostname),
            to_datetime(house.clock.now()),
            house.random.randbytes,
            utf8=utf8,
        )
        organisation = self.sender.report_organisation or house.default_domain
        message.header("From", format_mailbox(organisation, author, utf8=utf8))
        message.header("To", format_mailbox("", address, utf8=utf8))
        message.header("Subject", f"Failure report: {printable(told.domain)}")
        message.header("Auto-Submitted", "auto-generated")  # RFC 3834 §5
        if self.settings.failure_reports_precedence:
            message.header("Precedence", "bulk")
        message.text(_words(told, report, house.hostname))
        machine = failure.fields(told, house.hostname, AGENT, published, report.incidents)
        returned = compose.message if report.record["whole"] else compose.header_only
        message.report(
            "feedback-report",
            compose.status("message/feedback-report", [machine]),
            returned(report.content),
        )
        content = message.to_bytes()
        return Composed(
            id=number,
            content=await house.blobs.make(content),
            reverse_path=None,  # nobody waits for word that a report was not taken
            recipients=(to.address,),
            origin=ORIGIN,
            destination=house.ids.new(),
            utf8=utf8,
            eight_bit=not content.isascii(),
        )

    async def _record(self, domain: str, begins: bytes) -> str:
        """The record by which it failed, as it is by now; empty if there is none."""
        checks = self.house.checks
        if checks is None or not domain or domain.startswith("["):
            return ""
        try:
            name = from_labels(domain.encode("utf-8", "replace").split(b"."))
            answer = await checks.lookup.query(name, Kind.TXT)
        except MailError:
            return ""  # the report says no less without it
        texts = [each for each in answer.records if isinstance(each, bytes)]
        found = next((each for each in texts if each.lower().startswith(begins)), b"")
        return found.decode("latin-1")

    async def _postpone(self, report: Owed, why: str) -> None:
        until = Instant(self.house.clock.now() + RETRY)
        await self.house.mail.write_later(failures.postpone, report.id, why, until)
        _log.info("failure report waits", domain=report.policy_domain, because=why)

    async def _settle(
        self, report: Owed, told: Sequence[Told], letters: Sequence[Composed], why: str
    ) -> None:
        house = self.house

        def unit(tx: Tx) -> bool:
            now = house.clock.now()
            if not failures.settle(tx, report.id, told, why, now):
                return False  # it was done by another worker, under a lease that ended
            for composed in letters:
                queue.submit(tx, composed, now)
            return True

        if not await house.mail.write_later(unit):
            return
        SENT.add(len(letters))
        UNSENT.add(len(told) - len(letters))
        _log.info(
            "failure report",
            domain=report.policy_domain,
            about=external(TRACE, report.id),
            to=[each.destination for each in told if each.trace],
            not_to={each.destination: each.why for each in told if each.why},
            because=why,
        )


def _key_name(told: failure.Told) -> str:
    """Where the key of the signature is; nowhere without one."""
    if not told.dkim_domain or not told.dkim_selector:
        return ""
    return key_name(told.dkim_domain, told.dkim_selector)


def _words(told: failure.Told, report: Owed, reporter: str) -> str:
    about = printable(told.domain)
    more = report.incidents - 1
    others = (
        f"{counted(more, 'more message')} failed alike since the last report.\n\n" if more else ""
    )
    done = {"reject": "It was refused.", "spam": "It was filed as junk."}
    fate = done.get(told.delivery, "It was kept back." if told.delivery == "policy" else "")
    source = f" from {told.source_ip}" if told.source_ip else ""
    return (
        f"{reporter} got a message in the name of {about}{source} on\n{told.arrived}, and "
        f"{_failing(told)}. {fate}\n\n{others}"
        f"You get this report because the DMARC record of {printable(report.policy_domain)} names "
        f"this address (ruf),\nor the domain of this address takes such reports (RFC 9991). "
        f"Reference: {told.envelope_id}\n"
    )


def _failing(told: failure.Told) -> str:
    if told.failure in (failure.SIGNATURE, failure.BODY):
        return "a DKIM signature of it does not hold"
    if told.failure == failure.SPF:
        return "SPF does not let that server send it"
    if "," in told.alignment:
        return f"neither SPF nor DKIM vouches for {printable(told.domain)}"
    return f"{told.alignment.upper()} does not vouch for {printable(told.domain)}"
