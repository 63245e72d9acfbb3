"""A session over a connection: opened, used for one message after the other, closed.

What is said is the session's affair; here are the waits, each with its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from secrets import token_urlsafe
from typing import Final

from postroom.core.errors import (
    ConnectFailed,
    ConnectionLost,
    MailError,
    Malformed,
    Misuse,
    Status,
    TlsFailed,
)
from postroom.net.connect import connect, connect_unix
from postroom.net.connection import Connection, Handler, Limits, Peer
from postroom.net.smtp.auth import Credentials, Mechanism
from postroom.net.smtp.session import Session
from postroom.net.smtp.steps import Peek, Read, Step, Steps, T, Work, Write
from postroom.net.smtp.values import (
    NO_TLS,
    TEXT_CAP,
    TIMEOUTS,
    Answer,
    Content,
    Downgrade,
    Facts,
    LocalTarget,
    OpenFailed,
    Phase,
    Result,
    Target,
    Timeouts,
    TlsMode,
    TlsWish,
    finding,
)
from postroom.net.tls import ClientTls, TlsFacts
from postroom.net.wheel import TimerWheel
from postroom.wire.smtp import BadReply, Mail, Rcpt, Reply, ReplyReader, command

_TURN: Final = 32_768  # octets that may be written in one turn of the loop
_NONCE: Final = 18  # octets of randomness. RFC 5802 §5.1
_UNREAD: Final = 65_536  # octets from the server that may wait before its sending is held back


class SmtpChannel:
    """One connection to one host. Made by `open`; for one task at a time."""

    __slots__ = (
        "_busy",
        "_connection",
        "_eof",
        "_error",
        "_late",
        "_reader",
        "_sending",
        "_session",
        "_target",
        "_timeouts",
        "_times",
        "_tls",
        "_verified",
        "_waiter",
        "_wheel",
        "facts",
    )

    def __init__(
        self, target: Target | LocalTarget, hello: str, wheel: TimerWheel, timeouts: Timeouts
    ) -> None:
        """Not yet connected: use `open`."""
        lmtp = isinstance(target, LocalTarget) or target.lmtp
        self._session = Session(target.host, hello, lmtp=lmtp)
        self._target = target
        self._wheel = wheel
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._connection: Connection | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: ConnectionLost | None = None  # the connection is gone
        self._eof = False  # the server sends no more
        self._late = False  # a deadline passed
        self._busy = False
        self._sending = False  # content
        self._times: dict[Phase, float] = {}
        self._tls: TlsFacts | None = None
        self._verified = False
        self.facts = Facts(target.host)

    @classmethod
    async def open(
        cls,
        target: Target | LocalTarget,
        *,
        hello: str,
        wheel: TimerWheel,
        tls: TlsWish = NO_TLS,
        timeouts: Timeouts = TIMEOUTS,
        credentials: Credentials | Mechanism | None = None,
    ) -> SmtpChannel:
        """Connect, greet, and do for TLS and sign-in what is asked.

        `hello` is our own name, ASCII, or an address literal. Raises OpenFailed, always with
        `facts`; Misuse.
        """
        channel = cls(target, hello, wheel, timeouts)
        try:
            await channel._open(tls, credentials)
        except OpenFailed as error:
            channel.facts = error.facts = channel._known()
            channel._leave()
            raise
        except BaseException:
            channel._abort()
            raise
        channel.facts = channel._known()
        return channel

    # --- for the owner ---------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """True if another message may be sent, as far as can be known without asking."""
        return (
            self._connection is not None
            and not self._connection.is_closing
            and not (self._busy or self._eof or self._session.over or self._session.full)
            and self._reader.empty  # a word that nobody asked for is a goodbye
        )

    async def send(
        self,
        mail: Mail,
        recipients: Sequence[Rcpt],
        content: Content,
        *,
        downgrade: Downgrade | None = None,
    ) -> Result:
        """One transaction. `mail` and `recipients` carry all that is wanted: what the server
        does not offer is left out, and where that may not be, recipients fail with a reason.

        `downgrade` is asked, at most twice, if the content cannot go as it is. Never raises
        for what the server or the line does; raises what `content` raises that is no MailError,
        and Misuse. Afterwards look at `is_usable`.
        """
        if not recipients:
            raise Misuse("A transaction has a recipient")
        self._begin()
        try:
            for _ in range(2):
                need = self._session.needs(content)
                if need is None or downgrade is None:
                    break
                other = await downgrade(need)
                if other is None:
                    break
                content = other
            result = await self._run(self._session.transact(mail, recipients, content))
        finally:
            self._busy = False
            if self._session.over:
                self._abort()
        return replace(result, times=self._take_times())

    async def reset(self) -> bool:
        """RSET: shows that the connection is alive; False if it is of no more use."""
        self._begin()
        try:
            return await self._run(self._session.reset())
        finally:
            self._busy = False
            if self._session.over:
                self._abort()

    async def quit(self) -> None:
        """Say goodbye and close. Never raises for what the server or the line does; Misuse."""
        if self._busy:
            raise Misuse("A message is under way")
        if self._session.over or not self._reader.empty or self._eof:
            self._leave()
            return
        self._begin()
        try:
            await self._run(self._session.quit())
        finally:
            self._busy = False
            self._close()

    def abort(self) -> None:
        """End at once, whatever is under way."""
        self._abort()

    # --- for the connection ----------------------------------------------------------------

    def on_connected(self, connection: Connection) -> None:
        self._connection = connection

    def on_bytes(self, data: bytes) -> None:
        self._reader.feed(data)
        if self._connection is not None and self._reader.buffered > _UNREAD:
            self._connection.pause()
        self._interrupt()
        self._wake()

    def on_eof(self) -> None:
        self._eof = True
        self._interrupt()
        if not self._busy and self._connection is not None and self._waiter is None:
            self._connection.close()
        self._wake()

    def on_timeout(self) -> None:
        self._late = True
        self._abort()
        self._wake()

    def on_shutdown(self) -> None:
        """A connection that we made is drained by its owner, who knows what is in flight."""

    def on_lost(self, error: ConnectionLost | None) -> None:
        self._error = error or ConnectionLost()
        self._wake()

    # --- opening ---------------------------------------------------------------------------

    async def _open(self, tls: TlsWish, credentials: Credentials | Mechanism | None) -> None:
        self._busy = True
        await self._connect(tls)
        await self._run(self._session.greeting())
        await self._run(self._session.hello())
        if tls.context is not None and not tls.implicit:
            await self._start_tls(tls)
        if credentials is not None:
            nonce = token_urlsafe(_NONCE)
            await self._run(self._session.authenticate(credentials, nonce))
        self._busy = False

    async def _connect(self, tls: TlsWish) -> None:
        timeouts, target = self._timeouts, self._target
        bounds = Limits(handshake=timeouts.tls, stall=timeouts.block, hears_all=True)
        started = self._wheel.time()
        try:
            if isinstance(target, LocalTarget):
                self._connection = await connect_unix(
                    target.path, self._handler, self._wheel, timeout=timeouts.connect, limits=bounds
                )
            else:
                first = tls.context if tls.implicit else None
                self._connection = await connect(
                    target.ip,
                    target.port,
                    self._handler,
                    self._wheel,
                    source=target.source,
                    timeout=timeouts.connect if first is None else timeouts.connect + timeouts.tls,
                    limits=bounds,
                    tls=ClientTls(first, tls.name) if first is not None else None,
                )
        except TlsFailed as error:
            raise self._tls_failed(error, tls) from error
        except (ConnectFailed, ConnectionLost) as error:
            raise OpenFailed(finding(error), Phase.CONNECT, reason=error) from error
        finally:
            self._spent(Phase.CONNECT, started)
        if tls.implicit:
            self._session.secured = True
            self._judge(tls)

    async def _start_tls(self, wish: TlsWish) -> None:
        assert wish.context is not None
        assert self._connection is not None
        if "STARTTLS" not in self._session.offers:
            if wish.mode is TlsMode.MAY:
                return
            answer = Answer(None, Status(4, 7, 4), "The host does not offer STARTTLS")
            raise OpenFailed(answer, Phase.STARTTLS)
        reply = await self._run(self._session.starttls())
        if not reply.positive:
            if wish.mode is TlsMode.MAY:
                return  # RFC 3207 §4: it may do without, and so may we
            raise OpenFailed(_refusal_of_tls(reply), Phase.STARTTLS)
        started = self._wheel.time()
        try:
            await self._connection.secure(wish.context, wish.name, leftover=not self._reader.empty)
        except (Malformed, ConnectionLost) as error:  # TlsFailed is one
            raise self._tls_failed(error, wish) from error
        finally:
            self._spent(Phase.TLS, started)
        self._reader = ReplyReader()
        self._session.forget()
        self._judge(wish)
        self._connection.resume()
        await self._run(self._session.hello())

    def _judge(self, wish: TlsWish) -> None:
        """What the handshake settled, and what the caller says to the certificate."""
        assert self._connection is not None
        self._tls = facts = self._connection.peer.tls
        assert facts is not None
        self._verified = facts.verified
        if wish.check is None:
            return
        try:
            wish.check(facts.chain)
        except TlsFailed as error:
            raise self._tls_failed(error, wish) from error
        self._verified = True

    def _tls_failed(self, error: MailError, wish: TlsWish) -> OpenFailed:
        self._session.over = True
        answer = finding(error)
        if answer.status.permanent:  # what came behind the answer to STARTTLS was malformed
            answer = replace(answer, status=TlsFailed.status)
        # Whoever could break this could as well have hidden STARTTLS: plaintext loses nothing.
        may = wish.mode is TlsMode.MAY and not wish.implicit
        return OpenFailed(answer, Phase.TLS, reason=error, plain_may_help=may)

    def _handler(self, peer: Peer) -> Handler:
        return self

    def _known(self) -> Facts:
        target, session = self._target, self._session
        facts = Facts(
            target.host,
            banner=session.banner,
            offers=session.offers,
            tls=self._tls,
            verified=self._verified,
            signed_in=session.signed_in,
            times=self._take_times(),
        )
        if isinstance(target, LocalTarget):
            return facts
        return replace(facts, ip=target.ip, port=target.port)

    # --- the waits -------------------------------------------------------------------------

    async def _run(self, steps: Steps[T]) -> T:
        """Do what the conversation asks for until it ends."""
        reply: Reply | None = None
        error: MailError | None = None
        while True:
            try:
                step = steps.throw(error) if error is not None else steps.send(reply)
            except StopIteration as end:
                value: T = end.value
                return value
            reply = error = None
            started = self._wheel.time()
            try:
                reply = await self._do(step)
            except (ConnectionLost, BadReply) as failed:
                error = failed
            except BaseException:
                self._abort()  # nobody would know which reply belongs to what
                raise
            finally:
                self._spent(step.phase, started)

    async def _do(self, step: Step) -> Reply | None:
        match step:
            case Write(octets, phase):
                return await self._write(octets, phase)
            case Read(phase):
                return await self._read(phase)
            case Peek(phase):
                return await self._read(phase) if self._has_news else None
            case Work(run, _):
                await asyncio.to_thread(run)
                return None

    @property
    def _has_news(self) -> bool:
        """The server has said something that nobody has read yet, or will say nothing more."""
        return not self._reader.empty or self._eof or self._error is not None

    async def _write(self, octets: bytes, phase: Phase) -> Reply | None:
        """Send, and wait until the server takes more; the reply that came before it had taken
        the content so far."""
        connection = self._connection
        assert connection is not None
        connection.write(octets)
        connection.set_timeout(self._timeouts.block)
        self._sending = phase is Phase.CONTENT
        broken_off = False
        try:
            await connection.drain()
            broken_off = self._sending and connection.is_choked
            if len(octets) >= _TURN:
                await asyncio.sleep(0)  # others have their turn, and the server can be heard
        except ConnectionLost as error:
            if self._late:
                raise _too_late("took nothing more") from error
            if self._reader.empty:
                raise
            # Its last words are here, and say more.
            broken_off = self._sending
        finally:
            self._sending = False
            connection.set_timeout(None)
        return await self._read(phase) if broken_off else None

    async def _read(self, phase: Phase) -> Reply:
        """The next reply. The deadline is for the whole of it, however it trickles."""
        connection = self._connection
        assert connection is not None
        reply = self._reader.next()
        if reply is not None:
            return reply
        connection.set_timeout(self._timeouts.of(phase))
        try:
            while (reply := self._reader.next()) is None:
                if self._late:
                    raise _too_late("did not answer")
                if self._error is not None:
                    raise self._error
                if self._eof:
                    raise ConnectionLost(detail="the other server closed it")
                await self._more(connection)
            return reply
        finally:
            connection.set_timeout(None)

    async def _more(self, connection: Connection) -> None:
        """Wait until something has happened on the line."""
        self._waiter = self._wheel.loop.create_future()
        connection.resume()  # it may have been held back; then what waits comes at once
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _interrupt(self) -> None:
        """What is said within the content is the answer to it: nothing more need go out."""
        if self._sending and self._connection is not None:
            self._connection.interrupt()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _begin(self) -> None:
        if self._busy or self._connection is None or self._session.over:
            raise Misuse("This channel is in use, or used up")
        self._busy = True

    def _spent(self, phase: Phase, started: float) -> None:
        self._times[phase] = self._times.get(phase, 0.0) + self._wheel.time() - started

    def _take_times(self) -> dict[Phase, float]:
        times, self._times = self._times, {}
        return times

    # --- the end ---------------------------------------------------------------------------

    def _leave(self) -> None:
        """Close in good order without waiting: RFC 5321 §3.1 wants a QUIT even after a 554."""
        connection = self._connection
        if connection is None or connection.is_closing:
            return
        if not self._session.over:
            self._session.over = True
            connection.write(command("QUIT"))
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _abort(self) -> None:
        self._session.over = True
        if self._connection is not None:
            self._connection.abort()


def _too_late(what: str) -> ConnectionLost:
    return ConnectionLost(f"The other server {what} in time")


def _refusal_of_tls(reply: Reply) -> Answer:
    """That TLS is refused is temporary, whatever the code: it was offered a moment ago."""
    return Answer(reply.code, Status(4, 7, 4), reply.text[:TEXT_CAP])
