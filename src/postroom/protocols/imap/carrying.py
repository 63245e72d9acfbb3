"""Messages that are copied or moved to a mailbox of another owner: what has to be known of each
before the unit that places it. RFC 3501 §6.4.7, RFC 6851."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from postroom.core.clock import Instant
from postroom.domain.mailboxes import crossing, reading
from postroom.domain.mailboxes.crossing import Crossing
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.messages import Copied, NewMessage, Quota
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.reading import Brief
from postroom.domain.mailboxes.sharing import Reached
from postroom.formats.parsed import parse
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.selected import may_change
from postroom.protocols.imap.session import Session
from postroom.store.blobs import ROW_LIMIT
from postroom.store.sql import Tx

Note = Callable[[Tx, Copied], None]
"""What a unit does beside, with what it placed."""


async def carry(
    session: Session, to: Reached, pick: Pick, quota: Quota, note: Note | None, *, move: bool
) -> Copied:
    """Copy or move at most `crossing.MOST` picked messages of the open mailbox, all or none.

    They are parsed again: a thread is the account's, and follows from what they refer to. Flags
    that may not be set there do not come along: RFC 4314 §4. Raises what `crossing.cross` does.
    """
    house, box = session.shared.house, session.open.mailbox
    known = await house.mail.read(read_registry, box.account)
    pace = Pace(house.clock)
    crossings: list[Crossing] = []
    for row in await house.mail.read(reading.brief, box.id, pick):
        kept = tuple(flag for flag in known.flags(row.flags) if may_change(to.rights, flag))
        crossings.append(Crossing(row.uid, row.message, await _becomes(session, row, kept)))
        if pace.over:
            await pace.rest()
    write = house.mail.write if len(crossings) == 1 else house.mail.write_much
    now, target = house.clock.now(), to.mailbox.id

    def unit(tx: Tx) -> Copied:
        done = crossing.cross(tx, box.id, target, crossings, quota, now, session.actor, move=move)
        if note is not None:
            note(tx, done)
        return done

    return await write(unit)


async def _becomes(session: Session, row: Brief, flags: tuple[str, ...]) -> NewMessage:
    house = session.shared.house
    raw = await house.mail.read_much(house.blobs.read, row.blob)
    parsed = await asyncio.to_thread(parse, raw) if row.size > ROW_LIMIT else parse(raw)
    received = Instant(row.received_at)
    return NewMessage(house.ids.new(), row.blob, row.size, received, parsed, flags)
