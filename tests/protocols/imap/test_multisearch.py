"""ESEARCH over sockets: a search of many mailboxes. RFC 7377."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.sharing import Sight
from postroom.protocols.imap import progress, sources
from postroom.protocols.imap.commands import multisearch
from postroom.protocols.imap.sources import Found, holds
from postroom.testing.imap import ImapClient, Reply
from postroom.wire.imap import Source, Untagged, Which
from tests.protocols.imap.serving import ANN, BOB, Room, message

Told = dict[str, tuple[object, ...]]


def answers(reply: Reply) -> Told:
    """What was told of each mailbox, after the checks that hold for every answer."""
    found: Told = {}
    for each in reply["ESEARCH"]:
        about, *told = each.data
        assert isinstance(about, tuple)
        tag, name, validity = about[1], about[3], about[5]
        assert about[::2] == (b"TAG", b"MAILBOX", b"UIDVALIDITY")
        assert tag == reply.tagged.tag
        assert isinstance(validity, int)
        assert isinstance(name, bytes)
        assert told[0] == b"UID"
        assert name.decode() not in found, "once for each mailbox"
        found[name.decode()] = tuple(told[1:])
    return found


async def asked(client: ImapClient, text: str) -> Told:
    reply = await client.command("ESEARCH " + text)
    assert reply.ok, (text, reply)
    return answers(reply)


async def fill(room: Room) -> None:
    for path in ("Work", "Work/a", "Work/a/deep", "Work/b", "Workers"):
        await room.create(path)
    await room.deliver(message("red"), message("blue"), message("red again"))
    await room.deliver(message("blue"), message("red"), path="Sent")
    await room.deliver(message("red"), path="Work", flags=("\\Seen",))
    await room.deliver(message("red"), path="Work/a")
    await room.deliver(message("red"), path="Work/a/deep")
    await room.deliver(message("green"), path="Work/b")
    await room.deliver(message("red"), path="Workers")


RED = {
    "INBOX": (b"ALL", b"1,3"),
    "Sent": (b"ALL", 2),
    "Work": (b"ALL", 1),
    "Work/a": (b"ALL", 1),
    "Work/a/deep": (b"ALL", 1),
    "Workers": (b"ALL", 1),
}


@pytest.mark.parametrize(
    ("where", "paths"),
    [
        ("personal", set(RED)),
        ("inboxes", set(RED)),
        ("mailboxes (inbox Sent)", {"INBOX", "Sent"}),
        ("mailboxes nowhere mailboxes Work/b mailboxes Sent", {"Sent"}),
        ("subtree Work", {"Work", "Work/a", "Work/a/deep"}),
        ("subtree-one Work", {"Work", "Work/a"}),
        ("subtree Work subtree-one Work mailboxes Work/a", {"Work", "Work/a", "Work/a/deep"}),
        ("subscribed", {"INBOX", "Sent", "Workers"}),
        ("mailboxes nowhere", set()),
    ],
)
async def test_each_source(room: Room, where: str, paths: set[str]) -> None:
    await fill(room)
    client = await room.client(mailbox=None)
    assert (await client.command("SUBSCRIBE Workers")).ok
    found = await asked(client, f"IN ({where}) SUBJECT red")
    assert found == {path: RED[path] for path in paths}


async def test_both_engines_and_both_states(room_both: Room) -> None:
    await fill(room_both)
    client = await room_both.client(mailbox=None)
    assert await asked(client, "IN (personal) SUBJECT red") == RED
    assert (await client.command("SELECT Work/b")).ok
    assert await asked(client, "IN (personal) SUBJECT red") == RED
    reply = await client.command("UID SEARCH ALL")  # it is still the one that is open
    assert reply["SEARCH"][0].data == (1,)


async def test_uidvalidity_and_names_are_those_of_the_mailbox(room: Room) -> None:
    await room.create("Ärger")
    await room.deliver(message("x"), path="Ärger")
    client = await room.client(mailbox=None)
    (told,) = (await client.command("ESEARCH IN (mailboxes &AMQ-rger) ALL"))["ESEARCH"]
    about = told.data[0]
    assert isinstance(about, tuple)
    assert about[3:] == (b"&AMQ-rger", b"UIDVALIDITY", (await room.box("Ärger")).uidvalidity)
    assert (await client.command("ENABLE UTF8=ACCEPT")).ok
    (told,) = (await client.command("ESEARCH IN (personal) ALL"))["ESEARCH"]
    about = told.data[0]
    assert isinstance(about, tuple)
    assert about[3] == "Ärger".encode()


@pytest.mark.parametrize(
    ("returns", "inbox", "sent"),
    [
        ("()", (b"ALL", b"1,3"), (b"ALL", 2)),
        ("(MIN MAX)", (b"MIN", 1, b"MAX", 3), (b"MIN", 2, b"MAX", 2)),
        ("(COUNT)", (b"COUNT", 2), (b"COUNT", 1)),
        ("(MIN)", (b"MIN", 1), (b"MIN", 2)),
        ("(PARTIAL 1:1)", (b"PARTIAL", (b"1:1", 1)), (b"PARTIAL", (b"1:1", 2))),
        ("(PARTIAL -1:-1 COUNT)",
            (b"COUNT", 2, b"PARTIAL", (b"-1:-1", 3)), (b"COUNT", 1, b"PARTIAL", (b"-1:-1", 2))),
        ("(PARTIAL 2:9)", (b"PARTIAL", (b"2:9", 3)), (b"PARTIAL", (b"2:9", None))),
    ],
)  # fmt: skip
async def test_result_options_hold_for_each_mailbox(
    room: Room, returns: str, inbox: object, sent: object
) -> None:
    await fill(room)
    client = await room.client(mailbox=None)
    found = await asked(
        client, f"IN (mailboxes (INBOX Sent Work/b Drafts)) RETURN {returns} SUBJECT red"
    )
    assert found == {"INBOX": inbox, "Sent": sent}


async def test_without_a_match_even_counts_are_not_told(room: Room) -> None:
    await fill(room)
    client = await room.client()
    for where in ("", "IN (personal) "):
        assert await asked(client, where + "RETURN (COUNT MIN PARTIAL 1:2) SUBJECT none") == {}


async def test_modseq_of_what_is_told(room: Room) -> None:
    await fill(room)
    client = await room.client(mailbox=None)
    found = await asked(client, "IN (mailboxes Sent) MODSEQ 1")
    assert found == {
        "Sent": (b"ALL", b"1:2", b"MODSEQ", max((await room.modseqs("Sent")).values()))
    }


async def test_what_nobody_was_told_of_is_recent_and_stays_so(room: Room) -> None:
    await fill(room)
    assert (await (await room.client()).command("CLOSE")).ok  # INBOX was opened
    async with asyncio.timeout(5):  # nobody waits until that is written
        while await room.house.state.read(reading.recent_floor, (await room.box()).id) < 4:
            await asyncio.sleep(0.005)
    await room.deliver(message("late"))
    client = await room.client(mailbox=None)
    for _ in range(2):
        found = await asked(client, "IN (mailboxes (INBOX Work)) RECENT")
        assert found == {"INBOX": (b"ALL", 4), "Work": (b"ALL", 1)}


async def test_numbers_are_those_in_each_mailbox(room: Room) -> None:
    await fill(room)
    await room.remove([1])
    client = await room.client()
    assert (await client.command("EXAMINE Work/a")).ok
    found = await asked(client, "IN (mailboxes (INBOX Sent)) 2")
    assert found == {"INBOX": (b"ALL", 3), "Sent": (b"ALL", 2)}
    assert (await client.command("ENABLE UIDONLY")).ok
    assert (await client.command("ESEARCH IN (mailboxes INBOX) 2")).code == "UIDREQUIRED"


# --- the open mailbox -----------------------------------------------------------------------------


async def test_without_sources_the_open_mailbox_is_searched(room: Room) -> None:
    await fill(room)
    client = await room.client()
    assert await asked(client, "SUBJECT red") == {"INBOX": RED["INBOX"]}
    assert await asked(client, "IN (selected) 2:3") == {"INBOX": (b"ALL", b"2:3")}
    found = await asked(client, "IN (selected mailboxes (Sent INBOX)) SUBJECT red")
    assert found == {"INBOX": RED["INBOX"], "Sent": RED["Sent"]}


async def test_the_open_mailbox_is_searched_as_it_was_told(room: Room) -> None:
    await fill(room)
    client = await room.client()
    await room.deliver(message("red"))
    await room.deliver(message("red"), path="Sent")
    reply = await client.command("ESEARCH IN (personal) SUBJECT red")
    found = answers(reply)
    assert (found["INBOX"], found["Sent"]) == (RED["INBOX"], (b"ALL", b"2:3"))
    assert reply["EXISTS"], "told with the tagged reply"
    assert (await asked(client, "SUBJECT red"))["INBOX"] == (b"ALL", b"1,3:4")


async def test_it_has_the_name_that_it_has_now(room: Room) -> None:
    await fill(room)
    client = await room.client(mailbox="Work/b")
    other = await room.client(mailbox=None)
    assert (await other.command("RENAME Work Play")).ok
    assert await asked(client, "ALL") == {"Play/b": (b"ALL", 1)}


async def test_what_is_found_there_can_be_saved(room: Room) -> None:
    await fill(room)
    client = await room.client()
    reply = await client.command("ESEARCH RETURN (SAVE) SUBJECT red")
    assert reply.ok
    assert not reply["ESEARCH"]
    assert await asked(client, "RETURN (SAVE COUNT) UID $ NOT 1") == {"INBOX": (b"COUNT", 1)}
    assert (await client.command("UID SEARCH $"))["SEARCH"][0].data == (3,)


@pytest.mark.parametrize(
    "text",
    [
        "IN (personal) OR $ SEEN",
        "IN (personal) UID $",
        "IN (personal) RETURN (SAVE) ALL",
    ],
)
async def test_what_was_saved_is_not_looked_for_elsewhere(room: Room, text: str) -> None:
    client = await room.client()
    assert (await client.command("ESEARCH " + text)).kind == "BAD"


@pytest.mark.parametrize(
    "text",
    [
        "ALL",
        "IN (selected) ALL",
        "IN (selected personal) ALL",
        "IN (personal) RETURN (UPDATE) ALL",  # RFC 7377 §2.2
    ],
)
async def test_where_none_is_open_it_cannot_be_meant(room: Room, text: str) -> None:
    client = await room.client(mailbox=None)
    assert (await client.command("ESEARCH " + text)).kind == "BAD"
    assert (await (await room.connect()).command("ESEARCH IN (personal) ALL")).kind == "BAD"


# --- mailboxes of others --------------------------------------------------------------------------


async def test_mailboxes_of_others_by_what_may_be_done_there(room_both: Room) -> None:
    shared = f"Shared/{ANN}/INBOX"
    await fill(room_both)
    ann, bob = await room_both.client(), await room_both.client(BOB, None)
    where = f'IN (mailboxes "{shared}") SUBJECT red'
    assert await asked(bob, where) == {}
    assert (await ann.command(f"SETACL INBOX {BOB} l")).ok
    assert await asked(bob, where) == {}, "it may be known, not read"
    assert (await ann.command(f"SETACL INBOX {BOB} lr")).ok
    assert await asked(bob, where) == {shared: RED["INBOX"]}
    assert await asked(bob, f'IN (subtree "Shared/{ANN}") SUBJECT red') == {shared: RED["INBOX"]}
    assert await asked(bob, "IN (personal) SUBJECT red") == {}
    assert (await ann.command(f"SETACL INBOX {BOB} r")).ok
    assert await asked(bob, where) == {shared: RED["INBOX"]}, "who names it need not see it"
    assert await asked(bob, f'IN (subtree "Shared/{ANN}") SUBJECT red') == {}
    assert (await bob.command("SELECT ", shared)).ok
    assert await asked(bob, "SUBJECT red") == {shared: RED["INBOX"]}
    assert (await ann.command(f"SETACL INBOX {BOB} l")).ok
    assert (await bob.command("ESEARCH SUBJECT red")).code == "NOPERM"
    assert await asked(bob, where) == {}


# --- bounds, and what others do meanwhile ---------------------------------------------------------


async def test_too_many_mailboxes_are_refused(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(room)
    monkeypatch.setattr(multisearch, "SEARCHED_MOST", 3)
    client = await room.client(mailbox=None)
    reply = await client.command("ESEARCH IN (personal) ALL")
    assert (reply.kind, reply.code) == ("NO", "LIMIT")
    assert len(await asked(client, "IN (subtree Work/a mailboxes Sent) ALL")) == 3


async def test_who_waits_is_told_how_many_mailboxes_are_done(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9585."""
    await fill(room)
    client = await room.client(mailbox=None)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    reply = await client.command("ESEARCH IN (mailboxes (INBOX Sent Work)) UID 1")
    told = [code.data for code in reply.codes() if code.name == b"INPROGRESS"]
    assert told == [((reply.tagged.tag, done, 3),) for done in range(3)]


