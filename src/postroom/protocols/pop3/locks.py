"""Who has which maildrop: a lease that is kept while the session lives. RFC 1939 §4.

A worker keeps all its leases by one statement. When it dies its supervisor frees them; when the
machine dies, time does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.core.clock import Clock, Instant
from postroom.core.errors import MailError
from postroom.domain.mailboxes import maildrop
from postroom.domain.mailboxes.maildrop import MaildropInUse
from postroom.store.units import Database

LEASE: Final = 120.0
"""Seconds that a maildrop stays locked after its worker was last heard of."""

KEEP: Final = 30.0
"""Seconds between two renewals."""

PATIENCE: Final = 2.0
"""Seconds that a sign-in waits for a session of the same maildrop that may be ending: a client
that hangs up without a word comes back before we know that it has gone."""

_STEP: Final = 0.1

_log: Final = structlog.get_logger("postroom.pop3")


@dataclass(slots=True, eq=False)
class Lock:
    """A maildrop that is ours."""

    mailbox: int
    session: int
    until: Instant
    lost: bool = False


class Locks:
    """The maildrops of one worker's sessions. `run` keeps them."""

    def __init__(
        self, state: Database, clock: Clock, holder: int, *, patience: float = PATIENCE
    ) -> None:
        """`holder` is this worker's number, from 1 on: `server.house.holder_of`."""
        self._state = state
        self._clock = clock
        self._holder = holder
        self._patience = patience
        self._held: dict[int, Lock] = {}

    async def take(self, mailbox: int, session: int) -> Lock:
        """Lock a maildrop for a session, whose id is its own for ever; raises MaildropInUse."""
        ends = self._clock.monotonic() + self._patience
        while not await self._try(mailbox, session):
            if self._clock.monotonic() >= ends:
                raise MaildropInUse
            await asyncio.sleep(_STEP)
        return self._held[session]

    async def _try(self, mailbox: int, session: int) -> bool:
        now = self._clock.now()
        if await self._state.read(maildrop.is_taken, mailbox, now):
            return False
        until = self._until(now)
        taken = await self._state.write(maildrop.take, mailbox, session, self._holder, now, until)
        if taken:
            self._held[session] = Lock(mailbox, session, until)
        return taken

    def is_ours(self, lock: Lock) -> bool:
        """Whether it still is: it was kept in time."""
        return not lock.lost and self._clock.now() < lock.until

    async def free(self, lock: Lock) -> None:
        """Let others have the maildrop."""
        self._held.pop(lock.session, None)
        await self._state.write(maildrop.free, lock.mailbox, lock.session)

    async def run(self) -> None:
        """Keep what is held, until it is cancelled."""
        while True:
            await asyncio.sleep(KEEP)
            try:
                await self.keep()
            except MailError as error:
                # Tried again long before the leases end.
                _log.warning("maildrops not kept", reason=error.detail or str(error))

    async def keep(self) -> None:
        """Renew every lease; a lock that another has by now is lost."""
        held = dict(self._held)
        if not held:
            return
        until = self._until(self._clock.now())
        kept = await self._state.write(maildrop.keep, list(held), until)
        for session, lock in held.items():
            if session in kept:
                lock.until = until
            elif self._held.pop(session, None) is not None:
                lock.lost = True
                _log.warning("a maildrop was lost", session=session)

    def _until(self, now: Instant) -> Instant:
        return Instant(now + round(LEASE * 1000))
