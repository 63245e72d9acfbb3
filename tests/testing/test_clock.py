"""The manual clock."""

from __future__ import annotations

import pytest

from postroom.core.clock import Clock, iso
from postroom.testing.clock import ManualClock


def test_it_stands_still_until_it_is_turned(clock: ManualClock) -> None:
    seen: Clock = clock  # it is one, for mypy and for us
    assert seen.now() == seen.now()
    assert seen.monotonic() == seen.monotonic()
    assert iso(seen.now()) == "2026-01-01T00:00:00.000Z"


def test_time_that_passes_moves_both_hands(clock: ManualClock) -> None:
    wall, monotonic = clock.now(), clock.monotonic()
    assert clock.advance(1.5) == wall + 1500
    assert clock.now() == wall + 1500
    assert clock.monotonic() == monotonic + 1.5


def test_many_small_steps_lose_nothing(clock: ManualClock) -> None:
    wall, monotonic = clock.now(), clock.monotonic()
    for _ in range(1000):
        clock.advance(0.001)
    assert clock.now() - wall == 1000
    assert clock.monotonic() == monotonic + 1


def test_a_jump_moves_the_wall_alone_and_may_go_back(clock: ManualClock) -> None:
    wall, monotonic = clock.now(), clock.monotonic()
    assert clock.jump(-3600) == wall - 3_600_000
    assert clock.now() == wall - 3_600_000
    assert clock.monotonic() == monotonic


def test_time_does_not_pass_backwards(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="jump"):
        clock.advance(-1)
