"""Flags as they are: those that a placement came with, and what became of them since.

Whoever reads flags or modseqs of placements passes the rows through here; whoever changes flags
or removes placements says so here, in the same unit. What is marked is always there: a placement
that goes takes its mark with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from postroom.domain.mailboxes import tables
from postroom.domain.mailboxes.marked import tables as marked
from postroom.domain.mailboxes.marked.blocks import FULL, SIZE, Block, masks, uids, unsigned
from postroom.domain.mailboxes.picking import Pick, runs
from postroom.store.sql import Row, Tx

Marks = Mapping[int, tuple[int, int]]
"""(flags, modseq) by UID, of messages whose flags changed since they came."""

_PAGE: Final = 256
"""Rows of blocks that are looked at at once: 16,384 messages."""
_FIRST_PAGE: Final = 4
"""As a first look, which mostly finds what it looks for."""
_NOWHERE: Final = 1 << 62


# --- reading --------------------------------------------------------------------------------------


def of(tx: Tx, box: int, pick: Pick, rows: Sequence[Row]) -> Marks:
    """What became of picked messages, and of others beside them. `rows` are theirs, which begin
    with ascending UIDs: an open choice, or one that met a limit, ends where they end."""
    found: dict[int, tuple[int, int]] = {}
    if not rows:
        return found
    first, last = rows[0][0], rows[-1][0]
    pick = Pick(first, last) if pick.uids is None else pick.up_to(last)
    for block in _blocks(tx, box, _block_pick(pick)):
        for mark, those in block.sets():
            found.update(dict.fromkeys(those, mark))
    return found


def now(tx: Tx, box: int, pick: Pick, rows: list[Row]) -> list[Row]:
    """Rows of the picked messages that begin with UID, flags and modseq, with those as they are."""
    marks = of(tx, box, pick, rows)
    if not marks:
        return rows
    return [
        row if (mark := marks.get(row[0])) is None else (row[0], *mark, *row[3:]) for row in rows
    ]


def changed(tx: Tx, box: int, since: int, first: int, last: int) -> dict[int, tuple[int, int]]:
    """(flags, modseq) by UID, of those from `first` to `last` whose flags changed after `since`."""
    rows = tx.all(
        marked.BLOCKS_CHANGED, mailbox=box, since=since, first=first // SIZE, last=last // SIZE
    )
    found = collected(rows, since)
    return {uid: mark for uid, mark in found.items() if first <= uid <= last}


def collected(rows: Iterable[Row], since: int) -> dict[int, tuple[int, int]]:
    """The same of rows that are at hand: number and groups of blocks."""
    found: dict[int, tuple[int, int]] = {}
    for number, groups in rows:
        for mark, those in Block(number, groups).sets(since):
            found.update(dict.fromkeys(those, mark))
    return found


def changed_blocks(tx: Tx, box: int, since: int) -> Iterator[tuple[int, int]]:
    """Ranges of UIDs, ascending, outside of which no flags changed after `since`."""
    for (block,) in tx.all(marked.CHANGED_BLOCKS, mailbox=box, since=since):
        yield block * SIZE, (block + 1) * SIZE - 1


def flagged(tx: Tx, box: int, flag: int, limit: int) -> list[int]:
    """UIDs that have a flag, ascending, at most `limit`."""
    found: list[int] = []
    marks: dict[int, int] = {}  # masks
    for block in _all_blocks(tx, box):
        marks[block.number] = block.marked
        for (flags, _), those in block.sets():
            if flags & flag:
                found += those
    for (uid,) in tx.all(tables.CAME_FLAGGED, mailbox=box, mask=flag):
        if not marks.get(uid // SIZE, 0) >> uid % SIZE & 1:
            found.append(uid)
    return sorted(found)[:limit]


def first_unseen(tx: Tx, box: int) -> int | None:
    """The lowest UID without \\Seen, if there is one.

    Among messages that were marked, by the masks of their blocks; of the others it looks at those
    alone that lie between blocks which are marked throughout.
    """
    looked, partly = 1, dict[int, int]()
    after, limit = 0, _FIRST_PAGE
    while True:
        rows = tx.all(marked.BLOCKS_UNSEEN, mailbox=box, first=after, limit=limit)
        for block, kept, kept_unseen in rows:
            which, unseen = unsigned(kept), unsigned(kept_unseen)
            end = block * SIZE
            if which != FULL:
                partly[block] = which
                if not unseen:
                    continue
                end = uids(block, unseen)[0]
            came = _came_unseen(tx, box, looked, end - 1, partly)
            if came is not None or unseen:
                return came if came is not None else uids(block, unseen)[0]
            looked = block * SIZE + SIZE
            partly.clear()
        if len(rows) < limit:
            return _came_unseen(tx, box, looked, _NOWHERE, partly)
        after, limit = rows[-1][0] + 1, _PAGE


def _came_unseen(tx: Tx, box: int, first: int, last: int, partly: Mapping[int, int]) -> int | None:
    """The lowest UID from `first` to `last` that came unseen and was never marked."""
    limit = _FIRST_PAGE
    while first <= last:
        rows = tx.all(tables.CAME_UNSEEN, mailbox=box, first=first, last=last, limit=limit)
        for (uid,) in rows:
            if not partly.get(uid // SIZE, 0) >> uid % SIZE & 1:
                return int(uid)
        if len(rows) < limit:
            break
        first, limit = rows[-1][0] + 1, _PAGE
    return None


# --- changing -------------------------------------------------------------------------------------


def change(tx: Tx, box: int, groups: Iterable[tuple[int, Sequence[int]]], modseq: int) -> None:
    """Messages that are there have other flags from this change on: sets, each with UIDs that
    ascend."""
    parts: dict[int, list[tuple[int, int]]] = {}
    rows: list[Mapping[str, object]] = []
    for flags, those in groups:
        whole = Block(0)
        whole.mark(FULL, flags, modseq)
        alike = whole.row(box)
        for number, which in masks(runs(those)).items():
            if which == FULL:  # nothing of what was there stays
                rows.append({**alike, "block": number})
            else:
                parts.setdefault(number, []).append((flags, which))
    there = _blocks(tx, box, Pick.of(sorted(parts))) if parts else []
    known = {block.number: block for block in there}
    for number, sets in parts.items():
        block = known.get(number) or Block(number)
        for flags, which in sets:
            block.mark(which, flags, modseq)
        rows.append(block.row(box))
    tx.many(marked.PUT_BLOCK, rows)


def forget(tx: Tx, box: int, pick: Pick) -> None:
    """The picked messages are not there any more."""
    gone = None if pick.uids is None else masks(pick.runs())
    left: list[Block] = []
    for block in _blocks(tx, box, _block_pick(pick)):
        which = _within(block.number, pick) if gone is None else gone.get(block.number, 0)
        if not block.marked & which:
            continue
        block.forget(which)
        if block.groups:
            left.append(block)
        else:
            tx.run(marked.DROP_BLOCK, mailbox=box, block=block.number)
    tx.many(marked.PUT_BLOCK, [block.row(box) for block in left])


def _within(block: int, pick: Pick) -> int:
    """Which of a block's messages lie between the bounds of a choice."""
    first, last = max(pick.first, block * SIZE), min(pick.last, block * SIZE + SIZE - 1)
    return masks(iter(((first, last),)))[block] if first <= last else 0


def _block_pick(pick: Pick) -> Pick:
    """The blocks in which picked UIDs lie."""
    if pick.uids is not None:
        return Pick.of(sorted({uid // SIZE for uid in pick.uids}))
    return Pick(pick.first // SIZE, pick.last // SIZE)


def _blocks(tx: Tx, box: int, pick: Pick) -> list[Block]:
    rows = tx.all(pick.on(marked.BLOCKS), **pick.params(box))
    return [Block(number, groups) for number, groups in rows]


def _all_blocks(tx: Tx, box: int) -> Iterator[Block]:
    after = 0
    while rows := tx.all(marked.BLOCKS_FROM, mailbox=box, first=after, limit=_PAGE):
        for number, groups in rows:
            yield Block(number, groups)
        after = rows[-1][0] + 1
