"""STARTTLS, LOGIN, AUTHENTICATE, ENABLE. RFC 3501 §6.2, RFC 4959, RFC 4616, RFC 5161."""

from __future__ import annotations

import structlog

from postroom.access import Attempt
from postroom.core.errors import AuthUnavailable, EncryptionRequired, Malformed, NotAuthenticated
from postroom.protocols.imap.commands.anytime import offered
from postroom.protocols.imap.session import Session, State
from postroom.wire.imap import (
    Command,
    continuation,
    parse_authenticate,
    parse_enable,
    parse_login,
    parse_nothing,
    untagged,
)

_PLAIN_PARTS = 3


async def starttls(session: Session, command: Command) -> None:
    """RFC 3501 §6.2.1. The connection upgrades, then says the tagged reply's successor."""
    parse_nothing(command.args)
    if session.peer.tls is not None:
        session.tell(command.tag, "BAD", "TLS is active already")
    elif session.shared.tls is None:
        session.tell(command.tag, "NO", "TLS is not available")
    else:
        session.starttls = command.tag


async def login(session: Session, command: Command) -> None:
    """RFC 3501 §6.2.3."""
    asked = parse_login(command.args)
    await sign_in(session, command.tag, "LOGIN", asked.user, asked.password)


async def authenticate(session: Session, command: Command) -> None:
    """RFC 3501 §6.2.2; the first response may come along: RFC 4959."""
    asked = parse_authenticate(command.args)
    if asked.mechanism != "PLAIN":
        session.tell(command.tag, "NO", "This mechanism is not offered", b"CANNOT")
        return
    if session.peer.tls is None:
        raise EncryptionRequired
    if asked.initial is None:
        session.sasl = (command.tag, asked.mechanism)
        session.write(continuation())
        return
    await plain(session, command.tag, asked.initial)


async def plain(session: Session, tag: bytes, response: bytes) -> None:
    """`authorization NUL authentication NUL password`. RFC 4616 §2."""
    parts = response.split(b"\0")
    if len(parts) != _PLAIN_PARTS:
        raise Malformed("This is no PLAIN response")
    try:
        acting, user, password = (part.decode("utf-8") for part in parts)
    except UnicodeDecodeError:
        raise Malformed("This is no PLAIN response") from None
    if acting and acting != user:
        # Acting for another needs a grant, which sharing brings; nobody has one yet.
        raise NotAuthenticated(detail=f"{user[:100]!a} asked to act as {acting[:100]!a}")
    await sign_in(session, tag, "PLAIN", user, password)


async def sign_in(session: Session, tag: bytes, mechanism: str, user: str, password: str) -> None:
    """The one way in. Never before TLS: RFC 8314 §3."""
    if session.peer.tls is None:
        raise EncryptionRequired
    attempt = Attempt(
        mechanism=mechanism,
        login=user,
        password=password,
        ip=session.peer.ip,
        listener=session.peer.listener,
        protocol="IMAP",
    )
    try:
        with structlog.contextvars.bound_contextvars(session=session.id):
            session.identity = await session.shared.authenticator.authenticate(attempt)
    except (NotAuthenticated, AuthUnavailable) as error:
        session.bad += 1
        error.detail = ""  # access has logged it: one line for each attempt
        raise
    session.state = State.SIGNED_IN
    session.signed_in()
    session.tell(tag, "OK", "Signed in", b"CAPABILITY " + offered(session))


async def enable(session: Session, command: Command) -> None:
    """RFC 5161 §3.1: unknown names are ignored."""
    asked = parse_enable(command.args)
    turned_on = []
    if "CONDSTORE" in asked.capabilities:
        session.condstore = True
        turned_on.append(b"CONDSTORE")
    session.write(untagged(b"ENABLED", *turned_on))
    await session.finish(command, "Enabled")
