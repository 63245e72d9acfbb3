"""AUTH: who is there. RFC 4954.

What each mechanism says is access's affair; here are the lines and the codes.
"""

from __future__ import annotations

import base64
from typing import Final

from postroom.access import Challenge, Identity, SessionFacts
from postroom.core.errors import AuthUnavailable, MailError, Malformed, NotAuthenticated, Status
from postroom.protocols.smtp import replies
from postroom.protocols.smtp.session import Session
from postroom.wire.smtp import Reply, parse_auth, parse_auth_line

FAILURES: Final = 3
"""Refused sign-ins after which the connection ends: the next guess costs a new one."""

SIGNED_IN: Final = Reply(235, Status(2, 7, 0), ("Signed in",))
ALREADY: Final = Reply(503, Status(5, 5, 1), ("You are signed in already",))
CANCELLED: Final = Reply(501, Status(5, 0, 0), ("Cancelled",))
TOO_MANY: Final = Reply(421, Status(4, 7, 0), ("Too many failed sign-ins, closing",))


def mechanisms(session: Session) -> tuple[str, ...]:
    """What to offer now: nothing before TLS. RFC 8314 §3.3."""
    if session.authenticator is None or not session.service.signs_in:
        return ()
    return session.authenticator.mechanisms(SessionFacts.of(session.visit.peer, "SMTP"))


async def auth(session: Session, argument: bytes) -> Reply:
    """RFC 4954 §4. Not twice, and not within a message."""
    if session.visit.principal is not None:
        return ALREADY
    asked = parse_auth(argument)
    assert session.authenticator is not None  # a service with this verb has one
    facts = SessionFacts.of(session.visit.peer, "SMTP")
    session.conversation = session.authenticator.begin(asked.mechanism, facts)
    return await _step(session, asked.initial)


async def answer(session: Session, line: bytes) -> Reply:
    """The client's line after a 334; "*" cancels. RFC 4954 §4."""
    try:
        response = parse_auth_line(line)
    except Malformed as error:
        session.abandon()
        return replies.of_error(error)
    if response is None:
        session.abandon()
        return CANCELLED
    return await _step(session, response)


async def _step(session: Session, response: bytes | None) -> Reply:
    conversation = session.conversation
    assert conversation is not None
    try:
        said = await conversation.step(response)
    except MailError as error:
        session.conversation = None
        return _refused(session, error)
    if isinstance(said, Challenge):
        return Reply(334, None, (base64.b64encode(said.data).decode("ascii"),))
    session.conversation = None
    _welcome(session, said)
    return SIGNED_IN


def _welcome(session: Session, identity: Identity) -> None:
    visit = session.visit
    visit.principal = identity.principal
    visit.login = str(identity.address)
    visit.epoch = identity.epoch
    session.bad = 0


def _refused(session: Session, error: MailError) -> Reply:
    if isinstance(error, NotAuthenticated | Malformed):
        session.failed_sign_ins += 1
        if session.failed_sign_ins >= FAILURES:
            session.closing = True
            return TOO_MANY
    if isinstance(error, AuthUnavailable):
        return Reply(454, error.status, (str(error),))  # RFC 4954 §6
    if isinstance(error, Malformed):
        return Reply(501, error.status, (str(error),))  # RFC 4954 §4, as for what is no base64
    return replies.of_error(error)
