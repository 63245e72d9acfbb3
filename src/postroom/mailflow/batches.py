"""When a worker writes what nobody waits for: soon after the first of it, or when it is much."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Soon:
    """Calls `write` so many seconds after the first was gathered, or at once when they are `most`.

    What is gathered in between may be lost with its worker.
    """

    __slots__ = ("_most", "_seconds", "_timer")

    def __init__(self, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._timer: asyncio.TimerHandle | None = None

    def gathered(self, held: int, write: Callable[[], None]) -> None:
        """So many are held now; none is no reason to write."""
        if held >= self._most:
            write()
        elif held and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, write)

    def written(self) -> None:
        """What was held is on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
