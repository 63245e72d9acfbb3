"""Listening sockets: for each address and worker one with SO_REUSEPORT, bound before the fork.

One inherited socket spreads connections very unevenly between workers. The supervisor keeps
every socket open, so that what waits in the backlog of a dead worker is served by its
successor and nobody is refused.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from typing import Final

from postroom.core.errors import Misuse
from postroom.net.unix import listen_unix

BACKLOG: Final = 4096  # the kernel lowers it to net.core.somaxconn
ANY: Final = ("0.0.0.0", "::")  # noqa: S104  a mail server serves the world
LOOPBACK: Final = ("127.0.0.1", "::1")

UNSENT: Final = 131_072  # bytes that the kernel takes from us beyond what is on its way
_TCP_NOTSENT_LOWAT: Final = 25  # linux/tcp.h; not in the socket module

# What says that this machine has no IPv6, as opposed to that the port is taken.
_NO_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class Kind(Enum):
    """How a line begins."""

    PLAIN = "plain"  # never TLS
    STARTTLS = "starttls"  # TLS on request
    TLS = "tls"  # TLS first


@dataclass(frozen=True, slots=True)
class Listener:
    """A door of the server: on a port, or at a path on this machine."""

    name: str  # "smtp", "submissions", "imaps", "control"
    port: int = 0  # before the offset; 0 with no path: any free one, the same for all workers
    kind: Kind = Kind.PLAIN
    path: str | None = None  # a unix socket instead of a port
    mode: int = 0o600  # of the unix socket


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket of one worker (a unix socket: of all workers)."""

    listener: Listener
    sock: socket.socket

    @property
    def address(self) -> tuple[str, int]:
        """Address and port; the path and 0 for a unix socket."""
        if self.listener.path is not None:
            return self.listener.path, 0
        name = self.sock.getsockname()
        return name[0], name[1]


@dataclass(frozen=True, slots=True)
class Sockets:
    """All listening sockets of the server."""

    workers: tuple[tuple[Bound, ...], ...]  # by worker
    shared: tuple[Bound, ...]  # unix sockets: accepted on by every worker

    def of(self, worker: int) -> tuple[Bound, ...]:
        """What one worker accepts on; nothing for a process that is none of them."""
        return self.workers[worker] + self.shared if worker < len(self.workers) else ()

    def __iter__(self) -> Iterator[Bound]:
        for bound in self.workers:
            yield from bound
        yield from self.shared

    def close(self) -> None:
        """Refuse from now on."""
        for bound in self:
            bound.sock.close()

    def describe(self) -> tuple[tuple[str, str, int], ...]:
        """Name, address and port of each door, once."""
        doors = {(b.listener.name, *b.address): None for b in self if b.sock.fileno() != -1}
        return tuple(doors)


def addresses_for(bind: Sequence[str], port_offset: int) -> tuple[str, ...]:
    """What --bind means: as given; else everywhere, or with a port offset only loopback."""
    if bind:
        return tuple(bind)
    return LOOPBACK if port_offset else ANY


def open_sockets(
    listeners: Sequence[Listener],
    workers: int,
    *,
    bind: Sequence[str] = (),
    port_offset: int = 0,
    owner: tuple[int, int] | None = None,
) -> Sockets:
    """Bind and listen everywhere. Raises Misuse with a sentence for a person; then all are closed.

    `owner` (user, group) gets the unix sockets when root binds for another.
    """
    addresses = addresses_for(bind, port_offset)
    by_worker: list[list[Bound]] = [[] for _ in range(workers)]
    shared: list[Bound] = []
    with ExitStack() as undo:
        for listener in listeners:
            if listener.path is not None:
                sock = _open_unix(listener, listener.path)
                undo.callback(sock.close)
                if owner is not None:
                    os.chown(listener.path, *owner)
                shared.append(Bound(listener, sock))
                continue
            port = listener.port + port_offset if listener.port else 0
            for sock, worker in _open_tcp(listener.name, addresses, port, workers, not bind):
                undo.callback(sock.close)
                by_worker[worker].append(Bound(listener, sock))
        undo.pop_all()
    return Sockets(tuple(tuple(bound) for bound in by_worker), tuple(shared))


def _open_tcp(
    name: str, addresses: Sequence[str], port: int, workers: int, may_lack_family: bool
) -> Iterator[tuple[socket.socket, int]]:
    """The sockets of one listener, with the worker that each is for."""
    opened = 0
    for address in addresses:
        try:
            if port:
                _probe(address, port)
            for worker in range(workers):
                sock = _listen(address, port, share=True)
                opened += 1
                port = sock.getsockname()[1]
                yield sock, worker
        except OSError as error:
            if may_lack_family and error.errno in _NO_FAMILY and ":" in address:
                continue
            raise Misuse(
                f"Cannot listen for {name} on {_shown(address, port)}: {_why(error)}"
            ) from error
    if not opened:
        raise Misuse(f"Cannot listen for {name}: this machine has none of {', '.join(addresses)}")


def _probe(address: str, port: int) -> None:
    """With SO_REUSEPORT a second server of the same user would silently share the port."""
    _listen(address, port, share=False).close()


def _listen(address: str, port: int, *, share: bool) -> socket.socket:
    try:
        family, _, _, _, target = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )[0]
    except socket.gaierror:
        raise Misuse(f"{address} is not an IP address") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Inherited by what is accepted: a peer that vanished is noticed some day.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # And what a peer does not take lies with us, where it is bounded: the kernel
            # would keep up to 4 MiB for each. tcp(7)
            sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
            # A reply in two writes must not wait 40 ms for the peer's delayed ACK. tcp(7)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(target)
        if share:
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(listener: Listener, path: str) -> socket.socket:
    try:
        return listen_unix(path, mode=listener.mode)
    except OSError as error:
        raise Misuse(f"Cannot listen for {listener.name} on {path}: {_why(error)}") from error


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not allowed; low ports need root, CAP_NET_BIND_SERVICE or --port-offset"
    return error.strerror or str(error)
