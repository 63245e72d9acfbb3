"""Logos at the door: who gets one, what mail programs are told, and what nobody else may tell."""

from __future__ import annotations

import pytest

from postroom.admin.explain import Now, story
from postroom.formats import headers
from postroom.formats.authres import MethodResult
from postroom.mailflow import bimi
from postroom.testing.dns import Fault, What
from postroom.testing.scaling import grows_linearly
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, message
from tests.mailflow.test_authentication import ANN, BOB, World, checking
from tests.mailflow.test_dmarc import REJECT, policy, written_by
from tests.mailflow.test_dmarc import signed as signed_by

LOGO = "https://elsewhere.example/logo.svg?a=?b"
AT = "default._bimi.elsewhere.example"
PASSES = "v=spf1 ip4:127.0.0.1 -all"
FORGED = (
    b"BIMI-Location: v=BIMI1; l=https://evil.example/x.svg\r\n"
    b"bimi-INDICATOR :\r\n PHN2Zz4=\r\n\tPHN2Zz4=\r\n"
    b"BIMI-Preference: v=BIMI1; l=https://evil.example/y.svg\r\n"
    b"BIMI-Logo-Preference: brand\r\n"
)
KEPT = b"BIMI-Selector: v=BIMI1; s=default\r\nX-BIMI-Location: mine\r\n"


async def arrange(world: World, record: str = REJECT) -> None:
    await world.mx.set("bimi.check", True)
    await policy(world, record)
    world.policy(PASSES)
    world.zones.text(AT, f"v=BIMI1; l={LOGO}; a=https://elsewhere.example/c.pem")


async def told(world: World) -> MethodResult | None:
    found = [each for each in (await world.results()).results if each.method == "bimi"]
    return found[0] if found else None


def locations(content: bytes) -> list[bytes]:
    return headers.scan(content).all(b"bimi-location")


async def test_mail_that_its_domain_stands_behind_gets_its_logo(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        content = await world.stored()
        found = await told(world)
        record = await world.record()
    assert locations(content) == [b"v=BIMI1; l=" + LOGO.encode()]
    assert content.index(b"BIMI-Location") < content.index(b"Received: ")
    assert found is not None and found.result == "pass"
    assert {f"{each.kind}.{each.name}": each.value for each in found.properties} == {
        "header.d": "elsewhere.example",
        "header.selector": "default",
        "policy.authority": "none",
    }
    assert record["facts"]["bimi"]["evidence"] == "https://elsewhere.example/c.pem"
    said = f"The logo of its author's domain: pass, as {AT} names a logo."
    assert said in story(record, Now())


async def test_by_default_nobody_asks(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world)
        await mx.set("bimi.check", None)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert not locations(await world.stored())
        assert await told(world) is None
        assert not world.dns.questions(AT)


@pytest.mark.parametrize(
    ("case", "why"),
    (
        ("fails", "DMARC did not pass (fail)"),
        ("no policy", "DMARC did not pass (none)"),
        ("two authors", "it has not exactly one author"),
        ("everybody", "the SPF record of elsewhere.example lets everybody send"),
        ("unchecked", "DMARC was not checked"),
        ("weak", "the DMARC policy of elsewhere.example says p=none"),
    ),
)
async def test_mail_that_does_not_deserve_one_gets_none_and_asks_nobody(
    mx: Mx, case: str, why: str
) -> None:
    content = message()
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world, "v=DMARC1; p=none" if case == "weak" else REJECT)
        if case == "fails":
            await mx.set("dmarc.on_reject", "accept")
            world.zones.remove("elsewhere.example")
        elif case == "no policy":
            world.zones.remove("_dmarc.elsewhere.example")
        elif case == "two authors":
            content = written_by("ann@elsewhere.example, eve@elsewhere.example")
        elif case == "everybody":
            world.zones.remove("elsewhere.example")
            world.policy("v=spf1 +all")
        elif case == "unchecked":
            await mx.set("dmarc.verify", False)
        assert (await client.deliver(ANN, [BOB], content)).accepted
        found = await told(world)
        record = await world.record()
        assert not locations(await world.stored())
        assert not world.dns.questions(AT)
    assert found is not None and found.result == "skipped"
    assert record["facts"]["bimi"]["why"] == why


