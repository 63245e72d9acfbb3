"""What we composed ourselves goes through intake as all mail does: here it waits for its turn.

`domain.queue.submit` put it into the queue in the unit of its cause. The unit that delivers it
also takes it out of the queue, so it goes out once. What intake refuses is traced and dropped:
it has no sender who could be told, or would go in circles if he were.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.core.ids import SESSION, TRACE, external
from postroom.domain import queue
from postroom.domain.queue import COMPOSED, Lease, QueuedMessage, Recipient
from postroom.domain.transit import Action, Protocol, Transit, Verdict, Visit
from postroom.formats.address import Address, parse_mailbox
from postroom.mailflow.delivery import Settling
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake, MailFrom, Streamed
from postroom.mailflow.queueing import (
    Conclusion,
    QueueLoop,
    conclude,
    event,
    patience_of,
    settings_now,
    take,
)
from postroom.net.connection import Peer
from postroom.store.sql import Tx
from postroom.wire.smtp import LineEnds

ROUND: Final = 100
_HERE: Final = Peer(None, 0, None, 0, "composed")
_PIECE: Final = 1 << 20

_log: Final = structlog.get_logger("postroom.queue")


class ComposedQueue:
    """Runs in every worker; the lease says whose turn it is."""

    def __init__(self, house: MailHouse, intake: Intake, holder: int) -> None:
        """`holder` is this worker's number from 1 on: 0 holds nothing."""
        self._house = house
        self._intake = intake
        self._holder = holder
        self.loop = QueueLoop(house, COMPOSED, self.round)

    async def round(self) -> bool:
        """Bring what is due to intake; returns whether there may be more."""
        house = self._house
        lease = await take(house, COMPOSED, self._holder)
        if lease is None:
            return False
        try:
            now = house.clock.now()
            due = await house.mail.read(queue.due, lease, now, ROUND)
            patience = patience_of(await house.mail.read(settings_now, house))
            for _, group in groupby(due, key=lambda r: r.message.id):
                ended = Conclusion(lease, house.clock.now(), patience)
                await self._bring(ended, list(group))
            return len(due) == ROUND
        finally:
            await house.mail.write_mail(queue.release, lease, house.clock.now())

    async def _bring(self, ended: Conclusion, recipients: list[Recipient]) -> None:
        message = recipients[0].message
        verdicts = await self._offer(ended.lease, message, recipients)
        house = self._house
        waiting, dropped = [], []
        for each, verdict in verdicts:
            told = f"{verdict.status} {verdict.sentence}"
            if verdict.action is Action.DEFER and ended.now < message.expires_at:
                _log.warning("composed mail waits", id=external(TRACE, message.id), because=told)
                waiting.append((each, told))
            else:
                _log.warning("composed mail dropped", id=external(TRACE, message.id), because=told)
                dropped.append((each, told))
        if verdicts:
            ended = replace(
                ended,
                gone=tuple(each for each, _ in dropped),
                waiting=tuple(waiting),
                events=tuple(event(house, r, "dropped", because=told) for r, told in dropped),
            )
            await house.mail.write_mail(conclude, ended)

    async def _offer(
        self, lease: Lease, message: QueuedMessage, recipients: list[Recipient]
    ) -> list[tuple[Recipient, Verdict]]:
        """Intake, as a session of our own would call it; returns those who were not taken.

        Those who were have left the queue with the unit of their delivery.
        """
        intake, house = self._intake, self._house
        visit = Visit(
            session=external(SESSION, house.ids.new()),
            peer=_HERE,
            protocol=Protocol.COMPOSED,
            started=house.clock.now(),
        )
        sender = MailFrom(
            reverse_path=_address(message.reverse_path),
            declared_size=message.size,
            utf8=message.utf8,
            eight_bit=message.eight_bit,
            transit=message.id,
            cause=message.origin,
        )
        transit, verdict = await intake.mail(visit, sender)
        if not verdict.passes:
            return [(each, verdict) for each in recipients]
        taken: list[Recipient] = []
        others: list[tuple[Recipient, Verdict]] = []
        for each in recipients:
            verdict = await intake.rcpt(transit, parse_mailbox(each.address), each.notify)
            if verdict.passes:
                taken.append(each)
            else:
                others.append((each, verdict))
        if taken:
            ends = LineEnds()
            failure = await self._spool(transit, message, ends)
            seen, settling = Streamed.of(ends), Settling(lease, tuple(taken))
            outcome = await intake.data(transit, seen, failure, settling)
            if not outcome.verdict.passes:
                others += [(each, outcome.verdict) for each in taken]
        return others

    async def _spool(
        self, transit: Transit, message: QueuedMessage, ends: LineEnds
    ) -> MailError | None:
        """Read it back; what its line ends are is judged as a stranger's are (attack class 1)."""
        spool = self._intake.spool(transit)
        try:
            for start in range(0, message.size, _PIECE):
                piece = await self._house.mail.read_much(self._piece, message.blob, start)
                ends.feed(piece)
                spool.write(piece)
        except MailError as error:
            return error
        ends.close()
        return None

    def _piece(self, tx: Tx, blob: int, start: int) -> bytes:
        return self._house.blobs.read(tx, blob, start, _PIECE)


def _address(text: str | None) -> Address | None:
    return parse_mailbox(text) if text is not None else None
