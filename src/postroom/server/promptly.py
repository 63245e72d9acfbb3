"""Has new mail indexed for searching within seconds, where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.domain.events import Changed, Type
from postroom.mailflow import searching
from postroom.mailflow.house import MailHouse

_log: Final = structlog.get_logger("postroom.search")


class Promptly:
    """Makes the job of indexing due a moment after mail came; one for each worker."""

    def __init__(
        self, house: MailHouse, wake: Callable[[], None], *, delay: float = searching.DELAY
    ) -> None:
        """`wake` lets this worker look at its jobs."""
        self._house = house
        self._wake = wake
        self._delay = delay
        self._came = asyncio.Event()

    def changed(self, event: Changed) -> None:
        """Mail may have come."""
        if event.types & Type.EMAIL:
            self._came.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._came.wait()
            await asyncio.sleep(self._delay)
            self._came.clear()
            settings = searching.search_settings(self._house)
            if not settings.index or not settings.realtime:
                continue
            try:
                await self._house.mail.write_later(searching.hasten, self._house)
            except MailError as error:
                # The job is due in minutes anyway.
                _log.info("indexing is not hastened", reason=error.detail or str(error))
            else:
                self._wake()
