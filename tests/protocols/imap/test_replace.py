"""REPLACE over sockets: the new message comes and the old one goes, or neither. RFC 8508."""

from __future__ import annotations

import pytest

from postroom.domain.mailboxes import recover
from postroom.domain.mailboxes.recover import Wanted
from postroom.testing.imap import ImapClient, Literal, Part, Reply, flags_of, numbers_of
from tests.protocols.imap.serving import ANN, BOB, SMALL, Room, message
from tests.protocols.imap.test_acl import INBOX, give

NEW = message(subject="the second draft")


def placed(reply: Reply) -> list[int]:
    """The UIDs of the one [APPENDUID], which an untagged OK tells before any EXPUNGE."""
    assert reply.ok, reply
    (told,) = reply["OK"]
    assert told.code is not None
    assert told.code.name == b"APPENDUID"
    gone = [*reply["EXPUNGE"], *reply["VANISHED"]]
    assert all(reply.untagged.index(told) < reply.untagged.index(each) for each in gone)
    return numbers_of(told.code.data[1])


async def replace(
    client: ImapClient, which: str, raw: bytes = NEW, sync: bool = True, verb: str = "REPLACE"
) -> Reply:
    return await client.command(f"{verb} {which} ", Literal(raw, sync))


async def recoverable(room: Room) -> int:
    now = room.house.clock.now()
    found = await room.house.mail.read(recover.find, room.accounts[ANN], Wanted(), now)
    return found.count


def streaming(room: Room) -> bool:
    """A message is on its way: the command's arguments were checked and taken."""
    return any("APPEND" in each.describe().state for each in room.workers[0].connections())


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize("size", [300, 300_000])
async def test_the_new_message_takes_the_place_of_the_old(
    room_both: Room, size: int, sync: bool
) -> None:
    await room_both.deliver(SMALL, SMALL, SMALL, flags=("\\Seen", "$Old"))
    client, other = await room_both.client(), await room_both.client(worker=1)
    raw = message(body=b"x" * size + b"\r\n")
    which = '2 INBOX (\\Draft) "17-Jul-1996 02:44:25 -0700"'
    reply = await replace(client, which, raw, sync)
    assert placed(reply) == [4]
    assert reply.numbers("EXPUNGE") == [2]
    assert list(await room_both.stored()) == [1, 3, 4]
    (items,) = (await client.command("FETCH 3 (FLAGS INTERNALDATE BODY.PEEK[])")).fetched().values()
    assert items["BODY[]"] == raw
    assert flags_of(items["FLAGS"]) - {"\\Recent"} == {"\\Draft"}, "none of the old one's"
    assert items["INTERNALDATE"] == b"17-Jul-1996 09:44:25 +0000"
    heard = await other.command("NOOP")
    assert heard.numbers("EXPUNGE") == [2]
    assert heard.numbers("EXISTS")[-1] == 3


async def test_a_message_may_be_replaced_by_its_uid_or_as_the_last(room: Room) -> None:
    await room.deliver(SMALL, SMALL, SMALL)
    client = await room.client()
    assert placed(await replace(client, "1 INBOX", verb="UID REPLACE")) == [4]
    assert placed(await replace(client, "* INBOX")) == [5]
    assert placed(await replace(client, "* INBOX", verb="UID REPLACE")) == [6]
    assert list(await room.stored()) == [2, 3, 6]


