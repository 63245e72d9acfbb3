"""Making destinations due, and telling those who serve them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from postroom.core.clock import Instant
from postroom.domain.events import QueueReady
from postroom.domain.queue import tables
from postroom.store.sql import Tx

_NAMED: Final = 8
"""Destinations of one unit that are told by name; of more, that there are many."""


def hasten(tx: Tx, destinations: Iterable[int], due: Instant) -> None:
    """Make destinations due with what was just put there.

    After the rows: their foreign key holds the destination against a release, so that one of
    the two sees what the other wrote. Usually it is due already, and nothing is written.
    """
    these = sorted(set(destinations))
    tx.run(tables.HASTEN, ids=these, due=due)
    for destination in these if len(these) <= _NAMED else (0,):
        tx.after(QueueReady(destination))
