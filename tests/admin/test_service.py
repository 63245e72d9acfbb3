"""Operations on the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import postroom
from postroom.admin import CheckReport, ServerView, WorkerView
from postroom.admin.questions import FindMetrics, MetricsFound
from postroom.core import jobs as declared
from postroom.core import metrics
from postroom.core.bus import Answers, Missing, Question
from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.core.jobs import job
from postroom.domain import jobs
from tests.admin.housing import Admin


async def test_a_sound_store_checks_clean(admin: Admin) -> None:
    await admin.do("account create", address="ann@example.org")
    report = await admin.json("check")
    assert report.problems == ()
    assert report.counts["accounts"] == 1
    assert report.told().endswith("All is well.")


async def test_problems_are_told(admin: Admin) -> None:
    async def look(repair: bool) -> CheckReport:
        return CheckReport(("blob b1 is gone",), {"blobs": 2}, ("counted anew",) if repair else ())

    admin.house = replace(admin.house, check=look)
    told = (await admin.json("check", repair=True)).told().splitlines()
    assert told == [
        "Looked at 2 blobs.",
        "put right: counted anew",
        "PROBLEM: blob b1 is gone",
        "1 problem.",
    ]


async def test_status_without_a_server(admin: Admin) -> None:
    shown = await admin.json("status")
    assert (shown.version, shown.state, shown.domains) == (postroom.__version__, "not running", 1)
    assert (shown.workers, dict(shown.metrics)) == ((), {})


async def test_status_of_a_server_shows_workers_and_metrics(admin: Admin) -> None:
    running = ServerView(
        "ready",
        (WorkerView(0, 4711, "ready", 2),),
        ("smtp 127.0.0.1:20025",),
        (WorkerView(1, 4712, "ready", 0),),
    )

    async def ask(question: Question[Any], deadline: float = 5) -> Answers[Any]:
        assert question == FindMetrics()
        each = MetricsFound(metrics.snapshot())
        return Answers({0: each, 1: each}, {2: Missing.LATE})

    admin.house = replace(admin.house, server=lambda: running, ask=ask)
    shown = await admin.json("status")
    assert (shown.state, shown.workers) == ("ready", running.workers)
    asked = metrics.snapshot()["admin.operations"]["values"]["status"]
    assert shown.metrics["admin.operations"]["values"]["status"] == 2 * asked
    told = shown.told()
    assert "WITHOUT worker 2: it did not answer in time" in told
    assert "worker 0: ready, process 4711, died 2 times" in told
    assert "background work: ready, process 4712, died 0 times" in told
    assert "listens: smtp 127.0.0.1:20025" in told
    assert "admin.operations{operation=status}" in told
    assert "auth.hashing" not in told or "on average" in told


@pytest.fixture
def sweep() -> Iterator[None]:
    before = dict(declared.JOBS)
    declared.JOBS.clear()

    @job("sweep", every=600.0)
    async def run(house: object) -> bool:
        """Sweep the floor. Thoroughly."""
        return False

    yield
    declared.JOBS.clear()
    declared.JOBS.update(before)


@pytest.mark.usefixtures("sweep")
async def test_jobs_show_when_they_are_due_and_how_they_went(admin: Admin) -> None:
    (new,) = await admin.json("jobs list")
    assert (new.job, new.every, new.last_done) == ("sweep", 600.0, "never")
    mail, now = admin.stores.mail, admin.clock.now()
    await mail.write(jobs.ensure, {"sweep": now})
    lease = await mail.write(jobs.take, "sweep", 1, now, Instant(now + 60_000))
    assert lease is not None
    assert (await admin.json("jobs list"))[0].due == "running"
    await mail.write(jobs.failed, lease, Instant(now + 5_000), "no broom")
    (failed,) = await admin.json("jobs list")
    assert (failed.failures, failed.last_error) == (1, "no broom")
    assert failed.due.startswith("2026-01-01T00:00:06")


@pytest.mark.usefixtures("sweep")
async def test_a_job_can_be_told_to_run_now(admin: Admin) -> None:
    mail, now = admin.stores.mail, admin.clock.now()
    first = await admin.json("jobs run", name="sweep")
    assert first.due.startswith("2026-01-01T00:00:01")
    assert await mail.read(jobs.due, ["sweep"], now) == ["sweep"]
    lease = await mail.write(jobs.take, "sweep", 1, now, Instant(now + 60_000))
    assert lease is not None
    assert (await admin.do("jobs run", name="sweep")).due == "running"
    later = Instant(now + 600_000)
    assert await mail.write(jobs.done, lease, now, later), "what runs is not disturbed"
    assert await mail.read(jobs.due, ["sweep"], now) == []
    await admin.do("jobs run", name="sweep")
    assert await mail.read(jobs.due, ["sweep"], now) == ["sweep"]
    with pytest.raises(NotFound):
        await admin.do("jobs run", name="paint")
