"""Reports on single messages that failed DMARC: who gets one, once, and what it shows."""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64decode
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import StoreFull
from postroom.core.secrets import Keyring
from postroom.domain.feedback import failures
from postroom.domain.feedback.failures import Listed
from postroom.domain.queue import HOUR, Recipient
from postroom.formats import headers
from postroom.mailflow import failure_reports, upkeep
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.failure_reports import send_failure_reports
from postroom.mailflow.understanding import understand
from postroom.store.sql import Tx, sql
from postroom.trust import dkim as trust_dkim
from postroom.trust.checks import Checks
from postroom.trust.dkim import key as keys
from tests.mailflow.serving import DOMAIN, Mx, message
from tests.mailflow.test_authentication import ANN, BOB, World, checking
from tests.mailflow.test_dmarc import ME
from tests.mailflow.test_dmarc import policy as publish
from tests.trust import signed
from tests.trust.zones import Dns

ASKED = "v=DMARC1; p=reject; ruf=mailto:f@elsewhere.example"
MILD = "v=DMARC1; p=none; ruf=mailto:f@elsewhere.example"


async def asked(world: World, record: str = ASKED) -> None:
    """A domain that wants such reports, and a server that sends them."""
    await publish(world, record)
    await world.mx.set("dmarc.send_failure_reports", True)
    await world.mx.set("dmarc.failure_reports_every", 0)


async def waiting(mx: Mx) -> list[Recipient]:
    return [each for each in await mx.waiting() if each.message.origin == "dmarc"]


async def listed(mx: Mx, domain: str = "") -> list[Listed]:
    return await mx.house.mail.read(failures.latest, domain, 1000)


async def owed(mx: Mx) -> int:
    return len(await mx.house.mail.read(failures.due, mx.clock.now(), 1000))


async def letters(mx: Mx) -> list[bytes]:
    def look(tx: Tx, blob: int) -> bytes:
        return mx.house.blobs.read(tx, blob)

    return [await mx.house.mail.read_much(look, each.message.blob) for each in await waiting(mx)]


