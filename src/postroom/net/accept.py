"""A worker's door: accepts on a raw listening socket, decides who comes in, makes connections.

Everything that can be decided before a transport exists is decided on the raw socket: the
caps, the connect rules, and who a proxy says that its client is.
"""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger

from postroom.core.errors import Malformed
from postroom.net.connection import LIMITS, Connection, Handler, Limits, Peer
from postroom.net.proxy import HeaderReader, Networks, plain
from postroom.net.wheel import TimerWheel

BATCH: Final = 64  # connections accepted before the loop serves others
PAUSE: Final = 1.0  # seconds without accepting when the process is out of descriptors
HEADER: Final = 3.0  # seconds in which a proxy must have said whom it speaks for
UNHEARD: Final = 1000  # connections of proxies of which this is not known yet

Admit: TypeAlias = Callable[[Peer], "bool | bytes"]
"""A connect rule: True lets in, False closes, bytes are the refusal to send before closing."""

_AHEAD: Final = 512  # octets that are looked at for a header
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log: FilteringBoundLogger = structlog.get_logger("postroom.net")


class Strangers:
    """Counts the connections of each address that have not signed in; shared by listeners.

    An IPv6 host owns its whole /64, so that is what counts as an address. Those of whom a
    proxy has not said yet who they are, `unheard` in number, have a cap of their own.
    """

    __slots__ = ("_count", "cap", "unheard", "unheard_cap")

    def __init__(self, cap: int = 100, *, unheard_cap: int = UNHEARD) -> None:
        self.cap = cap
        self.unheard = 0
        self.unheard_cap = unheard_cap
        self._count: Counter[Hashable] = Counter()

    def enter(self, ip: IPv4Address | IPv6Address) -> Callable[[], None] | None:
        """Count one more; what to call when it is no stranger any more. None: too many."""
        key: Hashable = int(ip) >> 64 if isinstance(ip, IPv6Address) else ip.packed
        if self._count[key] >= self.cap:
            return None
        self._count[key] += 1
        return partial(self._leave, key)

    def _leave(self, key: Hashable) -> None:
        if self._count[key] <= 1:
            del self._count[key]
        else:
            self._count[key] -= 1


