"""A worker's door: accepts on a raw listening socket, decides who comes in, makes connections.

Everything that can be decided before a transport exists is decided on the raw socket: the
caps, the connect rules, and whatever must be read before the protocol begins.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, TypeAlias

import structlog
from structlog.typing import FilteringBoundLogger

from postroom.net.connection import LIMITS, Connection, Handler, Limits, Peer
from postroom.net.wheel import TimerWheel

BATCH: Final = 64  # connections accepted before the loop serves others
PAUSE: Final = 1.0  # seconds without accepting when the process is out of descriptors

Admit: TypeAlias = Callable[[Peer], "bool | bytes"]
"""A connect rule: True lets in, False closes, bytes are the refusal to send before closing."""

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log: FilteringBoundLogger = structlog.get_logger("postroom.net")


class Strangers:
    """Counts the connections of each address that have not signed in; shared by listeners.

    An IPv6 host owns its whole /64, so that is what counts as an address.
    """

    __slots__ = ("_count", "cap")

    def __init__(self, cap: int = 100) -> None:
        self.cap = cap
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
    ) -> None:
        """`sock` listens already. `name` is the listener's, for peers and the log.

        With `tls` the handshake comes first (implicit TLS). `busy` is what a peer is told
        that is refused because of a cap; never sent where TLS comes first.
        """
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._name = name
        self._make_handler = make_handler
        self._wheel = wheel
        self._tls = tls
        self._admit = admit
        self._strangers = strangers
        self._cap = cap
        self._busy = busy
        self._limits = limits
        self._starting: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._empty: asyncio.Future[None] | None = None
        self._closed = False
        self.connections: set[Connection] = set()

    def start(self) -> None:
        """Accept from now on."""
        self._resume = None
        if not self._closed:
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more and close the socket; connections live on."""
        if self._closed:
            return
        self._closed = True
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

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
        """Decide about one peer on its raw socket."""
        sock.setblocking(False)
        try:
            peer = peer_of(sock, address, self._name)
        except OSError:
            sock.close()  # reset before it was looked at
            return
        if len(self.connections) + len(self._starting) >= self._cap:
            self._refuse(sock, peer, self._busy, "the listener is full")
            return
        release: Callable[[], None] | None = None
        if self._strangers is not None and peer.ip is not None:
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


def peer_of(sock: socket.socket, address: object, listener: str) -> Peer:
    """The facts of an accepted socket; `address` is what accept gave. Raises OSError."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return Peer(None, 0, None, 0, listener)
    assert isinstance(address, tuple)
    local = sock.getsockname()
    return Peer(_ip(address[0]), address[1], _ip(local[0]), local[1], listener)


def _ip(text: str) -> IPv4Address | IPv6Address:
    ip = ip_address(text.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip
