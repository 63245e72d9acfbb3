"""SELECT, EXAMINE, CLOSE, UNSELECT: what a client is told of a mailbox.

RFC 3501 §6.3, §7.3, RFC 3691.
"""

from __future__ import annotations

import asyncio

import pytest

from postroom.core.ids import MAILBOX, external
from postroom.domain.mailboxes import reading
from postroom.testing.imap import Reply, flags_of
from tests.protocols.imap.serving import ANN, BOB, SMALL, Room, codes_of

SYSTEM = {"\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"}


async def recent_settled(room: Room, path: str = "INBOX") -> None:
    """Wait until the store knows that somebody was told of the newest message."""
    box = await room.box(path)
    for _ in range(500):
        if await room.house.state.read(reading.recent_floor, box.id) >= box.uidnext:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("nobody claimed the new messages")


def number(reply: Reply, code: str) -> object:
    data = reply.code_data(code)
    return data[0] if data is not None else None


async def test_select_tells_all_that_must_be_told(room_both: Room) -> None:
    stored = await room_both.deliver(SMALL, SMALL, SMALL)
    await room_both.flag([stored[0].uid], add=("\\Seen", "$Label1"))
    client = await room_both.client(mailbox=None)
    reply = await client.command("SELECT INBOX")
    box = await room_both.box()
    assert (reply.kind, reply.code) == ("OK", "READ-WRITE")
    (flags,) = reply["FLAGS"]
    assert flags_of(flags.data[0]) >= SYSTEM | {"$Label1", "$Forwarded"}
    assert "\\Recent" not in flags_of(flags.data[0])
    kept = reply.code_data("PERMANENTFLAGS")
    assert kept is not None
    assert flags_of(kept[0]) == flags_of(flags.data[0]) | {"\\*"}
    assert reply.numbers("EXISTS") == [3]
    assert reply.numbers("RECENT") == [3]
    assert number(reply, "UNSEEN") == 2
    assert number(reply, "UIDVALIDITY") == box.uidvalidity
    assert number(reply, "UIDNEXT") == box.uidnext == stored[-1].uid + 1
    assert number(reply, "HIGHESTMODSEQ") == box.modseq
    assert reply.code_data("MAILBOXID") == ((external(MAILBOX, box.id).encode(),),)


async def test_an_empty_mailbox_has_no_unseen_message(room: Room) -> None:
    client = await room.client(mailbox=None)
    reply = await client.command("SELECT Drafts")
    assert reply.ok
    assert (reply.numbers("EXISTS"), reply.numbers("RECENT")) == ([0], [0])
    assert reply.code_data("UNSEEN") is None
    assert number(reply, "UIDNEXT") == 1
    for line in ("FETCH 1:* (FLAGS)", "UID FETCH 1:* (FLAGS)", "UID FETCH 7 (FLAGS)"):
        reply = await client.command(line)
        assert reply.ok, line
        assert reply.untagged == []
    for line in ("FETCH 1 (FLAGS)", "STORE 1 FLAGS ()", "COPY 1 Sent"):
        assert (await client.command(line)).kind == "BAD", line


@pytest.mark.parametrize("name", ["INBOX", "inbox", "InBoX", '"inbox"'])
async def test_inbox_is_found_in_any_case(room: Room, name: str) -> None:
    assert (await (await room.client(mailbox=None)).command("SELECT ", name)).ok


async def test_validity_and_next_uid_stay_over_sessions_and_expunges(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL)
    first = await (await room.client(mailbox=None)).command("SELECT INBOX")
    await room.remove([stored[1].uid])
    second = await (await room.client(mailbox=None, worker=1)).command("SELECT INBOX")
    assert number(first, "UIDVALIDITY") == number(second, "UIDVALIDITY")
    assert number(first, "UIDNEXT") == number(second, "UIDNEXT")
    (later,) = await room.deliver(SMALL)
    assert later.uid == number(second, "UIDNEXT")


