"""Values of many messages that never change, block by block: from what is kept, else the store."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from postroom.core.errors import MailError
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.reading import Brief
from postroom.formats.parsed import Parsed, parse
from postroom.protocols.imap.kept import SUBJECTS, Block, Values
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.store.blobs import ROW_LIMIT

V = TypeVar("V")

Make = Callable[[int, int, int], Awaitable[Block[V]]]
"""From a mailbox and its first and last UID, the values of a block."""

_log = structlog.get_logger("postroom.imap")


async def values_of(
    session: Session, what: str, uids: Sequence[int], make: Make[V], otherwise: V
) -> list[V]:
    """The values of messages whose UIDs ascend; `otherwise` for what is gone."""
    found: list[V] = []
    async for some, by_uid in _blocks(session, what, uids, make):
        found += [by_uid.get(uid, otherwise) for uid in some]
    return found


async def values_there(
    session: Session, what: str, uids: Sequence[int], make: Make[V]
) -> dict[int, V]:
    """`values_of` by UID, without what is gone."""
    found: dict[int, V] = {}
    async for some, by_uid in _blocks(session, what, uids, make):
        found.update((uid, by_uid[uid]) for uid in some if uid in by_uid)
    return found


async def _blocks(
    session: Session, what: str, uids: Sequence[int], make: Make[V]
) -> AsyncIterator[tuple[Sequence[int], Mapping[int, V]]]:
    """Messages whose UIDs ascend, block by block, with the values of what is there of each."""
    kept, view, box = session.shared.kept, session.open.view, session.open.mailbox.id
    pace = Pace(session.shared.clock)
    start = 0
    while start < len(uids):
        block = uids[start] // SUBJECTS
        end = bisect_left(uids, (block + 1) * SUBJECTS, start)
        name = Values(box, what, block)
        held = kept.values(name)
        if held is None or held.top < uids[end - 1]:
            top = view.uid(view.below((block + 1) * SUBJECTS))
            held = await make(box, block * SUBJECTS, top)
            kept.keep_values(name, held)
            await session.output.drain()  # raises if nobody waits for the answer any more
        yield uids[start:end], held.by_uid
        start = end
        if pace.over:
            await pace.rest()


async def parsed_again(
    session: Session, uids: Sequence[int], box: int | None = None
) -> dict[int, tuple[Brief, Parsed]]:
    """Messages whose parse is missing, of the open mailbox or another one, parsed again and kept,
    by UID; what cannot be read is logged and passed over."""
    house, found = session.shared.house, {}
    box = session.open.mailbox.id if box is None else box
    for row in await house.mail.read(reading.brief, box, Pick.of(uids)):
        name = external(BLOB, row.blob)
        try:
            raw = await house.mail.read_much(house.blobs.read, row.blob)
        except MailError as error:
            _log.warning("cannot be parsed again", blob=name, detail=error.detail)
            continue
        parsed = await asyncio.to_thread(parse, raw) if row.size > ROW_LIMIT else parse(raw)
        house.mail.note(reading.renew, row.blob, parsed)
        _log.warning("parsed again", session=session.id, blob=name)
        found[row.uid] = (row, parsed)
    return found
