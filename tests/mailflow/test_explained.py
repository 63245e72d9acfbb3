"""Every decision can be explained afterwards, and every setting changes what it says it does."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from postroom.core.errors import AlreadyExists
from postroom.core.settings import SERVER, SETTINGS, Place, Scope, Value
from postroom.domain import trace
from postroom.domain.directory import people
from postroom.formats.address import parse_mailbox
from postroom.formats.headers import FIELDS_MAX
from postroom.mailflow import phases
from postroom.mailflow.refusals import A_MINUTE, BURST
from postroom.testing.smtp import SmtpClient
from postroom.trust.checks import Checks
from postroom.wire.smtp import Reply
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, OTHER, Mx, at_listener, message
from tests.mailflow.test_posting import NEWS, folder
from tests.trust import signed
from tests.trust.zones import Dns

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
REPORTS = f"dmarc-reports@{DOMAIN}"
ANN = "ann@elsewhere.example"
HOPS = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"

Play = Callable[[Mx, SmtpClient], Awaitable[Reply]]

RULES = {
    rule.__name__: rule for phase in (phases.MAIL, phases.RCPT, phases.DATA) for rule in phase.rules
}


# --- plays: each comes to one decision ----------------------------------------------------------


async def declared(mx: Mx, client: SmtpClient) -> Reply:
    return await client.ask(f"MAIL FROM:<{ANN}> SIZE=100000")


async def big(mx: Mx, client: SmtpClient) -> Reply:
    return (await client.deliver(ANN, [BOB], message() + b"x" * 100_000)).last


async def hops(mx: Mx, client: SmtpClient) -> Reply:
    return (await client.deliver(ANN, [BOB], HOPS * 30 + message())).last


async def local_sender(mx: Mx, client: SmtpClient) -> Reply:
    return await client.ask(f"MAIL FROM:<{EVE}>")


async def many(mx: Mx, client: SmtpClient) -> Reply:
    await client.send(f"MAIL FROM:<{ANN}>\r\n".encode() + f"RCPT TO:<{BOB}>\r\n".encode() * 101)
    return (await client.replies(102))[-1]


async def guesses(mx: Mx, client: SmtpClient) -> Reply:
    await client.ask(f"MAIL FROM:<{ANN}>")
    for n in range(5):
        await client.ask(f"RCPT TO:<guess{n}@{DOMAIN}>", 550)
    return await client.ask(f"RCPT TO:<{BOB}>")


async def full(mx: Mx, client: SmtpClient) -> Reply:
    await client.ask(f"MAIL FROM:<{ANN}> SIZE=5000")
    return await client.ask(f"RCPT TO:<{BOB}>")


async def full_by_count(mx: Mx, client: SmtpClient) -> Reply:
    """The second message into an empty account."""
    await mx.empty(await mx.find(BOB))
    assert (await client.deliver(ANN, [BOB], message())).accepted
    return (await client.deliver(ANN, [BOB], message())).last


async def stranger(mx: Mx, client: SmtpClient) -> Reply:
    await client.ask(f"MAIL FROM:<{ANN}>")
    return await client.ask("RCPT TO:<someone@far.example>")


async def bounced(mx: Mx, client: SmtpClient) -> Reply:
    await mx.set("batv.sign", True)
    await client.ask("MAIL FROM:<>", 250)
    return await client.ask(f"RCPT TO:<{BOB}>")


async def misleading(mx: Mx, client: SmtpClient) -> Reply:
    content = message().replace(b"From: Ann <", b'From: "boss@bank.example" <')
    return (await client.deliver(ANN, [BOB], content)).last


async def posted(mx: Mx, client: SmtpClient) -> Reply:
    with contextlib.suppress(AlreadyExists):  # played before
        await folder(mx, "lr")
    await client.ask(f"MAIL FROM:<{ANN}>")
    return await client.ask(f"RCPT TO:<{NEWS}>")


async def of_two_minds(mx: Mx, client: SmtpClient) -> Reply:
    """A recipient of a domain that judges doubtful mail in a way of its own."""
    there = f"carol@{OTHER}"
    with contextlib.suppress(AlreadyExists):  # played before
        await mx.account(there)
    await mx.set("dmarc.on_reject", "junk", Place(Scope.DOMAIN, OTHER))
    for line in (f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>"):
        await client.ask(line)
    return await client.ask(f"RCPT TO:<{there}>")


async def unknown(mx: Mx, client: SmtpClient) -> Reply:
    await client.ask(f"MAIL FROM:<{ANN}>")
    return await client.ask(f"RCPT TO:<nobody@{DOMAIN}>")


async def bare(mx: Mx, client: SmtpClient) -> Reply:
    for line in (f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>", "DATA"):
        await client.ask(line)
    await client.send(b"one\n\r\n.\r\n")
    return await client.reply()


async def with_nul(mx: Mx, client: SmtpClient) -> Reply:
    return (await client.deliver(ANN, [BOB], message(body=b"\0\r\n"))).last


async def disowned(mx: Mx, client: SmtpClient) -> Reply:
    """A sender whose domain says that nobody sends for it."""
    mx.house.checks = Checks(Dns({"disowned.example": [("TXT", "v=spf1 -all")]}), mx.clock)
    return (await client.deliver("ann@disowned.example", [BOB], message())).last


async def forged(mx: Mx, client: SmtpClient) -> Reply:
    """An author whose domain wants what it does not vouch for rejected."""
    record = [("TXT", "v=DMARC1; p=reject")]
    mx.house.checks = Checks(Dns({"_dmarc.elsewhere.example": record}), mx.clock)
    return (await client.deliver("x@evil.example", [BOB], message())).last


async def untold(mx: Mx, client: SmtpClient) -> Reply:
    """An author of whose policy DNS says nothing."""
    dns = Dns()
    dns.fail("_dmarc.elsewhere.example")
    mx.house.checks = Checks(dns, mx.clock)
    return (await client.deliver("x@evil.example", [BOB], message())).last


async def reported(mx: Mx, client: SmtpClient) -> Reply:
    """At least a second message to where reports go."""
    mx.house.checks = None
    await mx.set("dns.dmarc_reports", REPORTS)
    await client.deliver(ANN, [REPORTS], message())
    await client.ask("RSET", 250)
    await client.ask(f"MAIL FROM:<{ANN}>")
    return await client.ask(f"RCPT TO:<{REPORTS}>")


def from_a_domain(name: str) -> Play:
    """A sender of whom lines of sender.rules tell."""

    async def play(mx: Mx, client: SmtpClient) -> Reply:
        mx.house.checks = Checks(Dns(), mx.clock)
        return (await client.deliver(f"x@{name}", [BOB], message())).last

    play.__name__ = name
    return play


async def scored(mx: Mx, client: SmtpClient) -> Reply:
    """A sender to whom a line gives four points."""
    mx.house.checks = Checks(Dns(), mx.clock)
    await mx.set("sender.rules", ("sender=much.example score 4",))
    said = (await client.deliver("x@much.example", [BOB], message())).last
    await mx.set("sender.rules", None)
    return said


async def two_authors(mx: Mx, client: SmtpClient) -> Reply:
    mx.house.checks = Checks(Dns(), mx.clock)
    return (await client.deliver(ANN, [BOB], b"From: <x@evil.example>\r\n" + message())).last


def copied(other: str) -> Play:
    """A signed message, of which the setting for the other rule about copies says nothing."""

    async def play(mx: Mx, client: SmtpClient) -> Reply:
        mx.house.checks = Checks(signed.zone(), mx.clock)
        await mx.set(other, None)
        return (await client.deliver(ANN, [BOB], signed.other())).last

    play.__name__ = f"copied {other}"
    return play


# --- plays at the door of submission ------------------------------------------------------------


async def of_me(client: SmtpClient, content: bytes) -> Reply:
    return (await client.deliver(ME, [BOB], content)).last


async def anonymous(mx: Mx, client: SmtpClient) -> Reply:
    return await client.ask(f"MAIL FROM:<{ME}>")


async def frozen(mx: Mx, client: SmtpClient) -> Reply:
    """The account is frozen between sign-in and MAIL, and thaws for the next play."""
    me = await mx.house.mail.read(people.account, parse_mailbox(ME))
    await mx.house.mail.write(people.set_state, me, "frozen")
    said = await client.ask(f"MAIL FROM:<{ME}>")
    await mx.house.mail.write(people.set_state, me, "active")
    return said


async def as_another(mx: Mx, client: SmtpClient) -> Reply:
    return await client.ask(f"MAIL FROM:<{EVE}>")


async def of_another(mx: Mx, client: SmtpClient) -> Reply:
    return await of_me(client, message())


async def many_fields(mx: Mx, client: SmtpClient) -> Reply:
    return await of_me(client, f"From: <{ME}>\r\n".encode() + b"X: y\r\n" * FIELDS_MAX + b"\r\n")


@dataclass(frozen=True)
class Case:
    """A decision: refused under one value of its setting, taken under the other."""

    rule: str
    play: Play
    code: int
    status: str
    setting: str = ""
    strict: Value | None = None
    lenient: Value | None = None
    listener: str = "smtp"
    stranger: bool = False  # at the door of submission: has not signed in

    def enter(self, doors: Doors) -> AbstractAsyncContextManager[SmtpClient]:
        """The session in which it is played."""
        if self.listener == "smtp":
            return doors.mx.connect()
        return doors.open() if self.stranger else doors.signed_in()


CASES = [
    Case("declared_size", declared, 552, "5.3.4", "smtp.max_size", 65_536, 200_000),
    Case("size", big, 552, "5.3.4", "smtp.max_size", 65_536, 200_000),
    Case("hops", hops, 554, "5.4.6", "smtp.max_hops", 30, 31),
    Case("local_sender", local_sender, 530, "5.7.0", "smtp.local_senders_sign_in", True, False),
    Case("crowd", many, 452, "4.5.3", "smtp.max_recipients", 100, 101),
    Case("guessing", guesses, 421, "4.7.0", "smtp.max_refused", 5, 6),
    Case("guessing", guesses, 421, "4.7.0", "smtp.max_refused", 5, 0),
    Case("room", full, 452, "4.2.2", "quota.octets", 4_999, 5_000),
    Case("room", full_by_count, 452, "4.2.2", "quota.messages", 1, 2),
    Case("relay", stranger, 550, "5.7.1"),
    Case("posting", posted, 550, "5.1.1"),
    Case("not_our_bounce", bounced, 550, "5.7.1", "batv.on_untagged", "refuse", "accept"),
    Case("misleading_from", misleading, 550, "5.7.1", "from.on_mismatch", "refuse", "accept"),
    Case("apart", of_two_minds, 452, "4.5.3"),
    Case("replay_refused", copied("replay.defer_at"), 550, "5.7.1", "replay.refuse_at", 1, 0),
    Case("replay_deferred", copied("replay.refuse_at"), 451, "4.7.1", "replay.defer_at", 1, 0),
    Case("known", unknown, 550, "5.1.1"),
    Case("reports_budget", reported, 451, "4.7.0", "reports.a_source", 1, 100),
    Case("line_ends", bare, 554, "5.6.0"),
    Case("nul", with_nul, 554, "5.6.0"),
    Case("spf_fail", disowned, 550, "5.7.23", "spf.on_fail", "refuse", "accept"),
    Case("dmarc_refused", forged, 550, "5.7.1", "dmarc.on_reject", "refuse", "accept"),
    Case("dmarc_refused", untold, 451, "4.7.0", "dmarc.on_temperror", "defer", "accept"),
    Case(
        "unclear_author", two_authors, 550, "5.7.1", "dmarc.on_unclear_author", "refuse", "accept"
    ),
    Case(
        "sender_refused",
        from_a_domain("shut.example"),
        550,
        "5.7.1",
        "sender.rules",
        ("sender=shut.example refuse",),
        (),
    ),
    Case(
        "sender_refused",
        from_a_domain("rude.example"),
        554,
        "5.7.1",
        "sender.rules",
        ("sender=rude.example close",),
        (),
    ),
    Case(
        "sender_deferred",
        from_a_domain("late.example"),
        451,
        "4.7.1",
        "sender.rules",
        ("sender=late.example defer",),
        ("sender=other.example defer",),
    ),
    Case(
        "sender_refused",
        scored,
        550,
        "5.7.1",
        "sender.refuse_score",
        4,
        5,
    ),
    Case("sign_in_first", anonymous, 530, "5.7.0", listener="submission", stranger=True),
    Case("still_welcome", frozen, 421, "4.7.0", listener="submission"),
    Case(
        "own_sender", as_another, 550, "5.7.1", "submission.own_sender", True, False, "submission"
    ),
    Case(
        "own_author", of_another, 550, "5.7.1", "submission.own_author", True, False, "submission"
    ),
    Case("whole_header", many_fields, 552, "5.3.4", listener="submission"),
]
FILING = {"dmarc_marked", "sender_marked", "sender_accepted", "sender_filed", "replay_filed"}
"""Rules that refuse nothing; what they do is played in tests of their own."""
HEAVY = {"reports_size"}
"""Played once, in test_filing: it takes more octets than any report has."""
WITH_SETTING = [case for case in CASES if case.setting]


def _names(case: Case) -> str:
    return f"{case.rule}-{case.setting}-{case.lenient}"


def test_every_rule_of_the_table_has_a_case() -> None:
    """A new rule comes with a case here, or this fails."""
    assert {case.rule for case in CASES} | FILING | HEAVY == set(RULES)


def test_every_setting_that_a_rule_reads_has_a_case() -> None:
    """What a rule reads of policy decides: each such setting is flipped below."""
    read = set()
    for rule in RULES.values():
        for node in ast.walk(ast.parse(inspect.getsource(rule))):
            # policy.of(SmtpSettings).max_size
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call):
                call = node.value
                if isinstance(call.func, ast.Attribute) and call.func.attr == "of":
                    group = call.args[0]
                    assert isinstance(group, ast.Name)
                    prefix = group.id.removesuffix("Settings").lower()
                    read.add((rule.__name__, f"{prefix}.{node.attr}"))
    assert read  # the way rules ask for settings is known to this test
    assert read <= {(case.rule, case.setting) for case in CASES}
    named = {case.setting for case in WITH_SETTING}
    assert named <= set(SETTINGS)


@pytest.mark.parametrize("case", CASES, ids=_names)
async def test_a_refusal_carries_a_trace_that_says_rule_why_setting_and_where(
    doors: Doors, case: Case
) -> None:
    mx = doors.mx
    await mx.account(BOB)
    await mx.account(EVE)
    at = SERVER if case.setting.startswith(("quota", "reports")) else at_listener(case.listener)
    if case.setting:
        await mx.set(case.setting, case.strict, at)
    async with case.enter(doors) as client:
        reply = await case.play(mx, client)
        record = await mx.refusal(reply)
    assert (reply.code, str(reply.status)) == (case.code, case.status)
    told = record["verdicts"][-1]
    assert told["rule"] == case.rule
    assert len(told["why"]) > 20 and told["why"] != told["reply"]
    assert told["status"] == case.status
    if case.setting:
        assert (told["setting"], told["set at"]) == (case.setting, str(at))
    else:
        assert "setting" not in told
    assert record["facts"]["peer"]["ip"] == "127.0.0.1"
    assert record["session"].startswith("s")
    assert record["id"] in reply.text


@pytest.mark.parametrize("case", WITH_SETTING, ids=_names)
async def test_flipping_that_one_setting_changes_that_outcome_at_once(
    doors: Doors, case: Case
) -> None:
    """Without restart, and for sessions that are open already."""
    mx = doors.mx
    await mx.account(BOB)
    await mx.account(EVE)
    enter = case.enter
    async with enter(doors) as first, enter(doors) as second, enter(doors) as third:
        await mx.set(case.setting, case.strict)
        assert (await case.play(mx, first)).code == case.code
        await mx.set(case.setting, case.lenient)
        assert (await case.play(mx, second)).code == 250
        await mx.set(case.setting, case.strict)
        assert (await case.play(mx, third)).code == case.code


@pytest.mark.parametrize("case", WITH_SETTING, ids=_names)
async def test_flipping_that_one_setting_changes_no_other_outcome(doors: Doors, case: Case) -> None:
    """All other plays decide alike under either value."""
    mx = doors.mx
    await mx.account(BOB)
    await mx.account(EVE)
    others = {c.play: c for c in CASES if c.setting != case.setting and c.play != full_by_count}
    outcomes: list[dict[str, tuple[int, str]]] = []
    for value in (case.strict, case.lenient):
        await mx.set(case.setting, value)
        seen: dict[str, tuple[int, str]] = {}
        for play in sorted(others, key=lambda p: p.__name__):
            of = others[play].setting
            much = play in (big, hops, many, guesses) or of.startswith(("sender.", "replay."))
            if case.setting.startswith("quota") and much:
                continue  # they ask for more than that account's room
            async with others[play].enter(doors) as client:
                reply = await play(mx, client)
                seen[play.__name__] = (reply.code, str(reply.status))
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) >= 6


async def test_a_domain_may_let_its_own_name_in_while_others_do_not(mx: Mx) -> None:
    """smtp.local_senders_sign_in is a domain's to decide: that of the sender counts."""
    await mx.account(BOB)
    await mx.set("smtp.local_senders_sign_in", False, Place(Scope.DOMAIN, DOMAIN))
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{EVE}>", 250)
        await client.ask("RSET", 250)
        refused = await client.ask("MAIL FROM:<x@other.test>", 530)
        await mx.set("smtp.local_senders_sign_in", True, Place(Scope.DOMAIN, DOMAIN))
        told = (await mx.refusal(refused))["verdicts"][-1]
        assert told["set at"] == "default"
        refused = await client.ask(f"MAIL FROM:<{EVE}>", 530)
        told = (await mx.refusal(refused))["verdicts"][-1]
        assert told["set at"] == f"domain:{DOMAIN}"


