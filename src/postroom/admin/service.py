"""Operations on the server itself: check, status, jobs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from postroom import __version__
from postroom.admin import scheduled
from postroom.admin.directory import Nothing
from postroom.admin.house import AdminHouse, CheckReport, WorkerView
from postroom.admin.questions import FindMetrics
from postroom.admin.sessions import MissingWorker, who_is_missing
from postroom.core import metrics
from postroom.core.clock import Instant, iso
from postroom.core.errors import NotFound
from postroom.core.jobs import JOBS
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain import jobs, queue
from postroom.domain.directory import people
from postroom.domain.jobs import JobState
from postroom.mailflow.upkeep import JOBS_DECLARED
from postroom.store.sql import Tx


@dataclass(frozen=True, slots=True)
class CheckHow:
    """How to check."""

    repair: bool = argument("Put right what can be derived: counters and parses", default=False)


@operation("check", Role.ADMIN)
async def check(house: AdminHouse, asked: CheckHow) -> CheckReport:
    """Verify every hash, counter and reference of the store, beside a running server."""
    return await house.check(asked.repair)


# --- status -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusView:
    """How the server is."""

    version: str
    python: str
    state: str
    hostname: str
    listeners: tuple[str, ...]
    workers: tuple[WorkerView, ...]
    domains: int
    waiting_messages: int
    waiting_recipients: int
    metrics: Mapping[str, Any]  # of all workers; empty without a server
    missing: tuple[MissingWorker, ...] = ()
    warnings: tuple[str, ...] = ()
    background: tuple[WorkerView, ...] = ()  # the process that does what takes long

    def told(self) -> str:
        lines = [
            *(f"WARNING: {each}" for each in self.warnings),
            f"Postroom {self.version} on Python {self.python}: {self.state}",
            f"{self.hostname}, {counted(self.domains, 'domain')}; waiting: "
            f"{counted(self.waiting_recipients, 'recipient')} of "
            f"{counted(self.waiting_messages, 'message')}",
            *(f"listens: {each}" for each in self.listeners),
            *(_process(f"worker {each.worker}", each) for each in self.workers),
            *(_process("background work", each) for each in self.background),
        ]
        if self.metrics:
            lines.append("metrics of all workers:")
        for name, metric in self.metrics.items():
            for label, value in metric["values"].items():
                of = f"{{{metric['label']}={label}}}" if label else ""
                lines.append(f"  {name}{of} {_number(value)} {metric['unit']}")
        lines += [each.told() for each in self.missing]
        return "\n".join(lines)


def _process(name: str, view: WorkerView) -> str:
    deaths = counted(view.deaths, "time")
    return f"{name}: {view.state}, process {view.process}, died {deaths}"


def _number(value: object) -> str:
    if isinstance(value, Mapping):
        mean = value["sum"] / value["count"]
        return f"{counted(value['count'], 'time')}, on average {mean:.4g}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _look(tx: Tx) -> tuple[int, Mapping[str, Any], str]:
    return len(people.domains(tx)), queue.counts(tx), scheduled.failing(tx)


@operation("status", Role.ADMIN, changes=False)
async def status(house: AdminHouse, asked: Nothing) -> StatusView:
    """Show the version, the workers, what waits, and what all workers together have counted."""
    flow = house.flow
    domains, waiting, failing = await flow.mail.read(_look)
    server = house.server()
    counted: Mapping[str, Any] = {}
    missing: tuple[MissingWorker, ...] = ()
    if server is not None:
        answers = await house.ask(FindMetrics())
        counted = metrics.merged({w: found.metrics for w, found in answers.by.items()})
        missing = who_is_missing(answers)
    return StatusView(
        version=__version__,
        python=platform.python_version(),
        state=server.state if server is not None else "not running",
        hostname=flow.hostname,
        listeners=server.listeners if server is not None else (),
        workers=server.workers if server is not None else (),
        domains=domains,
        waiting_messages=int(waiting.get("messages", 0)),
        waiting_recipients=int(waiting.get("recipients", 0)),
        metrics=counted,
        missing=missing,
        warnings=(failing,) if failing else (),
        background=server.background if server is not None else (),
    )


# --- jobs -------------------------------------------------------------------------------------

DECLARED: Final = JOBS_DECLARED
"""Jobs of a room that only a worker opens; a command on a stopped server knows them too."""


@dataclass(frozen=True, slots=True)
class JobView:
    """A declared job."""

    job: str
    every: float  # seconds
    due: str
    last_done: str
    failures: int  # since it went well
    last_error: str
    does: str


@operation("jobs list", Role.ADMIN, changes=False)
async def list_jobs(house: AdminHouse, asked: Nothing) -> tuple[JobView, ...]:
    """List the jobs that run by themselves: when each is due and how it went."""
    held = {state.name: state for state in await house.flow.mail.read(jobs.states)}
    return tuple(
        _job_view(name, job.every, job.summary, held.get(name))
        for name, job in sorted(JOBS.items())
    )


@dataclass(frozen=True, slots=True)
class RunJob:
    """One job."""

    name: str = argument("The job's name, as `jobs list` shows it")


@operation("jobs run", Role.ADMIN)
async def run_job(house: AdminHouse, asked: RunJob) -> JobView:
    """Let a job run now and not when it is due: a running server begins it within half a minute,
    a stopped one when it starts. One that runs already goes on."""
    declared = JOBS.get(asked.name)
    if declared is None:
        raise NotFound(f"There is no job {asked.name}")
    now = house.flow.clock.now()

    def unit(tx: Tx) -> JobState | None:
        jobs.ensure(tx, {asked.name: now})
        jobs.hasten(tx, asked.name, now)
        return next((state for state in jobs.states(tx) if state.name == asked.name), None)

    held = await house.flow.mail.write(unit)
    return _job_view(asked.name, declared.every, declared.summary, held)


def _job_view(name: str, every: float, summary: str, held: JobState | None) -> JobView:
    does = summary.partition("\n")[0]
    if held is None:
        return JobView(name, every, "when the server starts", "never", 0, "", does)
    due = "running" if held.lease else iso(held.due)
    return JobView(name, every, due, _when(held.last_done), held.attempts, held.last_error, does)


def _when(at: Instant) -> str:
    return iso(at) if at else "never"
