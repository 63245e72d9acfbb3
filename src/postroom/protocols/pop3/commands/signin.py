"""STLS, USER, PASS, AUTH: who is there, and the maildrop that is then locked.

RFC 2595 §4, RFC 1939 §7, RFC 5034. The mechanisms of AUTH are access's; here they are carried over
the line. Nobody signs in before TLS: RFC 8314 §3.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog

from postroom.access import Attempt, Challenge, Conversation, Identity, SessionFacts
from postroom.core.errors import (
    AuthUnavailable,
    EncryptionRequired,
    MailError,
    Malformed,
    NotAllowed,
    NotAuthenticated,
)
from postroom.domain.mailboxes import maildrop as domain
from postroom.protocols.pop3.locks import Lock
from postroom.protocols.pop3.maildrop import Maildrop
from postroom.protocols.pop3.session import Session, State
from postroom.protocols.pop3.settings import Pop3Settings
from postroom.wire.pop3 import (
    BadArgument,
    Reply,
    challenge,
    listing,
    parse_auth,
    parse_auth_line,
    parse_nothing,
    parse_password,
    parse_user,
)
from postroom.wire.sasl import LOGIN

PROTOCOL: Final = "POP3"

FAILURES: Final = 3
"""Refused sign-ins after which the connection ends: the next guess costs a new one."""

MANY: Final = 10_000
"""Messages of a maildrop that are read on the loop."""


def mechanisms(session: Session) -> tuple[str, ...]:
    """What AUTH offers now: nothing before TLS."""
    return session.shared.authenticator.mechanisms(_facts(session))


def _facts(session: Session) -> SessionFacts:
    """As access is told: what is not offered can be bound to nothing."""
    facts = SessionFacts.of(session.peer, PROTOCOL)
    settings = session.shared.house.policies.latest(session.chain()).of(Pop3Settings)
    return facts if settings.channel_binding else replace(facts, binding=b"")


async def stls(session: Session, argument: bytes) -> Reply | None:
    """RFC 2595 §4. The connection upgrades, and says the reply."""
    parse_nothing(argument)
    if session.peer.tls is not None:
        raise BadArgument("TLS is active already")
    if session.shared.tls is None:
        raise NotAllowed("TLS is not available")
    session.start_tls = True
    return None


async def user(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §7. Every name is taken alike: who exists is not told. Attack class 16."""
    name = parse_user(argument)
    if session.peer.tls is None:
        raise EncryptionRequired
    session.user = name
    return Reply(True, "Now the password")


async def pass_(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §7. After a refusal, USER is to come again."""
    password = parse_password(argument)
    if session.peer.tls is None:
        raise EncryptionRequired
    name, session.user = session.user, None
    if name is None:
        raise BadArgument("USER comes first")
    session.output.flush()
    facts = _facts(session)
    attempt = Attempt(LOGIN, name, password, facts.ip, facts.listener, facts.protocol)
    with _judged(session):
        identity = await session.shared.authenticator.authenticate(attempt)
    return await _welcome(session, identity)


async def auth(session: Session, argument: bytes) -> Reply | None:
    """RFC 5034 §4; the first response may come along.

    COMPAT: AUTH alone lists the mechanisms, as clients ask that are older than CAPA.
    """
    asked = parse_auth(argument)
    if asked is None:
        session.say(Reply(True, "Mechanisms follow"))
        session.output.write(listing(mechanisms(session)))
        return None
    conversation = session.shared.authenticator.begin(asked.mechanism, _facts(session))
    session.user = None
    return await _step(session, conversation, asked.initial)


async def answer(session: Session, line: bytes) -> Reply | None:
    """The client's line after a challenge; "*" cancels. RFC 5034 §4."""
    conversation, session.sasl = session.sasl, None
    assert conversation is not None  # the server asked for the line because of it
    try:
        response = parse_auth_line(line)
    except Malformed:
        conversation.abandon()
        raise
    if response is None:
        conversation.abandon()
        raise BadArgument("Cancelled")
    return await _step(session, conversation, response)


async def _step(
    session: Session, conversation: Conversation, response: bytes | None
) -> Reply | None:
    session.output.flush()
    with _judged(session):
        said = await conversation.step(response)
    if isinstance(said, Challenge):
        session.sasl = conversation
        session.output.write(challenge(b64encode(said.data)))
        return None
    return await _welcome(session, said)


@contextmanager
def _judged(session: Session) -> Iterator[None]:
    """Around a judgement: what it logs names the session, and what goes wrong counts."""
    try:
        with structlog.contextvars.bound_contextvars(session=session.id):
            yield
    except MailError as error:
        if isinstance(error, NotAuthenticated | AuthUnavailable):
            error.detail = ""  # access has logged it: one line for each attempt
        if isinstance(error, NotAuthenticated | Malformed):
            session.failed_sign_ins += 1
            session.closing = session.failed_sign_ins >= FAILURES
        raise


async def _welcome(session: Session, identity: Identity) -> Reply:
    """Lock the maildrop and see what is in it. RFC 1939 §4."""
    house = session.shared.house
    box = await house.mail.read(domain.inbox, identity.account)
    lock = await _lock(session, box.id)
    try:
        read = house.mail.read_much if box.total > MANY else house.mail.read
        opened = await read(domain.read, box.id)
        session.identity = identity
        session.idle_seconds = (await session.policy()).of(Pop3Settings).idle_seconds
    except BaseException:
        session.identity = None
        session.shared.see_to(session.free(lock))
        raise
    session.lock = lock
    session.maildrop = Maildrop(opened)
    session.state = State.TRANSACTION
    session.signed_in()
    return Reply(True, f"{session.maildrop.count} messages, {session.maildrop.octets} octets")


async def _lock(session: Session, mailbox: int) -> Lock:
    """Not to be cut off in the middle: a lock that nobody knows of keeps its owner out."""
    loop = asyncio.get_running_loop()
    taking = loop.create_task(session.shared.locks.take(mailbox, session.number))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        session.shared.see_to(_let_go(session, taking))
        raise


async def _let_go(session: Session, taking: asyncio.Task[Lock]) -> None:
    try:
        lock = await taking
    except MailError:
        return  # it was not to be had
    await session.free(lock)
