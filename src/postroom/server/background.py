"""The process that serves nobody: it does what takes long, when the workers leave it time.

Making the search index decodes every message that comes, which would show in the answers of whoever
shares an interpreter with it. The kernel gives this process what the workers do not want.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Final

import structlog

from postroom.admin.scheduled import BACKUP
from postroom.core import log
from postroom.core.errors import MailError
from postroom.core.jobs import JOBS
from postroom.domain.events import DirectoryChanged
from postroom.mailflow.house import MailHouse
from postroom.mailflow.upkeep import SEARCH_JOBS
from postroom.server.answers import Answering
from postroom.server.bus import MachineBus
from postroom.server.fork import WorkerContext
from postroom.server.house import Parts, holder_of, open_house, read_settings
from postroom.server.jobs import JobRunner

LONG: Final = frozenset({BACKUP, *SEARCH_JOBS})
"""Jobs that take their time: others do not wait behind them, nor one of them behind another."""
NICENESS: Final = 10
"""A tenth of what a worker gets where both want a core: enough to let go of a lock soon."""
LOOK: Final = 2.0
"""Seconds between two looks whether something is due."""

_log: Final = structlog.get_logger("postroom.server")


async def run_background(context: WorkerContext, *, parts: Parts = Parts()) -> None:  # noqa: B008 - immutable
    """Its life. `parts` replaces files, VFS and clock in tests."""
    log.RECENT.clear()  # until here they are the supervisor's
    os.nice(NICENESS)
    index = context.index
    bus = MachineBus(context.layout.run, index, context.workers, background=context.background)
    bus.start()
    async with open_house(context.layout, worker=index, events=bus.tell, parts=parts) as house:
        changed = asyncio.Event()
        bus.subscribe(DirectoryChanged, lambda event: changed.set())
        bus.on_overflow(changed.set)
        Answering(index, ()).begin(bus)
        holder = holder_of(house, index)
        runners = [
            asyncio.create_task(follow_settings(house, changed)),
            *(
                asyncio.create_task(runner.run())
                for runner in long_jobs(house, holder, longest=LOOK).values()
            ),
        ]
        context.ready()
        try:
            await context.stopping.wait()
        finally:
            for each in runners:
                each.cancel()
            await asyncio.gather(*runners, return_exceptions=True)
            bus.close()


def long_jobs(
    house: MailHouse, holder: int, *, longest: float | None = None
) -> Mapping[str, JobRunner]:
    """A runner for each job that takes long, by the job's name."""
    return {
        name: JobRunner(
            house, house.mail, house.clock, holder, declared={name: JOBS[name]}, longest=longest
        )
        for name in sorted(LONG)
    }


def nobody_here() -> None:
    """For who would wake a job of another process: that looks by itself."""


async def follow_settings(house: MailHouse, changed: asyncio.Event) -> None:
    """What judges reads the settings with the store; what announces has them from here."""
    while True:
        await changed.wait()
        changed.clear()
        try:
            await read_settings(house)
        except MailError as error:
            _log.warning("settings not read", reason=error.detail or str(error))
