"""postroom.core.bus: told here, each listener once, and nobody kept up by another."""

from __future__ import annotations

import asyncio
import timeit
from dataclasses import dataclass

import pytest

from postroom.core.bus import Bus, Missing, NoAnswer, Question, gathered


@dataclass(frozen=True)
class Grew:
    plant: int
    height: int


@dataclass(frozen=True)
class Rained:
    pass


def garden() -> Bus[Grew]:
    def taller(a: Grew, b: Grew) -> Grew:
        return Grew(a.plant, max(a.height, b.height))

    return Bus(Grew, lambda e: e.plant, taller)


def test_listeners_hear_their_kind_and_watchers_their_key() -> None:
    bus = garden()
    all_growth: list[Grew] = []
    rain: list[Rained] = []
    rose: list[Grew] = []
    bus.subscribe(Grew, all_growth.append)
    bus.subscribe(Rained, rain.append)
    bus.watch(1, rose.append)
    bus.tell([Grew(1, 5), Rained(), Grew(2, 7), "unknown to all"])
    assert all_growth == [Grew(1, 5), Grew(2, 7)]
    assert rain == [Rained()]
    assert rose == [Grew(1, 5)]


def test_a_batch_tells_each_watcher_once() -> None:
    bus = garden()
    rose: list[Grew] = []
    rain: list[Rained] = []
    bus.watch(1, rose.append)
    bus.subscribe(Rained, rain.append)
    bus.tell([Grew(1, 5), Rained(), Grew(1, 9), Grew(1, 7), Rained()])
    assert rose == [Grew(1, 9)]
    assert rain == [Rained()]


def test_who_unsubscribed_hears_nothing_and_leaves_nothing_behind() -> None:
    bus = garden()
    heard: list[Grew] = []
    one, two = bus.watch(1, heard.append), bus.watch(1, heard.append)
    bus.tell([Grew(1, 5)])
    one()
    one()
    bus.tell([Grew(1, 6)])
    two()
    bus.tell([Grew(1, 7)])
    assert heard == [Grew(1, 5), Grew(1, 5), Grew(1, 6)]
    assert not bus._watchers


def test_a_listener_may_end_its_own_subscription_and_begin_another() -> None:
    bus = garden()
    heard: list[str] = []

    def once(event: Rained) -> None:
        heard.append("once")
        leave()
        bus.subscribe(Rained, lambda later: heard.append("later"))

    leave = bus.subscribe(Rained, once)
    bus.tell([Rained()])
    bus.tell([Rained()])
    assert heard == ["once", "later"]


def test_a_listener_that_fails_keeps_nobody_up() -> None:
    bus = garden()
    heard: list[Rained] = []

    def broken(event: Rained) -> None:
        raise RuntimeError("broken")

    bus.subscribe(Rained, broken)
    bus.subscribe(Rained, heard.append)
    bus.tell([Rained()])
    assert heard == [Rained()]


def test_an_overflow_is_told_to_those_who_compare() -> None:
    bus = garden()
    told: list[str] = []
    leave = bus.on_overflow(lambda: told.append("a"))
    bus.on_overflow(lambda: told.append("b"))
    bus.overflowed()
    leave()
    bus.overflowed()
    assert told == ["a", "b", "b"]


def test_a_watcher_costs_the_same_among_many() -> None:
    def seconds(watchers: int) -> float:
        bus = garden()
        for plant in range(watchers):
            bus.watch(plant, lambda event: None)
        return min(timeit.repeat(lambda: bus.tell([Grew(1, 5)]), number=2_000, repeat=5))

    assert seconds(50_000) < 5 * seconds(10)


@dataclass(frozen=True)
class HowTall(Question[int]):
    plant: int


async def height(asked: HowTall) -> int:
    return asked.plant * 2


async def test_a_question_is_answered_by_who_answers_its_kind() -> None:
    bus = garden()
    assert (await bus.ask(HowTall(4))).missing == {0: Missing.STRANGE}
    stop = bus.answer(HowTall, height)
    answers = await bus.ask(HowTall(4))
    assert (answers.by, answers.missing) == ({0: 8}, {})
    with pytest.raises(ValueError, match="HowTall"):
        bus.answer(HowTall, height)
    stop()
    stop()
    assert (await bus.ask(HowTall(4))).missing == {0: Missing.STRANGE}


async def test_an_answer_that_fails_is_missing_and_counted() -> None:
    bus = garden()

    async def broken(asked: HowTall) -> int:
        return asked.plant // 0

    bus.answer(HowTall, broken)
    assert (await bus.ask(HowTall(4))).missing == {0: Missing.FAILED}


async def test_answers_are_waited_for_together_and_only_for_so_long() -> None:
    cut = asyncio.Event()

    async def after(seconds: float, value: int) -> int:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            cut.set()
            raise
        return value

    async def gone() -> int:
        raise NoAnswer(Missing.GONE)

    began = asyncio.get_running_loop().time()
    pending = {0: after(0.05, 1), 1: after(0.05, 2), 2: after(60, 3), 3: gone()}
    answers = await gathered(HowTall(1), pending, 0.2)
    assert asyncio.get_running_loop().time() - began < 1
    assert answers.by == {0: 1, 1: 2}
    assert answers.missing == {2: Missing.LATE, 3: Missing.GONE}
    await asyncio.wait_for(cut.wait(), 1)  # who is late works no further for us
