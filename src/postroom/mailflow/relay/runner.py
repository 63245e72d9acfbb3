"""The remote queue: each worker leases destinations and serves several at the same time."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.domain import queue
from postroom.domain.events import QueueReady
from postroom.domain.queue import REMOTE
from postroom.mailflow.house import MailHouse
from postroom.mailflow.queueing import QueueLoop, take
from postroom.mailflow.relay.destination import LINGER, Destination
from postroom.mailflow.relay.dialing import Dialer
from postroom.mailflow.settings import QueueSettings, RelaySettings
from postroom.store.sql import Tx

_log: Final = structlog.get_logger("postroom.relay")


class RemoteQueue:
    """Runs in every worker; a lease says which of them serves a destination."""

    def __init__(
        self, house: MailHouse, dialer: Dialer, holder: int, *, linger: float = LINGER
    ) -> None:
        """`holder` is this worker's number from 1 on: 0 holds nothing. `linger` is for how many
        seconds a connection waits for the next message."""
        self._house = house
        self._dialer = dialer
        self._holder = holder
        self._linger = linger
        self._serving: dict[int, Destination] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._room = 1  # destinations that have a place at the same time
        self.loop = QueueLoop(house, REMOTE, self.round)

    @property
    def busy(self) -> bool:
        """Whether a destination is being served, or looked for: leased, it is due no more."""
        return bool(self._tasks) or self.loop.busy

    def wake(self, event: QueueReady = QueueReady()) -> None:  # noqa: B008 - immutable
        """Something was put into the queue."""
        serving = self._serving.get(event.destination)
        if serving is not None:
            serving.wake()
            return
        if not event.destination:
            for each in self._serving.values():
                each.wake()
        self._make_room()
        self.loop.wake()

    def _make_room(self) -> None:
        """If there is none for one more destination, nobody keeps a place for what may come."""
        if len(self._tasks) >= self._room:
            for each in self._serving.values():
                each.hurry()

    async def round(self) -> bool:
        """Lease what is due, as far as there is room; returns whether there may be more."""
        if self._stopping:
            return False
        relay, settings = await self._house.mail.read(self._settings)
        self._room = relay.destinations
        while len(self._tasks) < self._room and not self._stopping:
            lease = await take(self._house, REMOTE, self._holder)
            if lease is None:
                return False
            serving = Destination(self._house, self._dialer, lease, relay, settings, self._linger)
            self._serving[lease.destination] = serving
            task = asyncio.create_task(self._serve(serving))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if await self._house.mail.read(queue.any_due, REMOTE, self._house.clock.now()):
            self._make_room()
        if self._tasks:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return not self._stopping

    async def _serve(self, serving: Destination) -> None:
        next_hop = serving.lease.next_hop
        try:
            await serving.serve()
        except MailError as error:
            # The lease runs out by itself; what was not recorded is tried again.
            _log.warning("not served", next_hop=next_hop, error=error.detail or str(error))
        except Exception:
            _log.exception("serving broke", next_hop=next_hop)
        finally:
            self._serving.pop(serving.lease.destination, None)
            self.loop.wake()

    def _settings(self, tx: Tx) -> tuple[RelaySettings, QueueSettings]:
        house = self._house
        policy = house.policies.current(tx, house.chain(""))
        return policy.of(RelaySettings), policy.of(QueueSettings)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self.loop.run()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def drain(self) -> None:
        """Take nothing more, and end what is under way."""
        self._stopping = True
        for each in self._serving.values():
            each.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
