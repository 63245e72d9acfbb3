"""Connections that we make: to an address that somebody has chosen, or to a local socket.

No name is resolved here and nobody is asked whether the address may be reached: that is the
business of who calls.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postroom.core.errors import ConnectFailed
from postroom.net.connection import LIMITS, Connection, Handler, Limits, Peer
from postroom.net.tls import ClientTls
from postroom.net.unix import short_path
from postroom.net.wheel import TimerWheel

_IP_BIND_ADDRESS_NO_PORT: Final = 24  # linux/in.h; the socket module has no name for it
_FULL: Final = 0.02  # seconds until a full backlog is tried again


async def connect(
    ip: IPv4Address | IPv6Address,
    port: int,
    make_handler: Callable[[Peer], Handler],
    wheel: TimerWheel,
    *,
    source: IPv4Address | IPv6Address | None = None,
    timeout: float,  # noqa: ASYNC109 - part of what the error says
    limits: Limits = LIMITS,
    tls: ClientTls | None = None,
) -> Connection:
    """Connect by TCP, from the address `source` if one is named.

    With `tls` the handshake comes first (implicit TLS), and the handler is made after it; the
    result is in `connection.peer.tls`. The handler may have been given bytes when this
    returns. `timeout` is in seconds, for all of it.

    Raises ConnectFailed; with `tls` also TlsFailed, and ConnectionLost if the peer left.
    """
    where = f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
    if source is not None and source.version != ip.version:
        raise ConnectFailed(detail=f"{where} cannot be reached from {source}")
    with _failing(where, timeout):
        async with asyncio.timeout(timeout):
            sock = await _dial(wheel.loop, ip, port, source)
            with _closing_on_error(sock):
                name = sock.getsockname()
                local = type(ip)(name[0].partition("%")[0])
                peer = Peer(ip, port, local, name[1], "")
                made = Connection(peer, make_handler, wheel, tls=tls, limits=limits)
            await _adopt(wheel.loop, sock, made)
            if tls is not None:
                await made.secured()
    return made


async def connect_unix(
    path: str,
    make_handler: Callable[[Peer], Handler],
    wheel: TimerWheel,
    *,
    timeout: float,  # noqa: ASYNC109 - part of what the error says
    limits: Limits = LIMITS,
) -> Connection:
    """Connect to the local socket at `path`. `timeout` in seconds. Raises ConnectFailed."""
    with _failing(path, timeout):
        async with asyncio.timeout(timeout):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            with _closing_on_error(sock), short_path(path) as short:
                sock.setblocking(False)
                # With a full backlog it would block, and no event tells of room. unix(7)
                while (code := sock.connect_ex(short)) == errno.EAGAIN:  # noqa: ASYNC110
                    await asyncio.sleep(_FULL)
                if code:
                    raise OSError(code, os.strerror(code))
                made = Connection(Peer(None, 0, None, 0, ""), make_handler, wheel, limits=limits)
            await _adopt(wheel.loop, sock, made)
    return made


async def _dial(
    loop: asyncio.AbstractEventLoop,
    ip: IPv4Address | IPv6Address,
    port: int,
    source: IPv4Address | IPv6Address | None,
) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    with _closing_on_error(sock):
        sock.setblocking(False)
        if source is not None:
            # Without it a local port serves one destination only, and they run out.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((str(source), 0))
        await loop.sock_connect(sock, (str(ip), port))
    return sock


async def _adopt(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, connection: Connection
) -> None:
    """Give the connection its transport, to which the socket belongs from here on."""
    making = loop.create_task(loop.create_connection(lambda: connection, sock=sock))
    try:
        # Not to be cancelled halfway: whose the socket is would depend on the loop.
        await asyncio.shield(making)
    except asyncio.CancelledError:
        making.add_done_callback(partial(_unwanted, connection))
        raise


def _unwanted(connection: Connection, making: asyncio.Task[object]) -> None:
    making.exception()  # of no interest to anybody any more
    connection.abort()


@contextmanager
def _closing_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


@contextmanager
def _failing(where: str, timeout: float) -> Iterator[None]:
    """What the system says, as an error of ours."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:  # asyncio puts words of its own into the text
            reason = os.strerror(error.errno)
        else:
            reason = (
                f"no answer in {timeout:g} s" if isinstance(error, TimeoutError) else str(error)
            )
        raise ConnectFailed(detail=f"{where}: {reason}") from error
