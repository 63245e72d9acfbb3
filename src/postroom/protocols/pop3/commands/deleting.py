"""DELE and RSET, which only mark, and QUIT, which does it. RFC 1939 §5, §6."""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.protocols.pop3 import replies, update
from postroom.protocols.pop3.session import Session, State
from postroom.wire.pop3 import Reply, parse_nothing, parse_number

_log: Final = structlog.get_logger("postroom.pop3")


async def dele(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5."""
    session.open.delete(parse_number(argument))
    return Reply(True, "Marked as deleted")


async def rset(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5."""
    parse_nothing(argument)
    session.open.undelete()
    return Reply(True, f"{session.open.count} messages, {session.open.octets} octets")


async def quit_(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §4 before sign-in, §6 after it: whatever comes of it, the maildrop is free then."""
    parse_nothing(argument)
    session.closing = True
    maildrop, lock = session.maildrop, session.lock
    if maildrop is None or lock is None:
        return replies.GOODBYE
    session.state = State.UPDATE
    session.output.flush()
    house, is_ours = session.shared.house, partial(session.shared.locks.is_ours, lock)
    gone, removed = maildrop.deleted(), False
    try:
        policy = await session.policy()
        await update.remove(house, maildrop, gone, session.actor, policy, is_ours)
        removed = True
        await update.mark_seen(house, maildrop, session.actor, policy)
        await update.expire(house, maildrop, session.actor, policy, is_ours)
    except MailError as error:
        reason = error.detail or str(error)
        _log.warning("update not finished", session=session.id, removed=removed, reason=reason)
    finally:
        session.maildrop = session.lock = None
        await session.free(lock)
    if removed and gone:
        _log.info("removed", session=session.id, count=len(gone))
    return replies.GOODBYE if removed else replies.NOT_ALL_REMOVED
