"""What all queue runners share: the loop that waits for work, and the unit that ends a piece.

A runner leases a destination, deals with what is due there, and gives it back. Whatever came of
a piece is recorded by `conclude` in one unit under the lease's fence: who is done, who waits and
why, what is sent because of it, and what the trace says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from postroom.core.clock import Instant, iso
from postroom.core.errors import Busy, MailError, StoreFull
from postroom.domain import queue, trace
from postroom.domain.queue import HOUR, MINUTE, Composed, Lease, Patience, Recipient
from postroom.domain.trace import TraceEvent
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QueueSettings
from postroom.store.sql import Tx

LEASE_SECONDS: Final = 60
LONGEST_SLEEP: Final = 30.0
SHORTEST_SLEEP: Final = 0.05
RECORDING: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 10.0, 10.0)
"""Seconds between tries to record what came of a message: within a lease that is extended."""
REST: Final = 5.0
"""Seconds after a round that failed."""

_log: Final = structlog.get_logger("postroom.queue")


class QueueLoop:
    """Calls `round` while there is more to do, then waits until something is due."""

    def __init__(
        self, house: MailHouse, queue_name: str, one_round: Callable[[], Awaitable[bool]]
    ) -> None:
        """`one_round` returns whether there may be more at once."""
        self._house = house
        self._queue = queue_name
        self._round = one_round
        self._wake = asyncio.Event()
        self.busy = False  # a round is under way

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            self.busy = True
            try:
                more = await self._round()
                pause = 0.0 if more else await self._until_due()
            except MailError as error:
                _log.warning(
                    "queue round failed", queue=self._queue, error=error.detail or str(error)
                )
                pause = REST
            except Exception:
                # Without the queue, mail that was acknowledged would lie until the next start.
                _log.exception("queue round broke", queue=self._queue)
                pause = REST
            self.busy = False
            if pause > 0:
                await wake_or(self._wake, pause)

    async def _until_due(self) -> float:
        house = self._house
        due = await house.mail.read(queue.next_due, self._queue)
        if due is None:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(SHORTEST_SLEEP, (due - house.clock.now()) / 1000))


async def wake_or(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came in time."""
    try:
        # Not wait_for, which in Python 3.11 loses a cancellation that comes with the event: a
        # worker that is told to stop just when something is put into a queue would never end.
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def take(house: MailHouse, queue_name: str, holder: int) -> Lease | None:
    """Lease the destination that is due longest, if one is due and free."""
    now = house.clock.now()
    if not await house.mail.read(queue.any_due, queue_name, now):
        return None
    return await house.mail.write_mail(queue.lease, queue_name, holder, now, LEASE_SECONDS)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What came of a piece of work on a leased destination; made outside the unit."""

    lease: Lease
    now: Instant
    patience: Patience
    gone: tuple[Recipient, ...] = ()  # delivered, passed on or returned
    waiting: tuple[tuple[Recipient, str], ...] = ()  # with the reason
    warned: tuple[Recipient, ...] = ()
    notices: tuple[Composed, ...] = ()
    events: tuple[TraceEvent, ...] = ()


def conclude(tx: Tx, ended: Conclusion) -> None:
    """Record it, all or nothing; raises LostLease."""
    queue.hold(tx, ended.lease)
    record(tx, ended)


async def conclude_surely(house: MailHouse, ended: Conclusion) -> None:
    """`conclude`, over and over while the store is busy or full: what is not recorded is done
    again, and another server has it already. Raises LostLease, and what does not pass."""
    for pause in RECORDING:
        try:
            await house.mail.write_mail(conclude, ended)
            return
        except (Busy, StoreFull) as error:  # surely nothing was kept
            _log.warning("outcome not recorded yet", error=error.detail or str(error))
            await asyncio.sleep(pause)
    await house.mail.write_mail(conclude, ended)


def record(tx: Tx, ended: Conclusion) -> None:
    """`conclude` within a unit that holds the lease already."""
    if ended.gone and not queue.done(tx, ended.gone):
        # An administrator has deleted the message meanwhile, and wanted nobody to be told.
        ended = replace(ended, notices=(), events=tuple(map(_untold, ended.events)))
    by_reply: dict[str, list[Recipient]] = {}
    for recipient, reply in ended.waiting:
        by_reply.setdefault(reply, []).append(recipient)
    for reply, recipients in by_reply.items():
        queue.failed(tx, recipients, reply, ended.now, ended.patience)
    if ended.warned:
        queue.warned(tx, ended.warned)
    for notice in ended.notices:
        queue.submit(tx, notice, ended.now)
    if ended.events:
        trace.add_events(tx, ended.events)


def _untold(happened: TraceEvent) -> TraceEvent:
    """The event without the notice that it names."""
    if not happened.record.get("notice"):
        return happened
    return replace(happened, record={**happened.record, "notice": ""})


def patience_of(settings: QueueSettings) -> Patience:
    """How what waits is tried under these settings."""
    return Patience(settings.longest_wait_minutes * MINUTE, settings.delay_notice_hours * HOUR)


def event(house: MailHouse, recipient: Recipient, what: str, **more: Any) -> TraceEvent:
    """What became of a recipient, for its trace."""
    now = house.clock.now()
    record: dict[str, Any] = {"what": what, "to": recipient.address, "at": iso(now), **more}
    return TraceEvent(recipient.message.trace, house.ids.new(), now, record)


def settings_now(tx: Tx, house: MailHouse) -> QueueSettings:
    """The queue's settings, read with the store."""
    return house.policies.current(tx, house.chain("")).of(QueueSettings)