# --- what was taken -----------------------------------------------------------------------------


async def test_a_delivery_is_found_by_message_id_sender_recipient_and_the_250(
    mx_both: Mx,
) -> None:
    bob = await mx_both.account(BOB)
    async with mx_both.connect() as client:
        done = await client.deliver(ANN, [BOB], message())
    assert done.end is not None
    record = await mx_both.delivered("<1@elsewhere.example>")
    assert record["id"] in done.end.text
    assert record["outcome"] == "accepted"
    (got,) = record["delivered"]
    assert got["to"] == BOB and got["account"] == bob and got["mailbox"] == "inbox"
    assert got["because"] == f"{BOB} is the account's own address"
    assert record["recipients"][0]["facts"]["recipient"]["local_domain"] is True
    for key in (ANN, BOB, ANN.upper()):
        found = await mx_both.house.mail.read(trace.find, trace.address_key(key))
        assert [each["id"] for _, each in found] == [record["id"]]
    stored = (await mx_both.content(bob))[0]
    assert record["id"].encode() in stored  # the id of Received is the trace's


async def test_a_refused_recipient_is_found_by_its_address(mx: Mx) -> None:
    async with mx.connect() as client:
        reply = await unknown(mx, client)
        record = await mx.refusal(reply)
    key = trace.address_key(f"nobody@{DOMAIN}")
    found = await mx.house.state.read(trace.find_refusals, key)
    assert [each["id"] for _, each in found] == [record["id"]]
    assert record["recipient"] == f"nobody@{DOMAIN}"
    assert record["recipient_facts"]["recipient"]["problem"]


