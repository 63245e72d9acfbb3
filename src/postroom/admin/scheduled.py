"""The backup that is taken by itself: its settings, its job, and what `status` says of it."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.admin.backup import repository_at, take_backup
from postroom.core.clock import Instant, iso
from postroom.core.errors import Malformed
from postroom.core.jobs import job
from postroom.core.settings import group, setting
from postroom.domain import jobs
from postroom.mailflow.house import MailHouse
from postroom.store.backup import Repository
from postroom.store.sql import Tx

BACKUP: Final = "backup.make"
_HOUR: Final = 3_600_000
_MINUTE: Final = 60_000
_DAY_SECONDS: Final = 24 * 3600.0
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

_log: Final = structlog.get_logger("postroom.backup")


def _time_of_day(text: str) -> int:
    """Milliseconds after midnight of 03:30; raises Malformed."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise Malformed("Write a time of day from 00:00 to 23:59, such as 03:30")
    return int(found[1]) * _HOUR + int(found[2]) * _MINUTE


def _folder(text: str) -> str:
    if not os.path.isabs(text) or "\0" in text:
        raise Malformed("Write the whole path of a folder, such as /var/backups/postroom")
    return os.path.normpath(text)


@group("backup")
@dataclass(frozen=True, slots=True)
class BackupSettings:
    """The backup that the server takes by itself. It is not encrypted."""

    folder: str = setting(
        "",
        "The folder of the backups that the server takes by itself, by its whole path; empty: it "
        "takes none. The first one is taken at once",
        form=_folder,
    )
    at: str = setting(
        "",
        "The time of day (UTC) at which backups are taken, such as 03:30; with backup.every_hours "
        "below 24 they follow from there. Empty: so many hours after the last one",
        form=_time_of_day,
    )
    every_hours: int = setting(
        24, "How often a backup is taken", unit="hours", at_least=1, at_most=24 * 31
    )
    keep: int = setting(
        14, "How many of the newest backups stay; 0 keeps all", at_least=0, at_most=100_000
    )


def _settings(tx: Tx, house: MailHouse) -> BackupSettings:
    return house.policies.current(tx, house.chain("")).of(BackupSettings)


def is_due(held: BackupSettings, last: Instant | None, now: Instant) -> bool:
    """Whether a backup is to be taken, if the last one was made then.

    What was missed while the server was stopped is made up for once.
    """
    if last is None:
        return True
    step = held.every_hours * _HOUR
    if not held.at:
        return now - last >= step
    # The moments are counted from the beginning of 1970, so that they are the same after a restart.
    first = _time_of_day(held.at)
    return last < first + (now - first) // step * step


def _last(repository: Repository) -> Instant | None:
    """When the newest backup was made; None if there is none. Blocks."""
    if not os.path.isdir(repository.root):
        return None
    names = repository.names()
    return repository.manifest(names[-1]).made_at if names else None


# A backup takes what it takes. If its worker dies the lease is free at once: it is not waited for.
@job(BACKUP, every=60.0, lease=_DAY_SECONDS)
async def scheduled_backup(house: MailHouse) -> bool:
    """Take the backup that the settings backup.* ask for, when it is due."""
    held = await house.mail.read(_settings, house)
    if not held.folder:
        return False
    repository = repository_at(held.folder, house.blobs.files)
    last = await asyncio.to_thread(_last, repository)
    if not is_due(held, last, house.clock.now()):
        return False
    made = await take_backup(house, held.folder)
    gone, freed = await asyncio.to_thread(_forget, repository, held.keep)
    _log.info(
        "backup made",
        backup=made.name,
        folder=held.folder,
        contents=made.content.blobs,
        octets=made.content.octets,
        new_octets=made.taken.octets_copied,
        seconds=made.taken.seconds,
        forgotten=gone,
        freed_octets=freed,
    )
    for problem in made.problems:
        _log.warning("backup lacks something", backup=made.name, problem=problem)
    return False


def _forget(repository: Repository, keep: int) -> tuple[list[str], int]:
    """Blocks; raises what the repository does."""
    if not keep:
        return [], 0
    with repository.writing():
        return repository.forget(keep)


def failing(tx: Tx) -> str:
    """What is wrong with the scheduled backup, in a sentence; empty if nothing is."""
    for state in jobs.states(tx):
        if state.name == BACKUP and state.attempts:
            again = f"; it is tried again at {iso(state.due)}" if not state.lease else ""
            return f"the scheduled backup fails: {state.last_error}{again}"
    return ""
