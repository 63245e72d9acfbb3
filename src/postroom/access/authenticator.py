"""The one `authenticate`, for every protocol.

It says who somebody is, or raises NotAuthenticated and never says why: unknown, wrong, frozen
and throttled look and take alike. The reason goes to the log and to `after`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

import structlog

from postroom.access import passwords
from postroom.access.hashing import Hashing
from postroom.access.passwords import Cost
from postroom.access.settings import AccessSettings
from postroom.access.throttle import Table, Throttle
from postroom.core import metrics
from postroom.core.clock import Clock
from postroom.core.errors import (
    AuthUnavailable,
    MailError,
    Malformed,
    NotAuthenticated,
)
from postroom.core.settings import Chain, Place, Role, Scope, chain
from postroom.domain.directory import people
from postroom.domain.policy import Policies
from postroom.formats.address import Address, parse_mailbox
from postroom.store.sql import Tx
from postroom.store.units import Database

T = TypeVar("T")
LOGIN_MAX: Final = 320
"""Characters of a login that are looked at: no address is longer."""

OUTCOMES: Final = metrics.counter(
    "auth.attempts", "attempts", "Attempts to sign in by outcome", label="outcome"
)

_log: Final = structlog.get_logger("postroom.access")


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody wants to sign in."""

    mechanism: str  # PLAIN, LOGIN
    login: str
    password: str | bytes = field(repr=False)
    ip: IPv4Address | IPv6Address | None  # None on a unix socket
    listener: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed in. A session whose principal has a later epoch than this ends."""

    principal: int
    account: int
    address: Address
    role: Role
    epoch: int


class Reason(StrEnum):
    """How an attempt ended. Not for the peer."""

    RIGHT = "right"
    REMEMBERED = "remembered"  # right, and known without hashing
    WRONG = "wrong"
    UNKNOWN = "unknown"
    NOT_ACTIVE = "not active"  # the password was right, the account is frozen or disabled
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    STOPPED = "stopped"  # by a `before`


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `after` is told."""

    reason: Reason
    identity: Identity | None = None


