"""The quarantine: taken, kept, in no mailbox and sent nowhere until an administrator decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from postroom.admin import AdminHouse, codec, perform
from postroom.admin.explain import Now, story
from postroom.admin.house import checker, named
from postroom.core.errors import NotFound, Status
from postroom.core.ids import TRACE, internal
from postroom.domain import queue, trace
from postroom.domain.mailboxes.reading import whereabouts
from postroom.domain.policy import Policy
from postroom.domain.queue import LOCAL, REMOTE, byhand
from postroom.domain.transit import Action, Facts, Recipient, Verdict
from postroom.formats import headers
from postroom.mailflow import quarantine, upkeep
from postroom.mailflow.delivery import PLACEMENTS
from postroom.mailflow.overdue import settle_overdue
from postroom.mailflow.phases import RCPT, Phases
from postroom.mailflow.queueing import take
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, Mx, message, serve
from tests.mailflow.test_authentication import ANN, BOB, checking
from tests.stores import open_mail

DAY = 24 * 3600
LINE = "spf=none quarantine"
FAR = "eve@far.example"


async def taken(mx: Mx, *to: str, sender: str = ANN) -> str:
    """A message that goes into quarantine; its trace id."""
    await mx.set("sender.rules", (LINE,))
    async with mx.connect() as client:
        done = await client.deliver(sender, list(to) or [BOB], message())
    assert done.accepted and done.end is not None
    (record, *_) = await mx.traces()
    assert record["id"] in done.end.text
    return str(record["id"])


async def do(mx: Mx, doors: Doors, operation: str, **asked: Any) -> Any:
    house = AdminHouse(mx.house, doors.authenticator, checker(mx.house))
    return await perform(house, operation, codec.decode(named(operation).input, asked), "")


async def told(mx: Mx, number: str) -> str:
    """The message's story, as `mail trace` tells it."""
    number_ = internal(TRACE, number)
    (record,) = [each for each in await mx.traces() if each["id"] == number]
    events = tuple([each for _, each in await mx.house.mail.read(trace.events, number_)])
    waits = tuple([each.recipient for each in await mx.house.mail.read(byhand.of_trace, number_)])
    return "\n".join(story(record, Now(waits=waits, happened=events)))


async def test_it_is_taken_and_waits_for_an_administrator(doors_both: Doors) -> None:
    mx = doors_both.mx
    async with checking(mx) as world:
        number = await taken(mx)
        runner = mx.queue()
        mx.clock.advance(6 * DAY)  # longer than mail is tried
        assert await runner.round() is False
        assert not await mx.content(world.bob)
        (line,) = await do(mx, doors_both, "queue list")
        assert (line.id, line.recipient, line.due, line.attempts) == (number, BOB, "quarantined", 0)
        assert line.reply == f"In quarantine by the rule sender_filed: line 1 holds: {LINE}"
        assert await do(mx, doors_both, "queue list", quarantined=True) == (line,)
        shown = (await do(mx, doors_both, "queue show", id=number)).told()
        assert "is deleted after 2026-01-31" in shown and "in quarantine" in shown
        read = await do(mx, doors_both, "queue read", id=number)
        assert read.text.startswith(f"Return-Path: <{ANN}>\r\n") and "Subject: Hello" in read.told()
        assert "Good morning" not in read.text
        assert (
            "Good morning." in (await do(mx, doors_both, "queue read", id=number, whole=True)).text
        )
        said = await told(mx, number)
    assert "was put into quarantine by the rule sender_filed: line 1 holds" in said
    assert "it was meant for INBOX, once it is let out of quarantine" in said
    assert "It is in quarantine until 2026-01-31" in said


async def test_what_is_let_go_is_delivered_as_it_would_have_been(doors_both: Doors) -> None:
    mx = doors_both.mx
    async with checking(mx) as world:
        await mx.set("spf.on_fail", "junk")
        world.policy("v=spf1 -all")
        await mx.set("sender.rules", ("spf=fail tag Doubtful", "spf=fail quarantine"))
        async with mx.connect() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted
        (record,) = await mx.traces()
        mx.clock.advance(29 * DAY)
        assert (await do(mx, doors_both, "queue release", id=record["id"])).recipients == 1
        (waits,) = await mx.waiting()
        assert (waits.held, waits.quarantined, waits.last_reply) == (False, False, "")
        assert waits.message.expires_at == mx.clock.now() + 5 * DAY * 1000
        await mx.queue().round()
        (content,) = await mx.content(world.bob, "junk")
        assert not await mx.waiting()
        (found,) = await mx.house.mail.read(_whereabouts, record["id"])
        said = await told(mx, record["id"])
    assert headers.scan(content).first(b"return-path") == f"<{ANN}>".encode()
    assert "Doubtful" in found.flags
    assert "an administrator let it out of quarantine" in said
    assert "it was put into the mailbox for junk" in said
    with pytest.raises(NotFound):
        await do(mx, doors_both, "queue release", id=record["id"])


