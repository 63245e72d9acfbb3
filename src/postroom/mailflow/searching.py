"""The jobs that keep the index of searches, and what asks for it early."""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.core.jobs import job
from postroom.domain import jobs
from postroom.domain.searching.indexing import Indexer
from postroom.domain.searching.settings import SearchSettings
from postroom.mailflow.house import MailHouse
from postroom.store.sql import Tx

INDEX: Final = "search.index"
MERGE: Final = "search.merge"
PIECE: Final = 5.0
"""Seconds of small pieces in a row before the lease is extended."""
DELAY: Final = 2.0
"""Seconds after which what came is indexed: mail that comes together is indexed together."""


def indexer(house: MailHouse) -> Indexer | None:
    """What keeps the index, unless the house has none or is to have none."""
    return house.indexer if search_settings(house).index else None


def search_settings(house: MailHouse) -> SearchSettings:
    """As of the last look at the settings."""
    return house.policies.latest(house.chain("")).of(SearchSettings)


@job(INDEX, every=240.0, lease=900.0)
async def index_messages(house: MailHouse) -> bool:
    """Index messages for searching, account after account, a bounded piece at a time."""
    at_work = indexer(house)
    if at_work is None:
        return False
    ends = house.clock.monotonic() + PIECE
    while True:
        while await at_work.step():
            if house.clock.monotonic() >= ends:
                return True
        # A walk may take many pieces. Where one found something, the next may find what came
        # meanwhile; where it left something behind, it surely does.
        again = at_work.behind or (at_work.worked and search_settings(house).realtime)
        came, at_work.behind, at_work.worked = not at_work.behind, False, False
        if not again:
            return False
        if came:
            await asyncio.sleep(DELAY)


@job(MERGE, every=24 * 3600.0, lease=4 * 3600.0)
async def merge_segments(house: MailHouse) -> bool:
    """Once a day: merge small segments of the search index to full ones, and drop from it what is
    no longer there."""
    at_work = indexer(house)
    after: int | None = 0
    while at_work is not None and after is not None:
        after = await at_work.tidy(after)
    return False


def hasten(tx: Tx, house: MailHouse) -> None:
    """Let indexing be due now."""
    jobs.hasten(tx, INDEX, house.clock.now())
