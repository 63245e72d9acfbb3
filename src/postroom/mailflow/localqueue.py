"""The local queue: recipients beyond the intake's own unit, and those whose account was full.

Wakes at QueueReady and when something is due. A round leases the local destination, so one
worker of all delivers at a time, and gives it back; each message goes in units of 50 placements
that check the fence.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import structlog

from postroom.core.clock import Instant
from postroom.core.errors import MailError, NotFound, OverQuota
from postroom.core.ids import TRACE, external
from postroom.domain import queue
from postroom.domain.directory import people
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.messages import SYSTEM_ACTOR, Quota
from postroom.domain.queue import LOCAL, Lease, Recipient
from postroom.formats.parsed import Parsed, parse
from postroom.mailflow.delivery import PLACEMENTS, Placing, place_one
from postroom.mailflow.house import MailHouse
from postroom.mailflow.settings import QuotaSettings
from postroom.store import blobs
from postroom.store.blobs import NewBlob
from postroom.store.sql import Tx

LEASE_SECONDS: Final = 60
LONGEST_SLEEP: Final = 30.0
ROUND: Final = 500
REST: Final = 5.0  # seconds after a round that failed

_log: Final = structlog.get_logger("postroom.queue")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Up to 50 recipients of one message, ready for a unit."""

    lease: Lease
    blob: NewBlob
    parsed: Parsed
    now: Instant
    recipients: tuple[tuple[Recipient, Placing], ...]


class LocalQueue:
    """Runs in every worker; the lease says whose turn it is."""

    def __init__(self, house: MailHouse, holder: int) -> None:
        """`holder` is this worker's number from 1 on: 0 holds nothing."""
        self._house = house
        self._holder = holder
        self._wake = asyncio.Event()
        self.delivered = 0
        self.failed = 0

    def wake(self) -> None:
        """Something may be due."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            try:
                more = await self.round()
                pause = 0.0 if more else await self._until_due()
            except MailError as error:
                _log.warning("queue round failed", error=error.detail or str(error))
                pause = REST
            except Exception:
                # Without the queue, mail that was acknowledged would lie until the next start.
                _log.exception("queue round broke")
                pause = REST
            if pause > 0:
                try:
                    await asyncio.wait_for(self._wake.wait(), pause)
                except TimeoutError:
                    pass

    async def _until_due(self) -> float:
        house = self._house
        due = await house.mail.read(queue.next_due, LOCAL)
        if due is None:
            return LONGEST_SLEEP
        return min(LONGEST_SLEEP, max(0.05, (due - house.clock.now()) / 1000))

    async def round(self) -> bool:
        """Deliver what is due; returns whether there may be more."""
        house = self._house
        now = house.clock.now()
        lease = await house.mail.write_mail(queue.lease, LOCAL, self._holder, now, LEASE_SECONDS)
        if lease is None:
            return False
        try:
            due = await house.mail.read(queue.due, lease, now, ROUND)
            for _, group in groupby(due, key=lambda r: r.message.id):
                await self._message(lease, list(group))
            return len(due) == ROUND
        finally:
            await house.mail.write_mail(queue.release, lease)

    async def _message(self, lease: Lease, recipients: list[Recipient]) -> None:
        house = self._house
        message = recipients[0].message
        try:
            facts, parsed = await house.mail.read_much(self._content, message.blob)
        except MailError as error:
            # One message that cannot be read keeps no other waiting.
            _log.error(
                "queued message unreadable", id=external(TRACE, message.id), error=error.detail
            )
            now = house.clock.now()
            await house.mail.write_mail(_postpone, lease, recipients, str(error), now)
            self.failed += len(recipients)
            return
        blob = NewBlob(message.blob, facts.sha256, facts.size, facts.place)
        for start in range(0, len(recipients), PLACEMENTS):
            part = recipients[start : start + PLACEMENTS]
            placings = await house.mail.read(self._placings, part)
            piece = _Piece(lease, blob, parsed, house.clock.now(), placings)
            failures = await house.mail.write_mail(_place, piece)
            self.delivered += len(part) - len(failures)
            self.failed += len(failures)
            for address, why in failures:
                _log.info(
                    "recipient waits", id=external(TRACE, message.id), to=address, because=why
                )

    def _content(self, tx: Tx, blob: int) -> tuple[blobs.Facts, Parsed]:
        return blobs.facts(tx, blob), parse(self._house.blobs.read(tx, blob))

    def _placings(
        self, tx: Tx, recipients: list[Recipient]
    ) -> tuple[tuple[Recipient, Placing], ...]:
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
            placing = Placing(n, account, r.address, house.ids.new(), r.role, r.flags, quota)
            made.append((r, placing))
        return tuple(made)


def _postpone(tx: Tx, lease: Lease, recipients: list[Recipient], why: str, now: Instant) -> None:
    queue.hold(tx, lease)
    for recipient in recipients:
        queue.failed(tx, recipient, why, now)


def _place(tx: Tx, piece: _Piece) -> list[tuple[str, str]]:
    """Place what can be placed; returns who has to wait, and why."""
    queue.hold(tx, piece.lease)
    changes = begin_all(tx, (p.account for _, p in piece.recipients))
    done: list[Recipient] = []
    waiting: list[tuple[str, str]] = []
    blobs.reuse(tx, piece.blob.id)
    for recipient, placing in piece.recipients:
        try:
            place_one(tx, changes, placing, piece.blob, piece.parsed, piece.now)
        except OverQuota as error:
            queue.failed(tx, recipient, str(error), piece.now)
            waiting.append((recipient.address, str(error)))
        except NotFound as error:
            # The account was deleted after the message was accepted for it: what is delivered
            # to it would be deleted with it.
            done.append(recipient)
            waiting.append((recipient.address, str(error)))
        else:
            done.append(recipient)
    for change in changes.values():
        transit = piece.recipients[0][0].message.id
        change.end(tx, piece.now, SYSTEM_ACTOR, "deliver", {"transit": transit})
    queue.done(tx, done)
    return waiting
