"""One leased destination: its due messages, over as many connections as they are worth.

One connection comes first; when a host has answered, more follow, up to the limit. They stay a
moment after the last message, since the next one is often near. If nobody answers, all that is
due waits together, however much it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import structlog

from postroom.core.clock import Instant
from postroom.core.errors import MailError, SecretUnreadable, Status
from postroom.core.ids import TRACE, external
from postroom.domain import queue, trace
from postroom.domain.queue import Composed, Lease, LostLease, Patience, QueuedMessage, Recipient
from postroom.domain.trace import TraceEvent
from postroom.formats.address import parse_mailbox
from postroom.mailflow import batv
from postroom.mailflow.house import MailHouse
from postroom.mailflow.overdue import give_back, settle_overdue
from postroom.mailflow.queueing import (
    LEASE_SECONDS,
    Conclusion,
    conclude_surely,
    event,
    patience_of,
    wake_or,
)
from postroom.mailflow.relay import outcomes
from postroom.mailflow.relay.cargo import load, mail_of, rcpt_of, seven_bit, signed_anew
from postroom.mailflow.relay.dialing import Dialer, NobodyThere
from postroom.mailflow.relay.smarthost import PASSWORD, smart_host
from postroom.mailflow.reports import Returned
from postroom.mailflow.routing import NextHop, Way, next_hop, parse_next_hop
from postroom.mailflow.settings import QueueSettings, RelaySettings
from postroom.net.smtp import Content, Fate, NeedsDowngrade, Phase, Result, SmtpChannel
from postroom.store.sql import Tx, keepable

FETCH: Final = 200
"""Due recipients that are read at a time."""
AT_ONCE: Final = 100
"""Recipients of one transaction. RFC 5321 §4.5.3.1.8: every server takes so many."""
LINGER: Final = 5.0
"""Seconds that a connection waits for the next message."""
TURN: Final = 120.0
"""Seconds after which a destination that still has mail lets others have its place."""
HANGUPS: Final = 3
"""Connections in a row that ended before anything was sent: then the host has enough."""

_log: Final = structlog.get_logger("postroom.relay")


@dataclass(frozen=True, slots=True)
class Load:
    """Recipients of one message who go in one transaction."""

    message: QueuedMessage
    recipients: tuple[Recipient, ...]
    retried: bool = False  # it met a connection that had gone stale


class Destination:
    """Serves one lease. `serve` once; `wake` whenever something was put there."""

    def __init__(
        self,
        house: MailHouse,
        dialer: Dialer,
        lease: Lease,
        relay: RelaySettings,
        settings: QueueSettings,
        linger: float = LINGER,
    ) -> None:
        self.lease = lease
        self._house = house
        self._dialer = dialer
        self._relay = relay
        self._linger = linger
        self._patience = patience_of(settings)
        self._next_hop = parse_next_hop(lease.next_hop)
        self._loads: deque[Load] = deque()
        self._flying: set[tuple[int, int]] = set()
        self._lines: set[asyncio.Task[None]] = set()
        self._idle = 0  # lines that look for work
        self._something = asyncio.Event()
        self._fetching = asyncio.Lock()
        self._look = True  # there may be more in the store
        self._stopping = False
        self._hurried = False
        self._reached = False  # a host has answered: before that, one line is enough
        self._nobody: NobodyThere | None = None
        self._hangups = 0

    def wake(self) -> None:
        """Something was put there."""
        self._look = True
        self._something.set()

    def hurry(self) -> None:
        """Others wait for this place: linger no more when nothing is due."""
        self._hurried = True
        self._something.set()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping = True
        self._something.set()

    async def serve(self) -> None:
        """Until there is nothing more to do, or others want their turn; gives the lease back.

        Never raises for what other servers do; raises what the store raises.
        """
        keeper = asyncio.create_task(self._keep_lease())
        turn = asyncio.get_running_loop().call_later(TURN, self.stop)
        failures = 0
        try:
            await self._work()
            if self._nobody is not None:
                failures = await self._failed(self._nobody)
            await settle_overdue(self._house, self.lease)
        except LostLease:
            _log.warning("lease lost", next_hop=self.lease.next_hop)
            return
        finally:
            turn.cancel()
            keeper.cancel()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(keeper, *self._lines, return_exceptions=True)
        now = self._house.clock.now()
        await self._house.mail.write_mail(queue.release, self.lease, now, failures)

    async def _keep_lease(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            now = self._house.clock.now()
            try:
                await self._house.mail.write_mail(queue.extend, self.lease, now, LEASE_SECONDS)
            except LostLease:
                self.stop()
                return
            except MailError as error:
                _log.warning("lease not extended", error=error.detail or str(error))

    # --- the lines ----------------------------------------------------------------------------

    async def _work(self) -> None:
        self._start_line()
        while self._lines:
            done, _ = await asyncio.wait(self._lines, return_when=asyncio.FIRST_COMPLETED)
            self._lines -= done
            for line in done:
                line.result()  # a line that broke breaks the round

    def _start_line(self) -> None:
        self._lines.add(asyncio.create_task(self._line()))

    def _grow(self) -> None:
        """A host answers: as many connections as there is work for."""
        busy = len(self._lines) - self._idle
        wanted = min(self._relay.connections, busy + len(self._loads))
        while len(self._lines) < wanted and not self._stopping:
            self._start_line()

    async def _line(self) -> None:
        """One connection after the other, as long as there is work for it."""
        channel: SmtpChannel | None = None
        served = 0
        try:
            while (each := await self._next(channel)) is not None:
                if channel is None or not channel.is_usable or self._is_worn(served):
                    if channel is not None:
                        await channel.quit()
                        channel = None
                    try:
                        channel = await self._dial()
                    except NobodyThere as error:
                        self._give_up(each, error)
                        return
                    served = 0
                    self._reached = True
                    self._grow()
                served += 1
                await self._carry(channel, each)
        finally:
            if channel is not None:
                await channel.quit() if channel.is_usable else channel.abort()

    async def _dial(self) -> SmtpChannel:
        """Raises NobodyThere."""
        try:
            smart = await smart_host(self._house, self._next_hop)
        except SecretUnreadable as error:
            # Not the host's fault, but it cannot be used; others may put that right meanwhile.
            raise NobodyThere(error.status, str(error), "", (), PASSWORD) from error
        return await self._dialer.dial(self._next_hop, self._relay, smart)

    def _is_worn(self, served: int) -> bool:
        return served >= self._relay.messages_per_connection

    def _give_up(self, each: Load, error: NobodyThere) -> None:
        """Nobody answers this line. Where others go on, the server has enough of us; else that
        was the word for all that is due."""
        self._loads.appendleft(each)
        if len(self._lines) > 1:
            self._something.set()
            return
        self._nobody = error

    async def _next(self, channel: SmtpChannel | None) -> Load | None:
        """The next load, or None if there was none for a while; a line that has no connection
        waits for nothing.

        The while counts from the last message: a wake for what turns out to be somebody else's
        does not prolong it, or a busy queue would keep this place from all the others.
        """
        self._idle += 1
        clock = asyncio.get_running_loop().time
        until = clock() + self._linger
        try:
            while not self._stopping and self._nobody is None:
                if self._loads:
                    return self._loads.popleft()
                if self._look:
                    await self._fetch()
                    continue
                if self._hurried or channel is None or not channel.is_usable:
                    return None
                self._something.clear()
                if not await wake_or(self._something, until - clock()):
                    return None
            return None
        finally:
            self._idle -= 1

    async def _fetch(self) -> None:
        """Read what is due and not under way."""
        async with self._fetching:
            if not self._look or self._loads:
                return
            self._look = False
            limit = FETCH + len(self._flying)
            due, elsewhere = await self._house.mail.read(self._due, limit)
            fresh = [r for r in due if r.key not in self._flying]
            self._look = len(due) == limit
            self._flying |= {r.key for r in fresh}
            for _, group in groupby(fresh, key=lambda r: r.message.id):
                of_message = tuple(r for r in group if r.key not in elsewhere)
                for start in range(0, len(of_message), AT_ONCE):
                    part = of_message[start : start + AT_ONCE]
                    self._loads.append(Load(part[0].message, part))
            await self._reroute([r for r in fresh if r.key in elsewhere], elsewhere)
            if self._loads:
                self._something.set()
                if self._reached:
                    self._grow()

    def _due(self, tx: Tx, limit: int) -> tuple[list[Recipient], dict[tuple[int, int], NextHop]]:
        """What is due, and whom policy routes elsewhere by now."""
        house = self._house
        due = queue.due(tx, self.lease, house.clock.now(), limit)
        house.policies.current(tx, house.chain(""))
        elsewhere = {}
        for r in due:
            hop = self._hop_of(r)
            if hop != self._next_hop:
                elsewhere[r.key] = hop
        return due, elsewhere

    def _hop_of(self, recipient: Recipient) -> NextHop:
        house = self._house
        _, _, domain = (recipient.message.reverse_path or "").rpartition("@")
        policy = house.policies.latest(house.chain("", domain))
        try:
            return next_hop(parse_mailbox(recipient.address), policy)
        except MailError:
            return self._next_hop  # what cannot be routed stays where it is

    async def _reroute(
        self,
        recipients: list[Recipient],
        hops: dict[tuple[int, int], NextHop],
    ) -> None:
        """Move recipients to the next hop that serves them now."""
        house = self._house
        for hop in sorted({str(hops[r.key]) for r in recipients}):
            these = [r for r in recipients if str(hops[r.key]) == hop]
            at = parse_next_hop(hop).hop
            await house.mail.write_mail(
                _move, self.lease, these, at, house.ids.new(), house.clock.now()
            )
            self._flying -= {r.key for r in these}
            _log.info("routed anew", count=len(these), next_hop=hop)

    # --- one message --------------------------------------------------------------------------

    async def _carry(self, channel: SmtpChannel, each: Load) -> None:
        house = self._house
        wanted = await house.mail.read(queue.still_wanted, self.lease, each.recipients)
        self._flying -= {r.key for r in each.recipients} - {r.key for r in wanted}
        if not wanted:
            return
        each = replace(each, recipients=tuple(wanted))
        try:
            rcpts = {rcpt_of(r): r for r in each.recipients}
            sender = await batv.reverse_path(house, each.message)
            content = await load(house, each.message)
            mail = mail_of(each.message, content, sender)
        except MailError as error:
            _log.error(
                "queued message unreadable",
                id=external(TRACE, each.message.trace),
                error=error.detail or str(error),
            )
            await self._conclude(each, waiting=tuple((r, str(error)) for r in each.recipients))
            return

        async def downgraded(need: NeedsDowngrade) -> Content | None:
            made = await seven_bit(content, need)
            return await signed_anew(house, made) if made is not None else None

        try:
            result = await channel.send(mail, list(rcpts), content, downgrade=downgraded)
        finally:
            content.close()
        if result.stale and not each.retried:
            self._loads.appendleft(replace(each, retried=True))
            return
        if result.untried:
            rest = tuple(rcpts[r] for r in result.untried)
            self._loads.appendleft(Load(each.message, rest))
            self._something.set()
        self._notice_hangups(channel, result)
        named = self._next_hop.way is Way.HOST
        judged = await outcomes.judge(house, channel, result, rcpts, configured=named)
        await self._conclude(
            each,
            gone=judged.gone,
            waiting=judged.waiting,
            notices=judged.notices,
            events=judged.events,
        )

    async def _conclude(
        self,
        each: Load,
        *,
        gone: tuple[Recipient, ...] = (),
        waiting: tuple[tuple[Recipient, str], ...] = (),
        notices: tuple[Composed, ...] = (),
        events: tuple[TraceEvent, ...] = (),
    ) -> None:
        ended = Conclusion(
            self.lease,
            self._house.clock.now(),
            self._patience,
            gone=gone,
            waiting=waiting,
            notices=notices,
            events=events,
        )
        await conclude_surely(self._house, ended)
        self._flying -= {r.key for r in gone} | {r.key for r, _ in waiting}

    def _notice_hangups(self, channel: SmtpChannel, result: Result) -> None:
        """A host that hangs up on every message takes none now."""
        early = all(
            o.fate is Fate.TEMPORARY
            and o.phase in _BEFORE_CONTENT
            and o.answer.code in (None, _CLOSING)
            for o in result.outcomes
        )
        if channel.is_usable or not early:
            self._hangups = 0
            return
        self._hangups += 1
        if self._hangups >= HANGUPS:
            answer = result.outcomes[0].answer
            status = Status(4, answer.status.subject, answer.status.detail)
            self._nobody = NobodyThere(status, str(answer), result.host, ())
            self._something.set()

    # --- nobody there -------------------------------------------------------------------------

    async def _failed(self, error: NobodyThere) -> int:
        """All that is due waits, or is returned if it never will be delivered; how many rounds
        have failed in a row."""
        house, lease = self._house, self.lease
        reply = f"{error.host}: {error.reply}" if error.host else error.reply
        if error.told.permanent:
            await self._return_all(error)
            return 0
        now = house.clock.now()
        if error.setting:
            # Time alone mends nothing here, and all that goes out may wait for it.
            _log.error(
                "the smart host cannot be used",
                setting=error.setting,
                next_hop=lease.next_hop,
                because=reply,
                tried=error.tried,
            )
        waits, failures = await house.mail.write_mail(
            _failed_all, lease, reply, now, self._patience, await self._told_anew(error, reply)
        )
        _log.info(
            "nobody answers",
            next_hop=lease.next_hop,
            recipients=waits,
            because=reply,
            tried=error.tried,
        )
        return failures

    async def _told_anew(self, error: NobodyThere, reply: str) -> tuple[TraceEvent, ...]:
        """The word for the traces of those who wait for a setting to be put right: of the first
        ones, whatever is in the queue, and once for each reason."""
        if not error.setting:
            return ()
        house = self._house
        due = await house.mail.read(queue.due, self.lease, house.clock.now(), AT_ONCE)
        return tuple(
            event(
                house,
                each,
                "waits",
                host=error.host,
                setting=error.setting,
                status=str(error.told),
                reply=error.reply,
                attempts=each.attempts + 1,
            )
            for each in due
            if each.last_reply != keepable(reply)
        )

    async def _return_all(self, error: NobodyThere) -> None:
        house, lease = self._house, self.lease
        ended = Conclusion(lease, house.clock.now(), self._patience)
        while due := await house.mail.read(queue.due, lease, house.clock.now(), AT_ONCE):
            for _, group in groupby(due, key=lambda r: r.message.id):
                returned = [Returned(r, error.told, error.reply, error.host) for r in group]
                await give_back(house, ended, returned)


_BEFORE_CONTENT: Final = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.RESET})
_CLOSING: Final = 421  # RFC 5321 §3.8


def _failed_all(
    tx: Tx,
    lease: Lease,
    reply: str,
    now: Instant,
    patience: Patience,
    events: tuple[TraceEvent, ...],
) -> tuple[int, int]:
    queue.hold(tx, lease)
    if events:
        trace.add_events(tx, events)
    return queue.failed_all(tx, lease, reply, now, patience)


def _move(
    tx: Tx, lease: Lease, recipients: list[Recipient], hop: queue.Hop, candidate: int, now: Instant
) -> None:
    queue.hold(tx, lease)
    queue.move(tx, recipients, hop, candidate, now)
