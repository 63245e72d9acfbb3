"""Everything a DNS server or a forger can do wrong: temporary failure, or the true answer."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import dns.message
import dns.rrset
import pytest

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Resolver, Server
from postroom.net.dns.transport import OVER_TCP, STRAYS
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Fault, What, Zones
from tests.net.dns.conftest import MakeResolver

LOOPBACK = IPv4Address("127.0.0.1")
NAME = "mx1.a.example"
TRUE = (IPv4Address("192.0.2.1"),)


async def failure(resolver: Resolver, kind: Kind = Kind.A) -> DnsFailed:
    with pytest.raises(DnsFailed) as caught:
        await resolver.query(NAME, kind)
    error = caught.value
    assert (str(error.status), error.status.permanent) == ("4.4.3", False)
    assert NAME not in str(error) and NAME in error.detail  # little to the peer, all to the log
    return error


@pytest.mark.parametrize(
    ("what", "reason", "asked"),
    [
        (What.SERVFAIL, "servfail", 2),
        (What.REFUSED, "refused", 2),
        (What.FORMERR, "formerr", 2),
        (What.LAME, "lame", 2),
        (What.SILENT, "timeout", 2),
        (What.WRONG_ID, "timeout", 2),
        (What.WRONG_QUESTION, "timeout", 2),
        (What.GARBAGE, "malformed", 2),
        (What.CUT_OFF, "cut-off", 4),
        (What.LOOP, "cname-chain", 1),
        (What.BOGUS, "bogus", 1),
    ],
)
async def test_a_fault_is_a_temporary_failure(
    resolver: Resolver, zones: Zones, server: DnsServer, what: What, reason: str, asked: int
) -> None:
    zones.fault(NAME, "A", Fault(what))
    assert (await failure(resolver)).reason == reason
    assert len(server.asked) == asked


@pytest.mark.parametrize("what", [What.WRONG_ID, What.WRONG_QUESTION, What.GARBAGE])
async def test_a_forgery_does_not_end_the_wait_for_the_truth(
    resolver: Resolver, zones: Zones, server: DnsServer, what: What
) -> None:
    strays = STRAYS.values().get("", 0)
    zones.fault(NAME, "A", Fault(what, right_after=0.05))
    assert (await resolver.query(NAME, Kind.A)).records == TRUE
    assert len(server.asked) == 1
    assert STRAYS.values()[""] == strays + 1


@contextmanager
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock


async def received(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """The next datagram and who sent it."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(sock, there.set)
    await there.wait()
    loop.remove_reader(sock)
    octets, peer = sock.recvfrom(4096)
    return octets, peer


def reply(octets: bytes, ip: str) -> bytes:
    """The right form, with this address."""
    message = dns.message.make_response(dns.message.from_wire(octets))
    message.answer.append(dns.rrset.from_text(NAME + ".", 300, "IN", "A", ip))
    return message.to_wire()


async def test_a_flood_of_forgeries_does_not_end_the_wait(clock: ManualClock) -> None:
    """Wrong ids from the server's own address, more than one batch; then the truth."""
    with datagrams() as sock:
        resolver = Resolver(clock, servers=[Server(LOOPBACK, sock.getsockname()[1])])
        query = asyncio.create_task(resolver.query(NAME, Kind.A))
        octets, peer = await received(sock)
        forged, true = reply(octets, "203.0.113.66"), reply(octets, "192.0.2.1")
        for number in range(1, 101):
            other = (int.from_bytes(forged[:2]) ^ number).to_bytes(2)
            sock.sendto(other + forged[2:], peer)
            sock.sendto(forged[: number % 12], peer)
        await asyncio.sleep(0.05)
        assert not query.done()
        sock.sendto(true, peer)
        assert (await query).records == TRUE
        await resolver.close()


async def test_only_the_server_itself_is_heard(clock: ManualClock) -> None:
    """A stranger's datagram, right in every octet, from another port: the kernel drops it."""
    with datagrams() as sock, datagrams() as stranger:
        resolver = Resolver(clock, servers=[Server(LOOPBACK, sock.getsockname()[1])])
        query = asyncio.create_task(resolver.query(NAME, Kind.A))
        octets, peer = await received(sock)
        stranger.sendto(reply(octets, "203.0.113.66"), peer)
        await asyncio.sleep(0.05)
        assert not query.done()
        sock.sendto(reply(octets, "192.0.2.1"), peer)
        assert (await query).records == TRUE
        await resolver.close()


@pytest.mark.parametrize(
    "what", [What.SERVFAIL, What.REFUSED, What.SILENT, What.GARBAGE, What.WRONG_ID, What.LAME]
)
async def test_the_second_try_may_succeed(
    resolver: Resolver, zones: Zones, server: DnsServer, what: What
) -> None:
    zones.fault(NAME, "A", Fault(what, times=1))
    assert (await resolver.query(NAME, Kind.A)).records == TRUE
    assert len(server.asked) == 2


