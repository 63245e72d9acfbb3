"""DNS as the checks of a message ask it: nobody waits for servers that answer nobody.

A resolver waits some seconds for each name, and has to. If no server answers at all, each new
sender would cost each message that wait. So where a question stays unanswered, a name that
nobody can have is asked for: whoever is there says NXDOMAIN at once. If that stays unanswered
too, checks fail at once until a server is heard again. The dead servers of one domain, which a
stranger may arrange, silence nobody else.
"""

from __future__ import annotations

import asyncio
from random import Random, SystemRandom
from typing import Final, Protocol

import structlog

from postroom.core import metrics
from postroom.core.clock import Clock
from postroom.core.errors import DnsFailed
from postroom.net.dns import Answer, Kind, Record

PATIENCE: Final = 2.5
"""Seconds without an answer after which somebody is asked whether anybody is there."""
KNOCK: Final = 1.5
"""Seconds that he has to answer; together with PATIENCE less than the 5 that a peer may wait."""
EVERY: Final = 2.0
"""Seconds between two knocks while nobody answers and somebody asks."""

SILENT: Final = metrics.counter(
    "dns.silent", "questions", "Questions of checks not asked, as no DNS server answers"
)

_log: Final = structlog.get_logger("postroom.trust")


class Lookup(Protocol):
    """What checks need of a resolver."""

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        """Records of `kind` at `name`. Raises DnsFailed; a denial is an answer."""
        ...


class Lookups:
    """A resolver that gives up at once while nobody answers. Of one event loop."""

    def __init__(self, resolver: Lookup, clock: Clock, rng: Random | None = None) -> None:
        self._resolver = resolver
        self._clock = clock
        self._rng = rng if rng is not None else SystemRandom()
        self._silent = False
        self._knock_after = 0.0  # on the monotonic clock
        self._knocking: asyncio.Task[bool] | None = None

    @property
    def silent(self) -> bool:
        """Whether no server answers, as far as is known."""
        return self._silent

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        """As a resolver answers. Raises DnsFailed, at once while nobody answers."""
        if self._silent:
            self._knock_again()
            raise self._nobody()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._resolver.query(name, kind)
        except TimeoutError:
            pass
        # The question is still on its way: who asks again waits for the same answer.
        if not await asyncio.shield(self._knock()):
            raise self._nobody()
        return await self._resolver.query(name, kind)

    async def close(self) -> None:
        """End a knock that is under way."""
        knocking = self._knocking
        if knocking is not None:
            knocking.cancel()
            await asyncio.gather(knocking, return_exceptions=True)

    def _nobody(self) -> DnsFailed:
        SILENT.add()
        return DnsFailed(detail="no DNS server answers", reason="silent")

    def _knock_again(self) -> None:
        if self._knocking is None and self._clock.monotonic() >= self._knock_after:
            self._knock()

    def _knock(self) -> asyncio.Task[bool]:
        """The knock that all who wonder wait for."""
        if self._knocking is None:
            self._knocking = asyncio.create_task(self._is_anybody_there(), name="dns knock")
            self._knocking.add_done_callback(self._knocked)
        return self._knocking

    def _knocked(self, task: asyncio.Task[bool]) -> None:
        self._knocking = None
        if task.cancelled():
            return
        heard = task.result()
        self._knock_after = self._clock.monotonic() + EVERY
        if heard and self._silent:
            _log.info("dns answers again")
        elif not heard and not self._silent:
            _log.warning("no dns server answers; messages are judged without")
        self._silent = not heard

    async def _is_anybody_there(self) -> bool:
        # RFC 6761 §6.4: nobody has such a name, so no server has to ask far for it.
        name = f"{self._rng.getrandbits(64):016x}.invalid"
        try:
            async with asyncio.timeout(KNOCK):
                await self._resolver.query(name, Kind.A)
        except TimeoutError:
            return False
        except DnsFailed as error:
            # A server that fails is there; one that cannot be reached is not, but fails at once.
            return error.reason not in ("timeout", "deadline")
        return True
