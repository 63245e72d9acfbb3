"""Whether what is kept of changed flags fits the messages, and what the flags add up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroom.core.errors import Corrupt
from postroom.domain.mailboxes import marks, tables
from postroom.domain.mailboxes.checking import tables as checking
from postroom.domain.mailboxes.marked import tables as marked
from postroom.domain.mailboxes.marked.blocks import SIZE, Block, masks, unsigned
from postroom.domain.mailboxes.messages import Held, held
from postroom.domain.mailboxes.picking import Pick, runs
from postroom.store.sql import Tx

_PAGE: Final = 128 * SIZE
"""UIDs that are looked at at once."""


def counted(tx: Tx, box: int) -> tuple[int, int, int, int]:
    """Messages of a mailbox, those not \\Seen, those \\Deleted, and octets; reads all rows."""
    total = unseen = deleted = size = 0
    for page in _pages(tx, box):
        total += len(page.uids)
        unseen += page.unseen
        deleted += page.deleted
        size += page.size
    return total, unseen, deleted, size


def renumber(tx: Tx, box: int, modseq: int) -> None:
    """Every message of a mailbox counts as changed then; its flags stay."""
    for page in _pages(tx, box):
        marks.change(tx, box, page.by_flags, modseq)


def _pages(tx: Tx, box: int) -> Iterator[Held]:
    row = tx.one(checking.LAST_UID, mailbox=box)
    for first in range(0, 1 + (row[0] if row is not None else 0), _PAGE):
        page = held(tx, box, Pick(first, first + _PAGE - 1))
        if page.uids:
            yield page


def odd(tx: Tx, box: int) -> list[int]:
    """The blocks of a mailbox that cannot be read, that speak of messages which are not there or
    of one twice, or whose summary is not what they hold."""
    found: list[int] = []
    after = 0
    while rows := tx.all(marked.BLOCK_ROWS_FROM, mailbox=box, first=after, limit=_PAGE // SIZE):
        first, after = rows[0][0] * SIZE, rows[-1][0] + 1
        there = _there(tx, box, first, after * SIZE - 1)
        for number, groups, modseq, which, unseen in rows:
            try:
                block = Block(number, groups)
            except Corrupt:
                found.append(number)
                continue
            says = (modseq, unsigned(which), unsigned(unseen))
            alone = sum([group.which.bit_count() for group in block.groups])
            if (
                says != (block.modseq, block.marked, block.unseen)
                or alone != block.marked.bit_count()
                or block.marked & ~there.get(number, 0)
                or not block.groups
            ):
                found.append(number)
    return found


def mend(tx: Tx, box: int, number: int) -> None:
    """Keep of a block what can be read and is there; a message that it names twice has the later
    flags. What cannot be read is as it came."""
    rows = tx.all(marked.BLOCKS.by_range, mailbox=box, first=number, last=number)
    there = _there(tx, box, number * SIZE, number * SIZE + SIZE - 1).get(number, 0)
    for _, groups in rows:
        fresh = Block(number)
        try:
            was = Block(number, groups).groups
        except Corrupt:
            was = []
        for group in sorted(was, key=lambda group: group.modseq):
            if group.which & there:
                fresh.mark(group.which & there, group.flags, group.modseq)
        if fresh.groups:
            tx.run(marked.PUT_BLOCK, **fresh.row(box))
        else:
            tx.run(marked.DROP_BLOCK, mailbox=box, block=number)


def _there(tx: Tx, box: int, first: int, last: int) -> dict[int, int]:
    """Which UIDs there are, as masks by block."""
    pick = Pick(first, last)
    rows = tx.all(pick.on(tables.HELD), **pick.params(box))
    return masks(runs([row[0] for row in rows]))
