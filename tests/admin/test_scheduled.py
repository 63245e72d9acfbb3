"""The backup that is taken by itself: when, how many stay, and who learns that it failed."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from postroom.admin.scheduled import BACKUP, BackupSettings, is_due, scheduled_backup
from postroom.core.clock import Instant, from_datetime
from postroom.core.errors import Misuse
from postroom.core.jobs import JOBS
from postroom.core.settings import declared
from postroom.domain import jobs
from postroom.server.jobs import JobRunner
from tests.admin.housing import Admin

HOUR = 3600


def at(text: str) -> Instant:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("2026-03-01T04:00", "2026-03-01T05:00", False),
        ("2026-03-01T03:29", "2026-03-01T03:30", True),
        ("2026-03-01T03:30", "2026-03-02T03:29", False),
        ("2026-03-01T03:30", "2026-03-02T03:30", True),
        ("2026-03-01T23:00", "2026-03-02T03:30", True),  # by hand, the evening before
        ("2026-02-01T03:30", "2026-03-01T12:00", True),  # the server was stopped
    ],
)
def test_at_a_time_of_day_it_is_due_once(last: str, now: str, due: bool) -> None:
    assert is_due(BackupSettings(at="03:30"), at(last), at(now)) is due


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        ("2026-03-01T03:30", "2026-03-01T09:29", False),
        ("2026-03-01T03:30", "2026-03-01T09:30", True),
        ("2026-03-01T21:30", "2026-03-02T03:29", False),
        ("2026-03-01T21:31", "2026-03-02T03:30", True),
    ],
)
def test_several_a_day_follow_from_that_time(last: str, now: str, due: bool) -> None:
    assert is_due(BackupSettings(at="03:30", every_hours=6), at(last), at(now)) is due


def test_without_a_time_it_is_due_so_long_after_the_last() -> None:
    held = BackupSettings(every_hours=2)
    assert is_due(held, None, at("2026-03-01T00:00")), "there is none yet"
    assert not is_due(held, at("2026-03-01T01:00"), at("2026-03-01T02:59"))
    assert is_due(held, at("2026-03-01T01:00"), at("2026-03-01T03:00"))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("at", "24:00"), ("at", "3:30"), ("at", "03:30:00"), ("folder", "backups"), ("keep", "-1")],
)
def test_settings_that_mean_nothing_are_refused(name: str, wrong: str) -> None:
    with pytest.raises(Misuse):
        declared(f"backup.{name}").parse(wrong)


async def set_to(admin: Admin, **values: Any) -> None:
    for name, value in values.items():
        await admin.do("settings set", name=f"backup.{name}", value=str(value))


async def names(admin: Admin, folder: Path) -> list[str]:
    return [each.backup for each in await admin.json("backup list", target=str(folder))]


async def test_backups_are_taken_when_due_and_the_oldest_go(admin: Admin, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    assert not await scheduled_backup(admin.house.flow), "none is asked for"
    await set_to(admin, folder=folder, every_hours=2, keep=2)
    await scheduled_backup(admin.house.flow)
    (first,) = await names(admin, folder)
    admin.clock.advance(HOUR)
    await scheduled_backup(admin.house.flow)
    assert await names(admin, folder) == [first], "it is not due"
    for _ in range(2):
        admin.clock.advance(2 * HOUR)
        await scheduled_backup(admin.house.flow)
    kept = await names(admin, folder)
    assert len(kept) == 2
    assert first not in kept
    report = await admin.json("backup verify", target=str(folder))
    assert (report.backups, report.problems) == (2, ())
    await set_to(admin, keep=0)
    admin.clock.advance(2 * HOUR)
    await scheduled_backup(admin.house.flow)
    assert len(await names(admin, folder)) == 3


async def test_a_failed_backup_is_told_by_status_until_one_goes_well(
    admin: Admin, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.write_text("no folder", encoding="utf-8")
    await set_to(admin, folder=folder)
    flow = admin.house.flow
    runner = JobRunner(flow, flow.mail, flow.clock, 1, declared={BACKUP: JOBS[BACKUP]})
    await flow.mail.write(jobs.ensure, {BACKUP: flow.clock.now()})
    assert (await admin.json("status")).warnings == ()
    assert await runner.round() == 1
    told = await admin.json("status")
    (warning,) = told.warnings
    assert warning.startswith("the scheduled backup fails: ")
    assert str(folder) in warning
    assert told.told().startswith(f"WARNING: {warning}\n")
    (job,) = [each for each in await admin.json("jobs list") if each.job == BACKUP]
    assert (job.failures, job.last_done) == (1, "never")
    assert str(folder) in job.last_error
    await asyncio.to_thread(os.unlink, folder)
    admin.clock.advance(HOUR)
    assert await runner.round() == 1
    assert (await admin.json("status")).warnings == ()
    assert len(await names(admin, folder)) == 1