class Acceptor:
    """Accepts on one listening socket of one worker until it is closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        name: str,
        make_handler: Callable[[Peer], Handler],
        wheel: TimerWheel,
        *,
        tls: ssl.SSLContext | None = None,
        admit: Admit | None = None,
        strangers: Strangers | None = None,
        cap: int = 10_000,
        busy: bytes = b"",
        limits: Limits = LIMITS,
        proxy_from: Networks = (),
    ) -> None:
        """`sock` listens already. `name` is the listener's, for peers and the log.

        With `tls` the handshake comes first (implicit TLS). `busy` is what a peer is told
        that is refused because of a cap; never sent where TLS comes first. A peer of
        `proxy_from` must begin with a PROXY protocol header, and is then who the header says;
        from others such a header is bytes like any. Peers of a unix socket never send one.
        """
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._name = name
        self._make_handler = make_handler
        self._wheel = wheel
        self._tls = tls
        self._admit = admit
        self._strangers = strangers if strangers is not None else Strangers(cap)
        self._proxy_from = proxy_from
        self._unheard: set[_Unheard] = set()
        self._cap = cap
        self._busy = busy
        self._limits = limits
        self._starting: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        self._closed = False
        self.connections: set[Connection] = set()
        self.bad_headers = 0  # connections closed because a proxy sent no good header

    def start(self) -> None:
        """Accept from now on."""
        self._resume = None
        if not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more and close the socket; connections live on, if we know whose they are."""
        if self._closed:
            return
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for unheard in tuple(self._unheard):
            unheard.end()

    async def shutdown(self) -> None:
        """Close, ask every session to finish, wait until all have ended.

        Without a bound of its own: cancel it, or let the process end.
        """
        self.close()
        if self._starting:
            await asyncio.wait(self._starting)
        for connection in tuple(self.connections):
            if connection.handler is None:
                connection.abort()  # in its handshake: nothing was promised yet
            else:
                connection.handler.on_shutdown()
        if self.connections:
            self._empty = self._loop.create_future()
            await self._empty

    def _accept(self) -> None:
        for _ in range(BATCH):
            if self._closed:
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue  # gone before we came
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._rest(error)
                return
            try:
                self._receive(sock, address)
            except BaseException:
                sock.close()
                raise

    def _rest(self, error: OSError) -> None:
        """Out of descriptors: trying again at once only burns CPU; peers wait in the backlog."""
        _log.error("accepting paused", listener=self._name, seconds=PAUSE, reason=str(error))
        self._loop.remove_reader(self._sock.fileno())
        self._resume = self._loop.call_later(PAUSE, self.start)

    def _receive(self, sock: socket.socket, address: object) -> None:
        """Look at one peer on its raw socket."""
        sock.setblocking(False)
        try:
            peer = peer_of(sock, address, self._name)
        except OSError:
            sock.close()  # reset before it was looked at
            return
        if len(self.connections) + len(self._starting) + len(self._unheard) >= self._cap:
            self._refuse(sock, peer, self._busy, "the listener is full")
        elif not _among(peer.ip, self._proxy_from):
            self._decide(sock, peer)
        elif self._strangers.unheard >= self._strangers.unheard_cap:
            self._refuse(sock, peer, self._busy, "too many proxied connections begin")
        else:
            self._strangers.unheard += 1
            unheard = _Unheard(sock, self._wheel, partial(self._heard, peer))
            self._unheard.add(unheard)
            unheard.hear()  # most often all is there already

    def _heard(self, peer: Peer, unheard: _Unheard, problem: str) -> None:
        """A proxy has said whom it speaks for, or there is a problem with that, or it left."""
        self._unheard.discard(unheard)
        self._strangers.unheard -= 1
        if problem:
            self.bad_headers += 1
            _log.info("no PROXY header", listener=self._name, peer=str(peer.ip), reason=problem)
        if problem or not unheard.header.done:
            unheard.sock.close()
            return
        route = unheard.header.route
        if route is not None:
            peer = Peer(
                route.ip, route.port, route.local_ip, route.local_port, self._name, via=peer.ip
            )
        try:
            self._decide(unheard.sock, peer)
        except BaseException:
            unheard.sock.close()
            raise

    def _decide(self, sock: socket.socket, peer: Peer) -> None:
        """Let a known peer in, or refuse it."""
        release: Callable[[], None] | None = None
        if peer.ip is not None:
            release = self._strangers.enter(peer.ip)
            if release is None:
                self._refuse(sock, peer, self._busy, "too many from this address")
                return
        try:
            verdict = self._admit(peer) if self._admit is not None else True
        except BaseException:
            if release is not None:
                release()
            raise
        if verdict is not True:
            if release is not None:
                release()
            self._refuse(sock, peer, verdict or b"", "not admitted")
            return
        connection = Connection(
            peer,
            self._make_handler,
            self._wheel,
            tls=self._tls,
            limits=self._limits,
            on_signed_in=release,
            on_closed=self._gone,
        )
        task = self._loop.create_task(self._adopt(sock, connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _adopt(self, sock: socket.socket, connection: Connection) -> None:
        self.connections.add(connection)
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except BaseException as error:
            # It never had a transport, so nobody else will tell it.
            sock.close()
            connection.connection_lost(error if isinstance(error, OSError) else None)
            if not isinstance(error, OSError):
                raise

    def _refuse(self, sock: socket.socket, peer: Peer, line: bytes, reason: str) -> None:
        _log.info("connection refused", listener=self._name, peer=str(peer.ip), reason=reason)
        with sock:
            if line and self._tls is None:
                try:
                    sock.send(line)  # a fresh socket's send buffer has room
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # the peer is gone, which is what was wanted

    def _gone(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


class _Unheard:
    """A connection of a proxy that has not said yet whom it speaks for.

    Reads the header from the raw socket, and nothing behind it: that may be TLS.
    """

    __slots__ = ("_deadline", "_on_end", "_wheel", "header", "slot", "sock")

    def __init__(
        self, sock: socket.socket, wheel: TimerWheel, on_end: Callable[[_Unheard, str], None]
    ) -> None:
        """`on_end` is told once what was wrong: nothing if it was heard, or sent nothing."""
        self.sock = sock
        self.header = HeaderReader()
        self.slot: int | None = None  # the wheel's
        self._wheel = wheel
        self._on_end = on_end
        self._deadline = 0.0  # 0: nobody waits yet

    def hear(self) -> None:
        """Read what there is; if that is not all, wait for more."""
        try:
            while not self.header.done:
                ahead = self.sock.recv(_AHEAD, socket.MSG_PEEK)
                if not ahead:
                    # A check that the port is open sends nothing, every few seconds.
                    self.end("it ended early" if self.header.begun else "")
                    return
                taken = self.header.feed(ahead)
                if self.sock.recv(taken) != ahead[:taken]:
                    raise Malformed("The PROXY header came with urgent data")
        except (BlockingIOError, InterruptedError):
            self._wait()
        except (Malformed, OSError) as error:
            self.end(str(error))
        else:
            self.end()

    def end(self, problem: str = "") -> None:
        """Wait no more."""
        if self._deadline:
            self._wheel.loop.remove_reader(self.sock.fileno())
            self._wheel.forget(self)
        self._on_end(self, problem)

    def on_tick(self, now: float) -> float:
        """For the wheel: the time is over."""
        if now < self._deadline:
            return self._deadline
        self.end(f"none in {HEADER:g} s")
        return math.inf

    def _wait(self) -> None:
        if not self._deadline:
            self._deadline = self._wheel.time() + HEADER
            self._wheel.wake(self, self._deadline)
            self._wheel.loop.add_reader(self.sock.fileno(), self.hear)


def peer_of(sock: socket.socket, address: object, listener: str) -> Peer:
    """The facts of an accepted socket; `address` is what accept gave. Raises OSError."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return Peer(None, 0, None, 0, listener)
    assert isinstance(address, tuple)
    local = sock.getsockname()
    return Peer(_ip(address[0]), address[1], _ip(local[0]), local[1], listener)


def _ip(text: str) -> IPv4Address | IPv6Address:
    return plain(ip_address(text.partition("%")[0]))


def _among(ip: IPv4Address | IPv6Address | None, networks: Networks) -> bool:
    return ip is not None and any(ip in network for network in networks)
