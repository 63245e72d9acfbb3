"""Intake: what is asked at each phase of a session, wherever mail enters.

A session calls `mail`, `rcpt` and `data` in that order; each gathers facts, lets the rules
judge, and returns a verdict. `data` makes the delivery plan and hands it to one unit: only
after its commit is on disk does the session say 250.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from postroom.core.errors import Busy, InDoubt, MailError, OverQuota, Status, StoreFull
from postroom.core.ids import TRACE, external
from postroom.domain import trace
from postroom.domain.directory.people import find_domain
from postroom.domain.facts import ContentFact, CrowdFact, PeerFact, SenderFact
from postroom.domain.policy import Policy
from postroom.domain.trace import Trace
from postroom.domain.transit import (
    Action,
    Facts,
    Outcome,
    Protocol,
    Recipient,
    Transit,
    Verdict,
    Visit,
    refuse,
)
from postroom.formats.address import Address
from postroom.mailflow import deciding, dkim, failure_reports, maillog, replay, telling
from postroom.mailflow.binary import CannotConvert, make_lines
from postroom.mailflow.delivery import Delivered, Plan, Settling, deliver
from postroom.mailflow.feedback import Feedback
from postroom.mailflow.house import MailHouse
from postroom.mailflow.phases import Phases, begin, gather, judge, stopped
from postroom.mailflow.planning import make_plan
from postroom.mailflow.refusals import Refusals
from postroom.mailflow.rules.recipients import no_room, room
from postroom.mailflow.settings import SmtpSettings
from postroom.store.blobs import NewBlob, Place, Spool
from postroom.store.sql import Tx
from postroom.wire.smtp import ChunkEnd, DataEnd, LineEnds

TAKEN: Final = Verdict("accept", Action.ACCEPT, Status(2, 0, 0), "Message accepted")
SENDER_OK: Final = Verdict("accept", Action.ACCEPT, Status(2, 1, 0), "Sender ok")
RECIPIENT_OK: Final = Verdict("accept", Action.ACCEPT, Status(2, 1, 5), "Recipient ok")
REJECTED: Final = 100
"""Refused recipients that are remembered for the message's trace; each has its own as well."""

_log: Final = structlog.get_logger("postroom.mailflow")


@dataclass(frozen=True, slots=True)
class Streamed:
    """What the session saw of the content while it came in."""

    size: int
    bare_cr: bool = False
    bare_lf: bool = False
    nul: bool = False
    longest_line: int = 0

    @classmethod
    def of(cls, seen: LineEnds | DataEnd | ChunkEnd) -> Streamed:
        """What the codec saw."""
        return cls(seen.size, seen.bare_cr, seen.bare_lf, seen.nul, seen.longest_line)


@dataclass(frozen=True, slots=True)
class MailFrom:
    """MAIL as the session parsed it. RFC 5321 §4.1.1.2."""

    reverse_path: Address | None
    declared_size: int = 0
    utf8: bool = False
    eight_bit: bool = False
    binary: bool = False
    envid: str | None = None
    ret: str | None = None
    transit: int = 0  # its id, if that was made before
    cause: str = ""  # of a message that we composed


