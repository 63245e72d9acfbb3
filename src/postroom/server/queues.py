"""The queue runners of one worker, as one thing that is woken, run and drained."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from postroom.domain.events import QueueReady
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.mailflow.localqueue import LocalQueue
from postroom.mailflow.relay import RemoteQueue
from postroom.net.wheel import TimerWheel
from postroom.server.reach import Reach, dialer


class Queues:
    """What waits here, elsewhere, and for intake."""

    def __init__(
        self, house: MailHouse, intake: Intake, reach: Reach, wheel: TimerWheel, holder: int
    ) -> None:
        """`holder` is this worker's number from 1 on. Construct on the loop."""
        self.dialer, self.resolver = dialer(house, reach, wheel)
        self._local = LocalQueue(house, holder)
        self._composed = ComposedQueue(house, intake, holder)
        self._remote = RemoteQueue(house, self.dialer, holder)

    @property
    def runs(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """Each of them until cancelled."""
        return self._local.loop.run, self._composed.loop.run, self._remote.run

    def wake(self, event: QueueReady = QueueReady()) -> None:  # noqa: B008 - immutable
        """Something was put into a queue."""
        self._local.loop.wake()
        self._composed.loop.wake()
        self._remote.wake(event)

    async def drain(self) -> None:
        """End what is under way with other servers, and begin nothing more."""
        await self._remote.drain()

    async def close(self) -> None:
        """Let go of what was opened."""
        await self.resolver.close()
