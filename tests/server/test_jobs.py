"""postroom.server.jobs: one worker at a time, retries, budgets; on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import Busy
from postroom.core.jobs import Job
from postroom.domain import jobs
from postroom.domain.jobs import JobState
from postroom.server.jobs import JobRunner, backoff
from postroom.testing.clock import ManualClock
from tests.stores import Stores

Piece = Callable[[object], Awaitable[bool]]


def runner(
    stores: Stores,
    clock: ManualClock,
    piece: Piece,
    *,
    holder: int = 1,
    budget: float = 20.0,
    lease: float = 60.0,
) -> JobRunner:
    declared = {"sweep": Job("sweep", 600.0, lease, "Sweep.", piece)}
    return JobRunner("house", stores.mail, clock, holder, declared=declared, budget=budget)


async def state(stores: Stores) -> JobState:
    (only,) = await stores.mail.read(jobs.states)
    return only


async def begin(stores: Stores, clock: ManualClock) -> None:
    await stores.mail.write(jobs.ensure, {"sweep": clock.now()})


class Counted:
    """A job of some pieces, which counts how often it was run."""

    def __init__(self, pieces: int = 1, clock: ManualClock | None = None, takes: float = 0) -> None:
        self.left = pieces
        self.ran = 0
        self._clock = clock
        self._takes = takes

    async def __call__(self, house: object) -> bool:
        assert house == "house"
        self.ran += 1
        self.left -= 1
        if self._clock is not None:
            self._clock.advance(self._takes)
        return self.left > 0


async def test_a_job_runs_when_it_is_due_and_not_before(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    job = Counted()
    mine = runner(stores, clock, job)
    assert await mine.round() == 1
    assert await mine.round() == 0
    clock.advance(599)
    assert await mine.round() == 0
    clock.advance(2)
    assert await mine.round() == 1
    assert job.ran == 2
    after = await state(stores)
    assert (after.attempts, after.last_error, after.last_done) == (0, "", clock.now())
    assert after.due == clock.now() + 600_000


async def test_pieces_run_at_once_up_to_the_budget(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    job = Counted(pieces=10, clock=clock, takes=3.0)
    mine = runner(stores, clock, job, budget=10.0)
    await mine.round()
    assert job.ran == 4
    assert (await state(stores)).due == clock.now()  # the rest is due at once, for anybody
    await mine.round()
    await mine.round()
    assert job.ran == 10
    assert (await state(stores)).due == clock.now() + 600_000


async def test_only_one_worker_runs_a_job_at_a_time(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    inside, most, ran = 0, 0, 0

    async def piece(house: object) -> bool:
        nonlocal inside, most, ran
        inside += 1
        ran += 1
        most = max(most, inside)
        await asyncio.sleep(0.05)
        inside -= 1
        return False

    workers = [runner(stores, clock, piece, holder=n) for n in range(1, 6)]
    assert sum(await asyncio.gather(*(worker.round() for worker in workers))) == 1
    assert (most, ran) == (1, 1)


async def test_a_job_that_fails_is_tried_again_later_and_later(
    stores: Stores, clock: ManualClock
) -> None:
    await begin(stores, clock)
    ran = 0

    async def piece(house: object) -> bool:
        nonlocal ran
        ran += 1
        if ran <= 2:
            raise Busy(detail="the disk is slow")
        if ran == 3:
            raise ValueError("a mistake of ours")
        return False

    mine = runner(stores, clock, piece)
    for attempts, wait, said in ((1, 5, "the disk is slow"), (2, 10, "slow"), (3, 20, "mistake")):
        await mine.round()
        after = await state(stores)
        assert (after.attempts, after.due) == (attempts, clock.now() + wait * 1000)
        assert said in after.last_error
        assert after.lease == 0
        clock.advance(wait + 1)
    await mine.round()
    after = await state(stores)
    assert (after.attempts, after.last_error) == (0, "")


def test_backoff_doubles_up_to_an_hour() -> None:
    assert [backoff(n) for n in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert backoff(11) == backoff(10_000) == 3600


async def test_a_piece_that_outlives_its_lease_is_stopped(
    stores: Stores, clock: ManualClock
) -> None:
    await begin(stores, clock)

    async def piece(house: object) -> bool:
        await asyncio.sleep(30)
        return False

    await runner(stores, clock, piece, lease=0.05).round()
    assert "longer than the lease" in (await state(stores)).last_error


async def test_the_lease_of_a_dead_worker_runs_out(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    dead = await stores.mail.write(
        jobs.take, "sweep", 1, clock.now(), Instant(clock.now() + 60_000)
    )
    assert dead is not None
    job = Counted()
    mine = runner(stores, clock, job, holder=2)
    assert await mine.round() == 0
    clock.advance(61)
    assert await mine.round() == 1
    # The dead worker was only slow: what it says now counts for nothing.
    assert not await stores.mail.write(jobs.done, dead, clock.now(), clock.now())
    assert not await stores.mail.write(jobs.failed, dead, clock.now(), "too late")
    assert (await state(stores)).last_error == ""


async def test_the_leases_of_a_dead_worker_can_be_freed_at_once(
    stores: Stores, clock: ManualClock
) -> None:
    await begin(stores, clock)
    await stores.mail.write(jobs.take, "sweep", 1, clock.now(), Instant(clock.now() + 60_000))
    assert await stores.mail.write(jobs.release_all_of, 2) == 0
    assert await stores.mail.write(jobs.release_all_of, 1) == 1
    assert await runner(stores, clock, Counted(), holder=2).round() == 1


async def test_a_worker_that_lost_its_lease_stops(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    ran = 0

    async def piece(house: object) -> bool:
        nonlocal ran
        ran += 1
        await stores.mail.write(jobs.release_all_of, 1)
        return True

    await runner(stores, clock, piece).round()
    assert ran == 1


async def test_cancelling_gives_the_job_back_as_it_was(stores: Stores, clock: ManualClock) -> None:
    await begin(stores, clock)
    started = asyncio.Event()

    async def piece(house: object) -> bool:
        started.set()
        await asyncio.sleep(30)
        return False

    running = asyncio.create_task(runner(stores, clock, piece).run())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    after = await state(stores)
    assert (after.lease, after.holder, after.attempts) == (0, 0, 0)
    assert after.due == clock.now()


async def test_the_loop_makes_rows_and_runs_what_is_due(stores: Stores, clock: ManualClock) -> None:
    ran = asyncio.Event()

    async def piece(house: object) -> bool:
        ran.set()
        return False

    running = asyncio.create_task(runner(stores, clock, piece).run())
    while not await stores.mail.read(jobs.states):
        await asyncio.sleep(0.01)
    assert not ran.is_set() or (await state(stores)).due <= clock.now()
    clock.advance(61)  # a new job is first due within a minute
    # The loop sleeps by the machine's time; a fresh one looks at once.
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    again = asyncio.create_task(runner(stores, clock, piece).run())
    async with asyncio.timeout(5):
        await ran.wait()
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again


async def test_the_loop_outlives_a_store_that_fails(clock: ManualClock) -> None:
    asked = 0

    class Broken:
        async def write_later(self, *args: object) -> None:
            nonlocal asked
            asked += 1
            raise Busy(detail="no room")

    made = JobRunner("house", Broken(), clock, 1, declared={})  # type: ignore[arg-type]  # only what is called
    running = asyncio.create_task(made.run())
    await asyncio.sleep(0.05)
    assert asked == 1
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_runner_that_is_woken_looks_at_once(stores: Stores, clock: ManualClock) -> None:
    ran = asyncio.Event()

    async def piece(house: object) -> bool:
        ran.set()
        return False

    await stores.mail.write(jobs.ensure, {"sweep": Instant(clock.now() + 1_000_000)})
    mine = runner(stores, clock, piece)
    running = asyncio.create_task(mine.run())
    try:
        await asyncio.sleep(0.1)
        assert not ran.is_set()
        await stores.mail.write(jobs.hasten, "sweep", clock.now())
        mine.wake()
        await asyncio.wait_for(ran.wait(), 5)
    finally:
        running.cancel()
