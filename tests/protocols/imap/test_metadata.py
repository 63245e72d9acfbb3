"""GETMETADATA, SETMETADATA and LIST RETURN (METADATA). RFC 5464, RFC 9590, RFC 6154 §4."""

from __future__ import annotations

import pytest

from postroom.core.settings import Place, Scope
from postroom.domain.mailboxes import annotating
from postroom.testing.imap import ImapClient, Literal, Reply
from postroom.wire.imap import Value
from tests.protocols.imap.dovecot import IMAP, dovecot_home, dovecot_session
from tests.protocols.imap.serving import ANN, BOB, DOMAIN, SMALL, Room
from tests.protocols.imap.test_acl import INBOX, SHARED, give

Told = dict[str, dict[str, Value]]


def noted(reply: Reply) -> Told:
    """Values by entry, by mailbox."""
    found: Told = {}
    for each in reply["METADATA"]:
        mailbox, pairs = each.data
        assert isinstance(mailbox, bytes)
        assert isinstance(pairs, tuple)
        names = [name.decode() for name in pairs[::2] if isinstance(name, bytes)]
        found[mailbox.decode()] = dict(zip(names, pairs[1::2], strict=True))
    return found


async def get(client: ImapClient, rest: str) -> Told:
    reply = await client.command("GETMETADATA ", rest)
    assert reply.ok, reply
    return noted(reply)


async def test_what_is_set_is_read_changed_and_removed(room_both: Room) -> None:
    ann = await room_both.client(mailbox=None)
    told = (await ann.command("CAPABILITY"))["CAPABILITY"][0].data
    assert {b"METADATA", b"LIST-METADATA"} <= set(told)
    names = "(/private/comment /shared/comment)"
    nothing = {"INBOX": {"/private/comment": None, "/shared/comment": None}}
    assert await get(ann, f"INBOX {names}") == nothing
    assert (await ann.command('SETMETADATA INBOX (/PRIVATE/Comment "mine" /shared/comment "")')).ok
    there = {"INBOX": {"/private/comment": b"mine", "/shared/comment": b""}}
    assert await get(ann, f"inbox {names}") == there
    other = await room_both.client(mailbox=None, worker=1)
    assert await get(other, f"INBOX {names}") == there
    assert (await ann.command('SETMETADATA INBOX (/private/comment "yours")')).ok
    assert await get(other, "INBOX /private/comment") == {"INBOX": {"/private/comment": b"yours"}}
    assert (await ann.command("SETMETADATA INBOX (/private/comment NIL /shared/comment nil)")).ok
    assert await get(other, f"INBOX {names}") == nothing


async def test_a_change_raises_the_modseq_of_the_mailbox(room_both: Room) -> None:
    """RFC 7162 §3.2; nothing is told of messages."""
    await room_both.deliver(SMALL)
    ann = await room_both.client()
    modseqs = [(await room_both.box()).modseq]
    for value in ('"a"', '"b"', "NIL"):
        reply = await ann.command(f"SETMETADATA INBOX (/private/comment {value})")
        assert reply.ok
        assert not reply.untagged
        modseqs.append((await room_both.box()).modseq)
        (told,) = (await ann.command("STATUS INBOX (HIGHESTMODSEQ)"))["STATUS"]
        assert told.data[1] == (b"HIGHESTMODSEQ", modseqs[-1])
    assert modseqs == sorted(set(modseqs))
    assert (await ann.command("SETMETADATA INBOX (/private/comment NIL)")).ok  # changes nothing
    assert (await room_both.box()).modseq == modseqs[-1]
    assert len((await ann.command("FETCH 1 (FLAGS)")).fetched()) == 1


async def test_a_value_is_any_octets(room_both: Room) -> None:
    ann = await room_both.client(mailbox=None)
    raw = bytes(range(256)) * 4
    for value in (b"", b"\0", raw, "Grüße".encode(), b'"\\', b"{3}\r\nabc\r\nx LOGOUT"):
        for sync in (True, False):
            part = Literal(value, sync=sync, binary=True)
            assert (await ann.command("SETMETADATA INBOX (/private/x ", part, ")")).ok
            assert await get(ann, "INBOX /private/x") == {"INBOX": {"/private/x": value}}
    reply = await ann.command("SETMETADATA INBOX (/private/x ", Literal(b"a\0"), ")")
    assert reply.kind == "BAD"  # NUL stands in a literal8 alone
    assert await get(ann, "INBOX /private/x") == {
        "INBOX": {"/private/x": b"{3}\r\nabc\r\nx LOGOUT"}
    }


