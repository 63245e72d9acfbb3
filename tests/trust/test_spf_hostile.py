"""SPF against DNS servers that lie, stall and flood; over real sockets. Attack class 25."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from postroom.core.clock import SystemClock
from postroom.formats.address import parse_mailbox
from postroom.net.dns import Limits, Resolver, Server
from postroom.testing.dns import DnsServer, Fault, What, Zones
from postroom.trust.lookups import Lookups
from postroom.trust.spf import Client, Result, SpfResult, check_mail_from

LIMITS = Limits(tries=(0.1, 0.1), deadline=1.0)
IP = ip_address("192.0.2.1")


@dataclass
class World:
    zones: Zones
    server: DnsServer
    lookups: Lookups

    async def check(self, sender: str = "ann@a.example", seconds: float = 5.0) -> SpfResult:
        client = Client(IP, "mail.b.example")
        return await check_mail_from(self.lookups, client, parse_mailbox(sender), seconds)


@asynccontextmanager
async def world(trusted: bool = False) -> AsyncIterator[World]:
    zones = Zones()
    async with DnsServer(zones) as server:
        clock = SystemClock()
        servers = [Server(ip_address(server.ip), server.port)]
        resolver = Resolver(clock, servers=servers, trusted=trusted, limits=LIMITS)
        lookups = Lookups(resolver, clock)
        try:
            yield World(zones, server, lookups)
        finally:
            await lookups.close()
            await resolver.close()


@pytest.mark.parametrize(
    "what",
    [
        *(What.SERVFAIL, What.REFUSED, What.FORMERR, What.SILENT, What.WRONG_ID, What.LAME),
        *(What.WRONG_QUESTION, What.GARBAGE, What.LOOP, What.BOGUS, What.CUT_OFF),
    ],
)
@pytest.mark.parametrize("where", ["a.example", "spf.b.example"])
async def test_a_lie_is_a_temperror_and_never_a_pass(what: What, where: str) -> None:
    async with world(trusted=True) as w:
        w.zones.zone("a.example", secure=True)
        w.zones.text("a.example", "v=spf1 include:spf.b.example ?all")
        w.zones.text("spf.b.example", "v=spf1 ip4:192.0.2.1 -all")
        assert (await w.check()).result is Result.PASS
    async with world(trusted=True) as w:
        w.zones.text("a.example", "v=spf1 include:spf.b.example ?all")
        w.zones.text("spf.b.example", "v=spf1 ip4:192.0.2.1 -all")
        w.zones.fault(where, "TXT", Fault(what))
        begun = time.monotonic()
        found = await w.check()
        assert found.result is Result.TEMPERROR, found
        assert found.why
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("what", [What.TRUNCATED, What.WRONG_CASE, What.HALF_CHAIN, What.FORGED])
async def test_what_a_server_may_do_changes_nothing(what: What) -> None:
    async with world() as w:
        w.zones.add("a.example", "CNAME", "x.example")
        w.zones.text("x.example", "v=spf1 a:y.example -all")
        w.zones.host("y.example", "203.0.113.1")
        w.zones.fault("*", "TXT", Fault(what, records=(("y.example", "A", "192.0.2.1"),)))
        assert (await w.check()).result is Result.FAIL


async def test_a_flood_of_records_costs_little() -> None:
    async with world() as w:
        w.zones.text("a.example", "v=spf1 a:y.example mx:y.example -all")
        w.zones.fault("y.example", None, Fault(What.HUGE, number=1500))
        begun = time.process_time()
        assert (await w.check()).result is Result.TEMPERROR
        w.zones.fault("b.example", "TXT", Fault(What.HUGE, number=1500))
        assert (await w.check("ann@b.example")).result is Result.TEMPERROR
        assert time.process_time() - begun < 2


async def test_a_bomb_of_lookups_is_cut_off() -> None:
    """Each record includes ten others of a tree without end."""
    async with world() as w:
        includes = " ".join(f"include:%{{l}}{n}.%{{d}}" for n in range(10))
        w.zones.text("a.example", f"v=spf1 {includes} mx ptr a -all")
        w.zones.text("*.a.example", f"v=spf1 {includes} mx ptr a -all")
        assert (await w.check()).result is Result.PERMERROR
        assert len(w.server.asked) <= 11


async def test_a_mail_exchanger_bomb_is_cut_off() -> None:
    async with world() as w:
        w.zones.text("a.example", "v=spf1" + " mx:m.example" * 10 + " -all")
        for n in range(10):
            w.zones.add("m.example", "MX", f"{n} h{n}.m.example")
        assert (await w.check()).result is Result.FAIL
        assert len(w.server.asked) == 1 + 1 + 10  # each is asked for once, and remembered


async def test_slow_answers_end_at_the_deadline() -> None:
    async with world() as w:
        w.zones.text("a.example", "v=spf1" + "".join(f" a:h{n}.a.example" for n in range(10)))
        for n in range(10):
            w.zones.host(f"h{n}.a.example", "203.0.113.1")
        w.zones.fault("*", "A", Fault(What.SLOW, seconds=0.15))
        begun = time.monotonic()
        found = await w.check(seconds=0.5)
        assert found.result is Result.TEMPERROR
        assert time.monotonic() - begun < 0.8
