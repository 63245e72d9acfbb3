"""Vouch By Reference at the door: who is asked, what is told, and what leaves with our own mail."""

from __future__ import annotations

from typing import Any

import authres.vbr  # type: ignore[import-untyped]  # the oracle has no types
import pytest
from authres import FeatureContext

from postroom.admin.explain import Now, story
from postroom.core.secrets import Keyring
from postroom.core.settings import Place, Scope
from postroom.domain.transit import Protocol, Visit
from postroom.formats import headers
from postroom.formats.address import parse_mailbox
from postroom.formats.authres import MethodResult
from postroom.mailflow.intake import MailFrom, Streamed
from postroom.net.connection import Peer
from postroom.net.dns import Kind
from postroom.testing.dns import Fault, What
from postroom.trust.vbr import Info, read
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, message
from tests.mailflow.test_authentication import ANN, BOB, World, checking
from tests.mailflow.test_dkim import FAR, LATER, LETTER, dns, keys, signs, zone_of
from tests.mailflow.test_dmarc import REJECT, policy
from tests.mailflow.test_dmarc import signed as signed_by
from tests.trust import signed
from tests.trust.zones import Dns

__all__ = ["dns", "keys"]

INFO = b"VBR-Info: md=elsewhere.example; mc=all; mv=good.example\r\n"
AT = "elsewhere.example._vouch.good.example"
PASSES = "v=spf1 ip4:127.0.0.1 -all"


async def vbr(world: World) -> MethodResult | None:
    found = [each for each in (await world.results()).results if each.method == "vbr"]
    return found[0] if found else None


def properties(found: MethodResult) -> dict[str, str]:
    return {f"{each.kind}.{each.name}": each.value for each in found.properties}


