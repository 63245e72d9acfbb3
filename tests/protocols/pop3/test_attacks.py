"""What hostile peers try before and after signing in: injections, floods, long lines, guesses."""

from __future__ import annotations

import asyncio
import gc
import socket
import statistics
import time
import tracemalloc
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from postroom.protocols.pop3 import server
from postroom.store.blobs import NewBlob
from postroom.testing.pop3 import Pop3Client
from postroom.testing.scripted import ClosedError
from postroom.wire.pop3 import Reply, command
from postroom.wire.sasl import PlainClient
from tests.protocols.imap.serving import ANN, PASSWORD, client_context, message
from tests.protocols.pop3.serving import Pop3Room

KIB = 1024
SIGN_IN = command("USER", ANN) + command("PASS", PASSWORD)


async def alive(client: Pop3Client) -> None:
    """The session goes on, and nothing that was refused is taken for a command."""
    client.send(b"CAPA\r\n")
    assert (await client.content()).reply.ok


# --- class 2: around STLS --------------------------------------------------------------------


@pytest.mark.parametrize("injected", [b"CAPA\r\n", SIGN_IN, b"\r\n", b"CAP", b"\x00", b"\n"])
async def test_what_is_pipelined_behind_stls_is_never_run(room: Pop3Room, injected: bytes) -> None:
    client = await room.connect("pop3")
    client.send(b"STLS\r\n" + injected)
    assert await client.until_closed() == [Reply(False, "Nothing may follow STLS before TLS")]


async def test_plaintext_after_the_answer_to_stls_is_no_handshake(room: Pop3Room) -> None:
    client = await room.connect("pop3")
    assert (await client.ask("STLS")).ok
    client.send(b"CAPA\r\nQUIT\r\n")
    with pytest.raises(ClosedError):
        # A TLS alert is no POP3; nothing that is may come.
        while True:
            try:
                assert not isinstance(await client.response(), Reply)
            except AssertionError:
                raise
            except Exception as error:
                raise ClosedError from error


async def test_nothing_said_before_tls_counts_after_it(room: Pop3Room) -> None:
    client = await room.connect("pop3")
    assert (await client.ask("UTF8")).ok
    assert not (await client.ask("USER", ANN)).ok
    assert (await client.stls(client_context())).ok
    assert (await client.ask("PASS", PASSWORD)).text == "USER comes first"
    (session,) = room.workers[0].connections()
    assert not session._session.utf8


async def test_a_sign_in_that_began_in_tls_answers_no_other_line(room: Pop3Room) -> None:
    """The command behind an unfinished AUTH is an answer, and never run."""
    await room.imap.deliver(message())
    client = await room.connect()
    client.send(b"AUTH PLAIN\r\n" + SIGN_IN)
    await client.response()
    assert not (await client.reply()).ok  # USER was no base64
    assert not (await client.reply()).ok  # and PASS came alone
    await alive(client)


# --- class 8: lines before sign-in -----------------------------------------------------------


@pytest.mark.parametrize("line", [b"CAPA\n", b"CAPA\rQUIT\r\n", b"QUIT\n\r\n", b"x" * 5000 + b"\n"])
async def test_a_bare_line_end_ends_the_connection(room: Pop3Room, line: bytes) -> None:
    client = await room.connect()
    client.send(line)
    (said,) = await client.until_closed()
    assert isinstance(said, Reply)
    assert not said.ok


async def test_lines_that_are_too_long_or_hold_controls_are_refused_whole(room: Pop3Room) -> None:
    client = await room.connect()
    for line in (b"USER " + b"x" * 4096, b"x" * 60_000, b"CAPA\x00", b"CAPA\x1b[2J", b"\x7f"):
        client.send(line + b"\r\n")
        assert not (await client.reply()).ok
        await alive(client)


async def test_a_line_without_end_costs_a_stranger_his_connection(room: Pop3Room) -> None:
    client = await room.connect("pop3")
    (session,) = room.workers[0].connections()
    most = 0
    with pytest.raises((ClosedError, ConnectionError)):
        for _ in range(2000):
            client.send(b"x" * 1000)
            await client.flush()
            await asyncio.sleep(0)
            most = max(most, session._receiver.buffered)
        await client.until_closed(2)
        raise ClosedError
    assert most <= server.HIGH_WATER + 16 * KIB


@pytest.mark.parametrize(
    "held", [b"USER " + b"x" * 4000, b"AUTH PLAIN\r\n" + b"A" * 16_000, b"USER x"]
)
async def test_strangers_hold_little_memory(room: Pop3Room, held: bytes) -> None:
    """Each waits with as much as it may say, and says no more."""
    count = 20
    port = room.workers[0].ports["pop3"]
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        await room.imap.settled(lambda: len(room.workers[0].connections()) == count)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for sock in socks:
            sock.sendall(held)
        await asyncio.sleep(0.2)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert len(room.workers[0].connections()) == count
        assert grown / count < 24 * KIB
    finally:
        for sock in socks:
            sock.close()


async def test_an_idle_connection_is_small(room: Pop3Room) -> None:
    """What the session itself adds to a connection; RFC 1939 lets it be silent for minutes."""
    count = 100
    port = room.workers[0].ports["pop3"]
    gc.collect()
    tracemalloc.start()
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        await room.imap.settled(lambda: len(room.workers[0].connections()) == count, 10)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert held / count < 8 * KIB
    finally:
        for sock in socks:
            sock.close()


# --- class 9: much work for few octets -------------------------------------------------------


