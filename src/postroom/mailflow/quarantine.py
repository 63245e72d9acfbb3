"""The quarantine: mail that was accepted, and that an administrator lets go or deletes.

It lies in the queue, held, with the reason: as durable as what else waits there, in no mailbox and
sent nowhere. It has an envelope of its own, which expires: then it is deleted, and nobody is told,
as its sender may be invented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.core.clock import Instant
from postroom.core.ids import TRACE, external
from postroom.core.settings import Scope, group, setting
from postroom.domain import queue, trace
from postroom.domain.queue import DAY, HOUR, byhand
from postroom.domain.trace import TraceEvent
from postroom.domain.transit import Action, Recipient, Transit
from postroom.mailflow.house import MailHouse
from postroom.mailflow.queueing import event, settings_now
from postroom.mailflow.settings import QueueSettings
from postroom.store.sql import Tx

AT_ONCE: Final = 200
"""Recipients whose quarantine one unit ends."""
_OVER: Final = "its time in quarantine is over"
_Told = tuple[queue.Recipient, TraceEvent]

_log: Final = structlog.get_logger("postroom.queue")


@group("quarantine")
@dataclass(frozen=True, slots=True)
class QuarantineSettings:
    """Mail that was accepted and waits for an administrator's decision."""

    days: int = setting(
        30,
        "How long a message stays in quarantine before it is deleted",
        unit="days",
        scopes=(Scope.SERVER, Scope.NODE, Scope.LISTENER),
        at_least=1,
        at_most=365,
    )


def reason(transit: Transit, recipient: Recipient) -> str:
    """Why a recipient's copy is kept in quarantine; empty: it is not."""
    for verdict in (*transit.verdicts, *recipient.verdicts):
        if verdict.action is Action.QUARANTINE:
            return f"In quarantine by the rule {verdict.rule}: {verdict.why}"
    return ""


def until(transit: Transit, now: Instant) -> Instant:
    """When a message that is put into quarantine now is deleted."""
    assert transit.policy is not None  # no message was accepted without
    return Instant(now + transit.policy.of(QuarantineSettings).days * DAY)


async def release(house: MailHouse, number: int) -> int:
    """Let go of what is held back of a message, be it in quarantine or by hand; returns for how
    many recipients. What was in quarantine has its whole time before it. Raises NotFound."""

    def look(tx: Tx) -> tuple[QueueSettings, list[queue.Recipient]]:
        return settings_now(tx, house), [each.recipient for each in byhand.of_trace(tx, number)]

    settings, waiting = await house.mail.read_much(look)
    null = bool(waiting) and waiting[0].message.reverse_path is None
    hours = settings.expire_null_hours if null else settings.expire_hours
    told = [(each, event(house, each, "released")) for each in waiting if each.quarantined]
    return await house.mail.write(_release, number, house.clock.now(), hours * HOUR, told)


def _release(tx: Tx, number: int, now: Instant, time: int, told: Sequence[_Told]) -> int:
    held = {
        each.recipient.key for each in byhand.of_trace(tx, number) if each.recipient.quarantined
    }
    events = [happened for each, happened in told if each.key in held]
    if events:
        trace.add_events(tx, events)
    return byhand.let_go(tx, number, now, Instant(now + time))


async def expire(house: MailHouse) -> bool:
    """Delete what was in quarantine for long enough; whether there may be more of it."""
    now = house.clock.now()
    over = await house.mail.read(byhand.quarantine_over, now, AT_ONCE)
    if not over:
        return False
    told = [(each, event(house, each, "dropped", because=_OVER)) for each in over]
    for each in await house.mail.write_later(_expire, now, told):
        _log.info(
            "deleted from quarantine", id=external(TRACE, each.message.trace), to=each.address
        )
    return len(over) == AT_ONCE


def _expire(tx: Tx, now: Instant, told: Sequence[_Told]) -> list[queue.Recipient]:
    # An administrator may have let some go since they were read.
    still = {each.key for each in byhand.quarantine_over(tx, now, AT_ONCE)}
    over = [(each, happened) for each, happened in told if each.key in still]
    if over:
        trace.add_events(tx, [happened for _, happened in over])
        queue.done(tx, [each for each, _ in over])
    return [each for each, _ in over]
