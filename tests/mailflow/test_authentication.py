"""Who vouches for mail from strangers: asked beside the session, told in header and trace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from postroom.admin.explain import Now, story
from postroom.formats import headers
from postroom.formats.authres import AuthenticationResults, parse
from postroom.mailflow import phases
from postroom.net.dns import Resolver, Server
from postroom.testing.dns import DnsServer, Fault, What, Zones
from postroom.trust.checks import Checks
from postroom.trust.lookups import Lookups
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, at_listener, message, serve
from tests.stores import open_mail

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"
HOST = f"mail.{DOMAIN}"
OURS = b"Authentication-Results: mail.example.test; spf=pass smtp.mailfrom=bank.example\r\n"
THEIRS = b"Authentication-Results: mx.elsewhere.example; spf=pass smtp.mailfrom=x.example\r\n"


@dataclass
class World:
    """A house that checks, over a DNS server of the test."""

    mx: Mx
    zones: Zones
    dns: DnsServer
    bob: int

    def policy(self, record: str, name: str = "elsewhere.example") -> None:
        self.zones.text(name, record)

    async def stored(self, role: str = "inbox") -> bytes:
        (content,) = await self.mx.content(self.bob, role)
        return content

    async def results(self) -> AuthenticationResults:
        found = headers.scan(await self.stored()).all(b"authentication-results")
        read = parse(found[0])
        assert read is not None
        return read

    async def record(self) -> dict[str, Any]:
        return await self.mx.delivered("<1@elsewhere.example>")


@asynccontextmanager
async def checking(mx: Mx) -> AsyncIterator[World]:
    zones = Zones()
    async with DnsServer(zones) as dns:
        servers = [Server(ip_address(dns.ip), dns.port)]
        resolver = Resolver(mx.clock, servers=servers)
        lookups = Lookups(resolver, mx.clock)
        mx.house.checks = Checks(lookups, mx.clock)
        yield World(mx, zones, dns, await mx.account(BOB))
        await lookups.close()
        await resolver.close()


# --- what is told --------------------------------------------------------------------------------


async def test_a_pass_stands_in_the_header_above_received_and_in_the_trace(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ip4:127.0.0.0/8 -all")
        world.policy("v=spf1 a -all", "client.example")
        world.zones.host("client.example", "127.0.0.1")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        content = await world.stored()
        record = await world.record()
    found = headers.scan(content)
    assert [field.name for field in found.fields[:4]] == [
        *(b"Return-Path", b"Authentication-Results", b"Received-SPF", b"Received"),
    ]
    assert found.first(b"authentication-results") == (
        b"mail.example.test; spf=pass (ip4:127.0.0.0/8 of elsewhere.example matched) "
        b"smtp.mailfrom=ann@elsewhere.example; spf=pass (a of client.example matched) "
        b"smtp.helo=client.example; iprev=pass (client.example) policy.iprev=127.0.0.1; "
        b"dkim=none; dmarc=none (elsewhere.example has no DMARC policy) "
        b"header.from=elsewhere.example"
    )
    told = found.first(b"received-spf")
    assert told is not None and told.startswith(b"pass (mail.example.test: elsewhere.example ")
    came = found.first(b"received")
    assert came is not None and came.startswith(b"from client.example (client.example [127.0.0.1])")
    assert record["facts"]["spf"] == {
        "result": "pass",
        "domain": "elsewhere.example",
        "mechanism": "ip4:127.0.0.0/8",
        "why": "ip4:127.0.0.0/8 of elsewhere.example matched",
        "explanation": "",
        "lookups": 0,
        "helo": "pass",
        "helo_domain": "client.example",
        "helo_why": "a of client.example matched",
    }
    assert record["facts"]["iprev"] == {"result": "pass", "host": "client.example"}
    sentences = story(record, Now())
    assert "The address of the peer is that of client.example." in sentences
    assert "SPF of its sender: pass, as ip4:127.0.0.0/8 of elsewhere.example matched." in sentences


async def test_the_null_sender_is_judged_by_its_helo_name(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all", "client.example")
        assert (await client.deliver("", [BOB], message())).accepted
        results = await world.results()
        told = headers.scan(await world.stored()).first(b"received-spf")
    first = results.results[0]
    assert (first.method, first.result) == ("spf", "fail")
    assert [(p.name, p.value) for p in first.properties] == [("helo", "client.example")]
    assert [each.method for each in results.results] == ["spf", "iprev", "dkim", "dmarc"]
    assert told is not None and b"identity=helo" in told


async def test_by_default_a_fail_is_recorded_and_refuses_nothing(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all exp=x.elsewhere.example")
        world.policy("%{i} is not ours", "x.elsewhere.example")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        results = await world.results()
        record = await world.record()
    assert results.results[0].result == "fail"
    assert record["outcome"] == "accepted"
    assert record["delivered"][0]["mailbox"] == "inbox"
    assert record["verdicts"] == []
    assert "which explains: 127.0.0.1 is not ours." in " ".join(story(record, Now()))


async def test_a_fail_goes_to_junk_where_that_is_wanted(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.on_fail", "junk", at_listener())
        world.policy("v=spf1 -all")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert b"spf=fail" in await world.stored("junk")
        assert not await mx.content(world.bob)
        (verdict,) = (await world.record())["verdicts"]
    assert (verdict["rule"], verdict["action"]) == ("spf_fail", "junk")
    assert (verdict["setting"], verdict["set at"]) == ("spf.on_fail", "listener:smtp")


async def test_a_refusal_says_whose_rule_it_is_and_where_to_ask(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.on_fail", "refuse")
        world.policy("v=spf1 ip4:192.0.2.1 -all exp=x.elsewhere.example")
        world.policy("see%_%{o}" + "x" * 300, "x.elsewhere.example")
        done = await client.deliver(ANN, [BOB], message())
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
        text = " ".join(done.end.lines)
        for result in ("v=spf1 ~all", "v=spf1 ?all", "v=spf1 bad", "v=spf1"):
            world.zones.remove("elsewhere.example")
            world.policy(result)
            mx.clock.advance(3600)  # what is remembered ends
            assert (await client.deliver(ANN, [BOB], message())).accepted
    assert str(done.end.status) == "5.7.23"
    assert "By SPF, elsewhere.example does not let 127.0.0.1 send for it" in text
    assert "elsewhere.example explains: see elsewhere.examplexxx" in text
    assert len(text) < 450
    assert record["verdicts"][-1]["why"] == "-all of elsewhere.example matched"


async def test_a_helo_fail_alone_is_only_recorded(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.on_fail", "refuse")
        world.policy("v=spf1 +all")
        world.policy("v=spf1 -all", "client.example")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert [each.result for each in (await world.results()).results[:2]] == ["pass", "fail"]


async def test_another_reason_to_refuse_comes_before_the_junk_mailbox(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.on_fail", "junk")
        world.policy("v=spf1 -all")
        done = await client.deliver(ANN, [BOB], message(body=b"a\0b\r\n"))
        assert done.end is not None and done.end.code == 554


async def test_received_spf_may_be_left_out(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.received_spf", False)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        content = await world.stored()
    assert b"\r\nAuthentication-Results: " in content
    assert b"Received-SPF" not in content


async def test_what_the_peer_chose_adds_no_field(mx: Mx) -> None:
    hello = "EHLO spf_pass.mail.example.test"
    sender = '"a\\"b; spf=pass (c\\\\"@elsewhere.example'
    async with checking(mx) as world, mx.connect(hello) as client:
        world.policy("v=spf1 exists:%{h}.x.example exists:%{l}.x.example -all")
        assert (await client.deliver(sender, [BOB], message())).accepted
        content = await world.stored()
        results = await world.results()
    assert len(headers.scan(content).all(b"authentication-results")) == 1
    assert [(each.method, each.result) for each in results.results] == [
        *(("spf", "fail"), ("iprev", "permerror"), ("dkim", "none"), ("dmarc", "none"))
    ]
    assert results.results[0].properties[0].value == sender


# --- who is not checked -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        (("127.0.0.0/8",), False),
        (("192.0.2.1", "::1", "127.0.0.1"), False),
        (("Elsewhere.example.",), False),
        (("*.example",), False),
        (("192.0.2.0/24", "else.example", "where.example", "nonsense/99", ""), True),
    ],
)
async def test_networks_and_domains_may_be_exempt(
    mx: Mx, listed: tuple[str, ...], asked: bool
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.verify", False)
        await mx.set("spf.exempt", listed)
        await mx.set("spf.on_fail", "refuse")
        world.policy("v=spf1 -all")
        assert (await client.deliver(ANN, [BOB], message())).accepted is not asked
        assert bool(world.dns.asked) is asked


async def test_checks_may_be_switched_off(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.check", False)
        await mx.set("dkim.verify", False)
        await mx.set("dmarc.verify", False)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert not world.dns.asked
        assert b"Authentication-Results" not in await world.stored()


async def test_who_signed_in_and_programs_of_this_machine_are_not_checked(doors: Doors) -> None:
    mx = doors.mx
    async with checking(mx) as world:
        world.policy("v=spf1 -all", DOMAIN)
        world.policy("v=spf1 -all")
        async with doors.signed_in() as client:
            mine = message().replace(b"ann@elsewhere.example", ME.encode())
            assert (await client.deliver(ME, [BOB], mine)).accepted
        async with doors.local() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted
        assert not world.dns.asked
        contents = await mx.content(world.bob)
    assert len(contents) == 2
    assert not any(b"Authentication-Results" in content for content in contents)


# --- time ---------------------------------------------------------------------------------------


async def test_mail_and_rcpt_do_not_wait_for_dns_and_the_end_of_data_does(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ip4:127.0.0.1 -all")
        world.zones.fault("*", None, Fault(What.SLOW, seconds=0.4))
        begun = time.monotonic()
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        assert time.monotonic() - begun < 0.2
        assert (await client.content(message())).positive
        # Sender, then HELO name; the peer's name beside them.
        assert 0.7 < time.monotonic() - begun < 1.5
        assert (await world.results()).results[0].result == "pass"


async def test_what_dns_said_while_the_peer_was_sending_costs_no_wait(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ip4:127.0.0.1 -all")
        world.zones.fault("*", None, Fault(What.SLOW, seconds=0.2))
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await asyncio.sleep(0.6)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        begun = time.monotonic()
        assert (await client.content(message())).positive
        assert time.monotonic() - begun < 0.2
        assert (await world.results()).results[0].result == "pass"


async def test_the_deadline_counts_from_mail_and_what_is_late_is_a_temperror(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("smtp.accept_deadline", 1)
        world.policy("v=spf1 -all")
        world.zones.fault("elsewhere.example", None, Fault(What.SLOW, seconds=30))
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await asyncio.sleep(0.5)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        begun = time.monotonic()
        assert (await client.content(message())).positive
        assert 0.3 < time.monotonic() - begun < 0.9
        facts = (await world.record())["facts"]
    assert facts["spf"]["result"] == "temperror"
    assert "unknown" not in facts
    assert facts["iprev"]["result"] == "permerror"


async def test_the_second_message_of_a_sender_asks_dns_nothing(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 include:b.example -all")
        world.policy("v=spf1 ip4:127.0.0.1 -all", "b.example")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        asked = len(world.dns.asked)
        await client.ask("MAIL FROM:<other@elsewhere.example>", 250)
        # Known at once: nothing is under way.
        assert not any(map(_is_probe, asyncio.all_tasks()))
        await client.ask("RSET", 250)
        assert (await client.deliver("third@elsewhere.example", [BOB], message())).accepted
        assert len(world.dns.asked) == asked
        first, second = await mx.content(world.bob)
        assert first.count(b"spf=pass") == second.count(b"spf=pass") == 1


def _is_probe(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "") == "_ask"


@pytest.mark.parametrize("end", ["RSET", "EHLO again.example", "QUIT", "reset", "refused"])
async def test_what_was_begun_ends_with_the_message_that_it_was_for(mx: Mx, end: str) -> None:
    async with checking(mx) as world:
        world.zones.fault("*", None, Fault(What.SLOW, seconds=5))
        async with mx.connect() as client:
            await client.ask(f"MAIL FROM:<{ANN}>", 250)
            assert any(map(_is_probe, asyncio.all_tasks()))
            if end == "reset":
                client.reset()
            elif end == "refused":
                await mx.set("smtp.max_size", 64 * 1024)
                await client.ask("RSET", 250)
                await client.ask(f"MAIL FROM:<{ANN}> SIZE=100000", 552)
            else:
                await client.ask(end)
            await mx.settled(lambda: not any(map(_is_probe, asyncio.all_tasks())))


async def test_without_dns_mail_is_taken_in_time_and_then_at_once(mx: Mx) -> None:
    """No server answers: the first message waits less than 5 s, and the next ones do not wait,
    whoever sends them.
    """
    async with checking(mx) as world, mx.connect() as client:
        world.zones.fault("*", None, Fault(What.SILENT))
        begun = time.monotonic()
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert time.monotonic() - begun < 4.9
        assert (await world.results()).results[0].result == "temperror"
        begun = time.monotonic()
        for number in range(50):
            sender = f"ann@{number}.elsewhere.example"
            assert (await client.deliver(sender, [BOB], message())).accepted
        assert time.monotonic() - begun < 2
        assert len(world.dns.asked) < 20


async def test_where_nobody_listens_mail_is_taken_at_once(mx: Mx) -> None:
    resolver = Resolver(mx.clock, servers=[Server(ip_address("127.0.0.1"), 9)])
    mx.house.checks = Checks(Lookups(resolver, mx.clock), mx.clock)
    await mx.account(BOB)
    async with mx.connect() as client:
        begun = time.monotonic()
        for number in range(20):
            done = await client.deliver(f"ann@{number}.example", [BOB], message())
            assert done.accepted
        assert time.monotonic() - begun < 2
    await resolver.close()


async def test_a_refused_message_asks_dns_nothing(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await client.ask(f"MAIL FROM:<eve@{DOMAIN}>", 530)
        await asyncio.sleep(0.05)
        assert not world.dns.asked


async def test_a_lasting_probe_that_breaks_is_unknown_and_breaks_nothing_else(
    tmp_path: Path,
) -> None:
    async def run(*_: object) -> tuple[()]:
        raise KeyError("a mistake of ours")

    broken = phases.Probe("broken", run, lasting=True)
    table = replace(phases.MAIL, probes=(*phases.MAIL.probes, broken))
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with serve(tmp_path, mail, state, phases=phases.Phases(mail=table)) as mx:
            await mx.account(BOB)
            async with mx.connect() as client:
                assert (await client.deliver(ANN, [BOB], message())).accepted
                record = await mx.delivered("<1@elsewhere.example>")
        assert record["facts"]["unknown"] == ["broken"]
    finally:
        await mail.close()
        await state.close()


# --- results in our name --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 400_000], ids=["in memory", "in a file"])
async def test_forged_results_are_removed_and_others_stay(mx: Mx, size: int) -> None:
    """RFC 8601 §5; attack class 3."""
    odd = b'AUTHENTICATION-RESULTS : (x) "mail.example.test" 1;\r\n\tspf=pass\r\n'
    body = b"x" * 70 + b"\r\n"
    sent = THEIRS + OURS + message(fields=odd, body=b"Hi.\r\n" + body * (size // 72))
    async with checking(mx) as world, mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], sent)).accepted
        content = await world.stored()
        record = await world.record()
    found = headers.scan(content)
    values = found.all(b"authentication-results")
    assert len(values) == 2
    assert values[0].startswith(b"mail.example.test; spf=none")
    assert values[1].startswith(b"mx.elsewhere.example;")
    assert content.endswith(THEIRS + message(body=b"Hi.\r\n" + body * (size // 72)))
    assert record["amended"] == ["removed a forged Authentication-Results"] * 2
    assert "It was amended: removed a forged Authentication-Results" in " ".join(
        story(record, Now())
    )


async def test_forged_results_are_removed_without_checks_as_well(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], OURS + THEIRS + message())).accepted
    (content,) = await mx.content(bob)
    assert OURS not in content
    assert content.endswith(THEIRS + message())


async def test_who_signed_in_forges_no_results_and_a_program_of_ours_may_give_them(
    doors: Doors,
) -> None:
    mx = doors.mx
    bob = await mx.account(BOB)
    mine = message(fields=b"Bcc: x@y.example\r\n").replace(b"ann@elsewhere.example", ME.encode())
    async with doors.signed_in() as client:
        assert (await client.deliver(ME, [BOB], OURS + mine + b"")).accepted
    async with doors.local() as client:
        assert (await client.deliver(ANN, [BOB], OURS + message())).accepted
    submitted, local = await mx.content(bob)
    assert OURS not in submitted and b"Bcc" not in submitted
    assert OURS in local
