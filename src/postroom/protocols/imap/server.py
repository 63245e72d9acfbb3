"""The connection of an IMAP session: bytes in, responses out, deadlines and back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final

import structlog

from postroom.core.errors import ConnectionLost, InDoubt, MailError, Malformed
from postroom.core.ids import SESSION, external, internal, made_at
from postroom.domain.mailboxes import rights
from postroom.net.connection import Connection, Peer
from postroom.net.sessions import Described
from postroom.protocols.imap import replies
from postroom.protocols.imap.commands import anytime, notify, signin
from postroom.protocols.imap.commands.copy import NoTarget
from postroom.protocols.imap.compression import DamagedStream
from postroom.protocols.imap.keeping_up import catch_up
from postroom.protocols.imap.languages import I_DEFAULT
from postroom.protocols.imap.listening import Listening
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.saying import Saying
from postroom.protocols.imap.session import Session, Shared, State
from postroom.protocols.imap.verbs import SELECTED, VERBS, Verb
from postroom.wire.imap import (
    BEFORE_SIGN_IN,
    SIGNED_IN,
    BadCharset,
    BadFilterCharset,
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
    status_line,
)

BUDGET_BEFORE: Final = 64 * 1024
BUDGET_AFTER: Final = 1024 * 1024
HIGH_WATER: Final = 48 * 1024
"""Octets that wait while a command is carried out; beyond, the peer waits."""

BEFORE_SIGN_IN_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 1800.0  # RFC 3501 §5.4: at least 30 minutes; of IDLE as well: RFC 2177 §3
COMPARE_SECONDS: Final = 30.0  # hints may be lost: who is to be told looks for itself
BAD_COMMANDS: Final = 20
"""Errors in a row, or before sign-in in all, after which a peer is shown out."""

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

    There is one task at most, so nothing here runs beside itself. An idling session has none:
    the bus calls, and a short one tells what changed.
    """

    __slots__ = (
        "_connection",
        "_ended",
        "_goodbye",
        "_idle_until",
        "_listening",
        "_out",
        "_paused",
        "_receiver",
        "_session",
        "_shared",
        "_task",
    )

    def __init__(self, shared: Shared, peer: Peer) -> None:
        self._shared = shared
        self._out = Saying()
        self._session = Session(shared, peer, external(SESSION, shared.ids.new()), self._out)
        self._session.signed_in = self._signed_in
        self._session.signed_out = self._signed_out
        self._session.speaks_utf8 = self._speaks_utf8
        self._receiver = Receiver(Budget(BUDGET_BEFORE), BEFORE_SIGN_IN)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._listening = Listening(self._wake)
        self._paused = False
        self._goodbye = ""  # why the session ends as soon as it can; empty: it does not
        self._ended = False  # the peer sends no more
        self._idle_until = 0.0  # the loop's time at which the peer has been silent for too long

    # --- for the connection ----------------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        self._connection = self._out.connection = connection
        connection.set_timeout(BEFORE_SIGN_IN_SECONDS)
        code = b"CAPABILITY " + anytime.offered(self._session)
        self._out.write(status_line(None, "OK", code, "Postroom is ready"))
        self._out.flush()

    def on_bytes(self, data: bytes) -> None:
        compression = self._out.compression
        if compression is None:
            self._receiver.feed(data)
            waits = self._receiver.buffered
        else:
            compression.feed(data)
            waits = compression.held
        if self._task is None:
            self._start()
        elif waits > HIGH_WATER and not self._paused and self._connection is not None:
            # A burst of pipelined commands stays within the budget: TCP holds the rest.
            self._paused = True
            self._connection.pause()

    def on_eof(self) -> None:
        self._ended = True
        if self._task is None:
            self._close()

    def on_timeout(self) -> None:
        session = self._session
        if session.state is not State.NOT_SIGNED_IN and self._task is not None:
            return  # at work; `_rest` sets the next timeout
        left = self._idle_until - asyncio.get_running_loop().time()
        if left > 0 and (session.idling is not None or self._listening.owners):
            self._listening.doubt()
            return
        if left > 0 and self._connection is not None:
            self._out.let_go()
            self._connection.set_timeout(left)
            return
        session.tell(None, "BYE", "You were silent for too long")
        self._close()

    def on_shutdown(self) -> None:
        self._goodbye = "The server is shutting down"
        if self._task is None and self._session.appending is None:
            self._say_bye()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self._connection = None
        self._out.lose()
        if self._session.appending is not None:
            self._session.appending.abort()
            self._session.appending = None
        self._abandon_sasl()
        self._listening.stop()
        self._receiver.close()
        if self._task is not None:
            self._task.cancel()

    # --- for an administrator --------------------------------------------------------------------

    def describe(self) -> Described:
        session = self._session
        who = str(session.identity.address) if session.identity is not None else ""
        since = made_at(internal(SESSION, session.id))
        return Described(session.id, "imap", who, self._doing(), since)

    def _doing(self) -> str:
        session = self._session
        if session.identity is None:
            return "signing in" if session.sasl is not None else "not signed in"
        where = f" in {session.selected.mailbox.name}" if session.selected is not None else ""
        if session.idling is not None:
            return f"idle{where}"
        if session.appending is not None:
            return f"in APPEND{where}"
        return f"at work{where}" if self._task is not None else f"waits{where}"

    def dismiss(self, sentence: str) -> bool:
        self._goodbye = sentence
        if self._task is not None:
            return False
        self._say_bye()  # an APPEND that comes in is let go of: it was promised nothing
        return True

    # --- work ------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """All that can be done now: what the peer said, then what others did."""
        session = self._session
        pace = Pace(self._shared.clock)
        try:
            while self._connection is not None:
                if (event := self._receiver.next()) is not None:
                    await self._event(event)
                elif (packed := self._out.compression) is not None and (more := packed.step()):
                    self._receiver.feed(more)
                elif self._listening.hinted and session.appending is None:
                    await self._look()
                else:
                    return
                if session.bad >= BAD_COMMANDS:
                    session.tell(None, "BYE", "Too many errors")
                    session.state = State.LOGOUT
                if session.state is State.LOGOUT:
                    self._close()
                    return
                if self._goodbye and session.appending is None:
                    return
                self._out.flush()  # what follows may take long
                await self._out.drain()
                if pace.over:  # a burst of small commands never waits by itself
                    await pace.rest()
        except ConnectionLost:
            pass  # on_lost has been told
        except DamagedStream as error:
            _log.info("damaged", session=session.id, error=error.detail)
            session.tell(None, "BYE", str(error))
            self._close()
        except InDoubt as error:
            # The command gets no answer: a client looks again at what it does not know.
            _log.error("change in doubt", session=session.id, error=error.detail)
            session.tell(None, "BYE", str(error))
            self._close()
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
        if connection is None or connection.is_closing:
            return
        session = self._session
        if self._ended:
            self._close()
            return
        if self._goodbye and session.appending is None:
            self._say_bye()
            return
        self._out.flush()
        if session.state is not State.NOT_SIGNED_IN:
            follows = session.idling is not None or bool(self._listening.owners)
            if follows:
                self._out.let_go()
            packed = self._out.compression
            soon = follows or (packed is not None and packed.is_warm)
            connection.set_timeout(COMPARE_SECONDS if soon else IDLE_SECONDS)
        if self._paused:
            self._paused = False
            connection.resume()  # may bring bytes, and with them the next task, at once
        if self._listening.hinted and session.appending is None and self._task is None:
            self._start()

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
        session.progress.begin(command.tag)
        self._idle_until = asyncio.get_running_loop().time() + IDLE_SECONDS
        await self._guard(command.tag, self._run(verb, command))
        self._follow()
        if command.more and session.appending is None:
            self._refuse_rest(command)
        if session.starttls is not None:
            await self._upgrade(session.starttls)
        elif session.compress is not None:
            self._compress(session.compress)
        elif session.idling is not None:
            self._begin_idle()
        elif session.sasl is not None:
            self._receiver.expect_line()

    async def _run(self, verb: Verb, command: Command) -> None:
        session = self._session
        if await session.still_welcome():
            if session.selected is not None and verb.when == SELECTED:
                rights.check(session.selected.rights, verb.needs)
            await verb.run(session, command)
        else:
            self._show_out()

    def _show_out(self) -> None:
        """The password or a right changed since the sign-in."""
        self._session.tell(None, "BYE", "Please sign in again")
        self._session.state = State.LOGOUT

    async def _guard(self, tag: bytes, run: Awaitable[None]) -> None:
        """Carry out something that may fail, and say how it failed under its tag."""
        session = self._session
        try:
            await run
        except BadCharset as error:
            told: Kind = "BAD" if isinstance(error, BadFilterCharset) else "NO"
            session.tell(tag, told, str(error), replies.code_of_charset(error))
        except BadSyntax as error:
            session.bad += 1
            session.tell(tag, "BAD", str(error))
        except NoTarget as error:
            session.tell(tag, "NO", str(error), b"TRYCREATE")
        except (ConnectionLost, InDoubt):
            raise
        except MailError as error:
            if error.detail:
                _log.info("refused", session=session.id, error=str(error), detail=error.detail)
            kind: Kind = "BAD" if isinstance(error, Malformed) else "NO"
            session.tell(tag, kind, str(error), replies.code_of(error))
        else:
            if session.identity is not None:
                session.bad = 0
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
                session.go_on("go on")
            return
        if session.appending is None or not await session.appending.literal(need):
            if session.appending is not None:
                session.appending.abort()
                session.appending = None
            self._drop_rest()
            return
        self._receiver.accept()
        if need.sync:
            session.go_on("go on")

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
            self._follow()
            await self._guard(tag, self._end_idle(tag, data))
        elif session.sasl is not None:
            await self._guard(session.sasl[0], signin.answer(session, data))
            if session.sasl is not None:
                self._receiver.expect_line()

    async def _end_idle(self, tag: bytes, data: bytes) -> None:
        if data.strip().upper() != b"DONE":
            raise BadSyntax("IDLE ends with DONE")
        await catch_up(self._session, expunge=True)
        self._session.tell(tag, "OK", "No longer idle")

    def _abandon_sasl(self) -> None:
        if self._session.sasl is not None:
            self._session.sasl[1].abandon()
            self._session.sasl = None

    def _bad_line(self, bad: BadLine) -> None:
        session = self._session
        session.bad += 1
        tag = bad.tag
        if session.appending is not None:
            tag = tag or session.appending.tag
            session.appending.abort()
            session.appending = None
        # A line that should have been DONE or a SASL response ends that command.
        tag = tag or session.idling or (session.sasl[0] if session.sasl is not None else None)
        session.idling = None
        self._abandon_sasl()
        self._follow()
        if bad.fatal:
            session.tell(None, "BYE", bad.sentence)
            session.state = State.LOGOUT
        elif bad.too_big:
            session.tell(tag, "NO", bad.sentence, replies.code_of_literal(bad.name))
        else:
            session.tell(tag, "BAD", bad.sentence)

    # --- telling unasked: IDLE and NOTIFY --------------------------------------------------------

    def _begin_idle(self) -> None:
        self._receiver.expect_line()
        self._listening.hinted = True  # something may have come before we listened

    def _follow(self) -> None:
        """Listen to what this session has to tell unasked, and to nothing else."""
        owners = self._session.followed() if self._connection is not None else frozenset()
        self._listening.to(owners, self._shared.bus)

    def _wake(self) -> None:
        """There may be something to tell: now, or when the work is done."""
        if self._task is None and self._session.appending is None:
            self._start()

    async def _look(self) -> None:
        self._listening.hinted = False
        session, loop = self._session, asyncio.get_running_loop()
        began = loop.time()
        try:
            if await session.still_welcome():
                await notify.tell_unasked(session)
            else:
                self._show_out()
        except ConnectionLost:
            raise
        except MailError as error:
            # The next hint or compare looks again.
            _log.warning("cannot look", session=session.id, error=error.detail or str(error))
        self._follow()
        if session.watch is not None:
            self._listening.looked(loop.time() - began, COMPARE_SECONDS)

    # --- changes of the connection ---------------------------------------------------------------

    def _signed_in(self) -> None:
        self._receiver.limits = SIGNED_IN
        self._receiver.budget.limit = BUDGET_AFTER
        if self._connection is not None:
            self._connection.signed_in()

    def _signed_out(self) -> None:
        """A stranger again, with a stranger's limits. RFC 8437 §2."""
        self._receiver.limits = BEFORE_SIGN_IN
        self._receiver.budget.limit = BUDGET_BEFORE
        self._receiver.utf8 = False
        if self._connection is not None:
            self._connection.set_timeout(BEFORE_SIGN_IN_SECONDS)

    def _speaks_utf8(self) -> None:
        """From the next command on names are UTF-8. RFC 9051 §6.3.1, RFC 6855 §3."""
        self._receiver.utf8 = True

    def _compress(self, tag: bytes) -> None:
        """COMPRESS: its tagged OK is the last that goes uncompressed. RFC 4978 §3."""
        session = self._session
        session.compress = None
        if not self._receiver.empty or self._paused:
            # What came along was not meant to be inflated, and is not to be guessed at.
            session.tell(tag, "BAD", "Nothing may follow COMPRESS before its answer")
            return
        session.tell(tag, "OK", "Compressed from here on")
        self._out.compress()
        session.compressed = True

    async def _upgrade(self, tag: bytes) -> None:
        """STARTTLS: the tagged OK is written by the upgrade, so that nothing comes between."""
        session = self._session
        session.starttls = None
        assert self._connection is not None and self._shared.tls is not None
        self._out.flush()
        try:
            facts = await self._connection.start_tls(
                self._shared.tls(),
                session.status(tag, "OK", "Begin TLS now"),
                leftover=not self._receiver.empty,
                refusal=session.status(tag, "BAD", "Nothing may follow STARTTLS before TLS"),
            )
        except MailError as error:
            _log.info("TLS failed", session=session.id, error=str(error))
            session.state = State.LOGOUT
            return
        session.peer = replace(session.peer, tls=facts)
        session.client = ""  # RFC 3501 §6.2.1: nothing that was said before counts
        session.language = I_DEFAULT  # it may have been somebody else who chose: RFC 5255 §3.1
        self._receiver.close()
        self._receiver = Receiver(Budget(BUDGET_BEFORE), BEFORE_SIGN_IN)
        self._connection.resume()

    def _say_bye(self) -> None:
        self._session.tell(None, "BYE", self._goodbye)
        self._close()

    def _close(self) -> None:
        self._listening.stop()
        self._out.flush()
        if self._connection is not None:
            self._connection.close()
