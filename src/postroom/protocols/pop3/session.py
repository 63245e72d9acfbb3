"""The session's state, and how one command of the table is carried out. RFC 1939 §3."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol

import structlog

from postroom.access import Authenticator, Conversation, Identity
from postroom.core.clock import Clock
from postroom.core.errors import ConnectionLost, MailError, Malformed, NotFound
from postroom.core.ids import SESSION, external
from postroom.core.settings import Chain
from postroom.domain.directory import people
from postroom.domain.policy import Policy
from postroom.mailflow.house import MailHouse
from postroom.net.connection import Peer
from postroom.protocols.pop3 import replies
from postroom.protocols.pop3.locks import Lock, Locks
from postroom.protocols.pop3.maildrop import Maildrop
from postroom.protocols.pop3.update import mark_seen
from postroom.store.sql import Tx
from postroom.wire.pop3 import Command, Reply

BAD_COMMANDS: Final = 20
"""Errors in a row, or before sign-in in all, after which a peer is shown out."""

_log: Final = structlog.get_logger("postroom.pop3")


class State(Enum):
    """RFC 1939 §3."""

    AUTHORIZATION = "authorization"
    TRANSACTION = "transaction"
    UPDATE = "update"  # QUIT was said: what it began is done, whether or not the peer waits


class Output(Protocol):
    """Where a session writes to, with back-pressure."""

    def write(self, data: bytes) -> None:
        """Say something, with what comes next or at the latest when all commands are answered."""
        ...

    def flush(self) -> None:
        """Say now what was written: what comes next may take a while."""
        ...

    async def drain(self) -> None: ...

    def abort(self) -> None:
        """End the connection at once: what was begun cannot be finished."""
        ...


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of one worker share."""

    house: MailHouse
    authenticator: Authenticator
    locks: Locks
    tls: Callable[[], ssl.SSLContext] | None
    _ending: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def clock(self) -> Clock:
        return self.house.clock

    def see_to(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something that is owed to nobody who waits, such as to free a maildrop."""
        task = asyncio.get_running_loop().create_task(what)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def settled(self) -> None:
        """Wait until all of that is done."""
        while self._ending:
            await asyncio.wait(tuple(self._ending))


class Session:
    """One connection's protocol state; knows no socket."""

    __slots__ = (
        "_number",
        "bad",
        "closing",
        "failed_sign_ins",
        "identity",
        "idle_seconds",
        "lock",
        "maildrop",
        "output",
        "peer",
        "sasl",
        "shared",
        "signed_in",
        "start_tls",
        "state",
        "user",
        "utf8",
    )

    def __init__(self, shared: Shared, peer: Peer, output: Output) -> None:
        self.shared = shared
        self.peer = peer
        self.output = output
        self._number = shared.house.ids.new()
        self.state = State.AUTHORIZATION
        self.user: str | None = None  # of USER, until PASS
        self.utf8 = False
        self.sasl: Conversation | None = None  # of AUTH, until it is over
        self.identity: Identity | None = None
        self.lock: Lock | None = None
        self.maildrop: Maildrop | None = None
        self.start_tls = False  # upgrade next; that also says the reply
        self.closing = False  # the reply is the last one
        self.idle_seconds = 0.0  # how long it may be silent once it has signed in
        self.bad = 0
        self.failed_sign_ins = 0
        self.signed_in: Callable[[], None] = _nothing

    @property
    def id(self) -> str:
        """Under which the log knows it."""
        return external(SESSION, self._number)

    @property
    def number(self) -> int:
        """Under which it locks a maildrop; no two sessions ever had the same."""
        return self._number

    # --- one command ----------------------------------------------------------------------------

    async def command(self, verb: Verb | None, line: Command) -> None:
        """Carry out a command of the table and say its reply."""
        if verb is None or self.state not in verb.when:
            self.refuse(replies.UNKNOWN if verb is None else replies.NOT_NOW)
            return
        await self.guard(self._run(verb, line.argument))

    async def _run(self, verb: Verb, argument: bytes) -> Reply | None:
        if self.state is State.TRANSACTION and not await self._still_welcome():
            self.closing = True
            return replies.SIGN_IN_AGAIN
        return await verb.run(self, argument)

    async def guard(self, run: Awaitable[Reply | None]) -> None:
        """Say what came of something, or how it failed; None: it was said already."""
        try:
            reply = await run
        except ConnectionLost:
            raise
        except Malformed as error:
            self.refuse(replies.of_error(error))
        except MailError as error:
            if error.detail:
                _log.info("refused", session=self.id, error=str(error), detail=error.detail)
            self.say(replies.of_error(error))
        else:
            if self.identity is not None:
                self.bad = 0
            if reply is not None:
                self.say(reply)

    def say(self, reply: Reply) -> None:
        self.output.write(reply.render())

    def refuse(self, reply: Reply) -> None:
        """Say that something was wrong; once too often and it is the last reply."""
        self.bad += 1
        if self.bad < BAD_COMMANDS:
            self.say(reply)
        else:
            self.say(replies.TOO_MANY_ERRORS)
            self.closing = True

    # --- what it may do -------------------------------------------------------------------------

    @property
    def open(self) -> Maildrop:
        assert self.maildrop is not None  # the table asks for the state
        return self.maildrop

    @property
    def actor(self) -> int:
        assert self.identity is not None  # the table asks for the state
        return self.identity.principal

    def chain(self) -> Chain:
        """The places whose settings apply to this session."""
        if self.identity is None:
            return self.shared.house.chain(self.peer.listener)
        domain = self.identity.address.domain
        return self.shared.house.chain(self.peer.listener, domain, self.identity.account)

    async def policy(self) -> Policy:
        return await self.shared.house.mail.read(self._policy)

    def _policy(self, tx: Tx) -> Policy:
        return self.shared.house.policies.current(tx, self.chain())

    async def _still_welcome(self) -> bool:
        """Rights may have changed since the sign-in: one point read."""
        assert self.identity is not None  # as its state says
        try:
            epoch, state = await self.shared.house.mail.read(people.epoch, self.actor)
        except NotFound:
            return False
        return epoch == self.identity.epoch and state == "active"

    # --- its ends -------------------------------------------------------------------------------

    def restart(self, peer: Peer) -> None:
        """After TLS: nothing that was said before counts. RFC 2595 §4."""
        self.peer = peer
        self.user = None
        self.utf8 = False
        self.start_tls = False

    def abandon(self) -> None:
        """A sign-in that is under way leads nowhere."""
        self.user = None
        if self.sasl is not None:
            self.sasl.abandon()
            self.sasl = None

    def lost(self) -> None:
        """The session ended without QUIT: it deletes nothing, and others may have the maildrop.
        RFC 1939 §3."""
        self.abandon()
        maildrop, lock = self.maildrop, self.lock
        self.maildrop = self.lock = None
        if maildrop is not None or lock is not None:
            self.shared.see_to(self._leave(maildrop, lock))

    async def _leave(self, maildrop: Maildrop | None, lock: Lock | None) -> None:
        try:
            if maildrop is not None:
                maildrop.undelete()
                await mark_seen(self.shared.house, maildrop, self.actor, await self.policy())
        except MailError as error:
            _log.warning("not marked as read", session=self.id, reason=error.detail or str(error))
        finally:
            if lock is not None:
                await self.free(lock)

    async def free(self, lock: Lock) -> None:
        """Let others have the maildrop; if that fails, time will."""
        try:
            await self.shared.locks.free(lock)
        except MailError as error:
            _log.warning("maildrop not freed", session=self.id, reason=error.detail or str(error))


def _nothing() -> None:
    """Nobody wants to know."""


Run = Callable[[Session, bytes], Awaitable[Reply | None]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One row of the table. A command returns its reply, or None if it has said it."""

    run: Run
    when: frozenset[State]