async def test_a_slow_answer_within_the_try_is_taken(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault(NAME, "A", Fault(What.SLOW, seconds=0.1))
    assert (await resolver.query(NAME, Kind.A)).records == TRUE
    assert len(server.asked) == 1


async def test_a_truncated_answer_is_asked_for_over_tcp(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    before = OVER_TCP.values().get("", 0)
    zones.fault(NAME, "A", Fault(What.TRUNCATED))
    assert (await resolver.query(NAME, Kind.A)).records == TRUE
    assert [asked.transport for asked in server.asked] == ["udp", "tcp"]
    assert OVER_TCP.values()[""] == before + 1


async def test_what_does_not_fit_a_datagram_comes_over_tcp(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.text("large.a.example", b"x" * 4000)
    answer = await resolver.query("large.a.example", Kind.TXT)
    assert (answer.records, answer.secure) == ((b"x" * 4000,), True)
    assert [asked.transport for asked in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("kind", "number"),
    [(Kind.TXT, 800), (Kind.A, 257)],  # too many octets, too many records
)
async def test_huge_answers_are_refused(
    resolver: Resolver, zones: Zones, server: DnsServer, kind: Kind, number: int
) -> None:
    zones.fault(NAME, kind, Fault(What.HUGE, number=number))
    assert (await failure(resolver, kind)).reason == "too-large"
    assert len(server.asked) == 2  # UDP and TCP, and no second round


async def test_an_answer_may_be_as_large_as_the_limits(
    make_resolver: MakeResolver, zones: Zones
) -> None:
    zones.fault(NAME, "A", Fault(What.HUGE, number=256))
    assert len((await make_resolver().query(NAME, Kind.A)).records) == 256
    assert (await failure(make_resolver(records=255))).reason == "too-large"
    assert (await failure(make_resolver(octets=4000))).reason == "too-large"


async def test_forged_records_beside_the_answer_are_ignored(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.host("victim.example", "192.0.2.77")
    forged = (("victim.example", "A", "203.0.113.66"), ("a.example", "A", "203.0.113.67"))
    zones.fault(NAME, "A", Fault(What.FORGED, records=forged))
    assert (await resolver.query(NAME, Kind.A)).records == TRUE
    victim = await resolver.query("victim.example", Kind.A)
    assert victim.records == (IPv4Address("192.0.2.77"),)
    assert len(server.questions("victim.example")) == 1


async def test_a_server_that_folds_case_is_believed_over_tcp(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault("mail-exchange-one.a.example", None, Fault(What.WRONG_CASE))
    zones.host("mail-exchange-one.a.example", "192.0.2.5")
    answer = await resolver.query("mail-exchange-one.a.example", Kind.A)
    assert answer.records == (IPv4Address("192.0.2.5"),)
    assert [asked.transport for asked in server.asked] == ["udp", "tcp"]


async def test_bogus_is_never_taken_for_unsigned(
    make_resolver: MakeResolver, zones: Zones, server: DnsServer
) -> None:
    """Neither by asking with CD, nor by asking another server."""
    zones.fault(NAME, None, Fault(What.BOGUS))
    async with DnsServer(Zones()) as other:
        other.zones.host(NAME, "203.0.113.66")
        resolver = make_resolver(servers=(str(server), str(other)))
        assert (await failure(resolver)).reason == "bogus"
        assert not other.asked
        assert not any(asked.checking_disabled for asked in server.asked)


async def test_half_a_chain_is_asked_to_its_end(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.add("www.a.example", "CNAME", "web.a.example", ttl=40)
    zones.add("web.a.example", "CNAME", NAME, ttl=50)
    zones.fault("www.a.example", None, Fault(What.HALF_CHAIN))
    answer = await resolver.query("www.a.example", Kind.A)
    assert (answer.records, answer.canonical, answer.ttl) == (TRUE, NAME, 40)
    assert answer.secure
    assert [asked.name for asked in server.asked] == ["www.a.example", "web.a.example"]


async def test_half_chains_in_a_circle_end(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.add("x.a.example", "CNAME", "y.a.example")
    zones.add("y.a.example", "CNAME", "x.a.example")
    zones.fault("x.a.example", None, Fault(What.HALF_CHAIN))
    zones.fault("y.a.example", None, Fault(What.HALF_CHAIN))
    with pytest.raises(DnsFailed) as caught:
        await resolver.query("x.a.example", Kind.A)
    assert caught.value.reason == "cname-chain"
    assert len(server.asked) == 9


@pytest.mark.parametrize(("length", "fails"), [(8, False), (9, True)])
async def test_chains_have_a_length(
    resolver: Resolver, zones: Zones, length: int, fails: bool
) -> None:
    for number in range(length):
        zones.add(f"n{number}.a.example", "CNAME", f"n{number + 1}.a.example")
    zones.host(f"n{length}.a.example", "192.0.2.8", reverse=False)
    if fails:
        with pytest.raises(DnsFailed):
            await resolver.query("n0.a.example", Kind.A)
    else:
        answer = await resolver.query("n0.a.example", Kind.A)
        assert answer.records == (IPv4Address("192.0.2.8"),)


async def test_a_closed_port_fails_at_once(make_resolver: MakeResolver) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    resolver = make_resolver(servers=(f"127.0.0.1:{port}",), tries=(5.0, 5.0), deadline=20.0)
    began = time.monotonic()
    assert (await failure(resolver)).reason == "unreachable"
    assert time.monotonic() - began < 1.0


async def test_no_answer_costs_no_more_than_the_deadline(
    make_resolver: MakeResolver, zones: Zones
) -> None:
    zones.fault(NAME, None, Fault(What.SILENT))
    resolver = make_resolver(tries=(0.2, 5.0), deadline=0.4)
    began = time.monotonic()
    assert (await failure(resolver)).reason == "deadline"
    assert 0.35 < time.monotonic() - began < 1.5


async def test_no_socket_is_left_behind(resolver: Resolver, zones: Zones) -> None:
    """Not by answers, timeouts, cut connections, or askers who leave."""
    zones.fault(NAME, "AAAA", Fault(What.SILENT))
    zones.fault(NAME, "TXT", Fault(What.CUT_OFF))

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    await resolver.query("mx2.a.example", Kind.A)
    before = open_files()
    async with asyncio.timeout(5):
        await asyncio.gather(
            *(resolver.query(NAME, kind) for kind in (Kind.A, Kind.AAAA, Kind.TXT)),
            return_exceptions=True,
        )
    await asyncio.sleep(0.05)
    assert open_files() == before
