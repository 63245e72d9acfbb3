"""Who has to wait: the local queue, quotas, and what becomes of both."""

from __future__ import annotations

import asyncio

import pytest

from postroom.core.errors import OverQuota, Status
from postroom.core.settings import SERVER, Place, Scope
from postroom.domain import queue
from postroom.domain.queue import LOCAL
from postroom.mailflow.delivery import PLACEMENTS
from postroom.mailflow.localqueue import LocalQueue
from postroom.mailflow.queueing import LEASE_SECONDS
from postroom.store.sql import Tx, sql
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
ANN = "ann@elsewhere.example"
BIG = message(body=b"x" * 70 + b"\r\n", message_id="<big@x.example>") + b"y" * 4_000 + b"\r\n"


def own(account: int) -> Place:
    return Place(Scope.ACCOUNT, str(account))


async def _fill(mx: Mx, account: int) -> None:
    """Leave no room in the account."""
    octets, _ = await mx.usage(account)
    await mx.set("quota.octets", max(1, octets), own(account))


# --- many recipients ----------------------------------------------------------------------------


async def test_of_120_recipients_50_are_placed_at_once_and_the_rest_by_the_queue(
    mx_both: Mx,
) -> None:
    mx = mx_both
    staff = [await mx.account(f"p{n:03}@{DOMAIN}") for n in range(120)]
    async with mx.connect() as client:
        done = await client.deliver(ANN, [f"p{n:03}@{DOMAIN}" for n in range(120)], message())
    assert done.accepted
    counts = [await mx.count(account) for account in staff]
    assert counts == [1] * PLACEMENTS + [0] * 70
    assert len(await mx.waiting()) == 70
    record = await mx.delivered("<1@elsewhere.example>")
    assert len(record["delivered"]) == PLACEMENTS and len(record["queued"]) == 70
    assert record["queued"][0]["to"] == f"p{PLACEMENTS:03}@{DOMAIN}"

    runner = mx.queue()
    assert await runner.round() is False
    assert [await mx.count(account) for account in staff] == [1] * 120
    assert (runner.delivered, runner.failed) == (70, 0)
    assert not await mx.waiting()
    assert (await mx.content(staff[0]))[0] == (await mx.content(staff[119]))[0]
    await runner.round()
    assert await mx.count(staff[119]) == 1  # exactly once


async def test_two_runners_share_nothing_and_deliver_once(mx_both: Mx) -> None:
    mx = mx_both
    staff = [await mx.account(f"p{n:03}@{DOMAIN}") for n in range(90)]
    async with mx.connect() as client:
        await client.deliver(ANN, [f"p{n:03}@{DOMAIN}" for n in range(90)], message())
    runners = [LocalQueue(mx.house, n) for n in (1, 2, 3)]
    await asyncio.gather(*(runner.round() for runner in runners))
    for runner in runners:
        await runner.round()
    assert sum(runner.delivered for runner in runners) == 40
    assert [await mx.count(account) for account in staff] == [1] * 90


async def test_a_runner_that_lost_its_lease_places_nothing(mx_both: Mx) -> None:
    """A worker that was thought dead wakes up: its fence is old, and its unit is refused."""
    mx = mx_both
    staff = [await mx.account(f"p{n:03}@{DOMAIN}") for n in range(60)]
    async with mx.connect() as client:
        await client.deliver(ANN, [f"p{n:03}@{DOMAIN}" for n in range(60)], message())
    now = mx.clock.now()
    lease = await mx.house.mail.write(queue.lease, LOCAL, 1, now, LEASE_SECONDS)
    assert lease is not None
    old = await mx.house.mail.read(queue.due, lease, now, 100)
    mx.clock.advance(LEASE_SECONDS + 1)
    taken = LocalQueue(mx.house, 2)
    await taken.round()
    assert taken.delivered == 10
    with pytest.raises(queue.LostLease):
        await LocalQueue(mx.house, 1)._message(lease, old)
    assert [await mx.count(account) for account in staff] == [1] * 60


# --- quotas -------------------------------------------------------------------------------------


async def test_a_full_account_is_refused_at_rcpt_with_452(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        await _fill(mx, bob)
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=1", 250)
        refused = await client.ask(f"RCPT TO:<{BOB}>", 452)
        assert refused.status == Status(4, 2, 2)


@pytest.mark.parametrize("quota", ["quota.octets", "quota.messages"])
@pytest.mark.parametrize("place", ["server", "domain", "account"])
async def test_a_full_account_s_trace_names_the_quota_and_where_it_is_set(
    mx: Mx, quota: str, place: str
) -> None:
    bob = await mx.account(BOB)
    at = {"server": SERVER, "domain": Place(Scope.DOMAIN, DOMAIN), "account": own(bob)}[place]
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], message())).accepted
        await mx.set(quota, 1, at)
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=1", 250)
        refused = await client.ask(f"RCPT TO:<{BOB}>", 452)
        told = (await mx.refusal(refused))["verdicts"][-1]
        assert (told["rule"], told["setting"], told["set at"]) == ("room", quota, str(at))