def _whereabouts(tx: Any, number: str) -> Any:
    events = [each for _, each in trace.events(tx, internal(TRACE, number))]
    return whereabouts(tx, [each["message"] for each in events if "message" in each])


async def test_it_is_not_sent_on_before_it_is_let_go(doors_both: Doors) -> None:
    mx = doors_both.mx
    async with checking(mx) as world:
        await mx.alias(f"both@{DOMAIN}", BOB)
        await mx.alias(f"both@{DOMAIN}", FAR)
        with capture_logs() as said:
            number = await taken(mx, f"both@{DOMAIN}")
        (line,) = [each for each in said if each["event"] == "message accepted"]
        assert (line["queued"], line["relayed"], line["quarantined"]) == (1, 1, 2)
        now = mx.clock.now()
        for name in (LOCAL, REMOTE):
            assert not await mx.house.mail.read(queue.any_due, name, now)
        lines = await do(mx, doors_both, "queue list", quarantined=True)
        assert [(each.id, each.recipient) for each in lines] == [(number, BOB), (number, FAR)]
        assert (await do(mx, doors_both, "queue release", id=number)).recipients == 2
        for name in (LOCAL, REMOTE):
            assert await mx.house.mail.read(queue.any_due, name, now)
        await mx.queue().round()
        assert await mx.count(world.bob) == 1
        (waits,) = await mx.waiting()
        assert (waits.address, waits.held) == (FAR, False)


@pytest.mark.parametrize("setting", ("dmarc.on_reject", "dmarc.on_unclear_author", "spf.on_fail"))
async def test_what_a_domain_disowns_may_go_there_too(mx: Mx, setting: str) -> None:
    async with checking(mx) as world, mx.connect() as client:
        await mx.set(setting, "quarantine")
        world.policy("v=spf1 -all")
        if setting == "dmarc.on_reject":
            world.policy("v=DMARC1; p=reject", "_dmarc.elsewhere.example")
        more = b"From: eve@far.example\r\n" if setting == "dmarc.on_unclear_author" else b""
        assert (await client.deliver(ANN, [BOB], more + message())).accepted
        (waits,) = await mx.waiting()
        (record,) = await mx.traces()
    assert waits.quarantined
    assert [each["setting"] for each in record["verdicts"]] == [setting]


async def test_what_is_deleted_is_gone_without_a_word(doors_both: Doors) -> None:
    mx = doors_both.mx
    async with checking(mx) as world:
        number = await taken(mx)
        assert (await do(mx, doors_both, "queue delete", id=number)).recipients == 1
        await mx.queue().round()
        assert not await mx.waiting()
        assert not await mx.content(world.bob)


async def test_its_time_in_quarantine_ends_and_nobody_is_told(doors_both: Doors) -> None:
    mx = doors_both.mx
    async with checking(mx) as world:
        await mx.set("quarantine.days", 2)
        number = await taken(mx)
        mx.clock.advance(2 * DAY - 1)
        assert not await upkeep.end_quarantine(mx.house)
        assert len(await mx.waiting()) == 1
        mx.clock.advance(1)
        assert not await upkeep.end_quarantine(mx.house)
        assert not await mx.waiting()  # no notice waits either
        assert not await mx.content(world.bob)
        said = await told(mx, number)
    assert "it was dropped: its time in quarantine is over" in said


async def test_many_are_deleted_piece_by_piece(mx: Mx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "AT_ONCE", 2)
    async with checking(mx):
        for _ in range(3):
            await taken(mx)
        mx.clock.advance(31 * DAY)
        assert await upkeep.end_quarantine(mx.house)
        assert len(await mx.waiting()) == 1
        assert not await upkeep.end_quarantine(mx.house)
        assert not await mx.waiting()