async def test_what_is_gone_or_closed_when_its_turn_comes_is_passed_over(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mailboxes are chosen first, and looked at one after the other."""
    await fill(room)
    theirs = await room.create("Theirs", BOB)
    await room.deliver(message("red"), user=BOB, path="Theirs")
    client = await room.client(mailbox=None)
    chosen = sources.readable

    def stale(sight: Sight, asked: Sequence[Source]) -> list[Found]:
        return [Found("Gone", 1, 3), Found("Closed", theirs, 3), *chosen(sight, asked)]

    monkeypatch.setattr(multisearch, "readable", stale)
    assert await asked(client, "IN (personal) SUBJECT red") == RED


async def test_searches_are_pipelined_and_told_apart(room: Room) -> None:
    await fill(room)
    client = await room.client(mailbox=None)
    client.send(
        b"p1 ESEARCH IN (personal) SUBJECT red\r\np2 ESEARCH IN (personal) SUBJECT green\r\n"
    )
    told: dict[bytes, list[bytes]] = {b"p1": [], b"p2": []}
    ends = 0
    while ends < 2:
        each = await client.response()
        if isinstance(each, Untagged):
            about = each.data[0]
            assert isinstance(about, tuple)
            assert isinstance(about[1], bytes)
            assert isinstance(about[3], bytes)
            told[about[1]].append(about[3])
        else:
            ends += 1
    assert set(told[b"p1"]) == {path.encode() for path in RED}
    assert told[b"p2"] == [b"Work/b"]


async def test_as_a_search_of_one_after_the_other(room: Room) -> None:
    """Whatever is looked for: the same as SELECT and UID SEARCH in each mailbox."""
    chance = random.Random(7)
    paths = ["INBOX", "Sent", "Drafts", "Archive"]
    for path in paths:
        for _ in range(chance.randrange(1, 12)):
            words = " ".join(chance.choices(["red", "green", "blue"], k=2))
            flags = tuple(chance.sample(["\\Seen", "\\Flagged", "mine"], chance.randrange(3)))
            await room.deliver(message(words, words[::-1].encode()), path=path, flags=flags)
    one, many = await room.client(mailbox=None), await room.client(mailbox=None)
    for key in (
        "ALL", "SEEN", "UNSEEN NOT FLAGGED", "KEYWORD mine", "SUBJECT red", "BODY eul",
        "OR TEXT green UID 2:3", "HEADER Subject blue", "UID *", "LARGER 10 UID 1:4",
    ):  # fmt: skip
        found = await asked(many, f"IN (personal) RETURN (ALL COUNT) {key}")
        expected: Told = {}
        for path in paths:
            assert (await one.command("EXAMINE ", path)).ok
            (each,) = (await one.command(f"UID SEARCH RETURN (ALL COUNT) {key}"))["ESEARCH"]
            if b"ALL" in each.data:
                expected[path] = tuple(each.data[2:])
        assert found == expected, key


# --- sets of mailboxes ----------------------------------------------------------------------------

_PATH = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map("/".join)


@given(_PATH, st.frozensets(_PATH, max_size=4))
def test_what_lies_below(path: str, names: frozenset[str]) -> None:
    def within(which: Which) -> bool:
        return holds(which, names, path, own=False, subscribed=False)

    below = [path[len(name) :] for name in names if (path + "/").startswith(name + "/")]
    assert within(Which.SUBTREE) == bool(below)
    assert within(Which.SUBTREE_ONE) == any(each.count("/") <= 1 for each in below)
    assert within(Which.MAILBOXES) == ("" in below)
    assert not within(Which.PERSONAL)
