"""The values that the rest of the bench exchanges: targets, measures, samples, options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Protocol

import psutil

DOMAIN = "bench.example"
ACCOUNTS = tuple(f"user{number}@{DOMAIN}" for number in range(10))
PASSWORD = "violet-Harbour-93-lantern"


class BenchError(Exception):
    """A target could not be started, or answered what makes the measurement worthless."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener is, on loopback."""

    host: str
    port: int


class Target(Protocol):
    """A server under measurement, in a directory of its own."""

    name: str
    smtp: Endpoint | None
    imap: Endpoint | None
    imaps: Endpoint | None

    def missing(self) -> str | None:
        """Why this target cannot run here, or None."""

    def start(self, directory: Path) -> None:
        """Start with empty stores and return once every listener accepts.

        Raises BenchError.
        """

    def stop(self) -> None:
        """End every process that `start` began; safe to call twice."""

    def restart_cold(self) -> None:
        """Stop, drop this target's files from the page cache, start on the same stores."""

    def settle(self) -> None:
        """Wait until accepted mail has left the queue and nothing runs in the background."""

    def processes(self) -> list[psutil.Process]:
        """Every process of the server, now."""


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much. `quick` keeps a whole run within a few minutes."""

    quick: bool
    repeats: int
    seconds: float  # of each closed-loop run
    messages: int  # in the mailbox that is fetched and searched
    huge: int  # messages in the mailbox that is only opened
    idle: int  # connections held open
    only: frozenset[str] = frozenset()  # names of targets; empty means all
    directory: Path | None = None  # where targets keep their files; None is the system's choice

    @classmethod
    def make(cls, quick: bool, repeats: int | None) -> Options:
        if quick:
            return cls(True, repeats or 3, 2.5, 10_000, 20_000, 500)
        return cls(False, repeats or 5, 10.0, 10_000, 200_000, 500)


@dataclass(frozen=True, slots=True)
class Goal:
    """What ARCHITECTURE.md §9 asks: at least `factor` times as good as `peer`, or a bound.

    With neither, the ratio to the peer is shown and nothing is asked.
    """

    peer: str  # the target compared with
    factor: float | None = None
    at_most: float | None = None  # in the measure's unit
    words: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """One row of the report. `higher` says which way is better."""

    key: str
    title: str
    unit: str
    higher: bool
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one measure of one run; `notes` explain it (p50, p99, client's share)."""

    value: float
    notes: Mapping[str, float] = field(default_factory=dict)


Samples = dict[str, Sample]  # by measure key


class Workload(Protocol):
    """What is measured. It keeps no state of its own: what `prepare` leaves is in the target."""

    @property
    def name(self) -> str:
        """How the command line calls it."""

    @property
    def targets(self) -> Sequence[Callable[[], Target]]:
        """What it runs on, Postroom first."""

    @property
    def measures(self) -> Sequence[Measure]:
        """The rows that it yields, in order."""

    def prepare(self, target: Target, options: Options) -> None:
        """Fill the stores; not measured."""

    def once(self, target: Target, options: Options, repeat: int) -> Samples:
        """One round. May leave out a measure in some rounds."""


@dataclass(slots=True)
class Row:
    """A measure of a target over all rounds."""

    workload: str
    measure: Measure
    target: str
    samples: list[Sample]
    ratio: float | None = None  # how many times as good as the goal's peer

    @property
    def value(self) -> float:
        return median(sample.value for sample in self.samples)

    @property
    def spread(self) -> tuple[float, float]:
        values = [sample.value for sample in self.samples]
        return min(values), max(values)

    def note(self, key: str) -> float | None:
        """The median of a note over the rounds that have it."""
        values = [sample.notes[key] for sample in self.samples if key in sample.notes]
        return median(values) if values else None


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `ordered` lies, nearest rank.

    Raises ValueError for an empty sequence.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
