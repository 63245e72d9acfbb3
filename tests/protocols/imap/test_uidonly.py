"""UIDONLY over sockets: messages go by their UIDs alone. RFC 9586."""

from __future__ import annotations

import pytest

from postroom.testing.imap import ImapClient, Reply, flags_of, numbers_of
from postroom.wire.imap import Atom, Value
from tests.protocols.imap.serving import SMALL, Room, codes_of


async def enabled(room: Room, more: str = "") -> ImapClient:
    """UIDs 2, 3 and 5 are there."""
    await room.deliver(*[SMALL] * 5)
    await room.remove([1, 4])
    client = await room.client(mailbox=None)
    reply = await client.command(f"ENABLE UIDONLY{more}")
    assert b"UIDONLY" in reply["ENABLED"][0].data
    assert (await client.command("SELECT INBOX")).ok
    return client


def fetched(reply: Reply) -> dict[int, dict[str, Value]]:
    """Items by the UID that a UIDFETCH begins with."""
    assert reply.ok, reply
    assert not reply["FETCH"]
    found: dict[int, dict[str, Value]] = {}
    for each in reply["UIDFETCH"]:
        assert each.number is not None
        (items,) = each.data
        assert isinstance(items, tuple)
        names = [bytes(name).decode() for name in items[::2] if isinstance(name, Atom)]
        found[each.number] = dict(zip(names, items[1::2], strict=True))
    return found


@pytest.mark.parametrize(
    "line",
    [
        "FETCH 1 (FLAGS)",
        "FETCH $ (FLAGS)",
        "STORE 1 +FLAGS (\\Seen)",
        "COPY 1 Archive",
        "MOVE 1 Archive",
        "SEARCH ALL",
        "SORT (ARRIVAL) UTF-8 ALL",
        "THREAD REFERENCES UTF-8 ALL",
        "UID SEARCH 1:3",
        "UID SEARCH NOT (OR SEEN 2)",
        "UID SORT (ARRIVAL) UTF-8 1",
        "UID THREAD REFERENCES UTF-8 1",
    ],
)
async def test_message_numbers_are_refused(room: Room, line: str) -> None:
    client = await enabled(room)
    reply = await client.command(line)
    assert (reply.kind, reply.code) == ("BAD", "UIDREQUIRED")
    assert len(await room.stored()) == 3


async def test_so_is_what_maps_numbers_to_uids(room: Room) -> None:
    client = await enabled(room, " QRESYNC")
    validity = (await client.command("SELECT INBOX")).code_data("UIDVALIDITY")
    assert validity is not None
    assert isinstance(validity[0], int)
    reply = await client.command(f"SELECT INBOX (QRESYNC ({validity[0]} 1 1:5))")
    assert [*fetched(reply)] == [2, 3, 5]
    assert numbers_of(reply["VANISHED"][0].data[-1]) == [1, 4]
    reply = await client.command("SELECT INBOX (QRESYNC (1 1 1:5 (1 2)))")
    assert (reply.kind, reply.code) == ("BAD", "UIDREQUIRED")


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ("FLAGS", {"FLAGS"}),
        ("(UID FLAGS)", {"UID", "FLAGS"}),
        ("(FLAGS RFC822.SIZE ENVELOPE)", {"FLAGS", "RFC822.SIZE", "ENVELOPE"}),
        ("(FLAGS PREVIEW)", {"FLAGS", "PREVIEW"}),
        ("(BODY.PEEK[TEXT])", {"BODY[TEXT]"}),
        ("(BODY)", {"BODY"}),
    ],
)
async def test_uid_fetch_answers_by_uid(room: Room, items: str, told: set[str]) -> None:
    client = await enabled(room)
    found = fetched(await client.command(f"UID FETCH 1:* {items}"))
    assert [*found] == [2, 3, 5]
    assert all(set(each) == told for each in found.values())
    assert all(each.get("UID", uid) == uid for uid, each in found.items())
    assert [*fetched(await client.command(f"UID FETCH 1:* {items} (PARTIAL -1:-2)"))] == [3, 5]


async def test_changes_are_told_by_uid(room: Room) -> None:
    client = await enabled(room)
    found = fetched(await client.command("UID STORE 3:5 +FLAGS (Red \\Deleted)"))
    assert {uid: flags_of(each["FLAGS"]) - {"\\Recent"} for uid, each in found.items()} == {
        3: {"Red", "\\Deleted"},
        5: {"Red", "\\Deleted"},
    }
    found = fetched(await client.command("UID FETCH 2 BODY[TEXT]"))
    assert set(found[2]) == {"FLAGS", "BODY[TEXT]"}  # it became \Seen
    await room.flag([2], add=("Blue",))
    found = fetched(await client.command("NOOP"))
    assert [*found] == [2]
    assert set(found[2]) == {"FLAGS"}
    reply = await client.command("UID EXPUNGE 5")
    assert [numbers_of(each.data[0]) for each in reply["VANISHED"]] == [[5]]
    await room.remove([2])
    reply = await client.command("NOOP")
    assert [numbers_of(each.data[0]) for each in reply["VANISHED"]] == [[2]]
    assert not reply["EXPUNGE"]
    await client.command("ENABLE CONDSTORE")
    found = fetched(await client.command("UID STORE 3 -FLAGS.SILENT (Red)"))
    assert set(found[3]) == {"MODSEQ"}
    await room.flag([3], add=("Green",))
    assert set(fetched(await client.command("NOOP"))[3]) == {"FLAGS", "MODSEQ"}


async def test_no_number_is_told_when_a_mailbox_opens(room: Room) -> None:
    client = await enabled(room)
    reply = await client.command("SELECT INBOX")
    assert reply.numbers("EXISTS") == [3]  # a count
    assert b"UNSEEN" not in codes_of(reply)


async def test_searches_by_uid_and_saved_results_go_on(room: Room) -> None:
    client = await enabled(room)
    reply = await client.command("UID SEARCH RETURN (SAVE COUNT) UID 3:*")
    assert reply["ESEARCH"][0].data[-1] == 2
    assert [*fetched(await client.command("UID FETCH $ FLAGS"))] == [3, 5]
    assert (await client.command("UID SEARCH $")).ok
    assert (await client.command("UID SORT (ARRIVAL) UTF-8 ALL"))["SORT"][0].data == (2, 3, 5)
    assert (await client.command("UID COPY 2:3 Archive")).ok


async def test_unauthenticate_forgets_it(room: Room) -> None:
    client = await enabled(room)
    await client.command("UNAUTHENTICATE")
    await client.login("ann@example.test", "correct horse")
    await client.command("SELECT INBOX")
    assert [*(await client.command("FETCH 1:* (UID)")).fetched()] == [1, 2, 3]
