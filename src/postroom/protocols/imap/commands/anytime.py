"""CAPABILITY, NOOP, LOGOUT, ID, IDLE. RFC 3501 §6.1, RFC 2971, RFC 2177."""

from __future__ import annotations

import structlog

from postroom import __version__
from postroom.access import SessionFacts
from postroom.protocols.imap import capabilities
from postroom.protocols.imap.keeping_up import catch_up, finish
from postroom.protocols.imap.session import Session, State
from postroom.wire.imap import (
    Command,
    parse_id,
    parse_nothing,
    quoted_or_literal,
    untagged,
)

_log = structlog.get_logger("postroom.imap")


def offered(session: Session) -> bytes:
    """The capabilities as this session stands."""
    facts = SessionFacts.of(session.peer, "IMAP")
    mechanisms = session.shared.authenticator.mechanisms(facts)
    return capabilities.offered(
        mechanisms,
        signed_in=session.identity is not None,
        starttls=session.shared.tls is not None,
        compressed=session.compressed,
    )


async def capability(session: Session, command: Command) -> None:
    """RFC 3501 §6.1.1."""
    parse_nothing(command.args)
    session.write(untagged(b"CAPABILITY", offered(session)))
    await finish(session, command, "Capabilities told")


async def noop(session: Session, command: Command) -> None:
    """NOOP and CHECK: a chance to hear what others did. RFC 3501 §6.1.2, §6.4.1."""
    parse_nothing(command.args)
    await finish(session, command, "Done", look=False)


async def logout(session: Session, command: Command) -> None:
    """RFC 3501 §6.1.3."""
    parse_nothing(command.args)
    session.tell(None, "BYE", "Goodbye")
    session.tell(command.tag, "OK", "Signed out")
    session.close_mailbox()
    session.state = State.LOGOUT


async def id_(session: Session, command: Command) -> None:
    """RFC 2971 §3.1: for logs, never for policy."""
    asked = parse_id(command.args)
    told = {name.lower(): value for name, value in asked.fields if value}
    client = f"{told.get('name', '')} {told.get('version', '')}".strip()[:100]
    if client and not session.client:  # once: a stranger could fill the log
        _log.info("client", session=session.id, client=client)
    session.client = client or session.client
    own = (b"name", b"Postroom", b"version", __version__.encode("ascii"))
    session.write(untagged(b"ID (" + b" ".join(map(quoted_or_literal, own)) + b")"))
    await finish(session, command, "Nice to meet you")


async def idle(session: Session, command: Command) -> None:
    """RFC 2177 §3. The server listens to the bus until DONE; no task waits meanwhile."""
    parse_nothing(command.args)
    await catch_up(session, expunge=True)
    if session.state is State.LOGOUT:
        return
    session.idling = command.tag
    session.go_on("idling")
