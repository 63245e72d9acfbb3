"""APPEND over sockets: one or several, small and large, refused and broken off. RFC 3502."""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from postroom.core.errors import InDoubt
from postroom.domain.mailboxes import reading
from postroom.testing.imap import ImapClient, Literal, Reply, flags_of, numbers_of
from postroom.testing.scripted import ClosedError
from tests.protocols.imap.serving import ANN, SMALL, Room, message


def appended(reply: Reply) -> tuple[object, list[int]]:
    data = reply.code_data("APPENDUID")
    assert data is not None, reply
    return data[0], numbers_of(data[1])


async def bodies(client: ImapClient) -> list[object]:
    reply = await client.command("FETCH 1:* BODY.PEEK[]")
    return [items["BODY[]"] for items in reply.fetched().values()]


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("size", [10, 70_000, 300_000, 3_000_000])
async def test_messages_of_every_size_come_back(room_both: Room, size: int, sync: bool) -> None:
    raw = message(body=random.Random(size).randbytes(size // 2).hex().encode() + b"\r\n")
    client = await room_both.client()
    reply = await client.append("INBOX", raw, sync=sync)
    assert reply.ok, reply
    box = await room_both.box()
    assert appended(reply) == (box.uidvalidity, [1])
    assert reply.numbers("EXISTS") == [1]
    assert await bodies(client) == [raw]


async def test_flags_and_date_are_kept(room: Room) -> None:
    client = await room.client()
    reply = await client.append(
        "INBOX",
        SMALL,
        flags="(\\Seen $Work \\Recent)",
        date='"17-Jul-1996 02:44:25 -0700"',
    )
    assert reply.ok
    (items,) = (await client.command("FETCH 1 (FLAGS INTERNALDATE)")).fetched().values()
    assert flags_of(items["FLAGS"]) == {"\\Seen", "$Work", "\\Recent"}
    assert items["INTERNALDATE"] == b"17-Jul-1996 09:44:25 +0000"
    assert (await client.append("INBOX", SMALL, date='" 1-Jan-2026 00:00:00 +0000"')).ok


@pytest.mark.parametrize("sync", [True, False])
async def test_several_messages_are_one_change(room_both: Room, sync: bool) -> None:
    raws = [message(subject=f"n{n}") for n in range(5)]
    client, other = await room_both.client(), await room_both.client(worker=1)
    reply = await client.append("INBOX", *raws, flags="(\\Flagged)", sync=sync)
    assert appended(reply)[1] == [1, 2, 3, 4, 5]
    assert await bodies(client) == raws
    assert (await other.command("NOOP")).numbers("EXISTS") == [5]
    assert len(set((await room_both.modseqs()).values())) == 1


async def test_all_or_none(room: Room) -> None:
    client = await room.client()
    for parts in (
        # An empty message takes the command back: RFC 3502 §6.3.11.
        ["APPEND INBOX ", Literal(SMALL), " ", Literal(b"")],
        ["APPEND INBOX ", Literal(SMALL, False), " ", Literal(b"", False)],
        ["APPEND INBOX ", Literal(SMALL), " (\\Nonsense) ", Literal(SMALL)],
        ["APPEND INBOX ", Literal(SMALL), ' "no date" ', Literal(SMALL)],
        ["APPEND INBOX ", Literal(SMALL), " nonsense"],
        ["APPEND INBOX ", Literal(SMALL, False), " ", Literal(b"nul \0 byte", False)],
        ["APPEND INBOX ", Literal(SMALL), " ", Literal(b"X: nul \0 byte\r\n\r\n", binary=True)],
        ["APPEND INBOX (\\Seen"],
        ["APPEND INBOX"],
        ["APPEND INBOX ", Literal(SMALL, False), " ", Literal(b"x" * 53_000_000, True)],
    ):
        reply = await client.command(*parts)
        assert reply.kind in ("NO", "BAD"), parts
        assert (await client.command("NOOP")).untagged == []
    assert (await room.box()).total == 0


@pytest.mark.parametrize("sync", [True, False])
async def test_a_mailbox_that_is_not_there_may_be_made(room: Room, sync: bool) -> None:
    client = await room.client(mailbox=None)
    reply = await client.append("Nowhere", SMALL, sync=sync)
    assert (reply.kind, reply.code) == ("NO", "TRYCREATE")
    assert (await client.command("NOOP")).ok
    assert (await client.command("CREATE Nowhere")).ok
    assert (await client.append("Nowhere", SMALL, sync=sync)).ok


async def test_an_account_that_is_full_takes_nothing(room: Room) -> None:
    client = await room.client()
    await room.configure("quota.octets", 3 * len(SMALL), room.quota())
    assert (await client.append("INBOX", SMALL, SMALL)).ok
    for sync in (True, False):
        reply = await client.append("INBOX", SMALL, SMALL, sync=sync)
        assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
        reply = await client.append("INBOX", message(body=b"x" * 100_000), sync=sync)
        assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert (await client.append("INBOX", SMALL)).ok
    assert await room.house.mail.read(reading.usage, room.accounts[ANN]) == (3 * len(SMALL), 3)


async def test_bare_line_feeds_are_repaired(room: Room) -> None:
    client = await room.client()
    assert (await client.append("INBOX", b"Subject: unix\n\nline one\nline two\n")).ok
    assert await bodies(client) == [b"Subject: unix\r\n\r\nline one\r\nline two\r\n"]


async def test_pipelined_appends_come_in_order(room: Room) -> None:
    """As migration tools send them: no leave asked, no reply awaited."""
    client = await room.client(mailbox=None)
    raws = [message(subject=f"n{n}", body=b"y" * (n * 977 % 5000)) for n in range(120)]
    for n, raw in enumerate(raws):
        client.send(b"a%d APPEND INBOX (\\Seen) {%d+}\r\n%b\r\n" % (n, len(raw), raw))
    for n in range(len(raws)):
        assert appended(await client.reply(b"a%d" % n))[1] == [n + 1]
    assert (await client.command("SELECT INBOX")).ok
    assert await bodies(client) == raws


@pytest.mark.parametrize("size", [1_000, 3_000_000])
async def test_a_connection_that_breaks_off_leaves_nothing(room: Room, size: int) -> None:
    client = await room.client()
    client.send(b"a APPEND INBOX {%d+}\r\n" % size + b"x" * (size - 1))
    await client.flush()
    await asyncio.sleep(0.1)
    client.abort()
    await room.settled(lambda: not room.workers[0].connections())
    assert (await room.box()).total == 0
    folder = os.path.join(room.house.blobs.folder, "new")
    assert not os.path.exists(folder) or os.listdir(folder) == []


async def test_a_draining_server_takes_the_message_that_is_on_its_way(room: Room) -> None:
    client = await room.client()
    client.send(b"a APPEND INBOX {%d+}\r\n" % len(SMALL) + SMALL[:50])
    await client.flush()
    await asyncio.sleep(0.05)
    task = asyncio.create_task(room.workers[0].acceptors["imaps"].shutdown())
    await asyncio.sleep(0.05)
    client.send(SMALL[50:] + b"\r\nb NOOP\r\n")
    assert (await client.reply(b"a")).ok
    heard = await client.until_closed()
    assert [each.name for each in heard if hasattr(each, "name")] == [b"BYE"]
    await client.close()
    await asyncio.wait_for(task, 3)
    assert (await room.box()).total == 1


async def test_an_append_in_doubt_gets_no_answer(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO would promise that it is not there; a client looks again after a BYE."""

    async def lost(*_: object, **__: object) -> None:
        raise InDoubt(detail="nobody tells")

    client = await room.client()
    with monkeypatch.context() as patch:
        for way in ("write", "write_much"):
            patch.setattr(room.house.mail, way, lost)
        with pytest.raises(ClosedError) as closed:
            await client.append("INBOX", SMALL)
    assert "not known" in str(closed.value)
    assert (await (await room.client()).append("INBOX", SMALL)).ok
