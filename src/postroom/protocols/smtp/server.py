"""The connection of an SMTP session: bytes in, replies out, deadlines and back-pressure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from postroom.access import Authenticator
from postroom.core.clock import Clock
from postroom.core.errors import ConnectionLost, InDoubt, MailError, Status
from postroom.core.ids import SESSION, Ids, external
from postroom.domain.transit import Outcome, Visit
from postroom.mailflow.intake import Intake, Streamed
from postroom.mailflow.settings import SmtpSettings
from postroom.net.connection import Connection, Peer
from postroom.net.sessions import Described
from postroom.protocols.smtp import replies, verbs
from postroom.protocols.smtp.commands import signin
from postroom.protocols.smtp.session import Service, Session, State
from postroom.wire.smtp import (
    BadLine,
    ChunkEnd,
    Command,
    DataChunk,
    DataEnd,
    Event,
    Fault,
    Line,
    Receiver,
    Reply,
)
from postroom.wire.smtp.limits import AUTH_LINE_CAP, SERVER_TIMEOUT

HIGH_WATER: Final = 64 * 1024
"""Octets that wait for their turn; beyond, the peer waits. One read of 16 KiB may come on top."""

BEFORE_GREETING: Final = 60.0
"""Seconds until a peer that has said nothing useful is let go."""

SLICE: Final = 0.002
"""Seconds of pipelined commands after which the loop serves others."""

_TAKING: Final = frozenset({State.DATA, State.CHUNKS})
"""Content is coming in: that may end before we do."""

_DOING: Final = {
    State.CONNECTED: "has not greeted",
    State.GREETED: "between messages",
    State.MAIL: "after MAIL",
    State.RCPT: "after RCPT",
    State.DATA: "in DATA",
    State.CHUNKS: "in BDAT",
}

_GROUPED: Final = frozenset({b"MAIL", b"RCPT", b"RSET"})
"""Commands whose replies may leave together. RFC 2920 §3.2."""

HELD: Final = 16 * 1024
"""Octets of replies that wait for their fellows."""

_log: Final = structlog.get_logger("postroom.smtp")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """What all sessions of one worker share."""

    intake: Intake
    clock: Clock
    ids: Ids
    hostname: Callable[[], str]  # it may change while we serve
    tls: Callable[[], ssl.SSLContext] | None
    service: Service = verbs.MX
    authenticator: Authenticator | None = None

    def handler(self, peer: Peer) -> SmtpConnection:
        """A session for a peer that was just accepted."""
        return SmtpConnection(self, peer)


class SmtpConnection:
    """One connection. Commands run one after the other in a task that lives while there is work."""

    __slots__ = (
        "_connection",
        "_ended",
        "_failure",
        "_goodbye",
        "_held",
        "_known",
        "_limit",
        "_paused",
        "_receiver",
        "_server",
        "_session",
        "_size",
        "_slice_ends",
        "_task",
    )

    def __init__(self, server: SmtpServer, peer: Peer) -> None:
        self._server = server
        visit = Visit(
            session=external(SESSION, server.ids.new()),
            peer=peer,
            protocol=server.service.protocol,
            started=server.clock.now(),
        )
        self._session = Session(
            visit,
            server.intake,
            server.hostname(),
            server.service,
            server.authenticator,
            offers_starttls=server.tls is not None,
        )
        self._receiver = Receiver()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._size = 0
        self._limit = 0  # of this message; a setting that changes meanwhile is for the next
        self._failure: MailError | None = None
        self._held = b""  # replies that leave with what comes next
        self._slice_ends = 0.0
        self._paused = False
        self._goodbye: Reply | None = None  # why the session ends as soon as it can, if it does
        self._ended = False
        self._known = False  # who it is, to the connection

    # --- for the connection --------------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_timeout(BEFORE_GREETING)
        connection.write(self._session.greeting().render())

    def on_bytes(self, data: bytes) -> None:
        self._receiver.feed(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        if self._receiver.buffered > HIGH_WATER and not self._paused:
            assert self._connection is not None
            self._paused = True
            self._connection.pause()

    def on_eof(self) -> None:
        self._ended = True
        if self._task is None:
            self._close()

    def on_timeout(self) -> None:
        if self._task is not None:
            # It is we who take long: what is under way ends in its own time, and the peer's time
            # begins after it. One that reads no replies is the connection's affair.
            assert self._connection is not None
            self._connection.set_timeout(SERVER_TIMEOUT)
            return
        self._say(replies.TIMEOUT)
        self._close()

    def on_shutdown(self) -> None:
        self._goodbye = replies.SHUTTING_DOWN
        if self._task is None:
            self._drain()

    def on_lost(self, error: ConnectionLost | None) -> None:
        if self._task is not None:
            # A message whose content is complete is being decided: that goes on, and is traced;
            # the peer will offer it again (RFC 5321 §4.5.3.2.6).
            if self._session.state not in _TAKING:
                self._task.cancel()
        else:
            self._session.reset()
        self._session.abandon()
        self._connection = None

    # --- for an administrator ------------------------------------------------------------------

    def describe(self) -> Described:
        session, visit = self._session, self._session.visit
        protocol = session.service.protocol.value.lower()
        doing = "signing in" if session.conversation is not None else _DOING[session.state]
        return Described(visit.session, protocol, visit.login, doing, visit.started)

    def dismiss(self, sentence: str) -> bool:
        self._goodbye = replies.dismissal(sentence)
        if self._task is not None:
            return False
        # A message that comes in is let go of: it was not taken, so its sender has it still.
        self._say(self._goodbye)
        self._close()
        return True

    # --- the session's work --------------------------------------------------------------------

    async def _work(self) -> None:
        session = self._session
        self._slice_ends = asyncio.get_running_loop().time() + SLICE
        heard = False
        try:
            # STARTTLS brings a new receiver, and its client may speak before we look again.
            while self._connection is not None and (event := self._receiver.next()) is not None:
                heard = True
                await self._event(event)
                if session.closing:
                    self._close()
                    return
                if self._goodbye is not None and session.state not in _TAKING:
                    return
                await self._breathe()
        except ConnectionLost:
            pass  # on_lost has been told
        except InDoubt as error:
            # No reply: a peer that hears none knows that the message may be here.
            _log.error("message in doubt", session=session.visit.session, error=error.detail)
            session.reset()
            if self._connection is not None:
                self._connection.abort()
        except MailError as error:
            _log.warning("session ended", session=session.visit.session, error=error.detail)
            self._say(replies.FAILED)
            self._close()
        except Exception:
            _log.exception("session failed", session=session.visit.session)
            self._say(replies.FAILED)
            self._close()
        finally:
            self._rest(heard=heard)

    async def _event(self, event: Event) -> None:
        """One thing that the peer said."""
        match event:
            case DataChunk(data):
                self._take(data)
            case Command():
                await self._command(event)
            case Line(octets):
                reply = await signin.answer(self._session, octets)
                self._say(self._session.watch(reply, b"AUTH"))
                self._after_sign_in()
            case DataEnd():
                self._say(*await self._decide(event))
            case ChunkEnd():
                await self._end_chunk(event)
            case BadLine(fault, fatal):
                self._bad(fault, fatal=fatal)

    def _rest(self, *, heard: bool) -> None:
        """The work is done for now: wait for the peer, for so long.

        Its time begins anew only if it said something whole: a line that drips in octet by octet
        has to end within the time of one.
        """
        self._task = None
        self._flush()
        if self._connection is None:
            self._session.reset()
            return
        if self._connection.is_closing:
            return
        if self._ended:
            self._close()
            return
        if self._goodbye is not None and self._drain():
            return
        if heard and self._session.state is not State.CONNECTED:
            self._connection.set_timeout(SERVER_TIMEOUT)
        if self._paused:
            self._paused = False
            self._connection.resume()

    def _drain(self) -> bool:
        """Say goodbye, unless a message is coming in: that may end. True if it is the end."""
        if self._session.state in _TAKING:
            return False
        if not self._session.closing and self._goodbye is not None:
            self._say(self._goodbye)
        self._close()
        return True

    async def _breathe(self) -> None:
        """Wait for a peer that does not read its replies, and let others have their turn."""
        if self._connection is not None:
            await self._connection.drain()
        loop = asyncio.get_running_loop()
        if loop.time() >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = loop.time() + SLICE

    async def _command(self, line: Command) -> None:
        """One command, and what its reply makes the line expect."""
        session = self._session
        chunked = session.state is State.CHUNKS
        reply = await session.command(line)
        if reply is not None and line.verb in _GROUPED and not session.closing:
            self._hold(reply)
        elif reply is not None:
            self._say(reply)
        if chunked and session.state is not State.CHUNKS:
            self._receiver.forget_chunks()
        if session.chunk is not None:
            if session.state is State.CHUNKS and not chunked:
                self._begin_content()
            self._receiver.expect_chunk(session.chunk.size, session.chunk.last)
        elif session.state is State.DATA:
            self._receiver.expect_data()
            self._begin_content()
        elif session.start_tls:
            await self._upgrade()
        self._after_sign_in()

    def _after_sign_in(self) -> None:
        """334 was said, or 235."""
        if self._session.conversation is not None:
            self._receiver.expect_line(AUTH_LINE_CAP)
        elif self._session.visit.principal is not None and not self._known:
            self._known = True
            if self._connection is not None:
                self._connection.signed_in()

    def _begin_content(self) -> None:
        """The content follows."""
        transit = self._session.transit
        assert transit is not None and transit.policy is not None  # DATA and BDAT begin with one
        self._size = 0
        self._limit = transit.policy.of(SmtpSettings).max_size
        self._failure = None

    def _take(self, data: bytes) -> None:
        """Content on its way in; beyond the limit it is counted and let go. RFC 1870 §6.3."""
        self._size += len(data)
        transit = self._session.transit
        if transit is None or transit.spool is None:
            return  # too large already, or a chunk that is refused
        if self._size > self._limit:
            transit.drop()
            return
        try:
            transit.take(data)
        except MailError as error:
            # Stay in step to the end of the content, where the reply has its place.
            self._failure = error
            transit.drop()

    async def _end_chunk(self, end: ChunkEnd) -> None:
        """The octets of BDAT are here: now it has its reply. RFC 3030 §2."""
        session = self._session
        chunk, session.chunk = session.chunk, None
        assert chunk is not None
        if chunk.refusal is not None:
            if session.state is not State.CHUNKS:
                self._receiver.forget_chunks()
            after = session.chunks_failed  # it may have sent this before it could know
            refused = chunk.refusal
            self._say(session.watch(refused, b"BDAT") if after else session.bad_line(refused))
        elif end.last:
            session.idle_commands = 0
            self._say(*await self._decide(end))
        elif self._failure is not None or self._size > self._limit:
            # What is under way has failed: its other chunks are refused as they come.
            self._receiver.forget_chunks()
            outcome = await self._judge(end)
            session.chunks_failed = True
            self._say(replies.of_verdict(outcome.verdict))
        else:
            reply = Reply(250, Status(2, 0, 0), (f"{chunk.size} octets taken",))
            self._say(reply if chunk.size else session.watch(reply, b"NOOP"))

    async def _decide(self, end: DataEnd | ChunkEnd) -> list[Reply]:
        """The end of the content: one reply, by LMTP one for each recipient (RFC 2033 §4.2)."""
        outcome = await self._judge(end)
        if not self._session.service.answers_each:
            return [replies.of_verdict(outcome.verdict)]
        return [replies.of_verdict(verdict) for _, verdict in outcome.each]

    async def _judge(self, end: DataEnd | ChunkEnd) -> Outcome:
        """What becomes of the message; it is under way no more."""
        session = self._session
        self._flush()  # this may take a while
        transit = session.transit
        assert transit is not None  # DATA began with one
        try:
            outcome = await session.intake.data(transit, Streamed.of(end), self._failure)
        finally:
            session.reset()
        session.apply(outcome.verdict.action)
        return outcome

    async def _upgrade(self) -> None:
        """STARTTLS: the reply was held back, so that nothing comes between it and TLS."""
        self._flush()
        assert self._connection is not None and self._server.tls is not None
        try:
            facts = await self._connection.start_tls(
                self._server.tls(),
                replies.READY_FOR_TLS.render(),
                leftover=not self._receiver.empty,
                refusal=replies.AFTER_STARTTLS.render(),
            )
        except MailError as error:
            _log.info("TLS failed", session=self._session.visit.session, error=str(error))
            self._session.closing = True
            return
        self._session.restart()
        self._session.visit.peer = replace(self._session.visit.peer, tls=facts)
        self._receiver = Receiver()
        self._connection.resume()

    def _bad(self, fault: Fault, *, fatal: bool) -> None:
        session = self._session
        match fault:
            case Fault.TOO_LONG if session.conversation is not None:
                reply = replies.RESPONSE_TOO_LONG
            case Fault.TOO_LONG:
                reply = replies.LINE_TOO_LONG
            case Fault.CONTROL:
                reply = replies.CONTROL
            case _:
                reply = replies.BARE
        session.abandon()  # the line was the answer to a 334: the sign-in is over
        self._say(session.bad_line(reply))
        session.closing = session.closing or fatal

    def _hold(self, reply: Reply) -> None:
        """Say it with what comes next, at the latest when all that came is answered."""
        self._held += reply.render()
        if len(self._held) > HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held and self._connection is not None:
            held, self._held = self._held, b""
            self._connection.write(held)

    def _say(self, *said: Reply) -> None:
        if self._session.start_tls:
            return  # `_upgrade` says it
        for reply in said:
            self._held += reply.render()
        self._flush()

    def _close(self) -> None:
        self._session.reset()
        self._flush()
        if self._connection is not None:
            self._connection.close()
