"""GETQUOTA, GETQUOTAROOT and what STATUS says of quotas, over sockets. RFC 9208, RFC 7889."""

from __future__ import annotations

import pytest

from tests.protocols.imap.serving import SMALL, Room, message


async def test_an_account_with_limits_has_one_root(room_both: Room) -> None:
    place = room_both.quota()
    await room_both.configure("quota.octets", 512 * 1024 + 5, place)
    await room_both.configure("quota.messages", 10, place)
    await room_both.deliver(message(body=b"x" * 1500))
    client = await room_both.client(mailbox=None)
    resources = (b"STORAGE", 2, 512, b"MESSAGE", 1, 10)
    reply = await client.command('GETQUOTA ""')
    assert reply.ok
    assert [each.data for each in reply["QUOTA"]] == [(b"", resources)]
    for name in ("INBOX", "inbox", "Not/yet/made"):
        reply = await client.command("GETQUOTAROOT " + name)
        assert reply.ok
        told = b"INBOX" if name == "inbox" else name.encode()
        assert [each.data for each in reply["QUOTAROOT"]] == [(told, b"")]
        assert [each.data for each in reply["QUOTA"]] == [(b"", resources)]
    reply = await client.command("GETQUOTA nobody")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")


async def test_only_what_is_limited_is_told(room: Room) -> None:
    client = await room.client(mailbox=None)
    reply = await client.command("GETQUOTAROOT INBOX")
    assert reply.ok
    assert [each.data for each in reply["QUOTAROOT"]] == [(b"INBOX",)]
    assert not reply["QUOTA"]
    reply = await client.command('GETQUOTA ""')
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    await room.configure("quota.messages", 3, room.quota())
    reply = await client.command('GETQUOTA ""')
    assert [each.data for each in reply["QUOTA"]] == [(b"", (b"MESSAGE", 0, 3))]


@pytest.mark.parametrize("command", ["APPEND", "COPY"])
async def test_what_does_not_fit_is_overquota(room: Room, command: str) -> None:
    await room.deliver(SMALL)
    await room.configure("quota.messages", 1, room.quota())
    client = await room.client()
    if command == "APPEND":
        reply = await client.append("INBOX", SMALL)
    else:
        reply = await client.command("COPY 1 Archive")
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    reply = await client.command('GETQUOTA ""')
    assert [each.data for each in reply["QUOTA"]] == [(b"", (b"MESSAGE", 1, 1))]
    assert (await client.command("MOVE 1 Archive")).ok  # moves need no more room


@pytest.mark.parametrize(
    "line",
    [
        "GETQUOTA",
        "GETQUOTA ",
        'GETQUOTA "" more',
        "GETQUOTAROOT",
        "GETQUOTAROOT INBOX INBOX",
        'GETQUOTAROOT ""',
        'SETQUOTA "" (STORAGE 5)',
    ],
)
async def test_what_is_wrong_is_refused(room: Room, line: str) -> None:
    client = await room.client(mailbox=None)
    assert (await client.command(line)).kind == "BAD"


async def test_status_tells_what_expunge_would_free(room_both: Room) -> None:
    sizes = [len(message(body=b"x" * (100 * n))) for n in range(1, 5)]
    await room_both.deliver(*[message(body=b"x" * (100 * n)) for n in range(1, 5)])
    client = await room_both.client()
    asked = "STATUS INBOX (DELETED DELETED-STORAGE APPENDLIMIT)"
    limit = 50 * 1024 * 1024
    for flagged, freed in (("", 0), ("2,4", sizes[1] + sizes[3]), ("1:*", sum(sizes))):
        if flagged:
            assert (await client.command(f"STORE {flagged} +FLAGS.SILENT (\\Deleted)")).ok
        (told,) = (await client.command(asked))["STATUS"]
        count = len([each for each in (await room_both.stored()).values() if "\\Deleted" in each])
        items = (b"DELETED", count, b"DELETED-STORAGE", freed, b"APPENDLIMIT", limit)
        assert told.data[1] == items
    reply = await client.command('LIST "" INBOX RETURN (STATUS (DELETED-STORAGE))')
    assert reply["STATUS"][0].data[1] == (b"DELETED-STORAGE", sum(sizes))
