"""Intake: what is asked at each phase of a session, wherever mail enters.

A session calls `mail`, `rcpt` and `data` in that order; each gathers facts, lets the rules
judge, and returns a verdict. `data` makes the delivery plan and hands it to one unit: only
after its commit is on disk does the session say 250.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from postroom.core.clock import iso, to_datetime
from postroom.core.errors import Busy, MailError, OverQuota, Status, StoreFull
from postroom.core.ids import TRACE, external
from postroom.domain import queue, trace
from postroom.domain.directory.people import find_domain
from postroom.domain.facts import ContentFact, CrowdFact, PeerFact, SenderFact
from postroom.domain.mailboxes.messages import Quota
from postroom.domain.policy import Policy
from postroom.domain.trace import Trace
from postroom.domain.transit import (
    Action,
    AddField,
    Facts,
    FileInto,
    Outcome,
    Protocol,
    Recipient,
    SetFlags,
    Transit,
    Verdict,
    Visit,
    refuse,
)
from postroom.formats.address import Address
from postroom.formats.compose import received_field, return_path
from postroom.formats.parsed import below
from postroom.mailflow.delivery import Delivered, Placing, Plan, deliver, split
from postroom.mailflow.house import MailHouse
from postroom.mailflow.phases import Phases, gather, judge
from postroom.mailflow.refusals import Refusals
from postroom.mailflow.settings import QuotaSettings, SmtpSettings
from postroom.store.blobs import NewBlob, Place, Spool
from postroom.store.sql import Tx

TAKEN: Final = Verdict("accept", Action.ACCEPT, Status(2, 0, 0), "Message accepted")
SENDER_OK: Final = Verdict("accept", Action.ACCEPT, Status(2, 1, 0), "Sender ok")
RECIPIENT_OK: Final = Verdict("accept", Action.ACCEPT, Status(2, 1, 5), "Recipient ok")
ROOM: Final = "room"
"""The rule of mailflow.rules.recipients, by which the unit too explains an account that is full."""

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


@dataclass(frozen=True, slots=True)
class MailFrom:
    """MAIL as the session parsed it. RFC 5321 §4.1.1.2."""

    reverse_path: Address | None
    declared_size: int = 0
    utf8: bool = False
    eight_bit: bool = False
    envid: str | None = None
    ret: str | None = None


class Intake:
    """One for each worker."""

    def __init__(self, house: MailHouse, phases: Phases | None = None) -> None:
        self._house = house
        self._phases = phases or Phases()
        self.refusals = Refusals(house.state, house.clock)

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
            id=house.ids.new(),
            visit=visit,
            started=house.clock.now(),
            reverse_path=mail.reverse_path,
            declared_size=mail.declared_size,
            utf8=mail.utf8,
            eight_bit=mail.eight_bit,
            envid=mail.envid,
            ret=mail.ret,
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
            ),
            SenderFact(str(mail.reverse_path or ""), local, mail.declared_size),
        )
        transit.policy = policy
        phase = self._phases.mail
        await gather(phase, house, transit, None, policy.of(SmtpSettings).accept_deadline)
        verdict = judge(phase.rules, transit.facts, policy, None)
        if verdict is not None and not verdict.passes:
            return transit, self._refused(transit, None, verdict)
        if verdict is not None:
            transit.verdicts.append(verdict)
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
        accounts = sum(len(each.destinations) for each in transit.recipients)
        crowd = CrowdFact(len(transit.recipients), accounts, transit.visit.refused)
        recipient.facts.put(crowd)
        phase = self._phases.rcpt
        policy = transit.policy
        assert policy is not None  # `mail` gave one, or the session does not come here
        try:
            seconds = policy.of(SmtpSettings).accept_deadline
            await gather(phase, self._house, transit, recipient, seconds)
            verdict = judge(phase.rules, recipient.facts, policy, recipient)
        except MailError as error:
            verdict = _failed(error)
        if verdict is not None and not verdict.passes:
            if len(transit.rejected) < REJECTED:
                transit.rejected.append((recipient, verdict))
            if verdict.action in (Action.REFUSE, Action.CLOSE):
                transit.visit.refused += 1
            return self._refused(transit, recipient, verdict)
        if verdict is not None:
            recipient.verdicts.append(verdict)
        transit.recipients.append(recipient)
        return RECIPIENT_OK

    # --- DATA --------------------------------------------------------------------------------

    def spool(self, transit: Transit) -> Spool:
        """Where the content goes while it comes in; the session writes, intake reads."""
        transit.spool = self._house.blobs.spool()
        return transit.spool

    async def data(
        self, transit: Transit, streamed: Streamed, failure: MailError | None = None
    ) -> Outcome:
        """Judge the content and deliver. Whatever happens, the spool is let go of.

        `failure` is what kept the session from spooling the content, if anything did.
        """
        try:
            if failure is not None:
                raise failure
            return await self._data(transit, streamed)
        except OverQuota as error:
            return self._all_alike(transit, self._refused(transit, None, _full(transit, error)))
        except MailError as error:
            return self._all_alike(transit, self._refused(transit, None, _failed(error)))
        finally:
            transit.drop()

    async def _data(self, transit: Transit, streamed: Streamed) -> Outcome:
        house, phase = self._house, self._phases.data
        policy = transit.policy
        assert policy is not None  # `mail` gave one, or the session does not come here
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
        verdict = judge(phase.rules, transit.facts, policy, None)
        if verdict is not None and not verdict.passes:
            return self._all_alike(transit, self._refused(transit, None, verdict))
        if verdict is not None:
            transit.verdicts.append(verdict)
        plan = await self._plan(transit)
        done = await self._deliver(plan)
        waits = dict(done.waiting)
        each = []
        by_recipient: dict[int, list[str]] = {}
        for placing in plan.placings:
            if placing.message in waits:
                by_recipient.setdefault(placing.recipient, []).append(waits[placing.message])
        for n, recipient in enumerate(transit.recipients):
            waiting = by_recipient.get(n)
            why = f"waits: {waiting[0]}" if waiting else ""
            each.append((recipient, replace(TAKEN, why=why) if why else TAKEN))
        sentence = f"Message accepted as {external(TRACE, transit.id)}"
        return Outcome(replace(TAKEN, sentence=sentence), tuple(each), transit.id)

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

    async def _plan(self, transit: Transit) -> Plan:
        house = self._house
        now = house.clock.now()
        assert transit.spool is not None  # the session spooled before it came here
        assert transit.parsed is not None  # the structure probe is inline: it never is late
        placings = await house.mail.read(self._placings, transit)
        prefix = self._trace_fields(transit)
        content = await house.blobs.finish(transit.spool, prefix)
        parsed = below(transit.parsed, len(prefix))
        unit, queued = split(placings)
        reverse_path = str(transit.reverse_path) if transit.reverse_path is not None else None
        record = self._record(transit, unit, queued, content[-1])
        message_id = (parsed.message_id or b"").decode("latin-1")
        record["message_id"] = message_id
        keys = {trace.address_key(p.address) for p in placings}
        keys |= {trace.address_key(str(r.address)) for r in transit.recipients}
        if reverse_path:
            keys.add(trace.address_key(reverse_path))
        if message_id:
            keys.add(trace.message_id_key(message_id))
        return Plan(
            transit=transit.id,
            content=content,
            parsed=parsed,
            now=now,
            placings=unit,
            queued=queued,
            destination=house.ids.new(),
            reverse_path=reverse_path,
            envid=transit.envid,
            ret=transit.ret,
            expires_at=queue.expiry(now, reverse_path),
            record=record,
            packed=trace.pack(record),
            keys=tuple(sorted(keys)),
        )

    def _trace_fields(self, transit: Transit) -> bytes:
        """Return-Path and Received, above all that edits add. RFC 5321 §4.4."""
        visit = transit.visit
        only = transit.recipients[0].address if len(transit.recipients) == 1 else None
        tls = visit.peer.tls
        received = received_field(
            by=self._house.hostname,
            protocol=_with(visit, transit),
            identifier=external(TRACE, transit.id),
            date=to_datetime(transit.started),
            helo=visit.helo or None,
            peer=visit.peer.ip,
            tls=f"{tls.version} {tls.cipher}" if tls is not None else None,
            recipient=only,
            utf8=transit.utf8,
        )
        edits = [e for v in transit.verdicts for e in v.edits if isinstance(e, AddField)]
        added = b"".join(edit.field for edit in edits)
        return return_path(transit.reverse_path) + received + added

    def _placings(self, tx: Tx, transit: Transit) -> tuple[Placing, ...]:
        """One placing for each account, however many addresses led to it."""
        house = self._house
        made: dict[int, Placing] = {}
        listener = transit.visit.peer.listener
        house.policies.current(tx, house.chain(listener))  # one look serves all: one snapshot
        for n, recipient in enumerate(transit.recipients):
            role, flags = _edits(transit, recipient)
            for at in recipient.destinations:
                if at.account in made:
                    continue
                chain = house.chain(listener, at.address.domain, at.account)
                quota = house.policies.latest(chain).of(QuotaSettings)
                made[at.account] = Placing(
                    recipient=n,
                    account=at.account,
                    address=str(at.address),
                    message=house.ids.new(),
                    role=role,
                    flags=flags,
                    quota=Quota(quota.octets, quota.messages),
                    notify=recipient.notify,
                    orcpt=recipient.orcpt,
                )
        return tuple(made.values())

    # --- traces ------------------------------------------------------------------------------

    def _record(
        self,
        transit: Transit,
        unit: Sequence[Placing],
        queued: Sequence[Placing],
        content: NewBlob,
    ) -> dict[str, Any]:
        record = self._story(transit) | self._envelope(transit)
        record["outcome"] = "accepted"
        record["size"] = content.size
        record["sha256"] = content.sha256.hex()
        record["delivered"] = [
            {
                "to": p.address,
                "account": p.account,
                "message": p.message,
                "mailbox": p.role,
                "because": _because(transit.recipients[p.recipient], p),
            }
            for p in unit
        ]
        record["queued"] = [
            {
                "to": p.address,
                "account": p.account,
                "mailbox": p.role,
                "because": _because(transit.recipients[p.recipient], p),
            }
            for p in queued
        ]
        return record

    def _story(self, transit: Transit) -> dict[str, Any]:
        """What is known of a message under way, its recipients apart."""
        visit = transit.visit
        return {
            "id": external(TRACE, transit.id),
            "at": iso(transit.started),
            "session": visit.session,
            "protocol": str(visit.protocol),
            "from": str(transit.reverse_path or ""),
            "facts": transit.facts.record(),
            "verdicts": [_told(v, transit.policy) for v in transit.verdicts],
        }

    def _envelope(self, transit: Transit) -> dict[str, Any]:
        """Each recipient so far, and what was decided about it."""
        return {
            "recipients": [
                {
                    "address": str(r.address),
                    "facts": r.facts.record(),
                    "verdicts": [_told(v, r.policy or transit.policy) for v in r.verdicts],
                }
                for r in transit.recipients
            ],
            "refused": [
                {"address": str(r.address), **_told(v, r.policy or transit.policy)}
                for r, v in transit.rejected
            ],
        }

    def _refused(self, transit: Transit, recipient: Recipient | None, verdict: Verdict) -> Verdict:
        """Keep the trace of a refusal, and put its id into what the peer reads."""
        house = self._house
        own = house.ids.new() if recipient is not None else transit.id
        record = self._story(transit)
        record["id"] = external(TRACE, own)
        record["outcome"] = str(verdict.action)
        keys = [trace.address_key(str(transit.reverse_path))] if transit.reverse_path else []
        policy = transit.policy
        if recipient is not None:
            # Its own story only: a thousand recipients are to make small ones.
            policy = recipient.policy or policy
            record["recipient"] = str(recipient.address)
            record["recipient_facts"] = recipient.facts.record()
            keys.append(trace.address_key(str(recipient.address)))
        else:
            record |= self._envelope(transit)
            if verdict.rule == ROOM and transit.recipients:
                policy = transit.recipients[0].policy or policy
            if transit.parsed is not None and transit.parsed.message_id is not None:
                message_id = transit.parsed.message_id.decode("latin-1")
                record["message_id"] = message_id
                keys.append(trace.message_id_key(message_id))
            keys += [trace.address_key(str(r.address)) for r in transit.recipients]
        record["verdicts"] += [_told(verdict, policy)]
        kept = Trace(own, house.clock.now(), record, tuple(dict.fromkeys(keys)))
        self.refusals.note(transit.visit.peer.ip, kept)
        return replace(verdict, sentence=f"{verdict.sentence} ({external(TRACE, own)})")


def _failed(error: MailError) -> Verdict:
    """What the house could not do now is never the peer's fault: it may come again.

    RFC 5321 §4.2.3: 452 is for want of room, 451 for all else.
    """
    status = Status(4, error.status.subject, error.status.detail)
    code = 452 if isinstance(error, StoreFull) else 451
    return Verdict("store", Action.DEFER, status, str(error), error.detail, code)


def _full(transit: Transit, error: OverQuota) -> Verdict:
    """No account had room when it came to placing the message. The first one's quota is named."""
    policy = transit.recipients[0].policy if transit.recipients else None
    octets = policy is not None and policy.of(QuotaSettings).octets
    return refuse(
        ROOM,
        error,
        "no account of this message has room for it",
        code=452,
        setting="quota.octets" if octets else "quota.messages",
    )


