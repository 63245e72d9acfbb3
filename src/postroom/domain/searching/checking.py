"""What `postroom check` finds wrong with the index of searches. Whatever it is, the account is
forgotten and indexed anew."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from postroom.core.errors import Corrupt
from postroom.core.ids import ACCOUNT, external
from postroom.domain import searching
from postroom.domain.searching import tables
from postroom.domain.searching.indexing import Indexer
from postroom.store.search import unpack
from postroom.store.sql import Tx

SETS: Final = 2_000
"""Sets in one read."""
PAGE: Final = 500

_WHERE: Final = "the search index of account"


async def look(indexer: Indexer, *, repair: bool) -> AsyncIterator[tuple[str, bool]]:
    """What is wrong, and whether it was put right, account by account."""
    for line in await indexer.index.damage():
        yield f"the engine says of the search index: {line}", False
    after = 0
    while page := await indexer.index.read_much(_accounts, after):
        after = page[-1]
        for account in page:
            finding = await _account(indexer, account)
            if finding is not None:
                if repair:
                    await indexer.index.write_later(searching.forget, account)
                yield f"{_WHERE} {external(ACCOUNT, account)}: {finding}", repair


async def _account(indexer: Indexer, account: int) -> str | None:
    """The first thing that is wrong. Indexing may go on meanwhile: what it moved is no finding."""
    marks = await indexer.index.read_much(searching.marks, account)
    for box, mark in marks.uids.items():
        after = 0
        while placed := await indexer.mail.read_much(_placed, box, after, mark):
            after = placed[-1][0]
            missing = await indexer.index.read_much(_missing, account, [m for _, m in placed])
            if missing and await indexer.index.read_much(searching.marks, account) == marks:
                return f"{len(missing)} messages are missing below a mark"
    for segment, state, _ in await indexer.index.read_much(_segments, account):
        if state == searching.State.BROKEN:
            continue  # known, and about to be made anew
        finding = await _segment(indexer, account, segment)
        if finding is not None:
            return finding
    return None


async def _segment(indexer: Indexer, account: int, segment: int) -> str | None:
    after: int | None = -2
    while after is not None:
        try:
            after = await indexer.index.read_much(_sets, segment, after)
        except Corrupt as error:
            return error.detail or str(error)
    held = await indexer.index.read_much(_held, account, segment)
    if held is not None and held[0] != held[1]:
        return f"a segment of {held[0]} messages has {held[1]} members"
    return None


def _accounts(tx: Tx, after: int) -> list[int]:
    return [account for account, _ in tx.all(tables.INDEXED_AFTER, after=after, limit=PAGE)]


def _segments(tx: Tx, account: int) -> list[tuple[int, int, int]]:
    return tx.all(tables.SEGMENTS_OF, account=account)


def _placed(tx: Tx, box: int, after: int, mark: int) -> list[tuple[int, int]]:
    rows = tx.all(tables.PLACED_AFTER, mailbox=box, after=after, limit=PAGE)
    return [(uid, message) for uid, message, _, _ in rows if uid <= mark]


def _missing(tx: Tx, account: int, messages: Sequence[int]) -> set[int]:
    known = {row[0] for row in tx.all(tables.KNOWN, account=account, messages=messages)}
    return set(messages) - known


def _sets(tx: Tx, segment: int, after: int) -> int | None:
    """Read some sets; where to go on. Raises Corrupt."""
    rows = tx.all(tables.SETS_AFTER, segment=segment, after=after, limit=SETS)
    for _, numbers in rows:
        unpack(numbers)
    return rows[-1][0] if len(rows) == SETS else None


def _held(tx: Tx, account: int, segment: int) -> tuple[int, int] | None:
    """How many messages a segment says and has; None if it was merged meanwhile."""
    says = {each: held for each, _, held in _segments(tx, account)}
    counted = tx.one(tables.COUNT_MEMBERS, segment=segment)
    if segment not in says or counted is None:
        return None
    return says[segment], counted[0]
