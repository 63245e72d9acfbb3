"""From what a host said to what becomes of each recipient, and what is told to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.errors import MailError
from postroom.core.ids import TRACE, external
from postroom.domain.queue import Composed, Recipient
from postroom.domain.trace import TraceEvent
from postroom.mailflow.house import MailHouse
from postroom.mailflow.queueing import event
from postroom.mailflow.reports import Returned, failure_notice, success_notice
from postroom.net.smtp import Facts, Fate, Outcome, Result, SmtpChannel
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
    house: MailHouse, channel: SmtpChannel, result: Result, recipients: Mapping[Rcpt, Recipient]
) -> Judged:
    """The unit's part of a transaction; `recipients` by the words in which they were offered."""
    gone: list[Recipient] = []
    waiting: list[tuple[Recipient, str]] = []
    returned: list[Returned] = []
    notices: list[Composed] = []
    events: list[TraceEvent] = []
    facts = channel.facts
    for outcome in result.outcomes:
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
                events.append(_event(house, recipient, "waits", outcome, facts))
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
    return event(
        house,
        recipient,
        what,
        host=facts.host,
        ip=str(facts.ip or ""),
        tls=f"{facts.tls.version} {facts.tls.cipher}" if facts.tls is not None else "",
        verified=facts.verified,
        phase=outcome.phase.value,
        status=str(outcome.answer.status),
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
