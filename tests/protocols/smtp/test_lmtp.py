"""LMTP over its socket: a reply for each recipient, each with a fate of its own. RFC 2033."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Sequence

import pytest

from postroom.core.errors import Status
from postroom.core.settings import Place, Scope
from postroom.mailflow.delivery import PLACEMENTS
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply, dot_stuff
from tests.mailflow.doors import ANN, Doors
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
FAR = "someone@far.example"
SENDER = "sender@elsewhere.example"
LARGE = message(body=(b"y" * 70 + b"\r\n") * 6_000)


def own(account: int) -> Place:
    return Place(Scope.ACCOUNT, str(account))


async def begin(client: SmtpClient, *to: str, sender: str = SENDER) -> None:
    await client.ask(f"MAIL FROM:<{sender}>", 250)
    for each in to:
        await client.ask(f"RCPT TO:<{each}>", 250)


async def deliver(
    client: SmtpClient, content: bytes, *to: str, how: str = "data", sender: str = SENDER
) -> list[Reply]:
    """One message; the replies at its end, one for each recipient."""
    await begin(client, *to, sender=sender)
    if how == "data":
        await client.ask("DATA", 354)
        await client.send(b"".join(dot_stuff([content])))
    else:
        await client.send(b"BDAT %d LAST\r\n%b" % (len(content), content))
    replies = await client.replies(len(to))
    await client.ask("NOOP", 250)  # and not one more
    return replies


def codes(replies: Sequence[Reply]) -> list[tuple[int, str]]:
    return [(reply.code, str(reply.status)) for reply in replies]


OK, FULL = (250, "2.0.0"), (452, "4.2.2")


@pytest.mark.parametrize("greeting", ["EHLO x.example", "HELO x.example"])
async def test_lhlo_alone_is_a_greeting(doors: Doors, greeting: str) -> None:
    async with doors.local(hello="") as client:
        refused = await client.ask(greeting, 500)
        assert refused.status == Status(5, 5, 1)
        await client.ask(f"MAIL FROM:<{SENDER}>", 503)
        await client.ask("LHLO x.example", 250)
        await client.ask(f"MAIL FROM:<{SENDER}>", 250)


@pytest.mark.parametrize("how", ["data", "bdat"])
async def test_each_recipient_is_answered_in_order_doubles_too(doors: Doors, how: str) -> None:
    mx = doors.mx
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    await mx.alias(f"both@{DOMAIN}", BOB)
    await mx.alias(f"both@{DOMAIN}", EVE)
    async with doors.local() as client:
        to = (BOB, EVE, BOB, f"both@{DOMAIN}", BOB.upper())
        replies = await deliver(client, message(), *to, how=how)
        assert codes(replies) == [OK] * 5
    assert (await mx.count(bob), await mx.count(eve)) == (1, 1)
    (stored,) = await mx.content(bob)
    assert stored.startswith(b"Return-Path: <sender@elsewhere.example>\r\nReceived: from filter")
    assert b" with LMTP id r" in stored.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
    assert stored.endswith(message())


@pytest.mark.parametrize("how", ["data", "bdat"])
@pytest.mark.parametrize("content", [message(), LARGE])
async def test_who_is_full_is_told_and_the_others_have_it(
    doors_both: Doors, how: str, content: bytes
) -> None:
    """RFC 2033 §4.2: nothing waits here for what its sender brings again."""
    doors, mx = doors_both, doors_both.mx
    bob, eve, joe = [await mx.account(each) for each in (BOB, EVE, f"joe@{DOMAIN}")]
    await mx.set("quota.octets", 100, own(bob))
    await mx.set("quota.octets", 100, own(joe))
    async with doors.local() as client:
        replies = await deliver(client, content, BOB, EVE, BOB, f"joe@{DOMAIN}", EVE, how=how)
        assert codes(replies) == [FULL, OK, FULL, FULL, OK]
        assert [await mx.count(each) for each in (bob, eve, joe)] == [0, 1, 0]
        assert not await mx.waiting()
        # Each refusal is explained by itself, and the message's own trace names them.
        record = await mx.refusal(replies[0])
        assert record["recipient"] == BOB
        told = record["verdicts"][-1]
        assert (told["rule"], told["setting"]) == ("room", "quota.octets")
        assert told["set at"] == str(own(bob))
        whole = await mx.delivered("<1@elsewhere.example>")
        assert [each["to"] for each in whole["delivered"]] == [EVE]
        assert {each["address"] for each in whole["refused"]} == {BOB, f"joe@{DOMAIN}"}
        assert whole["id"] in replies[1].text
        # It comes again when there is room.
        await mx.set("quota.octets", None, own(bob))
        again = message(message_id="<2@elsewhere.example>")
        assert codes(await deliver(client, again, BOB)) == [OK]
    assert await mx.count(bob) == 1


@pytest.mark.parametrize("content", [message(), LARGE])
async def test_if_all_are_full_all_are_told_and_nothing_is_kept(
    doors_both: Doors, content: bytes
) -> None:
    doors, mx = doors_both, doors_both.mx
    for each in (BOB, EVE):
        await mx.set("quota.octets", 100, own(await mx.account(each)))
    async with doors.local() as client:
        replies = await deliver(client, content, BOB, EVE)
        assert codes(replies) == [FULL, FULL]
        for reply, address in zip(replies, (BOB, EVE), strict=True):
            assert (await mx.refusal(reply))["recipient"] == address
    assert not await mx.waiting()
    assert not await mx.traces()
    assert not mx.files()


async def test_a_recipient_of_whom_some_accounts_have_room_is_taken_for_all(doors: Doors) -> None:
    """One reply for an alias: those who have it must not get it again, so the rest waits here."""
    mx = doors.mx
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    await mx.alias(f"both@{DOMAIN}", BOB)
    await mx.alias(f"both@{DOMAIN}", EVE)
    await mx.set("quota.octets", 100, own(bob))
    async with doors.local() as client:
        assert codes(await deliver(client, message(), f"both@{DOMAIN}", BOB)) == [OK, OK]
        assert [row.address for row in await mx.waiting()] == [BOB]
        # Said first by his own address, he is answered for himself.
        again = message(message_id="<2@elsewhere.example>")
        assert codes(await deliver(client, again, BOB, f"both@{DOMAIN}")) == [FULL, OK]
    assert len(await mx.waiting()) == 1
    assert (await mx.count(bob), await mx.count(eve)) == (0, 2)


async def test_an_alias_to_elsewhere_is_passed_on_and_a_stranger_s_address_is_not(
    doors: Doors,
) -> None:
    """No relay for programs either: attack class 14."""
    mx = doors.mx
    bob = await mx.account(BOB)
    await mx.set("quota.octets", 100, own(bob))
    await mx.alias(f"away@{DOMAIN}", FAR)
    async with doors.local() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        refused = await client.ask(f"RCPT TO:<{FAR}>", 550)
        assert refused.status == Status(5, 7, 1)
        await client.ask("RSET", 250)
        assert codes(await deliver(client, message(), f"away@{DOMAIN}", BOB)) == [OK, FULL]
    ((row, there),) = await doors.outgoing()
    assert row.address == FAR and there.endswith(message())


async def test_unknown_recipients_are_refused_one_by_one(doors: Doors) -> None:
    bob = await doors.mx.account(BOB)
    async with doors.local() as client:
        await client.ask(f"MAIL FROM:<{SENDER}>", 250)
        for to, code in ((f"no@{DOMAIN}", 550), (BOB, 250), (f"nor@{DOMAIN}", 550), (FAR, 550)):
            await client.ask(f"RCPT TO:<{to}>", code)
        await client.ask("DATA", 354)
        await client.send(message() + b".\r\n")
        assert codes(await client.replies(1)) == [OK]
        await client.ask("NOOP", 250)
    assert await doors.mx.count(bob) == 1


async def test_without_recipients_data_is_503(doors: Doors) -> None:
    """RFC 2033 §4.2; and BDAT's octets are gone before it."""
    async with doors.local() as client:
        await client.ask(f"MAIL FROM:<{SENDER}>", 250)
        await client.ask(f"RCPT TO:<no@{DOMAIN}>", 550)
        await client.ask("DATA", 503)
        await client.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert (await client.reply()).code == 503
        await client.ask("NOOP", 250)


