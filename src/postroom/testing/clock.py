"""A clock that stands still until the test turns it."""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Instant

START: Final = Instant(1_767_225_600_000)  # 2026-01-01T00:00:00Z


class ManualClock:
    """A core.clock.Clock under the test's hand. Seconds may be fractions of whole milliseconds."""

    __slots__ = ("_monotonic_ms", "_now")

    def __init__(self, start: Instant = START) -> None:
        self._now: int = start
        # Not zero: code that confuses wall and monotonic time, or takes 0 for "never", shows.
        self._monotonic_ms: int = 1_000_000

    def now(self) -> Instant:
        return Instant(self._now)

    def monotonic(self) -> float:
        return self._monotonic_ms / 1000

    def advance(self, seconds: float) -> Instant:
        """Let time pass on both hands; returns the new wall time. Raises ValueError if negative."""
        if seconds < 0:
            raise ValueError("time does not go back; a wall clock may: jump()")
        step = round(seconds * 1000)
        self._now += step
        self._monotonic_ms += step
        return Instant(self._now)

    def jump(self, seconds: float) -> Instant:
        """Set the wall clock forward or back, as an operator or NTP does; waits do not feel it."""
        self._now += round(seconds * 1000)
        return Instant(self._now)

    def __repr__(self) -> str:
        return f"ManualClock(now={self._now}, monotonic={self.monotonic()})"
