"""STORE and UID STORE. RFC 3501 §6.4.6, RFC 7162 §3.1.3."""

from __future__ import annotations

import asyncio
import random

import pytest

from postroom.domain.mailboxes.flags import FIRST_KEYWORD, KEYWORD_BITS
from postroom.testing.imap import ImapClient, Reply, flags_of, numbers_of
from tests.protocols.imap.serving import SMALL, Room


def told(reply: Reply) -> dict[int, set[str]]:
    """Flags by message number, as far as they were told, without \\Recent."""
    return {
        number: flags_of(items["FLAGS"]) - {"\\Recent"}
        for number, items in reply.fetched().items()
        if "FLAGS" in items
    }


async def without_recent(room: Room, *, worker: int = 0) -> ImapClient:
    """A session that has INBOX open and no recent messages in it."""
    client = await room.client(worker=worker)
    box = await room.box()
    for _ in range(300):
        reply = await client.command("SELECT INBOX")
        if reply.numbers("RECENT") == [0] or not box.total:
            return client
        await asyncio.sleep(0.01)  # who was told is noted a moment later
    raise AssertionError("the messages stay recent")


# What a message flagged \\Flagged and $One has afterwards.
WAYS: dict[str, set[str]] = {
    "FLAGS (\\Seen $Two)": {"\\Seen", "$Two"},
    "FLAGS ()": set(),
    "FLAGS \\Seen $Two": {"\\Seen", "$Two"},
    "+FLAGS (\\Seen)": {"\\Flagged", "$One", "\\Seen"},
    "+flags (\\FLAGGED)": {"\\Flagged", "$One"},
    "-FLAGS (\\Flagged)": {"$One"},
    "-FLAGS ($ONE $Never)": {"\\Flagged"},
    "+FLAGS ()": {"\\Flagged", "$One"},
    "-FLAGS ()": {"\\Flagged", "$One"},
    "FLAGS (\\Recent)": set(),
    "+FLAGS (\\Recent \\Draft)": {"\\Flagged", "$One", "\\Draft"},
    "+FLAGS (Hand-made:keyword)": {"\\Flagged", "$One", "Hand-made:keyword"},
}


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("uid", [False, True])
async def test_flags_are_replaced_added_and_removed(room: Room, silent: bool, uid: bool) -> None:
    stored = await room.deliver(*[SMALL] * len(WAYS), flags=("\\Flagged", "$One"))
    client = await without_recent(room)
    for number, (way, after) in enumerate(WAYS.items(), 1):
        word, _, rest = way.partition(" ")
        how = f"{word}.SILENT {rest}" if silent else way
        message = stored[number - 1].uid
        which = f"UID STORE {message}" if uid else f"STORE {number}"
        reply = await client.command(f"{which} {how}")
        assert reply.ok, (way, reply)
        assert told(reply) == ({} if silent else {number: after}), way
        if uid and not silent:
            assert reply.fetched()[number]["UID"] == message
        assert (await client.command("NOOP")).untagged == []  # nothing is told twice
    assert list((await room.stored()).values()) == list(WAYS.values())


async def test_the_same_on_both_engines(room_both: Room) -> None:
    stored = await room_both.deliver(*[SMALL] * 5)
    await room_both.flag([stored[0].uid, stored[3].uid], add=("\\Seen", "$A"))
    client = await room_both.client()
    reply = await client.command("STORE 1:3,5 +FLAGS (\\Answered $B)")
    assert told(reply) == {
        1: {"\\Seen", "$A", "\\Answered", "$B"},
        2: {"\\Answered", "$B"},
        3: {"\\Answered", "$B"},
        5: {"\\Answered", "$B"},
    }
    reply = await client.command("UID STORE 1:* FLAGS.SILENT (\\Deleted)")
    assert (reply.kind, told(reply)) == ("OK", {})
    assert list((await room_both.stored()).values()) == [{"\\Deleted"}] * 5


NO_STORE = [
    "STORE 1",
    "STORE 1 FLAGS",
    "STORE 1 *FLAGS (\\Seen)",
    "STORE 1 FLAGS.LOUD (\\Seen)",
    "STORE 1 +FLAGS (\\Seen",
    "STORE 1 +FLAGS (\\Nonsense)",
    "STORE 1 +FLAGS (a(b)",
    "STORE 1 (UNCHANGEDSINCE) FLAGS ()",
    "STORE 1 (UNCHANGEDSINCE -1) FLAGS ()",
    "STORE 0 FLAGS ()",
    "STORE 3 FLAGS ()",
]


async def test_what_cannot_be_stored_is_bad_and_changes_nothing(room: Room) -> None:
    await room.deliver(SMALL, SMALL, flags=("\\Flagged",))
    client = await without_recent(room)
    for line in NO_STORE:
        reply = await client.command(line)
        assert (reply.kind, reply.untagged) == ("BAD", []), line
    assert list((await room.stored()).values()) == [{"\\Flagged"}] * 2


# --- keywords ------------------------------------------------------------------------------------


