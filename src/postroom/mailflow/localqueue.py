"""The local queue: recipients of ours who have to wait, and the crowd of an all-staff message.

Every worker runs one; the lease on the destination says whose turn it is. Up to 50 recipients
of one message are placed in one unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import structlog

from postroom.core.errors import MailError, NotFound, OverQuota
from postroom.core.ids import TRACE, external
from postroom.domain import queue
from postroom.domain.directory import people
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.messages import SYSTEM_ACTOR, Quota
from postroom.domain.queue import LOCAL, Composed, Lease, Recipient
from postroom.domain.trace import TraceEvent
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow.delivery import PLACEMENTS, Placing, place_one
from postroom.mailflow.house import MailHouse
from postroom.mailflow.overdue import settle_overdue
from postroom.mailflow.queueing import (
    Conclusion,
    QueueLoop,
    conclude,
    event,
    patience_of,
    record,
    settings_now,
    take,
)
from postroom.mailflow.reports import success_notice
from postroom.mailflow.settings import QuotaSettings
from postroom.store import blobs
from postroom.store.blobs import NewBlob
from postroom.store.sql import Tx

ROUND: Final = 500

_log: Final = structlog.get_logger("postroom.queue")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Up to 50 recipients of one message, ready for a unit; the notice and the event of each
    are used if it is placed."""

    ended: Conclusion
    blob: NewBlob
    parsed: Parsed
    recipients: tuple[tuple[Recipient, Placing, Composed | None, TraceEvent], ...]

    @property
    def waiting(self) -> list[Recipient]:
        """Who waited when they were read."""
        return [recipient for recipient, _, _, _ in self.recipients]


class LocalQueue:
    """Runs in every worker; the lease says whose turn it is."""

    def __init__(self, house: MailHouse, holder: int) -> None:
        """`holder` is this worker's number from 1 on: 0 holds nothing."""
        self._house = house
        self._holder = holder
        self.loop = QueueLoop(house, LOCAL, self.round)
        self.delivered = 0
        self.failed = 0

    async def round(self) -> bool:
        """Deliver what is due; returns whether there may be more."""
        house = self._house
        lease = await take(house, LOCAL, self._holder)
        if lease is None:
            return False
        try:
            now = house.clock.now()
            due = await house.mail.read(queue.due, lease, now, ROUND)
            for _, group in groupby(due, key=lambda r: r.message.id):
                await self._message(lease, list(group))
            await settle_overdue(house, lease)
            return len(due) == ROUND
        finally:
            await house.mail.write_mail(queue.release, lease, house.clock.now())

    async def _message(self, lease: Lease, recipients: list[Recipient]) -> None:
        house = self._house
        message = recipients[0].message
        patience = patience_of(await house.mail.read(settings_now, house))
        ended = Conclusion(lease, house.clock.now(), patience)
        try:
            facts, parsed = await house.mail.read_much(self._content, message.blob)
        except MailError as error:
            # One message that cannot be read keeps no other waiting.
            _log.error(
                "queued message unreadable", id=external(TRACE, message.trace), error=error.detail
            )
            waiting = tuple((r, str(error)) for r in recipients)
            await house.mail.write_mail(conclude, replace(ended, waiting=waiting))
            self.failed += len(recipients)
            return
        blob = NewBlob(message.blob, facts.sha256, facts.size, facts.place)
        for start in range(0, len(recipients), PLACEMENTS):
            part = recipients[start : start + PLACEMENTS]
            placings = await house.mail.read(self._placings, part)
            ready = tuple(
                [
                    (
                        r,
                        placing,
                        await success_notice(house, [r], "delivered"),
                        self._placed(placing, r),
                    )
                    for r, placing in zip(part, placings, strict=True)
                ]
            )
            ended = replace(ended, now=house.clock.now())
            failures = await house.mail.write_mail(_place, _Piece(ended, blob, parsed, ready))
            self.delivered += len(part) - len(failures)
            self.failed += len(failures)
            for address, why in failures:
                _log.info(
                    "recipient waits", id=external(TRACE, message.trace), to=address, because=why
                )

    def _placed(self, placing: Placing, recipient: Recipient) -> TraceEvent:
        return event(
            self._house,
            recipient,
            "delivered",
            mailbox=placing.role,
            account=placing.account,
            message=placing.message,
        )

    def _content(self, tx: Tx, blob: int) -> tuple[blobs.Facts, Parsed]:
        return blobs.facts(tx, blob), parse(self._house.blobs.read(tx, blob))

    def _placings(self, tx: Tx, recipients: list[Recipient]) -> tuple[Placing, ...]:
        house = self._house
        made = []
        house.policies.current(tx, house.chain(""))  # one look serves all: one snapshot
        for n, r in enumerate(recipients):
            account = r.account or 0
            quota = Quota()
            try:
                domain = people.by_id(tx, account).domain
            except NotFound:
                pass  # the unit finds out, and lets the recipient go
            else:
                chain = house.chain("", domain, account)
                held = house.policies.latest(chain).of(QuotaSettings)
                quota = Quota(held.octets, held.messages)
            made.append(Placing(n, account, r.address, house.ids.new(), r.role, r.flags, quota))
        return tuple(made)


def _place(tx: Tx, piece: _Piece) -> list[tuple[str, str]]:
    """Place what can be placed; returns who has to wait, and why."""
    ended = piece.ended
    queue.hold(tx, ended.lease)
    waiting_still = {r.n for r in queue.still_wanted(tx, ended.lease, piece.waiting)}
    wanted = [each for each in piece.recipients if each[0].n in waiting_still]
    if not wanted:
        return []
    changes = begin_all(tx, (p.account for _, p, _, _ in wanted))
    gone: list[Recipient] = []
    waiting: list[tuple[Recipient, str]] = []
    lost: list[tuple[str, str]] = []
    notices: list[Composed] = []
    events: list[TraceEvent] = []
    blobs.reuse(tx, piece.blob.id)
    for recipient, placing, notice, placed in wanted:
        try:
            place_one(tx, changes, placing, piece.blob, piece.parsed, ended.now)
        except OverQuota as error:
            waiting.append((recipient, str(error)))
        except NotFound as error:
            # The account was deleted after the message was accepted for it: what is delivered
            # to it would be deleted with it.
            gone.append(recipient)
            lost.append((recipient.address, str(error)))
            events.append(replace(placed, record=_dropped(recipient, placed, str(error))))
        else:
            gone.append(recipient)
            events.append(placed)
            if notice is not None:
                notices.append(notice)
    for change in changes.values():
        transit = wanted[0][0].message.trace
        change.end(tx, ended.now, SYSTEM_ACTOR, "deliver", {"transit": transit})
    record(
        tx,
        replace(
            ended,
            gone=tuple(gone),
            waiting=tuple(waiting),
            notices=tuple(notices),
            events=tuple(events),
        ),
    )
    return [(r.address, why) for r, why in waiting] + lost


def _dropped(recipient: Recipient, placed: TraceEvent, why: str) -> dict[str, object]:
    return {"what": "dropped", "to": recipient.address, "at": placed.record["at"], "because": why}