async def reported(mx: Mx) -> tuple[EmailMessage, bytes]:
    """The one report, once it was made; parsed by another reader, and as it is."""
    while await send_failure_reports(mx.house):
        pass
    (raw,) = await letters(mx)
    parsed = message_from_bytes(raw, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return parsed, raw


# --- what is sent ---------------------------------------------------------------------------------


async def test_what_is_refused_is_reported_to_who_asks(mx_both: Mx) -> None:
    mx = mx_both
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        world.policy("v=spf1 -all", "evil.example")
        assert not (await client.deliver(ME, [BOB], message())).accepted
        letter, raw = await reported(mx)
    (queued,) = await waiting(mx)
    assert (queued.address, queued.message.reverse_path) == ("f@elsewhere.example", None)
    assert letter.get_content_type() == "multipart/report"
    assert letter.get_param("report-type") == "feedback-report"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Precedence"] == "bulk"
    assert str(letter["From"].addresses[0].addr_spec) == f"postmaster@{DOMAIN}"
    words, machine, content = letter.iter_parts()
    assert [each.get_content_type() for each in (words, machine, content)] == [
        *("text/plain", "message/feedback-report", "text/rfc822-headers"),
    ]
    assert "neither SPF nor DKIM vouches for elsewhere.example. It was refused." in " ".join(
        words.get_content().split()
    )
    assert "Subject: Hello" in content.get_content()
    assert "Good morning" not in raw.decode()
    told = message_from_bytes(
        machine.as_bytes().partition(b"\n\n")[2].lstrip(), policy=policy.default
    )
    said = {name: " ".join(value.split()) for name, value in told.items()}
    assert said["Feedback-Type"] == "auth-failure"
    assert said["Auth-Failure"] == "dmarc"
    assert said["Identity-Alignment"] == "dkim, spf"
    assert said["Delivery-Result"] == "reject"
    assert said["Reported-Domain"] == "elsewhere.example"
    assert said["Original-Mail-From"] == ME
    assert said["SPF-DNS"] == 'txt : evil.example : "v=spf1 -all"'
    assert "dmarc=fail" in said["Authentication-Results"]
    assert "Source-IP" not in said  # 127.0.0.1 means nothing to them


async def test_our_own_reader_understands_what_we_send(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        await mx.set("dmarc.failure_reports_hide_ips", False)
        assert not (await client.deliver(ME, [BOB], message())).accepted
        _, raw = await reported(mx)
    understood = understand(raw, mx.clock.now())
    (draft,) = understood.drafts
    assert (draft.domain, draft.kind) == ("elsewhere.example", "auth-failure")
    assert draft.reporter == f"mail.{DOMAIN}"
    assert draft.record["failure"] == "dmarc"
    assert draft.record["not aligned"] == "dkim, spf"
    assert draft.record["source"] == "127.0.0.1"
    assert draft.record["sender"] == ME
    assert draft.record["delivery"] == "reject"


@pytest.mark.parametrize(
    ("record", "settings", "delivery"),
    (
        (MILD, {}, "delivered"),
        (ASKED, {"dmarc.on_reject": "junk"}, "spam"),
        (ASKED, {"dmarc.on_reject": "quarantine"}, "policy"),
    ),
)
async def test_what_is_taken_is_reported_with_what_became_of_it(
    mx: Mx, record: str, settings: dict[str, str], delivery: str
) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, record)
        for name, value in settings.items():
            await mx.set(name, value)
        assert (await client.deliver(ME, [BOB], message())).accepted
        _, raw = await reported(mx)
    assert f"Delivery-Result: {delivery}\r\n".encode() in raw


async def test_a_report_leaves_as_our_mail_does_and_is_listed(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        assert not (await client.deliver(ME, [BOB], message())).accepted
        await reported(mx)
        (letter,) = await waiting(mx)
        composed = ComposedQueue(mx.house, mx.intake, 1)
        while await composed.round():
            pass
    (outside,) = await mx.waiting()
    assert outside.message.trace == letter.message.trace
    assert outside.address == "f@elsewhere.example"
    (line,) = await listed(mx)
    assert (line.policy_domain, line.waits) == ("elsewhere.example", False)
    assert (line.told.destination, line.told.trace) == (letter.address, letter.message.trace)
    assert not await owed(mx)


# --- what it shows --------------------------------------------------------------------------------


async def test_a_whole_message_goes_only_where_that_is_set(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        await mx.set("dmarc.failure_reports_content", "whole")
        assert not (await client.deliver(ME, [BOB], message())).accepted
        letter, _ = await reported(mx)
    inner = list(letter.iter_parts())[2]
    assert inner.get_content_type() == "message/rfc822"
    assert inner.get_content().get_content().strip() == "Good morning."


async def test_of_a_long_message_the_header_alone_goes(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        await mx.set("dmarc.failure_reports_content", "whole")
        body = b"Good morning.\r\n" * (failure_reports.MOST // 15 + 1)
        assert not (await client.deliver(ME, [BOB], message(body=body))).accepted
        letter, raw = await reported(mx)
    assert list(letter.iter_parts())[2].get_content_type() == "text/rfc822-headers"
    assert len(raw) < 10_000


async def test_redacted_it_names_nobody_and_one_person_alike(mx: Mx, tmp_path: Path) -> None:
    mx.house.secrets = Keyring(str(tmp_path / "keys"))
    mx.house.secrets.make()
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        await mx.set("dmarc.failure_reports_content", "redacted")
        assert not (await client.deliver(ME, [BOB], message("You are dismissed"))).accepted
        letter, raw = await reported(mx)
    for word in (b"bob", b"ann@", b"dismissed", b"127.0.0.1"):
        assert word not in raw, word
    content = list(letter.iter_parts())[2].get_content()
    from_, to = (
        line.partition("redacted-")[2].partition("@")[0]
        for line in content.splitlines()
        if line.startswith(("From:", "To:"))
    )
    assert len(from_) == len(to) == 18 and from_ != to
    assert f"redacted-{from_}@evil.example".encode() in raw  # ann, too


@pytest.mark.parametrize(
    ("content", "shown"), (("whole", (True, True)), ("headers", (True, False)), ("redacted", ()))
)
async def test_what_a_broken_signature_is_over_goes_as_far_as_the_message_does(
    mx: Mx, content: str, shown: tuple[bool, ...]
) -> None:
    """RFC 6591 §3.2.2: what the verifier hashed; of a body that changed, the header still holds."""
    zone = signed.zone()
    zone.add("_dmarc.a.example", "TXT", "v=DMARC1; p=none; fo=1:d; ruf=mailto:f@a.example")
    mx.house.checks = Checks(zone, mx.clock)
    await mx.set("dmarc.send_failure_reports", True)
    await mx.set("dmarc.failure_reports_content", content)
    await mx.account(BOB)
    changed = signed.ours(kinds=("rsa",)).replace(b"ready?\r\n", b"ready?  Now? \r\n")
    async with mx.connect() as client:
        assert (await client.deliver("ann@b.example", [BOB], changed)).accepted
        letter, raw = await reported(mx)
    machine = list(letter.iter_parts())[1]
    told = message_from_bytes(machine.as_bytes().partition(b"\n\n")[2].lstrip())
    assert told["DKIM-Domain"] == "a.example"
    assert "".join(told["DKIM-Selector-DNS"].split()).startswith('"v=DKIM1')
    header, body = (
        b64decode("".join(told.get(f"DKIM-Canonicalized-{part}", "").split()))
        for part in ("Header", "Body")
    )
    assert [bool(header), bool(body)] == list(shown or (False, False))
    if header:
        (read,) = trust_dkim.signatures(headers.scan(changed), signed.NOW)
        assert read.signature is not None
        key = keys.read(signed.record("rsa").encode())
        assert key.holds(read.signature.octets, hashlib.sha256(header).digest())
    if body:
        assert body == b"Is it ready? Now?\r\n\r\nAnn\r\n"
    assert max(map(len, raw.split(b"\r\n"))) <= 998


async def test_a_body_that_changed_is_told_from_a_signature_that_does_not_hold(mx: Mx) -> None:
    zone = signed.zone()
    zone.add("_dmarc.a.example", "TXT", "v=DMARC1; p=none; fo=d; ruf=mailto:f@a.example")
    mx.house.checks = Checks(zone, mx.clock)
    await mx.set("dmarc.send_failure_reports", True)
    await mx.account(BOB)
    whole = signed.ours(kinds=("rsa",))
    async with mx.connect() as client:
        for broken in (
            whole.replace(b"ready", b"done"),
            whole.replace(b"Subject: Dinner", b"Subject: Lunch"),
        ):
            assert (await client.deliver("ann@b.example", [BOB], broken)).accepted
        while await send_failure_reports(mx.house):
            pass
    found = [line for raw in await letters(mx) for line in raw.split(b"\r\n")]
    assert {each for each in found if each.startswith(b"Auth-Failure")} == {
        *(b"Auth-Failure: bodyhash", b"Auth-Failure: signature"),
    }


# --- those that are alike -------------------------------------------------------------------------


def incidents(raw: bytes) -> int:
    found = re.search(rb"^Incidents: ([0-9]+)\r$", raw, re.MULTILINE)
    return int(found[1]) if found else 1


async def test_what_fails_alike_is_counted_and_told_with_the_next_report(mx_both: Mx) -> None:
    mx = mx_both
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, MILD)
        await mx.set("dmarc.failure_reports_every", 60)
        for _ in range(4):
            assert (await client.deliver(ME, [BOB], message())).accepted
        assert await owed(mx) == 1
        mx.clock.advance(3600)
        assert (await client.deliver(ME, [BOB], message())).accepted
        mx.clock.advance(3600)
        assert (await client.deliver(ME, [BOB], message())).accepted
        while await send_failure_reports(mx.house):
            pass
    told = await letters(mx)
    assert sorted(map(incidents, told)) == [1, 1, 4]
    words = b"3 more messages failed alike since the last report."
    assert [words in each for each in told] == [incidents(each) == 4 for each in told]


async def test_what_fails_otherwise_or_from_elsewhere_is_told_apart(mx: Mx) -> None:
    async with checking(mx) as world:
        await asked(world, MILD)
        await publish(world, MILD, "other.example")
        await mx.set("dmarc.failure_reports_every", 60)
        other = message().replace(b"Ann <ann@elsewhere", b"Ann <ann@other")
        async with mx.connect() as client:
            for content in (message(), other, message(), other):
                assert (await client.deliver(ME, [BOB], content)).accepted
    assert await owed(mx) == 2


async def test_attack_15_beyond_the_limit_only_those_are_counted_who_were_told_of(mx: Mx) -> None:
    """A stranger has addresses without end, and each would be a row."""
    limits = failures.Limits(10, 2, 60_000)
    now = mx.clock.now()

    async def owe(n: int, source: str, at: int = 0) -> bool:
        report = failures.Owed(
            n, "a.example", Instant(now + at), {"told": {}}, b"", limits, source, "dmarc"
        )
        return await mx.house.mail.write(failures.owe, report)

    assert [await owe(n, f"192.0.2.{n}") for n in range(50)] == [True, True, *[False] * 48]
    count = sql("SELECT count(*) FROM dmarc_failure_alike")
    assert await mx.house.mail.read(lambda tx: tx.one(count)) == (2,)
    assert not await owe(60, "192.0.2.1", 61_000)  # alike no more, but enough for the day
    assert await owe(61, "192.0.2.1", 24 * HOUR)
    due = await mx.house.mail.read(failures.due, Instant(now + 24 * HOUR), 10)
    assert [each.incidents for each in due] == [1, 1, 2]


# --- who gets none --------------------------------------------------------------------------------


async def test_by_default_nobody_is_told(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await publish(world, ASKED)
        assert not (await client.deliver(ME, [BOB], message())).accepted
    assert not await owed(mx)


async def test_what_passes_or_has_nobody_who_asks_is_not_reported(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        world.policy("v=spf1 ip4:127.0.0.1 -all")
        assert (await client.deliver(ANN, [BOB], message())).accepted
        await publish(world, "v=DMARC1; p=reject; rua=mailto:d@evil.example", "evil.example")
        forged = message().replace(b"ann@elsewhere.example>\r\nTo", b"ann@evil.example>\r\nTo")
        assert not (await client.deliver(ANN, [BOB], forged)).accepted
    assert not await owed(mx)


async def test_attack_15_bounces_and_reports_cause_no_report(mx: Mx) -> None:
    """Two servers would report each other's reports for ever."""
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        assert not (await client.deliver("", [BOB], message())).accepted
        fields = b"Content-Type: multipart/report; report-type=Feedback-Report; boundary=x\r\n"
        assert not (await client.deliver(ME, [BOB], message(fields=fields))).accepted
        reports = f"reports@{DOMAIN}"
        await mx.account(reports)
        await mx.set("dns.dmarc_reports", reports)
        assert not (await client.deliver(ME, [reports], message())).accepted
    assert not await owed(mx)


async def test_what_comes_again_is_reported_when_its_fate_is_known(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        await mx.set("sender.rules", ("wish=reject defer",))
        assert not (await client.deliver(ME, [BOB], message())).accepted
        assert not await owed(mx)
        await mx.set("sender.rules", ())
        assert not (await client.deliver(ME, [BOB], message())).accepted
        assert await owed(mx) == 1


async def test_attack_15_a_stranger_cannot_have_failures_sent_to_others(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, f"{ASKED},mailto:x@victim.example")
        assert not (await client.deliver(ME, [BOB], message())).accepted
        await reported(mx)
    assert [each.address for each in await waiting(mx)] == ["f@elsewhere.example"]
    (refused,) = [each.told for each in await listed(mx) if not each.told.trace]
    assert refused.why == (
        "victim.example does not say that it takes reports about elsewhere.example"
    )


async def test_a_day_has_so_many_and_the_next_has_more(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, MILD)
        await mx.set("dmarc.failure_reports_a_day", 2)
        for n in range(4):
            content = message(message_id=f"<{n}@x.example>")
            assert (await client.deliver(ME, [BOB], content)).accepted
        assert await owed(mx) == 2
        await publish(world, MILD, "other.example")
        forged = message().replace(b"Ann <ann@elsewhere", b"Ann <ann@other")
        assert (await client.deliver(ME, [BOB], forged)).accepted
        while await send_failure_reports(mx.house):
            pass
        to = [each.told for each in await listed(mx) if each.told.trace]
        assert len(to) == 2
        mx.clock.advance(24 * 3600)
        assert (await client.deliver(ME, [BOB], message())).accepted
        assert await owed(mx) == 1


async def test_an_address_that_many_domains_name_gets_so_many(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, "v=DMARC1; p=none; ruf=mailto:f@reports.example")
        await publish(world, "v=DMARC1; p=none; ruf=mailto:f@reports.example", "other.example")
        for domain in ("elsewhere.example", "other.example"):
            world.policy("v=DMARC1", f"{domain}._report._dmarc.reports.example")
        await mx.set("dmarc.failure_reports_a_day", 1)
        forged = message().replace(b"Ann <ann@elsewhere", b"Ann <ann@other")
        for content in (message(), forged):
            assert (await client.deliver(ME, [BOB], content)).accepted
        while await send_failure_reports(mx.house):
            pass
    assert len(await waiting(mx)) == 1
    whys = sorted(each.told.why for each in await listed(mx))
    assert whys == ["", "it was sent 1 of these reports today"]


async def test_all_of_a_day_are_bounded(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world, MILD)
        await mx.set("dmarc.all_failure_reports_a_day", 1)
        for n in range(2):
            content = message(message_id=f"<{n}@x.example>")
            assert (await client.deliver(ME, [BOB], content)).accepted
    assert await owed(mx) == 1


# --- once, and not lost ---------------------------------------------------------------------------


async def test_a_failure_is_told_once(mx_both: Mx) -> None:
    mx = mx_both
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        assert not (await client.deliver(ME, [BOB], message())).accepted
        # As after a lease that ended.
        await asyncio.gather(send_failure_reports(mx.house), send_failure_reports(mx.house))
        await send_failure_reports(mx.house)
    assert len(await waiting(mx)) == 1


async def test_what_dns_does_not_tell_waits_and_is_given_up_in_the_end(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        assert not (await client.deliver(ME, [BOB], message())).accepted
    dns = Dns()
    dns.failing.add(("_dmarc.elsewhere.example", "*"))
    mx.house.checks = Checks(dns, mx.clock)
    await send_failure_reports(mx.house)
    (line,) = await listed(mx)
    assert line.waits and line.told.why.startswith("DNS does not tell its record")
    assert not await owed(mx)
    mx.clock.advance(failure_reports.RETRY / 1000)
    assert await owed(mx) == 1
    mx.clock.advance(failure_reports.PATIENCE / 1000)
    await send_failure_reports(mx.house)
    (line,) = await listed(mx)
    assert not line.waits and line.told.why.startswith("DNS does not tell its record")
    assert not await waiting(mx)


async def test_a_domain_that_thought_better_of_it_and_a_server_that_did(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        for _ in range(2):
            assert not (await client.deliver(ME, [BOB], message())).accepted
    mx.house.checks = Checks(Dns(), mx.clock)
    first, second = await mx.house.mail.read(failures.due, mx.clock.now(), 9)
    await mx.house.mail.write(failures.postpone, second.id, "", Instant(mx.clock.now() + HOUR))
    await send_failure_reports(mx.house)
    await mx.set("dmarc.send_failure_reports", False)
    mx.clock.advance(3600)
    await send_failure_reports(mx.house)
    whys = {each.id: each.told.why for each in await listed(mx)}
    assert whys[first.id] == "its record asks for no failure reports any more"
    assert whys[second.id] == "dmarc.send_failure_reports is off"


async def test_a_store_that_is_full_refuses_the_message_all_the_same(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tx: Tx, report: object) -> bool:
        raise StoreFull

    monkeypatch.setattr(failures, "owe", full)
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        done = await client.deliver(ME, [BOB], message())
        assert done.end is not None and done.end.code == 550


async def test_what_cannot_be_read_keeps_nobody_else_waiting(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        for _ in range(2):
            assert not (await client.deliver(ME, [BOB], message())).accepted
        await mx.house.mail.write(_damage)
        while await send_failure_reports(mx.house):
            pass
    assert len(await waiting(mx)) == 1
    assert "what was kept of it cannot be read" in {each.told.why for each in await listed(mx)}


_DAMAGE = sql(
    "UPDATE dmarc_failure SET record = 'x' WHERE id = (SELECT min(id) FROM dmarc_failure)"
)


def _damage(tx: Tx) -> None:
    assert tx.run(_DAMAGE) == 1


async def test_what_was_told_is_forgotten_in_time(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await asked(world)
        assert not (await client.deliver(ME, [BOB], message())).accepted
        await reported(mx)
    mx.clock.advance(400 * 24 * 3600)
    while await upkeep.forget_feedback(mx.house):
        pass
    assert not await listed(mx)
    count = sql("SELECT count(*) FROM dmarc_failure_alike")
    assert await mx.house.mail.read(lambda tx: tx.one(count)) == (0,)