async def test_a_new_keyword_is_announced_before_it_is_used(room: Room) -> None:
    await room.deliver(SMALL)
    client, other = await without_recent(room), await room.client(worker=1)
    reply = await client.command("STORE 1 +FLAGS ($Brand $New)")
    names = [each.name for each in reply.untagged]
    assert names == [b"FLAGS", b"OK", b"FETCH"]
    kept = reply.code_data("PERMANENTFLAGS")
    assert kept is not None
    assert {"$Brand", "$New", "\\*"} <= flags_of(kept[0])
    reply = await other.command("NOOP")
    names = [each.name for each in reply.untagged]
    assert names.index(b"FLAGS") < names.index(b"FETCH")
    reply = await client.command("STORE 1 -FLAGS ($brand)")
    assert (reply["FLAGS"], told(reply)) == ([], {1: {"$New"}})


async def test_a_full_registry_refuses_further_keywords(room: Room) -> None:
    await room.deliver(SMALL)
    client = await without_recent(room)
    most = KEYWORD_BITS - FIRST_KEYWORD
    names = " ".join(f"k{n}" for n in range(most))
    reply = await client.command(f"STORE 1 FLAGS.SILENT ({names})")
    assert reply.ok
    kept = reply.code_data("PERMANENTFLAGS")
    assert kept is not None
    assert "\\*" not in flags_of(kept[0])
    reply = await client.command("STORE 1 +FLAGS (\\Seen one-more)")
    assert (reply.kind, reply.code) == ("NO", "LIMIT")
    assert (await room.stored())[1] == {f"k{n}" for n in range(most)}
    assert told(await client.command("STORE 1 FLAGS (K7)")) == {1: {"k7"}}


# --- what others do meanwhile --------------------------------------------------------------------


async def test_silence_does_not_hide_what_others_changed(room_both: Room) -> None:
    """RFC 3501 §6.4.6: an untagged FETCH is due if somebody else changed the flags."""
    stored = await room_both.deliver(*[SMALL] * 3)
    client = await without_recent(room_both)
    await room_both.flag([stored[0].uid, stored[2].uid], add=("\\Flagged", "$Theirs"))
    reply = await client.command("STORE 1:2 +FLAGS.SILENT (\\Seen)")
    found = told(reply)
    assert found.pop(3) == {"\\Flagged", "$Theirs"}
    assert found == {1: {"\\Flagged", "$Theirs", "\\Seen"}}
    names = [each.name for each in reply.untagged]
    assert names.index(b"FLAGS") < names.index(b"FETCH")
    assert (await client.command("NOOP")).untagged == []


@pytest.mark.parametrize(
    "command", ["STORE 1 +FLAGS (\\Seen)", "FETCH 1 (FLAGS)", "FETCH 1 (MODSEQ)", "SEARCH ALL"]
)
@pytest.mark.parametrize("enable", ["CONDSTORE", "QRESYNC", ""])
async def test_what_came_is_told_while_expunges_wait(room: Room, command: str, enable: str) -> None:
    """RFC 3501 §5.2: the size is told when it is seen to have changed; numbers mean what they
    meant, and what was removed is counted yet."""
    await room.deliver(*[SMALL] * 4)
    client = await room.client(mailbox=None)
    if enable:
        await client.command(f"ENABLE {enable}")
    await client.command("SELECT INBOX")
    await room.remove([2])
    await room.deliver(SMALL, SMALL)
    reply = await client.command(command)
    assert reply.ok, reply
    assert reply.numbers("EXISTS") == [6]
    assert not reply["EXPUNGE"] and not reply["VANISHED"]
    assert (await client.command("FETCH 5:6 (UID)")).numbers("FETCH") == [5, 6]
    await room.flag([3, 5], add=("\\Flagged",))
    await room.remove([6])
    reply = await client.command("NOOP")
    assert not reply["EXISTS"]
    fetched = (await client.command("FETCH 1:* (UID FLAGS)")).fetched()
    assert {n: items["UID"] for n, items in fetched.items()} == {1: 1, 2: 3, 3: 4, 4: 5}
    flagged = [n for n, items in fetched.items() if "\\Flagged" in flags_of(items["FLAGS"])]
    assert flagged == [2, 4]
    assert (await client.command("NOOP")).untagged == []


async def test_what_came_and_went_is_no_removal(room: Room) -> None:
    """Of what the client never counted nothing waits: RFC 7162 §3.2.10.2."""
    await room.deliver(*[SMALL] * 3)
    client = await without_recent(room)
    await room.deliver(SMALL, SMALL)
    await room.remove([4])
    await room.flag([2], add=("\\Flagged",))
    reply = await client.command("SEARCH ALL")
    assert reply.numbers("EXISTS") == [4]
    assert reply.numbers("FETCH") == [2]
    assert (await client.command("NOOP")).untagged == []


