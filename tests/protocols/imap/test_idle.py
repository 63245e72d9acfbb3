"""IDLE: told at once, by every worker, at the cost of almost nothing. RFC 2177."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from postroom.protocols.imap import server
from postroom.server.bus import MachineBus
from postroom.store.units import Database
from postroom.testing.imap import ImapClient, flags_of
from postroom.wire.imap import Tagged, Untagged
from tests.protocols.imap.serving import (
    ANN,
    BOB,
    PASSWORD,
    SMALL,
    Room,
    Worker,
    house_on,
    open_worker,
)
from tests.stores import open_mail


async def begin(client: ImapClient) -> bytes:
    """IDLE, and nothing was told before it."""
    tag = client.tag()
    client.send(tag + b" IDLE\r\n")
    await client.continuation()
    return tag


async def named(client: ImapClient, name: bytes, patience: float = 2) -> Untagged:
    """The next response of a name; others may come before it."""
    while True:
        each = await client.response(patience)
        if isinstance(each, Untagged) and each.name == name:
            return each


async def test_what_others_do_is_told_while_idle(room_both: Room) -> None:
    stored = await room_both.deliver(SMALL, SMALL, SMALL)
    client = await room_both.client()
    async with client.idle() as idle:
        assert idle.before == []
        await room_both.deliver(SMALL)
        assert (await idle.next()).number == 4  # EXISTS
        assert (await idle.next()).name == b"RECENT"
        await room_both.flag([stored[1].uid], add=("\\Flagged", "$Theirs"))
        assert (await idle.next()).name == b"FLAGS"
        assert (await idle.next()).code is not None  # PERMANENTFLAGS
        told = await idle.next()
        assert (told.name, told.number) == (b"FETCH", 2)
        (items,) = told.data
        assert isinstance(items, tuple)
        assert flags_of(items[1]) - {"\\Recent"} == {"\\Flagged", "$Theirs"}
        await room_both.remove([stored[0].uid, stored[2].uid])
        assert [((await idle.next()).name, n) for n in (3, 1)] == [
            (b"EXPUNGE", 3),
            (b"EXPUNGE", 1),
        ]
    assert idle.reply is not None
    assert (idle.reply.kind, idle.after) == ("OK", [])


async def test_what_came_before_is_told_before_the_continuation(room: Room) -> None:
    client = await room.client()
    await room.deliver(SMALL)
    async with client.idle() as idle:
        assert [each.name for each in idle.before] == [b"EXISTS", b"RECENT"]


async def test_other_accounts_and_mailboxes_disturb_nobody(room: Room) -> None:
    client = await room.client()
    tag = await begin(client)
    await room.deliver(SMALL, user=BOB)
    await room.deliver(SMALL, path="Sent")
    assert await client.silent(0.2)
    client.send(b"DONE\r\n")
    assert (await client.reply(tag)).untagged == []


@pytest.mark.parametrize("done", [b"DONE\r\n", b"done\r\n", b"Done \r\n"])
async def test_done_ends_it_however_soon(room: Room, done: bytes) -> None:
    client = await room.client()
    for _ in range(3):
        client.send(b"a IDLE\r\n" + done + b"b NOOP\r\n")
        await client.continuation()
        assert (await client.reply(b"a")).ok
        assert (await client.reply(b"b")).ok


@pytest.mark.parametrize("line", [b"NOOP", b"a2 NOOP", b"", b"x" * 70_000])
async def test_another_line_ends_it_badly_under_its_tag(room: Room, line: bytes) -> None:
    client = await room.client()
    tag = await begin(client)
    client.send(line + b"\r\n")
    assert (await client.reply(tag)).kind == "BAD"
    assert (await client.command("NOOP")).ok


async def test_a_flood_of_changes_does_not_keep_done_waiting(room: Room) -> None:
    client = await room.client()
    stop = False

    async def flood() -> None:
        while not stop:
            await room.deliver(SMALL)

    task = asyncio.create_task(flood())
    try:
        for _ in range(5):
            async with client.idle() as idle:
                while (await idle.next()).name != b"EXISTS":
                    pass
                began = time.perf_counter()
            assert idle.reply is not None
            assert idle.reply.ok
            assert time.perf_counter() - began < 1
    finally:
        stop = True
        await task


async def test_a_client_that_does_not_read_is_waited_for(room: Room) -> None:
    await room.fill(30_000)
    client = await room.client()
    tag = await begin(client)
    connection = next(iter(room.workers[0].acceptors["imaps"].connections))
    transport = connection._transport
    assert transport is not None
    # A small kernel buffer; loopback would take megabytes.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
    most = 0
    for n in range(3):
        await room.flag(range(1, 30_001), add=(f"$Round{n}",))
        for _ in range(10):
            await asyncio.sleep(0.01)
            most = max(most, transport.get_write_buffer_size())
    assert 0 < most < 256 * 1024
    client.send(b"DONE\r\n")
    reply = await client.reply(tag, patience=20)
    everything = {n: items["FLAGS"] for n, items in reply.fetched().items()}
    assert len(everything) == 30_000
    assert flags_of(everything[30_000]) >= {"$Round0", "$Round1", "$Round2"}


# --- costs ---------------------------------------------------------------------------------------


async def test_an_idle_session_has_neither_task_nor_timer(room: Room) -> None:
    clients = [await room.client() for _ in range(5)]
    for client in clients:
        await begin(client)
    await asyncio.sleep(0.05)
    sessions = room.workers[0].connections()
    assert len(sessions) == 5
    assert [session._task for session in sessions] == [None] * 5
    tasks = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]  # every task here is of a coroutine
    assert not [name for name in tasks if "imap" in name.lower() or "Connection" in name]
    assert room.bus._watchers.keys() == {room.accounts[ANN]}
    for client in clients:
        client.abort()
    await room.settled(lambda: not room.workers[0].connections())
    assert not room.bus._watchers  # who has gone is told nothing
    assert not room.bus._doubters


PEER = """
import socket, ssl, sys
port, count, user, password, tls = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
def until(sock, mark):
    data = b""
    while mark not in data:
        more = sock.recv(65536)
        assert more, data
        data += more
