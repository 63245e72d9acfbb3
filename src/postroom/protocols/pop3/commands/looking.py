"""STAT, LIST, UIDL: what is in the maildrop. RFC 1939 §5, §7."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from postroom.protocols.pop3.session import Session
from postroom.wire.pop3 import Reply, parse_nothing, parse_optional_number


async def stat(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5: what is marked as deleted is not counted."""
    parse_nothing(argument)
    return Reply(True, f"{session.open.count} {session.open.octets}")


async def list_(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5."""
    number = parse_optional_number(argument)
    if number is not None:
        return Reply(True, f"{number} {session.open.message(number)[1]}")
    session.say(Reply(True, f"{session.open.count} messages, {session.open.octets} octets"))
    await _listed(session, session.open.scan_listing())
    return None


async def uidl(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §7: UIDVALIDITY and UID, which no other message of the account ever has."""
    number = parse_optional_number(argument)
    if number is not None:
        return Reply(True, f"{number} {session.open.unique_id(number)}")
    session.say(Reply(True, "Unique ids follow"))
    await _listed(session, session.open.unique_id_listing())
    return None


async def _listed(session: Session, pieces: Iterator[bytes]) -> None:
    """The peer's reading sets the pace, and others have their turn."""
    for n, piece in enumerate(pieces):
        session.output.write(piece)
        await session.output.drain()
        if n:
            await asyncio.sleep(0)
    session.output.write(b".\r\n")