Before = Callable[[Attempt], Awaitable[None]]
After = Callable[[Attempt, Outcome], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store says of a login, from one snapshot."""

    settings: AccessSettings
    identity: Identity | None
    state: str
    credential: int
    secret: str | None


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
        *,
        default_domain: Callable[[], str],
        node: str = "1",
        hashing: Hashing | None = None,
        key: bytes | None = None,
    ) -> None:
        self._mail = mail
        self._clock = clock
        self._policies = policies
        self._default_domain = default_domain
        self._node = Place(Scope.NODE, node)
        self._hashing = hashing or Hashing()
        self._key = key if key is not None else os.urandom(32)
        self._throttle = Throttle(clock)
        self._remembered: Table[bytes, _Remembered] = Table()
        self.before: list[Before] = []
        self.after: list[After] = []

    async def authenticate(self, attempt: Attempt) -> Identity:
        """Who it is. Raises NotAuthenticated, or AuthUnavailable if that cannot be said now."""
        try:
            for hook in self.before:
                await hook(attempt)
        except MailError:
            self._end(attempt, Outcome(Reason.STOPPED))
            raise
        try:
            outcome = await self._judge(attempt)
        except AuthUnavailable as error:
            self._end(attempt, Outcome(Reason.UNAVAILABLE), error.detail)
            raise
        except MailError as error:
            detail = error.detail or str(error)
            self._end(attempt, Outcome(Reason.UNAVAILABLE), detail)
            raise AuthUnavailable(detail=detail) from error
        self._end(attempt, outcome)
        if outcome.identity is None:
            raise NotAuthenticated(detail=str(outcome.reason))
        return outcome.identity

    async def secret_for(self, password: str | bytes, address: Address) -> str:
        """The verifier of a new password for an address.

        Raises NotAllowed if policy refuses the password, Malformed if it can be none.
        """
        along = chain(Place(Scope.DOMAIN, address.domain), self._node)
        settings = await self._mail.read(self._settings, along)
        text = passwords.prepare(password).decode()
        passwords.check_strength(text, address.local, settings)
        return await self._hash(partial(passwords.make_secret, text, Cost.of(settings)), settings)

    async def secret_of_generated(self, password: str) -> str:
        """The verifier of a password that `random_password` made."""
        settings = await self._mail.read(self._settings, chain(self._node))
        return await self._hash(
            partial(passwords.make_secret, password, Cost.of(settings)), settings
        )

    async def close(self) -> None:
        """Let go of the threads."""
        await self._hashing.close()

    # --- judging -----------------------------------------------------------------------------

    async def _judge(self, attempt: Attempt) -> Outcome:
        address = self._address(attempt.login)
        login = address.key if address is not None else attempt.login[:LOGIN_MAX]
        settings = self._policies.latest(self._chain(attempt.listener)).of(AccessSettings)
        if self._throttle.refuses(
            login,
            attempt.ip,
            of_account=settings.wrong_passwords,
            of_address=settings.wrong_from_address,
            window=settings.wrong_window,
        ):
            return Outcome(Reason.THROTTLED)
        known = await self._mail.read(self._look, address, attempt.listener)
        settings = known.settings
        try:
            prepared = passwords.prepare(attempt.password)
        except Malformed:
            # It can be nobody's password; still it counts, and takes as long.
            prepared = b"\0"
        who = known.identity
        digest = self._digest(login, who.epoch if who is not None else 0, prepared)
        if who is not None and known.state == "active" and self._remembers(digest, who.epoch):
            self._throttle.succeeded(login, attempt.ip)
            return Outcome(Reason.REMEMBERED, who)
        if self._throttle.was_wrong(login, attempt.ip, digest):
            return Outcome(Reason.WRONG if who is not None else Reason.UNKNOWN)
        right = await self._verify(known, prepared, self._throttle.is_familiar(login, attempt.ip))
        if who is None or not right or known.state != "active":
            self._count_failure(login, attempt, digest, settings)
            if who is None:
                return Outcome(Reason.UNKNOWN)
            return Outcome(Reason.NOT_ACTIVE if right else Reason.WRONG)
        self._throttle.succeeded(login, attempt.ip)
        if settings.remember:
            until = self._clock.monotonic() + settings.remember
            self._remembered.put(digest, _Remembered(who.epoch, until))
        await self._renew(known, prepared)
        return Outcome(Reason.RIGHT, who)

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

    def _chain(self, listener: str) -> Chain:
        return chain(self._node, Place(Scope.LISTENER, listener))

    def _settings(self, tx: Tx, along: Chain) -> AccessSettings:
        return self._policies.current(tx, along).of(AccessSettings)

    def _look(self, tx: Tx, address: Address | None, listener: str) -> _Known:
        settings = self._settings(tx, self._chain(listener))
        account = people.find_account(tx, address) if address is not None else None
        if account is None:
            return _Known(settings, None, "", 0, None)
        epoch, state = people.epoch(tx, account.id)
        identity = Identity(account.id, account.id, account.address, account.role, epoch)
        for credential, secret in people.secrets(tx, account.id):
            return _Known(settings, identity, state, credential, secret)
        return _Known(settings, identity, state, 0, None)

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

    async def _renew(self, known: _Known, prepared: bytes) -> None:
        """Replace a verifier that was made at another cost. Nobody fails to sign in for it."""
        cost = Cost.of(known.settings)
        secret = known.secret
        if secret is None:
            return
        try:
            if not passwords.is_stale(secret, cost):
                return
            fresh = await self._hash(
                partial(passwords.make_secret, prepared, cost), known.settings, familiar=True
            )
            await self._mail.write(people.renew_secret, known.credential, secret, fresh)
        except MailError as error:
            _log.warning("verifier not renewed", reason=error.detail or str(error))

    def _end(self, attempt: Attempt, outcome: Outcome, detail: str = "") -> None:
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
        else:
            _log.info("sign-in refused", **told)
        for hook in self.after:
            hook(attempt, outcome)
