"""The sender policy at the door: lines, points and the Approved List, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.admin.explain import Now, story
from postroom.domain.mailboxes import flags, folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats import headers
from postroom.store.sql import Tx
from postroom.testing.dns import Fault, What
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, at_listener, message
from tests.mailflow.test_authentication import ANN, BOB, checking
from tests.mailflow.test_dmarc import ME, REJECT, policy, signed, told, written_by

SCORE = b"x-postroom-sender-score"


async def rules(mx: Mx, *lines: str) -> None:
    await mx.set("sender.rules", lines)


def fields(content: bytes, name: bytes) -> list[bytes]:
    return headers.scan(content).all(name)


def kept_flags(tx: Tx, account: int, role: str = "inbox") -> tuple[str, ...]:
    box = folders.by_role(tx, account, role)
    assert box is not None
    (row,) = reading.brief(tx, box.id, Pick(1, 1 << 31))
    return flags.registry(tx, account).flags(row.flags)


# --- refused --------------------------------------------------------------------------------------


async def test_a_refusal_says_why_by_which_line_and_under_which_trace(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all")
        await rules(mx, "spf=pass accept", 'spf=fail dkim!=pass refuse "We know that domain"')
        done = await client.deliver(ANN, [BOB], message())
        assert done.end is not None
        record = await mx.refusal(done.end)
        assert not await mx.content(world.bob)
        assert (await client.ask("NOOP")).code == 250
    assert (done.end.code, str(done.end.status)) == (550, "5.7.1")
    expected = f"We know that domain, by rule sender.rules line 2 ({record['id']})"
    assert " ".join(done.end.lines) == expected
    verdict = record["verdicts"][-1]
    assert (verdict["rule"], verdict["setting"]) == ("sender_refused", "sender.rules")
    assert verdict["why"] == ('line 2 holds: spf=fail dkim!=pass refuse "We know that domain"')
    assert record["facts"]["sender_policy"]["line"] == 2
    assert any("was refused by the rule sender_refused" in each for each in story(record, Now()))


@pytest.mark.parametrize("chunked", (False, True))
async def test_close_refuses_and_ends_the_session_at_the_end_of_the_content(
    mx: Mx, chunked: bool
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all")
        await rules(mx, "spf=fail close")
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        content = message()
        if chunked:
            await client.send(b"BDAT %d LAST\r\n" % len(content) + content + b"NOOP\r\n")
        else:
            await client.ask("DATA", 354)
            await client.send(content + b".\r\nNOOP\r\nMAIL FROM:<>\r\n")
        heard = await client.rest()
    assert [reply.code for reply in heard] == [554]
    assert "by rule sender.rules line 1" in heard[0].text


async def test_a_close_at_rcpt_ends_the_session_too(mx: Mx) -> None:
    await mx.set("smtp.max_refused", 2)
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        for n in range(2):
            await client.ask(f"RCPT TO:<nobody{n}@{DOMAIN}>", 550)
        await client.send(f"RCPT TO:<nobody@{DOMAIN}>\r\nNOOP\r\n".encode())
        heard = await client.rest()
    assert [reply.code for reply in heard] == [421]


async def test_what_is_put_off_may_come_again_unless_it_is_refused_for_good(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        await rules(mx, "dmarc=fail|none defer")
        done = await client.deliver(ANN, [BOB], written_by("x@other.example"))
        assert done.end is not None and (done.end.code, str(done.end.status)) == (451, "4.7.1")
        assert "please try again, by rule sender.rules line 1" in done.end.text
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and done.end.code == 550
        assert "DMARC" in done.end.text


async def test_at_a_listener_lines_may_be_others(mx: Mx) -> None:
    async with checking(mx), mx.connect() as client:
        await rules(mx, "spf=none refuse")
        assert not (await client.deliver(ANN, [BOB], message())).accepted
        await mx.set("sender.rules", ("spf=none accept",), at_listener())
        assert (await client.deliver(ANN, [BOB], message())).accepted


async def test_who_signed_in_and_programs_of_this_machine_are_not_judged(doors: Doors) -> None:
    async with checking(doors.mx):
        await rules(doors.mx, "spf!=pass refuse", "spf=unknown refuse")
        async with doors.signed_in() as client:
            assert (await client.deliver(f"ann@{DOMAIN}", [BOB], _of_ann())).accepted
        async with doors.local() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted


def _of_ann() -> bytes:
    return message().replace(b"<ann@elsewhere.example>", f"<ann@{DOMAIN}>".encode())


async def test_by_default_nothing_is_judged(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        record = await world.record()
        assert not fields(await world.stored(), SCORE)
    assert "sender_policy" not in record["facts"]
    assert record["verdicts"] == []


# --- what nobody knows --------------------------------------------------------------------------


async def test_a_check_that_is_late_is_neither_good_nor_bad(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("smtp.accept_deadline", 1)
        world.zones.fault("s1._domainkey.elsewhere.example", None, Fault(What.SLOW, seconds=30))
        content, _ = signed(message(), "elsewhere.example")
        await rules(mx, "dkim!=pass|temperror refuse", "dkim=temperror tag Doubtful")
        assert (await client.deliver(ANN, [BOB], content)).accepted
        assert "Doubtful" in await mx.house.mail.read(kept_flags, world.bob)


async def test_a_check_that_was_not_made_is_unknown(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.check", False)
        await mx.set("dmarc.verify", False)
        await rules(mx, "spf!=pass refuse", "author!=example.org refuse", "dmarc=unknown junk")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert await mx.count(world.bob, "junk") == 1


# --- filed and marked -----------------------------------------------------------------------------


async def test_tags_points_and_junk(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ~all")
        await rules(
            mx,
            "spf=softfail score 3",
            "dkim=pass score -2",
            "dkim=none score 2",
            'spf!=pass tag "X-Doubt: SPF does not pass"',
            "dkim!=pass tag Unsigned",
        )
        await mx.set("sender.junk_score", 5)
        forged = b"X-Postroom-Sender-Score: -90\r\nx-DOUBT :\r\n none\r\nX-Mine: X-Doubt: no\r\n"
        assert (await client.deliver(ANN, [BOB], message(fields=forged))).accepted
        content = await world.stored("junk")
        record = await world.record()
        assert "Unsigned" in await mx.house.mail.read(kept_flags, world.bob, "junk")
    assert fields(content, SCORE) == [b"5 (lines 1, 3)"]
    assert fields(content, b"x-doubt") == [b"SPF does not pass"]
    assert fields(content, b"x-mine") == [b"X-Doubt: no"]
    assert record["amended"] == ["removed a mark that only this server may set"] * 2
    assert [(each["rule"], each["action"]) for each in record["verdicts"]] == [
        ("sender_marked", "mark"),
        ("sender_filed", "junk"),
    ]
    assert record["verdicts"][1]["setting"] == "sender.junk_score"
    assert record["verdicts"][1]["why"] == (
        "5 points: line 1: spf=softfail score 3; line 3: dkim=none score 2"
    )


async def test_a_mark_that_no_longer_fits_keeps_no_message_out(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.house.mail.write(_fill_keywords, world.bob)
        await rules(mx, "spf=none tag New", "spf=none tag k1")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        assert await mx.house.mail.read(kept_flags, world.bob) == ("k1",)


def _fill_keywords(tx: Tx, account: int) -> None:
    flags.bits_for(tx, account, [f"k{n}" for n in range(flags.KEYWORD_BITS - flags.FIRST_KEYWORD)])


# --- beside DMARC -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "where", "disposition"),
    (
        (("spf=none junk",), "", ""),
        (("dmarc=fail junk",), "", ""),
        (("wish=reject junk",), "junk", "quarantine"),
        (("wish=reject spf=none accept",), "inbox", "none"),
        (("spf=none accept",), "inbox", "none"),
        (("dkim=pass accept", "wish=reject score 3"), "", ""),
        (("wish=reject tag Phish",), "", ""),
        (("wish=quarantine junk",), "", ""),
        (("spf=none accept", "wish=reject close"), "inbox", "none"),
    ),
)
async def test_a_line_softens_a_wish_only_if_it_names_it_or_accepts(
    mx: Mx, lines: tuple[str, ...], where: str, disposition: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, "v=DMARC1; p=reject; rua=mailto:d@elsewhere.example")
        await rules(mx, *lines)
        done = await client.deliver(ME, [BOB], message())
        assert done.accepted is bool(where)
        ((seen, _),) = await told(mx)
        if not where:
            assert (seen.disposition, seen.override) == ("reject", "")
            assert done.end is not None and "DMARC" in done.end.text
            return
        content = await world.stored(where)
        record = await world.record()
    assert (seen.disposition, seen.override) == (disposition, "local_policy")
    assert seen.comment == f"sender.rules line 1 ({lines[0]}) says so"
    assert b"dmarc=fail (p=reject dis=%b)" % disposition.encode() in b" ".join(content.split())
    assert {each["setting"] for each in record["verdicts"]} == {"sender.rules"}


async def test_what_a_line_refuses_is_told_to_dmarc_as_its_wish(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, "v=DMARC1; p=reject; rua=mailto:d@elsewhere.example")
        await rules(mx, "wish=reject refuse")
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and "sender.rules line 1" in done.end.text
        ((seen, _),) = await told(mx)
    assert (seen.disposition, seen.override) == ("reject", "")


async def test_an_accept_is_above_spf_and_an_uncertain_policy(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set("spf.on_fail", "refuse")
        await mx.set("dmarc.on_temperror", "defer")
        world.policy("v=spf1 -all")
        world.zones.fault("_dmarc.elsewhere.example", None, Fault(What.SERVFAIL))
        assert not (await client.deliver(ANN, [BOB], message())).accepted
        await rules(mx, "sender=elsewhere.example accept")
        assert (await client.deliver(ANN, [BOB], message())).accepted


async def test_nothing_accepts_a_message_of_which_it_is_unclear_who_wrote_it(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 ip4:127.0.0.1 -all", "evil.example")
        await rules(mx, "spf=pass accept")
        await mx.set("sender.approved", ("spf:evil.example",))
        done = await client.deliver(ME, [BOB], written_by("a@evil.example", "b@bank.example"))
        assert done.end is not None and "not certain who wrote" in done.end.text


# --- the Approved List --------------------------------------------------------------------------


def verdict(record: dict[str, Any]) -> dict[str, Any]:
    (found,) = record["verdicts"]
    assert isinstance(found, dict)
    return found


async def test_an_approved_path_is_above_a_reject_and_above_the_lines(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, "v=DMARC1; p=reject; rua=mailto:d@elsewhere.example")
        await mx.set("sender.approved", ("SPF:Evil.example",))
        await rules(mx, "spf=pass refuse")
        world.policy("v=spf1 -all", "evil.example")
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and done.end.code == 550, "SPF did not pass"
        world.zones.text("sub.evil.example", "v=spf1 ip4:127.0.0.1 -all")
        assert (await client.deliver("x@sub.evil.example", [BOB], message())).accepted
        record = await world.record()
        content = await world.stored()
        seen = [each for each, _ in await told(mx) if each.override]
    assert verdict(record) | {"status": "", "reply": ""} == {
        "rule": "sender_accepted",
        "action": "accept",
        "status": "",
        "reply": "",
        "why": "spf:evil.example is on the Approved List",
        "setting": "sender.approved",
        "set at": "server",
    }
    assert b"dmarc=fail (p=reject dis=none)" in b" ".join(content.split())
    assert [(each.override, each.comment) for each in seen] == [
        ("local_policy", "sender.approved (spf:evil.example) says so")
    ]
    assert any("is on the Approved List" in each for each in story(record, Now()))


@pytest.mark.parametrize("change", ("", "body", "key", "list"))
async def test_an_approved_signature_counts_only_if_it_holds(mx: Mx, change: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        listed = "dkim:other.example" if change == "list" else "dkim:@lists.example"
        await mx.set("sender.approved", (listed,))
        content, key = signed(message(), "lists.example")
        if change == "body":
            content = content.replace(b"Good morning", b"Pay at once")
        if change != "key":
            world.policy(key, "s1._domainkey.lists.example")
        done = await client.deliver(ME, [BOB], content)
        assert done.accepted is (change == "")
