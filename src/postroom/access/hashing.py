"""The threads that hash passwords: few, with a bounded line, off the loop.

Who signed in from there before goes first, so that a flood of guesses keeps strangers waiting
and not the people who work here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from postroom.core import metrics
from postroom.core.errors import AuthUnavailable

T = TypeVar("T")
THREADS: Final = 2
"""For each worker. Argon2 is bound by memory: more threads than cores verify nothing faster."""

SECONDS: Final = metrics.histogram(
    "auth.hashing", "seconds", "From asking for a password's verification to the answer"
)
_Waiting = tuple[Callable[[], Any], "asyncio.Future[Any]", float]


class Hashing:
    """One for each worker. Construct on the loop."""

    def __init__(self, threads: int = THREADS) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hashing")
        self._familiar: deque[_Waiting] = deque()
        self._strangers: deque[_Waiting] = deque()
        self._running = 0

    @property
    def waiting(self) -> int:
        return len(self._familiar) + len(self._strangers)

    async def run(self, work: Callable[[], T], *, familiar: bool, most: int) -> T:
        """Do `work` in a thread; raises AuthUnavailable if `most` wait in that line already."""
        line = self._familiar if familiar else self._strangers
        if len(line) >= most:
            raise AuthUnavailable(detail=f"{len(line)} passwords wait to be verified")
        future: asyncio.Future[T] = self._loop.create_future()
        line.append((work, future, self._loop.time()))
        self._start()
        return await future

    def _start(self) -> None:
        while self._running < self._threads and (self._familiar or self._strangers):
            line = self._familiar or self._strangers
            work, future, since = line.popleft()
            if future.done():  # whoever asked has gone
                continue
            self._running += 1
            running = self._loop.run_in_executor(self._pool, work)
            running.add_done_callback(
                lambda done, future=future, since=since: self._done(done, future, since)  # type: ignore[misc]  # bound now, not when it is called
            )

    def _done(self, done: asyncio.Future[Any], future: asyncio.Future[Any], since: float) -> None:
        self._running -= 1
        SECONDS.observe(self._loop.time() - since)
        error = done.exception()
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())
        self._start()

    async def close(self) -> None:
        """Give up what waits, finish what runs."""
        for line in (self._familiar, self._strangers):
            while line:
                _, future, _ = line.popleft()
                if not future.done():
                    future.set_exception(AuthUnavailable())
        await asyncio.to_thread(self._pool.shutdown)