async def test_what_is_let_go_just_then_is_not_deleted(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with checking(mx) as world:
        number = internal(TRACE, await taken(mx))
        mx.clock.advance(31 * DAY)
        read = mx.house.mail.read

        async def and_release(*asked: Any) -> Any:
            found = await read(*asked)
            monkeypatch.undo()
            assert await quarantine.release(mx.house, number) == 1
            return found

        monkeypatch.setattr(mx.house.mail, "read", and_release)
        assert not await quarantine.expire(mx.house)
        await mx.queue().round()
        assert await mx.count(world.bob) == 1


def one_is_doubtful(facts: Facts, policy: Policy, to: Recipient | None) -> Verdict | None:
    """A rule about one recipient alone."""
    if to is None or to.address.local != "bob":
        return None
    return Verdict("doubt", Action.QUARANTINE, Status(2, 0, 0), "Taken", "Bob is careful")


async def test_of_several_recipients_one_alone_may_be_kept_apart(tmp_path: Path) -> None:
    phases = Phases(rcpt=replace(RCPT, rules=(*RCPT.rules, one_is_doubtful)))
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with serve(tmp_path, mail, state, phases=phases) as mx, mx.connect() as client:
            await mx.account(BOB)
            staff = [f"p{n}@{DOMAIN}" for n in range(PLACEMENTS + 1)]
            for each in staff:
                await mx.account(each)
            assert (await client.deliver(ANN, [BOB, *staff], message())).accepted
            free, held = sorted(await mx.waiting(), key=lambda each: each.held)
            assert (free.address, free.quarantined) == (staff[-1], False)
            assert (held.address, held.quarantined) == (BOB, True)
            assert free.message.trace == held.message.trace
            assert free.message.expires_at < held.message.expires_at
            assert await mx.count(await mx.find(staff[PLACEMENTS - 1])) == 1
            await mx.queue().round()
            assert await mx.waiting() == [held]
            assert await quarantine.release(mx.house, held.message.trace) == 1
            await mx.queue().round()
            assert await mx.count(await mx.find(BOB)) == 1
    finally:
        await mail.close()
        await state.close()


async def test_a_held_message_neither_expires_nor_delays(mx: Mx) -> None:
    async with checking(mx):
        await taken(mx)
        await mx.set("sender.rules", ())
        for n in range(60):  # something else that is due leases the destination
            await mx.account(f"p{n}@{DOMAIN}")
        async with mx.connect() as client:
            await client.deliver(ANN, [f"p{n}@{DOMAIN}" for n in range(60)], message())
        mx.clock.advance(60 * DAY)
        lease = await take(mx.house, LOCAL, 1)
        assert lease is not None
        await settle_overdue(mx.house, lease)
        assert [each.quarantined for each in await mx.waiting() if each.account] == [True]


async def test_when_it_is_let_go_into_a_full_account_it_waits_as_all_mail_does(mx: Mx) -> None:
    async with checking(mx) as world:
        number = internal(TRACE, await taken(mx))
        await mx.set("quota.messages", 1)
        await mx.set("sender.rules", ())
        async with mx.connect() as client:
            assert (await client.deliver(ANN, [BOB], message())).accepted
        assert await quarantine.release(mx.house, number) == 1
        await mx.queue().round()
        (waits,) = await mx.waiting()
        assert (waits.attempts, waits.last_reply) == (1, "The mailbox is full")
        await mx.empty(world.bob)
        mx.clock.advance(3600)
        await mx.queue().round()
        assert await mx.count(world.bob) == 1


async def test_what_an_administrator_held_back_keeps_its_own_time(mx: Mx) -> None:
    async with checking(mx):
        staff = [f"p{n}@{DOMAIN}" for n in range(51)]
        for each in staff:
            await mx.account(each)
        async with mx.connect() as client:
            await client.deliver(ANN, staff, message())
        (waits,) = await mx.waiting()
        number = waits.message.trace
        await mx.house.mail.write(byhand.hold_back, number)
        mx.clock.advance(DAY)
        assert await quarantine.release(mx.house, number) == 1
        (again,) = await mx.waiting()
        assert again.message.expires_at == waits.message.expires_at
        events = await mx.house.mail.read(trace.events, number)
    assert not events