async def test_the_new_message_may_go_elsewhere(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    reply = await replace(client, "1 Sent (\\Seen)")
    assert placed(reply) == [1]
    assert reply.numbers("EXPUNGE") == [1]
    assert list(await room.stored()) == [2]
    assert await room.stored("Sent") == {1: {"\\Seen"}}


async def test_a_client_that_counts_modseqs_can_resume_after_it(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    assert (await client.command("ENABLE QRESYNC")).ok
    assert (await client.command("SELECT INBOX")).ok
    reply = await replace(client, "1 INBOX")
    assert placed(reply) == [3]
    (gone,) = reply["VANISHED"]
    assert numbers_of(gone.data[-1]) == [1]
    highest = reply.code_data("HIGHESTMODSEQ")
    assert highest == ((await room.box()).modseq,)


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    ("line", "kind", "code"),
    [
        ("REPLACE 9 INBOX", "BAD", None),
        ("UID REPLACE 9 INBOX", "NO", "NONEXISTENT"),
        ("REPLACE 1 Nowhere", "NO", "TRYCREATE"),
        ("REPLACE 1:2 INBOX", "BAD", None),
        ("REPLACE $ INBOX", "BAD", None),
        ("REPLACE 1 INBOX (\\Nonsense)", "BAD", None),
    ],
)
async def test_what_cannot_be_replaced_changes_nothing(
    room: Room, line: str, kind: str, code: str | None, sync: bool
) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    reply = await client.command(line + " ", Literal(NEW, sync))
    assert (reply.kind, reply.code) == (kind, code)
    assert (await client.command("NOOP")).untagged == []
    assert list(await room.stored()) == [1, 2]


async def test_one_message_replaces_one(room: Room) -> None:
    """No MULTIAPPEND, and an empty literal takes it back: RFC 8508 §5."""
    await room.deliver(SMALL)
    client = await room.client()
    attempts: list[list[Part]] = [
        ["REPLACE 1 INBOX ", Literal(NEW), " ", Literal(NEW)],
        ["REPLACE 1 INBOX ", Literal(NEW, False), " ", Literal(NEW, False)],
        ["REPLACE 1 INBOX ", Literal(NEW), " nonsense"],
        ["REPLACE 1 INBOX ", Literal(b"")],
        ["REPLACE 1 INBOX ", Literal(b"nul \0 byte", False)],
    ]
    for parts in attempts:
        assert (await client.command(*parts)).kind in ("NO", "BAD"), parts
        assert (await client.command("NOOP")).untagged == []
    assert list(await room.stored()) == [1]


async def test_a_mailbox_that_is_closed_or_only_read_is_left_alone(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client(mailbox=None)
    assert (await replace(client, "1 INBOX")).kind == "BAD"
    assert (await client.command("EXAMINE INBOX")).ok
    assert (await replace(client, "1 INBOX")).kind == "NO"
    assert list(await room.stored()) == [1]


async def test_message_numbers_are_refused_to_who_gave_them_up(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client(mailbox=None)
    assert (await client.command("ENABLE UIDONLY")).ok
    assert (await client.command("SELECT INBOX")).ok
    reply = await replace(client, "1 INBOX")
    assert (reply.kind, reply.code) == ("BAD", "UIDREQUIRED")
    assert placed(await replace(client, "1 INBOX", verb="UID REPLACE")) == [2]


async def test_a_message_that_goes_meanwhile_is_not_replaced(room: Room) -> None:
    """Between the announcement and the last octet another session removes it."""
    (old,) = await room.deliver(SMALL)
    client = await room.client()
    client.send(b"a REPLACE 1 INBOX {%d+}\r\n" % len(NEW) + NEW[:20])
    await client.flush()
    await room.settled(lambda: streaming(room))
    await room.remove([old.uid])
    client.send(NEW[20:] + b"\r\n")
    reply = await client.reply(b"a")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    assert await room.stored() == {}


async def test_a_full_account_may_replace_by_what_is_no_larger(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    await room.configure("quota.octets", 2 * len(SMALL), room.quota())
    reply = await replace(client, "1 INBOX", SMALL + b"more\r\n")
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert list(await room.stored()) == [1, 2]
    assert placed(await replace(client, "1 INBOX", SMALL)) == [3]
    assert list(await room.stored()) == [2, 3]


async def test_a_superseded_draft_is_not_kept_and_all_else_can_be_brought_back(room: Room) -> None:
    await room.deliver(SMALL, flags=("\\Draft",))
    await room.deliver(SMALL)
    client = await room.client()
    placed(await replace(client, "1 INBOX"))
    assert await recoverable(room) == 0
    placed(await replace(client, "1 INBOX"))
    assert await recoverable(room) == 1


@pytest.mark.parametrize("lacking", ["t", "e"])
async def test_a_reader_may_not_replace_what_he_may_not_remove(room: Room, lacking: str) -> None:
    await room.deliver(SMALL)
    await give(room, "lrite".replace(lacking, ""))
    bob = await room.client(BOB, mailbox=f'"{INBOX}"')
    reply = await replace(bob, f'1 "{INBOX}"')
    assert (reply.kind, reply.code) == ("NO", "NOPERM")
    assert list(await room.stored()) == [1]


@pytest.mark.parametrize(("left", "code"), [("lr", "NOPERM"), ("", "NONEXISTENT")])
async def test_what_may_be_removed_is_asked_again_in_the_unit(
    room: Room, left: str, code: str
) -> None:
    """The right goes while the message streams in: nothing is stored and nothing goes."""
    await room.deliver(SMALL)
    await give(room, "lrte")
    bob = await room.client(BOB, mailbox=f'"{INBOX}"')
    bob.send(b"a REPLACE 1 INBOX {%d+}\r\n" % len(NEW) + NEW[:20])
    await bob.flush()
    await room.settled(lambda: streaming(room))
    await give(room, left)
    bob.send(NEW[20:] + b"\r\n")
    reply = await bob.reply(b"a")
    assert (reply.kind, reply.code) == ("NO", code)
    assert list(await room.stored()) == [1]
    assert await room.stored(user=BOB) == {}


async def test_between_accounts_both_rights_count(room_both: Room) -> None:
    """Bob replaces a message of Ann's by one of his own mailbox."""
    await room_both.deliver(SMALL, SMALL)
    await give(room_both, "lrte")
    bob = await room_both.client(BOB, mailbox=f'"{INBOX}"')
    reply = await replace(bob, f'1 "{INBOX}"')
    assert (reply.kind, reply.code) == ("NO", "NOPERM"), "no right to insert there"
    assert placed(await replace(bob, "1 INBOX")) == [1]
    assert list(await room_both.stored()) == [2]
    assert list(await room_both.stored(user=BOB)) == [1]