@pytest.mark.parametrize("sender", [ANN, f"nobody@{DOMAIN}", "", SENDER])
async def test_a_sender_of_ours_needs_no_sign_in(doors: Doors, sender: str) -> None:
    """Who may open the socket is decided by its mode."""
    bob = await doors.mx.account(BOB)
    async with doors.local() as client:
        assert codes(await deliver(client, message(), BOB, sender=sender)) == [OK]
    assert await doors.mx.count(bob) == 1


@pytest.mark.parametrize("bad", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n"])
async def test_a_refused_content_is_refused_for_each(doors: Doors, bad: bytes) -> None:
    await doors.mx.account(BOB)
    await doors.mx.account(EVE)
    async with doors.local() as client:
        replies = await deliver(client, message(body=bad), BOB, EVE, BOB, how="bdat")
        assert codes(replies) == [(554, "5.6.0")] * 3
        assert codes(await deliver(client, message(), BOB)) == [OK]


async def test_all_of_a_large_crowd_are_answered(doors: Doors) -> None:
    """Beyond what one unit places they wait in the queue, which is theirs from then on."""
    mx = doors.mx
    count = PLACEMENTS + 5
    everybody = [await mx.account(f"p{n}@{DOMAIN}") for n in range(count)]
    await mx.set("quota.octets", 100, own(everybody[3]))
    async with doors.local() as client:
        replies = await deliver(client, message(), *(f"p{n}@{DOMAIN}" for n in range(count)))
    assert codes(replies) == [OK] * 3 + [FULL] + [OK] * (count - 4)
    assert len(await mx.waiting()) == 5
    await mx.queue().round()
    assert [await mx.count(each) for each in everybody] == [1] * 3 + [0] + [1] * (count - 4)


async def test_chunks_before_the_last_have_one_reply_each(doors: Doors) -> None:
    """RFC 2033 §4.2 speaks of the end of the message."""
    for each in (BOB, EVE):
        await doors.mx.account(each)
    async with doors.local() as client:
        await begin(client, BOB, EVE)
        await client.send(b"BDAT 14\r\nSubject: x\r\n\r\nBDAT 4\r\nHi\r\nBDAT 0 LAST\r\n")
        replies = await client.replies(4)
        assert [reply.code for reply in replies] == [250] * 4
        assert "octets" in replies[1].text and "accepted" in replies[2].text
        await client.ask("NOOP", 250)


async def test_smtplib_delivers_over_the_socket(doors: Doors) -> None:
    mx = doors.mx
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    await mx.set("quota.octets", 100, own(eve))

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.LMTP(doors.path, local_hostname="filter.example") as client:
            refused: dict[str, tuple[int, bytes]] = client.sendmail(SENDER, [BOB], message())
            return refused

    assert await asyncio.to_thread(send) == {}
    assert await mx.count(bob) == 1


async def test_several_messages_in_one_session_and_a_greeting_between(mx: Mx, doors: Doors) -> None:
    bob = await mx.account(BOB)
    async with doors.local() as client:
        for _ in range(3):
            assert codes(await deliver(client, message(), BOB)) == [OK]
            await begin(client, BOB)
            await client.ask("LHLO again.example", 250)
    assert await mx.count(bob) == 3
