"""The connection of an SMTP session: bytes in, replies out, deadlines and back-pressure."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from postroom.core.clock import Clock
from postroom.core.errors import ConnectionLost, MailError
from postroom.core.ids import SESSION, Ids, external
from postroom.domain.transit import Protocol, Visit
from postroom.mailflow.intake import Intake, Streamed
from postroom.mailflow.settings import SmtpSettings
from postroom.net.connection import Connection, Peer
from postroom.protocols.smtp import replies, verbs
from postroom.protocols.smtp.session import Session, State, Verb
from postroom.wire.smtp import BadLine, Command, DataChunk, DataEnd, Fault, Receiver, Reply
from postroom.wire.smtp.limits import SERVER_TIMEOUT

HIGH_WATER: Final = 64 * 1024
"""Octets that wait for their turn; beyond, the peer waits. One read of the loop may be larger."""

BEFORE_GREETING: Final = 60.0
"""Seconds until a peer that has said nothing useful is let go."""

SLICE: Final = 0.002
"""Seconds of pipelined commands after which the loop serves others."""

_log: Final = structlog.get_logger("postroom.smtp")


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """What all sessions of one worker share."""

    intake: Intake
    clock: Clock
    ids: Ids
    hostname: Callable[[], str]  # it may change while we serve
    tls: Callable[[], ssl.SSLContext] | None
    verbs: Mapping[bytes, Verb] = field(default_factory=lambda: verbs.MX)

    def handler(self, peer: Peer) -> SmtpConnection:
        """A session for a peer that was just accepted."""
        return SmtpConnection(self, peer)


class SmtpConnection:
    """One connection. Commands run one after the other in a task that lives while there is work."""

    __slots__ = (
        "_connection",
        "_draining",
        "_ended",
        "_failure",
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
            protocol=Protocol.SMTP,
            started=server.clock.now(),
        )
        self._session = Session(
            visit, server.intake, server.hostname(), offers_starttls=server.tls is not None
        )
        self._receiver = Receiver()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._size = 0
        self._limit = 0  # of this message; a setting that changes meanwhile is for the next
        self._failure: MailError | None = None
        self._slice_ends = 0.0
        self._paused = False
        self._draining = False
        self._ended = False

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
        self._draining = True
        if self._task is None:
            self._drain()

    def on_lost(self, error: ConnectionLost | None) -> None:
        if self._task is not None:
            # A message whose content is complete is being decided: that goes on, and is traced;
            # the peer will offer it again (RFC 5321 §4.5.3.2.6).
            if self._session.state is not State.DATA:
                self._task.cancel()
        else:
            self._session.reset()
        self._connection = None

    # --- the session's work --------------------------------------------------------------------

    async def _work(self) -> None:
        session = self._session
        self._slice_ends = asyncio.get_running_loop().time() + SLICE
        heard = False
        try:
            # STARTTLS brings a new receiver, and its client may speak before we look again.
            while self._connection is not None and (event := self._receiver.next()) is not None:
                heard = True
                match event:
                    case DataChunk(data):
                        self._take(data)
                    case Command():
                        self._say(await session.command(event, self._server.verbs))
                        if session.state is State.DATA:
                            self._expect_data()
                        elif session.start_tls:
                            await self._upgrade()
                    case DataEnd():
                        self._say(await self._decide(event))
                    case BadLine(fault, fatal):
                        self._bad(fault, fatal=fatal)
                if session.closing:
                    self._close()
                    return
                if self._draining and session.state is not State.DATA:
                    return
                await self._breathe()
        except ConnectionLost:
            pass  # on_lost has been told
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

    def _rest(self, *, heard: bool) -> None:
        """The work is done for now: wait for the peer, for so long.

        Its time begins anew only if it said something whole: a line that drips in octet by octet
        has to end within the time of one.
        """
        self._task = None
        if self._connection is None:
            self._session.reset()
            return
        if self._connection.is_closing:
            return
        if self._ended:
            self._close()
            return
        if self._draining and self._drain():
            return
        if heard and self._session.state is not State.CONNECTED:
            self._connection.set_timeout(SERVER_TIMEOUT)
        if self._paused:
            self._paused = False
            self._connection.resume()

    def _drain(self) -> bool:
        """Say goodbye, unless a message is coming in: that may end. True if it is the end."""
        if self._session.state is State.DATA:
            return False
        if not self._session.closing:
            self._say(replies.SHUTTING_DOWN)
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

    def _expect_data(self) -> None:
        """354 was said: the content follows."""
        transit = self._session.transit
        assert transit is not None and transit.policy is not None  # DATA began with one
        self._receiver.expect_data()
        self._size = 0
        self._limit = transit.policy.of(SmtpSettings).max_size
        self._failure = None

    def _take(self, data: bytes) -> None:
        """Content on its way in; beyond the limit it is counted and let go. RFC 1870 §6.3."""
        self._size += len(data)
        transit = self._session.transit
        if transit is None or transit.spool is None:
            return
        if self._size > self._limit:
            transit.drop()
            return
        try:
            transit.spool.write(data)
        except MailError as error:
            # Stay in step to the end of the content, where the reply has its place.
            self._failure = error
            transit.drop()

    async def _decide(self, end: DataEnd) -> Reply:
        session = self._session
        transit = session.transit
        assert transit is not None  # DATA began with one
        seen = Streamed(end.size, end.bare_cr, end.bare_lf, end.nul, end.longest_line)
        try:
            outcome = await session.intake.data(transit, seen, self._failure)
        finally:
            session.reset()
        session.apply(outcome.verdict.action)
        return replies.of_verdict(outcome.verdict)

    async def _upgrade(self) -> None:
        """STARTTLS: the reply was held back, so that nothing comes between it and TLS."""
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
        match fault:
            case Fault.TOO_LONG:
                reply = replies.LINE_TOO_LONG
            case Fault.CONTROL:
                reply = replies.CONTROL
            case _:
                reply = replies.BARE
        self._say(self._session.bad_line(reply))
        self._session.closing = self._session.closing or fatal

    def _say(self, reply: Reply) -> None:
        if self._session.start_tls or self._connection is None:
            return  # `_upgrade` says it
        self._connection.write(reply.render())

    def _close(self) -> None:
        self._session.reset()
        if self._connection is not None:
            self._connection.close()
