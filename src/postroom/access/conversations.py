"""The server's side of each mechanism as a conversation, the same for every protocol.

    conversation = authenticator.begin("SCRAM-SHA-256", SessionFacts.of(peer, "IMAP"))
    said = await conversation.step(initial_response)  # None: there was none
    while isinstance(said, Challenge):
        said = await conversation.step(await ask(said.data))
    # said is an Identity

A conversation that is dropped halfway holds nothing; `abandon` says so in the log.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import Protocol

from postroom.access.attempts import (
    Attempt,
    Challenge,
    Identity,
    Outcome,
    Reason,
    SessionFacts,
)
from postroom.core.errors import Malformed, NotAuthenticated
from postroom.wire.sasl import (
    EXTERNAL,
    LOGIN,
    OAUTHBEARER,
    PASSWORD_PROMPT,
    PLAIN,
    USERNAME_PROMPT,
    BindingMismatch,
    ScramServer,
    Verifier,
    parse_answer,
    parse_client_first,
    parse_external,
    parse_oauthbearer,
    parse_plain,
    parse_xoauth2,
    refusal,
    xoauth2_refusal,
)

NONCE_OCTETS = 18
"""Random octets of a server's nonce: 24 characters."""


class Conversation(Protocol):
    """One attempt to sign in, step by step."""

    async def step(self, response: bytes | None) -> Challenge | Identity:
        """Hear a response and say what comes next; None where no initial response was given.

        Raises NotAuthenticated, AuthUnavailable, Malformed, or what a `before` raised; then,
        as after an Identity, the conversation is over.
        """
        ...

    def abandon(self) -> None:
        """The peer cancelled or went away. May be called at any time, also when it is over."""
        ...


class Judge(Protocol):
    """What conversations ask of the Authenticator. It logs, counts and tells the hooks."""

    async def authenticate(self, attempt: Attempt) -> Identity:
        """Who it is, by a password that was said."""
        ...

    async def vouched(self, attempt: Attempt, token: str) -> Identity:
        """Who it is, by a token of the identity provider."""
        ...

    async def certified(self, attempt: Attempt, certificate: bytes) -> Identity:
        """Who it is, by the certificate that the client showed."""
        ...

    async def hear(self, attempt: Attempt) -> Verifier:
        """What a proof is to be checked against: of nobody, if nobody is of that name."""
        ...

    async def prove(self, attempt: Attempt, verifier: Verifier, right: bool) -> Identity:
        """Who it is, given whether the proof fits the verifier that `hear` gave."""
        ...

    def end(self, attempt: Attempt, outcome: Outcome, detail: str = "") -> None:
        """An attempt that was heard has ended so."""
        ...


class _State(Enum):
    BEGUN = "nothing was said"
    ASKED = "a first challenge was said"
    PROVED = "the client's proof was right, ours was said"
    OVER = "it ended"


class _Saying:
    """What PLAIN and LOGIN share: the attempt begins and ends when all was said."""

    __slots__ = ("_facts", "_judge", "_state")

    def __init__(self, judge: Judge, facts: SessionFacts) -> None:
        self._judge = judge
        self._facts = facts
        self._state = _State.BEGUN

    async def _try(
        self, mechanism: str, login: str, password: str, acting: str = ""
    ) -> Challenge | Identity:
        facts = self._facts
        return await self._judge.authenticate(
            Attempt(mechanism, login, password, facts.ip, facts.listener, facts.protocol, acting)
        )

    def abandon(self) -> None:
        """Nobody was named to the Authenticator, so there is nothing to tell."""
        self._state = _State.OVER


class PlainConversation(_Saying):
    """RFC 4616."""

    __slots__ = ()

    async def step(self, response: bytes | None) -> Challenge | Identity:
        state, self._state = self._state, _State.OVER
        if response is None and state is _State.BEGUN:
            self._state = _State.ASKED
            return Challenge(b"")
        if response is None or state is _State.OVER:
            raise Malformed("A response is missing")
        said = parse_plain(response)
        return await self._try(PLAIN, said.login, said.password, said.authzid)


class LoginConversation(_Saying):
    """draft-murchison-sasl-login. Some clients say their name as the initial response."""

    __slots__ = ("_login",)

    def __init__(self, judge: Judge, facts: SessionFacts) -> None:
        super().__init__(judge, facts)
        self._login: str | None = None

    async def step(self, response: bytes | None) -> Challenge | Identity:
        state, self._state = self._state, _State.OVER
        if response is None and state is _State.BEGUN:
            self._state = _State.ASKED
            return Challenge(USERNAME_PROMPT)
        if response is None or state is _State.OVER:
            raise Malformed("A response is missing")
        said = parse_answer(response)
        if self._login is None:
            self._login = said
            self._state = _State.ASKED
            return Challenge(PASSWORD_PROMPT)
        return await self._try(LOGIN, self._login, said)


