"""The Protocol class under every line protocol: bytes, back-pressure, deadlines and TLS.

It knows no command. A session is a `Handler`: it is given bytes as they come and writes
through the connection. Not streams: those cost ten times the memory and keep plaintext
across STARTTLS.
"""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import ssl
import termios
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol, TypeAlias, cast

from postroom.core.errors import ConnectionLost, Malformed, Misuse, TlsFailed
from postroom.net.tls import ClientTls, TlsEngine, TlsFacts
from postroom.net.wheel import TimerWheel

Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, and which of our doors it came through: none if we went out.

    An IPv4 peer of an IPv6 socket is shown as IPv4, so that no rule can be walked around.
    """

    ip: IPv4Address | IPv6Address | None  # None on a unix socket
    port: int
    local_ip: IPv4Address | IPv6Address | None
    local_port: int
    listener: str  # empty if we made the connection
    tls: TlsFacts | None = None
    via: IPv4Address | IPv6Address | None = None  # the proxy that told us all this but itself


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection; times in seconds, sizes in bytes."""

    handshake: float = 30
    stall: float = 60  # a peer that takes nothing for so long is cut off
    linger: float = 2  # how long a closed connection waits for the peer to have read it all
    high_water: int = 65_536  # unsent bytes at which `drain` waits and reading stops
    low_water: int = 16_384
    hears_all: bool = False
    """Read although the peer takes nothing of what we write, and after it has cut the line what
    it had said before: for a client, to whom that is an answer. A server's peer who takes no
    replies gives no more commands."""


LIMITS: Final = Limits()
_READ: Final = 16_384  # octets that are read at a time from a line that is cut
_LAST_READS: Final = 8  # of these, at most: all that a handler would look at


