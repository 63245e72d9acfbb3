"""Many recipients, many letters, many domains: how connections are used, and how waits grow."""

from __future__ import annotations

from collections import Counter

from postroom.testing.house import Ways
from postroom.testing.plays import Play

BOB = "bob@far.example"


async def test_a_mailing_to_three_hundred_at_twenty_domains(on_both: Play) -> None:
    play = on_both
    house = await play.town.house("a.test", "ann")
    names = [f"d{n:02}.example" for n in range(20)]
    servers = {name: await play.town.server(name) for name in names}
    refused = {f"p03@{name}" for name in names[:3]}
    for name in names[:3]:
        servers[name].refuses(f"p03@{name}")
    await servers[names[-1]].goes_down()
    whom = [f"p{n:02}@{name}" for n in range(15) for name in names]
    letter = await play.submits("ann@a.test", to=whom)
    taken = Counter(each for server in servers.values() for each in server.mail_for)
    down = {each for each in whom if each.endswith(names[-1])}
    assert set(taken) == set(whom) - refused - down
    assert set(taken.values()) == {1}
    assert all(len(server.messages) == 1 for name, server in servers.items() if name != names[-1])
    reports = [await play.receives("ann@a.test") for _ in range(3)]
    assert all(sum(each.encode() in report for each in refused) == 1 for report in reports)
    await play.receives_nothing("ann@a.test")
    assert {r.address for r in await house.waiting()} == down
    became = Counter(each["what"] for each in await house.events(letter.trace))
    assert became == {"relayed": 300 - 15 - 3, "returned": 3}


async def test_letters_that_come_soon_share_a_connection(play: Play) -> None:
    house = await play.town.house("a.test", "ann", ways=Ways(linger=5.0))
    await house.set("relay.connections", 1)  # else two that wait at once are worth two
    far = await play.town.server("far.example")
    for _ in range(5):
        await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: len(far.messages) == 5)
    assert len(far.visits) == 1
    assert {got.connection for got in far.messages} == {0}


async def test_a_connection_is_made_anew_after_so_many_letters(play: Play) -> None:
    house = await play.town.house("a.test", "ann", ways=Ways(linger=0.5))
    await house.set("relay.messages_per_connection", 2)
    await house.set("relay.connections", 1)
    far = await play.town.server("far.example")
    for _ in range(5):
        await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: len(far.messages) == 5)
    assert Counter(got.connection for got in far.messages) == {0: 2, 1: 2, 2: 1}
    assert all(visit.quit for visit in far.visits[:2])


async def test_a_busy_destination_gets_several_connections_and_no_more_than_allowed(
    play: Play,
) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.connections", 4)
    far = await play.town.server("far.example")
    far.on("END", slow=0.02)
    await far.goes_down()
    for _ in range(30):
        await play.submits("ann@a.test", to=BOB)
    await far.comes_back()
    await play.town.passes(minutes=4)
    assert len(far.messages) == 30
    assert len(far.visits) == 4
    assert not far.complaints


async def test_an_idle_destination_is_given_back(play: Play) -> None:
    house = await play.town.house("a.test", "ann", ways=Ways(linger=0.05))
    far = await play.town.server("far.example")
    await play.submits("ann@a.test", to=BOB, settles=False)
    await play.town.until(lambda: far.messages)
    assert house.workers[0].remote.busy
    await play.town.until(lambda: not house.workers[0].remote.busy, seconds=2)
    assert far.visits[0].quit


async def test_mail_that_goes_on_coming_does_not_deepen_the_wait_for_a_host_that_is_down(
    play: Play,
) -> None:
    """How long a host is left alone depends on how long it is down, not on how much is sent."""
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    await far.goes_down()
    for _ in range(12):
        await play.submits("ann@a.test", to=BOB)
        await play.town.passes(minutes=1)
    await far.comes_back()
    await play.town.passes(minutes=31)
    assert len(far.messages) == 12


async def test_a_host_that_hangs_up_on_every_letter_is_left_alone_for_now(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.connections", 1)
    far = await play.town.server("far.example")
    await far.goes_down()
    for _ in range(10):
        await play.submits("ann@a.test", to=BOB)
    await far.comes_back()
    before = len(far.visits)
    far.answers("MAIL", "421 4.7.0 You send too much", drop=True, times=3)
    await play.town.passes(minutes=4)
    assert len(far.visits) - before == 3
    assert not far.messages
    await play.town.passes(hours=1)
    assert len(far.messages) == 10
