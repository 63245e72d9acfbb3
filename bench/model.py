"""The values that the rest of the bench exchanges: targets, measures, samples, options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Protocol

import psutil

from postroom.testing.corpus import average_10k

DOMAIN = "bench.example"
ACCOUNTS = tuple(f"user{number}@{DOMAIN}" for number in range(10))
PASSWORD = "violet-Harbour-93-lantern"


class BenchError(Exception):
    """A target could not be started, or answered what makes the measurement worthless."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a listener is, on loopback; `tls` if a handshake comes first."""

    host: str
    port: int
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Filling:
    """What an INBOX is filled with: `count` messages, the same octets for every target."""

    account: str
    count: int
    seed: int
    small: bool = False  # of about 400 octets; else the 10 KB corpus

    def messages(self) -> Iterator[bytes]:
        """The messages, made as they are asked for."""
        return small_messages(self.count) if self.small else average_10k(self.count, self.seed)


def small_messages(count: int) -> Iterator[bytes]:
    """Messages of about 400 octets: what is measured is their number."""
    for number in range(count):
        yield (
            b"From: Ann <ann@example.org>\r\nTo: Bob <bob@example.net>\r\n"
            b"Subject: Note %d\r\nDate: Mon, 12 Jan 2026 08:00:00 +0000\r\n"
            b"Message-ID: <%d@example.org>\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" % (number, number)
        ) + b"A short note.\r\n" * 10


class Target(Protocol):
    """A server under measurement, in a directory of its own."""

    name: str
    smtp: Endpoint | None
    imap: Endpoint | None  # where a client signs in: with TLS, unless the target's name says plain
    imap_plain: Endpoint | None  # where a client is greeted without TLS

    def missing(self) -> str | None:
        """Why this target cannot run here, or None."""

    def start(self, directory: Path) -> None:
        """Start with empty stores and return once every listener accepts.

        Raises BenchError.
        """

    def stop(self) -> None:
        """End every process that `start` began; safe to call twice."""

    def resume(self) -> None:
        """Start again on the stores that `stop` left; return once every listener accepts."""

    def restart_cold(self) -> None:
        """Stop, drop this target's files from the page cache, start on the same stores."""

    def fill(self, *fillings: Filling) -> None:
        """Put the messages into the accounts' INBOXes, the quickest honest way; not measured."""

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
    def make(cls, quick: bool, repeats: int | None, seconds: float | None = None) -> Options:
        if quick:
            return cls(True, repeats or 3, seconds or 2.5, 10_000, 20_000, 500)
        return cls(False, repeats or 5, seconds or 10.0, 10_000, 200_000, 500)


@dataclass(frozen=True, slots=True)
class Goal:
    """What docs/performance.md asks: at least `factor` times as good as `peer`, or a bound.

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
