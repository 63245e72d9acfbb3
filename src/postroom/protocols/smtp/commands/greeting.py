"""EHLO, HELO, STARTTLS: who is there and how the line is protected."""

from __future__ import annotations

from postroom.core.errors import Status
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.session import Session
from postroom.wire.smtp import Reply, ehlo_reply, parse_hello, parse_nothing

EXTENSIONS = frozenset({"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"})
"""What parameters of MAIL and RCPT may rest on. RFC 5321 §2.2.1."""


async def ehlo(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.1. Also begins afresh, as RSET does: RFC 5321 §4.1.4."""
    hello = parse_hello(argument)
    session.reset()
    session.visit.helo = hello.name
    session.visit.extended = True
    limit = session.intake.settings(session.visit.peer.listener).max_size
    offers = [
        "PIPELINING",  # RFC 2920
        f"SIZE {limit}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "HELP",
    ]
    if session.offers_starttls and session.visit.peer.tls is None:
        offers.append("STARTTLS")  # RFC 3207
    return ehlo_reply(session.hostname, f"greets {hello.name}", offers)


async def helo(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.1."""
    hello = parse_hello(argument)
    session.reset()
    session.visit.helo = hello.name
    session.visit.extended = False
    return Reply(250, None, (session.hostname,))


async def starttls(session: Session, argument: bytes) -> Reply:
    """RFC 3207 §4. The server upgrades once this reply is out."""
    parse_nothing(argument)
    if session.visit.peer.tls is not None:
        return replies.TLS_ALREADY
    if not session.offers_starttls:
        return Reply(454, Status(4, 7, 0), ("TLS is not available now",))
    session.start_tls = True
    return replies.READY_FOR_TLS
