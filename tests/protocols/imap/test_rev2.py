"""IMAP4rev2 beside IMAP4rev1 over sockets: RFC 9051 Appendix E, line by line."""

from __future__ import annotations

import pytest

from postroom.testing.imap import ImapClient, Literal, Reply, flags_of
from postroom.wire.imap import Untagged, Value
from tests.protocols.imap.serving import SMALL, Room, codes_of, message

CAFE = "Caf\u00e9"
DECOMPOSED = "Cafe\u0301"


async def rev2(room: Room, mailbox: str | None = "INBOX", worker: int = 0) -> ImapClient:
    client = await room.client(mailbox=None, worker=worker)
    reply = await client.command("ENABLE IMAP4rev2")
    assert [each.data for each in reply["ENABLED"]] == [(b"IMAP4rev2",)]
    if mailbox is not None:
        assert (await client.command(f'SELECT "{mailbox}"')).ok
    return client


def listed(reply: Reply) -> dict[str, tuple[set[str], str]]:
    """By name of a LIST response: its attributes, and its OLDNAME or an empty string."""
    assert reply.ok, reply
    found: dict[str, tuple[set[str], str]] = {}
    for each in reply["LIST"]:
        attributes, separator, name, *extended = each.data
        assert separator == b"/"
        assert isinstance(name, bytes)
        found[bytes(name).decode()] = (flags_of(attributes), _oldname(extended))
    return found


def _oldname(extended: list[Value]) -> str:
    if not extended:
        return ""
    (items,) = extended
    assert isinstance(items, tuple)
    key, names = items
    assert key == b"OLDNAME"
    assert isinstance(names, tuple)
    assert isinstance(names[0], bytes)
    return names[0].decode()


def esearch(reply: Reply) -> tuple[Value, ...]:
    assert reply.ok, reply
    assert not reply["SEARCH"]
    (each,) = reply["ESEARCH"]
    return each.data[1:]


# --- ENABLE --------------------------------------------------------------------------------------


async def test_both_revisions_are_told_before_and_after(room: Room) -> None:
    client = await room.client(mailbox=None)
    before = (await client.command("CAPABILITY"))["CAPABILITY"]
    assert {b"IMAP4rev1", b"IMAP4rev2"} <= set(before[0].data)
    await client.command("ENABLE IMAP4REV2 UTF8=ACCEPT")
    assert (await client.command("CAPABILITY"))["CAPABILITY"] == before  # RFC 9051 §6.3.1


async def test_who_did_not_enable_it_is_served_as_before(room: Room) -> None:
    await room.deliver(SMALL)
    await room.create(CAFE)
    client = await room.client(mailbox=None)
    reply = await client.command("SELECT INBOX")
    assert reply.numbers("RECENT") == [1]
    assert b"UNSEEN" in codes_of(reply)
    assert not reply["LIST"]
    assert (await client.command("SEARCH ALL"))["SEARCH"]
    names = [each.data[2] for each in (await client.command('LIST "" C*'))["LIST"]]
    assert names == [b"Caf&AOk-"]
    assert (await client.command(f'SELECT "{CAFE}"')).kind == "BAD"


async def test_unauthenticate_forgets_it(room: Room) -> None:
    await room.create(CAFE)
    client = await rev2(room, CAFE)
    await client.command("UNAUTHENTICATE")
    await client.login("ann@example.test", "correct horse")
    assert (await client.command("SELECT Caf&AOk-")).numbers("RECENT") == [0]


# --- Appendix E ----------------------------------------------------------------------------------


async def test_01_sizes_of_63_bits_are_read(room: Room) -> None:
    await room.deliver(SMALL)
    client = await rev2(room)
    assert esearch(await client.command(f"SEARCH SMALLER {2**63 - 1}")) == (b"ALL", 1)
    assert (await client.command(f"FETCH 1 BODY.PEEK[]<{2**40}.{2**62}>")).ok


