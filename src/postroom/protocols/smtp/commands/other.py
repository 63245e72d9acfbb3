"""RSET, NOOP, QUIT and what is answered without being done."""

from __future__ import annotations

from postroom.protocols.smtp import replies
from postroom.protocols.smtp.session import Session
from postroom.wire.smtp import Reply, parse_nothing, parse_query


async def rset(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.5."""
    parse_nothing(argument)
    session.reset()
    return replies.OK


async def noop(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.9: whatever is said along is ignored."""
    return replies.OK


async def vrfy(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §3.5.3: addresses are not for the asking. Attack class 16."""
    parse_query(argument)
    return replies.CANNOT_VERIFY


async def help_(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.8."""
    return replies.HELP


async def not_implemented(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.2.4: known, and not offered here."""
    return replies.NOT_OFFERED


async def quit_(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.10."""
    parse_nothing(argument)
    session.reset()
    session.closing = True
    return replies.GOODBYE
