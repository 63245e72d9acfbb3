"""The hosts behind a next hop and their addresses, in the order in which they are tried."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest
import pytest_asyncio

from postroom.core.errors import MailError
from postroom.mailflow.relay.hosts import (
    ADDRESSES,
    HOSTS,
    Finder,
    Host,
    MailLoop,
    NoHost,
    NoSuchDomain,
    TakesNoMail,
    is_temporary,
)
from postroom.mailflow.routing import NextHop, Way, parse_host, parse_next_hop
from postroom.net.dns import DnsFailed, Limits, Resolver, Server
from postroom.net.egress import Egress
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Fault, What, Zones


@pytest_asyncio.fixture
async def zones() -> AsyncIterator[Zones]:
    yield Zones()


@pytest_asyncio.fixture
async def finder(zones: Zones) -> AsyncIterator[Finder]:
    async with DnsServer(zones) as dns:
        resolver = Resolver(
            ManualClock(),
            servers=[Server(ip_address("127.0.0.1"), dns.port)],
            limits=Limits(tries=(0.5,), deadline=2.0),
        )
        try:
            yield Finder(resolver, Egress(), own=lambda: ("mail.a.test",), random=random.Random(1))
        finally:
            await resolver.close()


def mx(domain: str) -> NextHop:
    return NextHop(Way.EXCHANGERS, domain)


async def test_exchangers_come_by_preference_and_not_without_end(
    zones: Zones, finder: Finder
) -> None:
    for n in range(40):
        zones.add("far.example", "MX", f"{40 - n} mx{n}.far.example")
    found = await finder.hosts(mx("far.example"))
    assert [each.name for each in found] == [
        f"mx{n}.far.example" for n in range(39, 39 - HOSTS, -1)
    ]
    assert {each.port for each in found} == {25}


async def test_what_a_domain_says_of_itself_is_told_apart(zones: Zones, finder: Finder) -> None:
    zones.add("null.example", "MX", "0 .")
    zones.add("bare.example", "TXT", '"no exchanger"')
    zones.add("loop.example", "MX", "10 MAIL.A.TEST")
    zones.fault("down.example", None, Fault(What.SERVFAIL))
    assert await finder.hosts(mx("bare.example")) == [Host("bare.example", 25)]
    wrong: dict[str, type[MailError]] = {
        "null.example": TakesNoMail,
        "nowhere.example": NoSuchDomain,
        "loop.example": MailLoop,
        "down.example": DnsFailed,
    }
    for domain, error in wrong.items():
        with pytest.raises(error) as raised:
            await finder.hosts(mx(domain))
        assert is_temporary(raised.value) == (error is DnsFailed)


async def test_a_smart_host_is_taken_at_its_word(finder: Finder) -> None:
    assert await finder.hosts(parse_host("hub.example:587")) == [Host("hub.example", 587)]
    assert await finder.hosts(parse_host("hub.example")) == [Host("hub.example", 25)]
    (found,) = await finder.hosts(parse_host("[192.0.2.7]:2525"))
    assert (found.port, found.literal) == (2525, ip_address("192.0.2.7"))
    (found,) = await finder.hosts(parse_next_hop(str(parse_host("[IPv6:2001:db8::1]:26"))))
    assert (found.port, found.literal) == (26, ip_address("2001:db8::1"))


async def test_addresses_of_both_families_take_turns_and_have_an_end(
    zones: Zones, finder: Finder
) -> None:
    zones.host("mx.far.example", *(f"192.0.2.{n}" for n in range(1, 9)), "2001:db8::1")
    found = await finder.addresses(Host("mx.far.example", 25), ipv6=True)
    assert len(found) == ADDRESSES
    assert [ip.version for ip in found[:3]] == [6, 4, 4]
    only4 = await finder.addresses(Host("mx.far.example", 25), ipv6=False)
    assert {ip.version for ip in only4} == {4}


@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "::ffff:127.0.0.1"]
)
async def test_no_record_of_a_stranger_leads_us_to_ourselves(
    zones: Zones, finder: Finder, ip: str
) -> None:
    """Attack classes 15 and 22."""
    zones.host("mx.evil.example", ip, reverse=False)
    with pytest.raises(NoHost):
        await finder.addresses(Host("mx.evil.example", 25), ipv6=True)
    zones.host("mx.half.example", ip, "192.0.2.9", reverse=False)
    found = await finder.addresses(Host("mx.half.example", 25), ipv6=True)
    assert found == [ip_address("192.0.2.9")]


async def test_a_host_without_an_address_is_no_host_and_one_unknown_now_may_be(
    zones: Zones, finder: Finder
) -> None:
    with pytest.raises(NoHost):
        await finder.addresses(Host("mx.nowhere.example", 25), ipv6=True)
    zones.host("six.example", "2001:db8::1")
    with pytest.raises(NoHost):
        await finder.addresses(Host("six.example", 25), ipv6=False)
    zones.fault("down.example", None, Fault(What.SERVFAIL))
    with pytest.raises(DnsFailed):
        await finder.addresses(Host("down.example", 25), ipv6=True)