async def test_depth_and_maxsize_choose(room: Room) -> None:
    ann = await room.client(mailbox=None)
    wrote = '(/private/f "" /private/f/a "1" /private/f/b/c "22" /private/fx "333" /shared/f/a "s")'
    assert (await ann.command("SETMETADATA INBOX ", wrote)).ok

    async def told(rest: str) -> dict[str, Value]:
        return (await get(ann, rest)).get("INBOX", {})

    assert await told("INBOX /private/f") == {"/private/f": b""}
    assert await told("(DEPTH 1) INBOX /private/f") == {"/private/f": b"", "/private/f/a": b"1"}
    below = {"/private/f": b"", "/private/f/a": b"1", "/private/f/b/c": b"22"}
    assert await told("(DEPTH infinity) INBOX /PRIVATE/F") == below
    assert await told("INBOX (DEPTH infinity) (/private/f)") == below
    everything = below | {"/private/fx": b"333", "/shared/f/a": b"s"}
    assert await told("(DEPTH infinity) INBOX (/private /shared)") == everything
    assert await told("(DEPTH 1) INBOX /private/none") == {}
    reply = await ann.command("GETMETADATA (DEPTH infinity MAXSIZE 1) INBOX (/private /shared)")
    assert set(noted(reply)["INBOX"]) == {"/private/f", "/private/f/a", "/shared/f/a"}
    assert reply.code_data("METADATA") == (b"LONGENTRIES", 3)
    reply = await ann.command("GETMETADATA (MAXSIZE 2) INBOX (/private/f/b/c /private/none)")
    assert noted(reply) == {"INBOX": {"/private/f/b/c": b"22", "/private/none": None}}
    assert reply.code is None
    reply = await ann.command("GETMETADATA (MAXSIZE 0) INBOX /private/fx")
    assert (noted(reply), reply.code_data("METADATA")) == ({}, (b"LONGENTRIES", 3))


@pytest.mark.parametrize(
    "name",
    [
        "/other/x",
        "private/x",
        "/private/x/",
        "/private//x",
        "/private/a*",
        "/private/a%b",
        '""',
        "/",
    ],
)
async def test_what_is_no_name_is_bad(room: Room, name: str) -> None:
    ann = await room.client(mailbox=None)
    for line in (f"SETMETADATA INBOX ({name} NIL)", f"GETMETADATA INBOX {name}"):
        assert (await ann.command(line)).kind == "BAD"
    assert (await ann.command(f'LIST "" INBOX RETURN (METADATA ({name}))')).kind == "BAD"


async def test_what_could_hold_no_value_is_read_but_not_set(room: Room) -> None:
    ann = await room.client(mailbox=None)
    for name in ("/private", "/shared", "/private/vendor", "/shared/vendor/example"):
        assert (await ann.command(f'SETMETADATA INBOX ({name} "x")')).kind == "BAD"
        assert await get(ann, f"INBOX {name}") == {"INBOX": {name: None}}


async def test_limits_are_told_and_nothing_is_half_done(room: Room) -> None:
    """RFC 5464 §4.3: MAXSIZE and TOOMANY; a refused command leaves all as it was."""
    ann = await room.client(mailbox=None)
    whole = b"x" * annotating.VALUE_OCTETS
    assert (await ann.command("SETMETADATA INBOX (/private/a ", Literal(whole), ")")).ok
    await room.configure("metadata.entries", 10)
    many = " ".join(f'/private/n{n} ""' for n in range(9))
    assert (await ann.command(f"SETMETADATA INBOX ({many})")).ok
    reply = await ann.command('SETMETADATA INBOX (/private/n0 "new" /private/more "x")')
    assert (reply.kind, reply.code_data("METADATA")) == ("NO", (b"TOOMANY",))
    told = await get(ann, "INBOX (/private/n0 /private/more)")
    assert told == {"INBOX": {"/private/n0": b"", "/private/more": None}}
    assert (await ann.command('SETMETADATA INBOX (/private/n0 NIL /private/more "x")')).ok
    assert (await ann.command('SETMETADATA INBOX (/shared/more "x")')).ok
    assert (await ann.command('SETMETADATA "" (/private/more "x")')).ok
    await room.configure("metadata.octets", 64 * 1024)
    reply = await ann.command('SETMETADATA Sent (/private/a "x")')
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert (await ann.command("SETMETADATA INBOX (/private/a NIL)")).ok
    assert (await ann.command('SETMETADATA Sent (/private/a "x")')).ok


