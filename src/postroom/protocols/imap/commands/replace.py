"""REPLACE and UID REPLACE: an APPEND whose unit also takes away an old message. RFC 8508."""

from __future__ import annotations

from postroom.core.errors import NotAllowed, NotFound
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.picking import Pick
from postroom.protocols.imap.commands.append import Appending, Gone, Replaced, understood
from postroom.protocols.imap.commands.copy import no_target
from postroom.protocols.imap.session import NoSuchMessage, Session
from postroom.wire.imap import Command, parse_replace


async def replace(session: Session, command: Command) -> None:
    """What can be refused is refused before the message is sent; the flags of the new message are
    those that the command names, none of the old one's. RFC 8508 §1, §3.4."""
    uid = command.name.startswith(b"UID ")
    asked = parse_replace(command.args)
    said = understood(session, asked.append.message)
    selected = session.open
    if selected.read_only:
        raise NotAllowed("The mailbox is open for reading only")
    ranges = session.ranges(asked.message, uid=uid)
    if not ranges:
        raise Gone if uid else NoSuchMessage
    number, _ = ranges[0]
    one = selected.view.uid(number)
    try:
        reached, quota = await session.reach_to_fill(asked.append.mailbox)
    except NotFound:
        raise no_target(asked.append.mailbox) from None
    box, mail = selected.mailbox, session.shared.house.mail
    there = await mail.read(reading.brief, box.id, Pick(one, one))
    if not there:
        raise Gone
    retention = await session.retention(box.account)
    old = Replaced(box, one, there[0].size, retention, session.actor)
    appending = Appending(session, command, reached, said, quota, old)
    session.appending = appending
    await appending.start(command.args)
