"""Copies of signed messages, counted by each worker and shared by all. Attack class 5.

A mark that a worker saw once stays in its memory: nearly all mail is of that kind, and costs the
store nothing but a read. From the second copy on its count goes to `state`, in batches, where all
workers and nodes add up. Nobody waits for that, and it may lose a second.

Memory and table are bounded, whoever signs how much: a worker remembers so many marks, the one
that came longest ago going first, and shares so many an hour. Those beyond it counts alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from postroom.core import metrics
from postroom.core.clock import Instant
from postroom.domain import copies
from postroom.domain.copies import HOUR, hour_of
from postroom.mailflow.batches import Soon
from postroom.store.units import Database

GATHER: Final = 0.2  # seconds
BATCH: Final = 200
MOST: Final = 50_000
"""Marks that a worker remembers: some 10 MB."""
AN_HOUR: Final = 10_000
"""Marks that a worker shares in an hour."""

UNSHARED: Final = metrics.counter(
    "replay.unshared", "messages", "Copies that a worker counts alone, as it shares so many already"
)


class _Tally:
    """Copies that a worker has not shared, of an hour and the one before."""

    __slots__ = ("before", "here", "hour", "shared")

    def __init__(self, hour: int) -> None:
        self.hour = hour
        self.here = 0
        self.before = 0
        self.shared = -1  # the hour in which it was shared last

    def roll(self, hour: int) -> None:
        """Go on to that hour."""
        if hour != self.hour:
            self.before = self.here if hour == self.hour + 1 else 0
            self.here = 0
            self.hour = hour


class Copies:
    """Of one worker."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, _Tally] = OrderedDict()
        self._held: dict[tuple[int, int], int] = {}  # by mark and hour, on its way to the store
        self._hour = 0
        self._shared = 0  # marks, in this hour
        self._soon = Soon(GATHER, BATCH)

    async def count(
        self, state: Database, marks: Sequence[int], now: Instant
    ) -> tuple[tuple[int, int], ...]:
        """Each mark, and how often it came in the hour that ends now, this time included.

        Of the hour of the clock before this one, as much counts as the hour that ends now has of
        it: whoever sends evenly is counted rightly. Raises MailError.
        """
        hour = hour_of(now)
        rows = await state.read(copies.of, marks, hour - 1)
        left = 1 - (now - hour * HOUR) / HOUR
        found = []
        for mark in marks:
            here = rows.get((mark, hour), 0) + self._held.get((mark, hour), 0)
            before = rows.get((mark, hour - 1), 0) + self._held.get((mark, hour - 1), 0)
            tally = self._seen.get(mark)
            if tally is not None:
                tally.roll(hour)
                here, before = here + tally.here, before + tally.before
            found.append((mark, here + int(before * left) + 1))
        return tuple(found)

    def note(self, state: Database, marks: Sequence[int], now: Instant) -> None:
        """Count a message with these marks."""
        hour = hour_of(now)
        if hour != self._hour:
            self._hour, self._shared = hour, 0
        for mark in marks:
            self._add(mark, hour)
        self._soon.gathered(len(self._held), lambda: self.flush(state))

    def _add(self, mark: int, hour: int) -> None:
        tally = self._seen.get(mark)
        if tally is None:
            tally = self._seen[mark] = _Tally(hour)
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(mark)
            tally.roll(hour)
        tally.here += 1
        if tally.here + tally.before < 2 and tally.shared < hour - 1:
            return
        if tally.shared != hour:
            if self._shared >= AN_HOUR:
                UNSHARED.add()
                return
            self._shared += 1
            tally.shared = hour
        for at, number in ((hour, tally.here), (hour - 1, tally.before)):
            if number:
                self._held[mark, at] = self._held.get((mark, at), 0) + number
        tally.here = tally.before = 0

    def flush(self, state: Database) -> None:
        """Hand what was gathered to the store."""
        self._soon.written()
        if self._held:
            held, self._held = self._held, {}
            state.note(copies.add, held)
