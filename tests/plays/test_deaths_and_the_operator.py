"""Workers that die or fall behind, and an administrator who steps in while mail is on its way."""

from __future__ import annotations

import pytest

from postroom.testing.house import Ways
from postroom.testing.plays import Play

BOB = "bob@far.example"
CONTENT = ("DATA", "BDAT")


async def test_a_worker_killed_within_a_letter_leaves_it_to_the_next(on_both: Play) -> None:
    play = on_both
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.falls_silent("END", times=1)  # whether it came by DATA or by BDAT
    letter = await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: far.last_command in CONTENT)
    await house.kill_worker()
    house.hire()
    await play.town.settle()
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed", attempts=1)


async def test_what_a_worker_learns_after_its_lease_was_taken_over_counts_no_more(
    on_both: Play,
) -> None:
    """The fence: two have sent it, which SMTP cannot prevent; one of them tells what became."""
    play = on_both
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.on("END", slow=0.7, times=1)
    letter = await play.submits("ann@a.test", to=[BOB, "cid@far.example"], settles=False)
    await play.town.until(lambda: far.last_command in CONTENT)
    play.town.clock.advance(120)  # it was suspended, and nobody extended its lease
    second = house.hire()
    await play.town.until(lambda: len(far.messages) == 1)
    await play.town.settle()
    assert not second.busy
    assert len(far.messages) == 2
    await letter.became(BOB, "relayed")
    await letter.became("cid@far.example", "relayed")
    assert not await house.waiting()


async def test_a_worker_that_wakes_up_late_sends_nothing_more(play: Play) -> None:
    """What it had read before counts no more: the one who took over sends it."""
    house = await play.town.house("a.test", "ann")
    await house.set("relay.connections", 1)
    far = await play.town.server("far.example")
    await far.goes_down()
    for n in range(10):
        await play.submits("ann@a.test", to=f"p{n}@far.example")
    await far.comes_back()
    far.on("END", slow=0.5, times=1)
    play.town.clock.advance(4 * 60)
    house.workers[0].wake()
    await play.town.until(lambda: far.last_command in CONTENT)
    play.town.clock.advance(120)
    house.hire()
    await play.town.settle()
    assert len(far.mail_for) == 11  # the one in the middle twice
    assert len(set(far.mail_for)) == 10


# --- the administrator ------------------------------------------------------------------------


async def test_a_letter_that_is_held_is_not_tried_until_it_is_let_go(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await far.goes_down()
    letter = await play.submits("ann@a.test", to=BOB)
    await house.hold(letter.trace)
    await far.comes_back()
    await play.town.passes(days=10)
    assert not far.visits
    await play.receives_nothing("ann@a.test")  # it does not expire either
    await house.release(letter.trace)
    await play.town.settle()
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed")


@pytest.mark.parametrize("reply", ["250 2.0.0 taken", "450 4.2.0 Later", "550 5.7.1 No"])
async def test_a_letter_that_is_deleted_while_it_is_tried_is_gone(play: Play, reply: str) -> None:
    """Whatever the other server says: nobody is told, and nothing waits."""
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.on("END", slow=0.3, reply=reply)
    letter = await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: far.last_command in CONTENT)
    await house.delete(letter.trace)
    await play.town.settle()
    assert not await house.waiting()
    await play.receives_nothing("ann@a.test")
    await play.town.passes(hours=1)
    assert len(far.visits) == 1


@pytest.mark.parametrize("how", ["hold", "delete"])
async def test_what_is_held_or_deleted_before_its_turn_is_not_sent(play: Play, how: str) -> None:
    """Others are in front of it, and the worker has read it already."""
    house = await play.town.house("a.test", "ann")
    await house.set("relay.connections", 1)
    far = await play.town.server("far.example")
    await far.goes_down()
    first = await play.submits("ann@a.test", to=BOB)
    second = await play.submits("ann@a.test", to="cid@far.example")
    await play.town.passes(hours=1)  # both were tried: from here on they are due together
    await far.comes_back()
    far.on("END", slow=0.3, times=1)
    play.town.clock.advance(2 * 60 * 60)
    house.workers[0].wake()
    await play.town.until(lambda: far.last_command in CONTENT)
    await (house.hold if how == "hold" else house.delete)(second.trace)
    await play.town.settle()
    assert far.mail_for == [BOB]
    await first.became(BOB, "relayed")
    if how == "hold":
        await house.release(second.trace)
        await play.town.settle()
        assert far.mail_for == [BOB, "cid@far.example"]
    assert not await house.waiting()


async def test_a_letter_that_is_held_while_it_is_refused_for_now_stays_held(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.on("END", slow=0.3, reply="450 4.2.0 Later", times=1)
    letter = await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: far.last_command in CONTENT)
    await house.hold(letter.trace)
    await play.town.passes(hours=5)
    assert len(far.visits) == 1
    await house.release(letter.trace)
    await play.town.settle()
    assert far.mail_for == [BOB]


async def test_a_letter_that_is_hastened_is_tried_at_once(play: Play) -> None:
    house = await play.town.house("a.test", "ann", ways=Ways(workers=2))
    far = await play.town.server("far.example")
    far.refuses(BOB, "450 4.2.0 Later", times=1)
    letter = await play.submits("ann@a.test", to=BOB)
    await house.retry(letter.trace)
    await play.town.settle()
    assert far.mail_for == [BOB]
    await letter.became(BOB, "waits", "relayed")