@pytest.mark.parametrize(
    ("record", "code"),
    (
        ("", "none"),
        ("v=BIMI1; l=; a=", "declined"),
        ("v=BIMI1; l=http://elsewhere.example/x.svg", "fail"),
        ("v=BIMI1; l=https://elsewhere.example/x.svg\\@evil.example", "fail"),
        ("dead", "temperror"),
    ),
)
async def test_what_is_no_logo_is_told_and_adds_no_field(mx: Mx, record: str, code: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world)
        world.zones.remove(AT)
        if record == "dead":
            world.zones.fault(AT, "TXT", Fault(What.SERVFAIL))
        elif record:
            world.zones.text(AT, record)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        found = await told(world)
        assert not locations(await world.stored())
    assert found is not None and found.result == code


# --- the selector --------------------------------------------------------------------------------

SELECTOR = b"BIMI-Selector: v=BIMI1; s=brand\r\n"


@pytest.mark.parametrize(
    ("by", "selected"),
    (
        ("own server", "brand"),
        ("signed", "brand"),
        ("added later", "default"),
        ("signed twice", "default"),
    ),
)
async def test_the_selector_counts_where_it_is_the_authors(mx: Mx, by: str, selected: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world)
        world.zones.text("brand._bimi.elsewhere.example", "v=BIMI1; l=https://b.example/b.svg")
        sender, content = ANN, message(fields=SELECTOR)
        if by != "own server":
            sender = "forwarder@far.example"
            more = () if by == "added later" else ("BIMI-Selector",)
            double = message(fields=SELECTOR * 2) if by == "signed twice" else content
            content, key = signed_by(double, "elsewhere.example", more)
            world.policy(key, "s1._domainkey.elsewhere.example")
        assert (await client.deliver(sender, [BOB], content)).accepted
        found = await told(world)
    assert found is not None and found.result == "pass"
    assert {each.name: each.value for each in found.properties}["selector"] == selected


# --- what others may not tell ---------------------------------------------------------------------


@pytest.mark.parametrize("size", (10, 300_000))
@pytest.mark.parametrize("check", (True, False))
async def test_attack_03_forged_logos_are_removed_on_arrival(
    mx: Mx, size: int, check: bool
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("bimi.check", check)
        content = message(fields=FORGED + KEPT + FORGED, body=b"x" * 70 + b"\r\n" * size)
        assert (await client.deliver(ANN, [BOB], content)).accepted
        stored = await world.stored()
        record = await world.record()
    names = [each.name.lower() for each in headers.scan(stored).fields]
    assert [name for name in names if b"bimi" in name] == [b"bimi-selector", b"x-bimi-location"]
    assert b"evil.example" not in stored and b"PHN2" not in stored
    assert stored.endswith(KEPT + b"\r\n" + content.partition(b"\r\n\r\n")[2])
    assert record["amended"].count("removed a logo field that only its receiver may set") == 8


async def test_attack_03_who_signed_in_forges_no_logo_either(doors: Doors) -> None:
    content = FORGED + message().replace(b"ann@elsewhere.example", f"ann@{DOMAIN}".encode())
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", ["eve@far.example"], content)).accepted
    ((_, leaves),) = await doors.outgoing()
    assert b"BIMI" not in leaves and b"PHN2" not in leaves


async def test_attack_03_what_is_sent_on_carries_no_logo(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await arrange(world)
        await mx.alias(f"far@{DOMAIN}", "eve@far.example")
        to = [BOB, f"far@{DOMAIN}"]
        assert (await client.deliver(ANN, to, message(fields=FORGED))).accepted
        (waiting,) = await mx.waiting()
        leaves = await mx.house.mail.read_much(mx.house.blobs.read, waiting.message.blob)
        assert len(locations(await world.stored())) == 1
    assert not locations(leaves)


def test_a_field_is_found_wherever_it_lies_and_in_proportion() -> None:
    assert bimi.forged(b"Subject: BIMI-Location: x\r\n\r\n") == ()
    assert bimi.forged(b"X: y\r\n BIMI-Location: x\r\n") == ()
    assert bimi.forged(b"BIMI-Location: x") == ((0, 16),)
    assert bimi.forged(b"A: b\nBIMI-LOCATION\t: x\n y\nC: d\n") == ((5, 26),)
    small, large = (b"BIMI-Location: x\r\n bimi-\r\n" * n for n in (2_000, 20_000))
    assert grows_linearly(bimi.forged, small, large, 10)
