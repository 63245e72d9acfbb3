"""DMARC at the door: what is refused, filed, marked and taken, and what is told of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from postroom.admin.explain import Now, story
from postroom.domain import feedback
from postroom.domain.feedback import Seen
from postroom.domain.mailboxes import flags, folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats import headers
from postroom.mailflow.rules.authentication import PHISHING
from postroom.store.sql import Tx
from postroom.testing.dns import Fault, What
from postroom.trust.dkim.sign import hash_body, load, make_key, record, sign
from tests.mailflow.doors import Doors
from tests.mailflow.serving import Mx, at_listener, message
from tests.mailflow.test_authentication import ANN, BOB, World, checking

REJECT = "v=DMARC1; p=reject"
ME = "ann@evil.example"


def written_by(*authors: str) -> bytes:
    """A message with a From field for each of these values."""
    content = message()
    head, _, rest = content.partition(b"From: Ann <ann@elsewhere.example>\r\n")
    assert not head, "the message names its author in another way"
    fields = b"".join(b"From: %b\r\n" % author.encode() for author in authors)
    return head + fields + rest


async def policy(world: World, record: str, domain: str = "elsewhere.example") -> None:
    world.policy(record, f"_dmarc.{domain}")


def dmarc(record: dict[str, Any]) -> dict[str, Any]:
    found = record["facts"]["dmarc"]
    assert isinstance(found, dict)
    return found


# --- dispositions ------------------------------------------------------------------------------


async def test_attack_04_what_its_authors_domain_disowns_is_refused(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        world.policy("v=spf1 ip4:127.0.0.1 -all", "evil.example")
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
        assert not await mx.content(world.bob)
    text = " ".join(done.end.lines)
    assert str(done.end.status) == "5.7.1"
    assert "Rejected per DMARC policy of elsewhere.example: neither SPF nor DKIM" in text
    assert record["verdicts"][-1]["rule"] == "dmarc_refused"
    assert record["verdicts"][-1]["setting"] == "dmarc.on_reject"
    assert record["verdicts"][-1]["why"] == (
        "neither SPF nor DKIM vouches for elsewhere.example; elsewhere.example publishes p=reject"
    )
    assert dmarc(record)["result"] == "fail"


@pytest.mark.parametrize(
    ("record", "settings", "where", "told"),
    (
        ("p=none", {}, "inbox", "p=none dis=none"),
        ("p=quarantine", {}, "junk", "p=quarantine dis=quarantine"),
        ("p=quarantine", {"on_quarantine": "refuse"}, "", ""),
        ("p=quarantine", {"on_quarantine": "accept"}, "inbox", "p=quarantine dis=none"),
        ("p=quarantine; t=y", {}, "inbox", "p=quarantine dis=none"),
        ("p=reject", {}, "", ""),
        ("p=reject", {"on_reject": "junk"}, "junk", "p=reject dis=quarantine"),
        ("p=reject", {"on_reject": "tag"}, "inbox", "p=reject dis=quarantine"),
        ("p=reject", {"on_reject": "accept"}, "inbox", "p=reject dis=none"),
        ("p=reject; t=y", {}, "junk", "p=reject dis=quarantine"),
        ("p=reject", {"exempt": ("127.0.0.0/8",)}, "inbox", "p=reject dis=none"),
        ("p=reject", {"exempt": ("example",)}, "inbox", "p=reject dis=none"),
        ("p=reject", {"exempt": ("Ann@Elsewhere.example",)}, "inbox", "p=reject dis=none"),
        ("p=reject", {"exempt": ("bob@elsewhere.example", "x.example")}, "", ""),
        ("p=what", {}, "inbox", "the DMARC record of elsewhere.example asks for nothing"),
    ),
)
async def test_each_wish_is_heeded_as_the_settings_say(
    mx: Mx, record: str, settings: dict[str, Any], where: str, told: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        for name, value in settings.items():
            await mx.set(f"dmarc.{name}", value, at_listener())
        await policy(world, f"v=DMARC1; {record}")
        done = await client.deliver(ANN, [BOB], message())
        assert done.accepted is bool(where)
        if not where:
            return
        content = await world.stored(where)
        kept = await world.record()
        code = "none" if "what" in record else "fail"
        flat = b" ".join(content.split()).decode()
        assert f"dmarc={code} ({told}) header.from=elsewhere.example" in flat
    assert kept["delivered"][0]["mailbox"] == where
    assert f"DMARC of its author: {code}, as {dmarc(kept)['why']}." in story(kept, Now())


async def test_an_exemption_is_told_with_the_decision(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.exempt", ("elsewhere.example",))
        await policy(world, REJECT)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        (verdict,) = (await world.record())["verdicts"]
    assert (verdict["rule"], verdict["action"]) == ("dmarc_marked", "accept")
    assert verdict["why"].endswith("taken, as elsewhere.example is exempt")
    assert verdict["setting"] == "dmarc.exempt"


async def test_one_exempt_author_does_not_let_another_one_through(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.exempt", ("friend.example",))
        await policy(world, REJECT)
        both = written_by("f@friend.example, ann@elsewhere.example")
        done = await client.deliver(ME, [BOB], both)
        assert done.end is not None and done.end.code == 550


def _flags(tx: Tx, account: int, role: str = "inbox") -> tuple[str, ...]:
    box = folders.by_role(tx, account, role)
    assert box is not None
    (row,) = reading.brief(tx, box.id, Pick(1, 1 << 31))
    return flags.registry(tx, account).flags(row.flags)


# --- who vouches ---------------------------------------------------------------------------------


async def test_an_aligned_spf_pass_is_a_pass(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        world.policy("v=spf1 ip4:127.0.0.1 -all", "bounces.elsewhere.example")
        sender = "b+1@bounces.elsewhere.example"
        assert (await client.deliver(sender, [BOB], message())).accepted
        content = await world.stored()
        record = await world.record()
    flat = b" ".join(content.split())
    assert b"dmarc=pass (p=reject dis=none) header.from=elsewhere.example" in flat
    assert dmarc(record)["why"] == (
        "SPF of bounces.elsewhere.example vouches for elsewhere.example"
    )
    assert record["verdicts"] == []


async def test_a_notice_is_vouched_for_by_the_name_of_its_server(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect("EHLO mx.elsewhere.example") as client:
        await policy(world, REJECT)
        world.policy("v=spf1 ip4:127.0.0.1 -all", "mx.elsewhere.example")
        assert (await client.deliver("", [BOB], message())).accepted


async def test_what_was_not_checked_may_have_vouched(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        await mx.set("spf.check", False)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        # Of another domain SPF could not vouch.
        assert not (await client.deliver(ME, [BOB], message())).accepted
        record = await world.record()
    assert dmarc(record)["result"] == "permerror"
    assert dmarc(record)["why"] == (
        "SPF of elsewhere.example may vouch for elsewhere.example, but was not checked"
    )


def signed(content: bytes, domain: str, more: tuple[str, ...] = ()) -> tuple[bytes, str]:
    """The message under a signature of this domain, and what DNS is to say of its key."""
    octets = make_key("ed25519")
    found = headers.scan(content)
    key = load(domain, "s1", "ed25519", octets)
    field = sign(found, hash_body([content[found.end :]]), [key], more, 1_767_225_600)
    return field + content, record("ed25519", octets)


async def test_an_aligned_signature_is_a_pass_whoever_brings_it(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        content, key = signed(message(), "elsewhere.example")
        world.policy(key, "s1._domainkey.elsewhere.example")
        assert (await client.deliver("forwarder@far.example", [BOB], content)).accepted
        found = dmarc(await world.record())
    assert (found["result"], found["dkim"], found["spf"]) == ("pass", True, False)
    assert found["why"] == "DKIM of elsewhere.example vouches for elsewhere.example"


@pytest.mark.parametrize("change", ("signer", "body", "From", "testing"))
async def test_attack_05_a_signature_that_does_not_hold_here_vouches_for_nobody(
    mx: Mx, change: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        signer = "evil.example" if change == "signer" else "elsewhere.example"
        content, key = signed(message(), signer)
        world.policy(key + "; t=y" * (change == "testing"), f"s1._domainkey.{signer}")
        if change == "body":
            content = content.replace(b"Good morning", b"Pay at once")
        if change == "From":
            await mx.set("dmarc.on_unclear_author", "accept")
            content = b"From: <boss@elsewhere.example>\r\n" + content
        done = await client.deliver(ME, [BOB], content)
        assert done.end is not None and done.end.code == 550
        refused = await mx.refusal(done.end)
    assert refused["verdicts"][-1]["rule"] == "dmarc_refused"
    code = refused["facts"]["dkim"]["signatures"][0]["code"]
    assert code == ("pass" if change in ("signer", "testing") else "fail")


# --- who wrote it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authors",
    (
        ("ann@evil.example", "boss@elsewhere.example"),
        ("boss@elsewhere.example", "ann@evil.example"),
        ("ann@evil.example", "ann@evil.example"),
        ("ann@-evil-.example",),
    ),
)
async def test_attack_04_an_unclear_author_is_refused(mx: Mx, authors: tuple[str, ...]) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ip4:127.0.0.1 -all", "evil.example")
        done = await client.deliver(ME, [BOB], written_by(*authors))
        assert done.end is not None and done.end.code == 550
        record = await mx.refusal(done.end)
    assert record["verdicts"][-1]["rule"] == "unclear_author"
    assert "It is not certain who wrote this message" in " ".join(done.end.lines)
    assert dmarc(record)["result"] == "permerror"


async def test_attack_04_where_that_is_allowed_the_strictest_policy_still_counts(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.on_unclear_author", "accept")
        await policy(world, REJECT)
        world.policy("v=spf1 ip4:127.0.0.1 -all", "evil.example")
        await policy(world, "v=DMARC1; p=none", "evil.example")
        two = written_by("ann@evil.example", "boss@elsewhere.example")
        assert not (await client.deliver(ME, [BOB], two)).accepted
        one = written_by("ann@evil.example, boss@elsewhere.example")
        assert not (await client.deliver(ME, [BOB], one)).accepted
        group = written_by("staff: ann@evil.example, boss@elsewhere.example;")
        assert not (await client.deliver(ME, [BOB], group)).accepted
        alone = written_by("ann@evil.example", "ann@evil.example")
        assert (await client.deliver(ME, [BOB], alone)).accepted
        assert b"dmarc=permerror" in await world.stored()


async def test_an_unclear_author_may_go_to_junk(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.on_unclear_author", "junk")
        two = written_by("ann@evil.example", "bob@evil.example")
        assert (await client.deliver(ME, [BOB], two)).accepted
        assert await mx.count(world.bob, "junk") == 1


async def test_who_names_nobody_is_taken(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        assert (await client.deliver(ME, [BOB], written_by("root"))).accepted
        assert b"dmarc=none" in await world.stored()


# --- DNS that does not answer ---------------------------------------------------------------------


async def test_attack_25_a_policy_that_cannot_be_told_is_a_temperror(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        world.zones.fault("_dmarc.elsewhere.example", None, Fault(What.SERVFAIL))
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert b"dmarc=temperror" in await world.stored()
        await mx.set("dmarc.on_temperror", "defer")
        done = await client.deliver(ANN, [BOB], message())
    assert done.end is not None and (done.end.code, str(done.end.status)) == (451, "4.7.0")


async def test_attack_25_dead_servers_of_the_sender_do_not_hide_a_policy(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("smtp.accept_deadline", 2)
        await policy(world, REJECT)
        for name in ("evil.example", "_dmarc.evil.example"):
            world.zones.fault(name, None, Fault(What.SLOW, seconds=30))
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and done.end.code == 550
        refused = await mx.refusal(done.end)
    assert "unknown" not in refused["facts"]
    assert dmarc(refused)["result"] == "fail"


# --- who is not checked --------------------------------------------------------------------------


async def test_it_may_be_switched_off(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.verify", False)
        await policy(world, REJECT)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert b"dmarc=" not in await world.stored()
        assert not any("_dmarc" in str(each) for each in world.dns.asked)


async def test_who_signed_in_is_not_checked(doors: Doors) -> None:
    async with checking(doors.mx) as world:
        await policy(world, REJECT)
        async with doors.local() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted
        assert not world.dns.asked


async def test_the_policy_of_the_sender_is_known_before_the_content_ends(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, "v=DMARC1; p=none")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        asked = len(world.dns.asked)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert len(world.dns.asked) == asked


async def test_a_tag_is_a_keyword_on_the_message(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.on_reject", "tag")
        await policy(world, REJECT)
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert PHISHING in await mx.house.mail.read(_flags, world.bob)


async def test_what_goes_to_junk_for_another_reason_is_marked_as_well(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.on_reject", "tag")
        await mx.set("spf.on_fail", "junk")
        await policy(world, REJECT)
        world.policy("v=spf1 -all", "evil.example")
        assert (await client.deliver(ME, [BOB], message())).accepted
        (record,) = await mx.traces()
        assert [each["rule"] for each in record["verdicts"]] == ["spf_fail", "dmarc_marked"]
        assert PHISHING in await mx.house.mail.read(_flags, world.bob, "junk")


# --- what reports will tell -----------------------------------------------------------------------

ASKED = "v=DMARC1; p=reject; rua=mailto:d@elsewhere.example"


async def told(mx: Mx, domain: str = "elsewhere.example") -> list[tuple[Seen, int]]:
    """What the store holds of today, once what was noted is written."""
    mx.intake.feedback.flush()
    today = feedback.day_of(mx.clock.now())
    found: list[tuple[Seen, int]] = []
    for _ in range(500):
        found = await mx.house.state.read(feedback.tallies, domain, today, 100)
        if found:
            break
        await asyncio.sleep(0.01)
    return found


async def test_messages_that_are_alike_are_counted_together(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        for _ in range(3):
            assert not (await client.deliver(ME, [BOB], message())).accepted
        ((seen, messages),) = await told(mx)
        assert not (await client.deliver(ME, [BOB], message())).accepted
        mx.intake.feedback.flush()
        for _ in range(500):
            if (await told(mx))[0][1] != 3:
                break
            await asyncio.sleep(0.01)
        assert [count for _, count in await told(mx)] == [4]
    assert messages == 3
    assert seen == Seen(
        "elsewhere.example",
        ASKED,
        "127.0.0.1",
        "elsewhere.example",
        "evil.example",
        "reject",
        "fail",
        "fail",
        spf_result="none",
    )


async def test_a_report_names_what_was_done_against_the_domains_wish(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("dmarc.on_reject", "junk")
        await policy(world, ASKED)
        assert (await client.deliver("", [BOB], message())).accepted
        ((seen, _),) = await told(mx)
    assert (seen.disposition, seen.override) == ("quarantine", "local_policy")
    assert seen.comment == "dmarc.on_reject is junk"
    assert (seen.envelope_from, seen.spf_scope) == ("client.example", "helo")


async def test_a_pass_under_an_enforced_policy_is_told_as_such(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        world.policy("v=spf1 ip4:127.0.0.1 -all")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        ((seen, _),) = await told(mx)
    assert (seen.disposition, seen.dkim, seen.spf, seen.spf_result) == (
        *("pass", "fail", "pass", "pass"),
    )


async def test_who_asks_for_no_reports_is_not_counted(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        await policy(world, ASKED, "other.example")
        assert not (await client.deliver(ME, [BOB], message())).accepted
        assert not (await client.deliver(ME, [BOB], written_by("x@other.example"))).accepted
        assert len(await told(mx, "other.example")) == 1  # so the first was written too, if at all
        today = feedback.day_of(mx.clock.now())
        names = await mx.house.state.read(feedback.domains, today, "", 10)
    assert names == ["other.example"]


async def test_attack_25_what_a_worker_counts_in_a_day_is_bounded(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.mailflow.feedback.A_DAY", 2)
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        for n in range(5):
            await client.deliver(f"x@evil{n}.example", [BOB], message())
            await client.deliver("x@evil0.example", [BOB], message())
        found = {seen.envelope_from: count for seen, count in await told(mx)}
        assert found == {"evil0.example": 6, "evil1.example": 1}
        # The next day begins anew.
        mx.clock.advance(24 * 3600)
        await client.deliver("x@evil4.example", [BOB], message())
        assert [seen.envelope_from for seen, _ in await told(mx)] == ["evil4.example"]


async def test_what_is_old_is_forgotten(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        await client.deliver(ME, [BOB], message())
        assert await told(mx)
        today = feedback.day_of(mx.clock.now())
        assert await mx.house.state.write(feedback.forget, today) == 0
        assert await mx.house.state.write(feedback.forget, today + 1) == 1
        assert not await mx.house.state.read(feedback.domains, today, "", 10)
