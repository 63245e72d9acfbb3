"""Reports to domains on mail in their name, once a UTC day is over. RFC 9990 §3, §4.

What was counted lies in `state`, what is sent in `mail`, and no unit spans the two. So nothing is
taken away where it is read: the unit that puts a domain's reports into the queue also notes in
`mail` that its day is settled, and refuses to do so twice. A crash before it leaves all to be
done, one after it nothing. Addresses are verified anew each day; what DNS does not answer waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.clock import Instant, to_datetime
from postroom.core.errors import Corrupt, DnsFailed
from postroom.core.ids import TRACE, external
from postroom.core.jobs import job
from postroom.core.plural import counted
from postroom.domain import feedback, queue
from postroom.domain.feedback import DAY, Seen, sent
from postroom.domain.feedback.sent import Told
from postroom.domain.policy import Policy
from postroom.domain.queue import HOUR, MINUTE, Composed
from postroom.formats.address import Address, format_mailbox, parse_mailbox
from postroom.formats.compose import Message, MessageId, attachment, printable
from postroom.mailflow.dmarc_reports_settings import DmarcReportSettings
from postroom.mailflow.house import MailHouse
from postroom.store.sql import Tx
from postroom.trust.dmarc import report as written
from postroom.trust.dmarc.destinations import Asked, Destination, destinations
from postroom.trust.dmarc.report import MOST_RECORDS, Metadata, Report, file_name

DAYS: Final = 3
"""Past days that are still reported: after a server was down, or DNS."""
BATCH: Final = 10
"""Policy domains of one piece of the job; their addresses are asked for at the same time."""
SPREAD: Final = 3 * HOUR
"""Within so long after the hour that is set a server begins."""
LULL: Final = 5 * MINUTE
"""By then every worker has written what it counted before midnight."""
RETRY: Final = HOUR
PATIENCE: Final = 24 * HOUR
"""How long an answer of DNS is waited for; then those are told who are known."""
ORIGIN: Final = "dmarc"

SENT: Final = metrics.counter("dmarc.reports_sent", "reports", "Aggregate reports that were sent")
UNSENT: Final = metrics.counter(
    "dmarc.reports_unsent", "reports", "Aggregate reports that somebody asked for and did not get"
)

_log: Final = structlog.get_logger("postroom.mailflow")


# --- the job ----------------------------------------------------------------------------------


@job("dmarc.reports", every=600.0)
async def send_reports(house: MailHouse) -> bool:
    """Once a day is over (UTC), tell the domains that ask for it how mail in their name fared, a
    bounded piece at a time."""
    policy = await house.mail.read(_policy, house)
    settings = policy.of(DmarcReportSettings)
    if house.checks is None or not settings.send_reports:
        return False
    now = house.clock.now()
    starts = start(house.hostname, settings.report_hour)
    last = feedback.day_of(Instant(now - starts)) - 1
    work = await _next(house, last, now)
    lookup = house.checks.lookup
    found = await asyncio.gather(
        *(destinations(lookup, name) for name, _ in work), return_exceptions=True
    )
    for (domain, day), asked in zip(work, found, strict=True):
        patient = now < (day + 1) * DAY + starts + PATIENCE
        await _Telling(house, settings, domain, day, patient).tell(asked)
    return bool(work)


def _policy(tx: Tx, house: MailHouse) -> Policy:
    return house.policies.current(tx, house.chain(""))


def start(hostname: str, hour: int) -> int:
    """When in a day this server begins to report, in milliseconds."""
    drawn = int.from_bytes(hashlib.sha256(hostname.encode()).digest()[:8])
    return hour * HOUR + LULL + drawn % (SPREAD - LULL)


async def _next(house: MailHouse, last: int, now: Instant) -> list[tuple[str, int]]:
    """What is to be dealt with next: policy domains, each with its day.

    A day is walked in the order of names; what is behind the walk is settled or waits.
    """
    first = last - DAYS + 1
    waiting = await house.mail.read(sent.again, first, now, BATCH)
    if waiting:
        return waiting
    for day in range(first, last + 1):
        reached = await house.mail.read(sent.reached, day)
        names = await house.state.read(feedback.domains, day, reached, BATCH)
        if names:
            return [(name, day) for name in names]
    return []


# --- one domain's day ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Telling:
    house: MailHouse
    settings: DmarcReportSettings
    domain: str
    day: int
    patient: bool  # DNS still has time to answer

    async def tell(self, asked: Asked | BaseException) -> None:
        """Send what is to be sent, and settle the day or put it off."""
        if isinstance(asked, DnsFailed):
            why = f"DNS does not tell its record: {printable(asked.detail or str(asked))}"
            await (self._postpone(why) if self.patient else self._settle((), (), why))
            return
        if isinstance(asked, BaseException):
            raise asked
        unanswered = [each.why for each in asked.destinations if each.unanswered]
        if unanswered and self.patient:
            await self._postpone(unanswered[0])
            return
        if not asked.destinations:
            why = "its record asks for no reports" if asked.record else "it has no DMARC record"
            await self._settle((), (), f"{why} any more")
            return
        await self._report(asked)

    async def _report(self, asked: Asked) -> None:
        told = [Told(each.address, why=each.why) for each in asked.destinations if each.why]
        wanting = [each for each in asked.destinations if not each.why]
        letters: list[Composed] = []
        if wanting:
            try:
                seen = await self.house.state.read_much(
                    feedback.tallies, self.domain, self.day, MOST_RECORDS
                )
            except Corrupt as error:
                _log.error("dmarc report not made", domain=self.domain, reason=error.detail)
                await self._settle((), (), "what was counted cannot be read")
                return
            if asked.record is not None:
                published = asked.record.text
                # The policy told is that of the last: the one that is there now, if it was met.
                seen.sort(key=lambda each: each[0].record == published)
            letter = await asyncio.to_thread(self._written, seen)
            for each in wanting:
                composed = await self._addressed(letter, each)
                told.append(Told(each.address, composed.content.size, composed.id))
                letters.append(composed)
        await self._settle(told, letters, "")

    def _written(self, seen: Sequence[tuple[Seen, int]]) -> _Letter:
        house, begin = self.house, self.day * DAY // 1000
        author = self.settings.report_from or f"postmaster@{house.default_domain}"
        metadata = Metadata(
            self.settings.report_organisation or house.default_domain,
            author,
            report_id(house.hostname, self.domain, self.day),
            begin,
            begin + DAY // 1000 - 1,
        )
        made = written.write(metadata, self.domain, seen)
        return _Letter(
            self.domain, metadata, house.hostname, self.settings, made, made.packed(), tuple(seen)
        )

    async def _addressed(self, letter: _Letter, to: Destination) -> Composed:
        house = self.house
        number, address = house.ids.new(), parse_mailbox(to.address)
        date = to_datetime(house.clock.now())
        message = Message(
            MessageId(external(TRACE, number), house.hostname),
            date,
            house.random.randbytes,
            utf8=letter.utf8(address),
        )
        content = await asyncio.to_thread(letter.to, address, message)
        return Composed(
            id=number,
            content=await house.blobs.make(content),
            reverse_path=None,  # nobody waits for word that a report was not taken
            recipients=(to.address,),
            origin=ORIGIN,
            destination=house.ids.new(),
            utf8=letter.utf8(address),
            eight_bit=not content.isascii(),
        )

    async def _postpone(self, why: str) -> None:
        now = self.house.clock.now()
        until = Instant(now + RETRY)
        await self.house.mail.write_later(sent.postpone, self.domain, self.day, why, until, now)
        _log.info("dmarc report waits", domain=self.domain, because=why)

    async def _settle(self, told: Sequence[Told], letters: Sequence[Composed], why: str) -> None:
        house = self.house
        number = report_id(house.hostname, self.domain, self.day) if letters else ""

        def unit(tx: Tx) -> bool:
            now = house.clock.now()
            if not sent.settle(tx, self.domain, self.day, number, told, why, now):
                return False  # it was done by another worker, under a lease that ended
            for composed in letters:
                queue.submit(tx, composed, now)
            return True

        if not await house.mail.write_later(unit):
            return
        SENT.add(len(letters))
        UNSENT.add(len(told) - len(letters))
        _log.info(
            "dmarc report",
            domain=self.domain,
            report=number,
            to=[each.destination for each in told if each.trace],
            not_to={each.destination: each.why for each in told if each.why},
            because=why,
        )


# --- what it says ---------------------------------------------------------------------------------


def report_id(hostname: str, domain: str, day: int) -> str:
    """The same for the same server, policy domain and day: who gets a report twice sees it."""
    digest = hashlib.sha256(f"{hostname} {domain} {day}".encode()).hexdigest()[:24]
    return f"{_date(day):%Y%m%d}.{digest}@{hostname}"


def _date(day: int) -> datetime:
    return to_datetime(Instant(day * DAY))


@dataclass(frozen=True, slots=True)
class _Letter:
    """A report on its way to several. RFC 9990 §3."""

    domain: str
    metadata: Metadata
    hostname: str
    settings: DmarcReportSettings
    report: Report
    packed: bytes
    seen: tuple[tuple[Seen, int], ...]

    @property
    def _author(self) -> Address:
        return parse_mailbox(self.metadata.email)

    def utf8(self, to: Address) -> bool:
        """Whether it needs SMTPUTF8."""
        return not (to.ascii and self._author.ascii)

    def to(self, address: Address, message: Message) -> bytes:
        """Everything of the message but what `message` begins with."""
        utf8 = self.utf8(address)
        about, id_ = printable(self.domain), self.metadata.report_id
        message.header("From", format_mailbox(self.metadata.organisation, self._author, utf8=utf8))
        message.header("To", format_mailbox("", address, utf8=utf8))
        message.header(
            "Subject", f"Report Domain: {about} Submitter: {self.hostname} Report-ID: <{id_}>"
        )
        message.header("Auto-Submitted", "auto-generated")  # RFC 3834 §5
        if self.settings.report_precedence:
            message.header("Precedence", "bulk")
        message.text(self._words())
        name = file_name(self.hostname, about, self.metadata)
        return message.attach(attachment(self.packed, "application/gzip", name)).to_bytes()

    def _words(self) -> str:
        about = printable(self.domain)
        day = to_datetime(Instant(self.metadata.begin * 1000))
        messages = sum(count for _, count in self.seen)
        failed = sum(count for each, count in self.seen if "pass" not in (each.dkim, each.spf))
        text = (
            f"On {day:%Y-%m-%d} (UTC) {self.hostname} saw {counted(messages, 'message')} in the "
            f"name of\n{about} or of domains that follow its DMARC policy. {failed} of them failed "
            f"DMARC.\nThe attached report says from where they came and what was done with them.\n"
        )
        if self.report.left_out:
            text += f"It has room for {self.report.records} of {len(self.seen)} entries.\n"
        return (
            f"{text}\nYou get it because the DMARC record of {about} names this address, or the "
            f"domain of\nthis address takes such reports (RFC 9990). Report-ID: "
            f"{self.metadata.report_id}\n"
        )