async def test_02_what_was_folded_in_is_there(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await rev2(room)
    for line in (
        "NAMESPACE",
        "UID SEARCH RETURN (SAVE) ALL",
        "UID FETCH $ (FLAGS)",
        'LIST (SUBSCRIBED) "" * RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES))',
        "MOVE 1 Archive",
        "UID STORE 2 +FLAGS (\\Deleted)",
        "UID EXPUNGE 2",
        "UNSELECT",
    ):
        assert (await client.command(line)).ok, line
    assert (await client.append("INBOX", SMALL, sync=False)).code == "APPENDUID"
    async with client.idle() as idle:
        pass
    assert idle.reply is not None
    assert idle.reply.ok
    assert (await client.command("CREATE Archive")).code == "ALREADYEXISTS"
    await client.command("CREATE a/b")
    assert (await client.command("DELETE a")).code == "HASCHILDREN"
    assert (await client.command("SELECT nowhere")).code == "NONEXISTENT"


async def test_03_status_tells_size_and_deleted(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    await room.flag([2], add=("\\Deleted",))
    client = await rev2(room, None)
    reply = await client.command("STATUS INBOX (SIZE DELETED)")
    assert reply["STATUS"][0].data[1] == (b"SIZE", 2 * len(SMALL), b"DELETED", 1)


async def test_04_search_answers_with_esearch(room: Room) -> None:
    await room.deliver(*[SMALL] * 3)
    await room.remove([1])
    client = await rev2(room)
    assert esearch(await client.command("SEARCH ALL")) == (b"ALL", b"1:2")
    assert esearch(await client.command("UID SEARCH ALL")) == (b"UID", b"ALL", b"2:3")
    assert esearch(await client.command("UID SEARCH LARGER 100000")) == (b"UID",)
    assert esearch(await client.command("SEARCH RETURN () 1")) == (b"ALL", 1)
    assert esearch(await client.command("SEARCH RETURN (COUNT) ALL")) == (b"COUNT", 2)
    assert (await client.command("SORT (ARRIVAL) UTF-8 ALL"))["SORT"]  # RFC 5256 is as it was


async def test_05_text_is_searched_by_substrings(room: Room) -> None:
    await room.deliver(message("Good morning"))
    client = await rev2(room)
    assert esearch(await client.command("SEARCH SUBJECT orni")) == (b"ALL", 1)
    assert esearch(await client.command("SEARCH KEYWORD orni")) == ()


async def test_06_continued_parameters_are_joined(room: Room) -> None:
    raw = SMALL.replace(
        b"\r\n\r\n", b'\r\nContent-Type: text/plain; name*0="a"; name*1="b"\r\n\r\n', 1
    )
    await room.deliver(raw)
    client = await rev2(room)
    structure = (await client.command("FETCH 1 BODYSTRUCTURE")).fetched()[1]["BODYSTRUCTURE"]
    assert isinstance(structure, tuple)
    assert isinstance(structure[2], tuple)
    parameters = dict(zip(structure[2][::2], structure[2][1::2], strict=True))
    assert parameters.get(b"NAME", parameters.get(b"name")) == b"ab"


async def test_07_08_moves_tell_uids_and_do_not_make_mailboxes(room: Room) -> None:
    await room.deliver(*[SMALL] * 3)
    client = await rev2(room)
    assert codes_of(await client.command("MOVE 1 Archive")) == [b"COPYUID"]
    assert codes_of(await client.command("UID MOVE 2 Archive")) == [b"COPYUID"]
    for line in ("COPY 1 New", "MOVE 1 New", "UID COPY 3 New", "UID MOVE 3 New"):
        assert (await client.command(line)).code == "TRYCREATE", line


async def test_09_10_select_tells_the_name_and_that_another_closed(room: Room) -> None:
    await room.create("Work/Now")
    client = await rev2(room)
    for word in ("SELECT", "EXAMINE"):
        reply = await client.command(f"{word} Work/Now")
        assert codes_of(reply)[0] == b"CLOSED"
        assert listed(reply) == {"Work/Now": ({"\\HasNoChildren"}, "")}
    reply = await client.command("SELECT inbox")
    assert listed(reply) == {"INBOX": ({"\\HasNoChildren", "\\Subscribed"}, "")}
    assert listed(await client.command("SELECT Work"))["Work"][0] == {"\\HasChildren"}


async def test_11_12_neither_recent_nor_unseen_is_told(room: Room) -> None:
    await room.deliver(SMALL)
    client = await rev2(room, None)
    reply = await client.command("SELECT INBOX")
    assert not reply["RECENT"]
    assert b"UNSEEN" not in codes_of(reply)
    assert flags_of((await client.command("FETCH 1 FLAGS")).fetched()[1]["FLAGS"]) == set()
    await room.deliver(SMALL)
    reply = await client.command("NOOP")
    assert reply.numbers("EXISTS") == [2]
    assert not reply["RECENT"]
    assert flags_of((await client.command("FETCH 2 FLAGS")).fetched()[2]["FLAGS"]) == set()
    other = await room.client(mailbox=None)  # to whom they are recent still
    assert (await other.command("SELECT INBOX")).numbers("RECENT") == [2]


async def test_12_enabled_in_a_mailbox_it_forgets_what_was_recent(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    assert (await client.command("ENABLE IMAP4rev2")).ok
    assert flags_of((await client.command("FETCH 1 FLAGS")).fetched()[1]["FLAGS"]) == set()


async def test_15_the_keywords_of_the_registry_can_be_set(room: Room) -> None:
    await room.deliver(SMALL)
    client = await rev2(room)
    names = {"$MDNSent", "$Forwarded", "$Junk", "$NotJunk", "$Phishing"}
    reply = await client.command(f"STORE 1 FLAGS ({' '.join(sorted(names))})")
    assert flags_of(reply.fetched()[1]["FLAGS"]) == names


async def test_16_names_are_utf8_in_both_directions(room: Room) -> None:
    client = await rev2(room)
    assert (await client.command(f'CREATE "{CAFE}"')).ok
    assert (await client.command("CREATE ", Literal("\u65e5\u672c/\u8a9e".encode()))).ok
    assert (await client.command('CREATE "Caf&AOk-"')).ok  # is what it says
    names = set(listed(await client.command('LIST "" *')))
    assert {CAFE, "\u65e5\u672c", "\u65e5\u672c/\u8a9e", "Caf&AOk-"} <= names
    assert set(listed(await client.command('LIST "" "\u65e5*"'))) == {
        "\u65e5\u672c",
        "\u65e5\u672c/\u8a9e",
    }
    reply = await client.command(f'STATUS "{CAFE}" (MESSAGES)')
    assert reply["STATUS"][0].data[0] == CAFE.encode()
    assert (await client.append(f'"{CAFE}"', SMALL)).ok
    assert (await client.command(f'COPY 1:* "{CAFE}"')).ok
    assert (await client.command(f'SUBSCRIBE "{CAFE}"')).ok
    assert set(listed(await client.command(f'SELECT "{CAFE}"'))) == {CAFE}
    assert (await client.command(b'SELECT "Caf\xe9"')).kind == "BAD"  # no UTF-8
    old = await room.client(mailbox=None)
    told = {each.data[2] for each in (await old.command('LIST "" Caf*'))["LIST"]}
    assert told == {b"Caf&AOk-", b"Caf&-AOk-"}


async def test_16_a_name_that_was_written_otherwise_is_told_as_it_is_kept(room: Room) -> None:
    client = await rev2(room, None)
    reply = await client.command(f'CREATE "{DECOMPOSED}"')
    assert listed(reply) == {CAFE: ({"\\HasNoChildren"}, DECOMPOSED)}
    reply = await client.command(f'SELECT "{DECOMPOSED}"')
    assert listed(reply) == {CAFE: ({"\\HasNoChildren"}, DECOMPOSED)}
    assert not (await client.command("CREATE Plain"))["LIST"]
    reply = await client.command("RENAME Plain Other")
    assert listed(reply) == {"Other": ({"\\HasNoChildren"}, "Plain")}
    await client.command("UNSELECT")
    reply = await client.command(f'DELETE "{DECOMPOSED}"')
    assert listed(reply) == {CAFE: ({"\\NonExistent"}, DECOMPOSED)}
    assert not (await client.command("DELETE Other"))["LIST"]
    old = await room.client(mailbox=None)
    assert not (await old.command("CREATE Cafe&AwE-"))["LIST"]
    assert not (await old.command("RENAME Caf&AOk- Tea"))["LIST"]


async def test_17_18_19_what_was_removed_still_answers(room: Room) -> None:
    await room.deliver(SMALL)
    client = await rev2(room)
    for line in ("CHECK", "FETCH 1 (RFC822.SIZE RFC822)", 'LSUB "" *', "STATUS INBOX (RECENT)"):
        assert (await client.command(line)).ok, line


async def test_21_changes_are_told_with_their_uid(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    await room.remove([1])
    client = await rev2(room)
    await room.flag([2], add=("\\Flagged",))
    told = (await client.command("NOOP")).fetched()
    assert told[1]["UID"] == 2
    assert "MODSEQ" not in told[1]
    told = (await client.command("FETCH 1 BODY[TEXT]")).fetched()
    assert told[1]["UID"] == 2  # since it became \Seen
    assert (await client.command("STORE 1 +FLAGS (Red)")).fetched()[1]["UID"] == 2


async def test_28_a_gone_message_is_expungeissued(room: Room) -> None:
    await room.deliver(SMALL, SMALL)
    client = await rev2(room)
    await room.remove([1])
    assert (await client.command("FETCH 1 BODY.PEEK[]")).code == "EXPUNGEISSUED"


# --- UTF8=ACCEPT ---------------------------------------------------------------------------------

WIDE = (
    "From: \u0395\u03bb\u03bb\u03b7\u03bd <\u03b5@elsewhere.example>\r\nTo: ann@example.test\r\n"
    "Subject: Gr\u00fc\u00dfe\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nHallo.\r\n"
).encode()


async def test_utf8_accept_makes_names_utf8_and_nothing_else(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client(mailbox=None)
    reply = await client.command("ENABLE UTF8=ACCEPT")
    assert [each.data for each in reply["ENABLED"]] == [(b"UTF8=ACCEPT",)]
    assert (await client.command(f'CREATE "{CAFE}"')).ok
    names = [each.data[2] for each in (await client.command('LIST "" C*'))["LIST"]]
    assert names == [CAFE.encode()]
    reply = await client.command("SELECT INBOX")
    assert reply.numbers("RECENT") == [1]
    assert not reply["LIST"]
    assert (await client.command("SEARCH ALL"))["SEARCH"]


async def test_a_search_names_no_charset_any_more(room: Room) -> None:
    client = await room.client()
    assert (await client.command("SEARCH CHARSET UTF-8 ALL")).ok
    await client.command("ENABLE UTF8=ACCEPT")
    assert (await client.command("SEARCH CHARSET UTF-8 ALL")).kind == "BAD"  # RFC 6855 §3
    assert (await client.command('SEARCH SUBJECT "Gr\u00fc\u00dfe"')).ok


async def test_a_message_is_appended_as_utf8(room: Room) -> None:
    client = await room.client(mailbox=None)
    wide = Literal(WIDE, binary=True)
    assert (await client.command("APPEND INBOX UTF8 (", wide, ")")).kind == "BAD"
    await client.command("ENABLE UTF8=ACCEPT")
    reply = await client.command("APPEND INBOX (\\Seen) UTF8 (", wide, ")")
    assert reply.code == "APPENDUID"
    assert (await client.command("APPEND INBOX UTF8 (", Literal(WIDE), ")")).kind == "BAD"
    assert (await client.command("NOOP")).ok
    assert await room.stored() == {1: {"\\Seen"}}


@pytest.mark.parametrize("raw", [WIDE, b"Subject: Gr\xfc\xdfe\r\n\r\nHallo.\r\n"])
async def test_any_client_may_append_what_came_to_it_with_octets_beyond_ascii(
    room: Room, raw: bytes
) -> None:
    """Against RFC 6855 §4: whoever moves mail from another server would lose it."""
    client = await room.client()
    assert (await client.append("INBOX", raw)).ok
    assert (await client.command("FETCH 1 BODY.PEEK[]")).fetched()[1]["BODY[]"] == raw


async def test_a_client_of_either_kind_reads_a_message_with_utf8_in_its_header(room: Room) -> None:
    """Literals hold any octet: who knows no UTF-8 sees well-formed answers all the same."""
    await room.deliver(WIDE)
    for line in ("NOOP", "ENABLE UTF8=ACCEPT", "ENABLE IMAP4rev2"):
        client = await room.client(mailbox=None)
        await client.command(line)
        await client.command("SELECT INBOX")
        items = (await client.command("FETCH 1 (ENVELOPE BODY.PEEK[])")).fetched()[1]
        assert items["BODY[]"] == WIDE
        envelope = items["ENVELOPE"]
        assert isinstance(envelope, tuple)
        assert envelope[1] == "Gr\u00fc\u00dfe".encode()
        client.send(b"x FETCH 1 (ENVELOPE)\r\n")
        reply = await client.reply(b"x")
        assert isinstance(reply.untagged[0], Untagged)
        reply = await client.command("SEARCH SUBJECT ", Literal("gr\u00fc\u00df".encode()))
        assert reply["SEARCH"] or reply["ESEARCH"]