async def test_a_mailbox_that_is_not_there_closes_the_one_that_was_open(room: Room) -> None:
    client = await room.client()
    reply = await client.command("SELECT Nowhere")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    assert b"CLOSED" in codes_of(reply)
    assert (await client.command("FETCH 1:* (FLAGS)")).kind == "BAD"
    assert (await client.command("SELECT Sent")).ok


async def test_selecting_another_mailbox_tells_that_the_first_is_closed(room: Room) -> None:
    client = await room.client(mailbox=None)
    assert b"CLOSED" not in codes_of(await client.command("SELECT INBOX"))
    for line in ("SELECT Sent", "EXAMINE Sent"):
        assert codes_of(await client.command(line))[0] == b"CLOSED"  # RFC 7162 §3.2.11


async def test_parameters_of_select(room: Room) -> None:
    client = await room.client(mailbox=None)
    assert (await client.command("SELECT INBOX (CONDSTORE)")).ok
    reply = await client.command("SELECT Sent (QRESYNC (1 1))")
    assert reply.kind == "BAD"  # RFC 7162 §3.2.5: it was not enabled
    assert (await client.command("NOOP")).ok
    assert (await client.command("FETCH 1:* (FLAGS)")).ok  # INBOX is still open
    assert (await client.command("SELECT INBOX (NONSENSE)")).kind == "BAD"


# --- RECENT --------------------------------------------------------------------------------------


async def test_one_session_is_told_of_a_recent_message(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    first = await room.client(mailbox=None)
    assert (await first.command("SELECT INBOX")).numbers("RECENT") == [2]
    fetched = (await first.command("FETCH 1:* (FLAGS)")).fetched()
    assert [flags_of(items["FLAGS"]) for items in fetched.values()] == [{"\\Recent"}] * 2
    await recent_settled(room)
    second = await room.client(mailbox=None, worker=1)
    assert (await second.command("SELECT INBOX")).numbers("RECENT") == [0]
    fetched = (await second.command("FETCH 1:* (FLAGS)")).fetched()
    assert [flags_of(items["FLAGS"]) for items in fetched.values()] == [set()] * 2
    await room.deliver(SMALL)
    assert (await second.command("NOOP")).numbers("RECENT") == [1]
    await recent_settled(room)
    reply = await first.command("NOOP")
    assert (reply.numbers("EXISTS"), reply.numbers("RECENT")) == ([3], [2])
    assert (await first.command("SELECT INBOX")).numbers("RECENT") == [0]


async def test_examining_leaves_messages_recent(room: Room) -> None:
    await room.deliver(SMALL)
    looker = await room.client(mailbox=None)
    for _ in range(2):
        assert (await looker.command("EXAMINE INBOX")).numbers("RECENT") == [1]
    await room.deliver(SMALL)
    assert (await looker.command("NOOP")).numbers("RECENT") == [2]
    owner = await room.client(mailbox=None)
    assert (await owner.command("SELECT INBOX")).numbers("RECENT") == [2]


async def test_messages_that_are_expunged_are_recent_no_more(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL, SMALL)
    client = await room.client()
    await room.remove([stored[0].uid, stored[2].uid])
    await room.deliver(SMALL)
    assert (await client.command("NOOP")).numbers("RECENT") == [2]


# --- reading only --------------------------------------------------------------------------------


async def test_an_examined_mailbox_is_not_changed(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL)
    await room.flag([stored[0].uid], add=("\\Deleted",))
    before = await room.stored()
    client = await room.client(mailbox=None)
    reply = await client.command("EXAMINE INBOX")
    assert (reply.kind, reply.code) == ("OK", "READ-ONLY")
    assert reply.code_data("PERMANENTFLAGS") == ((),)
    for line in (
        "STORE 1 +FLAGS (\\Seen)",
        "UID STORE 1:* FLAGS ()",
        "EXPUNGE",
        "UID EXPUNGE 1:*",
        "MOVE 1 Sent",
        "UID MOVE 1:* Sent",
    ):
        reply = await client.command(line)
        assert (reply.kind, reply.code) == ("NO", "CANNOT"), line
    reply = await client.command("FETCH 1:* (BODY[] RFC822)")
    assert "FLAGS" not in reply.fetched()[1]
    assert (await client.command("COPY 1 Sent")).ok
    assert (await client.command("CLOSE")).ok  # expunges nothing
    assert await room.stored() == before


# --- closing -------------------------------------------------------------------------------------


async def test_close_expunges_in_silence_and_unselect_does_not(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL, SMALL)
    await room.flag([stored[0].uid, stored[2].uid], add=("\\Deleted",))
    client = await room.client()
    reply = await client.command("UNSELECT")
    assert (reply.kind, reply.untagged) == ("OK", [])
    assert len(await room.stored()) == 3
    assert (await client.command("SELECT INBOX")).ok
    reply = await client.command("CLOSE")
    assert (reply.kind, reply.untagged) == ("OK", [])
    assert list(await room.stored()) == [stored[1].uid]
    assert (await client.command("FETCH 1 (FLAGS)")).kind == "BAD"


async def test_a_mailbox_that_is_deleted_ends_the_sessions_that_have_it_open(room: Room) -> None:
    await room.create("Doomed")
    client, other = await room.client(mailbox="Doomed"), await room.client(mailbox=None)
    assert (await other.command("DELETE Doomed")).ok
    client.send(b"a NOOP\r\n")
    heard = await client.until_closed()
    assert heard[0].name == b"BYE"  # type: ignore[union-attr]  # untagged, as the assertion says


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "path"),
    [
        ("Entw&APw-rfe", "Entwürfe"),
        ('"Entw&APw-rfe"', "Entwürfe"),
        ("&ZeVnLIqe-", "日本語"),
        ("R&-D", "R&D"),
        ('"two words"', "two words"),
        ("Archive/2026", "Archive/2026"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
    ],
)
async def test_names_on_the_wire_are_modified_utf7(room: Room, wire: str, path: str) -> None:
    await room.create(path)
    await room.deliver(SMALL, path=path)
    client = await room.client(mailbox=None)
    reply = await client.command("SELECT ", wire)
    assert reply.ok, reply
    assert reply.numbers("EXISTS") == [1]


