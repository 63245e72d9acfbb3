"""The connection of an IMAP session: bytes in, responses out, deadlines and back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Final

import structlog

from postroom.core.errors import ConnectionLost, MailError, Malformed
from postroom.core.ids import SESSION, external
from postroom.domain.events import Changed, Type
from postroom.net.connection import Connection, Peer
from postroom.protocols.imap import replies
from postroom.protocols.imap.commands import anytime, signin
from postroom.protocols.imap.commands.copy import NoTarget
from postroom.protocols.imap.session import Session, Shared, State
from postroom.protocols.imap.verbs import VERBS
from postroom.wire.imap import (
    BEFORE_SIGN_IN,
    SIGNED_IN,
    BadCharset,
    BadLine,
    BadSyntax,
    Budget,
    Command,
    CommandPart,
    Event,
    Kind,
    Line,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    NeedLiteral,
    Receiver,
    continuation,
    sasl_response,
    status_line,
)

BUDGET_BEFORE: Final = 64 * 1024
BUDGET_AFTER: Final = 1024 * 1024
HIGH_WATER: Final = 48 * 1024
"""Octets that wait while a command is carried out; beyond, the peer waits."""

BEFORE_SIGN_IN_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 1800.0  # RFC 3501 §5.4: at least 30 minutes
COMPARE_SECONDS: Final = 30.0  # hints may be lost: an idling session looks for itself
BAD_COMMANDS: Final = 20

_log: Final = structlog.get_logger("postroom.imap")


class ImapServer:
    """What all sessions of one worker share, and how one begins."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared

    def handler(self, peer: Peer) -> ImapConnection:
        """A session for a peer that was just accepted."""
        return ImapConnection(self.shared, peer)


