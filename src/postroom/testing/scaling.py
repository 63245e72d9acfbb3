"""How the cost of code grows with its input: for tests of parsers that strangers feed.

A machine that is busy with something else makes any one measurement too long, never too short.
So each cost is the least of several, and a test fails only if none of them will do.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final, TypeVar

TRIES: Final = 6
SLACK: Final = 3.0
"""Times the proportional cost: caches and allocation grow a little faster than what they hold."""
FLOOR: Final = 0.02
"""Seconds that no clock and no allocator can be held to."""

T = TypeVar("T")


def cpu_seconds(run: Callable[[], object], *, enough: float = 0.0, tries: int = TRIES) -> float:
    """The least CPU time of this thread over `tries`; no more of them once it is below `enough`."""
    best = float("inf")
    collecting = gc.isenabled()
    gc.disable()  # a collection costs what the rest of the process holds
    try:
        for _ in range(tries):
            start = time.thread_time()
            run()
            best = min(best, time.thread_time() - start)
            if best < enough:
                break
    finally:
        if collecting:
            gc.enable()
    return best


def grows_linearly(run: Callable[[T], object], small: T, large: T, times: float) -> bool:
    """Whether `run` costs no more than in proportion for what is `times` as large."""
    limit = SLACK * times * cpu_seconds(lambda: run(small), tries=3) + FLOOR
    return cpu_seconds(lambda: run(large), enough=limit) < limit
