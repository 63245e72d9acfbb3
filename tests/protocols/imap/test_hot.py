"""What sessions answer from memory is what the store holds: whoever changed it, wherever."""

from __future__ import annotations

import asyncio
import random

import pytest

from postroom.core.errors import StoreFailed
from postroom.domain.mailboxes import reading
from postroom.formats.parsed import parse
from postroom.protocols.imap import kept as kept_module
from postroom.protocols.imap import view as view_module
from postroom.protocols.imap.view import Of
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.sql import Statement, Tx
from postroom.testing.imap import Fetched, ImapClient, flags_of
from tests.protocols.imap.serving import ANN, BOB, EVERY, SMALL, Room, message

LISTING = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"


async def listed(client: ImapClient, items: str = LISTING) -> dict[int, Fetched]:
    """The answer by UID."""
    reply = await client.command(f"FETCH 1:* {items}")
    assert reply.ok, reply
    return {uid_of(each): each for each in reply.fetched().values()}


def uid_of(items: Fetched) -> int:
    uid = items["UID"]
    assert isinstance(uid, int)
    return uid


def flags_by_uid(answer: dict[int, Fetched]) -> dict[int, set[str]]:
    return {uid: flags_of(items["FLAGS"]) - {"\\Recent"} for uid, items in answer.items()}


def subject_of(items: Fetched) -> object:
    envelope = items["ENVELOPE"]
    assert isinstance(envelope, tuple)
    return envelope[1]


async def found(client: ImapClient, keys: str) -> list[object]:
    """What a SEARCH answers."""
    reply = await client.command(keys)
    assert reply.ok, reply
    (each,) = reply["SEARCH"]
    return list(each.data)


def forget(room: Room) -> None:
    """Every worker forgets what it kept of messages."""
    for worker in room.workers:
        kept = worker.shared.kept
        kept._most, most = 0, kept._most
        kept.keep_texts(0, b"", (), ())
        kept._most = most
        assert kept.octets == 0


# --- flags ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker", [0, 1])
@pytest.mark.parametrize("items", ["(UID FLAGS)", LISTING])
async def test_flags_that_another_session_set_are_told_by_the_next_fetch(
    room: Room, worker: int, items: str
) -> None:
    await room.deliver(*[SMALL] * 6)
    reader, writer = await room.client(), await room.client(worker=worker)
    assert not any(flags_by_uid(await listed(reader, items)).values())
    for line, flags in (
        ("STORE 2:3 +FLAGS (\\Seen)", {2: {"\\Seen"}, 3: {"\\Seen"}}),
        ("STORE 3:4 FLAGS (Work)", {2: {"\\Seen"}, 3: {"Work"}, 4: {"Work"}}),
        ("STORE 1:* -FLAGS.SILENT (\\Seen)", {3: {"Work"}, 4: {"Work"}}),
    ):
        assert (await writer.command(line)).ok
        expected = {uid: flags.get(uid, set()) for uid in range(1, 7)}
        for client in (reader, writer):
            assert flags_by_uid(await listed(client, items)) == expected, line


async def test_a_fetch_tells_what_others_did_once_and_before_its_end(room: Room) -> None:
    await room.deliver(*[SMALL] * 3)
    client = await room.client()
    await listed(client)
    await room.flag([2], add=("\\Flagged",))
    reply = await client.command("FETCH 1 (UID FLAGS)")
    assert sorted(reply.numbers("FETCH")) == [1, 2]
    assert flags_of(reply.fetched()[2]["FLAGS"]) == {"\\Flagged", "\\Recent"}
    assert (await client.command("FETCH 1 (UID FLAGS)")).numbers("FETCH") == [1]
    assert (await client.command("NOOP")).numbers("FETCH") == []
    await room.deliver(SMALL)
    reply = await client.command("FETCH 1:* (UID FLAGS)")
    assert reply.numbers("EXISTS") == [4]
    assert len(reply.fetched()) == 4


