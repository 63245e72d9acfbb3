"""COMPRESS over sockets. RFC 4978."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib

import pytest

from postroom.protocols.imap import server
from postroom.testing.imap import ImapClient, Literal
from postroom.wire.imap import Tagged, Untagged
from tests.protocols.imap.serving import ANN, PASSWORD, SMALL, Room, client_context, message


async def squeezed(room: Room, mailbox: str | None = "INBOX") -> ImapClient:
    client = await room.client(mailbox=mailbox)
    assert (await client.compress()).ok
    return client


async def test_everything_works_on_a_compressed_connection(room_both: Room) -> None:
    raws = [message(f"n{n}", b"line of text\r\n" * n * 400) for n in range(5)]
    await room_both.deliver(*raws)
    client = await squeezed(room_both)
    fetched = (await client.command("FETCH 1:* (FLAGS BODY.PEEK[])")).fetched()
    assert [each["BODY[]"] for each in fetched.values()] == raws
    assert (await client.command("STORE 1:* +FLAGS.SILENT (\\Seen)")).ok
    assert (await client.command("SEARCH SEEN"))["SEARCH"][0].data == (1, 2, 3, 4, 5)
    for sync in (True, False):
        reply = await client.command("APPEND INBOX ", Literal(message("by hand"), sync=sync))
        assert reply.ok
    assert (await client.command("NOOP")).ok
    assert (await client.command("LOGOUT")).ok


async def test_a_large_body_is_streamed_and_whole(room: Room) -> None:
    raw = message("large", b"".join(b"%07d of many lines\r\n" % n for n in range(150_000)))
    await room.deliver(raw)
    client = await squeezed(room)
    fetched = (await client.command("FETCH 1 BODY.PEEK[]", patience=30)).fetched()
    assert fetched[1]["BODY[]"] == raw


async def test_it_is_offered_once_and_to_who_signed_in(room: Room) -> None:
    stranger = await room.connect()
    words = (await stranger.command("CAPABILITY"))["CAPABILITY"][0].data
    assert b"COMPRESS=DEFLATE" not in words
    assert (await stranger.command("COMPRESS DEFLATE")).kind == "BAD"
    client = await room.client()
    assert b"COMPRESS=DEFLATE" in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    assert (await client.compress()).ok
    assert b"COMPRESS=DEFLATE" not in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    again = await client.command("COMPRESS DEFLATE")
    assert (again.kind, again.code) == ("NO", "COMPRESSIONACTIVE")
    assert (await client.command("NOOP")).ok


@pytest.mark.parametrize(
    ("line", "kind"),
    [("COMPRESS", "BAD"), ("COMPRESS DEFLATE now", "BAD"), ("COMPRESS BROTLI", "NO")],
)
async def test_what_is_refused_changes_nothing(room: Room, line: str, kind: str) -> None:
    client = await room.client()
    assert (await client.command(line)).kind == kind
    assert (await client.command("NOOP")).ok


async def test_what_follows_before_the_answer_is_not_inflated(room: Room) -> None:
    """Attack class 2: it stays what it was, and the connection stays plain."""
    client = await room.client()
    client.send(b"a COMPRESS DEFLATE\r\nb NOOP\r\n")
    heard = [await client.response(), await client.response()]
    assert [(each.tag, each.kind) for each in heard if isinstance(each, Tagged)] == [
        (b"a", b"BAD"),
        (b"b", b"OK"),
    ]
    assert (await client.command("NOOP")).ok


async def test_a_compressed_connection_is_not_handed_on(room: Room) -> None:
    client = await squeezed(room)
    assert (await client.command("UNAUTHENTICATE")).kind == "NO"
    assert (await client.command("FETCH 1:* (UID)")).ok


# --- waiting ----------------------------------------------------------------------------------


async def test_who_idles_is_told_and_holds_no_compressor(room: Room) -> None:
    client = await squeezed(room)
    (connection,) = room.workers[0].connections()
    for count in (1, 2, 3):
        tag = client.tag()
        client.send(tag + b" IDLE\r\n")
        await client.response()
        await room.settled(lambda: not _warm(connection))
        await room.deliver(SMALL)
        while not (
            isinstance(each := await client.response(), Untagged)
            and (each.name, each.number) == (b"EXISTS", count)
        ):
            pass
        await room.settled(lambda: not _warm(connection))
        client.send(b"DONE\r\n")
        assert (await client.reply(tag)).ok


def _warm(connection: server.ImapConnection) -> bool:
    assert connection._out.compression is not None
    return connection._out.compression.is_warm


async def test_who_is_silent_for_a_while_holds_none_either(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "COMPARE_SECONDS", 0.2)
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.8)
    client = await squeezed(room)
    assert (await client.command("NOOP")).ok
    (connection,) = room.workers[0].connections()
    assert _warm(connection)
    await room.settled(lambda: not _warm(connection))
    assert (await client.command("NOOP")).ok  # the stream goes on
    heard = await client.until_closed(5)
    assert isinstance(heard[-1], Untagged) and heard[-1].name == b"BYE"


# --- hostile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "octets",
    [
        b"a NOOP\r\n" * 20,
        b"\xff" * 100,
        zlib.compress(b"a NOOP\r\n"),  # zlib's frame is not wanted
        zlib.compressobj(wbits=-15).flush() + b"a NOOP\r\n",  # it ends
    ],
    ids=["plain", "ones", "zlib", "ended"],
)
async def test_a_damaged_stream_ends_the_session(room: Room, octets: bytes) -> None:
    client = await squeezed(room)
    client.send_raw(octets)
    heard = await client.until_closed()
    assert [each.name for each in heard if isinstance(each, Untagged)] == [b"BYE"]


@pytest.mark.parametrize("inside", [b"x", b"x NOOP\r\n"], ids=["one line", "many commands"])
async def test_a_bomb_costs_neither_memory_nor_others(room: Room, inside: bytes) -> None:
    """Attack classes 7 and 8: 32 MiB that come as 32 KiB."""
    client = await squeezed(room)
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = deflate.compress(inside * ((32 << 20) // len(inside)) + b"\r\nz LOGOUT\r\n")
    bomb += deflate.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 100_000
    other = await room.client()
    tracemalloc.start()
    try:
        client.send_raw(bomb)
        for _ in range(20):
            assert (await other.command("NOOP")).ok
        if inside == b"x":  # the line is too long, and what stands behind it is heard
            heard = await client.until_closed()
            assert [each.kind for each in heard if isinstance(each, Tagged)] == [b"OK"]
            assert next(each.name for each in heard if isinstance(each, Untagged)) == b"BAD"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20
    client.abort()


async def test_a_burst_of_commands_waits_its_turn(room: Room) -> None:
    client = await squeezed(room)
    count = 5_000
    client.send(b"".join(b"n%d NOOP\r\n" % n for n in range(count)))
    for number in range(count):
        heard = await client.response()
        assert isinstance(heard, Tagged) and heard.tag == b"n%d" % number


async def test_octets_that_come_one_by_one(room: Room) -> None:
    client = await squeezed(room)
    deflate = zlib.compressobj(wbits=-9)  # the smallest window that there is
    sent = deflate.compress(b"a NOOP\r\nb SELECT INBOX\r\n") + deflate.flush(zlib.Z_SYNC_FLUSH)
    for at in range(len(sent)):
        client.send_raw(sent[at : at + 1])
        await client.flush()
        await asyncio.sleep(0)
    heard = [await client.response()]
    while not (isinstance(heard[-1], Tagged) and heard[-1].tag == b"b"):
        heard.append(await client.response())
    assert [each.tag for each in heard if isinstance(each, Tagged)] == [b"a", b"b"]


async def test_behind_starttls_too(room: Room) -> None:
    client = await room.connect("imap")
    assert (await client.starttls(client_context())).ok
    assert (await client.login(ANN, PASSWORD)).ok
    assert (await client.compress()).ok
    assert (await client.command("SELECT INBOX")).ok
