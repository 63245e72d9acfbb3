"""A line session over a Connection, a listening door for it, and blocking clients."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from postroom.core.errors import ConnectionLost, MailError
from postroom.net.accept import Acceptor, Admit, Strangers
from postroom.net.connection import LIMITS, Connection, Limits, Peer
from postroom.net.proxy import Networks
from postroom.net.wheel import TimerWheel

TICK = 0.02

Scenario = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Runs an async function on a loop of its own."""


class LineSession:
    """Echoes lines; knows QUIT, STARTTLS, BULK (4 MiB without a pause), HOLD (pauses)."""

    def __init__(self, peer: Peer, starttls: ssl.SSLContext | None = None) -> None:
        self.peer = peer
        self.lines: list[bytes] = []
        self.events: list[str] = []
        self.buffer = b""
        self.upgrading: asyncio.Task[None] | None = None
        self.failure: MailError | None = None
        self.error: ConnectionLost | None = None
        self.starttls = starttls
        self.before_upgrade = 0.0  # seconds that the owner thinks before it upgrades
        self.gone = asyncio.Event()

    def on_connected(self, connection: Connection) -> None:
        self.connection = connection
        self.events.append("connected")
        connection.write(b"hello\r\n")

    def on_bytes(self, data: bytes) -> None:
        assert data
        self.buffer += data
        while self.upgrading is None and not self.connection.is_closing:
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                return
            self.buffer = rest
            self.command(line)

    def command(self, line: bytes) -> None:
        self.lines.append(line)
        match line:
            case b"QUIT":
                self.connection.write(b"bye\r\n")
                self.connection.close()
            case b"STARTTLS":
                self.upgrading = asyncio.get_running_loop().create_task(self.upgrade())
            case b"BULK":
                for _ in range(64):
                    self.connection.write(b"x" * 65536)
            case b"HOLD":
                self.connection.pause()
            case _:
                self.connection.write(line + b"\r\n")

    async def upgrade(self) -> None:
        assert self.starttls is not None
        await asyncio.sleep(self.before_upgrade)
        try:
            await self.connection.start_tls(
                self.starttls,
                b"go ahead\r\n",
                leftover=bool(self.buffer),
                refusal=b"refused\r\n",
            )
        except MailError as error:
            self.failure = error
            return
        self.lines.clear()
        self.buffer = b""
        self.upgrading = None
        self.connection.resume()

    def on_eof(self) -> None:
        self.events.append("eof")
        self.connection.close()

    def on_timeout(self) -> None:
        self.events.append("timeout")
        self.connection.write(b"too slow\r\n")
        self.connection.close()

    def on_shutdown(self) -> None:
        self.events.append("shutdown")
        self.connection.write(b"closing\r\n")
        self.connection.close()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self.events.append("lost")
        self.error = error
        self.gone.set()


class Door:
    """An acceptor on a free port of loopback and the sessions that it made."""

    def __init__(
        self, acceptor: Acceptor, port: int, sessions: list[LineSession], wheel: TimerWheel
    ) -> None:
        self.acceptor = acceptor
        self.port = port
        self.sessions = sessions
        self.wheel = wheel

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=5, source_address=(source, 0)
        )

    async def session(self, n: int = 0) -> LineSession:
        """The n-th session once it exists."""
        async with asyncio.timeout(5):
            while len(self.sessions) <= n:
                await asyncio.sleep(0.005)
        return self.sessions[n]


@asynccontextmanager
async def door(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    admit: Admit | None = None,
    strangers: Strangers | None = None,
    cap: int = 1000,
    limits: Limits = LIMITS,
    prepare: Callable[[LineSession], None] = lambda session: None,
    proxy_from: Networks = (),
) -> AsyncIterator[Door]:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, tick=TICK)
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    port = sock.getsockname()[1]
    sessions: list[LineSession] = []

    def make(peer: Peer) -> LineSession:
        session = LineSession(peer, starttls)
        prepare(session)
        sessions.append(session)
        return session

    acceptor = Acceptor(
        loop,
        sock,
        "line",
        make,
        wheel,
        tls=tls,
        admit=admit,
        strangers=strangers,
        cap=cap,
        busy=b"busy\r\n",
        limits=limits,
        proxy_from=proxy_from,
    )
    acceptor.start()
    try:
        yield Door(acceptor, port, sessions, wheel)
    finally:
        acceptor.close()
        for connection in tuple(acceptor.connections):
            connection.abort()
        await asyncio.sleep(0)
        wheel.close()


def read_line(sock: socket.socket) -> bytes:
    """One line without its end; what came before the end of the stream if that comes first."""
    line = b""
    while not line.endswith(b"\r\n"):
        byte = sock.recv(1)
        if not byte:
            return line
        line += byte
    return line[:-2]


def trusting_client(
    alpn: list[str] | None = None, *, maximum: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    if maximum is not None:
        context.maximum_version = maximum
    return context
