"""COPY, MOVE, EXPUNGE, UID EXPUNGE. RFC 3501 §6.4.3, §6.4.7, RFC 4315, RFC 6851."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import StoreFailed
from postroom.domain.mailboxes import reading, unfinished
from postroom.domain.mailboxes.messages import Copied
from postroom.protocols.imap.commands import copy as copying
from postroom.store.units import UNIT_ROWS, Database
from postroom.testing.imap import Literal, Reply, numbers_of
from tests.protocols.imap.serving import ANN, BOB, SMALL, Room, message

THEN = Instant(1_700_000_000_000)


def _copies_in(task: asyncio.Task[Any]) -> bool:
    name = getattr(task.get_coro(), "__qualname__", "")
    return bool(name.endswith("_all_or_none"))


def copied(reply: Reply) -> tuple[object, list[int], list[int]]:
    """COPYUID's validity, source and target."""
    data = reply.code_data("COPYUID")
    assert data is not None, reply
    validity, source, target = data
    return validity, numbers_of(source), numbers_of(target)


@pytest.mark.parametrize("verb", ["COPY", "MOVE"])
@pytest.mark.parametrize("uid", [False, True])
async def test_messages_arrive_with_all_that_is_theirs(
    room_both: Room, verb: str, uid: bool
) -> None:
    raws = [message(subject=f"n{n}", body=b"z" * n) for n in range(5)]
    stored = await room_both.deliver(*raws, flags=("\\Flagged", "$Mark"), at=THEN)
    await room_both.deliver(SMALL, path="Archive")
    before = {row.uid: row for row in await room_both.rows()}
    client = await room_both.client()
    chosen = [stored[0].uid, stored[2].uid, stored[3].uid]
    text = f"{chosen[0]},{chosen[1]}:{chosen[2]}" if uid else "1,3:4"
    reply = await client.command(f"{'UID ' if uid else ''}{verb} {text} Archive")
    assert reply.ok, reply
    target = await room_both.box("Archive")
    assert copied(reply) == (target.uidvalidity, chosen, [2, 3, 4])
    rows = {row.uid: row for row in await room_both.rows("Archive")}
    for old, new in zip(chosen, (2, 3, 4), strict=True):
        kept = ("flags", "size", "received_at", "blob", "message")
        assert [getattr(rows[new], k) for k in kept] == [getattr(before[old], k) for k in kept]
    left = await room_both.stored()
    if verb == "COPY":
        assert list(left) == [each.uid for each in stored]
        assert reply.numbers("EXPUNGE") == []
    else:
        assert list(left) == [stored[1].uid, stored[4].uid]
        assert reply.numbers("EXPUNGE") == [4, 3, 1]
        # RFC 6851 §4.3: the code first, in an untagged OK.
        assert [each.name for each in reply.untagged] == [b"OK", b"EXPUNGE", b"EXPUNGE", b"EXPUNGE"]
        assert reply.code is None
    assert (await client.command("NOOP")).untagged == []
    assert (await client.command("SELECT Archive")).numbers("EXISTS") == [4]
    fetched = (await client.command("FETCH 2:* BODY.PEEK[]")).fetched()
    assert [items["BODY[]"] for items in fetched.values()] == [raws[0], raws[2], raws[3]]


@pytest.mark.parametrize("verb", ["COPY", "UID COPY", "MOVE", "UID MOVE"])
async def test_a_target_that_is_not_there_may_be_made(room: Room, verb: str) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    reply = await client.command(f"{verb} 1 Nowhere")
    assert (reply.kind, reply.code) == ("NO", "TRYCREATE")
    assert (await client.command("CREATE Nowhere")).ok
    reply = await client.command(f"{verb} 1 Nowhere")
    assert reply.ok
    assert copied(reply)[1:] == ([1], [1])


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "' '", "Shared", "/".join("x" * 40)])
async def test_what_no_mailbox_can_be_called_is_not_to_be_made(room: Room, name: str) -> None:
    """RFC 9051 §6.3.12, §6.4.7: TRYCREATE is for what may be there once it is made."""
    await room.deliver(SMALL)
    client = await room.client()
    quoted = '"' + name.strip("'") + '"'
    for line in (f"COPY 1 {quoted}", f"UID MOVE 1 {quoted}"):
        reply = await client.command(line)
        assert (reply.kind, reply.code) == ("NO", "CANNOT"), line
    for line in (f"APPEND {quoted} ", f"REPLACE 1 {quoted} "):
        reply = await client.command(line, Literal(SMALL))
        assert (reply.kind, reply.code) == ("NO", "CANNOT"), line
    assert [*await room.stored()] == [1]


