"""Long work in turns: the other sessions of a worker never wait for one of them."""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.core.clock import Clock

TURN: Final = 0.004
"""Seconds of work between two turns of the loop: nothing may hold it for 5 ms."""


class Pace:
    """Says when a piece of work has had its turn."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = clock.monotonic() + TURN

    @property
    def over(self) -> bool:
        """The turn is over: `rest` next."""
        return self._clock.monotonic() > self._until

    async def rest(self) -> None:
        """Let others have theirs."""
        await asyncio.sleep(0)
        self._until = self._clock.monotonic() + TURN