class ScramConversation:
    """RFC 5802, RFC 7677. The attempt is heard with the client's first message, which names it."""

    __slots__ = (
        "_attempt",
        "_facts",
        "_identity",
        "_judge",
        "_mechanism",
        "_plus",
        "_server",
        "_state",
        "_verifier",
    )

    def __init__(self, judge: Judge, facts: SessionFacts, mechanism: str, *, plus: bool) -> None:
        self._judge = judge
        self._facts = facts
        self._mechanism = mechanism
        self._plus = plus
        self._state = _State.BEGUN
        self._attempt: Attempt | None = None
        self._server: ScramServer | None = None
        self._verifier: Verifier | None = None
        self._identity: Identity | None = None

    async def step(self, response: bytes | None) -> Challenge | Identity:
        state, self._state = self._state, _State.OVER
        if state is _State.OVER:
            raise Malformed("The exchange is over")
        if response is None:
            if state is not _State.BEGUN:
                raise Malformed("A response is missing")
            # It may be asked for once: what comes is the first message all the same.
            self._state = _State.BEGUN
            return Challenge(b"")
        if state is _State.BEGUN:
            said = await self._first(response)
            self._state = _State.ASKED
            return said
        if state is _State.ASKED:
            said = await self._final(response)
            self._state = _State.PROVED
            return said
        return self._done(response)

    def abandon(self) -> None:
        if self._state is not _State.OVER and self._attempt is not None:
            self._judge.end(self._attempt, Outcome(Reason.ABANDONED))
        self._state = _State.OVER

    async def _first(self, response: bytes) -> Challenge:
        first = parse_client_first(response)
        facts = self._facts
        attempt = self._attempt = Attempt(
            self._mechanism,
            first.login,
            None,
            facts.ip,
            facts.listener,
            facts.protocol,
            first.authzid,
        )
        verifier = self._verifier = await self._judge.hear(attempt)
        try:
            server = self._server = ScramServer(first, plus=self._plus, binding=facts.binding)
        except BindingMismatch as error:
            raise self._another_channel(attempt, error) from error
        return Challenge(server.challenge(verifier, secrets.token_urlsafe(NONCE_OCTETS)))

    async def _final(self, response: bytes) -> Challenge:
        attempt, server, verifier = self._attempt, self._server, self._verifier
        assert attempt is not None and server is not None and verifier is not None
        try:
            said = server.finish(response)
        except BindingMismatch as error:
            raise self._another_channel(attempt, error) from error
        except Malformed:
            self._judge.end(attempt, Outcome(Reason.ABANDONED))
            raise
        self._identity = await self._judge.prove(attempt, verifier, said is not None)
        assert said is not None  # else `prove` had raised
        return Challenge(said)

    def _done(self, response: bytes) -> Identity:
        """The client has seen our proof, and has nothing to say."""
        attempt, identity = self._attempt, self._identity
        assert attempt is not None and identity is not None
        if response:
            self._judge.end(attempt, Outcome(Reason.ABANDONED))
            raise Malformed("Nothing is left to say")
        self._judge.end(attempt, Outcome(Reason.RIGHT, identity))
        return identity

    def _another_channel(self, attempt: Attempt, error: BindingMismatch) -> NotAuthenticated:
        self._judge.end(attempt, Outcome(Reason.CHANNEL), error.detail)
        return NotAuthenticated(detail=error.detail)


class TokenConversation:
    """OAUTHBEARER (RFC 7628) and XOAUTH2: the client shows a token that others signed.

    One that is refused is told so in a challenge, with where to get another; the client says that
    it understood, and only then is the exchange over. RFC 7628 §3.2.3.
    """

    __slots__ = ("_configuration", "_error", "_facts", "_judge", "_mechanism", "_scope", "_state")

    def __init__(
        self, judge: Judge, facts: SessionFacts, mechanism: str, scope: str, configuration: str
    ) -> None:
        self._judge = judge
        self._facts = facts
        self._mechanism = mechanism
        self._scope = scope
        self._configuration = configuration
        self._state = _State.BEGUN
        self._error: NotAuthenticated | None = None

    async def step(self, response: bytes | None) -> Challenge | Identity:
        state, self._state = self._state, _State.OVER
        if self._error is not None:
            raise self._error  # whatever it said: the exchange ends now
        if response is None and state is _State.BEGUN:
            self._state = _State.ASKED
            return Challenge(b"")
        if response is None or state is _State.OVER:
            raise Malformed("A response is missing")
        standard = self._mechanism == OAUTHBEARER
        said = parse_oauthbearer(response) if standard else parse_xoauth2(response)
        facts = self._facts
        attempt = Attempt(
            self._mechanism, said.login, None, facts.ip, facts.listener, facts.protocol
        )
        try:
            return await self._judge.vouched(attempt, said.token)
        except NotAuthenticated as error:
            self._error = error
            self._state = _State.ASKED
        if standard:
            return Challenge(refusal(scope=self._scope, configuration=self._configuration))
        return Challenge(xoauth2_refusal(self._scope))

    def abandon(self) -> None:
        """The attempt, if there was one, has ended already."""
        self._state = _State.OVER


class ExternalConversation(_Saying):
    """EXTERNAL: the client's certificate says who it is. RFC 4422 Appendix A."""

    __slots__ = ()

    async def step(self, response: bytes | None) -> Challenge | Identity:
        state, self._state = self._state, _State.OVER
        if response is None and state is _State.BEGUN:
            self._state = _State.ASKED
            return Challenge(b"")
        if response is None or state is _State.OVER:
            raise Malformed("A response is missing")
        facts = self._facts
        attempt = Attempt(
            EXTERNAL, parse_external(response), None, facts.ip, facts.listener, facts.protocol
        )
        return await self._judge.certified(attempt, facts.certificate)
