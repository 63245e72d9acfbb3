"""A server that is killed and started again, on one data directory and the same ports."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from postroom.server.instance import Layout, read_status
from postroom.testing import rounds
from postroom.testing.ports import free_offset
from postroom.testing.process import ServerProcess

PATIENCE: Final = 30.0
"""Seconds for a server or a worker to serve again."""
WORKER_KILLS: Final = 3
"""Deaths of workers in one server's life: the supervisor gives one up after five in a minute."""


class Victim:
    """`postroom serve` as a process. `answers` looks at its doors after each start."""

    def __init__(
        self,
        layout: Layout,
        answers: Callable[[], Awaitable[None]],
        options: Sequence[str] = (),
        workers: int = 2,
    ) -> None:
        self.layout = layout
        self.offset = free_offset()
        self.kills: Counter[str] = Counter()
        self.restarts: list[float] = []  # seconds
        self.successors: list[float] = []  # seconds
        self.tracebacks: list[str] = []
        """Last lines of what its logs did not foresee."""
        self._answers = answers
        self._options = tuple(options)
        self._workers = workers
        self._worker_kills = 0
        self._server: ServerProcess | None = None

    @property
    def server(self) -> ServerProcess:
        assert self._server is not None, "it was not started"
        return self._server

    @property
    def killed(self) -> str:
        """What died how often, for a table."""
        return ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items())) or "-"

    def pids(self) -> list[int]:
        """The workers that serve now."""
        status = read_status(self.layout)
        return [worker.pid for worker in status.workers] if status is not None else []

    async def start(self) -> None:
        """Start, beside what may still be dying; until the doors answer."""
        before = self._server
        command = [sys.executable, "-m", "postroom", "serve", "--workers", f"{self._workers}"]
        command += ["--port-offset", f"{self.offset}", *self._options]
        began = time.monotonic()

        def ready() -> bool:
            status = read_status(self.layout)
            return status is not None and status.serves and status.pid == server.pid

        server = ServerProcess(command, self.layout.root, ready=ready)
        try:
            await asyncio.to_thread(server.wait_ready, PATIENCE)
            await self._answers()
        except BaseException:
            server.close()
            raise
        self._server = server
        if before is not None:
            self.restarts.append(time.monotonic() - began)
            self._bury(before)

    def choose(self, rng: random.Random) -> str:
        """What is to die next: group, worker, supervisor."""
        if self._worker_kills >= WORKER_KILLS:
            return "group"
        return rng.choices(("group", "worker", "supervisor"), (40, 40, 20))[0]

    async def kill(self, how: str, rng: random.Random) -> bool:
        """SIGKILL; True if the server has to be started again."""
        self.kills[how] += 1
        if how == "worker":
            self._worker_kills += 1
            victim = rng.choice(self.pids())
            began = time.monotonic()
            self.server.kill_one(victim)
            await until(lambda: self._is_succeeded(victim), "a successor")
            self.successors.append(time.monotonic() - began)
            return False
        if how == "supervisor":
            self.server.kill_one(self.server.pid)  # its workers die with it, in their own time
        else:
            self.server.kill_group()
        self._worker_kills = 0
        return True

    def _is_succeeded(self, victim: int) -> bool:
        status = read_status(self.layout)
        workers = status.workers if status is not None else ()
        return bool(workers) and all(w.state == "ready" and w.pid != victim for w in workers)

    def close(self) -> None:
        """Let the last server go."""
        if self._server is not None:
            self._bury(self._server)
            self._server = None

    def _bury(self, server: ServerProcess) -> None:
        self.tracebacks += rounds.tracebacks(server.stderr())
        server.close()


async def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Until it is so; raises TimeoutError that says what did not come."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {seconds:.0f} s")
        await asyncio.sleep(0.002)
