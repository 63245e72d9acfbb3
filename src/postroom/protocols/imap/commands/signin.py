"""STARTTLS, LOGIN, AUTHENTICATE, ENABLE, UNAUTHENTICATE. RFC 3501 §6.2, RFC 4959, RFC 5161.

The mechanisms of AUTHENTICATE are access's; here they are carried over the line.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from postroom.access import Attempt, Challenge, Conversation, Identity, SessionFacts
from postroom.core.errors import (
    AuthUnavailable,
    EncryptionRequired,
    Malformed,
    NotAllowed,
    NotAuthenticated,
)
from postroom.protocols.imap.commands.anytime import offered
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.session import Session, State
from postroom.wire.imap import (
    BadSyntax,
    Command,
    continuation,
    parse_authenticate,
    parse_enable,
    parse_login,
    parse_nothing,
    sasl_response,
    untagged,
)
from postroom.wire.sasl import LOGIN

PROTOCOL: Final = "IMAP"


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
    """RFC 3501 §6.2.3. Never before TLS: RFC 8314 §3."""
    asked = parse_login(command.args)
    if session.peer.tls is None:
        raise EncryptionRequired
    facts = SessionFacts.of(session.peer, PROTOCOL)
    attempt = Attempt(LOGIN, asked.user, asked.password, facts.ip, facts.listener, facts.protocol)
    with _judged(session):
        identity = await session.shared.authenticator.authenticate(attempt)
    _welcome(session, command.tag, identity)


async def authenticate(session: Session, command: Command) -> None:
    """RFC 3501 §6.2.2; the first response may come along: RFC 4959."""
    asked = parse_authenticate(command.args)
    facts = SessionFacts.of(session.peer, PROTOCOL)
    conversation = session.shared.authenticator.begin(asked.mechanism, facts)
    await _step(session, command.tag, conversation, asked.initial)


async def answer(session: Session, line: bytes) -> None:
    """A line of the client in an AUTHENTICATE exchange. RFC 3501 §6.2.2."""
    assert session.sasl is not None  # the server asked for the line because of it
    (tag, conversation), session.sasl = session.sasl, None
    try:
        response = sasl_response(line)
    except BadSyntax:
        conversation.abandon()
        raise
    if response is None:
        conversation.abandon()
        session.bad += 1
        session.tell(tag, "BAD", "Cancelled")
        return
    await _step(session, tag, conversation, response)


async def _step(
    session: Session, tag: bytes, conversation: Conversation, response: bytes | None
) -> None:
    with _judged(session):
        said = await conversation.step(response)
    if isinstance(said, Challenge):
        session.sasl = (tag, conversation)
        session.write(continuation(b64encode(said.data).decode("ascii")))
    else:
        _welcome(session, tag, said)


@contextmanager
def _judged(session: Session) -> Iterator[None]:
    """Around a judgement: what it logs names the session, and what goes wrong counts."""
    try:
        with structlog.contextvars.bound_contextvars(session=session.id):
            yield
    except (NotAuthenticated, AuthUnavailable) as error:
        session.bad += 1
        error.detail = ""  # access has logged it: one line for each attempt
        raise
    except Malformed:
        session.bad += 1
        raise


def _welcome(session: Session, tag: bytes, identity: Identity) -> None:
    session.identity = identity
    session.state = State.SIGNED_IN
    session.signed_in()
    session.tell(tag, "OK", "Signed in", b"CAPABILITY " + offered(session))


async def unauthenticate(session: Session, command: Command) -> None:
    """RFC 8437 §2: the next one signs in as if nobody had before; TLS stays as it is."""
    parse_nothing(command.args)
    if session.compressed:
        # What the next one says would be squeezed with what this one read: RFC 4978 §6.
        raise NotAllowed("A compressed connection is not handed on")
    session.sign_out()
    session.tell(command.tag, "OK", "Signed out", b"CAPABILITY " + offered(session))


async def enable(session: Session, command: Command) -> None:
    """RFC 5161 §3.1, RFC 9051 §6.3.1: unknown names are ignored."""
    asked = parse_enable(command.args)
    turned_on = []
    if "CONDSTORE" in asked.capabilities:
        session.enable_condstore()
        turned_on.append(b"CONDSTORE")
    if "QRESYNC" in asked.capabilities:
        session.enable_condstore()  # RFC 7162 §3.2.3
        session.qresync = True
        turned_on.append(b"QRESYNC")
    if "IMAP4REV2" in asked.capabilities:
        session.rev2 = True
        turned_on.append(b"IMAP4rev2")
        if session.selected is not None:
            session.selected.recent.clear()  # RFC 9051 Appendix E: it knows no \\Recent
    if "UTF8=ACCEPT" in asked.capabilities:
        session.utf8_accept = True  # RFC 6855 §3
        turned_on.append(b"UTF8=ACCEPT")
    if "UIDONLY" in asked.capabilities:
        session.uidonly = True  # RFC 9586 §3
        turned_on.append(b"UIDONLY")
    if session.rev2 or session.utf8_accept:
        session.speaks_utf8()
    session.write(untagged(b"ENABLED", *turned_on))
    await finish(session, command, "Enabled")