class Handler(Protocol):
    """A session, as its connection sees it. Called on the loop; must not block."""

    def on_connected(self, connection: Connection) -> None:
        """First of all calls; on an implicit TLS listener after the handshake."""
        ...

    def on_bytes(self, data: bytes) -> None:
        """What arrived, at most 16 KiB; never empty, never while paused, never after close."""
        ...

    def on_eof(self) -> None:
        """The peer sends no more, but may still read: answer, then close."""
        ...

    def on_timeout(self) -> None:
        """The time given to `set_timeout` has passed; it is off until it is set again."""
        ...

    def on_shutdown(self) -> None:
        """The server drains: finish what is in flight, say goodbye, close."""
        ...

    def on_lost(self, error: ConnectionLost | None) -> None:
        """Last of all calls. None: closed by us or by the peer in good order."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One connection, from the moment it has a transport.

    Cheap when idle: no timer, no task and no buffer of its own.
    """

    __slots__ = (
        "_backlog",
        "_choked",
        "_closing",
        "_eof",
        "_eof_told",
        "_error",
        "_handler",
        "_handshake_at",
        "_held",
        "_idle_at",
        "_limits",
        "_linger_at",
        "_lost",
        "_make_handler",
        "_on_closed",
        "_on_signed_in",
        "_paused",
        "_progress",
        "_stall_at",
        "_tls",
        "_tls_ready",
        "_transport",
        "_waiters",
        "_wheel",
        "_written",
        "peer",
        "slot",
    )

    def __init__(
        self,
        peer: Peer,
        make_handler: Callable[[Peer], Handler],
        wheel: TimerWheel,
        *,
        tls: ssl.SSLContext | ClientTls | None = None,
        limits: Limits = LIMITS,
        on_signed_in: Callable[[], None] | None = None,
        on_closed: Callable[[Connection], None] | None = None,
    ) -> None:
        """With `tls` the handshake comes first and the handler is made after it; `ClientTls`
        makes us its client, and may raise TlsFailed here.

        `on_closed` is called once the connection is gone, whether or not it had a handler.
        """
        self.peer = peer
        self.slot: int | None = None  # the wheel's
        self._make_handler = make_handler
        self._wheel = wheel
        self._limits = limits
        self._on_signed_in = on_signed_in
        self._on_closed = on_closed
        self._handler: Handler | None = None
        self._transport: asyncio.Transport | None = None
        self._tls: TlsEngine | None = _engine(tls) if tls is not None else None
        self._tls_ready: asyncio.Future[TlsFacts] | None = None  # who waits for the handshake
        self._held: list[bytes] | None = None  # plaintext that came although reading is paused
        self._backlog: list[bytes] | None = None  # written during a handshake
        self._waiters: list[asyncio.Future[None]] | None = None
        self._error: ConnectionLost | None = None
        self._paused = False  # by the owner
        self._choked = False  # the peer does not read what we write
        self._closing = False
        self._eof = False  # the peer sends no more
        self._eof_told = False  # and the handler knows
        self._lost = False
        self._written = 0  # bytes given to the transport
        self._progress = 0  # of these, what the peer had taken when last looked at
        self._idle_at = math.inf
        self._stall_at = math.inf
        self._linger_at = math.inf
        self._handshake_at = math.inf

    # --- for the owner ---------------------------------------------------------------------

    @property
    def is_closing(self) -> bool:
        """True once closed or lost: nothing more is read, and writing does nothing."""
        return self._closing or self._lost

    @property
    def sent(self) -> int:
        """Octets that were given to the transport, with what TLS adds."""
        return self._written

    @property
    def handler(self) -> Handler | None:
        """The session; None before the handshake of an implicit TLS connection is done."""
        return self._handler

    def write(self, data: Bytes) -> None:
        """Send `data`; never blocks. After close or loss it does nothing: `drain` tells.

        During a handshake it is kept and sent encrypted.
        """
        if self._closing or self._transport is None or not data:
            return
        if self._tls is not None:
            if self._handshake_at != math.inf:
                self._keep(bytes(data))
                return
            try:
                data = self._tls.seal(data)
            except TlsFailed as error:
                self._fail(error)
                return
        self._written += len(data)
        self._transport.write(data)

    def writelines(self, lines: Iterable[Bytes]) -> None:
        """Send all of `lines` as one write."""
        self.write(b"".join(lines))

    @property
    def is_choked(self) -> bool:
        """True while the peer takes less than we write: `drain` would wait."""
        return self._choked

    async def drain(self) -> None:
        """Wait until the peer has taken enough to write more, or until `interrupt`. Raises
        ConnectionLost."""
        if self._lost or self._error is not None:
            raise self._lost_error()
        if not self._choked:
            return
        waiter = self._wheel.loop.create_future()
        if self._waiters is None:
            self._waiters = []
        self._waiters.append(waiter)
        await waiter

    def interrupt(self) -> None:
        """Let who waits in `drain` go on at once: there is news that counts for more."""
        if self._waiters is not None:
            waiters, self._waiters = self._waiters, None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def pause(self) -> None:
        """Give the handler no bytes until `resume`: the peer is held back by TCP."""
        self._paused = True
        self._apply_reading()

    def resume(self) -> None:
        """Give the handler bytes again; what waits is given before this returns."""
        if not self._paused:
            return
        self._paused = False
        self._apply_reading()
        if self._held is not None:
            held, self._held = self._held, None
            self._give(b"".join(held))
        if self._tls is not None and self._handshake_at == math.inf and not self.is_closing:
            self._read_tls(self._tls)
        if self._eof:
            self._give_eof()

    def set_timeout(self, seconds: float | None) -> None:
        """Call the handler's `on_timeout` in `seconds`, within a tick; None: never.

        Replaces the earlier timeout. Cheap enough to be called at every command.
        """
        if seconds is None:
            self._idle_at = math.inf
            return
        earlier = self._idle_at
        self._idle_at = at = self._wheel.time() + seconds
        # A deadline that moves away is noticed when the old one is due.
        if (at < earlier or self.slot is None) and not self._lost:
            self._wheel.wake(self, at)

    def close(self, *, flush: bool = True) -> None:
        """Send what was written, then end. Without `flush` as `abort`.

        Waits a moment for the peer's own end, discarding what it still sends: closing at once
        would reset the connection, and the peer might lose the last reply.
        """
        if not flush or self._handshake_at != math.inf:
            self.abort()
            return
        if self._closing or self._transport is None:
            return
        if self._tls is not None:
            self._send(self._tls.close())
        self._closing = True
        self._held = None
        now = self._wheel.time()
        self._idle_at = math.inf
        self._linger_at = now + self._limits.linger
        self._watch_stall(now)
        if self._eof or self._transport.is_closing():
            self._transport.close()
        else:
            self._transport.write_eof()
            self._apply_reading()
        if not self._lost:
            self._wheel.wake(self, min(self._linger_at, self._stall_at))

    def abort(self) -> None:
        """End at once; unsent bytes are lost."""
        self._closing = True
        self._held = None
        if self._transport is not None:
            self._transport.abort()

    def signed_in(self) -> None:
        """The peer is known: it counts no longer among the strangers of its address."""
        if self._on_signed_in is not None:
            self._on_signed_in()
            self._on_signed_in = None

    async def start_tls(
        self, context: ssl.SSLContext, reply: bytes, *, leftover: bool, refusal: bytes = b""
    ) -> TlsFacts:
        """STARTTLS for every protocol: answer with `reply`, then speak TLS.

        `leftover` says that the owner holds bytes that came after the command. They were
        sent in plaintext and would run as if they had been protected (CVE-2011-0411), so
        `refusal` is written, the connection closed and Malformed raised. What arrives from
        now on can only be a handshake: plaintext fails it.

        On return reading is paused: forget what was said before (RFC 3207 §4.2), then
        `resume`. Raises TlsFailed, ConnectionLost; then the connection is already ending.
        """
        if self._transport is None or self._closing:
            raise self._lost_error()
        if self._tls is not None:
            raise Misuse("TLS is active already")
        if leftover or self._held is not None:
            self.write(refusal)
            self.close()
            raise Malformed("Nothing may follow STARTTLS before its answer")
        self.write(reply)
        return await self._upgrade(TlsEngine(context))

    async def secure(
        self, context: ssl.SSLContext, hostname: str | None, *, leftover: bool
    ) -> TlsFacts:
        """STARTTLS as its client, once the server has agreed: speak TLS from now on.

        `leftover` says that the owner holds bytes that came behind the server's answer. They
        were sent in plaintext, by anybody on the way, and would be believed as if they had
        been protected (response injection, CVE-2021-38371): the connection is closed and
        Malformed raised. What is still to come can only be a handshake.

        On return reading is paused: forget what was said before (RFC 3207 §4.2), then
        `resume`. Raises TlsFailed, CertificateRefused (which is one), ConnectionLost; then
        the connection is already ending.
        """
        if self._transport is None or self._closing:
            raise self._lost_error()
        if self._tls is not None:
            raise Misuse("TLS is active already")
        if leftover or self._held is not None:
            self.abort()
            raise Malformed("Nothing may follow the answer to STARTTLS")
        try:
            engine = TlsEngine(context, server_side=False, hostname=hostname)
        except TlsFailed:
            self.abort()
            raise
        return await self._upgrade(engine)

    async def secured(self) -> TlsFacts:
        """Wait until the handshake under way is done. Raises TlsFailed, ConnectionLost."""
        if self.peer.tls is not None:
            return self.peer.tls
        if self.is_closing or self._tls is None:
            raise self._lost_error()
        self._tls_ready = self._wheel.loop.create_future()
        try:
            return await self._tls_ready
        except asyncio.CancelledError:
            self.abort()  # nobody would take it over
            raise

    # --- for the loop ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(self._limits.high_water, self._limits.low_water)
        if self._tls is not None:
            self._begin_handshake(self._tls)
        else:
            self._open()

    def get_buffer(self, sizehint: int) -> memoryview:
        # Ours: a loop would bring 256 KiB at once, before anybody could say that it is enough.
        return self._wheel.scratch if self._tls is None else self._wheel.scratch_tls

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        self._received(bytes(self._wheel.scratch_tls[:nbytes]))  # the next read overwrites it

    def _received(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.feed(data)
            if self._handshake_at == math.inf or self._shake(self._tls):
                self._read_tls(self._tls)
        elif self._paused:
            # A loop may still bring what it had read when it was paused.
            if self._held is None:
                self._held = []
            self._held.append(data)
        else:
            self._give(data)

    def eof_received(self) -> bool:
        """True keeps our half open: the owner may still answer."""
        if self._closing:
            return False
        if self._tls is not None and not self._eof:
            # Without close_notify somebody may have cut the stream short. RFC 8446 §6.1
            self._error = self._error or TlsFailed(detail="the end was not announced")
            return False
        self._eof = True
        self._give_eof()
        return True

    def pause_writing(self) -> None:
        self._choked = True
        now = self._wheel.time()
        self._watch_stall(now)
        self._wheel.wake(self, self._stall_at)
        self._apply_reading()

    def resume_writing(self) -> None:
        self._choked = False
        if not self._closing:
            self._stall_at = math.inf
        self._apply_reading()
        self.interrupt()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._error is None:
            self._error = ConnectionLost(detail=str(exc))
        self._lost = True
        transport, self._transport = self._transport, None
        self._wheel.forget(self)
        if exc is not None and transport is not None and self._limits.hears_all:
            self._hear_last_words(transport)
        for waiter in (*(self._waiters or ()), self._tls_ready):
            if waiter is not None and not waiter.done():
                waiter.set_exception(self._lost_error())
        self._waiters = self._tls_ready = self._tls = self._held = self._backlog = None
        handler, self._handler = self._handler, None
        try:
            if handler is not None:
                handler.on_lost(self._error)
        finally:
            self.signed_in()
            if self._on_closed is not None:
                self._on_closed(self)

    def on_tick(self, now: float) -> float:
        """For the wheel: serve the deadlines that are due; the next one."""
        if now >= self._handshake_at:
            self._fail(TlsFailed(detail="the handshake took too long"))
            return math.inf
        if now >= self._stall_at and not self._has_progressed(now):
            self._error = ConnectionLost(detail="the peer does not read")
            self.abort()
            return math.inf
        if now >= self._linger_at:
            if self._taken() == self._written:
                self.abort()  # it has all; that it does not close is its own affair
                return math.inf
            self._linger_at = now + self._limits.linger
        if now >= self._idle_at:
            self._idle_at = math.inf
            if self._handler is not None and not self._closing:
                self._handler.on_timeout()
        return min(self._idle_at, self._stall_at, self._linger_at, self._handshake_at)

    # --- inside ----------------------------------------------------------------------------

    def _open(self) -> None:
        self._handler = self._make_handler(self.peer)
        self._handler.on_connected(self)

    def _give(self, data: bytes) -> None:
        if self._handler is not None and not self._closing:
            self._handler.on_bytes(data)

    def _give_eof(self) -> None:
        if self._handler is None or self._closing or self._paused or self._eof_told:
            return
        self._eof_told = True
        self._handler.on_eof()

    def _apply_reading(self) -> None:
        """Read unless somebody objects: the owner, or a server's peer that reads nothing itself."""
        if self._transport is None:
            return
        wanted = self._closing or self._handshake_at != math.inf or not self._paused
        if wanted and (self._closing or not self._choked or self._limits.hears_all):
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _hear_last_words(self, transport: asyncio.Transport) -> None:
        """What the peer said before it cut the line lies in the kernel still; a loop whose write
        failed does not look there."""
        if self._handshake_at != math.inf:
            return  # nothing was said yet
        sock = transport.get_extra_info("socket")
        try:
            for _ in range(_LAST_READS):
                data = os.read(sock.fileno(), _READ)
                if not data or self._closing:
                    return
                self._received(data)
        except (OSError, ValueError):
            return  # there is no more, or the descriptor is gone already

    async def _upgrade(self, engine: TlsEngine) -> TlsFacts:
        self._paused = True
        self._tls = engine
        self._begin_handshake(engine)
        return await self.secured()

    def _begin_handshake(self, engine: TlsEngine) -> None:
        self._handshake_at = self._wheel.time() + self._limits.handshake
        self._wheel.wake(self, self._handshake_at)
        self._apply_reading()
        self._shake(engine)  # a client speaks first

    def _shake(self, engine: TlsEngine) -> bool:
        """Go on with the handshake: True once it is done."""
        try:
            done = engine.handshake()
        except TlsFailed as error:
            self._fail(error)
            return False
        self._send(engine.take())
        if not done:
            return False
        self._handshake_at = math.inf
        facts = engine.facts()
        self.peer = replace(self.peer, tls=facts)
        if self._backlog is not None:
            backlog, self._backlog = self._backlog, None
            self.writelines(backlog)
        if self._tls_ready is not None:
            self._apply_reading()
            if not self._tls_ready.done():
                self._tls_ready.set_result(facts)
            self._tls_ready = None
        if self._handler is None:
            self._open()
        return True

    def _read_tls(self, engine: TlsEngine) -> None:
        try:
            while not self._paused and not self._closing:
                plain = engine.read()
                if plain is None:
                    break
                if not plain:
                    self._eof = True
                    self._give_eof()
                    break
                self._give(plain)
        except TlsFailed as error:
            self._fail(error)
            return
        if not self._closing:
            self._send(engine.take())  # an answer of TLS itself, such as KeyUpdate

    def _send(self, data: bytes) -> None:
        """Bytes that are already what the wire should carry."""
        if data and self._transport is not None:
            self._written += len(data)
            self._transport.write(data)

    def _keep(self, data: bytes) -> None:
        if self._backlog is None:
            self._backlog = []
        self._backlog.append(data)

    def _fail(self, error: TlsFailed) -> None:
        """TLS is over: send the alert if there is one, end."""
        self._error = self._error or error
        if self._tls is not None:
            self._send(self._tls.take())
        self._handshake_at = math.inf
        self._closing = True
        if self._unsent() == 0 or self._transport is None:
            self.abort()
            return
        self._transport.close()
        now = self._wheel.time()
        self._watch_stall(now)
        self._wheel.wake(self, self._stall_at)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _taken(self) -> int:
        """How many bytes the peer has acknowledged."""
        if self._transport is None:
            return self._written
        # The kernel says that there is room again only after a third of its buffer, which on
        # a slow line can take minutes: so it is asked what lies there.
        queued = array("i", (0,))
        sock = self._transport.get_extra_info("socket")
        try:
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
        except (OSError, ValueError):
            pass  # closed under our hands: the loop will say so
        return self._written - self._unsent() - queued[0]

    def _watch_stall(self, now: float) -> None:
        self._progress = self._taken()
        self._stall_at = now + self._limits.stall

    def _has_progressed(self, now: float) -> bool:
        """True if the peer took something since the last look; the next one comes as late."""
        before = self._progress
        self._watch_stall(now)
        return self._progress > before or self._progress == self._written

    def _lost_error(self) -> ConnectionLost:
        return self._error if self._error is not None else ConnectionLost()


def _engine(tls: ssl.SSLContext | ClientTls) -> TlsEngine:
    if isinstance(tls, ClientTls):
        return TlsEngine(tls.context, server_side=False, hostname=tls.hostname)
    return TlsEngine(tls)
