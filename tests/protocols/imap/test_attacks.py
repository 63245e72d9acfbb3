"""What hostile peers try before and after signing in: floods, literals, injections, guesses."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
import tracemalloc

import pytest

from postroom.protocols.imap import server
from postroom.testing.imap import ImapClient, Literal
from postroom.testing.scripted import ClosedError
from postroom.wire.imap import Tagged, Untagged
from tests.protocols.imap.serving import ANN, PASSWORD, SMALL, Room, client_context

KIB = 1024


async def alive(client: ImapClient) -> None:
    """The session goes on, and nothing that was refused is taken for a command."""
    reply = await client.command("NOOP")
    assert (reply.kind, reply.untagged) == ("OK", [])


def is_bye(response: object) -> bool:
    return isinstance(response, Untagged) and response.name == b"BYE"


# --- class 2: around STARTTLS --------------------------------------------------------------------


@pytest.mark.parametrize(
    "injected", [b"b NOOP\r\n", b"b LOGIN ann x\r\n", b"\r\n", b"b CAP", b"\x00", b"* OK hello\r\n"]
)
async def test_what_is_pipelined_behind_starttls_is_never_run(room: Room, injected: bytes) -> None:
    client = await room.connect("imap")
    client.send(b"a STARTTLS\r\n" + injected)
    heard = await client.until_closed()
    assert [each.kind for each in heard if isinstance(each, Tagged)] == [b"BAD"]
    assert all(each.tag == b"a" for each in heard if isinstance(each, Tagged))


async def test_plaintext_after_the_answer_to_starttls_is_no_handshake(room: Room) -> None:
    client = await room.connect("imap")
    assert (await client.command("STARTTLS")).ok
    client.send(b"b NOOP\r\nc LOGOUT\r\n")
    with pytest.raises(ClosedError):
        # A TLS alert is no IMAP response; nothing that is one may come.
        while True:
            try:
                await client.response()
            except ValueError:
                continue


async def test_nothing_said_before_tls_counts_after_it(room: Room) -> None:
    client = await room.connect("imap")
    assert (await client.command('ID ("name" "spy")')).ok
    client.send(b"x AUTHENTICATE PLAIN\r\n")
    assert (await client.reply(b"x")).code == "PRIVACYREQUIRED"
    assert (await client.starttls(client_context())).ok
    assert (await client.login(ANN, PASSWORD)).ok
    (session,) = room.workers[0].connections()
    assert session._session.client == ""
    assert (await client.command("STARTTLS")).kind == "BAD"


# --- class 8: literals, lists and lines before sign-in -------------------------------------------


async def test_a_giant_literal_is_refused_when_it_is_announced(room: Room) -> None:
    client = await room.connect()
    for size in (4097, 10**6, 10**9, 10**18, 10**30):
        client.send(b"a LOGIN {%d}\r\n" % size)
        reply = await client.reply(b"a")
        assert (reply.kind, reply.code) == ("NO", "TOOBIG")
    await alive(client)


async def test_a_giant_literal_that_comes_unasked_ends_the_connection(room: Room) -> None:
    for size in (10**6, 10**9, 10**30):
        client = await room.connect()
        client.send(b"a LOGIN {%d+}\r\n" % size)
        assert is_bye((await client.until_closed())[-1])


async def test_a_literal_that_comes_unasked_and_is_too_large_is_dropped(room: Room) -> None:
    client = await room.connect()
    reply = await client.command("LOGIN ", Literal(b"a NOOP\r\n" * 1000, sync=False), " x")
    assert (reply.kind, reply.code) == ("NO", "TOOBIG")
    await alive(client)


@pytest.mark.parametrize(("size", "count"), [(1, 1000), (0, 1000), (1000, 60)])
async def test_many_literals_are_as_large_as_one(room: Room, size: int, count: int) -> None:
    client = await room.connect()
    client.send(b"a LOGIN" + b" {%d+}\r\n%b" % (size, b"x" * size) * count + b"\r\n")
    reply = await client.reply(b"a")
    assert (reply.kind, reply.code) == ("NO", "TOOBIG")
    await alive(client)


async def test_many_large_literals_are_more_than_a_stranger_may_say(room: Room) -> None:
    client = await room.connect()
    client.send(b"a LOGIN" + b" {4096+}\r\n%b" % (b"x" * 4096) * 400 + b"\r\n")
    heard = await client.until_closed()
    assert is_bye(heard[-1])


async def test_a_million_parentheses_are_one_long_line(room: Room) -> None:
    client = await room.connect()
    for opening in (b"(", b"((", b"{", b'"', b"\\", b"%"):
        client.send(b"a LOGIN " + opening * (1_000_000 // len(opening)) + b"\r\n")
        heard = [await client.response()]
        assert isinstance(heard[0], Tagged | Untagged)
        try:
            await alive(client)
        except (ClosedError, AssertionError):
            client = await room.connect()  # more than is dropped for anybody: also an answer


async def test_a_line_without_end_costs_a_stranger_his_connection(room: Room) -> None:
    client = await room.connect("imap")
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
    assert most <= server.BUDGET_BEFORE


@pytest.mark.parametrize(
    "held",
    [
        b"a LOGIN " + b"x" * 16_000,
        b"a LOGIN {4096+}\r\n" + b"x" * 4090,
        b"a LOGIN" + b" {0+}\r\n" * 400,
        b"a LOGIN" + b" {2000+}\r\n" + b"x" * 2000 + (b" {2000+}\r\n" + b"x" * 2000) * 25,
    ],
    ids=["line", "literal", "empty literals", "literals"],
)
async def test_strangers_hold_little_memory(room: Room, held: bytes) -> None:
    """Each waits with as much as it may say, and says no more."""
    count = 20
    port = room.workers[0].ports["imap"]
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        await room.settled(lambda: len(room.workers[0].connections()) == count)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for sock in socks:
            sock.sendall(held)
        await asyncio.sleep(0.2)
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        sessions = room.workers[0].connections()
        assert len(sessions) == count
        assert all(0 < session._receiver.buffered <= 64 * KIB for session in sessions)
        assert grown / count < 96 * KIB
    finally:
        for sock in socks:
            sock.close()


# --- class 8: after sign-in ----------------------------------------------------------------------


async def test_limits_after_sign_in(room: Room) -> None:
    client = await room.client()
    for line in (
        b"SEARCH SUBJECT {65537}\r\n",
        b"SEARCH SUBJECT {1000000000}\r\n",
        b"APPEND INBOX {53000000}\r\n",
        b"APPEND INBOX (\\Seen) {99999999999999999999}\r\n",
        b"APPEND {65537}\r\n",
    ):
        client.send(b"a " + line)
        reply = await client.reply(b"a")
        assert (reply.kind, reply.code) == ("NO", "TOOBIG"), line
        await alive(client)
    for line in (b"SEARCH SUBJECT {999999999+}\r\n", b"APPEND INBOX {9999999999+}\r\n"):
        other = await room.client()
        other.send(b"a " + line)
        assert is_bye((await other.until_closed())[-1])


async def test_many_literals_after_sign_in(room: Room) -> None:
    client = await room.client()
    for size, count in ((60_000, 12), (0, 6000)):
        piece = b" SUBJECT {%d+}\r\n%b" % (size, b"x" * size)
        client.send(b"a SEARCH" + piece * count + b"\r\n")
        reply = await client.reply(b"a")
        assert (reply.kind, reply.code) == ("NO", "TOOBIG"), (size, count)
        await alive(client)


@pytest.mark.parametrize(
    "line",
    [
        b"SEARCH " + b"(" * 60_000,
        b"SEARCH " + b"NOT " * 15_000 + b"ALL",
        b"SEARCH " + b"OR " * 20_000 + b"ALL",
        b"FETCH 1 " + b"(" * 60_000,
        b"FETCH 1 (" + b"BODY[" * 12_000,
        b"STORE 1 FLAGS " + b"(" * 60_000,
        b"LIST " + b"(" * 60_000,
        b"ID " + b"(" * 60_000,
        b"FETCH " + b"1," * 30_000 + b"2 FLAGS",
    ],
    ids=lambda line: line[:12].decode(),
)
async def test_deep_and_long_commands_are_answered_at_once(room: Room, line: bytes) -> None:
    client = await room.client()
    began = time.thread_time()  # the server's work and ours: both are on this thread
    reply = await client.command(line)
    assert reply.kind == ("OK" if b"NOT" in line else "BAD")  # NOT NOT is nothing
    assert time.thread_time() - began < 0.3
    await alive(client)


async def test_a_million_parentheses_after_sign_in(room: Room) -> None:
    client = await room.client()
    client.send(b"a SEARCH " + b"(" * 1_000_000 + b"\r\n")
    reply = await client.reply(b"a")
    assert reply.kind == "BAD"
    await alive(client)


@pytest.mark.parametrize("line", [b"a NOOP\n", b"a LOGIN ann\nb NOOP\r\n", b"a NOOP\r\r\n\n"])
async def test_a_bare_line_feed_ends_the_connection(room: Room, line: bytes) -> None:
    client = await room.client()
    client.send(line)
    heard = await client.until_closed()
    assert is_bye(heard[-1])
    assert b"OK" not in [each.kind for each in heard if isinstance(each, Tagged)]


async def test_responses_cannot_be_forged_by_what_a_client_says(room: Room) -> None:
    """Names and texts with line ends come back, if at all, as one value."""
    client = await room.client(mailbox=None)
    for name in (b"x\r\n* BYE forged", b"x\r\na OK done", b'x" OK', b"x\x00y"):
        for verb in ("SELECT", "CREATE", "SUBSCRIBE", "STATUS"):
            rest = " (MESSAGES)" if verb == "STATUS" else ""
            reply = await client.command(f"{verb} ", Literal(name), rest)
            assert reply.kind in ("NO", "BAD", "OK")
            assert not [each for each in reply.untagged if each.name == b"BYE"]
        await client.command("LIST ", '"" ', Literal(name))
    await alive(client)


# --- class 9: much work for few octets -----------------------------------------------------------


async def test_a_burst_of_commands_does_not_hold_up_the_others(room: Room) -> None:
    await room.fill(2000)
    client = await room.client()
    lag = 0.0

    async def watch() -> None:
        nonlocal lag
        while True:
            # This thread's own time: what else the machine does is not the server's fault.
            began = time.thread_time()
            await asyncio.sleep(0)
            lag = max(lag, time.thread_time() - began)

    task = asyncio.create_task(watch())
    lines = [b"n%d NOOP\r\n" % n for n in range(3000)]
    lines += [b"f%d FETCH 1:* (FLAGS)\r\n" % n for n in range(20)]
    client.send(b"".join(lines) + b"end NOOP\r\n")
    last = b""
    while b"end OK" not in last:
        # Not parsed: that would be work for this very loop.
        last = last[-100:] + await asyncio.wait_for(client._reader.read(65_536), 10)
    task.cancel()
    assert lag < 0.03


async def test_an_idle_pipe_of_commands_waits_in_the_kernel(room: Room) -> None:
    """A client that sends without reading: what we keep of it is bounded."""
    await room.deliver(*[SMALL] * 50)
    client = await room.client()
    (session,) = room.workers[0].connections()
    burst = b"".join(b"f%d FETCH 1:* BODY.PEEK[]\r\n" % n for n in range(20_000))
    client.send(burst)
    most = 0
    for _ in range(50):
        await asyncio.sleep(0.01)
        most = max(most, session._receiver.buffered)
    assert most < 256 * KIB
    client.abort()


MANY = 30_000


async def skip_to(client: ImapClient, end: bytes) -> int:
    """Read on to a tagged response; what comes is counted and let go."""
    last, size = b"", 0
    while end not in last:
        piece = await asyncio.wait_for(client._reader.read(65_536), 20)
        assert piece, "the connection was closed"
        size += len(piece)
        last = last[-100:] + piece
    return size


@pytest.mark.parametrize(
    "command",
    [
        b"FETCH 1:* BODY.PEEK[]",
        b"FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822.SIZE)",
        b"UID SEARCH RETURN (ALL) NOT BODY nowhere",
        b"SORT (REVERSE ARRIVAL SUBJECT FROM) UTF-8 ALL",
        b"THREAD REFERENCES UTF-8 ALL",
        b"STORE 1:* +FLAGS (\\Flagged)",
    ],
    ids=lambda command: command.split(b" (")[0].decode(),
)
async def test_a_command_over_a_large_mailbox_costs_little_memory_and_holds_up_nobody(
    room: Room, command: bytes
) -> None:
    await room.fill(MANY)
    client, other = await room.client(), await room.client()
    await other.command("NOOP")
    slowest = 0.0
    done = asyncio.Event()

    async def serve_another() -> None:
        nonlocal slowest
        while not done.is_set():
            began = time.thread_time()
            await other.command("NOOP")
            slowest = max(slowest, time.thread_time() - began)
            await asyncio.sleep(0.01)

    beside = asyncio.create_task(serve_another())
    tracemalloc.start()
    try:
        client.send(b"big %b\r\n" % command)
        await skip_to(client, b"big OK")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        done.set()
    await beside
    assert peak < 32 * KIB * KIB
    assert slowest < 3.0  # with every allocation traced: it did not wait for all of the command


async def test_a_set_that_names_all_again_and_again_costs_as_much_as_once(room: Room) -> None:
    await room.fill(2_000)
    client = await room.client()
    many = ",".join(["1:*", "*:1", "5:1000", "1000:5"] * 100)
    reply = await client.command(f"FETCH {many} (UID)")
    assert (reply.ok, len(reply.fetched())) == (True, 2_000)
    assert len(reply.untagged) == 2_000
    reply = await client.command(f"SEARCH {many} UID {many}")
    (found,) = reply["SEARCH"]
    assert (reply.ok, len(found.data)) == (True, 2_000)


async def test_a_slow_reader_of_a_large_answer_is_asked_for_nothing_more(room: Room) -> None:
    """What is not read is not made: the answer to one command is never held whole."""
    await room.fill(MANY)
    client = await room.client()
    tracemalloc.start()
    try:
        client.send(b"big FETCH 1:* BODY.PEEK[]\r\n")
        for _ in range(20):
            await asyncio.sleep(0.05)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * KIB * KIB
    client.abort()


# --- class 16: what refusals give away -----------------------------------------------------------


async def test_wrong_and_unknown_take_alike(room: Room) -> None:
    await room.configure("access.wrong_passwords", 0)
    await room.configure("access.wrong_from_address", 0)
    took: dict[str, list[float]] = {ANN: [], "nobody@example.test": [], "x@elsewhere.example": []}
    for n in range(15):
        client = await room.connect()
        for user, times in took.items():
            began = time.perf_counter()
            reply = await client.login(user, f"wrong {n} {user}")
            times.append(time.perf_counter() - began)
            assert reply.code == "AUTHENTICATIONFAILED"
        client.abort()
    # The quickest of many: what the machine does beside adds to the others only.
    quickest = [statistics.mean(sorted(times)[:3]) for times in took.values()]
    assert max(quickest) < 1.6 * min(quickest)
