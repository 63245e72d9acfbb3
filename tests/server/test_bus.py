"""postroom.server.bus: hints between workers, over real sockets and real processes."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.domain.events import Changed, DirectoryChanged, QueueReady, Type
from postroom.server import bus as machine
from postroom.server.bus import Codecs, MachineBus, NotABatch, bus_path

SRC = str(Path(__file__).parents[2] / "src")

events = st.one_of(
    st.builds(
        Changed,
        st.integers(0, (1 << 63) - 1),
        st.integers(0, (1 << 63) - 1),
        st.integers(0, 15).map(Type),
    ),
    st.just(QueueReady()),
    st.just(DirectoryChanged()),
)


def datagrams(told: list[object]) -> list[bytes]:
    head = bytes((machine.MAGIC, machine.VERSION, 7, 0))
    return [head + piece for piece in Codecs().encode(told)]


@given(st.lists(events))
@settings(max_examples=100)
def test_what_is_encoded_is_decoded(told: list[object]) -> None:
    heard = [Codecs().decode(datagram) for datagram in datagrams(told)]
    assert [event for batch in heard for event in batch.events] == told
    assert all((batch.sender, batch.missed) == (7, False) for batch in heard)


def test_a_large_batch_is_cut_to_fit() -> None:
    told: list[object] = [Changed(n, n, Type.EMAIL) for n in range(10_000)]
    pieces = datagrams(told)
    assert len(pieces) == 4
    assert all(len(piece) <= machine.LARGEST for piece in pieces)
    assert [e for piece in pieces for e in Codecs().decode(piece).events] == told


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_octets_are_a_batch_or_none(octets: bytes) -> None:
    for datagram in (octets, bytes((machine.MAGIC, machine.VERSION, 0, 0)) + octets):
        try:
            Codecs().decode(datagram)
        except NotABatch:
            continue


def test_another_version_is_not_guessed_at() -> None:
    (good,) = datagrams([QueueReady()])
    with pytest.raises(NotABatch, match="version 2"):
        Codecs().decode(good[:1] + b"\x02" + good[2:])


def test_an_event_without_a_codec_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="int"):
        list(Codecs().encode([5]))


@asynccontextmanager
async def buses(run: Path, count: int) -> AsyncIterator[list[MachineBus]]:
    made = [MachineBus(str(run), index, count) for index in range(count)]
    for each in made:
        each.start()
    try:
        yield made
    finally:
        for each in made:
            each.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def test_what_one_worker_tells_all_hear_once(tmp_path: Path) -> None:
    async with buses(tmp_path, 3) as (first, second, third):
        heard: list[tuple[str, object]] = []

        def listen(name: str, bus: MachineBus) -> None:
            bus.watch(5, lambda event: heard.append((name, event)))

        for name, bus in (("first", first), ("second", second), ("third", third)):
            listen(name, bus)
        change = Changed(5, 9, Type.EMAIL)
        first.tell([change, Changed(6, 1, Type.EMAIL)])
        assert heard == [("first", change)]  # here at once, before anything is sent
        await until(lambda: len(heard) == 3)
        assert sorted(name for name, _ in heard) == ["first", "second", "third"]
        await asyncio.sleep(0.05)
        assert len(heard) == 3


async def test_who_works_in_the_background_hears_of_the_directory_alone(tmp_path: Path) -> None:
    run = str(tmp_path)
    worker, background = MachineBus(run, 0, 1, background=1), MachineBus(run, 1, 1, background=1)
    worker.start()
    background.start()
    try:
        heard: list[object] = []
        for kind in (QueueReady, DirectoryChanged):
            background.subscribe(kind, heard.append)
        background.subscribe(Changed, heard.append)
        worker.tell([Changed(5, 9, Type.EMAIL), QueueReady(3)])
        worker.tell([QueueReady(4), DirectoryChanged()])
        await until(lambda: bool(heard))
        await asyncio.sleep(0.02)
        assert heard == [DirectoryChanged()]
        here: list[object] = []
        worker.subscribe(QueueReady, here.append)
        background.tell([QueueReady(7)])  # such as a job that put something into the queue
        await until(lambda: bool(here))
    finally:
        worker.close()
        background.close()


async def test_changes_of_one_account_travel_as_one(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        heard: list[Changed] = []
        second.watch(5, heard.append)
        first.tell([Changed(5, n, Type.EMAIL) for n in range(50)] + [Changed(5, 3, Type.MAILBOX)])
        await until(lambda: bool(heard))
        assert heard == [Changed(5, 49, Type.EMAIL | Type.MAILBOX)]


async def test_only_the_owner_may_tell_us_anything(tmp_path: Path) -> None:
    async with buses(tmp_path, 1):
        assert stat.S_IMODE(os.stat(bus_path(str(tmp_path), 0)).st_mode) == 0o600


async def test_sockets_go_with_the_worker_and_a_successor_takes_the_place(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        heard: list[object] = []
        # A worker that was killed leaves its socket behind.
        path = bus_path(str(tmp_path), 1)
        second.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(path)
        first.tell([QueueReady()])  # nobody reads there, and nobody minds
        successor = MachineBus(str(tmp_path), 1, 2)
        successor.start()
        successor.subscribe(QueueReady, heard.append)
        first.tell([QueueReady()])
        await until(lambda: bool(heard))
        successor.close()
        successor.close()
        assert not os.path.exists(path)


async def test_a_missing_worker_is_passed_over_and_counted(tmp_path: Path) -> None:
    bus = MachineBus(str(tmp_path), 0, 3)
    bus.start()
    before = machine.PASSED_OVER.values().get("missing", 0)
    bus.tell([QueueReady()])
    assert machine.PASSED_OVER.values()["missing"] == before + 2
    bus.close()
    bus.tell([QueueReady()])  # after the end: here alone


async def test_a_worker_that_was_full_learns_that_it_missed_some(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        compares: list[int] = []
        heard: list[Changed] = []
        second.on_overflow(lambda: compares.append(len(heard)))
        second.subscribe(Changed, heard.append)
        # Without a turn of the loop the second worker reads nothing.
        sent = 0
        while "full" not in machine.PASSED_OVER.values() or sent < 2_000:
            first.tell([Changed(sent, 1, Type.EMAIL)])
            sent += 1
            assert sent < 100_000
        assert 1 in first._missed
        await until(lambda: bool(compares))
        assert len(heard) < sent
        assert not first._missed
        # From here on all arrive again, and nobody is told to compare for nothing.
        seen = len(heard)
        first.tell([Changed(1, 2, Type.EMAIL)])
        await until(lambda: len(heard) > seen)
        assert len(compares) == 1


async def test_a_datagram_that_cannot_be_read_means_compare(tmp_path: Path) -> None:
    async with buses(tmp_path, 1) as (bus,):
        compares: list[bool] = []
        bus.on_overflow(lambda: compares.append(True))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x50\x63\x00\x00future", bus_path(str(tmp_path), 0))
        await until(lambda: bool(compares))


async def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    run = tmp_path / ("deep" * 40)
    run.mkdir()
    assert len(str(run)) > 107
    async with buses(run, 2) as (first, second):
        heard: list[object] = []
        second.subscribe(QueueReady, heard.append)
        first.tell([QueueReady()])
        await until(lambda: bool(heard))


OTHER = """
import asyncio, sys
import uvloop
from postroom.domain.events import Changed, QueueReady, Type
from postroom.server.bus import MachineBus

async def main():
    bus = MachineBus(sys.argv[1], 1, 2)
    bus.start()
    done = asyncio.Event()
    def heard(event):
        if event.modseq == 99:
            bus.tell([Changed(event.account, 100, event.types)])
            done.set()
    bus.watch(7, heard)
    print("ready", flush=True)
    await asyncio.wait_for(done.wait(), 20)
    bus.close()

uvloop.run(main())
"""


async def test_two_processes_talk(tmp_path: Path) -> None:
    bus = MachineBus(str(tmp_path), 0, 2)
    bus.start()
    other = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SRC},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
        heard: list[Changed] = []
        bus.watch(7, heard.append)
        bus.tell([Changed(7, 99, Type.MAILBOX)])
        await until(lambda: len(heard) == 2)
        assert heard == [Changed(7, 99, Type.MAILBOX), Changed(7, 100, Type.MAILBOX)]
        assert await asyncio.to_thread(other.wait, 10) == 0
    finally:
        other.kill()
        other.communicate()
        bus.close()
