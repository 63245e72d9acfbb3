"""A web server that says what a test wants said, a DNS that knows it, and a fetcher."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from postroom.core.clock import SystemClock
from postroom.net.certificates import self_signed
from postroom.net.dns import Limits, Resolver, parse_server
from postroom.net.egress import Egress
from postroom.net.fetch import LIMITS, Fetcher
from postroom.net.tls import server_context
from postroom.net.wheel import TimerWheel
from postroom.testing.dns import DnsServer, Zones

HOST = "web.example"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

Answering = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Web:
    """What is served, what was asked, and how it is fetched."""

    zones: Zones
    dns: DnsServer
    resolver: Resolver
    wheel: TimerWheel
    ca_file: str | None
    port: int = 0
    plain_port: int = 0
    answer: bytes = OK
    """What every request gets, before the connection is closed."""
    answering: Answering | None = None
    """In place of `answer`."""
    requests: list[bytes] = field(default_factory=list)
    """Head and body of each."""
    connections: int = 0

    def fetcher(self, egress: Egress | None = None, **limits: Any) -> Fetcher:
        """It trusts the server's certificate, and goes to 127.0.0.1 alone."""
        return Fetcher(
            self.resolver,
            egress or Egress(allow=(ip_network("127.0.0.1/32"),)),
            self.wheel,
            https_port=self.port,
            ca_file=self.ca_file,
            limits=replace(LIMITS, **limits),
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = await reader.readuntil(b"\r\n\r\n")
            size = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.partition(b":")[2])
            self.requests.append(head + await reader.readexactly(size))
            if self.answering is not None:
                await self.answering(head, writer)
            else:
                writer.write(self.answer)
                await writer.drain()
        with suppress(ConnectionError, ssl.SSLError):
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def web(folder: Path) -> AsyncIterator[Web]:
    """The server listens on 127.0.0.1 and 127.0.0.2, with TLS and without."""
    chain, key = self_signed([HOST], SystemClock().now())
    (folder / "ca.pem").write_bytes(chain)
    (folder / "both.pem").write_bytes(chain + key)
    context = server_context(str(folder / "both.pem"))
    zones = Zones()
    zones.zone("example")
    zones.host(HOST, "127.0.0.1")
    async with AsyncExitStack() as stack:
        dns = await stack.enter_async_context(DnsServer(zones))
        resolver = Resolver(
            SystemClock(), servers=[parse_server(str(dns))], limits=Limits(tries=(0.5,), deadline=2)
        )
        stack.push_async_callback(resolver.close)
        wheel = TimerWheel(asyncio.get_running_loop(), tick=0.02)
        made = Web(zones, dns, resolver, wheel, str(folder / "ca.pem"))
        secure = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
        made.port = secure.sockets[0].getsockname()[1]
        other = await asyncio.start_server(made.serve, "127.0.0.2", made.port, ssl=context)
        plain = await asyncio.start_server(made.serve, "127.0.0.1", 0)
        made.plain_port = plain.sockets[0].getsockname()[1]
        for server in (secure, other, plain):
            stack.callback(server.close)
        yield made