class ImapConnection:
    """One connection. Commands run one after the other in a task that lives while there is work.

    An idling session has no task: the bus calls, and a short one tells what changed.
    """

    __slots__ = (
        "_connection",
        "_draining",
        "_dropped",
        "_ended",
        "_hinted",
        "_paused",
        "_receiver",
        "_session",
        "_shared",
        "_task",
        "_unwatch",
    )

    def __init__(self, shared: Shared, peer: Peer) -> None:
        self._shared = shared
        self._session = Session(shared, peer, external(SESSION, shared.ids.new()), self)
        self._session.signed_in = self._signed_in
        self._receiver = Receiver(Budget(BUDGET_BEFORE), BEFORE_SIGN_IN)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._paused = False
        self._draining = False
        self._ended = False
        self._hinted = False
        self._dropped = False

    # --- for the session -------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self._connection is not None:
            self._connection.write(data)

    async def drain(self) -> None:
        if self._connection is None:
            raise ConnectionLost
        await self._connection.drain()

    # --- for the connection ----------------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_timeout(BEFORE_SIGN_IN_SECONDS)
        code = b"CAPABILITY " + anytime.offered(self._session)
        self.write(status_line(None, "OK", code, "Postroom is ready"))

    def on_bytes(self, data: bytes) -> None:
        receiver = self._receiver
        # A piece at a time, so that a burst of pipelined commands stays within the budget.
        receiver.feed(data)
        if self._task is None:
            self._start(self._work())
        elif receiver.buffered > HIGH_WATER and not self._paused and self._connection is not None:
            self._paused = True
            self._connection.pause()

    def on_eof(self) -> None:
        self._ended = True
        if self._task is None:
            self._close()

    def on_timeout(self) -> None:
        session = self._session
        if session.idling is not None and session.selected is not None:
            self._look()  # hints may be lost: compare, and wait on
            return
        session.tell(None, "BYE", "You were silent for too long")
        self._close()

    def on_shutdown(self) -> None:
        self._draining = True
        if self._task is None:
            self._say_bye()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self._connection = None
        if self._session.appending is not None:
            self._session.appending.abort()
            self._session.appending = None
        self._stop_watching()
        self._receiver.close()
        if self._task is not None:
            self._task.cancel()

    # --- work ------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[object, object, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)

    async def _work(self) -> None:
        session = self._session
        try:
            while self._connection is not None and (event := self._receiver.next()) is not None:
                await self._event(event)
                if session.state is State.LOGOUT or session.bad >= BAD_COMMANDS:
                    if session.bad >= BAD_COMMANDS:
                        session.tell(None, "BYE", "Too many errors")
                    self._close()
                    return
                if self._draining and session.appending is None:
                    self._say_bye()
                    return
                await self.drain()
        except ConnectionLost:
            pass  # on_lost has been told
        except Exception:
            _log.exception("session failed", session=session.id)
            session.tell(None, "BYE", "Something went wrong here; it is in the log")
            self._close()
        finally:
            self._rest()

    def _rest(self) -> None:
        """The work is done for now: wait for the peer, for so long."""
        self._task = None
        connection = self._connection
        if connection is None:
            return
        if self._ended:
            self._close()
            return
        session = self._session
        if session.state is not State.NOT_SIGNED_IN:
            connection.set_timeout(COMPARE_SECONDS if session.idling else IDLE_SECONDS)
        if self._paused:
            self._paused = False
            connection.resume()
        if self._hinted:
            self._look()

    async def _event(self, event: Event) -> None:
        session = self._session
        match event:
            case Command():
                await self._command(event)
            case NeedLiteral():
                await self._literal(event)
            case LiteralChunk(data):
                if session.appending is not None:
                    session.appending.chunk(data)
            case LiteralStart():
                pass
            case LiteralEnd():
                if session.appending is not None:
                    await self._guard(session.appending.tag, session.appending.literal_end())
            case CommandPart(args, more):
                if session.appending is not None:
                    await self._guard(session.appending.tag, session.appending.part(args, more))
            case Line(data):
                await self._line(data)
            case BadLine():
                self._bad_line(event)

    async def _command(self, command: Command) -> None:
        session = self._session
        verb = VERBS.get(command.name)
        if verb is None or session.state not in verb.when:
            session.bad += 1
            why = "There is no such command" if verb is None else "Not in this state"
            session.tell(command.tag, "BAD", why)
            self._refuse_rest(command)
            return
        session.may_expunge = verb.expunge
        if not await session.still_welcome():
            session.tell(None, "BYE", "Please sign in again")
            session.state = State.LOGOUT
            return
        await self._guard(command.tag, verb.run(session, command))
        if command.more and session.appending is None:
            self._refuse_rest(command)
        if session.starttls is not None:
            await self._upgrade(session.starttls)
        elif session.idling is not None:
            self._begin_idle()
        elif session.sasl is not None:
            self._receiver.expect_line()

    async def _guard(self, tag: bytes, run: Awaitable[None]) -> None:
        """Carry out something that may fail, and say how it failed under its tag."""
        session = self._session
        try:
            await run
        except BadCharset as error:
            session.tell(tag, "NO", str(error), b"BADCHARSET (US-ASCII UTF-8)")
        except BadSyntax as error:
            session.bad += 1
            session.tell(tag, "BAD", str(error))
        except NoTarget as error:
            session.tell(tag, "NO", str(error), b"TRYCREATE")
        except ConnectionLost:
            raise
        except MailError as error:
            if error.detail:
                _log.info("refused", session=session.id, error=str(error), detail=error.detail)
            kind: Kind = "BAD" if isinstance(error, Malformed) else "NO"
            session.tell(tag, kind, str(error), replies.code_of(error))
        else:
            return
        if session.appending is not None:
            session.appending.abort()
            session.appending = None
            self._drop_rest()

    # --- literals --------------------------------------------------------------------------------

    async def _literal(self, need: NeedLiteral) -> None:
        session = self._session
        if not need.streamed:
            self._receiver.accept()
            if need.sync:
                self.write(continuation("go on"))
            return
        if session.appending is None or not await session.appending.literal(need):
            if session.appending is not None:
                session.appending.abort()
                session.appending = None
            self._drop_rest()
            return
        self._receiver.accept()
        if need.sync:
            self.write(continuation("go on"))

    def _refuse_rest(self, command: Command) -> None:
        """The tagged reply was said: what still streams in of the command is dropped."""
        if command.more:
            self._drop_rest()

    def _drop_rest(self) -> None:
        try:
            self._receiver.reject()
        except RuntimeError:
            pass  # the command had come to its end

    # --- lines that are no commands --------------------------------------------------------------

    async def _line(self, data: bytes) -> None:
        session = self._session
        if session.idling is not None:
            tag, session.idling = session.idling, None
            self._stop_watching()
            if data.strip().upper() != b"DONE":
                session.bad += 1
                session.tell(tag, "BAD", "IDLE ends with DONE")
                return
            await session.catch_up(expunge=True)
            session.tell(tag, "OK", "No longer idle")
        elif session.sasl is not None:
            (tag, _), session.sasl = session.sasl, None
            await self._guard(tag, self._sasl(tag, data))

    async def _sasl(self, tag: bytes, data: bytes) -> None:
        response = sasl_response(data)
        if response is None:
            self._session.tell(tag, "BAD", "Cancelled")  # RFC 3501 §6.2.2
            return
        await signin.plain(self._session, tag, response)

    def _bad_line(self, bad: BadLine) -> None:
        session = self._session
        session.bad += 1
        if session.appending is not None:
            session.appending.abort()
            session.appending = None
        session.idling = session.sasl = None
        self._stop_watching()
        if bad.fatal:
            session.tell(None, "BYE", bad.sentence)
            session.state = State.LOGOUT
        elif bad.too_big:
            session.tell(bad.tag, "NO", bad.sentence, b"TOOBIG")
        else:
            session.tell(bad.tag, "BAD", bad.sentence)

    # --- IDLE ------------------------------------------------------------------------------------

    def _begin_idle(self) -> None:
        self._receiver.expect_line()
        if self._unwatch is None:
            self._unwatch = self._shared.bus.watch(self._session.account, self._hint)
            self._hinted = True  # something may have come before we watched

    def _stop_watching(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self._hinted = False

    def _hint(self, changed: Changed) -> None:
        """The account changed; perhaps the mailbox that this session has open."""
        if not changed.types & (Type.EMAIL | Type.MAILBOX):
            return
        self._hinted = True
        if self._task is None:
            self._look()

    def _look(self) -> None:
        self._hinted = False
        self._start(self._tell_changes())

    async def _tell_changes(self) -> None:
        session = self._session
        try:
            if not await session.still_welcome():
                session.tell(None, "BYE", "Please sign in again")
                session.state = State.LOGOUT
            elif session.idling is not None:
                await session.catch_up(expunge=True)
                await self.drain()
            if session.state is State.LOGOUT:
                self._close()
                return
        except ConnectionLost:
            return
        except MailError as error:
            _log.warning("cannot look", session=session.id, error=error.detail or str(error))
        finally:
            self._rest()
        if self._task is None and self._connection is not None and self._receiver.buffered:
            self._start(self._work())  # a DONE that came meanwhile

    # --- changes of the connection ---------------------------------------------------------------

    def _signed_in(self) -> None:
        self._receiver.limits = SIGNED_IN
        self._receiver.budget.limit = BUDGET_AFTER
        if self._connection is not None:
            self._connection.signed_in()

    async def _upgrade(self, tag: bytes) -> None:
        """STARTTLS: the tagged OK is written by the upgrade, so that nothing comes between."""
        session = self._session
        session.starttls = None
        assert self._connection is not None and self._shared.tls is not None
        try:
            facts = await self._connection.start_tls(
                self._shared.tls(),
                status_line(tag, "OK", None, "Begin TLS now"),
                leftover=not self._receiver.empty,
                refusal=status_line(tag, "BAD", None, "Nothing may follow STARTTLS before TLS"),
            )
        except MailError as error:
            _log.info("TLS failed", session=session.id, error=str(error))
            session.state = State.LOGOUT
            return
        session.peer = replace(session.peer, tls=facts)
        self._receiver.close()
        self._receiver = Receiver(Budget(BUDGET_BEFORE), BEFORE_SIGN_IN)
        self._connection.resume()

    def _say_bye(self) -> None:
        self._session.tell(None, "BYE", "The server is shutting down")
        self._close()

    def _close(self) -> None:
        self._stop_watching()
        if self._connection is not None:
            self._connection.close()
