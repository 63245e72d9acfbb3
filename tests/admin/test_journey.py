"""What became of a letter for others, in the sentences of `postroom trace`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from postroom.access import Authenticator
from postroom.admin import AdminHouse, perform
from postroom.admin.house import checker, named
from postroom.admin.mail import TraceView
from postroom.core.ids import TRACE, external
from postroom.testing.house import House
from postroom.testing.internet import small_internet
from postroom.testing.plays import Letter, Play

BOB = "bob@far.example"


@pytest_asyncio.fixture
async def play(tmp_path: Path) -> AsyncIterator[Play]:
    async with small_internet(tmp_path) as town:
        yield Play(town)


async def explained(house: House, what: str) -> str:
    """`postroom trace` on a house."""
    flow = house.flow
    authenticator = Authenticator(
        flow.mail, flow.clock, flow.policies, flow.ids, default_domain=lambda: flow.default_domain
    )
    try:
        administered = AdminHouse(flow, authenticator, checker(flow))
        views = await perform(administered, "trace", named("trace").input(what))
    finally:
        await authenticator.close()
    assert isinstance(views, tuple)
    found = [view.told() for view in views if isinstance(view, TraceView)]
    assert found
    return "\n".join(found)


async def of(letter: Letter) -> str:
    return await explained(letter.house, external(TRACE, letter.trace))


async def test_a_letter_that_went_out_names_host_and_reply(play: Play) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB, "450 4.2.0 Later", times=1)
    letter = await play.submits("ann@a.test", to=BOB)
    text = await of(letter)
    why = "far.example is not a domain of this server"
    assert f"{BOB} is reached by the mail exchangers of far.example: {why}." in text
    first = (
        "At 2026-01-01T00:00:00.000Z it had to wait: mx.far.example [127.0.2.1]: 450 4.2.0 Later."
    )
    assert first in text
    assert (
        "It waits since 2026-01-01T00:00:00.000Z, tried 1 time, last at 2026-01-01T00:00:00.000Z,"
        " next at 2026-01-01T00:03:00.000Z, until 2026-01-06T00:00:00.000Z:"
        " mx.far.example: 450 4.2.0 Later." in text
    )
    await play.town.passes(minutes=4)
    text = await of(letter)
    assert first in text
    assert (
        "At 2026-01-01T00:03:00.000Z mx.far.example [127.0.2.1] took it without encryption:"
        " 250 2.0.0 taken." in text
    )
    assert "It waits" not in text


async def test_a_letter_that_came_back_names_the_notice_and_the_notice_its_cause(
    play: Play,
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB, "550 5.1.1 Nobody of that name")
    letter = await play.submits("ann@a.test", to=BOB)
    event = await letter.became(BOB, "returned")
    text = await of(letter)
    assert (
        "it was given up (5.1.1). mx.far.example [127.0.2.1] said: 550 5.1.1 Nobody of that name."
        f" The sender was told in the notice {event['notice']}." in text
    )
    text = await explained(letter.house, event["notice"])
    assert "This server wrote it, as a delivery report, by COMPOSED in session" in text
    assert "ann@a.test got a copy" in text


async def test_a_letter_that_nobody_answers_for_names_what_was_tried(play: Play) -> None:
    await play.town.house("a.test", "ann")
    play.town.zones.add("far.example", "MX", "10 mx.far.example")
    letter = await play.submits("ann@a.test", to=BOB, rcpt="NOTIFY=NEVER")
    text = await of(letter)
    assert f"{BOB} is reached by the mail exchangers of far.example" in text
    assert "it was given up (5.4.4). No server takes mail" in text  # no host has said so
    assert "mx.far.example does not exist in DNS" in text
    assert "Nobody was told: there is no sender, or it wanted no notice." in text


async def test_a_letter_for_a_smart_host_that_is_not_there_says_that_we_found_none(
    play: Play,
) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.smart_host", "hub.example")
    text = await of(await play.submits("ann@a.test", to=BOB))
    assert f"{BOB} is reached by the host hub.example" in text
    why = "We could not find the host that relay.smart_host names: hub.example does not exist"
    assert f"it had to wait: {why} in DNS." in text
    assert "It waits since" in text


async def test_a_letter_in_doubt_a_delay_and_the_hand_of_an_administrator_are_told(
    play: Play,
) -> None:
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.hangs_up("END", keep=True, times=1)
    far.refuses(BOB, "450 4.2.0 Later", skip=1)
    letter = await play.submits("ann@a.test", to=BOB, fields="Bcc: <eve@a.test>\r\n")
    await play.town.passes(hours=5)
    text = await of(letter)
    assert "It was amended: removed Bcc." in text
    assert "The message had gone out whole, so it may arrive twice." in text
    assert "the sender was told of the delay in the notice r" in text
    await house.hold(letter.trace)
    assert "An administrator holds it back: it is not tried, and does not expire." in await of(
        letter
    )
    await house.delete(letter.trace)
    assert "An administrator has taken it out of the queue." in await of(letter)


async def test_a_copy_that_waited_for_room_is_found_where_the_queue_put_it(play: Play) -> None:
    house = await play.town.house("a.test", "ann", "cid")
    await house.alias("both@a.test", "ann@a.test")
    await house.alias("both@a.test", "cid@a.test")
    await house.set("quota.octets", 3_700)
    await play.brings("eve@near.example", to="ann@a.test", body=b"x" * 70 + b"\r\n")
    body = (b"y" * 70 + b"\r\n") * 45
    letter = await play.brings("eve@near.example", to="both@a.test", body=body)
    text = await of(letter)
    assert "At first it had to wait: The mailbox is full." in text
    assert "tried 1 time" in text
    await house.empty("ann@a.test")
    await play.town.passes(minutes=4)
    text = await of(letter)
    assert "At 2026-01-01T00:03:00.000Z it was put into INBOX." in text
    assert "It lies in INBOX as UID 2 (no flags)." in text
    assert "It is gone" not in text
