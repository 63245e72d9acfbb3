"""The one `authenticate`, for every protocol.

It says who somebody is, or raises NotAuthenticated and never says why: unknown, wrong, frozen
and throttled look and take alike. The reason goes to the log and to `after`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import structlog

from postroom.access import passwords
from postroom.access.attempts import (
    Attempt,
    Identity,
    NotOffered,
    Outcome,
    Reason,
    SessionFacts,
)
from postroom.access.clients import addresses
from postroom.access.conversations import (
    Conversation,
    ExternalConversation,
    LoginConversation,
    PlainConversation,
    ScramConversation,
    TokenConversation,
)
from postroom.access.hashing import Hashing
from postroom.access.passwords import Cost
from postroom.access.settings import AccessSettings
from postroom.access.throttle import Table, Throttle
from postroom.access.tokens import OAuthSettings, Tokens
from postroom.core import metrics
from postroom.core.clock import Clock
from postroom.core.errors import (
    AuthUnavailable,
    EncryptionRequired,
    MailError,
    Malformed,
    NotAuthenticated,
)
from postroom.core.ids import Ids
from postroom.core.settings import Chain, Place, Scope, chain
from postroom.domain.directory import people
from postroom.domain.directory.people import Verifiers
from postroom.domain.policy import Policies
from postroom.formats.address import Address, parse_mailbox
from postroom.store.sql import Tx
from postroom.store.units import Database
from postroom.wire.sasl import (
    EXTERNAL,
    LOGIN,
    OAUTHBEARER,
    PLAIN,
    SCRAM_SHA_256,
    SCRAM_SHA_256_PLUS,
    XOAUTH2,
    Verifier,
    parse_verifier,
)

T = TypeVar("T")
LOGIN_MAX: Final = 320
"""Characters of a login that are looked at: no address is longer."""

# Strongest first: clients that cannot tell take the first that they know.
MECHANISMS: Final = (SCRAM_SHA_256, PLAIN, LOGIN)
MECHANISMS_BOUND: Final = (SCRAM_SHA_256_PLUS, *MECHANISMS)
BY_TOKEN: Final = (OAUTHBEARER, XOAUTH2)

_SALT_KEY: Final = "access.unknown"
_KEY: Final = 32  # octets

OUTCOMES: Final = metrics.counter(
    "auth.attempts", "attempts", "Attempts to sign in by outcome", label="outcome"
)

_log: Final = structlog.get_logger("postroom.access")


Before = Callable[[Attempt], Awaitable[None]]
After = Callable[[Attempt, Outcome], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store says of a login, from one snapshot."""

    settings: AccessSettings
    identity: Identity | None = None
    state: str = ""
    secret: str | None = field(default=None, repr=False)
    scram: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Remembered:
    epoch: int
    until: float  # monotonic seconds