async def test_flags_of_one_viewer_are_kept_for_that_viewer(room: Room) -> None:
    """Class 29: the key of what is shared names the viewer."""
    await room.deliver(SMALL)
    await room.deliver(SMALL, user=BOB)
    ann, bob = await room.client(), await room.client(BOB)
    await room.flag([1], add=("\\Seen",))
    for _ in range(2):
        assert flags_by_uid(await listed(ann)) == {1: {"\\Seen"}}
        assert flags_by_uid(await listed(bob)) == {1: set()}
    views = room.workers[0].shared.views
    for box, viewer in (((await room.box()).id, ANN), ((await room.box(user=BOB)).id, BOB)):
        strangers = room.accounts[BOB if viewer == ANN else ANN]
        assert views.get(Of(box, room.accounts[viewer])) is not None
        assert views.get(Of(box, strangers)) is None


async def recent_noted(room: Room, floor: int) -> None:
    """Wait until the state knows that a session was told of all below a UID."""
    box = (await room.box()).id
    async with asyncio.timeout(5):
        while await room.house.state.read(reading.recent_floor, box) < floor:
            await asyncio.sleep(0.005)


async def test_recent_messages_are_told_as_such_beside_others(room: Room) -> None:
    await room.deliver(*[SMALL] * 3)
    first = await room.client()
    await recent_noted(room, 4)
    assert all("\\Recent" in flags_of(each["FLAGS"]) for each in (await listed(first)).values())
    await room.deliver(*[SMALL] * 2)
    second = await room.client()
    await recent_noted(room, 6)
    for client, recent in ((first, {1, 2, 3}), (second, {4, 5})):
        for items in ("(UID FLAGS)", LISTING, "(UID FLAGS MODSEQ)"):
            answer = await listed(client, items)
            assert {
                u for u, each in answer.items() if "\\Recent" in flags_of(each["FLAGS"])
            } == recent
        reply = await client.command("STORE 1:* +FLAGS (\\Seen)")
        told = {n for n, each in reply.fetched().items() if "\\Recent" in flags_of(each["FLAGS"])}
        assert told == recent
        await client.command("STORE 1:* -FLAGS.SILENT (\\Seen)")


# --- what never changes --------------------------------------------------------------------------


async def test_the_same_listing_is_answered_alike_from_the_store_and_from_memory(
    room: Room,
) -> None:
    await room.deliver(*(message(subject=f"n{n}", body=b"x" * n) for n in range(20)))
    client = await room.client()
    cold = await listed(client)
    assert await listed(client) == cold
    assert room.workers[0].shared.kept.octets > 0, "kept from the second time on"
    assert await listed(client) == cold
    for items in ("(UID RFC822.SIZE)", "(ENVELOPE UID)", "(BODYSTRUCTURE FLAGS UID)"):
        for _ in range(3):
            for uid, each in (await listed(client, items)).items():
                assert each.items() <= cold[uid].items()
    reply = await client.command("FETCH 3,5:6,19 (RFC822.SIZE)")
    assert list(reply.fetched()) == [3, 5, 6, 19]


async def test_a_mailbox_made_again_under_its_name_is_another(room: Room) -> None:
    """UIDVALIDITY changes, the same UIDs name other messages, and nothing old is told."""
    for subject in ("first", "second"):
        await room.create("Work")
        await room.deliver(message(subject=subject), path="Work")
        client = await room.client(mailbox="Work")
        for _ in range(3):
            answer = await listed(client)
            assert subject_of(answer[1]) == subject.encode()
            assert await found(client, f"SEARCH SUBJECT {subject}") == [1]
            assert await found(client, "SEARCH SUBJECT ir") == ([1] if subject == "first" else [])
        assert (await client.command("CLOSE")).ok
        assert (await client.command("DELETE Work")).ok