@pytest.mark.parametrize("wire", ["&", "&AGE-", "&Jjo!", "a&b", '"\u00fc"'])
async def test_names_with_another_spelling_are_refused(room: Room, wire: str) -> None:
    client = await room.client(mailbox=None)
    assert (await client.command("SELECT ", wire)).kind == "BAD"


# --- class 29: who sees what ---------------------------------------------------------------------


async def test_two_accounts_never_see_each_others_mailboxes(room_both: Room) -> None:
    """The same names, the same UIDs, one worker's views warm and cold, command by command."""
    for user in (ANN, BOB):
        await room_both.create("Shared name", user)
        for path in ("INBOX", "Shared name"):
            for n in range(3):
                raw = b"Subject: %b %b %d\r\n\r\nx\r\n" % (user.encode(), path.encode(), n)
                await room_both.deliver(raw, user=user, path=path)
    clients = {
        (user, worker): await room_both.client(user, None, worker)
        for user in (ANN, BOB)
        for worker in (0, 1)
    }
    for path in ("INBOX", "Shared name", "INBOX"):
        for (user, _), client in clients.items():
            assert (await client.command(f'SELECT "{path}"')).numbers("EXISTS") == [3]
            for line in ("FETCH 1:* BODY.PEEK[]", "UID FETCH 1:9 BODY.PEEK[]"):
                fetched = (await client.command(line)).fetched()
                assert len(fetched) == 3
                for items in fetched.values():
                    body = items["BODY[]"]
                    assert isinstance(body, bytes)
                    assert body.startswith(b"Subject: %b %b" % (user.encode(), path.encode()))
    await room_both.create("Ann only")
    bob = clients[BOB, 0]
    for line in (
        'COPY 1 "Ann only"',
        'STATUS "Ann only" (MESSAGES)',
        'APPEND "Ann only" {3+}\r\nabc',
        'DELETE "Ann only"',
        'SELECT "Ann only"',
    ):
        assert (await bob.command(line)).kind == "NO"