async def test_a_maildrop_of_200_000_messages(room: Pop3Room) -> None:
    """It opens without a look at any content, and is listed in slices while others are served."""
    count = 200_000
    await room.imap.fill(count)
    client = await room.connect()
    began = time.perf_counter()
    assert (await client.login(ANN, PASSWORD)).ok
    took = time.perf_counter() - began
    assert took < 3, took  # with a password to hash; a body for each would take minutes
    assert (await client.stat())[0] == count
    lag = 0.0

    async def watch() -> None:
        nonlocal lag
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            lag = max(lag, time.thread_time() - began)

    task = asyncio.create_task(watch())
    tracemalloc.start()
    client.send(b"UIDL\r\nLIST\r\nDELE 200000\r\n")
    heard, octets = b"", 0
    while b"Marked" not in heard:
        # Not parsed: that would be work for this very loop.
        heard = heard[-100:] + await asyncio.wait_for(client._reader.read(65_536), 10)
        octets += len(heard)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    task.cancel()
    assert octets > 20 * count
    assert peak < 2_000 * KIB
    assert lag < 0.05
    listed = await client.list()
    assert (len(listed), min(listed), max(listed)) == (count - 1, 1, count - 1)


async def test_a_large_message_for_a_slow_reader_costs_little_memory(room: Pop3Room) -> None:
    """50 MiB in slices, each read when the peer has taken the one before."""
    line = b"." + b"A large message goes in many pieces, and every one is counted: %08d\r\n"
    raw = message("large", b"".join(line % n for n in range(50 * KIB * KIB // len(line % 0))))
    made: NewBlob = await room.house.blobs.make(raw)
    await room.imap.append_blob(made, raw)
    size, digest = len(raw), hash(raw)
    client = await room.client()
    del raw
    gc.collect()
    tracemalloc.start()
    client.send(b"RETR 1\r\nNOOP\r\n")
    await asyncio.sleep(0.3)  # nothing is read meanwhile
    held, peak = tracemalloc.get_traced_memory()
    assert peak < 3_000 * KIB
    tracemalloc.stop()
    found = await client.content()
    assert (len(found.content), hash(found.content)) == (size, digest)
    assert (await client.reply()).ok
    assert held < 2_000 * KIB


async def test_a_pipe_of_commands_without_a_reader_waits_in_the_kernel(room: Pop3Room) -> None:
    await room.imap.deliver(message("x", b"y\r\n" * 5000))
    client = await room.client()
    (session,) = room.workers[0].connections()
    client.send(b"RETR 1\r\n" * 50_000)
    most = 0
    for _ in range(50):
        await asyncio.sleep(0.01)
        most = max(most, session._receiver.buffered)
    assert most < 128 * KIB
    client.abort()


async def test_a_burst_of_commands_does_not_hold_up_the_others(room: Pop3Room) -> None:
    await room.imap.deliver(message())
    client = await room.client()
    lag = 0.0

    async def watch() -> None:
        nonlocal lag
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            lag = max(lag, time.thread_time() - began)

    task = asyncio.create_task(watch())
    client.send(b"NOOP\r\nSTAT\r\nLIST 1\r\nRSET\r\nTOP 1 0\r\n" * 2000 + b"QUIT\r\n")
    last = b""
    while b"Goodbye" not in last:
        last = last[-100:] + await asyncio.wait_for(client._reader.read(65_536), 20)
    task.cancel()
    assert lag < 0.03


# --- classes 16 and 17: what refusals give away, and guessing ---------------------------------


async def test_wrong_and_unknown_take_alike(room: Pop3Room) -> None:
    await room.imap.configure("access.wrong_passwords", 0)
    await room.imap.configure("access.wrong_from_address", 0)
    took: dict[str, list[float]] = {ANN: [], "nobody@example.test": [], "x@elsewhere.example": []}
    for n in range(12):
        for user, times in took.items():
            client = await room.connect()
            began = time.perf_counter()
            reply = await client.login(user, f"wrong {n} {user}")
            times.append(time.perf_counter() - began)
            assert reply == Reply(False, "Authentication credentials invalid", "AUTH")
            client.abort()
    # The quickest of many: what the machine does beside adds to the others only.
    quickest = [statistics.mean(sorted(times)[:3]) for times in took.values()]
    assert max(quickest) < 1.6 * min(quickest)


async def test_user_says_nothing_of_who_exists(room: Pop3Room) -> None:
    client = await room.connect()
    users = (ANN, "nobody@example.test", "x@elsewhere.example", "", "%s", "'; --", "../x")
    said = {(await client.ask("USER", user)).text for user in users if user}
    assert said == {"Now the password"}


async def _from(room: Pop3Room, address: str) -> Pop3Client:
    """A connection as from elsewhere: what comes from this machine is never throttled."""
    client = await room.connect()
    for each in room.workers[0].connections():
        peer = each._session.peer
        if peer.ip is not None and peer.ip.is_loopback:
            each._session.peer = replace(peer, ip=IPv4Address(address))
    return client


async def test_guessing_is_throttled_whichever_way_it_comes(room: Pop3Room) -> None:
    await room.imap.configure("access.wrong_passwords", 4)
    client = await _from(room, "192.0.2.1")
    for n in range(5):
        if n % 2 == 0:
            client = await _from(room, "192.0.2.1")
            assert (await client.login(ANN, f"guess {n}")).code == "AUTH"
        else:
            assert (await client.sign_in(PlainClient(ANN, f"guess {n}"))).code == "AUTH"
    client = await _from(room, "192.0.2.1")
    # Refused unheard from there, right as it is; its owner signs in from elsewhere.
    assert (await client.login(ANN, PASSWORD)).code == "AUTH"
    assert (await client.sign_in(PlainClient(ANN, PASSWORD))).code == "AUTH"
    assert (await (await _from(room, "192.0.2.2")).login(ANN, PASSWORD)).ok
