"""Each domain decides what becomes of doubtful mail for its own recipients."""

from __future__ import annotations

from postroom.core.settings import Place, Scope
from postroom.mailflow.deciding import WHOLE
from postroom.mailflow.sender.settings import SenderSettings
from postroom.mailflow.settings import DmarcSettings, SpfSettings
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, OTHER, Mx, message
from tests.mailflow.test_authentication import BOB, World, checking
from tests.mailflow.test_dmarc import ME, REJECT, policy, told

CAROL = f"carol@{OTHER}"
DAVE = f"dave@{DOMAIN}"
THERE = Place(Scope.DOMAIN, OTHER)


async def bring(client: SmtpClient, *recipients: str) -> tuple[list[Reply], Reply]:
    """One transaction: the reply to each recipient, and to the end of the content."""
    await client.ask(f"MAIL FROM:<{ME}>")
    replies = [await client.ask(f"RCPT TO:<{each}>") for each in recipients]
    assert (await client.ask("DATA")).code == 354
    return replies, await client.content(message())


async def failing(world: World, record: str = REJECT) -> int:
    """Mail that fails DMARC, and Carol, whose domain files it as junk; returns her account."""
    await policy(world, record)
    await world.mx.set("dmarc.on_reject", "junk", THERE)
    return await world.mx.account(CAROL)


def test_what_a_domain_may_set_is_what_judges_a_message_as_a_whole() -> None:
    assert {SpfSettings, DmarcSettings, SenderSettings} == set(WHOLE)


async def test_a_domain_decides_for_its_own_recipients(mx_both: Mx) -> None:
    mx = mx_both
    async with checking(mx) as world, mx.connect() as client:
        carol = await failing(world)
        _, refused = await bring(client, BOB)
        _, taken = await bring(client, CAROL)
        assert (refused.code, taken.code) == (550, 250)
        assert (await mx.refusal(refused))["verdicts"][-1]["set at"] == "default"
        (content,) = await mx.content(carol, "junk")
        kept = await world.record()
        assert not await mx.content(world.bob)
    assert kept["verdicts"][-1]["setting"] == "dmarc.on_reject"
    assert kept["verdicts"][-1]["set at"] == f"domain:{OTHER}"
    assert b"dis=quarantine" in content.replace(b"\r\n ", b" ")


async def test_domains_that_decide_differently_do_not_share_a_message(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        carol = await failing(world)
        await mx.account(DAVE)
        replies, end = await bring(client, BOB, CAROL, DAVE)
        assert [each.code for each in replies] == [250, 452, 250]
        assert str(replies[1].status) == "4.5.3"
        assert "Bring this recipient in the next transaction" in replies[1].text
        assert end.code == 550  # of those who were taken, all refuse it
        story = await mx.refusal(replies[1])
        assert story["verdicts"][-1]["why"] == (
            f"{OTHER} makes something else of doubtful mail than {DOMAIN}"
        )
        # What a sender does with 452: he brings the rest.
        replies, end = await bring(client, CAROL)
        assert (replies[0].code, end.code) == (250, 250)
        assert await mx.count(carol, "junk") == 1
        assert not await mx.content(world.bob)


async def test_domains_that_decide_alike_share_a_message(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        carol = await failing(world)
        await mx.set("dmarc.on_reject", "junk", Place(Scope.DOMAIN, DOMAIN))
        replies, end = await bring(client, BOB, CAROL)
        assert [*(each.code for each in replies), end.code] == [250, 250, 250]
        assert [await mx.count(each, "junk") for each in (world.bob, carol)] == [1, 1]


async def test_the_owner_of_the_domain_is_told_what_was_done_with_each(mx: Mx) -> None:
    """RFC 9990 §3.1.1.9: the disposition, not the wish."""
    async with checking(mx) as world, mx.connect() as client:
        await failing(world, f"{REJECT}; rua=mailto:d@elsewhere.example")
        await bring(client, BOB)
        await bring(client, CAROL)
        seen = {each.disposition: each.override for each, _ in await told(mx)}
    assert seen == {"reject": "", "quarantine": "local_policy"}


async def test_an_entry_of_one_domain_exempts_nobody_elsewhere(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await policy(world, REJECT)
        carol = await mx.account(CAROL)
        await mx.set("dmarc.exempt", ("127.0.0.0/8",), THERE)
        assert (await bring(client, BOB))[1].code == 550
        assert (await bring(client, CAROL))[1].code == 250
        assert await mx.count(carol) == 1


async def test_what_spf_disowns_is_refused_for_the_domain_that_wants_it(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        world.policy("v=spf1 -all", "evil.example")
        await mx.account(CAROL)
        await mx.set("spf.on_fail", "refuse", THERE)
        replies, end = await bring(client, BOB, CAROL)
        assert [*(each.code for each in replies), end.code] == [250, 452, 250]
        _, end = await bring(client, CAROL)
        assert (end.code, str(end.status)) == (550, "5.7.23")


async def test_lines_of_the_sender_policy_are_those_of_the_domain(mx: Mx) -> None:
    lines = ("spf=none tag Strange", "spf=none quarantine")
    async with checking(mx) as world, mx.connect() as client:
        carol = await mx.account(CAROL)
        await mx.set("sender.rules", ("spf=none refuse",))
        await mx.set("sender.rules", lines, THERE)
        replies, end = await bring(client, BOB, CAROL)
        assert [*(each.code for each in replies), end.code] == [250, 452, 550]
        assert (await mx.refusal(end))["verdicts"][-1]["set at"] == "server"
        _, end = await bring(client, CAROL)
        assert end.code == 250
        assert not await mx.content(carol)
        (held,) = await mx.waiting()
        assert held.address == CAROL
        kept = await world.record()
        assert [each["set at"] for each in kept["verdicts"]] == [f"domain:{OTHER}"] * 2


async def test_a_mark_of_the_lines_of_a_domain_is_set_by_nobody_else(mx: Mx) -> None:
    async with checking(mx), mx.connect() as client:
        carol = await mx.account(CAROL)
        await mx.set("sender.rules", ('spf=pass tag "X-Vouched: yes"',), THERE)
        forged = message(fields=b"X-Vouched: yes\r\n")
        assert (await client.deliver(ME, [CAROL], forged)).accepted
        (content,) = await mx.content(carol)
        assert b"X-Vouched" not in content


async def test_who_is_approved_by_one_domain_is_not_by_another(mx: Mx) -> None:
    async with checking(mx) as world, mx.connect() as client:
        carol = await failing(world)
        world.policy("v=spf1 ip4:127.0.0.0/8 -all", "evil.example")
        await mx.set("sender.rules", ("dkim=none refuse",))
        await mx.set("sender.approved", ("spf:evil.example",), THERE)
        await client.ask("MAIL FROM:<x@evil.example>")
        assert [(await client.ask(f"RCPT TO:<{each}>")).code for each in (CAROL, BOB)] == [250, 452]
        await client.ask("DATA")
        assert (await client.content(message())).code == 250
        assert await mx.count(carol) == 1


async def test_where_nobody_is_doubted_nobody_is_put_off(doors: Doors) -> None:
    mx = doors.mx
    async with checking(mx):
        await mx.account(CAROL)
        await mx.set("dmarc.on_reject", "junk", THERE)
        async with doors.local() as client:
            await client.ask(f"MAIL FROM:<{ME}>")
            for each in (BOB, CAROL):
                assert (await client.ask(f"RCPT TO:<{each}>")).code == 250