async def test_what_was_expunged_is_not_told_from_memory(room: Room) -> None:
    await room.deliver(*(message(subject=f"n{n}") for n in range(5)))
    client, second = await room.client(), await room.client()
    before = await listed(client)
    for _ in range(2):
        await listed(second)
    await room.remove([2, 4])
    reply = await client.command(f"FETCH 1:* {LISTING}")
    assert (reply.kind, reply.code) == ("NO", "EXPUNGEISSUED")
    assert list(reply.fetched()) == [1, 3, 5], "numbers mean what they meant"
    assert (await client.command("NOOP")).numbers("EXPUNGE") == [4, 2]
    after = await listed(client)
    assert {u: each["ENVELOPE"] for u, each in after.items()} == {
        uid: before[uid]["ENVELOPE"] for uid in (1, 3, 5)
    }
    reply = await second.command(f"UID FETCH 1:* {LISTING}")
    assert reply.numbers("EXPUNGE") == [4, 2]
    assert [each["UID"] for each in reply.fetched().values()] == [1, 3, 5]
    assert await found(client, "SEARCH SUBJECT n") == [1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
async def test_sessions_of_two_workers_agree_with_the_store_after_every_step(
    room: Room, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Small chunks, small blocks and a small bound, so that all of them are crossed."""
    monkeypatch.setattr(view_module, "CHUNK", 8)
    monkeypatch.setattr(kept_module, "BLOCK", 4)
    for worker in room.workers:
        worker.shared.kept._most = 8_000
    rng = random.Random(seed)
    await room.deliver(*(message(subject=f"start {n}") for n in range(20)))
    clients = [await room.client(worker=n % 2) for n in range(4)]
    for step in range(60):
        client = rng.choice(clients)
        uids = sorted(await room.stored())
        low = rng.choice(uids) if uids else 1
        span = f"{low}:{low + rng.choice((0, 3, 40))}"
        match rng.randrange(7):
            case 0:
                await room.deliver(message(subject=f"new {step}"), flags=("Work",))
            case 1:
                await client.command(f"UID STORE {span} +FLAGS (\\Seen k{step % 4})")
            case 2:
                await client.command(f"UID STORE {span} -FLAGS.SILENT (\\Seen)")
            case 3:
                await client.command(f"UID STORE {span} FLAGS (\\Flagged)")
            case 4 if len(uids) > 8:
                await room.remove(sorted(rng.sample(uids, 2)))
            case 5 if uids:
                await client.command(f"UID FETCH {low} (BODY[])")
            case _:
                await client.command(f"UID FETCH {span} {LISTING}")
        truth = await room.stored()
        sizes = {row.uid: row.size for row in await room.rows()}
        for each in rng.sample(clients, 2):
            reply = await each.command(f"UID FETCH 1:* {rng.choice((LISTING, '(UID FLAGS)'))}")
            assert reply.ok
            # Of what is told twice, the last word counts; what others changed is told too.
            told: dict[int, set[str]] = {}
            for items in reply.fetched().values():
                told[uid_of(items)] = flags_of(items["FLAGS"]) - {"\\Recent"}
                if "RFC822.SIZE" in items:
                    assert items["RFC822.SIZE"] == sizes[uid_of(items)]
            assert told == truth, step
            wanted = rng.choice(("start", "new", "1", "t 1"))
            hits = await found(each, f'UID SEARCH SUBJECT "{wanted}"')
            rows = await room.house.mail.read(reading.subjects, (await room.box()).id, 1, 1 << 31)
            assert hits == [uid for uid, subject, _ in rows if wanted in (subject or "")]


# --- content that cannot be read -----------------------------------------------------------------


async def test_content_out_of_reach_for_now_is_unavailable(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 5530 §3: what a client may try again."""
    await room.deliver(SMALL, message(body=b"x" * 100_000), SMALL)

    def broken(self: Files, path: str, start: int, length: int) -> bytes:
        raise StoreFailed(detail="the disk does not answer")

    client = await room.client()
    with monkeypatch.context() as patch:
        patch.setattr(Files, "read", broken)
        fields = "BODY.PEEK[HEADER.FIELDS (SUBJECT)]"
        for item in ("BODY.PEEK[]", "BODY", fields, "BODY.PEEK[TEXT]"):
            reply = await client.command(f"FETCH 1:* (UID {item})")
            assert (reply.kind, reply.code) == ("NO", "UNAVAILABLE"), item
            assert [each["UID"] for each in reply.fetched().values()] == [1, 3]
    assert (await client.command("FETCH 1:* (UID BODY.PEEK[])")).ok


async def test_what_is_damaged_counts_more_than_what_is_out_of_reach(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.deliver(SMALL, message(body=b"x" * 100_000), SMALL)
    rows = await room.rows()
    damage = Statement("UPDATE blob SET data = substr(data, 1, 5) WHERE id = :id")
    await room.house.mail.write(_run, damage, rows[0].blob)

    def broken(self: Files, path: str, start: int, length: int) -> bytes:
        raise StoreFailed(detail="the disk does not answer")

    monkeypatch.setattr(Files, "read", broken)
    client = await room.client()
    reply = await client.command("FETCH 1:* (UID BODY.PEEK[])")
    assert (reply.kind, reply.code) == ("NO", "CORRUPTION")
    assert [each["UID"] for each in reply.fetched().values()] == [3]


# --- messages without a parse --------------------------------------------------------------------


def _run(tx: Tx, statement: Statement, id_: int) -> None:
    tx.run(statement, id=id_)


async def lose_parse(room: Room, uids: set[int]) -> None:
    lose = Statement("DELETE FROM parsed WHERE blob = :id")
    for row in await room.rows():
        if row.uid in uids:
            await room.house.mail.write(_run, lose, row.blob)


@pytest.mark.parametrize(
    "items",
    [
        LISTING,
        "(UID ENVELOPE)",
        "(UID FLAGS MODSEQ ENVELOPE)",
        "(UID PREVIEW)",
        "(UID BODY.PEEK[TEXT])",
        "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)] ENVELOPE)",
    ],
)
async def test_a_message_whose_parse_is_missing_is_parsed_again_and_the_parse_kept(
    room: Room, items: str
) -> None:
    large = message(subject="large", body=b"x" * 70_000)
    await room.deliver(*(message(subject=f"n{n}") for n in range(4)), large)
    for _ in range(3):
        whole = await listed(await room.client(), items)
    forget(room)
    await lose_parse(room, {2, 4, 5})
    for worker in (0, 1):
        client = await room.client(worker=worker)
        answer = await listed(client, items)
        assert [*answer] == [1, 2, 3, 4, 5]
        same = {k for k in whole[1] if k not in ("FLAGS", "MODSEQ")}
        assert all(answer[uid][k] == whole[uid][k] for uid in whole for k in same)
    rows = await room.rows()
    async with asyncio.timeout(5):
        while any([await room.house.mail.read(reading.stale, row.blob) for row in rows]):
            await asyncio.sleep(0.01)
    box = (await room.box()).id
    kept = await room.house.mail.read(reading.full_rows, box, EVERY)
    assert kept[4][8] == parse(large).envelope


async def test_a_message_that_cannot_be_parsed_again_costs_only_itself(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.deliver(*(message(subject=f"n{n}") for n in range(3)))
    await lose_parse(room, {2})
    broken = (await room.rows())[1].blob
    whole = Blobs.read

    def read(self: Blobs, tx: Tx, blob: int, start: int = 0, length: int | None = None) -> bytes:
        if blob == broken:
            raise StoreFailed(detail="not now")
        return whole(self, tx, blob, start, length)

    client = await room.client()
    with monkeypatch.context() as patch:
        patch.setattr(Blobs, "read", read)
        for items in (LISTING, "(UID ENVELOPE MODSEQ)"):
            reply = await client.command(f"FETCH 1:* {items}")
            assert (reply.kind, reply.code) == ("NO", "UNAVAILABLE")
            assert [each["UID"] for each in reply.fetched().values()] == [1, 3]
    assert len(await listed(client)) == 3


async def test_a_parse_of_an_older_maker_is_told_and_not_kept_in_memory(room: Room) -> None:
    await room.deliver(message(subject="now"))
    (row,) = await room.rows()
    old = Statement("UPDATE parsed SET version = 0, envelope = :e, subject = 'then'")
    envelope = parse(message(subject="then")).envelope
    await room.house.mail.write(lambda tx: tx.run(old, e=envelope))
    client = await room.client()
    assert subject_of((await listed(client))[1]) == b"then"
    assert await found(client, "SEARCH SUBJECT then") == [1]
    await room.house.mail.write(reading.renew, row.blob, parse(message(subject="now")))
    assert subject_of((await listed(client))[1]) == b"now"
    assert await found(client, "SEARCH SUBJECT now") == [1]
    assert await found(client, "SEARCH SUBJECT then") == []
