"""When a session looks for what it has to tell unasked: hints of the bus, and doubts.

IDLE (RFC 2177) listens to the accounts whose changes it tells, NOTIFY (RFC 5465) to those of all
mailboxes that it watches. A hint only says that something happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from postroom.core.bus import Bus
from postroom.domain.events import Changed, Type

WATCH_SECONDS: Final = 0.2
"""Between two looks at all mailboxes that a client watches: a burst of changes is told as one."""

WATCH_SHARE: Final = 20
"""Of its time a session looks at most this part: the more there is, the more seldom."""


class Listening:
    """What one connection listens to, and whether there may be something to tell."""

    __slots__ = ("_later", "_next_look", "_unwatch", "_wake", "hinted", "owners")

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when something may have changed; it looks at once or when it can."""
        self._wake = wake
        self._unwatch: tuple[Callable[[], None], ...] = ()
        self._next_look = 0.0  # the loop's time before which a watching session does not look
        self._later: asyncio.TimerHandle | None = None  # a look that was put off until then
        self.owners: frozenset[int] = frozenset()  # whose changes are listened to
        self.hinted = False  # something may have changed that is to be told unasked

    @property
    def puts_off(self) -> bool:
        """A look was put off."""
        return self._later is not None

    def to(self, owners: frozenset[int], bus: Bus[Changed]) -> None:
        """Listen to the changes of these accounts, and to nothing else."""
        if owners == self.owners:
            return
        self.stop()
        if not owners:
            return
        self.owners = owners
        self._unwatch = (
            *(bus.watch(owner, self._hint) for owner in owners),
            bus.on_overflow(self.doubt),
        )
        self.hinted = True  # something may have come before we listened

    def stop(self) -> None:
        """Listen to nothing."""
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch = ()
        self.owners = frozenset()
        self.hinted = False
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def doubt(self) -> None:
        """Something may have changed: compare with the store."""
        self.hinted = True
        self._wake()

    def looked(self, took: float, at_most: float) -> None:
        """A look at all that is watched is done, and took so many seconds: the next one waits,
        but no longer than `at_most`."""
        wait = min(max(WATCH_SECONDS, WATCH_SHARE * took), at_most)
        self._next_look = asyncio.get_running_loop().time() + wait

    def _hint(self, changed: Changed) -> None:
        """The account changed; perhaps a mailbox of which this session has to tell."""
        if not changed.types & (Type.EMAIL | Type.MAILBOX) or self._later is not None:
            return
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_look:
            self.doubt()
        else:
            self._later = loop.call_at(self._next_look, self._look_now)

    def _look_now(self) -> None:
        self._later = None
        self.doubt()
