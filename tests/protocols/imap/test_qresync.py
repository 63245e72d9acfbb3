"""QRESYNC over sockets: what a client that comes back or stays is told. RFC 7162 §3.2."""

from __future__ import annotations

import random

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import StoreFailed
from postroom.domain.mailboxes import cleaning
from postroom.protocols.imap import keeping_up, resync
from postroom.testing.imap import Cache, ImapClient, Reply, flags_of, numbers_of
from tests.protocols.imap.serving import SMALL, Room, codes_of

FAR = Instant(1 << 50)


async def enabled(room: Room, mailbox: str | None = "INBOX", worker: int = 0) -> ImapClient:
    client = await room.client(mailbox=None, worker=worker)
    reply = await client.command("ENABLE QRESYNC")  # RFC 5161 §3.2
    assert [each.data for each in reply["ENABLED"]] == [(b"QRESYNC",)]
    if mailbox is not None:
        assert (await client.command("SELECT ", mailbox)).ok
    return client


def vanished(reply: Reply, *, earlier: bool = False) -> list[int]:
    """The UIDs of VANISHED responses of one kind, in order."""
    found: list[int] = []
    for each in reply["VANISHED"]:
        if (each.data[0] == (b"EARLIER",)) is earlier:
            found += numbers_of(each.data[-1])
    return found


def changed(reply: Reply) -> dict[int, set[str]]:
    """Flags by UID, as FETCH responses tell them, each with its modseq."""
    found: dict[int, set[str]] = {}
    for items in reply.fetched().values():
        assert set(items) == {"UID", "FLAGS", "MODSEQ"}
        uid = items["UID"]
        assert isinstance(uid, int)
        found[uid] = flags_of(items["FLAGS"]) - {"\\Recent"}
    return found


def code(reply: Reply, name: str) -> int:
    data = reply.code_data(name)
    assert data is not None
    assert isinstance(data[0], int)
    return data[0]


async def trim(room: Room) -> None:
    """Forget every tombstone."""
    while await room.house.mail.write(cleaning.forget_tombstones, FAR):
        pass


class Before:
    """What the mailbox was when a client saw it last."""

    def __init__(self, reply: Reply) -> None:
        self.validity = code(reply, "UIDVALIDITY")
        self.modseq = code(reply, "HIGHESTMODSEQ")

    def select(self, more: str = "", *, word: str = "SELECT") -> str:
        return f"{word} INBOX (QRESYNC ({self.validity} {self.modseq}{more}))"


async def before(room: Room, count: int = 8) -> tuple[ImapClient, Before]:
    await room.deliver(*[SMALL] * count)
    client = await enabled(room, None)
    return client, Before(await client.command("SELECT INBOX"))


# --- coming back ---------------------------------------------------------------------------------


async def test_a_client_that_comes_back_hears_what_vanished_and_what_changed(
    room_both: Room,
) -> None:
    room = room_both
    client, then = await before(room)
    await room.remove([2, 3, 7])
    await room.flag([5], add=("\\Seen", "Work"))
    await room.deliver(SMALL, flags=("\\Draft",))
    for word in ("SELECT", "EXAMINE"):
        reply = await client.command(then.select(word=word))
        assert reply.ok
        assert vanished(reply, earlier=True) == [2, 3, 7]
        assert changed(reply) == {5: {"\\Seen", "Work"}, 9: {"\\Draft"}}
        assert reply.numbers("EXISTS") == [6]
        assert [each.number for each in reply["FETCH"]] == [3, 6]  # numbers of what is there
        names = [each.name for each in reply.untagged]
        assert names.index(b"EXISTS") < names.index(b"VANISHED") < names.index(b"FETCH")
    again = Before(reply)
    reply = await client.command(again.select())
    assert not reply["VANISHED"]
    assert not reply["FETCH"]


async def test_of_a_mailbox_with_another_validity_nothing_is_told(room: Room) -> None:
    client, then = await before(room)
    await room.remove([2])
    then.validity += 1
    reply = await client.command(then.select())
    assert reply.ok
    assert not reply["VANISHED"]
    assert not reply["FETCH"]
    assert codes_of(reply).count(b"CLOSED") == 1


