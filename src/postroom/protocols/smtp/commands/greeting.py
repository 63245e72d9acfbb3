"""EHLO, HELO, STARTTLS: who is there and how the line is protected."""

from __future__ import annotations

from typing import Final

from postroom.core.errors import Status
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.commands import signin
from postroom.protocols.smtp.session import Session
from postroom.wire.smtp import Reply, ehlo_reply, parse_hello, parse_nothing

EXTENSIONS: Final = frozenset(
    {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"}
    | {"CHUNKING", "BINARYMIME", "DSN", "LIMITS"}
)
"""What parameters of MAIL and RCPT may rest on. RFC 5321 §2.2.1."""


def offered(session: Session) -> frozenset[str]:
    """On what the parameters of this session may rest: nothing after HELO."""
    if not session.visit.extended:
        return frozenset()
    return EXTENSIONS | {"AUTH"} if session.service.signs_in else EXTENSIONS


async def ehlo(session: Session, argument: bytes) -> Reply:
    """RFC 5321 §4.1.1.1; LHLO likewise, RFC 2033 §4.1. Begins afresh: RFC 5321 §4.1.4."""
    hello = parse_hello(argument)
    session.reset()
    session.visit.helo = hello.name
    session.visit.extended = True
    limits = session.intake.settings(session.visit.peer.listener)
    offers = [
        "PIPELINING",  # RFC 2920
        f"SIZE {limits.max_size}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "DSN",  # RFC 3461
        "CHUNKING",  # RFC 3030
        "BINARYMIME",  # RFC 3030
        f"LIMITS RCPTMAX={limits.max_recipients}",  # RFC 9422
        "HELP",
    ]
    if session.offers_starttls and session.visit.peer.tls is None:
        offers.append("STARTTLS")  # RFC 3207
    if mechanisms := signin.mechanisms(session):
        offers.append(f"AUTH {' '.join(mechanisms)}")  # RFC 4954 §3
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
