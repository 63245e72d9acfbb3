"""What a store is to its callers: units written in lanes, reads, and notes nobody waits for."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from postroom.store.sql import Tx

P = ParamSpec("P")
T = TypeVar("T")
Unit = Callable[Concatenate[Tx, P], T]


class Lane(IntEnum):
    """Who waits for a unit; the lower number goes first."""

    PERSON = 0
    MAIL = 1
    BACKGROUND = 2


# How many units may wait in a worker before the lane answers Busy: background stops first,
# then mail gets 451, and a person is refused last.
LANE_LIMITS: Final = {Lane.PERSON: 8_000, Lane.MAIL: 4_000, Lane.BACKGROUND: 1_000}

BATCH_UNITS: Final = 256
BATCH_SECONDS: Final = 0.020
LOOP_LATE: Final = 0.020
"""How long the writer, with the lock held, waits for a loop that is busy with other things."""
LOOP_SECONDS: Final = 0.004
"""How long light units of a batch may hold the loop: under the 5 ms that nothing exceeds."""
NOTES_SECONDS: Final = 0.020
"""How long notes wait for others, or for a batch that is written anyway."""
WAL_FORCED_CHECKPOINT: Final = 256 * 1024 * 1024
UNIT_ROWS: Final = 2_000
"""How many single rows a unit may touch; larger work is a resumable job of units."""


def answerable(error: BaseException) -> BaseException:
    """A unit's own error in a form that a future takes: a StopIteration would end its caller's
    coroutine, so futures refuse it."""
    if not isinstance(error, StopIteration):
        return error
    answer = RuntimeError("the unit ran out of something that it iterates over, such as ids")
    answer.__cause__ = error
    return answer


class Database(Protocol):
    """One of the stores `mail`, `state`, `index`, on either engine."""

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the unit for a person who waits; returns only after its commit is on disk.

        Raises what the unit raised, StoreFull or StoreFailed if the engine could not keep it,
        Busy if too much waits. Whatever it raises, nothing of the unit was kept.
        """
        ...

    async def write_much(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` of a unit that takes milliseconds: a set statement over many rows."""
        ...

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` in the lane of mail: behind persons, before background."""
        ...

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`write` in the lane of background work."""
        ...

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a short read on one snapshot: inline where the engine is in the process."""
        ...

    async def read_much(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a long read on one snapshot, in a thread."""
        ...

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Write what nobody waits for; it may lose a second, and a full queue drops it."""
        ...

    async def damage(self) -> list[str]:
        """What the engine itself finds wrong with its file; empty if nothing."""
        ...

    async def close(self) -> None:
        """Finish what waits, then let go of the files."""
        ...
