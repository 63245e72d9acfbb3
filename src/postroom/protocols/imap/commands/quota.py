"""GETQUOTA and GETQUOTAROOT. RFC 9208 §4.1.1, §4.1.2.

An account with a limit has one quota root, which is called ""; one without has none. What an
administrator allows is not a client's to change: SETQUOTA (QUOTASET) is not offered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroom.core.errors import NotFound
from postroom.domain.mailboxes import reading, sharing
from postroom.domain.mailboxes.messages import Quota
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.session import Session
from postroom.wire.imap import (
    Command,
    parenthesised,
    parse_getquota,
    parse_getquotaroot,
    untagged,
)

ROOT: Final = ""
_NAME: Final = b'""'
_UNIT: Final = 1024
"""Octets in one unit of STORAGE: RFC 9208 §5.1."""


async def getquota(session: Session, command: Command) -> None:
    """RFC 9208 §4.1.1. NO [NONEXISTENT] for what is no root, or where nothing is limited."""
    asked = parse_getquota(command.args)
    held = await session.quota()
    if asked.root != ROOT or not _limited(held):
        raise NotFound("There is no such quota root")
    session.write(await _quota(session, held))
    await finish(session, command, "Quota told")


async def getquotaroot(session: Session, command: Command) -> None:
    """RFC 9208 §4.1.2: of a mailbox that could be made, too. What is another's counts towards a
    root of his, which is not told."""
    asked = parse_getquotaroot(command.args)
    held = await session.quota()
    name = session.name(asked.mailbox)
    mine = True
    if sharing.is_beyond(asked.mailbox):
        mine = (await session.find(asked.mailbox)).account == session.account
    if mine and _limited(held):
        session.write(untagged(b"QUOTAROOT", name, _NAME) + await _quota(session, held))
    else:
        session.write(untagged(b"QUOTAROOT", name))
    await finish(session, command, "Quota roots told")


def _limited(held: Quota) -> bool:
    return bool(held.octets or held.messages)


async def _quota(session: Session, held: Quota) -> bytes:
    octets, messages = await session.shared.house.mail.read(reading.usage, session.account)
    return untagged(b"QUOTA", _NAME, parenthesised(_resources(held, octets, messages)))


def _resources(held: Quota, octets: int, messages: int) -> Iterator[bytes]:
    """What is limited: its use and its limit. RFC 9208 §4.2.1."""
    if held.octets:
        # What is begun of a unit is used, and cannot be had.
        yield b"STORAGE %d %d" % (-(-octets // _UNIT), held.octets // _UNIT)
    if held.messages:
        yield b"MESSAGE %d %d" % (messages, held.messages)
