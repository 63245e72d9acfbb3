"""The resolver over real sockets: answers, memory, sharing, bounds, its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from postroom.core import metrics
from postroom.core.errors import DnsFailed, Malformed, Misuse
from postroom.net.dns import Addresses, Kind, Limits, Mx, Resolver, Tlsa, parse_server
from postroom.testing.clock import ManualClock
from postroom.testing.dns import ANY, DnsServer, Fault, What, Zones
from tests.net.dns.conftest import MakeResolver

# --- answers --------------------------------------------------------------------------------


async def test_an_answer_is_typed_and_says_who_vouches(resolver: Resolver) -> None:
    answer = await resolver.query("A.Example.", Kind.MX)
    assert set(answer.records) == {Mx(20, "mx2.a.example"), Mx(10, "mx1.a.example")}
    assert (answer.exists, answer.secure, answer.canonical, answer.ttl) == (
        True,
        True,
        "a.example",
        300,
    )
    assert not (await resolver.query("b.example", "mx")).secure


async def test_nobody_is_trusted_unasked(make_resolver: MakeResolver) -> None:
    resolver = make_resolver(trusted=False)
    assert not (await resolver.query("a.example", Kind.MX)).secure
    assert not (await resolver.query("no.a.example", Kind.MX)).secure


async def test_denials_are_answers(resolver: Resolver) -> None:
    nothing = await resolver.query("mx1.a.example", Kind.MX)
    assert (nothing.records, nothing.exists, nothing.secure, nothing.ttl) == ((), True, True, 60)
    nobody = await resolver.query("no.a.example", Kind.MX)
    assert (nobody.records, nobody.exists, nobody.secure, nobody.ttl) == ((), False, True, 60)
    assert not (await resolver.query("no.b.example", Kind.MX)).secure


async def test_the_end_of_cnames_is_canonical(resolver: Resolver, zones: Zones) -> None:
    zones.add("www.b.example", "CNAME", "mx1.a.example", ttl=50)
    zones.add("gone.a.example", "CNAME", "no.a.example")
    answer = await resolver.query("www.b.example", Kind.A)
    assert answer.records == (IPv4Address("192.0.2.1"),)
    # One insecure step, and nobody vouches for the whole.
    assert (answer.canonical, answer.secure, answer.ttl) == ("mx1.a.example", False, 50)
    gone = await resolver.query("gone.a.example", Kind.A)
    assert (gone.exists, gone.secure, gone.canonical) == (False, True, "no.a.example")
    alias = await resolver.query("www.b.example", Kind.CNAME)
    assert (alias.records, alias.canonical) == (("mx1.a.example",), "www.b.example")


async def test_what_is_no_name_is_not_asked(resolver: Resolver, server: DnsServer) -> None:
    for name in ("", ".", "a..example", "bücher.example", "a b.example"):
        with pytest.raises(Malformed):
            await resolver.query(name, Kind.A)
    with pytest.raises(Misuse):
        await resolver.query("a.example", "AXFR")
    assert not server.asked


async def test_every_question_has_its_own_port_id_and_letters(
    resolver: Resolver, server: DnsServer
) -> None:
    await asyncio.gather(*(resolver.query(f"host{i}.a.example", Kind.A) for i in range(40)))
    assert len(server.asked) == 40
    assert len({asked.port for asked in server.asked}) > 30
    assert len({asked.id for asked in server.asked}) > 30
    assert sum(asked.spelling != asked.name for asked in server.asked) > 35
    for asked in server.asked:
        assert (asked.transport, asked.payload) == ("udp", 1232)
        assert asked.dnssec_ok and asked.wants_ad and not asked.checking_disabled


# --- MX, addresses and the rest ---------------------------------------------------------------


async def test_mx_is_sorted_by_preference(resolver: Resolver) -> None:
    answer = await resolver.mx("a.example")
    assert answer.hosts == (Mx(10, "mx1.a.example"), Mx(20, "mx2.a.example"))
    assert (answer.null, answer.exists, answer.secure) == (False, True, True)


async def test_mx_follows_cnames(resolver: Resolver, zones: Zones) -> None:
    zones.add("alias.b.example", "CNAME", "a.example")
    answer = await resolver.mx("alias.b.example")
    assert [mx.host for mx in answer.hosts] == ["mx1.a.example", "mx2.a.example"]
    assert (answer.canonical, answer.secure) == ("a.example", False)


async def test_a_null_mx_takes_no_mail(resolver: Resolver, zones: Zones) -> None:
    zones.add("null.example", "MX", "0 .")
    zones.add("both.example", "MX", "0 .")
    zones.add("both.example", "MX", "10 mx1.a.example")
    null = await resolver.mx("null.example")
    assert (null.hosts, null.null, null.exists) == ((), True, True)
    both = await resolver.mx("both.example")
    assert (both.hosts, both.null) == ((Mx(10, "mx1.a.example"),), False)


async def test_no_mx_is_not_a_null_mx(resolver: Resolver) -> None:
    none = await resolver.mx("mx1.a.example")
    assert (none.hosts, none.null, none.exists, none.secure) == ((), False, True, True)
    nobody = await resolver.mx("no.a.example")
    assert (nobody.hosts, nobody.null, nobody.exists) == ((), False, False)


async def test_addresses_are_of_both_families(resolver: Resolver, zones: Zones) -> None:
    found = await resolver.addresses("mx1.a.example")
    assert found.v4 == (IPv4Address("192.0.2.1"),)
    assert found.v6 == (IPv6Address("2001:db8::1"),)
    assert (found.exists, found.secure, found.failed) == (True, True, None)
    nobody = await resolver.addresses("no.a.example")
    assert (nobody.v4, nobody.v6, nobody.exists, nobody.secure) == ((), (), False, True)
    zones.add("www.b.example", "CNAME", "mx1.a.example")
    assert (await resolver.addresses("www.b.example")).canonical == "mx1.a.example"


@pytest.mark.parametrize(("failing", "v4", "v6"), [("A", 0, 1), ("AAAA", 1, 0)])
async def test_half_of_the_addresses_says_what_failed(
    resolver: Resolver, zones: Zones, failing: str, v4: int, v6: int
) -> None:
    zones.fault("mx1.a.example", failing, Fault(What.SERVFAIL))
    found = await resolver.addresses("mx1.a.example")
    assert (len(found.v4), len(found.v6)) == (v4, v6)
    assert found.failed is not None and found.failed.reason == "servfail"
    assert found.exists and found.secure


@pytest.mark.parametrize("host", ["mx2.a.example", "no.a.example", "mx1.a.example"])
async def test_a_failure_with_nothing_beside_it_is_a_failure(
    resolver: Resolver, zones: Zones, host: str
) -> None:
    """NODATA or NXDOMAIN of one family does not speak for the other, which failed."""
    zones.fault(host, "A", Fault(What.SERVFAIL))
    if host == "mx1.a.example":
        zones.fault(host, "AAAA", Fault(What.REFUSED))
    with pytest.raises(DnsFailed):
        await resolver.addresses(host)


async def test_texts_are_joined(resolver: Resolver, zones: Zones) -> None:
    zones.add("t.example", "TXT", '"v=spf1 " "ip4:192.0.2.0/24 -all"')
    zones.text("k.example", b"p=" + b"A" * 500)
    assert await resolver.texts("t.example") == (b"v=spf1 ip4:192.0.2.0/24 -all",)
    assert await resolver.texts("k.example") == (b"p=" + b"A" * 500,)
    assert await resolver.texts("a.example") == ()


async def test_addresses_have_names(resolver: Resolver) -> None:
    assert await resolver.reverse(ip_address("192.0.2.1")) == ("mx1.a.example",)
    assert await resolver.reverse(ip_address("2001:db8::1")) == ("mx1.a.example",)
    assert await resolver.reverse(ip_address("::ffff:192.0.2.2")) == ("mx2.a.example",)
    assert await resolver.reverse(ip_address("192.0.2.99")) == ()


async def test_tlsa_is_asked_at_the_port(resolver: Resolver, zones: Zones) -> None:
    digest = bytes(range(32))
    zones.add("_25._tcp.mx1.a.example", "TLSA", f"3 1 1 {digest.hex()}")
    answer = await resolver.tlsa(25, "mx1.a.example")
    assert (answer.records, answer.secure) == ((Tlsa(3, 1, 1, digest),), True)
    none = await resolver.tlsa(25, "mx2.a.example")
    assert (none.records, none.exists, none.secure) == ((), False, True)


# --- memory -----------------------------------------------------------------------------------


async def ask_times(resolver: Resolver, name: str, times: int = 2) -> None:
    for _ in range(times):
        await resolver.query(name, Kind.A)


async def test_an_answer_is_kept_for_its_ttl(
    resolver: Resolver, server: DnsServer, clock: ManualClock
) -> None:
    first = await resolver.query("mx1.a.example", Kind.A)
    assert first.expires == clock.monotonic() + 300
    clock.advance(299.999)
    assert await resolver.query("MX1.A.example.", Kind.A) is first
    assert len(server.asked) == 1
    clock.advance(0.001)
    assert (await resolver.query("mx1.a.example", Kind.A)).expires == clock.monotonic() + 300
    assert len(server.asked) == 2


async def test_the_wall_clock_does_not_age_answers(
    resolver: Resolver, server: DnsServer, clock: ManualClock
) -> None:
    await resolver.query("mx1.a.example", Kind.A)
    clock.jump(10_000)
    await resolver.query("mx1.a.example", Kind.A)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("ttl", "kept"), [(0, 0), (1, 1), (86_400, 86_400), (10**9, 86_400)])
async def test_the_ttl_has_bounds(
    resolver: Resolver, zones: Zones, server: DnsServer, clock: ManualClock, ttl: int, kept: int
) -> None:
    zones.add("t.a.example", "A", "192.0.2.9", ttl=ttl)
    answer = await resolver.query("t.a.example", Kind.A)
    assert answer.ttl == kept
    await resolver.query("t.a.example", Kind.A)
    assert len(server.asked) == (1 if kept else 2)
    clock.advance(kept)
    asked = len(server.asked)
    await resolver.query("t.a.example", Kind.A)
    assert len(server.asked) == asked + 1


async def test_a_least_ttl_can_be_set(make_resolver: MakeResolver, zones: Zones) -> None:
    zones.add("t.a.example", "A", "192.0.2.9", ttl=0)
    answer = await make_resolver(ttl_least=30).query("t.a.example", Kind.A)
    assert answer.ttl == 30


async def test_denials_are_kept_as_their_soa_says_but_not_for_long(
    resolver: Resolver, zones: Zones, server: DnsServer, clock: ManualClock
) -> None:
    zones.zone("long.example", minimum=10**6)
    for name, kept in (("no.a.example", 60), ("no.long.example", 3600)):
        assert (await resolver.query(name, Kind.A)).ttl == kept
        clock.advance(kept - 0.001)
        await resolver.query(name, Kind.A)
        assert len(server.questions(name)) == 1
        clock.advance(0.001)
        await resolver.query(name, Kind.A)
        assert len(server.questions(name)) == 2


async def test_failures_are_kept_briefly(
    resolver: Resolver, zones: Zones, server: DnsServer, clock: ManualClock
) -> None:
    zones.fault("a.example", "MX", Fault(What.SERVFAIL))
    errors = []
    for _ in range(3):
        with pytest.raises(DnsFailed) as caught:
            await resolver.query("a.example", Kind.MX)
        errors.append(caught.value)
    assert len(server.asked) == 2  # the two rounds of the first question
    assert len(set(map(id, errors))) == 3  # none drags the traceback of another
    zones.fault("a.example", "MX", None)
    clock.advance(4.999)
    with pytest.raises(DnsFailed):
        await resolver.query("a.example", Kind.MX)
    clock.advance(0.001)
    assert (await resolver.query("a.example", Kind.MX)).records


async def test_the_cache_is_bounded(make_resolver: MakeResolver, server: DnsServer) -> None:
    resolver = make_resolver(entries=2)
    for name in ("mx1.a.example", "mx2.a.example", "mx1.a.example", "mx1.b.example"):
        await resolver.query(name, Kind.A)
    assert len(server.asked) == 3
    await resolver.query("mx1.a.example", Kind.A)
    assert len(server.asked) == 3
    await resolver.query("mx2.a.example", Kind.A)
    assert len(server.asked) == 4
    small = make_resolver(cache_octets=100)
    asked = len(server.asked)
    await ask_times(small, "mx1.a.example")
    assert len(server.asked) == asked + 2


# --- sharing ----------------------------------------------------------------------------------


async def test_the_same_question_flies_once(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault("mx1.a.example", None, Fault(What.SLOW, seconds=0.1))
    answers = await asyncio.gather(
        *(resolver.query(name, Kind.A) for name in ("mx1.a.example", "MX1.a.example.") * 20)
    )
    assert len(server.asked) == 1
    assert all(answer is answers[0] for answer in answers)
    await resolver.query("mx1.a.example", Kind.AAAA)
    assert len(server.asked) == 2


async def test_who_goes_away_leaves_the_answer_to_others(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault("mx1.a.example", None, Fault(What.SLOW, seconds=0.15))
    first, second = (asyncio.create_task(resolver.query("mx1.a.example", "A")) for _ in range(2))
    await asyncio.sleep(0.05)
    first.cancel()
    assert (await second).records == (IPv4Address("192.0.2.1"),)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert len(server.asked) == 1


async def test_an_answer_that_nobody_awaits_is_kept(
    resolver: Resolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault("mx1.a.example", None, Fault(What.SLOW, seconds=0.1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await resolver.query("mx1.a.example", Kind.A)
    await asyncio.sleep(0.25)
    began = time.monotonic()
    assert (await resolver.query("mx1.a.example", Kind.A)).records
    assert time.monotonic() - began < 0.09 and len(server.asked) == 1


async def test_a_failure_is_told_to_all_who_wait(resolver: Resolver, zones: Zones) -> None:
    zones.fault("a.example", None, Fault(What.SERVFAIL))
    outcomes = await asyncio.gather(
        *(resolver.query("a.example", Kind.MX) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(outcome, DnsFailed) for outcome in outcomes)
    assert len(set(map(id, outcomes))) == 5


# --- bounds -----------------------------------------------------------------------------------


async def test_only_so_many_questions_are_in_flight(
    make_resolver: MakeResolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault(ANY, None, Fault(What.SLOW, seconds=0.1))
    resolver = make_resolver(in_flight=5)
    queries = [asyncio.create_task(resolver.query(f"host{i}.a.example", Kind.A)) for i in range(12)]
    await asyncio.sleep(0.06)
    assert len(server.asked) == 5
    await asyncio.sleep(0.1)
    assert len(server.asked) == 10
    assert not any(answer.exists for answer in await asyncio.gather(*queries))


async def test_the_wait_for_a_turn_ends_at_the_deadline(
    make_resolver: MakeResolver, zones: Zones
) -> None:
    zones.fault(ANY, None, Fault(What.SILENT))
    resolver = make_resolver(in_flight=1, tries=(5.0,), deadline=0.2)
    began = time.monotonic()
    outcomes = await asyncio.gather(
        *(resolver.query(f"host{i}.a.example", Kind.A) for i in range(4)), return_exceptions=True
    )
    assert time.monotonic() - began < 1.0
    assert [e.reason for e in outcomes if isinstance(e, DnsFailed)] == ["deadline"] * 4


async def test_too_many_questions_fail_at_once_and_are_not_remembered(
    make_resolver: MakeResolver, zones: Zones
) -> None:
    zones.fault(ANY, None, Fault(What.SLOW, seconds=0.1))
    resolver = make_resolver(in_flight=1, waiting=1)
    two = [asyncio.create_task(resolver.query(f"mx{i}.a.example", Kind.A)) for i in (1, 2)]
    await asyncio.sleep(0.02)
    with pytest.raises(DnsFailed) as caught:
        await resolver.query("mx1.b.example", Kind.A)
    assert caught.value.reason == "busy"
    await asyncio.gather(*two)
    assert (await resolver.query("mx1.b.example", Kind.A)).records


def test_limits_leave_room_for_a_question() -> None:
    limits = Limits()
    for broken in (
        partial(replace, tries=()),
        partial(replace, tries=(2.0, 0.0)),
        partial(replace, deadline=0.0),
        partial(replace, in_flight=0),
        partial(replace, waiting=-1),
    ):
        with pytest.raises(Misuse):
            broken(limits)


# --- more than one server -----------------------------------------------------------------------


async def test_the_next_server_is_asked(
    make_resolver: MakeResolver, zones: Zones, server: DnsServer
) -> None:
    lame = Zones()
    lame.fault(ANY, None, Fault(What.REFUSED))
    async with DnsServer(lame) as other:
        resolver = make_resolver(servers=(str(other), str(server)))
        assert (await resolver.mx("a.example")).hosts
        assert (len(other.asked), len(server.asked)) == (1, 1)


async def test_a_silent_server_is_asked_last_for_a_while(
    make_resolver: MakeResolver, server: DnsServer, clock: ManualClock
) -> None:
    silent = Zones()
    silent.fault(ANY, None, Fault(What.SILENT))
    async with DnsServer(silent) as other:
        resolver = make_resolver(servers=(str(other), str(server)), tries=(0.1, 0.1))
        for number in range(6):
            await resolver.query(f"host{number}.a.example", Kind.A)
        assert (len(other.asked), len(server.asked)) == (3, 6)
        clock.advance(30)
        silent.fault(ANY, None, None)
        await resolver.query("host7.a.example", Kind.A)
        await resolver.query("host8.a.example", Kind.A)
        assert (len(other.asked), len(server.asked)) == (5, 6)


async def test_ipv6_servers_are_asked(zones: Zones, clock: ManualClock) -> None:
    try:
        serving = DnsServer(zones, ip="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    async with serving:
        zones.fault("a.example", "MX", Fault(What.TRUNCATED))
        resolver = Resolver(clock, servers=[parse_server(str(serving))])
        assert (await resolver.mx("a.example")).hosts
        assert [asked.transport for asked in serving.asked] == ["udp", "tcp"]
        await resolver.close()


# --- the end ----------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way(
    make_resolver: MakeResolver, zones: Zones, server: DnsServer
) -> None:
    zones.fault("mx1.a.example", None, Fault(What.SILENT))
    zones.fault("mx2.a.example", None, Fault(What.CUT_OFF))
    resolver = make_resolver(in_flight=2, tries=(30.0,), deadline=60.0)
    waiting: list[asyncio.Task[Addresses]] = [
        asyncio.create_task(resolver.addresses(f"mx{number}.a.example")) for number in (1, 2)
    ]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(resolver.close(), 2)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, DnsFailed), outcome
    with pytest.raises(DnsFailed, match="DNS") as caught:
        await resolver.query("b.example", Kind.MX)
    assert caught.value.reason == "closed"
    assert len(asyncio.all_tasks()) == 1 + len(server._lines)
    await resolver.close()


async def test_what_is_counted(resolver: Resolver, zones: Zones) -> None:
    def count(name: str, label: str) -> int:
        return int(metrics.METRICS[name].values().get(label, 0))

    zones.fault("b.example", "MX", Fault(What.REFUSED))
    before = [count("dns.questions", source) for source in ("servers", "cache")]
    failed = count("dns.failures", "refused")
    await ask_times(resolver, "mx1.a.example", 3)
    with pytest.raises(DnsFailed):
        await resolver.mx("b.example")
    after = [count("dns.questions", source) for source in ("servers", "cache")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [2, 2]
    assert count("dns.failures", "refused") == failed + 1
