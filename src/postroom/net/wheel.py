"""One coarse timer for thousands of connections: a loop's own timer handle for each would be
re-armed at every read.

A sleeper lies in the bucket of the moment at which somebody should look at it. Its deadline
may move further away without touching the wheel: when its bucket is due, it says when it
wants to be looked at next.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

TICK: Final = 0.5  # seconds: how late a deadline may be noticed
READ: Final = 16_384  # bytes that a connection is given at once, at most: as of a TLS record
READ_TLS: Final = 65_536  # bytes of TLS that are read at once: with less, each costs more


class Sleeper(Protocol):
    """What the wheel wakes. `slot` belongs to the wheel; a sleeper starts with None there."""

    slot: int | None

    def on_tick(self, now: float) -> float:
        """Do what is due at `now` (the loop's time); the next deadline, or infinity for none."""
        ...


class TimerWheel:
    """Wakes sleepers at most one tick after their deadline; one for each loop.

    Costs the loop one timer, and none while nobody sleeps.
    """

    __slots__ = ("_buckets", "_handle", "_loop", "_next", "_tick", "scratch", "scratch_tls", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop, *, tick: float = TICK) -> None:
        self._loop = loop
        self._tick = tick
        self._buckets: dict[int, set[Sleeper]] = {}
        self._next = 0  # the first slot that has not been swept
        self._handle: asyncio.TimerHandle | None = None
        self.time = loop.time
        # Where all connections of this loop read, one after the other: it lies here because
        # the wheel is what they share.
        self.scratch_tls = memoryview(bytearray(READ_TLS))
        self.scratch = self.scratch_tls[:READ]

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def wake(self, sleeper: Sleeper, at: float) -> None:
        """Look at `sleeper` when `at` has passed, or earlier if it already waits for that."""
        slot = math.ceil(at / self._tick)
        if slot * self._tick < at:
            slot += 1  # rounded away: it would be looked at a hair too early
        old = sleeper.slot
        if old is not None:
            if old <= slot:
                return
            self._leave(sleeper, old)
        if self._handle is None:
            self._next = math.floor(self._loop.time() / self._tick) + 1
            self._handle = self._loop.call_at(self._next * self._tick, self._sweep)
        slot = max(slot, self._next)
        sleeper.slot = slot
        bucket = self._buckets.get(slot)
        if bucket is None:
            self._buckets[slot] = {sleeper}
        else:
            bucket.add(sleeper)

    def forget(self, sleeper: Sleeper) -> None:
        """Let go of `sleeper`, so that a closed connection is freed at once."""
        if sleeper.slot is not None:
            self._leave(sleeper, sleeper.slot)

    def close(self) -> None:
        """Wake nobody any more."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        for bucket in self._buckets.values():
            for sleeper in bucket:
                sleeper.slot = None
        self._buckets.clear()

    def _leave(self, sleeper: Sleeper, slot: int) -> None:
        bucket = self._buckets[slot]
        bucket.discard(sleeper)
        if not bucket:
            del self._buckets[slot]
        sleeper.slot = None

    def _sweep(self) -> None:
        now = self._loop.time()
        # A loop's timer may fire a hair early: the slot it was set for is due all the same.
        last = max(math.floor(now / self._tick), self._next)
        now = max(now, last * self._tick)
        first, self._next = self._next, last + 1
        self._handle = None
        # After a long stall there are more slots than buckets.
        slots = range(first, last + 1)
        due = (
            [slot for slot in slots if slot in self._buckets]
            if len(slots) <= len(self._buckets)
            else sorted(slot for slot in self._buckets if slot <= last)
        )
        try:
            for slot in due:
                self._wake_bucket(slot, now)
        finally:
            if self._buckets and self._handle is None:
                self._handle = self._loop.call_at(self._next * self._tick, self._sweep)

    def _wake_bucket(self, slot: int, now: float) -> None:
        """Wake one sleeper after the other; each may forget others, or itself."""
        while bucket := self._buckets.get(slot):
            sleeper = next(iter(bucket))
            self._leave(sleeper, slot)
            try:
                again = sleeper.on_tick(now)
            except Exception as error:  # one session's mistake keeps nobody else awake
                self._loop.call_exception_handler(
                    {"message": "a deadline could not be served", "exception": error}
                )
                continue
            if again != math.inf:
                self.wake(sleeper, again)
