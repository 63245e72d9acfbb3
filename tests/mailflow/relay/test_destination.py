"""A leased destination when the store is busy or full, and several workers beside each other."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from postroom.core.errors import Busy, MailError, StoreFull
from postroom.mailflow import queueing
from postroom.mailflow.relay import cargo
from postroom.store.blobs import Blobs, NewBlob
from postroom.store.units import Database
from postroom.testing.house import House, Ways
from postroom.testing.plays import Play

BOB = "bob@far.example"


class Stumbling:
    """A store that refuses the next units of a kind; for all else it is the one beneath."""

    def __init__(self, beneath: Database, unit: Callable[..., object], *errors: MailError) -> None:
        self._beneath = beneath
        self._unit = unit
        self._errors = list(errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beneath, name)

    async def write_mail(self, unit: Callable[..., Any], *args: Any) -> Any:
        if unit is self._unit and self._errors:
            raise self._errors.pop(0)
        return await self._beneath.write_mail(unit, *args)


def stumbles(house: House, *errors: MailError) -> None:
    """The next conclusions cannot be kept."""
    stumbling: Any = Stumbling(house.flow.mail, queueing.conclude, *errors)
    house.flow.mail = stumbling


def no_room_for_reports(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The disk takes everything but reports, until the event is set."""
    room = asyncio.Event()
    make = Blobs.make

    async def made(blobs: Blobs, content: bytes) -> NewBlob:
        if b"multipart/report" in content and not room.is_set():
            raise StoreFull
        return await make(blobs, content)

    monkeypatch.setattr(Blobs, "make", made)
    return room


@pytest.mark.parametrize("error", [Busy(), StoreFull()])
async def test_what_another_server_took_is_recorded_once_the_store_can(
    play: Play, monkeypatch: pytest.MonkeyPatch, error: MailError
) -> None:
    """Not to record it would be to send it again."""
    monkeypatch.setattr(queueing, "RECORDING", (0.01, 0.01, 0.01))
    house = await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    stumbles(house, error, error)
    letter = await play.submits("ann@a.test", to=BOB)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed")
    assert not await house.waiting()


async def test_a_report_that_cannot_be_written_now_is_written_later(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    far.refuses(BOB)
    room = no_room_for_reports(monkeypatch)
    letter = await play.submits("ann@a.test", to=[BOB, "cid@far.example"])
    assert far.mail_for == ["cid@far.example"]
    assert await letter.waits(BOB) == "mx.far.example: 550 5.1.1 Nobody of that name"
    room.set()
    await play.town.passes(minutes=4)
    await play.receives_report("ann@a.test", of="5.1.1", about=BOB)
    await letter.became(BOB, "returned", status="5.1.1")
    assert far.mail_for == ["cid@far.example"]


async def test_for_want_of_a_report_of_success_nothing_is_sent_twice(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example", without=["DSN"])

    no_room_for_reports(monkeypatch)
    letter = await play.submits("ann@a.test", to=BOB, rcpt="NOTIFY=SUCCESS")
    await play.town.passes(hours=1)
    assert far.mail_for == [BOB]
    await letter.became(BOB, "relayed")


async def test_a_large_letter_for_which_there_is_no_room_keeps_no_other_waiting(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    await play.town.house("a.test", "ann")
    far = await play.town.server("far.example")
    there_is_room = cargo._nameless

    def full(folder: str) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cargo, "_nameless", full)
    large = await play.submits("ann@a.test", to=BOB, body=(b"z" * 70 + b"\r\n") * 16_000)
    await play.submits("ann@a.test", to="cid@far.example")
    assert far.mail_for == ["cid@far.example"]
    assert await large.waits(BOB) is not None
    monkeypatch.setattr(cargo, "_nameless", there_is_room)
    await play.town.passes(minutes=4)
    assert far.mail_for == ["cid@far.example", BOB]
    assert far.messages[1].content.endswith(large.content)


async def test_two_workers_send_nothing_twice(play: Play) -> None:
    house = await play.town.house("a.test", "ann", ways=Ways(workers=2))
    hosts = [await play.town.server(f"d{n}.example") for n in range(4)]
    for host in hosts:
        await host.goes_down()
    whom = [f"p{n}@d{n % 4}.example" for n in range(40)]
    for to in whom:
        await play.submits("ann@a.test", to=to)
    for host in hosts:
        await host.comes_back()
    await play.town.passes(minutes=4)
    taken = Counter(to for host in hosts for to in host.mail_for)
    assert taken == Counter(whom)
    assert not await house.waiting()


async def test_with_room_for_one_destination_the_others_follow(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.destinations", 1)
    hosts = [await play.town.server(f"d{n}.example") for n in range(4)]
    whom = [f"p@d{n}.example" for n in range(4)]
    await play.submits("ann@a.test", to=whom)
    assert [to for host in hosts for to in host.mail_for] == whom


async def test_a_worker_that_drains_ends_what_it_is_at_and_begins_nothing_more(play: Play) -> None:
    house = await play.town.house("a.test", "ann")
    await house.set("relay.connections", 1)
    far = await play.town.server("far.example")
    await far.goes_down()
    for n in range(5):
        await play.submits("ann@a.test", to=f"p{n}@far.example")
    await far.comes_back()
    far.on("END", slow=0.2, times=1)
    play.town.clock.advance(4 * 60)
    worker = house.workers[0]
    worker.wake()
    await play.town.until(lambda: far.last_command in ("DATA", "BDAT"))
    await worker.remote.drain()
    assert len(far.messages) == 1
    assert far.visits[-1].quit
    assert len(await house.waiting()) == 4
    house.workers.clear()
    await worker.die()
    house.hire()  # at once: the lease was given back
    await play.town.settle()
    assert len(far.messages) == 5
