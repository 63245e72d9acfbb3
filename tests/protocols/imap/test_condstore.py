"""CONDSTORE over sockets: when it begins, and up to which modseq all was told. RFC 7162 §3."""

from __future__ import annotations

import pytest

from postroom.testing.imap import ImapClient, Reply, fetches
from tests.protocols.imap.serving import SMALL, Room, codes_of


def highest(reply: Reply) -> int | None:
    data = reply.code_data("HIGHESTMODSEQ")
    if data is None:
        return None
    assert isinstance(data[0], int)
    return data[0]


async def opened(room: Room, *enable: str, count: int = 6) -> ImapClient:
    await room.deliver(*[SMALL] * count)
    client = await room.client(mailbox=None)
    for each in enable:
        assert (await client.command(f"ENABLE {each}")).ok
    assert (await client.command("SELECT INBOX")).ok
    return client


@pytest.mark.parametrize(
    "first",
    [
        "ENABLE CONDSTORE",
        "ENABLE QRESYNC",
        "FETCH 1 (MODSEQ)",
        "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        "SEARCH MODSEQ 1",
        "SORT (SIZE) UTF-8 MODSEQ 1",
        "STATUS Sent (HIGHESTMODSEQ)",
        'LIST "" Sent RETURN (STATUS (HIGHESTMODSEQ))',
    ],
)
async def test_the_first_command_that_enables_it_tells_the_highest_modseq(
    room: Room, first: str
) -> None:
    """RFC 7162 §3.1: where a mailbox is open."""
    client = await opened(room)
    modseq = (await room.box()).modseq
    reply = await client.command(first)
    assert reply.ok, reply
    assert codes_of(reply).count(b"HIGHESTMODSEQ") == 1
    assert highest(reply) == modseq
    assert b"HIGHESTMODSEQ" not in codes_of(await client.command(first))
    assert b"HIGHESTMODSEQ" not in codes_of(await client.command("FETCH 1 (MODSEQ)"))


@pytest.mark.parametrize(
    "rejected",
    [
        "FETCH 99 (MODSEQ)",
        "STORE 99 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
        "STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Nonsense)",
        "STATUS Sent (HIGHESTMODSEQ NONSENSE)",
    ],
)
async def test_a_command_that_is_rejected_enables_nothing(room: Room, rejected: str) -> None:
    """RFC 9051 §6: BAD never changes the state of the connection."""
    client = await opened(room)
    reply = await client.command(rejected)
    assert (reply.kind, reply.untagged) == ("BAD", [])
    items = (await client.command("STORE 1 +FLAGS (\\Seen)")).fetched()[1]
    assert set(items) == {"FLAGS"}


async def test_where_no_mailbox_is_open_nothing_is_told_twice(room: Room) -> None:
    client = await room.client(mailbox=None)
    assert codes_of(await client.command("ENABLE CONDSTORE")) == []
    reply = await client.command("SELECT INBOX (CONDSTORE)")
    assert codes_of(reply).count(b"HIGHESTMODSEQ") == 1
    other = await room.client()
    reply = await other.command("SELECT INBOX (CONDSTORE)")
    assert codes_of(reply).count(b"HIGHESTMODSEQ") == 1


async def test_reading_a_body_tells_uid_and_modseq(room: Room) -> None:
    """RFC 7162 §3.2.4: of a FETCH that sets \\Seen by itself."""
    client = await opened(room, "CONDSTORE")
    items = (await client.command("FETCH 1 (BODY[TEXT])")).fetched()[1]
    assert set(items) == {"UID", "FLAGS", "MODSEQ", "BODY[TEXT]"}
    assert items["UID"] == 1
    again = (await client.command("FETCH 1 (BODY[TEXT])")).fetched()[1]
    assert set(again) == {"BODY[TEXT]"}


@pytest.mark.parametrize("enable", ["CONDSTORE", "QRESYNC"])
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("STORE 5 +FLAGS.SILENT (\\Flagged)", "OK"),
        ("STORE 5:6 (UNCHANGEDSINCE 1) +FLAGS (\\Flagged)", "OK"),
        ("FETCH 4:6 (MODSEQ)", "OK"),
        ("FETCH 1:6 (MODSEQ)", "NO"),
        ("FETCH 5 (BODY[TEXT])", "OK"),
        ("SEARCH MODSEQ 1", "OK"),
        ("SORT (SIZE) UTF-8 MODSEQ 1", "OK"),
    ],
)
async def test_while_removals_wait_the_client_hears_up_to_where_it_was_told(
    room: Room, enable: str, command: str, kind: str
) -> None:
    """RFC 7162 §3.2: else it would take the modseqs that it sees for what it knows, and never hear
    of the removal once the connection is lost."""
    client = await opened(room, enable)
    told = (await room.box()).modseq
    await room.remove([2])
    await room.flag([6], add=("\\Answered",))
    reply = await client.command(command)
    assert reply.kind == kind
    assert highest(reply) == told
    assert not reply["EXPUNGE"] and not reply["VANISHED"]
    reply = await client.command("NOOP")
    assert reply["EXPUNGE"] or reply["VANISHED"]
    assert highest(reply) is None
    assert highest(await client.command("STORE 4 +FLAGS.SILENT (\\Flagged)")) is None


async def test_nothing_of_that_without_condstore(room: Room) -> None:
    client = await opened(room)
    await room.remove([2])
    reply = await client.command("STORE 5 +FLAGS (\\Flagged)")
    assert codes_of(reply) == []


async def test_what_a_client_that_lost_its_connection_missed_is_told(room: Room) -> None:
    """The whole of it: RFC 7162 §6."""
    client = await opened(room, "QRESYNC")
    validity = (await room.box()).uidvalidity
    await room.remove([2])
    reply = await client.command("STORE 5 +FLAGS.SILENT (\\Flagged)")
    known = highest(reply)
    assert known is not None
    client.abort()
    again = await room.client(mailbox=None)
    await again.command("ENABLE QRESYNC")
    reply = await again.command(f"SELECT INBOX (QRESYNC ({validity} {known}))")
    assert [each.data for each in reply["VANISHED"]] == [((b"EARLIER",), 2)]


async def test_a_store_that_fails_its_test_tells_how_things_are(room: Room) -> None:
    """RFC 7162 §3.1.3: recommended, so that the client need not ask."""
    client = await opened(room, "CONDSTORE")
    told = (await room.box()).modseq
    assert (await client.command("STORE 3 +FLAGS.SILENT (\\Flagged)")).ok
    modseqs = await room.modseqs()
    for command in ("STORE 3,4", "UID STORE 3,4"):
        reply = await client.command(f"{command} (UNCHANGEDSINCE {told}) -FLAGS.SILENT (\\Seen)")
        assert reply.code == "MODIFIED"
        (found,) = fetches(reply.untagged)
        assert found[0] == 3
        assert found[1]["MODSEQ"] == (modseqs[3],)
        assert found[1]["UID"] == 3
    await room.flag([5], add=("\\Answered",))  # others' changes are told once
    reply = await client.command(f"STORE 5 (UNCHANGEDSINCE {told}) +FLAGS.SILENT (\\Seen)")
    assert reply.code == "MODIFIED"
    assert [number for number, _ in fetches(reply.untagged)] == [5]
