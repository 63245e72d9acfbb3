"""Nobody waits for DNS servers that answer nobody; one domain's dead servers silence nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from postroom.core.clock import SystemClock
from postroom.core.errors import DnsFailed
from postroom.net.dns import Answer, Kind, Limits, Record, Resolver, Server
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Fault, What, Zones
from postroom.trust import lookups as room
from postroom.trust.lookups import Lookups
from tests.trust.zones import Dns


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.1)
    monkeypatch.setattr(room, "KNOCK", 0.1)


class Line(Dns):
    """DNS that can fall silent, for all names or for those below one."""

    def __init__(self) -> None:
        super().__init__({"a.example": [("A", "192.0.2.1")], "x.dead.example": []})
        self.silent = ""  # names that end so
        self.dead = False

    async def query(self, name: str, kind: Kind) -> Answer[Record]:
        self.asked.append((name, kind.value))
        if self.dead or (self.silent and name.endswith(self.silent)):
            await asyncio.sleep(0.5)
            raise DnsFailed(detail="timeout", reason="timeout")
        self.asked.pop()
        return await super().query(name, kind)


@asynccontextmanager
async def over(line: Line) -> AsyncIterator[tuple[Lookups, ManualClock]]:
    clock = ManualClock()
    made = Lookups(line, clock)
    try:
        yield made, clock
    finally:
        await made.close()


def silent(lookups: Lookups) -> bool:
    return lookups.silent


async def seconds(lookups: Lookups, name: str) -> float:
    begun = time.monotonic()
    with pytest.raises(DnsFailed):
        await lookups.query(name, Kind.A)
    return time.monotonic() - begun


async def test_an_answer_is_an_answer_and_a_failure_a_failure() -> None:
    line = Line()
    line.fail("b.example")
    async with over(line) as (lookups, _):
        assert (await lookups.query("a.example", Kind.A)).records
        assert not (await lookups.query("none.example", Kind.A)).exists
        assert await seconds(lookups, "b.example") < 0.05
        assert not silent(lookups)


async def test_while_nobody_answers_the_first_waits_and_no_other_does() -> None:
    line = Line()
    line.dead = True
    async with over(line) as (lookups, _):
        first = await asyncio.gather(*(seconds(lookups, f"{n}.example") for n in range(20)))
        assert all(0.15 < each < 0.4 for each in first)
        assert silent(lookups)
        assert len(line.asked) == 20 + 1  # one knock for all of them
        begun = time.monotonic()
        for n in range(200):
            await seconds(lookups, f"{n}.example")
        assert time.monotonic() - begun < 0.2


async def test_the_dead_servers_of_one_domain_silence_nobody() -> None:
    line = Line()
    line.silent = "dead.example"
    async with over(line) as (lookups, _):
        for _ in range(3):
            assert await seconds(lookups, "x.dead.example") > 0.4  # as long as the resolver waits
            assert not silent(lookups)
            assert (await lookups.query("a.example", Kind.A)).records


async def test_a_server_that_comes_back_is_heard_again() -> None:
    line = Line()
    line.dead = True
    async with over(line) as (lookups, clock):
        await seconds(lookups, "a.example")
        assert silent(lookups)
        line.dead = False
        await seconds(lookups, "a.example")  # too soon to knock again
        await asyncio.sleep(0.05)
        assert silent(lookups)
        clock.advance(room.EVERY + 0.1)
        await seconds(lookups, "a.example")  # knocks, and does not wait for it
        await asyncio.sleep(0.05)
        assert not silent(lookups)
        assert (await lookups.query("a.example", Kind.A)).records


async def test_who_is_not_there_at_all_is_no_wait_either() -> None:
    """A port that nobody listens on says so at once."""
    clock = SystemClock()
    with_nobody = Server(ip_address("127.0.0.1"), 9)
    resolver = Resolver(clock, servers=[with_nobody], limits=Limits(tries=(0.5,), deadline=1))
    lookups = Lookups(resolver, clock)
    assert await seconds(lookups, "a.example") < 0.1
    assert not silent(lookups)
    await lookups.close()
    await resolver.close()


async def test_over_sockets_a_server_that_fell_silent_is_noticed_and_found_again() -> None:
    zones = Zones()
    zones.host("a.example", "192.0.2.1")
    async with DnsServer(zones) as server:
        clock = SystemClock()
        servers = [Server(ip_address(server.ip), server.port)]
        resolver = Resolver(clock, servers=servers)
        lookups = Lookups(resolver, clock)
        zones.fault("*", None, Fault(What.SILENT))
        assert 0.15 < await seconds(lookups, "a.example") < 0.5
        assert silent(lookups)
        assert await seconds(lookups, "b.example") < 0.05
        zones.fault("*", None, None)
        lookups._knock_after = 0.0
        await seconds(lookups, "c.example")
        async with asyncio.timeout(2):
            while silent(lookups):
                await asyncio.sleep(0.01)
        assert not (await lookups.query("c.example", Kind.A)).exists
        await lookups.close()
        await resolver.close()