async def test_silence_does_not_hide_it_while_expunges_wait(room: Room) -> None:
    stored = await room.deliver(*[SMALL] * 3)
    client = await without_recent(room)
    await room.remove([stored[2].uid])
    for n in range(2):
        await room.flag([stored[0].uid], add=(f"$Theirs{n}",))
        reply = await client.command("STORE 1:2 +FLAGS.SILENT (\\Seen)")
        assert reply.numbers("EXPUNGE") == []
    await client.command("STORE 1 -FLAGS.SILENT (\\Seen)")
    reply = await client.command("NOOP")
    assert reply.numbers("EXPUNGE") == [3]
    everything = await client.command("FETCH 1:* (FLAGS)")
    assert told(everything) == {1: {"$Theirs0", "$Theirs1"}, 2: {"\\Seen"}}


# --- CONDSTORE -----------------------------------------------------------------------------------


async def test_unchangedsince_changes_only_what_nobody_touched(room_both: Room) -> None:
    stored = await room_both.deliver(*[SMALL] * 6)
    uids = [each.uid for each in stored]
    client = await room_both.client()
    since = (await room_both.box()).modseq
    await room_both.flag([uids[1], uids[2], uids[4]], add=("\\Flagged",))
    reply = await client.command(f"STORE 1:* (UNCHANGEDSINCE {since}) +FLAGS (\\Seen)")
    assert reply.ok
    failed = reply.code_data("MODIFIED")
    assert failed is not None
    assert numbers_of(failed[0]) == [2, 3, 5]
    flags = await room_both.stored()
    assert [n for n, uid in enumerate(uids, 1) if "\\Seen" in flags[uid]] == [1, 4, 6]
    modseqs = await room_both.modseqs()
    for number, items in reply.fetched().items():
        assert items["MODSEQ"] == (modseqs[uids[number - 1]],)
    reply = await client.command(f"UID STORE 1:* (UNCHANGEDSINCE {since}) +FLAGS (\\Draft)")
    failed = reply.code_data("MODIFIED")
    assert failed is not None
    assert numbers_of(failed[0]) == uids
    reply = await client.command("STORE 1 (UNCHANGEDSINCE 0) +FLAGS (\\Draft)")
    assert reply.code_data("MODIFIED") == (1,)


async def test_a_condstore_client_is_told_modseqs_even_in_silence(room: Room) -> None:
    stored = await room.deliver(SMALL, SMALL, SMALL)
    await room.flag([stored[1].uid], add=("\\Seen",))
    client = await room.client(mailbox=None)
    assert (await client.command("ENABLE CONDSTORE")).ok
    assert (await client.command("SELECT INBOX")).ok
    reply = await client.command("STORE 1:* +FLAGS.SILENT (\\Seen)")
    modseqs = await room.modseqs()
    found = reply.fetched()
    assert list(found) == [1, 3]  # the second one did not change
    assert all(items.keys() == {"UID", "MODSEQ"} for items in found.values())
    reply = await client.command("STORE 1:* +FLAGS (\\Seen)")  # changes nothing
    assert {n: items["MODSEQ"] for n, items in reply.fetched().items()} == {
        n: (modseqs[each.uid],) for n, each in enumerate(stored, 1)
    }
    assert await room.modseqs() == modseqs


async def test_modseqs_grow_with_every_change(room: Room) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client()
    rng = random.Random(1)
    highest = (await room.box()).modseq
    for _ in range(30):
        number, word = rng.randint(1, 4), rng.choice(["+FLAGS", "-FLAGS", "FLAGS"])
        before = await room.modseqs()
        await client.command(f"STORE {number} {word} (\\Seen k{rng.randint(0, 3)})")
        after = await room.modseqs()
        changed = {uid for uid in after if after[uid] != before[uid]}
        assert len(changed) <= 1
        assert all(after[uid] > highest for uid in changed)
        highest = max(highest, *after.values())
        reply = await client.command("SELECT INBOX")
        assert reply.code_data("HIGHESTMODSEQ") == (highest,)


# --- many ----------------------------------------------------------------------------------------


async def test_twenty_thousand_messages_in_one_command(room: Room) -> None:
    await room.fill(20_000)
    client, other = await without_recent(room), await room.client(worker=1)
    reply = await client.command("STORE 1:* +FLAGS (\\Answered)", patience=20)
    assert reply.numbers("FETCH") == list(range(1, 20_001))
    assert set(map(frozenset, told(reply).values())) == {frozenset({"\\Answered"})}
    reply = await other.command("NOOP", patience=20)
    assert reply.numbers("FETCH") == list(range(1, 20_001))
    reply = await client.command("UID STORE 1:* FLAGS.SILENT (\\Seen)", patience=20)
    assert reply.untagged == []
    assert (await client.command("NOOP")).untagged == []
    assert set(map(frozenset, (await room.stored()).values())) == {frozenset({"\\Seen"})}


async def test_scattered_messages_in_one_command(room: Room) -> None:
    await room.fill(4000)
    client = await without_recent(room)
    chosen = sorted(random.Random(9).sample(range(1, 4001), 1500))
    text = ",".join(map(str, chosen))
    reply = await client.command(f"STORE {text} +FLAGS (\\Flagged)")
    assert sorted(reply.numbers("FETCH")) == chosen
    flags = await room.stored()
    assert [uid for uid in flags if "\\Flagged" in flags[uid]] == chosen