async def test_each_of_a_thousand_recipients_refused_tells_its_own_story_only(mx: Mx) -> None:
    """A trace of a refusal is small however long the transaction: it is kept for strangers."""
    await mx.account(BOB)
    await mx.set("smtp.max_recipients", 900)
    async with mx.connect() as client:
        rcpts = f"RCPT TO:<{BOB}>\r\n".encode() * 905
        await client.send(f"MAIL FROM:<{ANN}>\r\n".encode() + rcpts)
        replies = await client.replies(906)
        assert [r.code for r in replies[-6:]] == [250] + [452] * 5
        record = await mx.refusal(replies[-1])
    assert len(str(record)) < 3_000


async def test_the_budget_of_one_source_bounds_its_traces_not_its_refusals(mx: Mx) -> None:
    await mx.set("smtp.max_refused", 0)
    asked = BURST + 40
    async with mx.connect() as client:
        await client.send(
            f"MAIL FROM:<{ANN}>\r\n".encode() + f"RCPT TO:<no@{DOMAIN}>\r\n".encode() * asked
        )
        replies = await client.replies(asked + 1)
        assert {reply.code for reply in replies[1:]} == {550}
        await mx.refusal(replies[BURST])
        assert mx.intake.refusals.dropped == 40
        mx.clock.advance(60)
        again = [await client.ask(f"RCPT TO:<no@{DOMAIN}>", 550) for _ in range(A_MINUTE + 5)]
        await mx.refusal(again[0])
        assert mx.intake.refusals.dropped == 45
    for _ in range(500):  # notes are written soon, in batches
        kept = await mx.house.state.read(trace.latest_refusals, 1_000)
        if len(kept) >= BURST + A_MINUTE:
            break
        await asyncio.sleep(0.01)
    assert len(kept) == BURST + A_MINUTE


async def test_the_whole_64_of_an_ipv6_host_is_one_source(mx: Mx) -> None:
    """Else one host has as many budgets as addresses, and the bound is none."""
    refusals = mx.intake.refusals
    kept = trace.Trace(1, mx.clock.now(), {}, ())
    for n in range(BURST + 10):
        refusals.note(ip_address(f"2001:db8::{n:x}"), kept)
    assert refusals.dropped == 10
    refusals.note(ip_address("2001:db8:0:1::1"), kept)
    refusals.note(ip_address("192.0.2.1"), kept)
    assert refusals.dropped == 10
    refusals.flush()
