"""A house whose running server asks the DNS of a test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from postroom.core.clock import Clock
from postroom.mailflow.relay import Dialer, Finder
from postroom.net.dns import Resolver, Server
from postroom.net.egress import Egress
from postroom.net.tls import client_context
from postroom.net.wheel import TimerWheel
from postroom.testing.dns import DnsServer, Zones


@asynccontextmanager
async def dialer_of(zones: Zones, clock: Clock) -> AsyncIterator[Dialer]:
    """What a running server brings mail with; it looks names up in these zones."""
    async with DnsServer(zones) as server:
        at = Server(ip_address("127.0.0.1"), server.port)
        resolver = Resolver(clock, servers=[at])
        try:
            yield Dialer(
                Finder(resolver, Egress((), loopback=True), 25, own=lambda: ()),
                TimerWheel(asyncio.get_running_loop()),
                lambda: "mail.example.org",
                client_context(verify=False),
            )
        finally:
            await resolver.close()