async def test_all_over_quota_by_the_unit_s_count_is_452_and_nothing_is_kept(mx_both: Mx) -> None:
    """RCPT knew no size: the unit looks again."""
    mx = mx_both
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    for account in (bob, eve):
        await mx.set("quota.octets", 2_000, own(account))
    async with mx.connect() as client:
        done = await client.deliver(ANN, [BOB, EVE], BIG)
        assert done.end is not None
        assert (done.end.code, done.end.status) == (452, Status(4, 2, 2))
        told = (await mx.refusal(done.end))["verdicts"][-1]
        assert (told["rule"], told["setting"]) == ("room", "quota.octets")
        assert told["set at"] == str(own(bob))
        assert (await client.deliver(ANN, [BOB, EVE], message())).accepted
    assert (await mx.count(bob), await mx.count(eve)) == (1, 1)
    assert not await mx.waiting()
    assert len(await mx.traces()) == 1


async def test_a_large_message_that_finds_no_room_leaves_no_file(mx_both: Mx) -> None:
    mx = mx_both
    bob = await mx.account(BOB)
    await mx.set("quota.octets", 2_000, own(bob))
    async with mx.connect() as client:
        for _ in range(3):
            done = await client.deliver(ANN, [BOB], BIG + (b"z" * 70 + b"\r\n") * 6_000)
            assert done.end is not None and done.end.code == 452
    assert not mx.files()
    assert await mx.count(bob) == 0


async def test_one_over_quota_among_good_ones_waits_and_is_delivered_when_room_comes(
    mx_both: Mx,
) -> None:
    mx = mx_both
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    await mx.set("quota.octets", 2_000, own(eve))
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB, EVE], BIG)).accepted
    assert (await mx.count(bob), await mx.count(eve)) == (1, 0)
    (row,) = await mx.waiting()
    assert (row.address, row.attempts, row.last_reply) == (EVE, 1, OverQuota.sentence)
    record = await mx.delivered("<big@x.example>")
    assert record["waits"] == [{"to": EVE, "because": OverQuota.sentence}]

    runner = mx.queue()
    waited = []
    for minutes in (3, 15, 30, 60):
        await runner.round()  # too early: nothing is due
        due = (await mx.waiting())[0].due
        waited.append((due - mx.clock.now()) // 60_000)
        assert waited[-1] == minutes
        mx.clock.advance(minutes * 60)
        await runner.round()
    assert (runner.delivered, runner.failed) == (0, 4)
    assert (await mx.waiting())[0].attempts == 5

    await mx.set("quota.octets", 20_000, own(eve))
    mx.clock.advance(2 * 3600)
    await runner.round()
    assert runner.delivered == 1
    assert (await mx.content(eve))[0] == (await mx.content(bob))[0]
    assert not await mx.waiting()


async def test_a_recipient_whose_account_vanishes_while_he_waits_leaves_the_queue(
    mx: Mx,
) -> None:
    await mx.account(BOB)
    eve = await mx.account(EVE)
    await mx.set("quota.octets", 2_000, own(eve))
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB, EVE], BIG)).accepted
    await mx.house.mail.write(_vanish, eve)
    mx.clock.advance(180)
    runner = mx.queue()
    await runner.round()
    assert (runner.delivered, runner.failed) == (0, 1)
    assert not await mx.waiting()


def _vanish(tx: Tx, account: int) -> None:
    """As if the jobs that empty a deleted account had come to their end."""
    tx.run(sql("UPDATE queue_recipient SET account = 1 WHERE account = :account"), account=account)


async def test_a_message_that_cannot_be_read_keeps_no_other_waiting(mx: Mx) -> None:
    """The blob of the first one is damaged: it is put off, and the second is delivered."""
    await mx.account(BOB)
    eve = await mx.account(EVE)
    await mx.set("quota.octets", 2_000, own(eve))
    damaged = BIG + (b"z" * 70 + b"\r\n") * 6_000
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB, EVE], damaged)).accepted
        assert (await client.deliver(ANN, [BOB, EVE], BIG)).accepted
    for path in mx.files():
        mx.house.blobs.files.unlink(path)
    await mx.set("quota.octets", None, own(eve))
    mx.clock.advance(180)
    runner = mx.queue()
    await runner.round()
    assert (runner.delivered, runner.failed) == (1, 1)
    assert await mx.count(eve) == 1
    (row,) = await mx.waiting()
    assert (row.attempts, row.due) == (2, mx.clock.now() + 15 * 60_000)


async def test_the_runner_lives_on_after_a_round_that_broke(
    mx: Mx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.mailflow.queueing.REST", 0.01)
    runner = mx.queue()
    rounds = 0

    async def broken() -> bool:
        nonlocal rounds
        rounds += 1
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(runner.loop, "_round", broken)
    task = asyncio.create_task(runner.loop.run())
    await mx.settled(lambda: rounds >= 3)
    assert not task.done()
    task.cancel()


async def test_the_runner_delivers_by_itself_when_it_is_woken(mx: Mx) -> None:
    staff = [await mx.account(f"p{n:03}@{DOMAIN}") for n in range(60)]
    runner = mx.queue()
    task = asyncio.create_task(runner.loop.run())
    try:
        await asyncio.sleep(0.05)
        async with mx.connect() as client:
            await client.deliver(ANN, [f"p{n:03}@{DOMAIN}" for n in range(60)], message())
        runner.loop.wake()
        await mx.settled(lambda: runner.delivered == 10)
    finally:
        task.cancel()
    assert [await mx.count(account) for account in staff] == [1] * 60