async def test_one_whom_we_believe_vouches_in_header_and_trace(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("vbr.certifiers", ("good.example",))
        world.policy(PASSES)
        world.zones.text(AT, "list all")
        assert (await client.deliver(ANN, [BOB], message(fields=INFO))).accepted
        found = await vbr(world)
        (field,) = headers.scan(await world.stored()).find(b"authentication-results")
        raw = field.raw(await world.stored())
        record = await world.record()
    assert found is not None and found.result == "pass"
    read = FeatureContext(authres.vbr).parse(b" ".join(raw.split()).decode())
    (other,) = [each for each in read.results if each.method == "vbr"]
    assert (other.result, other.header_md, other.header_mv) == (
        *("pass", "elsewhere.example", "good.example"),
    )
    assert properties(found) == {
        "header.md": "elsewhere.example",
        "header.mv": "good.example",
    }
    assert record["facts"]["vbr"] == {
        "result": "pass",
        "domain": "elsewhere.example",
        "certifier": "good.example",
        "kinds": ["all", "list"],
        "why": "good.example vouches for elsewhere.example",
    }
    told = "Who vouches for its sender: pass, as good.example vouches for elsewhere.example."
    assert told in story(record, Now())


async def test_a_signature_makes_a_domain_fit_to_be_vouched_for(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("vbr.certifiers", ("good.example",))
        content, key = signed_by(message(fields=INFO), "elsewhere.example")
        world.policy(key, "s1._domainkey.elsewhere.example")
        world.zones.text(AT, "all")
        assert (await client.deliver("f@far.example", [BOB], content)).accepted
        found = await vbr(world)
    assert found is not None and found.result == "pass"


@pytest.mark.parametrize("why", ("nobody believed", "nobody named", "another field"))
async def test_by_default_and_without_a_field_nobody_is_asked(mx: Mx, why: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        if why != "nobody believed":
            await mx.set("vbr.certifiers", ("good.example",))
        world.policy(PASSES)
        world.zones.text(AT, "all")
        fields = b"" if why == "nobody named" else INFO
        if why == "another field":
            fields = b"X-VBR-Info: none\r\n"
        assert (await client.deliver(ANN, [BOB], message(fields=fields))).accepted
        assert await vbr(world) is None
        assert "vbr" not in (await world.record())["facts"]
        assert not world.dns.questions(AT)


@pytest.mark.parametrize(
    ("spf", "said", "code"),
    (
        ("v=spf1 -all", "all", "none"),
        (PASSES, "transaction", "fail"),
        (PASSES, "", "fail"),
        (PASSES, "V=SPF1", "permerror"),
        (PASSES, "dead", "temperror"),
    ),
)
async def test_what_is_not_vouched_for_is_told_and_taken(
    mx: Mx, spf: str, said: str, code: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("vbr.certifiers", ("good.example",))
        world.policy(spf)
        if said == "dead":
            world.zones.fault(AT, "TXT", Fault(What.SERVFAIL))
        elif said:
            world.zones.text(AT, said)
        assert (await client.deliver(ANN, [BOB], message(fields=INFO))).accepted
        found = await vbr(world)
        questions = world.dns.questions(AT)
    assert found is not None and found.result == code
    assert bool(questions) is (code != "none")


# --- over DMARC ----------------------------------------------------------------------------------

OTHER = b"VBR-Info: md=sender.example; mc=all; mv=good.example\r\n"


async def certified(world: World) -> None:
    await policy(world, REJECT)
    world.policy(PASSES, "sender.example")
    world.zones.text("sender.example._vouch.good.example", "all")
    await world.mx.set("vbr.certifiers", ("good.example",))


async def test_certified_mail_is_taken_over_dmarc_where_that_is_wanted(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await certified(world)
        assert not (await client.deliver("x@sender.example", [BOB], message(fields=OTHER))).accepted
        await mx.set("vbr.over_dmarc", True)
        assert (await client.deliver("x@sender.example", [BOB], message(fields=OTHER))).accepted
        record = await world.record()
        content = await world.stored()
    (verdict,) = record["verdicts"]
    assert (verdict["rule"], verdict["action"]) == ("dmarc_marked", "accept")
    assert verdict["setting"] == "vbr.over_dmarc"
    assert verdict["why"].endswith("taken, as good.example vouches for sender.example")
    assert b"dmarc=fail (p=reject dis=none)" in b" ".join(content.split())


@pytest.mark.parametrize("case", ("not vouched", "not authentic", "two authors"))
async def test_attack_04_what_is_not_certified_is_refused_all_the_same(mx: Mx, case: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await certified(world)
        await mx.set("vbr.over_dmarc", True)
        content = message(fields=OTHER)
        if case == "not vouched":
            world.zones.remove("sender.example._vouch.good.example")
        elif case == "not authentic":
            world.zones.remove("sender.example")
        else:
            await mx.set("dmarc.on_unclear_author", "accept")
            content = b"From: <boss@elsewhere.example>\r\n" + content
        done = await client.deliver("x@sender.example", [BOB], content)
        assert done.end is not None and done.end.code == 550


# --- our own mail --------------------------------------------------------------------------------


def info(content: bytes) -> list[Info | None]:
    return [read(value) for value in headers.scan(content).all(b"vbr-info")]


async def test_what_leaves_names_who_vouches_for_us_and_is_signed_with_it(
    doors: Doors, dns: Dns, keys: Keyring
) -> None:
    mx = doors.mx
    key = await signs(mx, "ed25519")
    place = Place(Scope.DOMAIN, DOMAIN)
    await mx.set("vbr.info", ("Good.Example", "more.example"), place)
    await mx.set("vbr.kind", "transaction", place)
    async with doors.signed_in() as client:
        assert (await client.deliver(f"ann@{DOMAIN}", [FAR], LETTER)).accepted
    ((_, content),) = await doors.outgoing()
    assert info(content) == [Info(DOMAIN, "transaction", ("good.example", "more.example"))]
    assert b"VBR-Info" in content[: content.index(b"VBR-Info: ")]  # in h= of the signature above
    (found,) = await signed.verify(content, zone_of(key), LATER)
    assert found.code.value == "pass"
    forged = content.replace(b"mc=transaction", b"mc=all")
    (found,) = await signed.verify(forged, zone_of(key), LATER)
    assert found.code.value == "fail"


@pytest.mark.parametrize("case", ("unset", "own field", "stranger", "our own account"))
async def test_what_needs_no_such_field_gets_none(
    doors: Doors, dns: Dns, keys: Keyring, case: str
) -> None:
    mx = doors.mx
    if case != "unset":
        await mx.set("vbr.info", ("good.example",), Place(Scope.DOMAIN, DOMAIN))
    own = b"VBR-Info: md=example.test; mc=list; mv=mine.example\r\n"
    letter = own + LETTER if case == "own field" else LETTER
    if case == "stranger":
        await mx.alias(f"far@{DOMAIN}", FAR)
        async with mx.connect() as client:
            assert (await client.deliver("ann@a.example", [f"far@{DOMAIN}"], letter)).accepted
    else:
        to = f"ann@{DOMAIN}" if case == "our own account" else FAR
        async with doors.signed_in() as client:
            assert (await client.deliver(f"ann@{DOMAIN}", [to], letter)).accepted
    if case == "our own account":
        (content,) = await mx.content(doors.ann)
    else:
        ((_, content),) = await doors.outgoing()
    expected = [Info(DOMAIN, "list", ("mine.example",))] if case == "own field" else []
    assert info(content) == expected


async def composed(mx: Mx, cause: str, author: str = f"postmaster@mail.{DOMAIN}") -> bytes:
    """What leaves of a message that the server wrote."""
    letter = (
        f"From: Mail <{author}>\r\nTo: {FAR}\r\nSubject: Report\r\n"
        "Message-ID: <2@mail.example.test>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nText\r\n"
    ).encode()
    visit = Visit("s1", Peer(None, 0, None, 0, "composed"), Protocol.COMPOSED, mx.clock.now())
    transit, _ = await mx.intake.mail(visit, MailFrom(None, cause=cause))
    assert (await mx.intake.rcpt(transit, parse_mailbox(FAR))).passes
    mx.intake.spool(transit).write(letter)
    assert (await mx.intake.data(transit, Streamed(len(letter)))).verdict.passes
    (waiting,) = await mx.waiting()
    return await mx.house.mail.read_much(mx.house.blobs.read, waiting.message.blob)


async def test_a_report_that_the_server_writes_names_who_vouches_for_us(
    mx: Mx, dns: Dns, keys: Keyring
) -> None:
    """It is from the name of the host: md= is the domain that signs it, as whoever checks wants."""
    key = await signs(mx, "ed25519")
    await mx.set("vbr.info", ("good.example",), Place(Scope.DOMAIN, DOMAIN))
    content = await composed(mx, "dmarc")
    assert info(content) == [Info(DOMAIN, "all", ("good.example",))]
    (found,) = await signed.verify(content, zone_of(key), LATER)
    assert (found.code.value, found.domain) == ("pass", DOMAIN)
    forged = content.replace(b"mc=all", b"mc=list")
    assert (await signed.verify(forged, zone_of(key), LATER))[0].code.value == "fail"


@pytest.mark.parametrize("case", ("dsn", "delay", "unset", "another domain", "list", "not signed"))
async def test_what_nobody_vouches_for_gets_none_though_the_server_writes_it(
    mx: Mx, dns: Dns, keys: Keyring, case: str
) -> None:
    """What comes back is others' content, and no report is a list's mail."""
    await signs(mx, "ed25519")
    place = Place(Scope.DOMAIN, DOMAIN)
    if case != "unset":
        await mx.set("vbr.info", ("good.example",), place)
    if case == "list":
        await mx.set("vbr.kind", "list", place)
    if case == "not signed":
        await mx.set("dkim.sign_reports", False)
    author = "postmaster@far.example" if case == "another domain" else f"postmaster@{DOMAIN}"
    cause = case if case in ("dsn", "delay") else "dmarc"
    assert info(await composed(mx, cause, author)) == []


async def test_who_signed_in_is_not_looked_up(doors: Doors) -> None:
    async with checking(doors.mx) as world, doors.signed_in() as client:
        await doors.mx.set("vbr.certifiers", ("good.example",))
        letter: bytes = b"VBR-Info: md=example.test; mc=all; mv=good.example\r\n" + LETTER
        assert (await client.deliver(f"ann@{DOMAIN}", [BOB], letter)).accepted
        asked: list[Any] = world.dns.questions(f"{DOMAIN}._vouch.good.example", Kind.TXT.value)
        assert not asked
