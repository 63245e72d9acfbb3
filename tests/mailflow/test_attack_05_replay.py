"""Attack class 5, replay: one signed message brought again and again, by whoever has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.admin.explain import Now, story
from postroom.core.clock import Instant
from postroom.core.errors import Malformed, StoreFailed
from postroom.domain import copies as counted
from postroom.domain.copies import HOUR
from postroom.domain.facts import ReplayFact
from postroom.mailflow import upkeep
from postroom.mailflow.copies import Copies
from postroom.mailflow.sender.evidence import recorded, supposed
from postroom.mailflow.sender.language import canonical
from postroom.store.units import Database
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply
from tests.mailflow.doors import Doors
from tests.mailflow.serving import DOMAIN, OTHER, Mx
from tests.mailflow.test_dkim import BOB, STRANGER, dns
from tests.mailflow.test_sender_policy import kept_flags
from tests.stores import Stores
from tests.trust import signed
from tests.trust.zones import Dns

__all__ = ["dns"]

ONE = signed.other()
ANOTHER = signed.other(signed.MESSAGE + b"P.S. Bring bread.\r\n")
LIST = signed.other(
    b"List-Id: <eaters.a.example>\r\n" + signed.MESSAGE, signed=("from", "to", "list-id")
)
T0 = 490_000 * HOUR


async def bring(client: SmtpClient, content: bytes = ONE, sender: str = STRANGER) -> Reply:
    done = await client.deliver(sender, [BOB], content)
    assert done.end is not None
    return done.end


async def codes(mx: Mx, *contents: bytes) -> list[int]:
    async with mx.connect() as client:
        return [(await bring(client, each)).code for each in contents]


def times(record: Mapping[str, Any]) -> int | None:
    found = record["facts"].get("replay")
    return found["copies"] if found is not None else None


# --- what is counted ------------------------------------------------------------------------------


async def test_each_copy_is_told_in_its_trace(mx: Mx, dns: Dns) -> None:
    await mx.account(BOB)
    assert await codes(mx, ONE, ONE, ANOTHER, ONE) == [250] * 4
    records = await mx.traces()
    assert sorted(times(each) or 0 for each in records) == [1, 1, 2, 3]
    (third,) = [each for each in records if times(each) == 3]
    assert third["facts"]["replay"] == {"copies": 3, "domain": "a.example", "of_list": False}
    told = "What a.example signed came 3 times within the hour, this one included."
    assert told in story(third, Now())
    # So that `sender test --message` says what lines would have made of it.
    assert recorded(third["facts"]).get(ReplayFact) == ReplayFact(3, "a.example")


async def test_what_is_put_around_a_copy_hides_it_not(mx: Mx, dns: Dns) -> None:
    await mx.account(BOB)
    await mx.set("replay.refuse_at", 4)
    at = ONE.index(b"; b=") + 20
    assert await codes(
        mx,
        ONE,
        b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\nX-Note: 7\r\n" + ONE,
        ONE[:at] + b"\r\n " + ONE[at:],
        signed.ours(ONE),
    ) == [250, 250, 250, 550]


async def test_the_recipients_of_one_transaction_are_one_copy(mx: Mx, dns: Dns) -> None:
    others = [f"{name}@{OTHER}" for name in ("bob", "cid", "dan")]
    for each in (BOB, *others):
        await mx.account(each)
    async with mx.connect() as client:
        assert (await client.deliver(STRANGER, [BOB, *others], ONE)).accepted
        await bring(client)
    assert sorted(times(each) or 0 for each in await mx.traces()) == [1, 2]


@pytest.mark.parametrize("why", ("off", "unsigned", "changed", "domain", "network"))
async def test_what_nobody_counts_comes_as_often_as_it_likes(mx: Mx, dns: Dns, why: str) -> None:
    await mx.account(BOB)
    await mx.set("replay.refuse_at", 2)
    await mx.set("sender.rules", ("copies=2+ refuse",))
    if why == "off":
        await mx.set("replay.count", False)
    elif why == "domain":
        await mx.set("replay.exempt", ("example",))
    elif why == "network":
        await mx.set("replay.exempt", ("127.0.0.0/8",))
    content = {"unsigned": signed.MESSAGE, "changed": ONE + b"more\r\n"}.get(why, ONE)
    assert await codes(mx, *[content] * 4) == [250] * 4
    assert {times(each) for each in await mx.traces()} == {None}


async def test_who_signed_in_is_not_counted(doors: Doors, dns: Dns) -> None:
    await doors.mx.account(BOB)
    await doors.mx.set("replay.refuse_at", 2)
    letter = signed.other(
        signed.MESSAGE.replace(b"ann@a.example", f"ann@{DOMAIN}".encode()), tags={"d": "a.example"}
    )
    async with doors.signed_in() as client:
        for _ in range(3):
            assert (await client.deliver(f"ann@{DOMAIN}", [BOB], letter)).accepted
    assert {times(each) for each in await doors.mx.traces()} == {None}


async def test_a_store_that_says_nothing_costs_no_mail(
    mx: Mx, dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*given: object) -> None:
        raise StoreFailed(detail="the disk is gone")

    await mx.account(BOB)
    await mx.set("replay.refuse_at", 1)
    await mx.set("sender.rules", ("copies!=9+ refuse",))
    monkeypatch.setattr(Copies, "count", broken)
    assert await codes(mx, ONE) == [250]
    (record,) = await mx.traces()
    assert record["facts"]["unknown"] == ["replay"]


# --- what becomes of it ---------------------------------------------------------------------------


async def test_from_so_many_on_copies_are_refused(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    await mx.set("replay.refuse_at", 3)
    assert await codes(mx, ONE, ONE, ONE, ANOTHER, ONE) == [250, 250, 550, 250, 550]
    assert len(await mx.content(bob)) == 3
    async with mx.connect() as client:
        end = await bring(client)
    record = await mx.refusal(end)
    assert str(end.status) == "5.7.1" and end.text.startswith("This very message was sent too")
    verdict = record["verdicts"][-1]
    assert (verdict["rule"], verdict["setting"]) == ("replay_refused", "replay.refuse_at")
    assert verdict["why"] == "the message that a.example signed came 5 times within an hour"


async def test_copies_that_are_put_off_are_taken_in_the_hours_that_follow(mx: Mx, dns: Dns) -> None:
    """Who tries again is not counted for it."""
    await mx.account(BOB)
    await mx.set("replay.defer_at", 4)
    assert await codes(mx, *[ONE] * 6) == [250, 250, 250, 451, 451, 451]
    mx.clock.advance(3600 + 1200)
    assert await codes(mx, *[ONE] * 3) == [250, 451, 451]  # two thirds of that hour still count
    mx.clock.advance(2 * 3600)
    assert await codes(mx, *[ONE] * 4) == [250, 250, 250, 451]


async def test_copies_go_to_junk_and_are_marked(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    await mx.set("replay.tag_at", 2)
    await mx.set("replay.junk_at", 3)
    assert await codes(mx, ONE, ONE, ONE) == [250, 250, 250]
    assert await mx.count(bob) == 2
    assert "$Replayed" in await mx.house.mail.read(kept_flags, bob, "junk")


async def test_a_list_may_write_to_each_of_its_readers(mx: Mx, dns: Dns) -> None:
    await mx.account(BOB)
    await mx.set("replay.refuse_at", 2)
    await mx.set("replay.list_times", 2)
    assert await codes(mx, *[LIST] * 4) == [250, 250, 250, 550]
    claimed = b"List-Id: <eaters.a.example>\r\n" + ONE
    assert await codes(mx, claimed, claimed) == [250, 550]


async def test_who_is_approved_or_accepted_by_a_line_is_not_asked(mx: Mx, dns: Dns) -> None:
    await mx.account(BOB)
    await mx.set("replay.refuse_at", 2)
    await mx.set("sender.approved", ("dkim:a.example",))
    assert await codes(mx, ONE, ONE) == [250, 250]
    await mx.set("sender.approved", None)
    await mx.set("sender.rules", ("signer=a.example copies!=5+ accept",))
    assert await codes(mx, *[ONE] * 3) == [250, 250, 550]


async def test_lines_may_ask_for_copies_in_any_combination(mx: Mx, dns: Dns) -> None:
    bob = await mx.account(BOB)
    await mx.set("sender.rules", ("copies=2+ score 3", "copies=3+ dkim=pass junk"))
    assert await codes(mx, ONE, ONE, ONE) == [250] * 3
    assert await mx.count(bob) == 2
    (filed,) = await mx.content(bob, "junk")
    assert b"X-Postroom-Sender-Score: 3 (line 1)" in filed


@pytest.mark.parametrize("text", ("copies=50", "copies=0+", "copies=-1+", "copies=many", "copies="))
def test_a_number_of_copies_is_written_with_a_plus(text: str) -> None:
    with pytest.raises(Malformed):
        canonical(f"{text} junk")
    assert canonical("COPIES=50+|70+  Junk") == "copies=50+|70+ junk"
    assert supposed(["copies=50+"]).copies == 50


# --- who counts -----------------------------------------------------------------------------------


def at(seconds: float) -> Instant:
    return Instant(int(T0 + seconds * 1000))


async def rows(state: Database, since: int = 0) -> dict[tuple[int, int], int]:
    return await state.read(counted.of, tuple(range(1, 200)), since)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(5):
        while not await true():
            await asyncio.sleep(0.005)


async def test_workers_agree(stores: Stores) -> None:
    """Each tells the others from its second copy on: they differ by one for each worker."""
    state = stores.state
    workers = [Copies() for _ in range(3)]
    for n in range(30):
        workers[n % 3].note(state, (7,), at(n))
    for each in workers:
        each.flush(state)
    await until(lambda: _has(state, {(7, T0 // HOUR): 30}))
    assert [await each.count(state, (7, 8), at(40)) for each in workers] == [((7, 31), (8, 1))] * 3
    fresh = Copies()  # of a worker that began just now
    assert await fresh.count(state, (7,), at(40)) == ((7, 31),)


async def _has(state: Database, expected: dict[tuple[int, int], int]) -> bool:
    return await rows(state) == expected


async def test_what_came_once_costs_the_store_nothing(stores: Stores) -> None:
    state = stores.state
    one = Copies()
    one.note(state, tuple(range(1, 100)), at(0))
    one.note(state, (5,), at(1))
    one.flush(state)
    await until(lambda: _has(state, {(5, T0 // HOUR): 2}))


async def test_a_flood_of_signatures_neither_fills_memory_nor_the_table(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.mailflow.copies.MOST", 50)
    monkeypatch.setattr("postroom.mailflow.copies.AN_HOUR", 3)
    state = stores.state
    one = Copies()
    for n in range(1, 101):
        one.note(state, (n,), at(0))
        one.note(state, (n,), at(1))
    assert len(one._seen) == 50
    one.flush(state)
    hour = T0 // HOUR
    await until(lambda: _has(state, {(1, hour): 2, (2, hour): 2, (3, hour): 2}))
    # Those beyond the bound are counted here alone, and in the next hour there is room again.
    assert await one.count(state, (100,), at(2)) == ((100, 3),)
    one.note(state, (100,), at(3600))
    one.flush(state)
    await until(
        lambda: _has(
            state, {(n, hour): 2 for n in (1, 2, 3)} | {(100, hour): 2, (100, hour + 1): 1}
        )
    )


@given(st.lists(st.integers(0, 4 * 3600), max_size=40), st.integers(0, 4 * 3600))
@settings(max_examples=60, deadline=None)
async def test_the_hour_slides(moments: list[int], now: int) -> None:
    """Never less than came in this hour of the clock, never more than in this one and the last."""
    one, state = Copies(), cast("Database", _Nothing())
    came = sorted(each for each in moments if each <= now)
    for each in came:
        one.note(state, (7,), at(each))
    ((_, found),) = await one.count(state, (7,), at(now))
    least = sum(each // 3600 == now // 3600 for each in came) + 1
    most = sum(each // 3600 >= now // 3600 - 1 for each in came) + 1
    assert least <= found <= most
    _end(one)


def _end(copies: Copies) -> None:
    copies.flush(cast("Database", _Nothing()))


class _Nothing:
    """A store that has nothing and keeps nothing."""

    async def read(self, *asked: object) -> dict[tuple[int, int], int]:
        return {}

    def note(self, *told: object) -> None:
        """Lost."""


async def test_an_even_stream_is_counted_rightly() -> None:
    one, state = Copies(), cast("Database", _Nothing())
    for second in range(0, 3 * 3600, 60):
        one.note(state, (7,), at(second))
        if second >= 3600:
            ((_, found),) = await one.count(state, (7,), at(second))
            assert abs(found - 1 - 60) <= 2
    _end(one)


async def test_what_is_old_is_forgotten(mx: Mx, dns: Dns) -> None:
    await mx.account(BOB)
    await codes(mx, ONE, ONE)
    mx.house.copies.flush(mx.house.state)
    hour = counted.hour_of(mx.clock.now())

    async def there() -> bool:
        return bool(await mx.house.state.read(counted.of, (await _mark(),), 0))

    await until(there)
    await upkeep.forget_copies(mx.house)
    assert await there()
    mx.clock.advance(2 * 3600)
    assert counted.hour_of(mx.clock.now()) == hour + 2
    assert await upkeep.forget_copies(mx.house)
    assert not await there()
    assert not await upkeep.forget_copies(mx.house)


async def _mark() -> int:
    (found,) = await signed.verify(ONE)
    return found.mark