for _ in range(count):
    sock = socket.create_connection(("127.0.0.1", port))
    if tls == "tls":
        sock = context.wrap_socket(sock)
    until(sock, b"\\r\\n")
    if tls == "tls":
        sock.sendall(f'a LOGIN {user} "{password}"\\r\\n'.encode())
        until(sock, b"a OK")
        sock.sendall(b"b SELECT INBOX\\r\\n")
        until(sock, b"b OK")
        sock.sendall(b"c IDLE\\r\\n")
        until(sock, b"+ ")
    held.append(sock)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("kind", "most"), [("tls", 60), ("plain", 30)])
async def test_memory_of_idle_connections(
    tmp_path: Path, kind: str, most: int, record_property: Callable[[str, object], None]
) -> None:
    """Two hundred that signed in over TLS and idle, or that have said nothing yet.

    The server is a process of its own: in this one the heap has room that was paid for already.
    """
    count = 200
    here = Path(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}

    async def start(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    async def heard(process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        return await asyncio.to_thread(process.stdout.readline)

    serving = await start(str(here.with_name("alone.py")), str(tmp_path))
    running = [serving]
    try:
        ports = dict(zip(("plain", "tls"), (await heard(serving)).decode().split(), strict=True))
        peer = ["-c", PEER, ports[kind]]
        # What a process needs once is not a connection's.
        running.append(await start(*peer, "50", ANN, PASSWORD, kind))
        assert await heard(running[-1]) == b"ready\n"
        process = psutil.Process(serving.pid)
        await asyncio.sleep(0.1)
        before = process.memory_info().rss
        running.append(await start(*peer, str(count), ANN, PASSWORD, kind))
        assert await heard(running[-1]) == b"ready\n"
        await asyncio.sleep(0.2)
        each = (process.memory_info().rss - before) / count / 1024
    finally:
        for started in reversed(running):
            started.communicate()
    record_property("KiB for each connection", round(each, 1))
    print(f"{kind}: {each:.1f} KiB for each idle connection")
    assert 1 < each < most


# --- lost hints, rights, time --------------------------------------------------------------------


async def test_a_lost_hint_is_repaired_by_looking(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.3)
    client = await room.client()
    await begin(client)
    monkeypatch.setattr(room.bus, "tell_here", lambda events: None)
    await room.deliver(SMALL)
    assert (await named(client, b"EXISTS")).number == 1
    await room.deliver(SMALL)  # and again: the timeout is set anew
    assert (await named(client, b"EXISTS")).number == 2


async def test_a_bus_that_lost_hints_makes_idle_sessions_look(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await room.client()
    await begin(client)
    monkeypatch.setattr(room.bus, "tell_here", lambda events: None)
    await room.deliver(SMALL)
    assert await client.silent(0.1)
    room.bus.overflowed()
    assert (await named(client, b"EXISTS")).number == 1


async def test_idling_without_a_mailbox_goes_on(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.1)
    client = await room.client(mailbox=None)
    tag = await begin(client)
    assert await client.silent(0.5)
    client.send(b"DONE\r\n")
    assert (await client.reply(tag)).ok


async def test_idling_for_too_long_ends(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 2177 §3: a client renews its IDLE; one that does not is gone."""
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.1)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.5)
    client = await room.client()
    await begin(client)
    began = time.perf_counter()
    (bye,) = await client.until_closed(3)
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"
    assert time.perf_counter() - began > 0.4


async def test_a_new_password_ends_idle_sessions_when_they_look(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.2)
    client = await room.client()
    await begin(client)
    await room.set_password(ANN, "another horse")
    (bye,) = await client.until_closed(3)
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"


async def test_a_mailbox_that_is_deleted_ends_idle_sessions(room: Room) -> None:
    await room.create("Doomed")
    client, other = await room.client(mailbox="Doomed"), await room.client(mailbox=None)
    await begin(client)
    assert (await other.command("DELETE Doomed")).ok
    (bye,) = await client.until_closed(3)
    assert isinstance(bye, Untagged)
    assert bye.name == b"BYE"


async def test_commands_that_came_with_done_and_the_end_are_answered(room: Room) -> None:
    client = await room.client()
    await begin(client)
    await room.deliver(SMALL)
    client.send(b"DONE\r\nb NOOP\r\nc LOGOUT\r\n")
    heard = await client.until_closed()
    assert [each.tag for each in heard if isinstance(each, Tagged)][1:] == [b"b", b"c"]


# --- two workers, each with its own bus ----------------------------------------------------------


@dataclass
class Pair:
    """Two workers with databases and datagram sockets of their own, over one folder."""

    rooms: list[Room]
    buses: list[MachineBus]


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    run = tmp_path / "run"
    os.mkdir(run)
    buses = [MachineBus(str(run), index, 2) for index in range(2)]
    databases: list[Database] = []
    rooms: list[Room] = []
    workers: list[tuple[Worker, object]] = []
    try:
        for index, bus in enumerate(buses):
            bus.start()
            mail, state = open_mail("sqlite", str(tmp_path), bus.tell)
            databases += [mail, state]
            house, accounts = await house_on(tmp_path, mail, state, worker=index)
            worker, authenticator = await open_worker(house, bus)
            workers.append((worker, authenticator))
            rooms.append(Room(house, [worker], bus, accounts))
            databases.append(authenticator)  # type: ignore[arg-type]  # closed alike
        yield Pair(rooms, buses)
    finally:
        for room in rooms:
            for client in room.clients:
                client.abort()
        for worker, _ in workers:
            await worker.close()
        for bus in buses:
            bus.close()
        for database in reversed(databases):
            await database.close()


async def test_another_workers_delivery_is_told_within_a_second(pair: Pair) -> None:
    client = await pair.rooms[1].client()
    tag = await begin(client)
    for n in range(1, 6):
        began = time.perf_counter()
        await pair.rooms[0].deliver(SMALL)
        assert (await named(client, b"EXISTS")).number == n
        assert time.perf_counter() - began < 1
    client.send(b"DONE\r\n")
    assert (await client.reply(tag)).ok


async def test_what_a_session_does_is_told_to_sessions_of_the_other_worker(pair: Pair) -> None:
    here, there = await pair.rooms[0].client(), await pair.rooms[1].client()
    await begin(there)
    assert (await here.append("INBOX", SMALL, SMALL)).ok
    assert (await named(there, b"EXISTS")).number == 2
    assert (await here.command("STORE 1 +FLAGS (\\Deleted)")).ok
    assert (await named(there, b"FETCH")).number == 1
    assert (await here.command("EXPUNGE")).ok
    assert (await named(there, b"EXPUNGE")).number == 1


async def test_a_datagram_that_found_nobody_is_made_up_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await pair.rooms[1].client()
    await begin(client)
    with monkeypatch.context() as deaf:
        deaf.setattr(pair.buses[0], "_send", lambda other, piece: False)
        await pair.rooms[0].deliver(SMALL)
        assert await client.silent(0.1)
    pair.buses[0]._passed_over(1, "full")
    await pair.rooms[0].deliver(SMALL, user=BOB)  # the next datagram says that one was lost
    assert (await named(client, b"EXISTS")).number == 1
