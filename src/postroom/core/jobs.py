"""Jobs, declared once: a typed function with a name, a schedule, a lease and retries.

`server` runs them. A scheduled job runs on one worker of all at a time, under a lease that it
must finish within; a job that did a piece of its work says so and runs again at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Job:
    """One declared job. `run(house)` does a piece and says whether more is to be done."""

    name: str
    every: float  # seconds between rounds
    lease: float  # seconds after which another worker may take it
    summary: str
    run: Callable[[Any], Awaitable[bool]]


JOBS: Final[dict[str, Job]] = {}
"""Every declared job by name; complete once the rooms are imported."""


def job(
    name: str, *, every: float, lease: float = 300.0
) -> Callable[[Callable[[H], Awaitable[bool]]], Callable[[H], Awaitable[bool]]]:
    """Register a job under its name; its docstring is the manual's text."""

    def register(function: Callable[[H], Awaitable[bool]]) -> Callable[[H], Awaitable[bool]]:
        if name in JOBS:
            raise ValueError(f"job {name} is declared twice")
        JOBS[name] = Job(name, every, lease, (function.__doc__ or "").strip(), function)
        return function

    return register