@pytest.mark.parametrize("verb", ["UID COPY", "UID MOVE", "UID EXPUNGE"])
async def test_uids_that_do_not_exist_are_passed_over(room: Room, verb: str) -> None:
    stored = await room.deliver(SMALL, SMALL)
    client = await room.client()
    await room.remove([stored[0].uid])
    target = "" if verb == "UID EXPUNGE" else " Sent"
    for text in ("77:99", f"{stored[0].uid}"):
        reply = await client.command(f"{verb} {text}{target}")
        assert reply.ok
        assert reply.code_data("COPYUID") is None
    assert list(await room.stored()) == [stored[1].uid]
    assert (await room.box("Sent")).total == 0


@pytest.mark.parametrize("line", ["COPY 3 Sent", "MOVE 1:3 Sent", "COPY 1", "COPY x Sent"])
async def test_what_cannot_be_copied_is_bad(room: Room, line: str) -> None:
    await room.deliver(SMALL, SMALL)
    client = await room.client()
    assert (await client.command(line)).kind == "BAD"
    assert (await room.box("Sent")).total == 0


async def test_a_copy_within_the_mailbox_is_a_second_message(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    reply = await client.command("COPY 1 INBOX")
    assert copied(reply)[1:] == ([1], [2])
    assert reply.numbers("EXISTS") == [2]


@pytest.mark.parametrize("piece", [1, UNIT_ROWS])
async def test_a_copy_by_number_of_what_is_gone_copies_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """RFC 2180 §4.4.1, RFC 5530 §3; by UID what is gone is passed over: RFC 3501 §6.4.8."""
    monkeypatch.setattr(copying, "PIECE", piece)
    await room.deliver(*[SMALL] * 6)
    client = await room.client()
    await room.remove([3])
    reply = await client.command("COPY 1:4 Archive")
    assert (reply.kind, reply.code) == ("NO", "EXPUNGEISSUED")
    assert reply.numbers("EXPUNGE") == [3]  # so that the client can try again
    assert await room.rows("Archive") == []
    assert (await client.command("COPY 1:3 Archive")).ok
    assert len(await room.rows("Archive")) == 3
    await room.remove([2])
    assert copied(await client.command("UID COPY 1:4 Archive"))[1] == [1, 4]
    assert (await client.command("SEARCH RETURN (SAVE) ALL")).ok
    await room.remove([5])
    assert copied(await client.command("COPY $ Archive"))[1] == [1, 4, 6]


async def test_a_copy_to_another_owner_by_number_of_what_is_gone(room: Room) -> None:
    await room.deliver(*[SMALL] * 3)
    bob = await room.client(BOB)
    assert (await bob.command(f"SETACL INBOX {ANN} lri")).ok
    client = await room.client()
    await room.remove([2])
    reply = await client.command(f"COPY 1:3 Shared/{BOB}/INBOX")
    assert (reply.kind, reply.code) == ("NO", "EXPUNGEISSUED")
    assert await room.rows(user=BOB) == []


async def test_a_move_within_the_mailbox_makes_it_the_last(room: Room) -> None:
    """RFC 6851 §3.3, RFC 9051 §6.4.8: allowed, since a copy to there is."""
    await room.deliver(message("a"), message("b"), message("c"))
    client = await room.client()
    other = await room.client()
    reply = await client.command("MOVE 1:2 INBOX")
    assert reply.ok, reply
    assert copied(reply)[1:] == ([1, 2], [4, 5])
    names = [each.name for each in reply.untagged]
    assert names == [b"OK", b"EXPUNGE", b"EXPUNGE", b"EXISTS", b"RECENT"]
    assert [each.number for each in reply.untagged if each.name == b"EXISTS"] == [3]
    fetched = (await client.command("FETCH 1:3 (UID ENVELOPE)")).fetched()
    assert [each["UID"] for each in fetched.values()] == [3, 4, 5]
    assert (await other.command("NOOP")).numbers("EXPUNGE") == [2, 1]
    reply = await client.command("UID MOVE 99 INBOX")
    assert reply.ok
    assert reply.code is None
    assert [*await room.stored()] == [3, 4, 5]


async def test_over_quota_nothing_is_copied_however_many(room: Room) -> None:
    """More than fit one unit: what the first units placed is taken back."""
    count = 2 * UNIT_ROWS + 500
    await room.fill(count)
    used = await room.house.mail.read(reading.usage, room.accounts[ANN])
    await room.configure("quota.messages", used[1] + count - 1, room.quota())
    client = await room.client()
    reply = await client.command("COPY 1:* Archive", patience=20)
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert (await room.box("Archive")).total == 0
    assert await room.house.mail.read(reading.usage, room.accounts[ANN]) == used
    assert (await client.command("MOVE 1:* Archive", patience=20)).ok  # costs no room
    assert (await room.box("Archive")).total == count


async def test_many_messages_are_copied_and_moved_with_their_uids(room: Room) -> None:
    count = 2 * UNIT_ROWS + 500
    await room.fill(count)
    client = await room.client()
    reply = await client.command("COPY 1:* Archive", patience=20)
    assert copied(reply)[1:] == (list(range(1, count + 1)), list(range(1, count + 1)))
    reply = await client.command("UID MOVE 1:* Archive", patience=20)
    assert copied(reply)[1:] == (
        list(range(1, count + 1)),
        list(range(count + 1, 2 * count + 1)),
    )
    assert reply.numbers("EXPUNGE") == list(range(count, 0, -1))
    assert (await room.box()).total == 0


# --- expunging -----------------------------------------------------------------------------------


async def test_a_client_that_goes_away_leaves_no_half_of_a_copy(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3501 §6.4.7: all or none, and the work ends soon."""
    await room.fill(300)
    monkeypatch.setattr(copying, "PIECE", 10)
    whole, pieces = copying._copies, 0
    client = await room.client()

    async def watched(*args: Any, **more: Any) -> AsyncIterator[Copied]:
        nonlocal pieces
        async for copied in whole(*args, **more):
            pieces += 1
            if pieces == 3:
                client.abort()
            yield copied

    monkeypatch.setattr(copying, "_copies", watched)
    client.send(b"x COPY 1:* Sent\r\n")
    await client.flush()
    await room.settled(lambda: not room.workers[0].connections())
    await room.settled(lambda: not [t for t in asyncio.all_tasks() if _copies_in(t)])
    assert 3 <= pieces < 30
    assert (await room.box("Sent")).total == 0


async def test_a_worker_that_is_killed_leaves_no_half_of_a_copy(
    room_both: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 3501 §6.4.7: whoever takes its place takes back what it had placed."""
    room = room_both
    await room.fill(45)
    monkeypatch.setattr(copying, "PIECE", 10)
    whole, pieces = copying._copies, 0
    client, other = await room.client(), await room.client()

    async def killed(*args: Any, **more: Any) -> AsyncIterator[Copied]:
        nonlocal pieces
        async for copied in whole(*args, **more):
            pieces += 1
            if pieces == 3:
                raise asyncio.CancelledError  # nothing more is done, as if by SIGKILL
            yield copied

    monkeypatch.setattr(copying, "_copies", killed)
    client.send(b"x COPY 1:* Sent\r\n")
    await client.flush()
    await room.settled(lambda: pieces == 3)
    await room.settled(lambda: not [t for t in asyncio.all_tasks() if _copies_in(t)])
    assert (await room.box("Sent")).total == 30
    monkeypatch.setattr(copying, "_copies", whole)
    assert (await other.command("COPY 1:25 Sent")).ok  # of another, beside it, and whole
    mail, now = room.house.mail, room.house.clock.now()
    assert not await mail.write(unfinished.take_back, [5], now)
    took = 0
    while await mail.write(unfinished.take_back, [5, 0], now):
        took += 1
    assert took == 3
    left = await room.stored(path="Sent")
    assert (len(left), min(left)) == (25, 31)
    gone = await mail.read(reading.recoverable, room.accounts[ANN], 100)
    assert all(each.until <= now for each in gone)  # nobody shall find these


async def test_a_piece_that_fails_takes_the_others_back_and_their_notes(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.fill(45)
    monkeypatch.setattr(copying, "PIECE", 10)
    within, units = copying._within, 0

    def failing(*args: Any, **more: Any) -> Copied:
        nonlocal units
        units += 1
        if units == 4:
            raise StoreFailed
        return within(*args, **more)

    monkeypatch.setattr(copying, "_within", failing)
    client = await room.client()
    assert (await client.command("COPY 1:* Sent")).kind == "NO"
    assert (await room.box("Sent")).total == 0
    assert not await room.house.mail.write(unfinished.take_back, [0], room.house.clock.now())


async def test_expunge_removes_what_is_flagged_and_keeps_it_recoverable(room_both: Room) -> None:
    stored = await room_both.deliver(*[SMALL] * 6)
    uids = [each.uid for each in stored]
    client, other = await room_both.client(), await room_both.client(worker=1)
    assert (await client.command("STORE 2,4:5 +FLAGS.SILENT (\\Deleted)")).ok
    reply = await client.command("EXPUNGE")
    assert reply.ok
    assert reply.numbers("EXPUNGE") == [5, 4, 2]
    assert list(await room_both.stored()) == [uids[0], uids[2], uids[5]]
    account = room_both.accounts[ANN]
    kept = await room_both.house.mail.read(reading.recoverable, account, 100)
    assert sorted(each.uid for each in kept) == [uids[1], uids[3], uids[4]]
    assert all(each.until > room_both.house.clock.now() for each in kept)
    assert all(each.path == "INBOX" for each in kept)
    reply = await other.command("NOOP")
    assert reply.numbers("EXPUNGE") == [5, 4, 2]
    assert (await client.command("EXPUNGE")).untagged == []


async def test_uid_expunge_removes_only_the_named_ones_that_are_flagged(room: Room) -> None:
    stored = await room.deliver(*[SMALL] * 5)
    uids = [each.uid for each in stored]
    client = await room.client()
    await client.command("STORE 1,3,5 +FLAGS.SILENT (\\Deleted)")
    reply = await client.command(f"UID EXPUNGE {uids[1]}:{uids[2]}")
    assert reply.numbers("EXPUNGE") == [3]
    assert list(await room.stored()) == [uids[0], uids[1], uids[3], uids[4]]


async def test_many_expunges_are_told_with_numbers_that_hold(room: Room) -> None:
    count = UNIT_ROWS + 700
    await room.fill(count)
    client = await room.client()
    await room.flag(range(1, count, 2), add=("\\Deleted",))
    reply = await client.command("EXPUNGE", patience=20)
    left = list(range(1, count + 1))
    for number in reply.numbers("EXPUNGE"):
        del left[number - 1]
    assert left == list(await room.stored()) == list(range(2, count + 1, 2))


@pytest.mark.parametrize("line", ["EXPUNGE", "UID EXPUNGE 1:*", "CLOSE"])
async def test_a_flag_that_is_taken_back_in_time_saves_the_message(
    room: Room, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """Between the look at what is flagged and the unit that removes it."""
    stored = await room.deliver(SMALL, SMALL)
    both = [each.uid for each in stored]
    await room.flag(both, add=("\\Deleted",))
    client = await room.client()
    database = type(room.house.mail)
    write: Any = database.write
    saved: list[int] = []

    async def later(self: Database, *args: Any, **kwargs: Any) -> Any:
        if not saved:
            saved.append(both[0])
            await room.flag(saved, remove=("\\Deleted",))
        return await write(self, *args, **kwargs)

    monkeypatch.setattr(database, "write", later)
    assert (await client.command(line)).ok
    assert list(await room.stored()) == both[:1]
