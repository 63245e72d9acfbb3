"""ACL, and mailboxes of others. RFC 4314, RFC 2342, RFC 8440."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from postroom.core.clock import Instant
from postroom.domain.directory import people
from postroom.domain.mailboxes import rights
from postroom.domain.mailboxes.folders import Mailbox
from postroom.store.sql import Tx
from postroom.testing.imap import Reply, flags_of
from tests.protocols.imap.serving import ANN, BOB, SMALL, Room, codes_of

SHARED = f"Shared/{ANN}/"
INBOX = SHARED + "INBOX"
ALL_BUT: Final = {letter: "lrswipkxtea".replace(letter, "") for letter in "lrswipkxtea"}


def _give(tx: Tx, box: Mailbox, letters: str, now: Instant, whom: str) -> None:
    subject = rights.subject(tx, people.by_id(tx, box.account), whom, beyond=True)
    rights.put(tx, box.id, subject, rights.parse(letters), now, box.account)


async def give(room: Room, letters: str, path: str = "INBOX", whom: str = BOB) -> None:
    """Ann gives rights in a mailbox of hers."""
    now = room.house.clock.now()
    await room.house.mail.write(_give, await room.box(path), letters, now, whom)


def paths(reply: Reply, name: str = "LIST") -> dict[str, set[str]]:
    """Attributes by path."""
    found = {}
    for each in reply[name]:
        attributes, _, path, *_ = each.data
        assert isinstance(path, bytes)
        found[path.decode()] = flags_of(attributes)
    return found


def words(reply: Reply, name: str) -> list[str]:
    """The strings of the one response of that name."""
    (each,) = reply[name]
    return [bytes(word).decode() for word in each.data if isinstance(word, bytes)]


# --- the commands ---------------------------------------------------------------------------------


async def test_the_owner_gives_looks_and_takes(room_both: Room) -> None:
    ann = await room_both.client(mailbox=None)
    assert words(await ann.command("MYRIGHTS INBOX"), "MYRIGHTS") == ["INBOX", "lrswipkxteacd"]
    assert (await ann.command(f"SETACL INBOX {BOB} lrd")).ok
    assert (await ann.command("SETACL INBOX bob +s")).ok
    assert (await ann.command("SETACL INBOX bob -e")).ok
    assert (await ann.command("SETACL INBOX -anyone p")).ok
    told = words(await ann.command("GETACL INBOX"), "ACL")
    assert told == ["INBOX", ANN, "lrswipkxteacd", BOB, "lrstd", "-anyone", "p"]
    bob = await room_both.client(BOB, mailbox=None)
    assert words(await bob.command("MYRIGHTS ", INBOX), "MYRIGHTS") == [INBOX, "lrstd"]
    assert (await ann.command("DELETEACL INBOX bob")).ok
    reply = await bob.command("MYRIGHTS ", INBOX)
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    assert (await ann.command("DELETEACL INBOX bob")).ok  # RFC 4314 §3.2


async def test_listrights_tells_what_can_be_given(room: Room) -> None:
    ann = await room.client(mailbox=None)
    told = words(await ann.command("LISTRIGHTS INBOX bob"), "LISTRIGHTS")
    assert told == ["INBOX", "bob", "", *"lrswipkxteacd"]
    told = words(await ann.command("LISTRIGHTS INBOX ann"), "LISTRIGHTS")
    assert told == ["INBOX", "ann", "lrswipkxteacd"]


async def test_a_right_that_is_none_is_bad_and_an_unknown_name_is_no(room: Room) -> None:
    ann = await room.client(mailbox=None)
    for wrong in ("lrq", "L", "+9", "l-r"):
        assert (await ann.command(f"SETACL INBOX bob {wrong}")).kind == "BAD"
    for whom in ("nobody", "nobody@example.test", "bob@elsewhere.example", '""', "@other.test"):
        reply = await ann.command(f"SETACL INBOX {whom} lr")
        assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    reply = await ann.command("SETACL INBOX ann lr")
    assert (reply.kind, reply.code) == ("NO", "CANNOT")
    for line in ("SETACL INBOX bob", "SETACL", "GETACL", "GETACL INBOX bob", "MYRIGHTS a b"):
        assert (await ann.command(line)).kind == "BAD"


async def test_who_may_administer_shares_on(room: Room) -> None:
    await give(room, "lra")
    bob = await room.client(BOB, mailbox=None)
    assert (await bob.command("SETACL ", INBOX, " anyone lr")).ok
    told = words(await bob.command("GETACL ", INBOX), "ACL")
    assert dict(zip(told[1::2], told[2::2], strict=True)) == {
        ANN: "lrswipkxteacd",
        "anyone": "lr",
        BOB: "lra",
    }
    reply = await bob.command("SETACL ", INBOX, f" {ANN} l")
    assert (reply.kind, reply.code) == ("NO", "CANNOT")


# --- a row for each command and right -------------------------------------------------------------

NEEDS = [
    # command, right, mailbox that the right is in; SELECT goes before what needs it
    ("SELECT Shared/A/Work", "r", "Work"),
    ("EXAMINE Shared/A/Work", "r", "Work"),
    ("STATUS Shared/A/Work (MESSAGES)", "r", "Work"),
    ("GETQUOTAROOT Shared/A/Work", "r", "Work"),
    ("APPEND Shared/A/Work {3+}\r\nabc", "i", "Work"),
    ("CREATE Shared/A/Work/New", "k", "Work"),
    ("DELETE Shared/A/Work", "x", "Work"),
    ("RENAME Shared/A/Work Shared/A/To/Work", "x", "Work"),
    ("RENAME Shared/A/Work Shared/A/To/Work", "k", "To"),
    ("SETACL Shared/A/Work anyone l", "a", "Work"),
    ("DELETEACL Shared/A/Work anyone", "a", "Work"),
    ("GETACL Shared/A/Work", "a", "Work"),
    ("LISTRIGHTS Shared/A/Work anyone", "a", "Work"),
    ("COPY 1 Shared/A/To", "i", "To"),
    ("UID COPY 1 Shared/A/To", "i", "To"),
    ("MOVE 1 Shared/A/To", "i", "To"),
    ("MOVE 1 Shared/A/To", "t", "Work"),
    ("MOVE 1 Shared/A/To", "e", "Work"),
    ("MOVE 1 Archive", "t", "Work"),
    ("UID MOVE 1 Archive", "e", "Work"),
    ("EXPUNGE", "e", "Work"),
    ("UID EXPUNGE 1", "e", "Work"),
    ("STORE 1 +FLAGS (\\Seen)", "s", "Work"),
    ("STORE 1 -FLAGS (\\Seen)", "s", "Work"),
    ("STORE 1 +FLAGS (\\Deleted)", "t", "Work"),
    ("UID STORE 1 +FLAGS.SILENT (\\Deleted)", "t", "Work"),
    ("STORE 1 +FLAGS (\\Flagged)", "w", "Work"),
    ("STORE 1 +FLAGS (Keyword)", "w", "Work"),
    ("STORE 1 -FLAGS (\\Answered \\Draft)", "w", "Work"),
]


async def test_each_command_needs_its_right(room: Room) -> None:
    """RFC 4314 §4: with all other rights it is NO [NOPERM], with this one OK; and without `l` the
    answer is that for a mailbox which is not there (attack class 16)."""
    bob = await room.client(BOB, mailbox=None)
    for n, (line, right, name) in enumerate(NEEDS):
        for each in ("Work", "To"):
            await room.create(f"{each}{n}")
            await room.deliver(SMALL, path=f"{each}{n}")
            await give(room, "lrswipkxtea", f"{each}{n}")
        path, work, to = f"{name}{n}", f"{SHARED}Work{n}", f"{SHARED}To{n}"
        command = line.replace("Shared/A/Work", work).replace("Shared/A/To", to)
        opened = line.split(maxsplit=1)[0] in ("COPY", "MOVE", "EXPUNGE", "STORE", "UID")
        if opened:
            assert (await bob.command("SELECT ", work)).ok
        await give(room, ALL_BUT[right], path)
        reply = await bob.command(command)
        assert (reply.kind, reply.code) == ("NO", "NOPERM"), (line, reply)
        await give(room, ALL_BUT[right].replace("l", ""), path)
        hidden = await bob.command(command)
        if not opened:
            absent = await bob.command(command.replace(SHARED + path, SHARED + "Absent"))
            told = (absent.kind, absent.code, absent.text)
            assert told == (hidden.kind, hidden.code, hidden.text), line
        assert hidden.kind == "NO", line
        assert hidden.code in ("NONEXISTENT", "TRYCREATE") or "STORE" in line, (line, hidden)
        await give(room, "lrswipkxtea", path)
        assert (await bob.command(command)).ok, line


# --- what partial rights do ---------------------------------------------------------------------


async def test_without_s_reading_leaves_a_message_unseen(room: Room) -> None:
    await room.deliver(SMALL)
    await give(room, "lrw")
    bob = await room.client(BOB, INBOX)
    assert (await bob.command("FETCH 1 BODY[]")).ok
    assert await room.stored() == {1: set()}
    await give(room, "lrs")
    assert (await bob.command("FETCH 1 BODY[]")).ok
    assert await room.stored() == {1: {"\\Seen"}}


async def test_a_store_does_what_it_may(room: Room) -> None:
    """RFC 4314 §4: it fails only if it may do nothing, and tells what came of it."""
    await room.deliver(SMALL, flags=("\\Deleted", "Old"))
    await give(room, "lrs")
    bob = await room.client(BOB, INBOX)
    reply = await bob.command("STORE 1 FLAGS.SILENT (\\Seen \\Flagged)")
    assert reply.ok
    assert flags_of(reply.fetched()[1]["FLAGS"]) >= {"\\Deleted", "Old", "\\Seen"}
    assert await room.stored() == {1: {"\\Deleted", "Old", "\\Seen"}}
    reply = await bob.command("STORE 1 +FLAGS (New)")
    assert (reply.kind, reply.code) == ("NO", "NOPERM")
    await give(room, "lrwt")
    assert (await bob.command("STORE 1 FLAGS (New)")).ok
    assert await room.stored() == {1: {"\\Seen", "New"}}


@pytest.mark.parametrize(
    ("letters", "permanent", "mode"),
    [
        ("lr", set(), "READ-ONLY"),
        ("lri", set(), "READ-WRITE"),
        ("lrs", {"\\Seen"}, "READ-WRITE"),
        ("lrt", {"\\Deleted"}, "READ-WRITE"),
        ("lre", set(), "READ-WRITE"),
    ],
)
async def test_select_tells_what_can_be_changed(
    room: Room, letters: str, permanent: set[str], mode: str
) -> None:
    """RFC 4314 §5.1.1, §5.2."""
    await give(room, letters)
    bob = await room.client(BOB, mailbox=None)
    reply = await bob.command("SELECT ", INBOX)
    assert reply.code == mode
    told = reply.code_data("PERMANENTFLAGS")
    assert told is not None
    assert flags_of(told[0]) == permanent


async def test_flags_come_along_as_far_as_they_may(room: Room) -> None:
    flags = ("\\Seen", "\\Flagged", "Work")
    await room.deliver(SMALL, flags=flags, user=BOB)
    await room.create("Drop")
    await room.deliver(SMALL, flags=flags)
    await give(room, "lrswipkxtea")
    await give(room, "lis", "Drop")
    bob = await room.client(BOB)
    reply = await bob.command(f"COPY 1 {SHARED}Drop")
    assert (reply.ok, reply.code) == (True, None)  # no COPYUID for who cannot read it
    assert (await bob.command("SELECT ", INBOX)).ok
    assert (await bob.command(f"COPY 1 {SHARED}Drop")).ok
    assert (await bob.command(f"MOVE 1 {SHARED}Drop")).ok
    reply = await bob.append(f"{SHARED}Drop", SMALL, flags="(\\Seen \\Draft Work)")
    assert (reply.ok, reply.code) == (True, None)
    assert await room.stored("Drop") == {n: {"\\Seen"} for n in (1, 2, 3, 4)}


async def test_close_without_e_expunges_nothing(room: Room) -> None:
    await room.deliver(SMALL, flags=("\\Deleted",))
    await give(room, "lrswt")
    bob = await room.client(BOB, INBOX)
    assert (await bob.command("CLOSE")).ok
    assert len(await room.stored()) == 1
    await give(room, "lrswte")
    assert (await bob.command("SELECT ", INBOX)).ok
    assert (await bob.command("CLOSE")).ok
    assert await room.stored() == {}


# --- between owners -------------------------------------------------------------------------------


async def test_messages_go_between_owners(room_both: Room) -> None:
    await room_both.deliver(SMALL, SMALL, SMALL, flags=("\\Flagged", "Later"))
    await give(room_both, "lrswite")
    bob = await room_both.client(BOB, INBOX)
    reply = await bob.command("COPY 1:2 Archive")
    assert reply.ok
    assert reply.code == "COPYUID"
    reply = await bob.command("MOVE 2:3 Archive")
    assert reply.ok
    assert reply.numbers("EXPUNGE") == [3, 2]
    expected = {"\\Flagged", "Later"}
    assert await room_both.stored("Archive", BOB) == dict.fromkeys((1, 2, 3, 4), expected)
    assert list(await room_both.stored()) == [1]
    assert (await bob.command("SELECT Archive")).ok
    reply = await bob.command("FETCH 1 BODY.PEEK[]")
    assert reply.fetched()[1]["BODY[]"] == SMALL
    assert (await bob.command("MOVE 1:* ", INBOX)).ok
    assert await room_both.stored("Archive", BOB) == {}
    assert len(await room_both.stored()) == 5


async def test_the_quota_is_the_owners(room: Room) -> None:
    await room.deliver(SMALL, user=BOB)
    await give(room, "lri")
    await room.configure("quota.messages", 1, room.quota(ANN))
    await room.deliver(SMALL)
    bob = await room.client(BOB)
    for reply in (
        await bob.command("COPY 1 ", INBOX),
        await bob.command("MOVE 1 ", INBOX),
        await bob.append(INBOX, SMALL),
    ):
        assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert len(await room.stored()) == 1
    assert len(await room.stored(user=BOB)) == 1
    reply = await bob.command("GETQUOTAROOT ", INBOX)
    assert [each.data for each in reply["QUOTAROOT"]] == [(INBOX.encode(),)]
    assert not reply["QUOTA"]


async def test_two_accounts_see_one_mailbox(room: Room) -> None:
    """The same UIDs and flags; what one does the other is told, through every worker."""
    await room.deliver(SMALL, SMALL)
    await give(room, "lrswite")
    ann, bob = await room.client(), await room.client(BOB, INBOX, worker=1)
    async with bob.idle() as idle:
        assert (await ann.command("STORE 1 +FLAGS (\\Flagged)")).ok
        told = await idle.next()
        assert (told.number, told.name) == (1, b"FETCH")
        await room.deliver(SMALL)
        assert (await idle.next()).number == 3
    async with ann.idle() as idle:
        assert (await bob.command("STORE 2 +FLAGS (\\Deleted)")).ok
        assert (await bob.command("EXPUNGE")).ok
        names = []
        while b"EXPUNGE" not in names:
            names.append((await idle.next()).name)
    seen = [(await client.command("UID FETCH 1:* (FLAGS)")).fetched() for client in (ann, bob)]
    assert [item["UID"] for item in seen[0].values()] == [item["UID"] for item in seen[1].values()]


async def test_search_and_status_work_on_a_mailbox_of_another(room: Room) -> None:
    await room.deliver(SMALL, b"Subject: find me\r\n\r\nbody\r\n")
    await give(room, "lr")
    bob = await room.client(BOB, INBOX)
    reply = await bob.command("SEARCH SUBJECT find")
    assert [each.data for each in reply["SEARCH"]] == [(2,)]
    reply = await bob.command("STATUS ", INBOX, " (MESSAGES UIDNEXT)")
    assert reply["STATUS"][0].data == (INBOX.encode(), (b"MESSAGES", 2, b"UIDNEXT", 3))


# --- names ----------------------------------------------------------------------------------------


async def test_list_tells_what_may_be_looked_up(room_both: Room) -> None:
    await room_both.create("Work/Secret")
    await room_both.create("Hidden")
    await give(room_both, "lr", "Work/Secret")
    await give(room_both, "lr", "Sent")
    await give(room_both, "rswipkxtea", "Hidden")
    bob = await room_both.client(BOB, mailbox=None)
    own = paths(await bob.command('LIST "" %'))
    assert own.pop("Shared") == {"\\NonExistent", "\\Noselect", "\\HasChildren"}
    listed = paths(await bob.command('LIST "" Shared/*'))
    level = {"\\NonExistent", "\\Noselect", "\\HasChildren"}
    assert listed == {
        f"Shared/{ANN}": level,
        SHARED + "Work": level,
        SHARED + "Work/Secret": {"\\HasNoChildren"},
        SHARED + "Sent": {"\\HasNoChildren"},  # its special use is Ann's
    }
    listed = paths(await bob.command('LIST (SPECIAL-USE) "" *'))
    assert not any(path.startswith("Shared") for path in listed)
    ann = await room_both.client(mailbox=None)
    assert not any(p.startswith("Shared") for p in paths(await ann.command('LIST "" *')))


async def test_list_tells_rights_and_status_of_what_may_be_read(room: Room) -> None:
    """RFC 8440 §3, RFC 5819 §2."""
    await room.deliver(SMALL)
    await give(room, "lr")
    await give(room, "lk", "Sent")
    bob = await room.client(BOB, mailbox=None)
    reply = await bob.command('LIST "" Shared/* RETURN (MYRIGHTS STATUS (MESSAGES))')
    assert [each.data for each in reply["MYRIGHTS"]] == [
        (INBOX.encode(), b"lr"),
        (SHARED.encode() + b"Sent", b"lkc"),
    ]
    assert [each.data for each in reply["STATUS"]] == [(INBOX.encode(), (b"MESSAGES", 1))]
    reply = await bob.command('LIST "" INBOX RETURN (MYRIGHTS)')
    assert [each.data for each in reply["MYRIGHTS"]] == [(b"INBOX", b"lrswipkxteacd")]


async def test_subscriptions_are_the_viewers(room: Room) -> None:
    await give(room, "l")
    bob = await room.client(BOB, mailbox=None)
    assert not any(p.startswith("Shared") for p in paths(await bob.command('LSUB "" *'), "LSUB"))
    assert (await bob.command("SUBSCRIBE ", INBOX)).ok
    assert INBOX in paths(await bob.command('LSUB "" *'), "LSUB")
    assert paths(await bob.command('LSUB "" %'), "LSUB")["Shared"] == {"\\Noselect"}
    listed = paths(await bob.command('LIST (SUBSCRIBED) "" *'))
    assert "\\Subscribed" in listed[INBOX]
    await give(room, "r")
    assert INBOX not in paths(await bob.command('LSUB "" *'), "LSUB")


# --- rights that are taken away -----------------------------------------------------------------


async def test_rights_that_are_taken_count_at_once(room: Room) -> None:
    """No answer and no word of what happens there, from the next command on."""
    await room.deliver(SMALL)
    await give(room, "lrswite")
    bob = await room.client(BOB, INBOX)
    await give(room, "l")
    await room.deliver(SMALL)
    reply = await bob.command("FETCH 1 BODY.PEEK[]")
    assert (reply.kind, reply.code, reply.untagged) == ("NO", "NOPERM", [])
    reply = await bob.command("NOOP")
    assert (reply.ok, reply.untagged) == (True, [])
    await give(room, "")
    reply = await bob.command("SEARCH ALL")
    assert (reply.kind, reply.code, reply.untagged) == ("NO", "NONEXISTENT", [])
    await give(room, "lr")
    reply = await bob.command("NOOP")
    assert reply.numbers("EXISTS") == [2]
    assert (await bob.command("CLOSE")).ok


async def test_idle_falls_silent_when_the_right_is_taken(room: Room) -> None:
    await give(room, "lr")
    bob = await room.client(BOB, INBOX)
    async with bob.idle():
        await give(room, "")
        await asyncio.sleep(0.05)
        await room.deliver(SMALL)
        assert await bob.silent(0.2)


async def test_a_message_that_streams_in_needs_the_right_at_its_end(room: Room) -> None:
    await give(room, "li")
    bob = await room.client(BOB, mailbox=None)
    tag = bob.tag()
    bob.send(tag + b" APPEND %b {%d}\r\n" % (INBOX.encode(), len(SMALL)))
    await bob.continuation()
    await give(room, "l")
    bob.send(SMALL + b"\r\n")
    reply = await bob.reply(tag)
    assert (reply.kind, reply.code) == ("NO", "NOPERM")
    assert await room.stored() == {}


async def test_rights_that_change_are_told_as_flags_that_can_be_changed(room: Room) -> None:
    """RFC 4314 §5.1.1: of a mailbox that is open."""
    await room.deliver(SMALL)
    await give(room, "lrsw")
    bob = await room.client(BOB, INBOX)
    assert codes_of(await bob.command("NOOP")) == []
    await give(room, "lrs")
    reply = await bob.command("NOOP")
    assert reply.code_data("PERMANENTFLAGS") == ((b"\\Seen",),)
    assert codes_of(await bob.command("NOOP")) == []
    await give(room, "lrste")
    assert reply.untagged[0].name == b"OK"
    reply = await bob.command("FETCH 1 (FLAGS)")
    assert reply.code_data("PERMANENTFLAGS") == ((b"\\Seen", b"\\Deleted"),)
    await give(room, "l")
    assert codes_of(await bob.command("NOOP")) == []  # nothing of it is told any more


# --- attacks --------------------------------------------------------------------------------------


async def test_attack_16_names_of_others_cannot_be_found_out(room: Room) -> None:
    """One answer for a mailbox that is hidden, one that is absent, and an account that is."""
    await room.create("Secret")
    bob = await room.client(BOB, mailbox=None)
    for command in (
        "SELECT {}",
        "EXAMINE {}",
        "STATUS {} (MESSAGES)",
        "CREATE {}",
        "CREATE {}/Below",
        "DELETE {}",
        "RENAME {} Mine",
        "RENAME Archive {}",
        "SUBSCRIBE {}",
        "UNSUBSCRIBE {}",  # which is none to anybody: RFC 9051 §6.3.8
        "APPEND {} {{3+}}\r\nabc",
        "SETACL {} anyone l",
        "DELETEACL {} anyone",
        "GETACL {}",
        "LISTRIGHTS {} anyone",
        "MYRIGHTS {}",
        "GETQUOTAROOT {}",
    ):
        said: set[tuple[str, str | None, str]] = set()
        for path in (SHARED + "Secret", SHARED + "Absent", "Shared/nobody@example.test/Secret"):
            reply = await bob.command(command.format(path))
            assert not reply.untagged
            said.add((reply.kind, reply.code, reply.text))
        assert len(said) == 1, (command, said)
        assert said.pop()[0] == ("OK" if command.startswith("UNSUB") else "NO"), command


async def test_attack_29_sessions_share_no_answers(room: Room) -> None:
    """Views and texts that one session made are no way for another to what it may not read."""
    await room.deliver(SMALL)
    await give(room, "lr")
    bob, ann = await room.client(BOB, INBOX), await room.client()
    for client in (ann, bob, ann, bob):
        assert (await client.command("FETCH 1 (ENVELOPE FLAGS)")).fetched()
    await give(room, "l")
    reply = await bob.command("FETCH 1 (ENVELOPE FLAGS)")
    assert (reply.kind, reply.fetched()) == ("NO", {})
    reply = await bob.command("SELECT ", INBOX)
    assert (reply.kind, reply.code) == ("NO", "NOPERM")


async def test_public_folders(room: Room) -> None:
    house = room.house
    now = house.clock.now()
    domain = await house.mail.read(people.domain, "example.test")
    owner = await house.mail.write(people.make_public, domain, house.ids.new(), now)
    room.accounts["public"] = owner.id
    await room.create("News", "public")
    await house.mail.write(_give, await room.box("News", "public"), "lrs", now, "anyone")
    await room.deliver(SMALL, user="public", path="News")
    for user in (ANN, BOB):
        client = await room.client(user, mailbox=None)
        assert paths(await client.command('LIST "" Public/*')) == {
            "Public/News": {"\\HasNoChildren"}
        }
        reply = await client.command("SELECT Public/News")
        assert (reply.ok, reply.numbers("EXISTS")) == (True, [1])
        reply = await client.command("CREATE Public/Other")
        assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
