"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS. RFC 4314 §3.

Whom these name is known within the owner's domain only: another's accounts are an administrator's
to share with.
"""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.directory import people
from postroom.domain.mailboxes import rights, sharing
from postroom.domain.mailboxes.rights import Entry, Right
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.wire.imap import (
    Command,
    RightsMode,
    astring,
    parse_acl_mailbox,
    parse_identifier,
    parse_setacl,
    quoted_or_literal,
    untagged,
)

# Who has one of these may ask what he has. RFC 4314 §4.
_MAY_ASK: Final = (
    Right.LOOKUP
    | Right.READ
    | Right.INSERT
    | Right.CREATE
    | Right.DELETE_MAILBOX
    | Right.ADMINISTER
)


async def setacl(session: Session, command: Command) -> None:
    """RFC 4314 §3.1."""
    asked = parse_setacl(command.args)
    await _put(session, asked.mailbox, asked.identifier, rights.parse(asked.rights), asked.mode)
    await finish(session, command, "Rights set")


async def deleteacl(session: Session, command: Command) -> None:
    """RFC 4314 §3.2."""
    asked = parse_identifier(command.args)
    await _put(session, asked.mailbox, asked.identifier, rights.NONE, RightsMode.REPLACE)
    await finish(session, command, "Rights removed")


async def _put(
    session: Session, path: str, identifier: str, wanted: Right, mode: RightsMode
) -> None:
    house = session.shared.house
    await house.mail.write(_set, session.account, path, identifier, wanted, mode, house.clock.now())


def _set(
    tx: Tx,
    viewer: int,
    path: str,
    identifier: str,
    wanted: Right,
    mode: RightsMode,
    now: Instant,
) -> None:
    box = sharing.find(tx, viewer, path, Right.ADMINISTER)
    whom = rights.subject(tx, people.by_id(tx, box.account), identifier)
    rights.put(
        tx,
        box.id,
        whom,
        wanted,
        now,
        viewer,
        add=mode is RightsMode.ADD,
        remove=mode is RightsMode.REMOVE,
    )


async def getacl(session: Session, command: Command) -> None:
    """RFC 4314 §3.3, §3.6."""
    asked = parse_acl_mailbox(command.args)
    found = await session.shared.house.mail.read(_entries, session.account, asked.mailbox)
    parts = [b"ACL", session.name(asked.mailbox)]
    for entry in found:
        parts += [_identifier(entry.identifier), _letters(rights.written(entry.rights))]
    session.write(untagged(*parts))
    await finish(session, command, "The list told")


def _entries(tx: Tx, viewer: int, path: str) -> list[Entry]:
    return rights.entries(tx, sharing.find(tx, viewer, path, Right.ADMINISTER))


async def listrights(session: Session, command: Command) -> None:
    """RFC 4314 §3.4, §3.7."""
    asked = parse_identifier(command.args)
    always, single = await session.shared.house.mail.read(
        _offered, session.account, asked.mailbox, asked.identifier
    )
    parts = [b"LISTRIGHTS", session.name(asked.mailbox), _identifier(asked.identifier)]
    parts += map(_letters, (always, *single))
    session.write(untagged(*parts))
    await finish(session, command, "Rights told")


def _offered(tx: Tx, viewer: int, path: str, identifier: str) -> tuple[str, tuple[str, ...]]:
    box = sharing.find(tx, viewer, path, Right.ADMINISTER)
    whom = rights.subject(tx, people.by_id(tx, box.account), identifier)
    always, single = rights.offered(box.account, whom)
    return always, tuple(single)


async def myrights(session: Session, command: Command) -> None:
    """RFC 4314 §3.5, §3.8."""
    asked = parse_acl_mailbox(command.args)
    found = await session.shared.house.mail.read(sharing.reach, session.account, asked.mailbox)
    if not found.rights & _MAY_ASK:
        raise NotFound("No such mailbox")
    session.write(myrights_line(session, asked.mailbox, found.rights))
    await finish(session, command, "Your rights told")


def myrights_line(session: Session, path: str, held: Right) -> bytes:
    """The untagged response. RFC 4314 §3.8."""
    return untagged(b"MYRIGHTS", session.name(path), _letters(rights.written(held)))


def _letters(letters: str) -> bytes:
    return astring(letters.encode("ascii"))


def _identifier(name: str) -> bytes:
    raw = name.encode("utf-8")
    return astring(raw) if name.isascii() else quoted_or_literal(raw)