async def test_a_value_too_large_is_refused(room: Room) -> None:
    ann = await room.client(mailbox=None)
    for sync in (True, False):
        value = Literal(b"x" * (annotating.VALUE_OCTETS + 1), sync=sync)
        reply = await ann.command("SETMETADATA INBOX (/private/a ", value, ")")
        assert reply.kind == "NO"
        assert reply.code_data("METADATA") == (b"MAXSIZE", annotating.VALUE_OCTETS)
    assert (await ann.command("NOOP")).ok


async def test_the_server_says_what_its_administrator_set(room: Room) -> None:
    ann = await room.client(mailbox=None)
    names = '"" (/shared/admin /shared/comment /private/comment)'
    nothing = {"/shared/admin": None, "/shared/comment": None, "/private/comment": None}
    assert await get(ann, names) == {"": nothing}
    await room.configure("metadata.admin", "mailto:help@example.test")
    await room.configure("metadata.comment", "Grüße", Place(Scope.DOMAIN, DOMAIN))
    assert (await ann.command('SETMETADATA "" (/private/comment "mine")')).ok
    told = {
        "/shared/admin": b"mailto:help@example.test",
        "/shared/comment": "Grüße".encode(),
        "/private/comment": b"mine",
    }
    assert await get(ann, names) == {"": told}
    assert await get(ann, '(DEPTH infinity) "" (/private /shared)') == {"": told}
    bob = await room.client(BOB, mailbox=None)
    assert (await get(bob, names))[""]["/private/comment"] is None
    for name in ("/shared/admin", "/shared/comment", "/shared/vendor/a/b"):
        reply = await ann.command(f'SETMETADATA "" ({name} "x" /private/y "y")')
        assert (reply.kind, reply.code) == ("NO", "CANNOT")
    assert (await get(ann, '"" /private/y'))[""] == {"/private/y": None}


# --- mailboxes that move, go, and are others' ----------------------------------------------------


async def test_annotations_stay_with_their_mailbox(room: Room) -> None:
    ann = await room.client(mailbox=None)
    assert (await ann.command("CREATE Work")).ok
    assert (await ann.command('SETMETADATA Work (/private/comment "mine" /shared/x "s")')).ok
    assert (await ann.command("RENAME Work Old/Work")).ok
    told = {"/private/comment": b"mine", "/shared/x": b"s"}
    assert await get(ann, "Old/Work (/private/comment /shared/x)") == {"Old/Work": told}
    reply = await ann.command("GETMETADATA Work /private/comment")
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    reply = await ann.command('SETMETADATA Work (/private/comment "x")')
    assert (reply.kind, reply.code) == ("NO", "NONEXISTENT")
    assert (await ann.command("DELETE Old/Work")).ok
    assert (await ann.command("CREATE Old/Work")).ok
    assert await get(ann, "Old/Work /shared/x") == {"Old/Work": {"/shared/x": None}}


async def test_a_renamed_inbox_keeps_its_annotations_and_gives_them_along(room: Room) -> None:
    """RFC 5464 §4.1."""
    await room.deliver(SMALL)
    ann = await room.client(mailbox=None)
    assert (await ann.command('SETMETADATA INBOX (/private/a "mine" /shared/b "all")')).ok
    assert (await ann.command("RENAME INBOX Old")).ok
    told = {"/private/a": b"mine", "/shared/b": b"all"}
    for path in ("INBOX", "Old"):
        assert await get(ann, f"{path} (/private/a /shared/b)") == {path: told}
    assert (await ann.command("RENAME INBOX Older")).ok
    assert await get(ann, "Old /private/specialuse") == {"Old": {"/private/specialuse": None}}