class Authenticator:
    """One for each worker. Construct on the loop.

    `default_domain` is where a bare local part is looked for. A `before` may refuse by raising
    a MailError; an `after` is told how each attempt ended.
    """

    def __init__(
        self,
        mail: Database,
        clock: Clock,
        policies: Policies,
        ids: Ids,
        *,
        default_domain: Callable[[], str],
        node: str = "1",
        hashing: Hashing | None = None,
        key: bytes | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        self._mail = mail
        self._clock = clock
        self._policies = policies
        self._ids = ids
        self._default_domain = default_domain
        self._node = Place(Scope.NODE, node)
        self._hashing = hashing or Hashing()
        self._key = key if key is not None else os.urandom(_KEY)
        self._salt_key: bytes | None = None
        self._tokens = tokens or Tokens(clock)
        self._throttle = Throttle(clock)
        self._remembered: Table[bytes, _Remembered] = Table()
        self.before: list[Before] = []
        self.after: list[After] = []

    def mechanisms(self, session: SessionFacts) -> tuple[str, ...]:
        """What to offer, strongest first: nothing before TLS (RFC 8314 §3)."""
        if not session.encrypted:
            return ()
        by_certificate = (EXTERNAL,) if session.certificate else ()
        by_password = MECHANISMS_BOUND if session.binding and self._binds() else MECHANISMS
        by_token = BY_TOKEN if self._oauth().offered else ()
        return (*by_certificate, *by_password, *by_token)

    def begin(self, mechanism: str, session: SessionFacts) -> Conversation:
        """A conversation in a mechanism, its name in upper case.

        Raises NotOffered for one that `mechanisms` does not name, EncryptionRequired for any
        other before TLS.
        """
        oauth = self._oauth()
        known = mechanism in MECHANISMS_BOUND or mechanism == EXTERNAL
        if not known and not (oauth.offered and mechanism in BY_TOKEN):
            raise NotOffered
        if not session.encrypted:
            raise EncryptionRequired
        if mechanism == EXTERNAL:
            if not session.certificate:
                raise NotOffered
            return ExternalConversation(self, session)
        if mechanism in BY_TOKEN:
            return TokenConversation(self, session, mechanism, oauth.scope, oauth.configuration)
        if mechanism == PLAIN:
            return PlainConversation(self, session)
        if mechanism == LOGIN:
            return LoginConversation(self, session)
        if not self._binds():
            session = replace(session, binding=b"")
        plus = mechanism == SCRAM_SHA_256_PLUS
        if plus and not session.binding:
            raise NotOffered
        return ScramConversation(self, session, mechanism, plus=plus)

    async def authenticate(self, attempt: Attempt) -> Identity:
        """Who it is, by a password that was said.

        Raises NotAuthenticated, AuthUnavailable if that cannot be said now, or what a `before`
        raised.
        """
        await self._before(attempt)
        outcome = await self._fairly(attempt, self._judge(attempt))
        self.end(attempt, outcome)
        if outcome.identity is None:
            raise NotAuthenticated(detail=str(outcome.reason))
        return outcome.identity

    async def vouched(self, attempt: Attempt, token: str) -> Identity:
        """Who it is, by a token of the identity provider. Raises as `authenticate` does."""
        await self._before(attempt)
        outcome, detail = await self._fairly(attempt, self._vouched(attempt, token))
        return self._ended(attempt, outcome, detail)

    def _ended(self, attempt: Attempt, outcome: Outcome, detail: str) -> Identity:
        """The end of an attempt that may not have named anybody."""
        if outcome.identity is not None:
            attempt = replace(attempt, login=str(outcome.identity.address))
        self.end(attempt, outcome, detail)
        if outcome.identity is None:
            raise NotAuthenticated(detail=str(outcome.reason))
        return outcome.identity

    async def certified(self, attempt: Attempt, certificate: bytes) -> Identity:
        """Who it is, by the certificate that the client showed. Raises as `authenticate` does."""
        await self._before(attempt)
        outcome, detail = await self._fairly(attempt, self._certified(attempt, certificate))
        return self._ended(attempt, outcome, detail)

    # --- for conversations: what is proved and not said ----------------------------------------

    async def hear(self, attempt: Attempt) -> Verifier:
        """What a proof is to be checked against. RFC 5802 §3.

        A login that nobody has, or has without a verifier, is given one that no proof fits, the
        same each time. Raises as `authenticate` does.
        """
        await self._before(attempt)
        reason = self._refused(attempt, self._address(attempt.login))
        if reason is not None:
            raise self._refuse(attempt, Outcome(reason))
        return await self._fairly(attempt, self._verifier(attempt))

    async def prove(self, attempt: Attempt, verifier: Verifier, right: bool) -> Identity:
        """Who it is, given whether the proof fits the verifier that `hear` gave.

        What is right is not ended here: the client has yet to see our own proof.
        """
        address = self._address(attempt.login)
        known = await self._fairly(attempt, self._mail.read(self._look, address, attempt.listener))
        # From here on nothing waits: conversations held open side by side are not heard beyond
        # the limit of guesses.
        reason = self._refused(attempt, address)
        if reason is not None:
            raise self._refuse(attempt, Outcome(reason))
        # The password may have been changed since the challenge.
        right = right and known.scram == verifier.text()
        login, who = self._name(attempt, address), known.identity
        if who is None or not right or known.state != "active":
            # Two wrong proofs of one password have nothing in common: each counts.
            self._count_failure(login, attempt, os.urandom(_KEY), known.settings)
            raise self._refuse(attempt, Outcome(_why(known, known.scram, right)))
        self._throttle.succeeded(login, attempt.ip)
        return who

    def end(self, attempt: Attempt, outcome: Outcome, detail: str = "") -> None:
        """Log, count and tell how an attempt ended: once for each."""
        OUTCOMES.add(label=str(outcome.reason))
        told = {
            "login": attempt.login[:LOGIN_MAX],
            "ip": str(attempt.ip or "local"),
            "protocol": attempt.protocol,
            "mechanism": attempt.mechanism,
            "reason": str(outcome.reason),
        }
        if outcome.identity is not None:
            _log.info("signed in", **told)
        elif outcome.reason is Reason.UNAVAILABLE:
            _log.error("sign-in could not be judged", detail=detail, **told)
        elif outcome.reason is Reason.CHANNEL:
            _log.warning("sign-in refused: somebody may be in between", detail=detail, **told)
        else:
            more = {"detail": detail} if detail else {}
            _log.info("sign-in refused", **told, **more)
        for hook in self.after:
            hook(attempt, outcome)

    # --- new passwords -------------------------------------------------------------------------

    async def secret_for(self, password: str | bytes, address: Address) -> Verifiers:
        """The verifiers of a new password for an address.

        Raises NotAllowed if policy refuses the password, Malformed if it can be none.
        """
        along = chain(Place(Scope.DOMAIN, address.domain), self._node)
        settings = await self._mail.read(self._settings, along)
        text = passwords.prepare(password).decode()
        passwords.check_strength(text, address.local, settings)
        return await self._hash(partial(passwords.make_secret, text, Cost.of(settings)), settings)

    async def secret_of_generated(self, password: str) -> Verifiers:
        """The verifiers of a password that `random_password` made."""
        settings = await self._mail.read(self._settings, chain(self._node))
        return await self._hash(
            partial(passwords.make_secret, password, Cost.of(settings)), settings
        )

    async def close(self) -> None:
        """Let go of the threads."""
        await self._hashing.close()

    # --- judging -----------------------------------------------------------------------------

    async def _before(self, attempt: Attempt) -> None:
        try:
            for hook in self.before:
                await hook(attempt)
        except MailError:
            self.end(attempt, Outcome(Reason.STOPPED))
            raise

    async def _fairly(self, attempt: Attempt, judging: Awaitable[T]) -> T:
        """What fails for reasons of ours ends the attempt as one that could not be judged."""
        try:
            return await judging
        except AuthUnavailable as error:
            self.end(attempt, Outcome(Reason.UNAVAILABLE), error.detail)
            raise
        except MailError as error:
            detail = error.detail or str(error)
            self.end(attempt, Outcome(Reason.UNAVAILABLE), detail)
            raise AuthUnavailable(detail=detail) from error

    def _refuse(self, attempt: Attempt, outcome: Outcome) -> NotAuthenticated:
        self.end(attempt, outcome)
        return NotAuthenticated(detail=str(outcome.reason))

    def _refused(self, attempt: Attempt, address: Address | None) -> Reason | None:
        """Why an attempt goes unheard, if it does. Costs no hash and no read of the store."""
        if attempt.acting and attempt.acting != attempt.login:
            # Acting for another needs a grant, which sharing brings; nobody has one yet.
            other = self._address(attempt.acting)
            if address is None or other is None or other.key != address.key:
                return Reason.NOT_GRANTED
        settings = self._policies.latest(self._chain(attempt.listener)).of(AccessSettings)
        if self._throttle.refuses(
            self._name(attempt, address),
            attempt.ip,
            of_account=settings.wrong_passwords,
            of_address=settings.wrong_from_address,
            window=settings.wrong_window,
        ):
            return Reason.THROTTLED
        return None

    async def _judge(self, attempt: Attempt) -> Outcome:
        address = self._address(attempt.login)
        login = self._name(attempt, address)
        reason = self._refused(attempt, address)
        if reason is not None:
            return Outcome(reason)
        known = await self._mail.read(self._look, address, attempt.listener)
        settings = known.settings
        try:
            prepared = passwords.prepare(attempt.password or "")
        except Malformed:
            # It can be nobody's password; still it counts, and takes as long.
            prepared = b"\0"
        who = known.identity
        digest = self._digest(login, who.epoch if who is not None else 0, prepared)
        if who is not None and known.state == "active" and self._remembers(digest, who.epoch):
            self._throttle.succeeded(login, attempt.ip)
            return Outcome(Reason.REMEMBERED, who)
        if self._throttle.was_wrong(login, attempt.ip, digest):
            return Outcome(_why(known, known.secret, False))
        right = await self._verify(known, prepared, self._throttle.is_familiar(login, attempt.ip))
        if who is None or not right or known.state != "active":
            self._count_failure(login, attempt, digest, settings)
            return Outcome(_why(known, known.secret, right))
        self._throttle.succeeded(login, attempt.ip)
        if settings.remember:
            until = self._clock.monotonic() + settings.remember
            self._remembered.put(digest, _Remembered(who.epoch, until))
        await self._renew(known, who, prepared)
        return Outcome(Reason.RIGHT, who)

    async def _vouched(self, attempt: Attempt, token: str) -> tuple[Outcome, str]:
        """How an attempt by a token ends, and why it was refused, for the log."""
        said = self._address(attempt.login)
        login = self._name(attempt, said)
        digest = self._digest(login, 0, token.encode("utf-8", "surrogatepass"))
        reason = self._refused(attempt, said)
        if reason is not None:
            return Outcome(reason), ""
        settings = self._policies.latest(self._chain(attempt.listener)).of(AccessSettings)
        oauth = self._oauth()
        try:
            named = self._address(await self._tokens.login(token, oauth))
        except NotAuthenticated as error:
            self._count_failure(login, attempt, digest, settings)
            return Outcome(Reason.WRONG), error.detail
        if named is None or (attempt.login and (said is None or said.key != named.key)):
            # Whoever bears the token of one may not try the names of others with it.
            self._count_failure(login, attempt, digest, settings)
            return Outcome(Reason.NOT_GRANTED), "the token names somebody else"
        if not oauth.speaks_for(named.domain):
            return Outcome(Reason.NOT_GRANTED), "its provider does not speak for that domain"
        return await self._named(attempt, named)

    async def _certified(self, attempt: Attempt, certificate: bytes) -> tuple[Outcome, str]:
        """The same by a certificate: it names one of us, or whom the client says among several."""
        try:
            found = [self._address(each) for each in addresses(certificate)]
        except NotAuthenticated as error:
            return Outcome(Reason.WRONG), error.detail
        named = {each.key: each for each in found if each is not None}
        if attempt.login:
            said = self._address(attempt.login)
            named = {said.key: said} if said is not None and said.key in named else {}
        if len(named) != 1:
            return Outcome(Reason.NOT_GRANTED), f"the certificate names {len(named)} for this"
        return await self._named(attempt, *named.values())

    async def _named(self, attempt: Attempt, named: Address) -> tuple[Outcome, str]:
        """How it ends for an address that somebody else vouched for."""
        known = await self._mail.read(self._look, named, attempt.listener)
        if known.identity is None:
            return Outcome(Reason.UNKNOWN), named.key
        if known.state != "active":
            return Outcome(Reason.NOT_ACTIVE), named.key
        self._throttle.succeeded(named.key, attempt.ip)
        return Outcome(Reason.RIGHT, known.identity), ""

    async def _verifier(self, attempt: Attempt) -> Verifier:
        address = self._address(attempt.login)
        key = self._salt_key
        if key is None:
            key = self._salt_key = await self._find_salt_key()
        known = await self._mail.read(self._look, address, attempt.listener)
        # Made for all, so that it takes as long for all.
        decoy = passwords.scram_decoy(key, self._name(attempt, address), Cost.of(known.settings))
        return parse_verifier(known.scram if known.scram is not None else decoy)

    async def _find_salt_key(self) -> bytes:
        """The key that the salts of nobody come from: one for all workers, or they would differ."""
        found = await self._mail.read(people.house_key, _SALT_KEY)
        if found is None:
            fresh = os.urandom(_KEY)
            now = self._clock.now()
            found = await self._mail.write(people.make_house_key, _SALT_KEY, fresh, now)
        return found

    def _address(self, login: str) -> Address | None:
        """The address that a login names; None for what names none."""
        if not login or len(login) > LOGIN_MAX:
            return None
        try:
            if "@" in login:
                return parse_mailbox(login)
            return parse_mailbox(f"{login}@{self._default_domain()}")
        except Malformed:
            return None

    def _name(self, attempt: Attempt, address: Address | None) -> str:
        """What attempts on one account are counted under."""
        return address.key if address is not None else attempt.login[:LOGIN_MAX]

    def _binds(self) -> bool:
        return self._policies.latest(chain(self._node)).of(AccessSettings).channel_binding

    def _oauth(self) -> OAuthSettings:
        return self._policies.latest(chain(self._node)).of(OAuthSettings)

    def _chain(self, listener: str) -> Chain:
        return chain(self._node, Place(Scope.LISTENER, listener))

    def _settings(self, tx: Tx, along: Chain) -> AccessSettings:
        return self._policies.current(tx, along).of(AccessSettings)

    def _look(self, tx: Tx, address: Address | None, listener: str) -> _Known:
        settings = self._settings(tx, self._chain(listener))
        found = people.sign_in(tx, address) if address is not None else None
        if found is None:
            return _Known(settings)
        identity = Identity(found.account, found.account, found.address, found.role, found.epoch)
        secret, scram = found.secrets.get(people.PASSWORD), found.secrets.get(people.SCRAM)
        return _Known(settings, identity, found.state, secret, scram)

    def _digest(self, login: str, epoch: int, prepared: bytes) -> bytes:
        said = b"%d\0%s\0%s" % (epoch, login.encode("utf-8", "surrogatepass"), prepared)
        return hmac.digest(self._key, said, hashlib.sha256)

    def _remembers(self, digest: bytes, epoch: int) -> bool:
        held = self._remembered.get(digest)
        if held is None:
            return False
        if held.epoch != epoch or held.until < self._clock.monotonic():
            del self._remembered[digest]
            return False
        return True

    async def _verify(self, known: _Known, prepared: bytes, familiar: bool) -> bool:
        """Hash in any case: an unknown account takes as long as a wrong password."""
        secret = known.secret or passwords.decoy(Cost.of(known.settings))
        right = await self._hash(
            partial(passwords.verify, secret, prepared), known.settings, familiar=familiar
        )
        return right and known.secret is not None

    async def _hash(
        self, work: Callable[[], T], settings: AccessSettings, *, familiar: bool = False
    ) -> T:
        return await self._hashing.run(work, familiar=familiar, most=settings.hash_queue)

    def _count_failure(
        self, login: str, attempt: Attempt, digest: bytes, settings: AccessSettings
    ) -> None:
        self._throttle.failed(
            login,
            attempt.ip,
            digest,
            of_account=settings.wrong_passwords,
            of_address=settings.wrong_from_address,
            window=settings.wrong_window,
        )

    async def _renew(self, known: _Known, who: Identity, prepared: bytes) -> None:
        """Replace verifiers that were made at another cost, or are missing.

        Nobody fails to sign in for it.
        """
        cost = Cost.of(known.settings)
        secret = known.secret
        if secret is None:
            return
        try:
            if not passwords.is_stale(secret, known.scram, cost):
                return
            fresh = await self._hash(
                partial(passwords.make_secret, prepared, cost), known.settings, familiar=True
            )
            ids = [self._ids.new() for _ in range(people.IDS_FOR_PASSWORD)]
            await self._mail.write(
                people.renew_secret, who.principal, secret, fresh, ids, self._clock.now()
            )
        except MailError as error:
            _log.warning("verifiers not renewed", reason=error.detail or str(error))


def _why(known: _Known, verifier: str | None, right: bool) -> Reason:
    """Why nobody signs in, for the log."""
    if known.identity is None:
        return Reason.UNKNOWN
    if verifier is None:
        return Reason.NO_VERIFIER
    return Reason.NOT_ACTIVE if right else Reason.WRONG
