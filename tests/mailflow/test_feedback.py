"""What is counted for reports: not the reports of others, or two servers would never be silent."""

from __future__ import annotations

from postroom.domain import feedback
from postroom.domain.facts import DkimFact
from postroom.mailflow.feedback import SIGNATURES, signatures
from tests.mailflow.serving import DOMAIN, Mx, message
from tests.mailflow.test_authentication import ANN, BOB, checking
from tests.mailflow.test_dmarc import ASKED, ME, policy, told

SUBJECT = "Report Domain: example.test Submitter: mx.elsewhere.example Report-ID: <1@x>"


async def test_attack_15_a_report_that_passes_is_not_reported(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        world.policy("v=spf1 ip4:127.0.0.1 -all")
        assert (await client.deliver(ANN, [BOB], message(SUBJECT))).accepted
        assert (await client.deliver(ANN, [BOB], message("report  domain"))).accepted
        assert [count for _, count in await told(mx)] == [1]


async def test_a_stranger_does_not_hide_his_mail_by_its_subject(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        assert not (await client.deliver(ME, [BOB], message(SUBJECT))).accepted
        assert [(each.spf, count) for each, count in await told(mx)] == [("fail", 1)]


async def test_attack_15_what_comes_where_reports_go_is_not_reported(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, ASKED)
        await policy(world, ASKED, "other.example")
        reports = f"Reports@{DOMAIN}"
        await mx.account(reports)
        await mx.set("dns.dmarc_reports", reports)
        assert not (await client.deliver(ME, [reports], message())).accepted
        # To somebody else as well, it is no report.
        assert not (await client.deliver(ME, [reports, BOB], message())).accepted
        assert [count for _, count in await told(mx)] == [1]
        today = feedback.day_of(mx.clock.now())
        assert await mx.house.state.read(feedback.domains, today, "", 9) == ["elsewhere.example"]


def test_signatures_are_told_by_what_they_are_worth_to_the_author() -> None:
    """RFC 9990 §3.1.3: not the first that stand on a message, if there are many."""
    noise = [_entry(f"n{n}.example", "fail") for n in range(SIGNATURES)]
    wanted = [
        _entry("a.example", "pass"),
        _entry("mail.a.example", "pass"),
        _entry("list.example", "pass"),
        _entry("a.example", "fail"),
    ]
    told = signatures(DkimFact((*noise[:4], *reversed(wanted), *noise[4:])), "a.example")
    assert len(told) == SIGNATURES
    assert [(each.domain, each.result) for each in told[:4]] == [
        *(("a.example", "pass"), ("mail.a.example", "pass"), ("list.example", "pass")),
        ("n0.example", "fail"),
    ]


def _entry(domain: str, code: str) -> dict[str, str]:
    return {"code": code, "domain": domain, "selector": "s", "why": ""}
