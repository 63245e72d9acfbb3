from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from itertools import pairwise

from postroom.net.wheel import TimerWheel

TICK = 0.02


class Sleeper:
    def __init__(self, act: Callable[[float], float] = lambda now: math.inf) -> None:
        self.slot: int | None = None
        self.woken: list[float] = []
        self.act = act

    def on_tick(self, now: float) -> float:
        self.woken.append(now)
        return self.act(now)


async def test_a_sleeper_wakes_after_its_deadline_and_within_a_tick() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    sleepers = [(wheel.time() + n / 100, Sleeper()) for n in range(1, 20)]
    for at, sleeper in sleepers:
        wheel.wake(sleeper, at)
    await asyncio.sleep(0.4)
    for at, sleeper in sleepers:
        assert len(sleeper.woken) == 1
        assert 0 <= sleeper.woken[0] - at < 0.1  # a tick, and a busy machine


async def test_a_sleeper_that_wants_more_is_woken_again() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    sleeper = Sleeper(lambda now: now + 0.05 if len(sleeper.woken) < 3 else math.inf)
    wheel.wake(sleeper, wheel.time())
    await asyncio.sleep(0.4)
    assert len(sleeper.woken) == 3
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(sleeper.woken))


async def test_the_earliest_wish_counts() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    sleeper = Sleeper()
    wheel.wake(sleeper, wheel.time() + 60)
    wheel.wake(sleeper, wheel.time() + 0.01)
    wheel.wake(sleeper, wheel.time() + 30)
    await asyncio.sleep(0.15)
    assert len(sleeper.woken) == 1


async def test_who_is_forgotten_sleeps_on_and_is_not_held() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    sleeper = Sleeper()
    wheel.wake(sleeper, wheel.time() + 0.01)
    wheel.forget(sleeper)
    await asyncio.sleep(0.1)
    assert sleeper.woken == []
    assert sleeper.slot is None


async def test_one_failing_sleeper_wakes_nobody_less() -> None:
    loop = asyncio.get_running_loop()
    reported: list[object] = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def fail(now: float) -> float:
        raise LookupError("no")

    wheel = TimerWheel(loop, tick=TICK)
    sleepers = [Sleeper(fail), Sleeper(), Sleeper(fail), Sleeper()]
    for sleeper in sleepers:
        wheel.wake(sleeper, wheel.time() + 0.01)
    await asyncio.sleep(0.1)
    assert [len(s.woken) for s in sleepers] == [1, 1, 1, 1]
    assert [type(error) for error in reported] == [LookupError, LookupError]


async def test_waking_others_from_a_tick_is_safe() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    second = Sleeper()
    third = Sleeper()

    def act(now: float) -> float:
        wheel.forget(second)
        wheel.wake(third, now)
        return math.inf

    first = Sleeper(act)
    at = wheel.time() + 0.01
    wheel.wake(first, at)
    wheel.wake(second, at + 0.03)
    await asyncio.sleep(0.2)
    assert (len(first.woken), len(second.woken), len(third.woken)) == (1, 0, 1)


async def test_a_stalled_loop_wakes_everybody_once_afterwards() -> None:
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    sleepers = [Sleeper() for _ in range(3)]
    for n, sleeper in enumerate(sleepers):
        wheel.wake(sleeper, wheel.time() + 0.05 * (n + 1))
    time.sleep(0.4)
    await asyncio.sleep(0.1)
    assert [len(s.woken) for s in sleepers] == [1, 1, 1]
