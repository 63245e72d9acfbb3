"""SEARCH RETURN (SAVE) and `$` over sockets. RFC 5182."""

from __future__ import annotations

import pytest

from postroom.protocols.imap import searching
from postroom.testing.imap import ImapClient
from tests.protocols.imap.serving import SMALL, Room


async def numbers(client: ImapClient, text: str = "SEARCH $") -> list[object]:
    reply = await client.command(text)
    assert reply.ok, (text, reply)
    (each,) = reply["SEARCH"]
    return list(each.data)


async def fill(room: Room) -> ImapClient:
    await room.deliver(*[SMALL] * 8)
    await room.flag([2, 3, 5, 7], add=("\\Flagged",))
    return await room.client()


async def test_a_saved_result_stands_for_messages_in_every_command(room_both: Room) -> None:
    client = await fill(room_both)
    reply = await client.command("SEARCH RETURN (SAVE) FLAGGED")  # RFC 5182 §3, example 1
    assert reply.ok
    assert not reply["ESEARCH"]
    assert not reply["SEARCH"]
    assert sorted((await client.command("FETCH $ (UID)")).fetched()) == [2, 3, 5, 7]
    assert sorted((await client.command("UID FETCH $ (UID)")).fetched()) == [2, 3, 5, 7]
    assert await numbers(client, "SEARCH $ 1:4") == [2, 3]
    assert await numbers(client, "UID SEARCH UID $ NOT 3") == [2, 5, 7]
    assert await numbers(client, "SEARCH NOT $") == [1, 4, 6, 8]
    assert await numbers(client, "SEARCH OR $ 1 UNSEEN") == [1, 2, 3, 5, 7]
    assert (await client.command("COPY $ Archive")).ok
    assert len(await room_both.rows("Archive")) == 4
    assert (await client.command("STORE $ +FLAGS.SILENT (\\Deleted)")).ok
    reply = await client.command("UID EXPUNGE $")
    assert [each.number for each in reply["EXPUNGE"]] == [7, 5, 3, 2]
    assert await numbers(client) == []
    assert (await client.command("FETCH $ (FLAGS)")).ok
    assert not (await client.command("FETCH $ (FLAGS)")).fetched()


async def test_numbers_follow_what_is_removed(room: Room) -> None:
    client = await fill(room)
    await client.command("SEARCH RETURN (SAVE) FLAGGED")
    await room.remove([1, 3])
    await client.command("NOOP")
    assert await numbers(client) == [1, 3, 5]  # they were 2, 5 and 7
    assert await numbers(client, "UID SEARCH $") == [2, 5, 7]


@pytest.mark.parametrize(
    ("returns", "saved", "told"),
    [
        ("SAVE MIN", [2], (b"MIN", 2)),
        ("SAVE MAX", [7], (b"MAX", 7)),
        ("MIN MAX SAVE", [2, 7], (b"MIN", 2, b"MAX", 7)),
        ("SAVE COUNT", [2, 3, 5, 7], (b"COUNT", 4)),
        ("SAVE MIN COUNT", [2, 3, 5, 7], (b"MIN", 2, b"COUNT", 4)),
        ("SAVE ALL MIN", [2, 3, 5, 7], (b"MIN", 2, b"ALL", b"2:3,5,7")),
    ],
)
async def test_what_is_saved_is_what_was_asked_for(
    room: Room, returns: str, saved: list[object], told: tuple[object, ...]
) -> None:
    """RFC 5182 §2.4, the table."""
    client = await fill(room)
    for verb, key in (("SEARCH", "FLAGGED"), ("SORT", "(SIZE) UTF-8 FLAGGED")):
        reply = await client.command(f"{verb} RETURN ({returns}) {key}")
        assert reply.ok
        assert reply["ESEARCH"][0].data[1:] == told
        assert await numbers(client) == saved


async def test_it_belongs_to_the_open_mailbox(room: Room) -> None:
    client = await fill(room)
    assert await numbers(client) == []  # nothing was saved yet
    await client.command("SEARCH RETURN (SAVE) ALL")
    await client.command("SELECT INBOX")
    assert await numbers(client) == []
    await client.command("SEARCH RETURN (SAVE) 1:3")
    await client.command("SEARCH FLAGGED")  # saves nothing, and takes nothing away
    assert await numbers(client) == [1, 2, 3]
    await client.command("SEARCH RETURN (SAVE) $ FLAGGED")
    assert await numbers(client) == [2, 3]


async def test_no_empties_it_and_bad_leaves_it(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await fill(room)
    await client.command("SEARCH RETURN (SAVE) 1:3")
    assert (await client.command("SEARCH RETURN (SAVE) NONSENSE")).kind == "BAD"
    assert await numbers(client) == [1, 2, 3]
    monkeypatch.setattr(searching, "STRINGS_MOST", 1)
    assert (await client.command("SEARCH SUBJECT a BODY b")).kind == "NO"
    assert await numbers(client) == [1, 2, 3]
    assert (await client.command("SEARCH RETURN (SAVE) SUBJECT a BODY b")).kind == "NO"
    assert await numbers(client) == []


@pytest.mark.parametrize(
    "refused",
    [
        "SEARCH RETURN (SAVE) CHARSET KOI8-R ALL",
        "UID SEARCH RETURN (MIN SAVE) CHARSET KOI8-R ALL",
        "SORT RETURN (SAVE) (ARRIVAL) KOI8-R ALL",
        "ESEARCH RETURN (SAVE) CHARSET KOI8-R ALL",
    ],
)
async def test_a_charset_that_is_not_known_empties_it(room: Room, refused: str) -> None:
    """RFC 5182 §2.1, example 5; without SAVE it stays."""
    client = await fill(room)
    assert (await client.command("SEARCH RETURN (SAVE) FLAGGED")).ok
    reply = await client.command(refused.replace("SAVE", "COUNT"))
    assert (reply.kind, reply.code) == ("NO", "BADCHARSET")
    assert await numbers(client) == [2, 3, 5, 7]
    reply = await client.command(refused)
    assert (reply.kind, reply.code) == ("NO", "BADCHARSET")
    assert await numbers(client) == []


async def test_pipelined_commands_see_the_result(room: Room) -> None:
    client = await fill(room)
    client.send(b"a UID SEARCH RETURN (SAVE) 4:6\r\nb STORE $ +FLAGS.SILENT (\\Seen)\r\n")
    assert (await client.reply(b"a")).ok
    assert (await client.reply(b"b")).ok
    seen = {uid for uid, flags in (await room.stored()).items() if "\\Seen" in flags}
    assert seen == {4, 5, 6}
