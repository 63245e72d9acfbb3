"""BDAT: the message in counted chunks. RFC 3030.

The octets follow the command whether or not it is welcome: they are taken off the line before
the reply, so that none of them is ever read as a command (attack class 1).
"""

from __future__ import annotations

from postroom.core.errors import Malformed
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.session import Chunk, Session, State
from postroom.wire.smtp import Reply, parse_bdat


async def bdat(session: Session, argument: bytes) -> Reply | None:
    """RFC 3030 §2. The server says its reply when the octets are here."""
    try:
        asked = parse_bdat(argument)
    except Malformed as error:
        # How many octets follow is not known, so what comes next cannot be told from commands.
        session.closing = True
        return replies.of_error(error)
    refusal: Reply | None = None
    if session.state is State.RCPT:
        assert session.transit is not None
        session.intake.spool(session.transit)
        session.state = State.CHUNKS
    elif session.state is State.MAIL:
        refusal = session.service.no_recipients
    elif session.state is not State.CHUNKS:
        refusal = replies.NOT_NOW
    session.chunk = Chunk(asked.size, asked.last, refusal)
    return None
