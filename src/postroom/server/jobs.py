"""Runs the declared jobs: each on one worker of all at a time, under a lease.

Every worker has a runner. A piece of a job must end within the job's lease; while more is to be
done the lease is extended, up to a budget of time, after which others have their turn. A job
that fails is tried again, later and later.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping
from typing import Any, Final

import structlog

from postroom.core import metrics
from postroom.core.clock import Clock, Instant
from postroom.core.errors import MailError
from postroom.core.jobs import JOBS, Job
from postroom.domain import jobs
from postroom.domain.jobs import JobLease
from postroom.store.units import Database

BUDGET: Final = 20.0  # seconds of pieces in a row
LONGEST_SLEEP: Final = 30.0
_SHORTEST_SLEEP: Final = 0.05
_FIRST_WAIT: Final = 5.0  # seconds after the first failure; doubling from there
_LONGEST_WAIT: Final = 3600.0
_SPREAD: Final = 60.0  # a new job is first due within so many seconds, not all at once

RUNS: Final = metrics.counter("jobs.pieces", "pieces", "Pieces of jobs that were run", label="job")
FAILURES: Final = metrics.counter("jobs.failures", "pieces", "Pieces that failed", label="job")
SECONDS: Final = metrics.histogram("jobs.seconds", "seconds", "Time that a piece of a job took")

_log: Final = structlog.get_logger("postroom.jobs")


def backoff(attempts: int) -> float:
    """Seconds to wait after `attempts` (>= 1) failures: 5, 10, 20 and so on to an hour."""
    return min(_FIRST_WAIT * 2.0 ** min(attempts - 1, 20), _LONGEST_WAIT)


class _LeaseLost(Exception):
    """Another worker holds the job by now: what it records counts, not what we do."""


class JobRunner:
    """One for each worker."""

    def __init__(
        self,
        house: object,
        mail: Database,
        clock: Clock,
        holder: int,
        *,
        declared: Mapping[str, Job] = JOBS,
        budget: float = BUDGET,
        longest: float | None = None,
        spread: random.Random | None = None,
    ) -> None:
        """`house` is what each job is given. `holder` is this worker's number from 1 on. After
        `longest` seconds it looks again whether something is due."""
        self._house = house
        self._mail = mail
        self._clock = clock
        self._holder = holder
        self._declared = declared
        self._budget = budget
        self._longest = LONGEST_SLEEP if longest is None else longest
        self._woken = asyncio.Event()
        self._random = spread if spread is not None else random.SystemRandom()

    async def run(self) -> None:
        """Until it is cancelled; what was leased is then given back."""
        ready = False
        while True:
            try:
                if not ready:
                    await self._ensure()
                    ready = True
                await self.round()
                pause = await self._pause()
            except MailError as error:
                # The store is busy or gone for now: jobs wait, the server does not.
                _log.warning("jobs wait", reason=error.detail or str(error))
                pause = _FIRST_WAIT
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
            self._woken.clear()

    def wake(self) -> None:
        """Look at once whether something is due."""
        self._woken.set()

    async def round(self) -> int:
        """Run each job that is due and free once; returns how many were run here."""
        names = await self._mail.read(jobs.due, list(self._declared), self._clock.now())
        ran = 0
        for name in names:
            ran += await self._try(self._declared[name])
        return ran

    async def _ensure(self) -> None:
        now = self._clock.now()
        first = {
            name: self._after(now, self._random.uniform(0, min(job.every, _SPREAD)))
            for name, job in self._declared.items()
        }
        await self._mail.write_later(jobs.ensure, first)

    async def _pause(self) -> float:
        at = await self._mail.read(jobs.next_due, list(self._declared))
        if at is None:
            return self._longest
        left = (at - self._clock.now()) / 1000
        # The workers wake a little apart: the first takes the lease, the others see it.
        apart = self._random.uniform(0, _SHORTEST_SLEEP)
        return max(_SHORTEST_SLEEP, min(left, self._longest)) + apart

    async def _try(self, job: Job) -> bool:
        """Take the job and run it; False if another worker was faster."""
        now = self._clock.now()
        until = self._after(now, job.lease)
        lease = await self._mail.write_later(jobs.take, job.name, self._holder, now, until)
        if lease is None:
            return False
        try:
            more = await self._pieces(job, lease)
        except asyncio.CancelledError:
            await self._mail.write_later(jobs.release, lease)
            raise
        except _LeaseLost:
            _log.warning("a job was taken over", job=job.name)
        except Exception as error:
            await self._failed(job, lease, error)
        else:
            now = self._clock.now()
            due = now if more else self._after(now, job.every)
            await self._mail.write_later(jobs.done, lease, now, due)
        return True

    async def _pieces(self, job: Job, lease: JobLease) -> bool:
        """Run pieces while there is more to do and time for it; whether more is left."""
        ends = self._clock.monotonic() + self._budget
        while True:
            began = self._clock.monotonic()
            async with asyncio.timeout(job.lease):
                more = await job.run(self._house)
            RUNS.add(label=job.name)
            SECONDS.observe(self._clock.monotonic() - began)
            if not more or self._clock.monotonic() >= ends:
                return more
            until = self._after(self._clock.now(), job.lease)
            if not await self._mail.write_later(jobs.extend, lease, until):
                raise _LeaseLost

    async def _failed(self, job: Job, lease: JobLease, error: Exception) -> None:
        FAILURES.add(label=job.name)
        wait = backoff(lease.attempts + 1)
        due = self._after(self._clock.now(), wait)
        detail = _told(error)
        known = isinstance(error, MailError | TimeoutError)
        _log.error("a job failed", job=job.name, reason=detail, again_in=wait, exc_info=not known)
        await self._mail.write_later(jobs.failed, lease, due, detail)

    def _after(self, now: Instant, seconds: float) -> Instant:
        return Instant(now + round(seconds * 1000))


def _told(error: Any) -> str:
    if isinstance(error, TimeoutError):
        return "a piece took longer than the lease"
    if isinstance(error, MailError):
        return error.detail or str(error)
    return f"{type(error).__name__}: {error}"