async def test_rights_decide_who_reads_and_sets(room_both: Room) -> None:
    """RFC 5464 §3.3; what all share needs the right to write."""
    room = room_both
    ann = await room.client(mailbox=None)
    bob = await room.client(BOB, mailbox=None)
    assert (await ann.command('SETMETADATA INBOX (/private/c "a" /shared/c "all")')).ok
    read = f"{INBOX} (/private/c /shared/c)"
    for letters, kind, code in (
        ("", "NO", "NONEXISTENT"),
        ("rsw", "NO", "NONEXISTENT"),
        ("lkxtea", "NO", "NOPERM"),
    ):
        await give(room, letters)
        for line in (f"GETMETADATA {read}", f'SETMETADATA {INBOX} (/private/c "b")'):
            reply = await bob.command(line)
            assert (reply.kind, reply.code) == (kind, code), (letters, line)
    for letter in "rswip":
        await give(room, "l" + letter)
        assert await get(bob, read) == {INBOX: {"/private/c": None, "/shared/c": b"all"}}
        assert (await bob.command(f'SETMETADATA {INBOX} (/private/c "b")')).ok
        assert await get(bob, f"{INBOX} /private/c") == {INBOX: {"/private/c": b"b"}}
        assert (await bob.command(f"SETMETADATA {INBOX} (/private/c NIL)")).ok
        reply = await bob.command(f'SETMETADATA {INBOX} (/shared/c "all" /private/c "x")')
        assert reply.ok is (letter == "w")
        assert reply.ok or reply.code == "NOPERM"
        assert (await bob.command(f"SETMETADATA {INBOX} (/private/c NIL)")).ok
    assert await get(ann, "INBOX /private/c") == {"INBOX": {"/private/c": b"a"}}


async def test_what_others_share_takes_the_owners_room(room: Room) -> None:
    bob = await room.client(BOB, mailbox=None)
    await give(room, "lrw")
    await room.configure("metadata.octets", 64 * 1024, room.quota(ANN))
    half = Literal(b"x" * 40_000)
    assert (
        await bob.command(f"SETMETADATA {INBOX} (/private/a ", half, " /shared/a ", half, ")")
    ).ok
    reply = await bob.command(f"SETMETADATA {INBOX} (/shared/b ", half, ")")
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert (await bob.command(f"SETMETADATA {INBOX} (/private/b ", half, ")")).ok


# --- LIST -----------------------------------------------------------------------------------------


async def test_list_tells_annotations_beside(room_both: Room) -> None:
    room = room_both
    ann = await room.client(mailbox=None)
    bob = await room.client(BOB, mailbox=None)
    await room.create("Work/Deep")
    await give(room, "lr", "Work/Deep")
    await give(room, "lk", "Work")
    assert (await ann.command('SETMETADATA Work/Deep (/shared/color "#f00" /private/c "p")')).ok
    entries = "(/Shared/Color /private/c)"
    reply = await ann.command(f'LIST "" "Work*" RETURN (METADATA {entries} CHILDREN)')
    assert [each.name for each in reply.untagged] == [b"LIST", b"METADATA"] * 2
    assert noted(reply) == {
        "Work": {"/shared/color": None, "/private/c": None},
        "Work/Deep": {"/shared/color": b"#f00", "/private/c": b"p"},
    }
    reply = await bob.command(f'LIST "" "Shared/*" RETURN (METADATA {entries})')
    assert len(reply["LIST"]) == 3  # the level of the owner, and two mailboxes
    assert noted(reply) == {SHARED + "Work/Deep": {"/shared/color": b"#f00", "/private/c": None}}
    reply = await bob.command(f'LIST "" "Shared/*" RETURN (METADATA {entries} STATUS (MESSAGES))')
    assert len(reply["STATUS"]) == 1


async def test_a_list_of_many_mailboxes_tells_of_each(room: Room) -> None:
    ann = await room.client(mailbox=None)
    for n in range(70):
        await room.create(f"M{n:02}")
        assert (await ann.command(f'SETMETADATA M{n:02} (/private/n "{n}")')).ok
    reply = await ann.command('LIST "" "M%" RETURN (METADATA /private/n)')
    assert len(reply["LIST"]) == 70
    assert noted(reply) == {f"M{n:02}": {"/private/n": b"%d" % n} for n in range(70)}


