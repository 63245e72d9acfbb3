"""A small internet and a resolver that has little patience with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeAlias

import pytest

from postroom.net.dns import Limits, Resolver, parse_server
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Zones

QUICK = Limits(tries=(0.3, 0.3), deadline=3.0)

MakeResolver: TypeAlias = Callable[..., Resolver]


@pytest.fixture
def zones() -> Zones:
    made = Zones()
    made.zone("a.example", secure=True, minimum=60)
    made.add("a.example", "MX", "20 mx2.a.example")
    made.add("a.example", "MX", "10 mx1.a.example")
    made.host("mx1.a.example", "192.0.2.1", "2001:db8::1")
    made.host("mx2.a.example", "192.0.2.2")
    made.zone("b.example")
    made.add("b.example", "MX", "10 mx1.b.example")
    made.host("mx1.b.example", "198.51.100.1")
    return made


@pytest.fixture
async def server(zones: Zones) -> AsyncIterator[DnsServer]:
    async with DnsServer(zones) as serving:
        yield serving


@pytest.fixture
async def make_resolver(server: DnsServer, clock: ManualClock) -> AsyncIterator[MakeResolver]:
    """Makes resolvers that ask `server`; keywords are Limits, `servers` and `trusted`."""
    made: list[Resolver] = []

    def make(
        *, servers: tuple[str, ...] | None = None, trusted: bool = True, **limits: Any
    ) -> Resolver:
        at = servers if servers is not None else (str(server),)
        resolver = Resolver(
            clock,
            servers=[parse_server(text) for text in at],
            trusted=trusted,
            limits=replace(QUICK, **limits),
        )
        made.append(resolver)
        return resolver

    yield make
    for resolver in made:
        await resolver.close()


@pytest.fixture
def resolver(make_resolver: MakeResolver) -> Resolver:
    return make_resolver()