async def test_known_uids_say_what_the_answer_is_about(room: Room) -> None:
    client, then = await before(room)
    await room.remove([2, 3, 7])
    await room.flag([1, 5, 8], add=("\\Seen",))
    await room.deliver(SMALL)
    reply = await client.command(then.select(" 3:6,8:4000"))
    assert vanished(reply, earlier=True) == [3]
    assert sorted(changed(reply)) == [5, 8, 9]
    reply = await client.command(then.select(" 1:2"))
    assert (vanished(reply, earlier=True), [*changed(reply)]) == ([2], [1])


async def test_where_tombstones_were_forgotten_all_that_is_not_there_is_told(room: Room) -> None:
    client, then = await before(room)
    await room.remove([1, 4, 5])
    await trim(room)
    await room.remove([8])
    await room.flag([2], add=("\\Seen",))
    reply = await client.command(then.select())
    assert vanished(reply, earlier=True) == [1, 4, 5, 8]
    assert [*changed(reply)] == [2]
    reply = await client.command(then.select(" 2:4,6:4294967295"))
    assert vanished(reply, earlier=True) == [4, 8]  # and not what may come
    await room.remove([2, 3, 6, 7])
    reply = await client.command(then.select())
    assert vanished(reply, earlier=True) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert reply.numbers("EXISTS") == [0]


async def test_below_a_pair_that_still_matches_nothing_vanished(room: Room) -> None:
    client, then = await before(room)
    await room.remove([2, 5])  # 1 3 4 6 7 8
    await trim(room)
    then_alone = await client.command(then.select(" 1:8"))
    assert vanished(then_alone, earlier=True) == [2, 5]
    reply = await client.command(then.select(" 1:8 (1,3:4,6 1,4:5,8)"))
    assert vanished(reply, earlier=True) == []  # 8 is the sixth: the client knows all before
    reply = await client.command(then.select(" 1:8 (1:4 1:4)"))
    assert vanished(reply, earlier=True) == [2, 5]  # 1 alone matches
    reply = await client.command(then.select(" (2:3,4294967295 3:4,4294967295)"))
    assert vanished(reply, earlier=True) == [5]


async def test_qresync_before_it_was_enabled_is_refused(room: Room) -> None:
    client = await room.client()
    assert (await client.command("SELECT INBOX (QRESYNC (1 1))")).kind == "BAD"
    line = "UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)"
    assert (await client.command(line)).kind == "BAD"
    assert (await client.command("ENABLE QRESYNC")).ok
    assert (await client.command(line)).ok
    for wrong in (
        "FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
        "UID FETCH 1:* (FLAGS) (VANISHED)",
    ):
        assert (await client.command(wrong)).kind == "BAD", wrong


async def test_nothing_told_is_held_in_large_pieces(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resync, "PIECE", 7)
    monkeypatch.setattr(keeping_up, "RANGES", 3)
    client, then = await before(room, 100)
    await room.remove(range(2, 60, 2))
    await room.flag(range(51, 101), add=("\\Seen",))
    await room.deliver(*[SMALL] * 20)
    reply = await client.command(then.select())
    assert vanished(reply, earlier=True) == [*range(2, 60, 2)]
    assert len(reply["VANISHED"]) == 10
    seen = [uid for uid in range(51, 101) if uid % 2 or uid > 58]
    assert [*changed(reply)] == [*seen, *range(101, 121)]
    reply = await client.command(f"UID FETCH 1:* (UID) (CHANGEDSINCE {then.modseq})")
    assert [each["UID"] for each in reply.fetched().values()] == [*seen, *range(101, 121)]


