"""ARC at the door: what is told of a chain, and when it makes up for a failure of DMARC."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.admin.explain import Now, story
from postroom.core.secrets import Keyring
from postroom.domain import signing
from postroom.formats import headers
from postroom.formats.authres import MethodResult
from postroom.mailflow import sealing
from postroom.trust import arc
from postroom.trust.arc import ArcResult
from postroom.trust.dkim import BodyHasher
from postroom.trust.dkim.signature import key_name
from tests.mailflow.serving import DOMAIN, Mx, at_listener, message
from tests.mailflow.test_authentication import BOB, World, checking
from tests.mailflow.test_dkim import signs
from tests.mailflow.test_dmarc import ASKED, signed, told
from tests.trust import chains

LIST = "owner@list.example"
PASSED = "dmarc=pass (p=reject dis=none) header.from=elsewhere.example"
ROUTE = ("list.example", "far.example")


def world_of_lists(world: World) -> None:
    """The author's domain wants to be reported to; two that seal have their keys in DNS."""
    world.policy(ASKED, "_dmarc.elsewhere.example")
    for domain in (*ROUTE, "evil.example"):
        world.policy(chains.key_record(), f"s._domainkey.{domain}")


def listed(said: str = PASSED, domain: str = "list.example") -> bytes:
    """A message that a list changed and sealed."""
    return chains.sealed(message("[list] Hello"), domain, said)


async def arc_result(world: World) -> MethodResult:
    (found,) = [each for each in (await world.results()).results if each.method == "arc"]
    return found


# --- what is told --------------------------------------------------------------------------------


