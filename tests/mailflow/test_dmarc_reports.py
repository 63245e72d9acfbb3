"""Reports to domains on mail in their name: sent once for each day, whatever happens between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from email import message_from_bytes, policy
from typing import Any

import pytest

from postroom.core.errors import Busy, Corrupt
from postroom.core.metrics import Counter
from postroom.domain import feedback, queue
from postroom.domain.feedback import DAY, Seen, sent
from postroom.domain.feedback.sent import Listed
from postroom.domain.queue import HOUR, Recipient
from postroom.formats import headers
from postroom.mailflow import dmarc_reports, upkeep
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.dmarc_reports import DAYS, SPREAD, report_id, send_reports, start
from postroom.store.sql import Tx
from postroom.trust.checks import Checks
from postroom.trust.dmarc.reading import Received, read
from tests.mailflow.serving import DOMAIN, Mx
from tests.trust.zones import Dns

HOST = f"mail.{DOMAIN}"
ASKED = "v=DMARC1; p=reject; rua=mailto:d@a.example"
SEEN = Seen(
    "a.example",
    ASKED,
    "192.0.2.1",
    "mail.a.example",
    "b.example",
    "reject",
    "fail",
    "fail",
    spf_result="softfail",
)


def asking(mx: Mx, records: Mapping[str, str]) -> Dns:
    """A DNS with these DMARC records, by domain."""
    dns = Dns()
    for domain, text in records.items():
        dns.add(f"_dmarc.{domain}", "TXT", text)
    mx.house.checks = Checks(dns, mx.clock)
    return dns


async def seen(mx: Mx, *kinds: Seen, messages: int = 3) -> int:
    """Count these today; returns the day."""
    today = feedback.day_of(mx.clock.now())
    await mx.house.state.write(feedback.add, {(today, each): messages for each in kinds})
    return today


def tomorrow(mx: Mx, days: int = 1) -> None:
    """Turn the clock to where reports on a day that is over begin."""
    now = mx.clock.now()
    then = (now // DAY + days) * DAY + start(HOST, 1)
    mx.clock.advance((then - now) / 1000)


async def run(mx: Mx) -> int:
    """Run the job until nothing is left; returns how many pieces it took."""
    pieces = 1
    while await send_reports(mx.house):
        pieces += 1
    return pieces


async def waiting(mx: Mx) -> list[Recipient]:
    """The reports that were put into the queue."""
    return [each for each in await mx.waiting() if each.message.origin == "dmarc"]


async def listed(mx: Mx, domain: str = "") -> list[Listed]:
    return await mx.house.mail.read(sent.latest, domain, 1000)


async def content(mx: Mx, recipient: Recipient) -> bytes:
    def look(tx: Tx) -> bytes:
        return mx.house.blobs.read(tx, recipient.message.blob)

    return await mx.house.mail.read_much(look)


def report(message: bytes) -> Received:
    """The report within, found and unpacked by what reads those of others."""
    return read(_attachment(message))


def _attachment(message: bytes) -> bytes:
    parts = list(message_from_bytes(message, policy=policy.default).iter_attachments())
    assert [each.get_content_type() for each in parts] == ["application/gzip"]
    got = parts[0].get_content()
    assert isinstance(got, bytes)
    return got


def counted(counter: Counter) -> int:
    return sum(map(int, counter.values().values()))


# --- what is sent ---------------------------------------------------------------------------------


async def test_a_domain_that_asks_gets_its_report_the_next_day(mx_both: Mx) -> None:
    mx = mx_both
    asking(mx, {"a.example": ASKED})
    other = replace(SEEN, source_ip="2001:db8::1", disposition="pass", spf="pass")
    day = await seen(mx, SEEN, other)
    assert not await send_reports(mx.house)  # the day is not over
    assert not await waiting(mx)
    tomorrow(mx)
    await run(mx)
    (letter,) = await waiting(mx)
    assert letter.address == "d@a.example"
    assert letter.message.reverse_path is None
    message = await content(mx, letter)
    found = headers.scan(message)
    id_ = report_id(HOST, "a.example", day)
    assert {name: found.first(name.encode()) for name in ("from", "to", "auto-submitted")} == {
        "from": f'"{DOMAIN}" <postmaster@{DOMAIN}>'.encode(),
        "to": b"d@a.example",
        "auto-submitted": b"auto-generated",
    }
    subject = (found.first(b"subject") or b"").replace(b"\r\n", b"").decode()
    assert subject == f"Report Domain: a.example Submitter: {HOST} Report-ID: <{id_}>"
    assert found.first(b"precedence") is None
    begin = day * 86_400
    name = f"{HOST}!a.example!{begin}!{begin + 86_399}.xml.gz"
    assert name.encode() in message.replace(b"\r\n ", b"")
    assert b"saw 6 messages in the name of\r\na.example" in message
    assert b"3 of them failed DMARC" in message.replace(b"\r\n", b" ")
    told = report(message)
    assert (told.report_id, told.organisation, told.email) == (id_, DOMAIN, f"postmaster@{DOMAIN}")
    assert (told.begin, told.end) == (begin, begin + 86_399)
    assert {(row.source_ip, row.messages, row.disposition) for row in told.rows} == {
        ("192.0.2.1", 3, "reject"),
        ("2001:db8::1", 3, "pass"),
    }
    (line,) = await listed(mx)
    assert (line.policy_domain, line.day, line.report_id) == ("a.example", day, id_)
    assert (line.told.destination, line.told.octets) == ("d@a.example", len(message))
    assert line.told.trace == letter.message.trace


async def test_settings_say_who_reports(mx: Mx) -> None:
    asking(mx, {"a.example": ASKED})
    await mx.set("dmarc.report_from", f"dmarc@{DOMAIN}")
    await mx.set("dmarc.report_organisation", "Example & Sons")
    await mx.set("dmarc.report_precedence", True)
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    message = await content(mx, (await waiting(mx))[0])
    found = headers.scan(message)
    assert found.first(b"from") == f"Example & Sons <dmarc@{DOMAIN}>".encode()
    assert found.first(b"precedence") == b"bulk"
    told = report(message)
    assert (told.organisation, told.email) == ("Example & Sons", f"dmarc@{DOMAIN}")


async def test_nothing_is_sent_where_that_is_not_wanted(mx: Mx) -> None:
    asking(mx, {"a.example": ASKED})
    await mx.set("dmarc.send_reports", False)
    await seen(mx, SEEN)
    tomorrow(mx)
    assert await run(mx) == 1
    assert not await listed(mx)
    await mx.set("dmarc.send_reports", True)
    await run(mx)
    assert len(await waiting(mx)) == 1


async def test_the_policy_told_is_the_one_that_is_there_now(mx: Mx) -> None:
    now = "v=DMARC1; p=quarantine; rua=mailto:d@a.example"
    asking(mx, {"a.example": now})
    kinds = [replace(SEEN, source_ip=f"192.0.2.{n}") for n in range(8)]
    await seen(mx, *kinds, replace(SEEN, record=now))
    tomorrow(mx)
    await run(mx)
    told = report(await content(mx, (await waiting(mx))[0]))
    assert told.published.p == "quarantine"
    assert len(told.rows) == 9


async def test_it_goes_through_intake_and_out_to_the_next_server(mx: Mx) -> None:
    asking(mx, {"a.example": ASKED})
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    (letter,) = await waiting(mx)
    composed = ComposedQueue(mx.house, mx.intake, 1)
    while await composed.round():
        pass
    (outside,) = await mx.waiting()
    assert outside.message.trace == letter.message.trace
    assert outside.address == "d@a.example"


async def test_a_report_to_a_domain_of_ours_is_delivered_here(mx: Mx) -> None:
    bob = await mx.account(f"bob@{DOMAIN}")
    asking(mx, {DOMAIN: f"v=DMARC1; p=none; rua=mailto:bob@{DOMAIN}"})
    await seen(mx, replace(SEEN, policy_domain=DOMAIN))
    tomorrow(mx)
    await run(mx)
    composed = ComposedQueue(mx.house, mx.intake, 1)
    while await composed.round():
        pass
    (message,) = await mx.content(bob)
    assert report(message).published.domain == DOMAIN


# --- who gets none ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "why"),
    (
        ("", "it has no DMARC record any more"),
        ("v=DMARC1; p=reject", "its record asks for no reports any more"),
    ),
)
async def test_who_asks_no_more_gets_none(mx: Mx, record: str, why: str) -> None:
    asking(mx, {"a.example": record} if record else {})
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    assert not await waiting(mx)
    (line,) = await listed(mx)
    assert (line.told.destination, line.told.why, line.waits) == ("", why, False)


async def test_attack_15_a_stranger_cannot_have_reports_sent_to_others(mx: Mx) -> None:
    asking(mx, {"a.example": f"{ASKED},mailto:x@victim.example"})
    before = counted(dmarc_reports.UNSENT)
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    assert [each.address for each in await waiting(mx)] == ["d@a.example"]
    lines = {each.told.destination: each.told for each in await listed(mx)}
    refused = lines["x@victim.example"]
    assert not refused.trace
    assert refused.why == "victim.example does not say that it takes reports about a.example"
    assert counted(dmarc_reports.UNSENT) == before + 1


async def test_what_cannot_be_read_keeps_nobody_else_waiting(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(mx, {"a.example": ASKED, "b.example": "v=DMARC1; rua=mailto:d@b.example"})
    await seen(mx, SEEN, replace(SEEN, policy_domain="b.example"))
    tomorrow(mx)
    read_well = feedback.tallies

    def damaged(tx: Tx, domain: str, day: int, limit: int) -> list[tuple[Seen, int]]:
        if domain == "a.example":
            raise Corrupt(detail="a tally")
        return read_well(tx, domain, day, limit)

    monkeypatch.setattr(feedback, "tallies", damaged)
    await run(mx)
    assert [each.address for each in await waiting(mx)] == ["d@b.example"]
    (line,) = await listed(mx, "a.example")
    assert line.told.why == "what was counted cannot be read"


# --- once, and not lost ---------------------------------------------------------------------------


async def test_a_day_is_told_once(mx_both: Mx) -> None:
    mx = mx_both
    asking(mx, {"a.example": ASKED})
    await seen(mx, SEEN)
    tomorrow(mx)
    await asyncio.gather(run(mx), run(mx))  # as after a lease that ended
    await run(mx)
    assert len(await waiting(mx)) == 1
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    assert len(await waiting(mx)) == 2
    assert len({each.report_id for each in await listed(mx)}) == 2


async def test_a_crash_before_the_commit_leaves_all_to_be_done(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking(mx, {"a.example": f"{ASKED},mailto:e@a.example"})
    await seen(mx, SEEN)
    tomorrow(mx)
    submit, calls = queue.submit, 0

    def dying(*args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Busy(detail="here it ends")
        submit(*args)

    monkeypatch.setattr(queue, "submit", dying)
    with pytest.raises(Busy):
        await run(mx)
    assert not await waiting(mx)
    assert not await listed(mx)
    await run(mx)
    assert sorted(each.address for each in await waiting(mx)) == ["d@a.example", "e@a.example"]


async def test_a_crash_after_the_commit_sends_nothing_twice(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a{n}.example" for n in range(3)]
    asking(mx, {name: f"v=DMARC1; p=none; rua=mailto:d@{name}" for name in names})
    await seen(mx, *(replace(SEEN, policy_domain=name) for name in names))
    tomorrow(mx)

    class Dying:
        def add(self, number: int) -> None:
            raise Busy(detail="the commit is on disk, and here it ends")

    with monkeypatch.context() as patched:
        patched.setattr(dmarc_reports, "SENT", Dying())
        for _ in names:
            with pytest.raises(Busy):
                await run(mx)
    assert len(await waiting(mx)) == 3
    await run(mx)
    assert sorted(each.address for each in await waiting(mx)) == [f"d@{name}" for name in names]


# --- what DNS does not say ------------------------------------------------------------------------


async def test_what_dns_does_not_answer_is_tried_again(mx: Mx) -> None:
    dns = asking(mx, {"a.example": ASKED, "b.example": "v=DMARC1; rua=mailto:d@b.example"})
    dns.fail("_dmarc.a.example")
    await seen(mx, SEEN, replace(SEEN, policy_domain="b.example"))
    tomorrow(mx)
    await run(mx)
    assert [each.address for each in await waiting(mx)] == ["d@b.example"]
    (line,) = await listed(mx, "a.example")
    assert line.waits and line.told.why.startswith("DNS does not tell its record")
    asked = len(dns.asked)
    await run(mx)
    assert len(dns.asked) == asked  # not before an hour has passed
    dns.failing.clear()
    mx.clock.advance(3600)
    await run(mx)
    assert len(await waiting(mx)) == 2
    (line,) = await listed(mx, "a.example")
    assert line.told.trace and not line.waits


async def test_one_dead_domain_holds_the_others_up_for_a_day_at_most(mx: Mx) -> None:
    dns = asking(mx, {"a.example": f"{ASKED},mailto:x@dead.example"})
    dns.fail("a.example._report._dmarc.dead.example")
    await seen(mx, SEEN)
    tomorrow(mx)
    for _ in range(24):
        await run(mx)
        assert not await waiting(mx)
        mx.clock.advance(3600)
    await run(mx)
    assert [each.address for each in await waiting(mx)] == ["d@a.example"]
    found = {each.told.destination: each.told.why for each in await listed(mx)}
    assert "dead.example takes such reports" in found["x@dead.example"]


async def test_a_domain_whose_record_is_not_to_be_had_is_given_up(mx: Mx) -> None:
    dns = asking(mx, {})
    dns.fail("_dmarc.a.example")
    await seen(mx, SEEN)
    tomorrow(mx, 2)
    await run(mx)
    (line,) = await listed(mx)
    assert not line.waits and line.told.why.startswith("DNS does not tell its record")


# --- how much, and when -------------------------------------------------------------------------


async def test_a_piece_is_bounded_and_a_walk_comes_to_its_end(mx_both: Mx) -> None:
    mx = mx_both
    # Engines need not agree on the order of these; each walks in its own.
    names = [f"a{'-' * (n % 2)}{n:02}{'.b' * (n % 3)}.example" for n in range(25)]
    dns = asking(mx, {name: f"v=DMARC1; p=none; rua=mailto:d@{name}" for name in names})
    for name in names[:12]:
        dns.fail(f"_dmarc.{name}")  # they must not keep the others from their turn
    await seen(mx, *(replace(SEEN, policy_domain=name) for name in names))
    tomorrow(mx)
    assert await send_reports(mx.house)
    assert len(await listed(mx)) == dmarc_reports.BATCH
    assert await run(mx) == 3
    assert {each.address for each in await waiting(mx)} == {f"d@{name}" for name in names[12:]}


async def test_days_that_were_missed_are_told_but_not_old_ones(mx: Mx) -> None:
    asking(mx, {"a.example": ASKED})
    first = await seen(mx, SEEN)
    for _ in range(4):
        mx.clock.advance(DAY / 1000)
        await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    days = sorted(each.day for each in await listed(mx))
    assert days == [first + 2, first + 3, first + 4]
    assert len(days) == DAYS


@pytest.mark.parametrize("days", (1, 30))
async def test_what_is_to_be_told_is_not_forgotten(mx: Mx, days: int) -> None:
    asking(mx, {"a.example": ASKED})
    await mx.set("retention.refusals_days", days)
    await mx.set("retention.traces_days", days)
    await seen(mx, SEEN)
    tomorrow(mx)
    await run(mx)
    for _ in range(DAYS + 1):
        await upkeep.forget_feedback(mx.house)
        await run(mx)
        assert len(await waiting(mx)) == 1
        assert len(await listed(mx)) == 1
        mx.clock.advance(DAY / 1000)
    mx.clock.advance(31 * DAY / 1000)
    await upkeep.forget_feedback(mx.house)
    assert not await listed(mx)


def test_servers_do_not_all_report_at_once() -> None:
    starts = {start(f"mail{n}.example", 2) for n in range(50)}
    assert len(starts) == 50
    assert all(2 * HOUR < each < 2 * HOUR + SPREAD for each in starts)
    assert start("mail1.example", 2) == start("mail1.example", 2)


def test_a_report_id_is_the_same_for_the_same_report_alone() -> None:
    made = [report_id(HOST, "a.example", 1), report_id(HOST, "a.example", 2)]
    made += [report_id(HOST, "b.example", 1), report_id("x.example", "a.example", 1)]
    assert len(set(made)) == 4
    assert report_id(HOST, "a.example", 0).startswith("19700101.")
