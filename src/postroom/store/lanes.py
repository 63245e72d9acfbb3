"""What waits to be written: a line for each lane, taken by the threads of a writer."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from postroom.core.errors import Busy, ShuttingDown
from postroom.store.units import LANE_LIMITS, Lane

T = TypeVar("T")


class Lanes(Generic[T]):
    """Units in line. Persons go first, yet one unit of each lower lane goes in every round,
    so that none of them starves. A round is what the writer makes it.
    """

    __slots__ = ("_closing", "_lines", "_served", "_wake")

    def __init__(self) -> None:
        self._lines: dict[Lane, deque[T]] = {lane: deque() for lane in Lane}
        self._served: set[Lane] = set()
        self._wake = threading.Condition()
        self._closing = False

    def put(self, lane: Lane, unit: T, *, wake: bool = True) -> None:
        """Put a unit in line; raises Busy if the lane is full, ShuttingDown after `close`.

        Without `wake` it waits until somebody takes it, or `nudge` wakes those who wait.
        """
        with self._wake:
            if self._closing:
                raise ShuttingDown
            line = self._lines[lane]
            if len(line) >= LANE_LIMITS[lane]:
                raise Busy(detail=f"{len(line)} units wait in lane {lane.name}")
            line.append(unit)
            if wake:
                self._wake.notify()

    def wait(self) -> bool:
        """Wait until something is in line; False once it is closed and empty."""
        with self._wake:
            while not any(self._lines.values()):
                if self._closing:
                    return False
                self._wake.wait()
            return True

    def heads(self) -> list[T]:
        """What is first in each line that has something."""
        with self._wake:
            return [line[0] for line in self._lines.values() if line]

    def take(self) -> T | None:
        """The next unit of this round, None if nothing waits."""
        with self._wake:
            for lane in (Lane.BACKGROUND, Lane.MAIL):
                if lane not in self._served and self._lines[lane]:
                    self._served.add(lane)
                    return self._lines[lane].popleft()
            for line in self._lines.values():
                if line:
                    return line.popleft()
            return None

    def next_round(self) -> None:
        with self._wake:
            self._served.clear()

    def waiting(self) -> tuple[int, ...]:
        """How many units wait in each lane."""
        with self._wake:
            return tuple(len(line) for line in self._lines.values())

    def close(self) -> None:
        """Take no more; what waits is still handed out."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
