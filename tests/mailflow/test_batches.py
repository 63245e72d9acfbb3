"""When what nobody waits for is written."""

from __future__ import annotations

import asyncio

from postroom.mailflow.batches import Soon


class Gatherer:
    def __init__(self, seconds: float, most: int) -> None:
        self.soon = Soon(seconds, most)
        self.held = 0
        self.written: list[int] = []

    def note(self, number: int = 1) -> None:
        self.held += number
        self.soon.gathered(self.held, self.flush)

    def flush(self) -> None:
        self.soon.written()
        self.written.append(self.held)
        self.held = 0


async def test_the_first_of_a_batch_sets_its_time() -> None:
    gatherer = Gatherer(0.01, 100)
    gatherer.note()
    gatherer.note()
    assert gatherer.written == []
    await asyncio.sleep(0.05)
    assert gatherer.written == [2]
    gatherer.note()
    await asyncio.sleep(0.05)
    assert gatherer.written == [2, 1]


async def test_a_full_batch_does_not_wait_and_leaves_no_timer() -> None:
    gatherer = Gatherer(0.01, 3)
    for _ in range(3):
        gatherer.note()
    assert gatherer.written == [3]
    await asyncio.sleep(0.05)
    assert gatherer.written == [3]


async def test_nothing_is_no_batch() -> None:
    gatherer = Gatherer(0.01, 3)
    gatherer.note(0)
    await asyncio.sleep(0.05)
    assert gatherer.written == []
