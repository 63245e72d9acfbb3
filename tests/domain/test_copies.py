"""Copies of signed messages: counts add up by mark and hour, and are forgotten."""

from __future__ import annotations

from postroom.core.clock import Instant
from postroom.domain import copies
from postroom.domain.copies import HOUR
from tests.stores import Stores

LARGEST = (1 << 63) - 1


async def test_counts_add_up_by_mark_and_hour(stores: Stores) -> None:
    state = stores.state
    await state.write(copies.add, {(1, 10): 2, (LARGEST, 10): 5})
    await state.write(copies.add, {(1, 10): 3, (1, 11): 1, (1, 9): 7})
    expected = {(1, 10): 5, (1, 11): 1, (LARGEST, 10): 5}
    assert await state.read(copies.of, (1, LARGEST, 3), 10) == expected
    assert await state.read(copies.of, (3,), 0) == {}
    assert await state.read(copies.of, (), 0) == {}


async def test_what_is_old_is_forgotten_in_pieces(stores: Stores) -> None:
    state = stores.state
    await state.write(copies.add, {(n, 10 + n % 2): 2 for n in range(1, 21)})
    assert await state.write(copies.forget, 11, 6) == 6
    assert await state.write(copies.forget, 11, 6) == 4
    assert await state.write(copies.forget, 11, 6) == 0
    left = await state.read(copies.of, tuple(range(1, 21)), 0)
    assert set(left) == {(n, 11) for n in range(1, 21, 2)}


def test_an_hour_begins_with_that_of_the_clock() -> None:
    assert copies.hour_of(Instant(5 * HOUR)) == 5
    assert copies.hour_of(Instant(5 * HOUR - 1)) == 4