async def test_nothing_changed_asks_the_store_for_no_more(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, then = await before(room)
    monkeypatch.setattr(resync, "tell_vanished", None)
    monkeypatch.setattr(resync, "tell_changed", None)
    assert (await client.command(then.select())).ok
    await room.deliver(SMALL, path="Sent")
    assert (await client.command(then.select(" 1:8 (1 1)"))).ok


# --- UID FETCH -----------------------------------------------------------------------------------


async def test_uid_fetch_tells_what_vanished_since(room: Room) -> None:
    client, then = await before(room)
    await room.remove([2, 3, 7])
    await client.command("NOOP")
    await room.flag([4, 8], add=("\\Seen",))
    line = f"UID FETCH %s (FLAGS) (CHANGEDSINCE {then.modseq} VANISHED)"
    reply = await client.command(line % "1:*")
    assert reply.untagged[0].name == b"VANISHED"
    assert vanished(reply, earlier=True) == [2, 3, 7]
    assert sorted(changed(reply)) == [4, 8]
    reply = await client.command(line % "3:6")
    assert (vanished(reply, earlier=True), [*changed(reply)]) == ([3], [4])
    await room.remove([8])
    await client.command("NOOP")
    await trim(room)
    reply = await client.command(line % "7:*")
    assert vanished(reply, earlier=True) == [7, 8]  # * is above what is left: RFC 7162 §3.2.6
    await client.command("UID SEARCH RETURN (SAVE) 1:2")
    reply = await client.command(line % "$")
    assert vanished(reply, earlier=True) == []


async def test_what_the_client_still_counts_does_not_vanish_earlier(room: Room) -> None:
    client, then = await before(room)
    await room.remove([2, 3])
    reply = await client.command(
        f"UID FETCH 1:* (UID FLAGS PREVIEW) (CHANGEDSINCE {then.modseq} VANISHED)"
    )
    assert vanished(reply, earlier=True) == []
    assert vanished(reply) == [2, 3]


# --- VANISHED in place of EXPUNGE ----------------------------------------------------------------


async def test_removals_are_told_by_uid_once_enabled(room: Room) -> None:
    await room.deliver(*[SMALL] * 10)
    client, other = await enabled(room), await enabled(room, worker=1)
    await client.command("STORE 2,4:6 +FLAGS.SILENT (\\Deleted)")
    reply = await client.command("UID EXPUNGE 4:5")
    assert vanished(reply) == [4, 5]
    assert not reply["EXPUNGE"]
    assert code(reply, "HIGHESTMODSEQ") == (await room.box()).modseq
    reply = await client.command("EXPUNGE")
    assert vanished(reply) == [2, 6]
    assert reply.code == "HIGHESTMODSEQ"
    reply = await client.command("UID MOVE 9:10 Archive")
    assert vanished(reply) == [9, 10]
    assert codes_of(reply) == [b"COPYUID", b"HIGHESTMODSEQ"]
    assert code(reply, "HIGHESTMODSEQ") == (await room.box()).modseq
    assert (await client.command("EXPUNGE")).code is None  # nothing was removed
    assert not (await other.command("FETCH 1 (UID)"))["VANISHED"]  # RFC 7162 §3.2.10.2
    reply = await other.command("NOOP")
    assert vanished(reply) == [2, 4, 5, 6, 9, 10]
    async with client.idle() as idle:
        await room.remove([8])
        told = await idle.next()
        assert (told.name, told.data) == (b"VANISHED", (8,))


@pytest.mark.parametrize("with_qresync", [False, True])
async def test_nothing_vanishes_while_numbers_are_searched(room: Room, with_qresync: bool) -> None:
    """RFC 7162 §3.2.10.2."""
    await room.deliver(*[SMALL] * 4)
    client = await enabled(room) if with_qresync else await room.client()
    await room.remove([1])
    for line in ("UID SEARCH 2:3", "UID SEARCH NOT (OR 2 SEEN)", "SEARCH ALL"):
        reply = await client.command(line)
        assert reply.ok
        assert not reply["VANISHED"]
        assert not reply["EXPUNGE"]
    reply = await client.command("UID SEARCH UID 2:3")
    assert vanished(reply) == [1] if with_qresync else reply.numbers("EXPUNGE") == [1]


async def test_what_came_and_went_unseen_is_not_told(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await enabled(room)
    await room.deliver(SMALL, SMALL)
    await room.remove([2, 3])
    reply = await client.command("NOOP")
    assert vanished(reply) == [2]
    assert reply.numbers("EXISTS") == [2]


async def test_close_says_no_modseq(room: Room) -> None:
    """A client that kept it would never hear what went: RFC 7162 §3.2.8."""
    client, then = await before(room)
    await client.command("STORE 1 +FLAGS.SILENT (\\Deleted)")
    reply = await client.command("CLOSE")
    assert reply.ok
    assert codes_of(reply) == []
    assert vanished(await client.command(then.select()), earlier=True) == [1]


async def test_flags_that_reading_sets_are_told_with_the_uid(room: Room) -> None:
    await room.deliver(SMALL)
    client = await enabled(room)
    reply = await client.command("FETCH 1 BODY[TEXT]")
    assert {"UID", "FLAGS", "MODSEQ"} <= set(reply.fetched()[1])


async def test_unauthenticate_forgets_it(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await enabled(room)
    await client.command("UNAUTHENTICATE")
    await client.login("ann@example.test", "correct horse")
    await client.command("SELECT INBOX")
    await room.remove([1])
    assert (await client.command("NOOP")).numbers("EXPUNGE") == [1]


@pytest.mark.parametrize("with_qresync", [False, True])
async def test_a_session_that_slept_over_a_trimming_hears_every_removal(
    room: Room, with_qresync: bool
) -> None:
    await room.deliver(*[SMALL] * 5)
    client = await enabled(room) if with_qresync else await room.client()
    await room.remove([2, 4])
    await trim(room)
    reply = await client.command("NOOP")
    if with_qresync:
        assert vanished(reply) == [2, 4]
    else:
        assert reply.numbers("EXPUNGE") == [4, 2]
    assert sorted((await client.command("FETCH 1:* (UID)")).fetched()) == [1, 2, 3]


# --- whatever happens ----------------------------------------------------------------------------


class Traveller:
    """A client that comes and goes, and believes QRESYNC alone."""

    def __init__(self, room: Room, client: ImapClient, chance: random.Random) -> None:
        self.room = room
        self.client = client
        self.chance = chance
        self.cache = Cache()
        self.open = False

    async def say(self, line: str) -> None:
        reply = await self.client.command(line)
        assert reply.ok, (line, reply)
        self.cache.hear(reply)
        while self.cache.count > len(self.cache.flags):
            first = max(self.cache.flags, default=0) + 1
            self.cache.hear(await self.client.command(f"UID FETCH {first}:* (FLAGS)"))

    async def come(self) -> None:
        known, match = self.chance.random() < 0.4, self.chance.random() < 0.4
        word = self.chance.choice(["SELECT", "EXAMINE"])
        parameter = self.cache.parameter(known=known, match=match)
        reply = await self.client.command(f"{word} INBOX{parameter}")
        assert reply.ok
        self.cache.hear(reply, opened=True)
        self.open = word == "SELECT"
        await self.say("NOOP")

    async def step(self) -> None:
        uids = sorted(self.cache.flags)
        if not self.open:
            await self.come()
        elif self.chance.random() < 0.3:
            await self.client.command(self.chance.choice(["CLOSE", "UNSELECT"]))
            self.open = False
            return
        elif uids:
            uid = self.chance.choice(uids)
            line = self.chance.choice(
                [
                    f"UID STORE {uid} +FLAGS (\\Deleted)",
                    f"UID STORE {uid} FLAGS (Blue)",
                    "EXPUNGE",
                    f"UID EXPUNGE {uid}:*",
                    f"UID MOVE {uid} Archive",
                    f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {self.cache.modseq} VANISHED)",
                    f"UID FETCH {uid}:* (FLAGS) (CHANGEDSINCE 1 VANISHED)",
                ]
            )
            await self.say(line)
        await self.say("NOOP")
        assert self.cache.flags == await self.room.stored()
        assert self.cache.count == len(self.cache.flags)


async def meddle(room: Room, other: ImapClient, chance: random.Random) -> None:
    """Something that another does."""
    uids = sorted(await room.stored())
    some = sorted(chance.sample(uids, min(len(uids), chance.randrange(1, 5))))
    what = chance.randrange(6)
    if what < 2 or not some:
        await room.deliver(*[SMALL] * chance.randrange(1, 4))
    elif what == 2:
        await room.flag(some, add=(chance.choice(["\\Seen", "Red", "\\Deleted"]),))
    elif what == 3:
        await room.remove(some)
    elif what == 4:
        await other.command(f"UID MOVE {','.join(map(str, some))} Archive")
    else:
        await trim(room)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_others_do_the_client_ends_with_what_is_there(room: Room, seed: int) -> None:
    chance = random.Random(seed)
    other = await room.client(worker=1)
    traveller = Traveller(room, await enabled(room, None), chance)
    await room.deliver(*[SMALL] * 5)
    for _ in range(60):
        for _ in range(chance.randrange(4)):
            await meddle(room, other, chance)
        await traveller.step()


async def test_a_resynchronisation_that_fails_leaves_nothing_open(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, then = await before(room)
    await room.remove([2])

    async def fail(*args: object) -> None:
        raise StoreFailed(detail="not now")

    with monkeypatch.context() as patch:
        patch.setattr(resync, "tell_changed", fail)
        reply = await client.command(then.select())
    assert (reply.kind, reply.code) == ("NO", "UNAVAILABLE")
    assert (await client.command("FETCH 1 (FLAGS)")).kind == "BAD"
    assert vanished(await client.command(then.select()), earlier=True) == [2]
