"""From what a host said to what becomes of each recipient, and what is told to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.errors import MailError, Status
from postroom.core.ids import TRACE, external
from postroom.domain.queue import Composed, Recipient
from postroom.domain.trace import TraceEvent
from postroom.mailflow.house import MailHouse
from postroom.mailflow.queueing import event
from postroom.mailflow.relay.smarthost import USER
from postroom.mailflow.reports import Returned, failure_notice, success_notice
from postroom.net.smtp import Facts, Fate, Outcome, Phase, Result, SmtpChannel
from postroom.wire.smtp import Rcpt

OUTCOMES: Final = metrics.counter(
    "relay.recipients", "recipients", "Recipients offered to other servers", label="outcome"
)
IN_DOUBT: Final = metrics.counter(
    "relay.in_doubt",
    "recipients",
    "Recipients whose message went out whole and whose last reply was lost: they may get it twice",
)

_log: Final = structlog.get_logger("postroom.relay")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a unit is to record of one transaction."""

    gone: tuple[Recipient, ...]
    waiting: tuple[tuple[Recipient, str], ...]
    notices: tuple[Composed, ...]
    events: tuple[TraceEvent, ...]


async def judge(
    house: MailHouse,
    channel: SmtpChannel,
    result: Result,
    recipients: Mapping[Rcpt, Recipient],
    *,
    configured: bool = False,
) -> Judged:
    """The unit's part of a transaction; `recipients` by the words in which they were offered.

    `configured`: an administrator named the host, so a refusal that is about us and not about
    this mail lets it wait.
    """
    gone: list[Recipient] = []
    waiting: list[tuple[Recipient, str]] = []
    returned: list[Returned] = []
    notices: list[Composed] = []
    events: list[TraceEvent] = []
    facts = channel.facts
    about_us = [o for o in result.outcomes if configured and _is_about_us(o)]
    if about_us:
        said = str(about_us[0].answer)
        _log.error("the smart host does not know us", setting=USER, host=facts.host, reply=said)
    for each in result.outcomes:
        outcome, more = each, {}
        if each in about_us:
            outcome, more = replace(each, fate=Fate.TEMPORARY), {"setting": USER}
        recipient = recipients[outcome.recipient]
        OUTCOMES.add(label=outcome.fate.value)
        _tell(recipient, outcome, facts)
        if outcome.fate is Fate.DELIVERED:
            gone.append(recipient)
            events.append(_event(house, recipient, "relayed", outcome, facts))
        elif outcome.fate is Fate.TEMPORARY:
            if outcome.in_doubt:
                IN_DOUBT.add()
            reply = f"{facts.host}: {outcome.answer}"
            waiting.append((recipient, reply))
            if outcome.in_doubt or reply != recipient.last_reply:
                events.append(_event(house, recipient, "waits", outcome, facts, **more))
        else:
            answer = outcome.answer
            returned.append(Returned(recipient, answer.status, str(answer), facts.host))
    if not result.dsn and (notice := await _success(house, gone)):
        notices.append(notice)
    if returned:
        try:
            failure = await failure_notice(house, returned)
        except MailError as error:
            # Nobody would hear of it now: they are refused once more when there is room for it.
            _log.warning("report not written", error=error.detail or str(error))
            waiting += [(each.recipient, f"{facts.host}: {each.reply}") for each in returned]
            return Judged(tuple(gone), tuple(waiting), tuple(notices), tuple(events))
        gone += [each.recipient for each in returned]
        told = external(TRACE, failure.id) if failure is not None else ""
        if failure is not None:
            notices.append(failure)
        by_key = {recipients[o.recipient].key: o for o in result.outcomes}
        events += [
            _event(
                house, each.recipient, "returned", by_key[each.recipient.key], facts, notice=told
            )
            for each in returned
        ]
    return Judged(tuple(gone), tuple(waiting), tuple(notices), tuple(events))


def _is_about_us(outcome: Outcome) -> bool:
    """Whether a smart host refuses for want of what it asks of a client.

    RFC 5321 §4.2.1 has 5yz be no reason to try the same again; but here it is the setting that
    has to change, not the mail, and that may be done any moment. What is said of an address, of
    the sender or of the content ("relaying denied" of a recipient, too) stays the last word.
    """
    status, code = outcome.answer.status, outcome.answer.code
    if outcome.fate is not Fate.PERMANENT or code is None:
        return False
    if code in _SIGN_IN or (status.subject, status.detail) in _SIGN_IN_STATUS:
        return True
    return code == _BAD_SEQUENCE and outcome.phase is Phase.MAIL


_SIGN_IN: Final = frozenset({530, 534, 535, 538})
"""RFC 4954 §6: authentication required, too weak, not valid, to be encrypted. 530 is TLS required
as well: RFC 3207 §4."""
_SIGN_IN_STATUS: Final = frozenset({(7, 8), (7, 9), (7, 11), (7, 14)})
"""RFC 4954 §6, RFC 5248 §3: credentials invalid, mechanism too weak, encryption needed, trust
relationship required."""
_BAD_SEQUENCE: Final = 503  # what is wanted before MAIL is a sign-in: nothing else is left out


async def _success(house: MailHouse, relayed: Sequence[Recipient]) -> Composed | None:
    """The word that was asked for; for want of it no message is sent twice."""
    try:
        return await success_notice(house, relayed, "relayed")
    except MailError as error:
        _log.warning("report not written", error=error.detail or str(error))
        return None


def _event(
    house: MailHouse,
    recipient: Recipient,
    what: str,
    outcome: Outcome,
    facts: Facts,
    **more: str,
) -> TraceEvent:
    status = outcome.answer.status
    if outcome.fate is Fate.TEMPORARY and status.permanent:
        status = Status(4, status.subject, status.detail)
    return event(
        house,
        recipient,
        what,
        host=facts.host,
        ip=str(facts.ip or ""),
        tls=f"{facts.tls.version} {facts.tls.cipher}" if facts.tls is not None else "",
        verified=facts.verified,
        phase=outcome.phase.value,
        status=str(status),
        reply=str(outcome.answer),
        attempts=recipient.attempts + 1,
        **({"in doubt": True} if outcome.in_doubt else {}),
        **more,
    )


def _tell(recipient: Recipient, outcome: Outcome, facts: Facts) -> None:
    _log.info(
        outcome.fate.value,
        id=external(TRACE, recipient.message.trace),
        to=recipient.address,
        host=facts.host,
        ip=str(facts.ip or ""),
        reply=str(outcome.answer),
        in_doubt=outcome.in_doubt,
    )
