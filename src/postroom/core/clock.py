"""One clock for all: passed in, never fetched. Tests turn it by hand (postroom.testing)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NewType, Protocol

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00:00Z, without leap seconds."""


class Clock(Protocol):
    """Wall time for records, monotonic time for waits: a clock jump moves no timeout."""

    def now(self) -> Instant: ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> Instant:
        return Instant(time.time_ns() // 1_000_000)

    def monotonic(self) -> float:
        return time.monotonic()


def to_datetime(at: Instant) -> datetime:
    """The instant as an aware datetime in UTC."""
    return datetime.fromtimestamp(at / 1000, tz=UTC)


def from_datetime(at: datetime) -> Instant:
    """The instant of an aware datetime; raises ValueError for a naive one."""
    if at.tzinfo is None:
        raise ValueError("a naive datetime names no instant")
    return Instant(int(at.timestamp() * 1000))


def iso(at: Instant) -> str:
    """RFC 3339 with milliseconds: 2026-11-22T15:18:00.000Z."""
    return to_datetime(at).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at % 1000:03d}Z"
