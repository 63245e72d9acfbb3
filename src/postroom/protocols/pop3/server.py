"""The connection of a POP3 session: bytes in, replies out, deadlines and back-pressure."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from postroom.core.errors import ConnectionLost, MailError
from postroom.core.ids import made_at
from postroom.net.connection import Connection, Peer
from postroom.net.sessions import Described
from postroom.protocols.pop3 import replies
from postroom.protocols.pop3.commands import signin
from postroom.protocols.pop3.session import Session, Shared, State
from postroom.protocols.pop3.verbs import VERBS
from postroom.wire.pop3 import BadLine, Command, Event, Line, Receiver, Reply
from postroom.wire.pop3.limits import AUTH_LINE_CAP

BEFORE_SIGN_IN_SECONDS: Final = 60.0
"""Until a peer has signed in; the ten minutes of RFC 1939 §3 are for who has."""

HIGH_WATER: Final = 48 * 1024
"""Octets that wait while a command is carried out; beyond, the peer waits."""

HELD: Final = 16 * 1024
"""Octets of replies that wait for their fellows. RFC 2449 §6.6."""

TURN: Final = 0.004
"""Seconds of pipelined commands after which the loop serves others."""

_TLS_NEXT: Final = Reply(True, "Begin TLS now")
_AFTER_STLS: Final = Reply(False, "Nothing may follow STLS before TLS")

_log: Final = structlog.get_logger("postroom.pop3")


class Pop3Server:
    """What all sessions of one worker share, and how one begins."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def handler(self, peer: Peer) -> Pop3Connection:
        """A session for a peer that was just accepted."""
        return Pop3Connection(self.shared, peer)

    async def run(self) -> None:
        """Keep the maildrops of the sessions, until it is cancelled."""
        await self.shared.locks.run()

    async def close(self) -> None:
        """Wait for what sessions that ended still have to do; after the connections are gone."""
        await self.shared.settled()


class Pop3Connection:
    """One connection. Commands run one after the other in a task that lives while there is work."""

    __slots__ = (
        "_connection",
        "_ended",
        "_held",
        "_held_size",
        "_leaving",
        "_paused",
        "_receiver",
        "_session",
        "_shared",
        "_task",
    )

    def __init__(self, shared: Shared, peer: Peer) -> None:
        self._shared = shared
        self._session = Session(shared, peer, self)
        self._session.signed_in = self._signed_in
        self._receiver = Receiver()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._held: list[bytes] = []  # said, and leaves with what comes next
        self._held_size = 0
        self._paused = False
        self._leaving = False  # the session ends as soon as it can
        self._ended = False  # the peer sends no more

    # --- for the session -------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size > HELD:
            self.flush()

    def flush(self) -> None:
        if self._held:
            said = b"".join(self._held) if len(self._held) > 1 else self._held[0]
            self._held.clear()
            self._held_size = 0
            if self._connection is not None:
                self._connection.write(said)

    async def drain(self) -> None:
        if self._connection is None:
            raise ConnectionLost
        await self._connection.drain()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    # --- for the connection ----------------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_timeout(BEFORE_SIGN_IN_SECONDS)
        connection.write(replies.GREETING.render())

    def on_bytes(self, data: bytes) -> None:
        self._receiver.feed(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        elif self._receiver.buffered > HIGH_WATER and not self._paused:
            # A burst of pipelined commands: TCP holds the rest.
            assert self._connection is not None  # it gave the bytes
            self._paused = True
            self._connection.pause()

    def on_eof(self) -> None:
        self._ended = True
        if self._task is None:
            self._close()

    def on_timeout(self) -> None:
        """Without a word: RFC 1939 §3."""
        if self._task is not None and self._session.state is not State.AUTHORIZATION:
            return  # at work; `_rest` sets the next timeout
        self._close()

    def on_shutdown(self) -> None:
        """What was asked is answered; nothing is deleted. A client that comes back finds all."""
        self._leaving = True
        if self._task is None:
            self._close()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self._connection = None
        if self._task is None:
            self._session.lost()
        elif self._session.state is not State.UPDATE:
            self._task.cancel()  # what QUIT began is done: RFC 1939 §6

    # --- for an administrator --------------------------------------------------------------------

    def describe(self) -> Described:
        session = self._session
        who = str(session.identity.address) if session.identity is not None else ""
        return Described(session.id, "pop3", who, self._doing(), made_at(session.number))

    def _doing(self) -> str:
        session = self._session
        if session.state is State.AUTHORIZATION:
            return "signing in" if session.sasl is not None else "not signed in"
        if session.state is State.UPDATE:
            return "in QUIT"
        return "at work" if self._task is not None else "waits"

    def dismiss(self, sentence: str) -> bool:
        """Without the sentence: nothing is said that was not asked for. RFC 1939 §3."""
        self.on_shutdown()
        return self._task is None

    # --- work ------------------------------------------------------------------------------------

    async def _work(self) -> None:
        session = self._session
        clock = self._shared.clock
        turn_ends = clock.monotonic() + TURN
        try:
            while self._connection is not None and (event := self._receiver.next()) is not None:
                await self._event(event)
                if session.closing or self._leaving:
                    self._close()
                    return
                await self.drain()
                if clock.monotonic() > turn_ends:
                    await asyncio.sleep(0)
                    turn_ends = clock.monotonic() + TURN
        except ConnectionLost:
            pass  # on_lost has been told, or is about to be
        except Exception:
            _log.exception("session failed", session=session.id)
            session.say(replies.FAILED)
            self._close()
        finally:
            self._rest()

    def _rest(self) -> None:
        """The work is done for now: wait for the peer, for so long."""
        self._task = None
        self.flush()
        connection = self._connection
        if connection is None:
            self._session.lost()
            return
        if connection.is_closing:
            return
        if self._ended or self._leaving:
            self._close()
            return
        if self._session.state is State.TRANSACTION:
            connection.set_timeout(self._session.idle_seconds)
        if self._paused:
            self._paused = False
            connection.resume()  # may bring bytes, and with them the next task, at once

    async def _event(self, event: Event) -> None:
        session = self._session
        match event:
            case Command():
                await session.command(VERBS.get(event.verb), event)
                if session.start_tls:
                    await self._upgrade()
            case Line(data):
                await session.guard(signin.answer(session, data))
            case BadLine(reason, fatal):
                session.abandon()  # the line may have been the answer to a challenge
                session.refuse(Reply(False, reason.value))
                session.closing = session.closing or fatal
        if session.sasl is not None:
            self._receiver.expect_line(AUTH_LINE_CAP)

    # --- changes of the connection ---------------------------------------------------------------

    def _signed_in(self) -> None:
        if self._connection is not None:
            self._connection.signed_in()

    async def _upgrade(self) -> None:
        """STLS: the upgrade says the reply, so that nothing comes between."""
        session = self._session
        self.flush()
        assert self._connection is not None and self._shared.tls is not None
        try:
            facts = await self._connection.start_tls(
                self._shared.tls(),
                _TLS_NEXT.render(),
                leftover=not self._receiver.empty,
                refusal=_AFTER_STLS.render(),
            )
        except MailError as error:
            _log.info("TLS failed", session=session.id, error=str(error))
            session.start_tls = False
            session.closing = True
            return
        session.restart(replace(session.peer, tls=facts))
        self._receiver = Receiver()
        self._connection.resume()

    def _close(self) -> None:
        self.flush()
        if self._connection is not None:
            self._connection.close()