# --- special uses ---------------------------------------------------------------------------------


async def test_a_special_use_is_read_and_set(room: Room) -> None:
    """RFC 6154 §4."""
    ann = await room.client(mailbox=None)
    use = "/private/specialuse"
    assert await get(ann, f"INBOX {use}") == {"INBOX": {use: None}}
    assert await get(ann, f"Sent {use}") == {"Sent": {use: b"\\Sent"}}
    assert await get(ann, "(DEPTH infinity) Sent /private") == {"Sent": {use: b"\\Sent"}}
    assert await get(ann, f"(MAXSIZE 4) Sent {use}") == {}
    await room.create("Mine")
    for line in (
        f'SETMETADATA Mine ({use} "\\\\Sent")',
        f'SETMETADATA Mine ({use} "\\\\Flagged")',
        f'SETMETADATA Mine ({use} "Sent")',
        f'SETMETADATA Mine ({use} "\\\\Sent \\\\Junk" /private/x "x")',
        f'SETMETADATA INBOX ({use} "\\\\Archive")',
    ):
        reply = await ann.command(line)
        assert (reply.kind, reply.code) == ("NO", "USEATTR"), line
    assert await get(ann, "Mine /private/x") == {"Mine": {"/private/x": None}}
    assert (await ann.command(f"SETMETADATA Sent ({use} NIL)")).ok
    assert (await ann.command(f'SETMETADATA Mine ({use} "\\\\sent")')).ok
    reply = await ann.command(f'LIST (SPECIAL-USE) "" * RETURN (METADATA {use})')
    told = {path: values[use] for path, values in noted(reply).items()}
    assert told["Mine"] == b"\\Sent"
    assert "Sent" not in told
    bob = await room.client(BOB, mailbox=None)
    await give(room, "lrw", "Mine")
    assert await get(bob, f"{SHARED}Mine {use}") == {SHARED + "Mine": {use: None}}
    reply = await bob.command(f'SETMETADATA {SHARED}Mine ({use} "\\\\Junk")')
    assert (reply.kind, reply.code) == ("NO", "USEATTR")


# --- beside Dovecot -------------------------------------------------------------------------------

SAID = (
    "GETMETADATA INBOX /private/comment",
    'SETMETADATA INBOX (/private/comment "hi" /private/vendor/a/b "x")',
    "GETMETADATA INBOX (/private/COMMENT /shared/none)",
    "GETMETADATA (DEPTH infinity) INBOX (/private)",
    "GETMETADATA (DEPTH 1) INBOX (/private)",
    "GETMETADATA INBOX /private",
    "GETMETADATA (MAXSIZE 1) INBOX /private/comment",
    "GETMETADATA (MAXSIZE 1) INBOX (/private/comment /private/vendor/a/b)",
    'GETMETADATA "" /shared/comment',
    'SETMETADATA INBOX (/private/bad* "x")',
    'SETMETADATA INBOX (/other/x "x")',
    'SETMETADATA INBOX ("/private/a//b" "x")',
    "GETMETADATA nope /private/comment",
    "SETMETADATA INBOX (/private/comment NIL)",
    "GETMETADATA (DEPTH 2) INBOX /private/comment",
    'SETMETADATA INBOX (/private/comment "")',
    "GETMETADATA INBOX /private/comment",
    'SETMETADATA "" (/shared/comment "x")',
)


@pytest.mark.skipif(not IMAP.exists(), reason="Dovecot is not installed")
async def test_dovecot_answers_alike(room: Room) -> None:
    ann = await room.client(mailbox=None)
    async with dovecot_home() as folder:
        settings = folder / "dovecot.conf"
        more = f"mail_attribute_dict = file:{folder}/home/attributes\n"
        more += "protocol imap {\n imap_metadata = yes\n}\n"
        settings.write_text(settings.read_text() + more)
        async with dovecot_session(folder) as theirs:
            for line in SAID:
                ours_said, theirs_said = await ann.command(line), await theirs.command(line)
                assert ours_said.kind == theirs_said.kind, line
                assert noted(ours_said) == noted(theirs_said), line
                told = ours_said.code_data("METADATA")
                assert told == theirs_said.code_data("METADATA"), line