def _told(verdict: Verdict, policy: Policy | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "rule": verdict.rule,
        "action": str(verdict.action),
        "status": str(verdict.status),
        "reply": verdict.sentence,
        "why": verdict.why,
    }
    if verdict.setting:
        told["setting"] = verdict.setting
        if policy is not None:
            told["set at"] = policy.origin(verdict.setting)
    return told


def _because(recipient: Recipient, placing: Placing) -> str:
    """One plain sentence: why this account got a copy."""
    at = next(d for d in recipient.destinations if d.account == placing.account)
    if at.through:
        way = f", by way of {', '.join(at.through[1:])}" if at.through[1:] else ""
        return f"{recipient.address} is an alias of {at.address}{way}"
    if at.detail is not None:
        return f"{recipient.address} is {at.address} with the tag {json.dumps(at.detail)}"
    return f"{recipient.address} is the account's own address"


def _edits(transit: Transit, recipient: Recipient) -> tuple[str, tuple[str, ...]]:
    role = "inbox"
    flags: tuple[str, ...] = ()
    for verdict in (*transit.verdicts, *recipient.verdicts):
        if verdict.action is Action.JUNK:
            role = "junk"
        for edit in verdict.edits:
            if isinstance(edit, FileInto):
                role = edit.role
            elif isinstance(edit, SetFlags):
                flags += edit.flags
    return role, tuple(dict.fromkeys(flags))


def _with(visit: Visit, transit: Transit) -> str:
    """The protocol of the Received field. RFC 3848, RFC 6531 §4.3."""
    if visit.protocol is Protocol.LMTP:
        base = "UTF8LMTP" if transit.utf8 else "LMTP"
    elif not visit.extended:
        return "SMTP"
    else:
        base = "UTF8SMTP" if transit.utf8 else "ESMTP"
    encrypted = "S" if visit.peer.tls is not None else ""
    signed_in = "A" if visit.principal is not None else ""
    return base + encrypted + signed_in