class Intake:
    """One for each worker."""

    def __init__(self, house: MailHouse, phases: Phases | None = None) -> None:
        self._house = house
        self._phases = phases or Phases()
        self.refusals = Refusals(house.state, house.clock)
        self.feedback = Feedback(house.state, house.clock)

    def settings(self, listener: str) -> SmtpSettings:
        """What applies at a listener as of the last message; for what a greeting announces."""
        return self._policies_of(listener).of(SmtpSettings)

    def _policies_of(self, listener: str) -> Policy:
        return self._house.policies.latest(self._house.chain(listener))

    # --- MAIL --------------------------------------------------------------------------------

    async def mail(self, visit: Visit, mail: MailFrom) -> tuple[Transit, Verdict]:
        """Begin a message. The verdict says whether RCPT may follow."""
        house = self._house
        visit.messages += 1
        transit = Transit(
            id=mail.transit or house.ids.new(),
            visit=visit,
            started=house.clock.now(),
            reverse_path=mail.reverse_path,
            declared_size=mail.declared_size,
            utf8=mail.utf8,
            eight_bit=mail.eight_bit,
            binary=mail.binary,
            envid=mail.envid,
            ret=mail.ret,
            cause=mail.cause,
        )
        try:
            local, policy = await house.mail.read(self._sender, transit)
        except MailError as error:
            return transit, self._refused(transit, None, _failed(error))
        transit.facts.put(
            PeerFact(
                ip=str(visit.peer.ip or ""),
                listener=visit.peer.listener,
                encrypted=visit.peer.tls is not None,
                helo=visit.helo,
                extended=visit.extended,
                signed_in=visit.principal is not None,
                login=visit.login,
                protocol=str(visit.protocol),
            ),
            SenderFact(str(mail.reverse_path or ""), local, mail.declared_size),
        )
        transit.policy = policy
        phase = self._phases.mail
        seconds = policy.of(SmtpSettings).accept_deadline
        await gather(phase, house, transit, None, seconds)
        verdicts = judge(phase.rules, transit.facts, policy, None)
        if (stop := stopped(verdicts)) is not None:
            return transit, self._refused(transit, None, stop)
        transit.verdicts += verdicts
        begin(phase, house, transit, seconds)
        return transit, SENDER_OK

    def _sender(self, tx: Tx, transit: Transit) -> tuple[bool, Policy]:
        sender = transit.reverse_path
        local = find_domain(tx, sender.domain) if sender is not None else None
        domain = local.name if local is not None else ""
        chain = self._house.chain(transit.visit.peer.listener, domain)
        return local is not None, self._house.policies.current(tx, chain)

    # --- RCPT --------------------------------------------------------------------------------

    async def rcpt(
        self,
        transit: Transit,
        address: Address,
        notify: tuple[str, ...] = (),
        orcpt: str | None = None,
    ) -> Verdict:
        """Add a recipient, or say why not. RFC 5321 §4.1.1.3."""
        if not address.domain:
            # `<Postmaster>` without a domain is ours. RFC 5321 §4.5.1.
            address = replace(address, domain=self._house.default_domain)
        recipient = Recipient(address, notify=notify, orcpt=orcpt, facts=Facts(transit.facts))
        recipient.facts.put(_crowd(transit))
        phase = self._phases.rcpt
        policy = transit.policy
        assert policy is not None  # `mail` gave one, or the session does not come here
        try:
            seconds = policy.of(SmtpSettings).accept_deadline
            await gather(phase, self._house, transit, recipient, seconds)
            verdicts = judge(phase.rules, recipient.facts, policy, recipient)
        except MailError as error:
            verdicts = (_failed(error),)
        if (stop := stopped(verdicts)) is not None:
            if len(transit.rejected) < REJECTED:
                transit.rejected.append((recipient, stop))
            if stop.action in (Action.REFUSE, Action.CLOSE):
                transit.visit.refused += 1
            return self._refused(transit, recipient, stop)
        recipient.verdicts += verdicts
        if not transit.recipients:
            transit.decides = deciding.of(self._house, transit, recipient)
        transit.recipients.append(recipient)
        return RECIPIENT_OK

    # --- DATA --------------------------------------------------------------------------------

    def spool(self, transit: Transit) -> Spool:
        """Where the content goes while it comes in; the session writes, intake reads."""
        transit.spool = self._house.blobs.spool()
        transit.listening = dkim.arriving(self._house, transit, transit.spool)
        return transit.spool

    async def data(
        self,
        transit: Transit,
        streamed: Streamed,
        failure: MailError | None = None,
        settling: Settling | None = None,
    ) -> Outcome:
        """Judge the content and deliver. Whatever happens, the spool is let go of.

        `failure` is what kept the session from spooling the content, if anything did;
        `settling` what leaves the queue in the same unit.
        """
        try:
            if failure is not None:
                raise failure
            return await self._data(transit, streamed, settling)
        except OverQuota:
            return self._full(transit)
        except CannotConvert as error:
            verdict = refuse("binary", error, "a binary part is signed, encrypted or malformed")
            return self._all_alike(transit, self._refused(transit, None, verdict))
        except InDoubt:
            raise  # neither yes nor no may be said
        except MailError as error:
            return self._all_alike(transit, self._refused(transit, None, _failed(error)))
        finally:
            transit.drop()

    async def _data(
        self, transit: Transit, streamed: Streamed, settling: Settling | None
    ) -> Outcome:
        house, phase = self._house, self._phases.data
        policy = transit.policy
        assert policy is not None  # `mail` gave one, or the session does not come here
        if transit.binary and transit.spool is not None:  # without one it was too large
            ends = await make_lines(house, transit)
            # Its size is what the peer was asked to keep to, not what became of it.
            streamed = replace(Streamed.of(ends), size=streamed.size)
        transit.facts.put(
            ContentFact(
                streamed.size,
                streamed.bare_cr,
                streamed.bare_lf,
                streamed.nul,
                streamed.longest_line,
                0,
                "",
            )
        )
        seconds = policy.of(SmtpSettings).accept_deadline
        await gather(phase, house, transit, None, seconds)
        verdicts = judge(phase.rules, transit.facts, transit.judged_by or policy, None)
        self.feedback.note(transit)
        stop = stopped(verdicts)
        replay.note(house, transit, stop)
        owed = failure_reports.owed(house, transit, verdicts, stop)
        if stop is not None:
            if owed is not None:
                await failure_reports.owe(house, owed)
            return self._all_alike(transit, self._refused(transit, None, stop))
        transit.verdicts += verdicts
        plan = await make_plan(house, transit, settling, owed)
        done = await self._deliver(plan)
        maillog.accepted(transit, plan, done)
        taken = replace(TAKEN, sentence=f"Message accepted as {plan.record['id']}")
        if not done.turned_away:
            return self._all_alike(transit, taken)
        away = {p.account for p in plan.placings if p.message in done.turned_away}
        each = []
        for recipient in transit.recipients:
            # Of two addresses of one account, each is answered as the account is.
            led = recipient.destinations  # nowhere: it is where reports go
            full = led and not recipient.outside and away.issuperset(at.account for at in led)
            each.append((recipient, self._no_room(transit, recipient) if full else taken))
        return Outcome(taken, tuple(each), transit.id)

    def _full(self, transit: Transit) -> Outcome:
        """No account of any recipient had room when it came to placing the message."""
        if transit.visit.protocol is not Protocol.LMTP:
            first = transit.recipients[0]
            return self._all_alike(
                transit, self._refused(transit, None, no_room(first.policy or transit.policy))
            )
        each = tuple([(to, self._no_room(transit, to)) for to in transit.recipients])
        return Outcome(each[0][1], each, transit.id)

    def _no_room(self, transit: Transit, recipient: Recipient) -> Verdict:
        """One recipient is left to a peer who hears of each. RFC 2033 §4.2."""
        verdict = no_room(recipient.policy or transit.policy)
        return self._refused(transit, recipient, verdict)

    def _all_alike(self, transit: Transit, verdict: Verdict) -> Outcome:
        each = tuple((recipient, verdict) for recipient in transit.recipients)
        return Outcome(verdict, each, transit.id)

    async def _deliver(self, plan: Plan) -> Delivered:
        try:
            return await self._house.mail.write_mail(deliver, plan)
        except (OverQuota, StoreFull, Busy):
            # The unit surely kept nothing, and the peer will bring the same again: its files must
            # not fill the disk until the sweeper comes. After other failures of the store nobody
            # knows for certain, and a file too many does no harm.
            self._discard(plan.content)
            raise

    def _discard(self, content: Sequence[NewBlob]) -> None:
        blobs = self._house.blobs
        for blob in content:
            if blob.place is Place.FILE:
                try:
                    blobs.files.unlink(blobs.path(blob.id, blob.sha256, compressed=False))
                except MailError as error:
                    _log.warning("file left to the sweeper", error=error.detail)

    # --- traces ------------------------------------------------------------------------------

    def _refused(self, transit: Transit, recipient: Recipient | None, verdict: Verdict) -> Verdict:
        """Keep the trace of a refusal, and put its id into what the peer reads."""
        house = self._house
        own = house.ids.new() if recipient is not None else transit.id
        record: dict[str, Any] = telling.story(transit)
        record["id"] = external(TRACE, own)
        record["outcome"] = str(verdict.action)
        keys = [trace.address_key(str(transit.reverse_path))] if transit.reverse_path else []
        policy = transit.judged_by
        if recipient is not None:
            # Its own story only: a thousand recipients are to make small ones.
            policy = recipient.policy or policy
            record["recipient"] = str(recipient.address)
            record["recipient_facts"] = recipient.facts.record()
            keys.append(trace.address_key(str(recipient.address)))
        else:
            record |= telling.envelope(transit)
            if verdict.rule == room.__name__ and transit.recipients:
                policy = transit.recipients[0].policy or policy
            if transit.parsed is not None and transit.parsed.message_id is not None:
                message_id = transit.parsed.message_id.decode("latin-1")
                record["message_id"] = message_id
                keys.append(trace.message_id_key(message_id))
            keys += [trace.address_key(str(r.address)) for r in transit.recipients]
        record["verdicts"] += [telling.decision(verdict, policy)]
        kept = Trace(own, house.clock.now(), record, tuple(dict.fromkeys(keys)))
        if self.refusals.note(transit.visit.peer.ip, kept):
            maillog.refused(transit, recipient, verdict, own)
        return replace(verdict, sentence=f"{verdict.sentence} ({external(TRACE, own)})")


def _failed(error: MailError) -> Verdict:
    """What the house could not do now is never the peer's fault: it may come again.

    RFC 5321 §4.2.3: 452 is for want of room, 451 for all else.
    """
    status = Status(4, error.status.subject, error.status.detail)
    code = 452 if isinstance(error, StoreFull) else 451
    return Verdict("store", Action.DEFER, status, str(error), error.detail, code)


def _crowd(transit: Transit) -> CrowdFact:
    """How many there are before the next recipient."""
    taken = transit.recipients
    if not taken:
        return CrowdFact(0, 0, transit.visit.refused)
    last = taken[-1].facts.get(CrowdFact)
    assert last is not None  # each was given one
    accounts = last.accounts + len(taken[-1].destinations)
    return CrowdFact(len(taken), accounts, transit.visit.refused)