async def test_a_chain_is_told_in_header_and_trace(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("dmarc.on_reject", "accept")
        once = listed(f"{PASSED}; spf=pass smtp.mailfrom=x@y.example smtp.remote-ip=192.0.2.7")
        content = chains.sealed(
            once + b"-- footer\r\n", "far.example", "arc=pass; none=none", "pass"
        )
        assert (await client.deliver(LIST, [BOB], content)).accepted
        found, record, stored = await arc_result(world), await world.record(), await world.stored()
    assert found.result == "pass"
    told = {f"{each.kind}.{each.name}": each.value for each in found.properties}
    assert told == {"header.oldest-pass": "2", "smtp.remote-ip": "127.0.0.1"}
    assert b"arc=pass (The chain sealed by far.example holds)" in b" ".join(stored.split())
    fact = record["facts"]["arc"]
    assert (fact["result"], fact["oldest_pass"]) == ("pass", 2)
    first, second = fact["sets"]
    assert first == {
        "domain": "list.example",
        "selector": "s",
        "dmarc": "pass",
        "author": "elsewhere.example",
        "spf": "pass",
        "remote": "192.0.2.7",
    }
    assert (second["domain"], second["arc"]) == ("far.example", "pass")
    assert (
        "ARC chain of list.example, far.example: pass. The chain sealed by far.example holds."
        in story(record, Now())
    )


async def test_a_chain_that_does_not_hold_has_said_nothing(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("dmarc.on_reject", "accept")
        assert (await client.deliver(LIST, [BOB], listed() + b"more\r\n")).accepted
        found, record = await arc_result(world), await world.record()
    assert found.result == "fail"
    assert [each.name for each in found.properties] == ["remote-ip"]
    assert record["facts"]["arc"] == {
        "result": "fail",
        "why": "The newest message signature: The body has changed",
        "sets": [{"domain": "list.example", "selector": "s"}],
        "oldest_pass": None,
    }


@pytest.mark.parametrize("content", (message(), listed()), ids=("without", "unchecked"))
async def test_where_there_is_nothing_to_check_nothing_is_told(mx: Mx, content: bytes) -> None:
    async with checking(mx) as world, mx.connect() as client:
        if content != message():
            await mx.set("arc.verify", False, at_listener())
        assert (await client.deliver(LIST, [BOB], content)).accepted
        methods = [each.method for each in (await world.results()).results]
        record = await world.record()
    assert "arc" not in methods
    assert "arc" not in record["facts"]


async def test_the_chain_is_checked_where_signatures_are_not(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("dkim.verify", False)
        await mx.set("dmarc.verify", False)
        assert (await client.deliver(LIST, [BOB], listed())).accepted
        record = await world.record()
    assert record["facts"]["arc"]["result"] == "pass"
    assert "dkim" not in record["facts"]


async def test_signatures_and_chain_of_one_message_are_both_judged(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        content, key = signed(message(body=b"much \r\n" * 20_000), "elsewhere.example")
        world.policy(key, "s1._domainkey.elsewhere.example")
        content = chains.sealed(content, "list.example", PASSED)
        assert (await client.deliver(LIST, [BOB], content)).accepted
        facts = (await world.record())["facts"]
    assert facts["arc"]["result"] == "pass"
    assert [each["code"] for each in facts["dkim"]["signatures"]] == ["pass"]


# --- what is believed ----------------------------------------------------------------------------


async def test_who_is_trusted_makes_up_for_a_failure(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        content = listed(f"{PASSED}; spf=pass smtp.remote-ip=192.0.2.7")
        assert (await client.deliver(LIST, [BOB], content)).accepted
        record = await world.record()
        ((seen, _),) = await told(mx)
        stored = await world.stored()
    (verdict,) = record["verdicts"]
    assert (verdict["rule"], verdict["action"], verdict["setting"]) == (
        *("dmarc_marked", "accept", "arc.trusted"),
    )
    assert verdict["why"].endswith(
        "taken, as list.example, which is trusted, found that DMARC passed, "
        "and the chain since holds"
    )
    assert record["facts"]["dmarc"]["result"] == "fail"
    assert (seen.disposition, seen.override) == ("none", "local_policy")
    assert seen.comment == "arc=pass as[1].d=list.example as[1].s=s remote-ip[1]=192.0.2.7"
    assert b"dmarc=fail (p=reject dis=none)" in b" ".join(stored.split())


@pytest.mark.parametrize(
    ("trusted", "accepted"),
    (
        (("list.example", "far.example"), True),
        (("example",), True),
        (("far.example",), False),  # it found nothing itself
        (("list.example",), False),  # far.example may have written it anew
        ((), False),
    ),
)
async def test_all_since_have_to_be_trusted(
    mx: Mx, trusted: tuple[str, ...], accepted: bool
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", trusted)
        content = chains.sealed(listed() + b"footer\r\n", "far.example", "arc=pass", "pass")
        done = await client.deliver(LIST, [BOB], content)
        assert done.accepted is accepted
        if accepted:
            ((seen, _),) = await told(mx)
            assert seen.comment == (
                "arc=pass as[2].d=far.example as[2].s=s as[1].d=list.example as[1].s=s"
            )


async def test_the_oldest_who_is_trusted_counts(mx: Mx) -> None:
    """It is nearest to the author; what those before it claim does not matter."""
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ROUTE)
        once = chains.sealed(message(), "evil.example", PASSED)
        twice = chains.sealed(
            once, "list.example", "dmarc=fail header.from=elsewhere.example", "pass"
        )
        content = chains.sealed(twice, "far.example", PASSED, "pass")
        assert not (await client.deliver(LIST, [BOB], content)).accepted


@pytest.mark.parametrize(
    "said",
    (
        "dmarc=fail header.from=elsewhere.example",
        "dmarc=none header.from=elsewhere.example",
        "spf=pass smtp.mailfrom=elsewhere.example",
        "dmarc=pass header.from=evil.example",  # of another author
        "dmarc=pass",  # nobody knows of whom
        "none",
        "what is this",
    ),
)
async def test_attack_04_what_a_trusted_one_did_not_find_is_refused(mx: Mx, said: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        done = await client.deliver(LIST, [BOB], listed(said))
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
    assert record["facts"]["arc"]["result"] == "pass"
    assert record["verdicts"][-1]["rule"] == "dmarc_refused"


@pytest.mark.parametrize(
    ("old", "new"),
    (
        (b"dmarc=fail", b"dmarc=pass"),  # what was found
        (b"Good morning", b"Pay at once"),
        (b"[list] Hello", b"[list] Pay"),
        (b"b=", b"b=AAAA"),
    ),
)
async def test_attack_04_a_forged_chain_vouches_for_nobody(mx: Mx, old: bytes, new: bytes) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        said = "dmarc=fail header.from=elsewhere.example" if b"dmarc" in old else PASSED
        content = listed(said)
        assert old in content
        done = await client.deliver(LIST, [BOB], content.replace(old, new))
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
    assert record["facts"]["arc"]["result"] == "fail"


async def test_attack_04_a_chain_of_one_message_under_another_is_refused(mx: Mx) -> None:
    """A stranger cannot put the sets of a trusted sealer over a message of his own, and seal."""
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        sets = listed().removesuffix(message("[list] Hello"))
        content = chains.sealed(sets + message("Pay"), "evil.example", PASSED, "pass")
        done = await client.deliver(LIST, [BOB], content)
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
    assert record["facts"]["arc"]["result"] == "pass"
    assert record["verdicts"][-1]["rule"] == "dmarc_refused"


async def test_results_as_a_large_provider_writes_them_are_understood(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        said = "spf=pass smtp.mailfrom=elsewhere.example; dmarc=pass action=none "
        content = listed(said + "header.from=Elsewhere.example; dkim=none; arc=none")
        assert (await client.deliver(LIST, [BOB], content)).accepted


# --- what is sent on -----------------------------------------------------------------------------

FAR = "eve@far.example"
ALIAS = f"far@{DOMAIN}"


async def forwarding(mx: Mx, world: World, folder: Path, kind: str = "rsa") -> None:
    """An alias that leads elsewhere, and a key for its domain."""
    mx.house.secrets = Keyring(str(folder / "secrets.keys"))
    mx.house.secrets.make()
    await mx.alias(ALIAS, FAR)
    key = await signs(mx, kind)
    world.policy(key.record, key_name(key.domain, key.selector))


async def sent_on(mx: Mx) -> bytes:
    (waiting,) = await mx.waiting()
    return await mx.house.mail.read_much(mx.house.blobs.read, waiting.message.blob)


async def judged(mx: Mx, world: World, content: bytes) -> ArcResult:
    """What the next server finds of it."""
    found = headers.scan(content)
    chain = arc.read(found, mx.clock.now() // 1000)
    body = BodyHasher(chain.parts)
    body.feed_from(content, found.end)
    body.finish()
    checks = mx.house.checks
    assert checks is not None
    return await arc.verify(found, chain, body, checks.dkim_key)


async def test_what_an_alias_sends_on_is_sealed_with_what_was_found(mx: Mx, tmp_path: Path) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await forwarding(mx, world, tmp_path)
        content, key = signed(message(), "elsewhere.example")
        world.policy(key, "s1._domainkey.elsewhere.example")
        world.policy(ASKED, "_dmarc.elsewhere.example")
        assert (await client.deliver(LIST, [ALIAS, BOB], content)).accepted
        made, local, record = await sent_on(mx), await world.stored(), await world.record()
        found = await judged(mx, world, made)
    assert (found.code, found.sealers, found.oldest_pass) == ("pass", (DOMAIN,), 0)
    fields = headers.scan(made)
    assert [each.name for each in fields.fields[:4]] == [
        *(b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"),
        b"Authentication-Results",
    ]
    told = fields.first(b"arc-authentication-results")
    assert told == b"i=1; " + (fields.first(b"authentication-results") or b"")
    assert b"dmarc=pass (p=reject dis=none) header.from=elsewhere.example" in told
    assert b"DKIM-Signature" in (fields.first(b"arc-message-signature") or b"")
    assert b"ARC-" not in local  # what stays here needs no seal
    assert any(told.startswith(f"sealed as {DOMAIN} with ") for told in record["amended"])


@pytest.mark.parametrize(("more", "code"), ((b"", "pass"), (b"more\r\n", "fail")))
async def test_a_chain_goes_on_or_is_ended(mx: Mx, tmp_path: Path, more: bytes, code: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("dmarc.on_reject", "accept")
        await forwarding(mx, world, tmp_path)
        assert (await client.deliver(LIST, [ALIAS], listed() + more)).accepted
        made = await sent_on(mx)
        found = await judged(mx, world, made)
    assert found.code == code
    assert headers.scan(made).all(b"arc-seal")[0].count(b"cv=%b;" % code.encode()) == 1
    if code == "pass":
        assert found.sealers == ("list.example", DOMAIN)


async def test_a_chain_that_ended_is_not_sealed_again(mx: Mx, tmp_path: Path) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await forwarding(mx, world, tmp_path)
        content = chains.sealed(message(), "list.example", PASSED, "fail")
        assert (await client.deliver(LIST, [ALIAS], content)).accepted
        made, record = await sent_on(mx), await world.record()
    assert made.count(b"ARC-Seal:") == 1
    assert "not sealed, as: its chain has come to its end" in record["amended"]


@pytest.mark.parametrize("why", ("setting", "key", "unchecked", "secrets"))
async def test_what_cannot_be_sealed_is_sent_on_without(mx: Mx, tmp_path: Path, why: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await forwarding(mx, world, tmp_path, "ed25519" if why == "key" else "rsa")
        content = message()
        if why == "setting":
            await mx.set("arc.seal", False)
        if why == "secrets":
            mx.house.secrets = Keyring()
        if why == "unchecked":
            await mx.set("arc.verify", False)
            content = listed()
        assert (await client.deliver(LIST, [ALIAS], content)).accepted
        made = await sent_on(mx)
        record = await world.record()
    assert made.count(b"ARC-Seal:") == content.count(b"ARC-Seal:")
    assert made.endswith(content)
    told = [each for each in record.get("amended", ()) if each.startswith("not sealed, as: ")]
    assert bool(told) is (why in ("unchecked", "secrets"))


async def test_what_was_re_encoded_is_sealed_anew(mx: Mx, tmp_path: Path) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world_of_lists(world)
        await mx.set("arc.trusted", ("list.example",))
        await forwarding(mx, world, tmp_path)
        assert (await client.deliver(LIST, [ALIAS], listed())).accepted
        made = await sent_on(mx)
        recoded = made.replace(b"Good morning", b"Good=20morning")
        assert (await judged(mx, world, recoded)).code == "fail"
        anew = await sealing.again(mx.house, recoded)
        found = await judged(mx, world, anew)
        (key,) = await mx.house.mail.read(signing.of_domain, DOMAIN)
        await mx.house.mail.write(signing.move, key, "retired", mx.clock.now())
        without = await sealing.again(mx.house, recoded)
    assert (found.code, found.sealers) == ("pass", ("list.example", DOMAIN))
    assert found.oldest_pass == 2
    first, again = headers.scan(made), headers.scan(anew)
    name = b"arc-authentication-results"
    assert first.all(name) == again.all(name)
    assert without.count(b"ARC-Seal:") == 1
    sets = made[: made.find(b"Authentication-Results: mail")]
    for other in (message(), b"ARC-Seal: i=1\r\n", sets.replace(b"cv=pass", b"cv=what")):
        assert await sealing.again(mx.house, other) == other
