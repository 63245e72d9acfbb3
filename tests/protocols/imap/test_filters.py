"""FILTER: searches that are kept under a name. RFC 5466."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from postroom.protocols.imap import filters
from postroom.protocols.imap.commands import search as searched
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.view import Range
from postroom.testing.imap import ImapClient, Literal, Reply
from postroom.wire.imap import And, HasFlag, SearchKey, TextContains
from tests.protocols.imap.serving import ANN, BOB, Room, codes_of
from tests.protocols.imap.test_metadata import get

VALUES = "/private/filters/values/"


def mail(sender: str, subject: str) -> bytes:
    return (
        f"From: {sender}@a.example\r\nSubject: {subject}\r\nMessage-ID: <{subject}@x>\r\n"
        "Date: Mon, 2 Feb 2026 10:00:00 +0000\r\n\r\nbody\r\n"
    ).encode()


async def fill(room: Room) -> None:
    await room.deliver(mail("boss", "one"), mail("boss", "two"), mail("friend", "three"))


async def keep(client: ImapClient, name: str, keys: str | bytes) -> Reply:
    raw = keys.encode() if isinstance(keys, str) else keys
    return await client.command(f'SETMETADATA "" ({VALUES}{name} ', Literal(raw), ")")


async def found(client: ImapClient, keys: str, verb: str = "SEARCH") -> tuple[object, ...]:
    reply = await client.command(f"{verb} {keys}")
    assert reply.ok, reply
    return reply["SEARCH"][0].data


def undefined(reply: Reply) -> Sequence[bytes]:
    assert reply.kind == "NO", reply
    return codes_of(reply)


async def test_a_filter_stands_for_its_search(room_both: Room) -> None:
    await fill(room_both)
    client = await room_both.client()
    assert b"FILTERS" in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    assert (await keep(client, "Boss", "FROM boss")).ok
    assert await found(client, "FILTER boss") == (1, 2)
    assert await found(client, "FILTER BOSS SUBJECT two", "UID SEARCH") == (2,)
    assert await found(client, "NOT FILTER boss") == (3,)
    assert await found(client, "OR FILTER boss SUBJECT three") == (1, 2, 3)
    other = await room_both.client(worker=1)
    assert await found(other, "FILTER boss") == (1, 2)
    assert (await keep(client, "boss", "FROM friend")).ok
    assert await found(other, "FILTER boss") == (3,)
    assert (await client.command(f'SETMETADATA "" ({VALUES}boss NIL)')).ok
    assert undefined(await other.command("SEARCH FILTER boss")) == [b"UNDEFINED-FILTER"]


async def test_several_keys_of_a_filter_are_one_key(room: Room) -> None:
    await fill(room)
    client = await room.client()
    assert (await keep(client, "both", "FROM boss SUBJECT two")).ok
    assert await found(client, "NOT FILTER both") == (1, 3)
    assert await found(client, "OR FILTER both FROM friend") == (2, 3)


async def test_a_filter_may_name_others(room: Room) -> None:
    await fill(room)
    client = await room.client()
    for keep_ in (("a", "FROM boss"), ("b", "NOT FILTER a"), ("c", "OR FILTER a FILTER b")):
        assert (await keep(client, *keep_)).ok
    assert await found(client, "FILTER b") == (3,)
    assert await found(client, "FILTER c") == (1, 2, 3)
    assert await found(client, "FILTER c FILTER b") == (3,)


async def test_every_command_that_searches_takes_filters(room: Room) -> None:
    await fill(room)
    client = await room.client()
    assert (await keep(client, "boss", "FROM boss")).ok
    reply = await client.command("SORT (REVERSE SUBJECT) UTF-8 FILTER boss")
    assert reply["SORT"][0].data == (2, 1)
    reply = await client.command("THREAD REFERENCES US-ASCII FILTER boss")
    assert reply["THREAD"][0].data == ((1,), (2,))
    reply = await client.command("ESEARCH IN (personal) RETURN (COUNT) FILTER boss")
    assert reply["ESEARCH"][0].data[-2:] == (b"COUNT", 2)
    reply = await client.command("SEARCH RETURN (SAVE) FILTER boss")
    assert reply.ok
    assert await found(client, "$") == (1, 2)
    for command in ("SORT (SIZE) UTF-8", "THREAD REFS UTF-8", "ESEARCH IN (personal)"):
        reply = await client.command(f"{command} FILTER gone")
        assert undefined(reply) == [b"UNDEFINED-FILTER"]
    assert (await client.command("UID SEARCH RETURN (SAVE) FILTER gone")).kind == "NO"
    assert await found(client, "$") == ()  # RFC 5182 §2.1


async def test_what_is_not_there_is_named(room: Room) -> None:
    client = await room.client()
    assert (await keep(client, "outer", "FILTER inner")).ok
    for name, missing in (("on-the-road", b"on-the-road"), ("outer", b"inner")):
        (code,) = (await client.command(f"SEARCH FILTER {name}")).codes()
        assert (code.name, code.data) == (b"UNDEFINED-FILTER", (missing,))


async def test_what_another_keeps_is_not_there(room: Room) -> None:
    ann, bob = await room.client(ANN), await room.client(BOB)
    assert (await keep(ann, "mine", "ALL")).ok
    assert undefined(await bob.command("SEARCH FILTER mine")) == [b"UNDEFINED-FILTER"]


async def test_the_administrator_s_filters_are_for_all_and_one_s_own_come_first(
    room: Room,
) -> None:
    await room.configure("metadata.filters", ("Boss FROM boss", "few SUBJECT three"))
    await fill(room)
    client = await room.client()
    assert await found(client, "FILTER boss") == (1, 2)
    assert await found(client, "FILTER few") == (3,)
    assert (await keep(client, "few", "FILTER boss SUBJECT one")).ok
    assert await found(client, "FILTER few") == (1,)
    entry = "/shared/filters/values/boss"
    assert await get(client, f'"" {entry}') == {"": {entry: b"FROM boss"}}
    reply = await client.command('SETMETADATA "" (/shared/filters/values/boss "ALL")')
    assert reply.kind == "NO"


async def test_an_administrator_s_filter_that_is_no_search_is_not_there(room: Room) -> None:
    await room.configure("metadata.filters", ("odd NONSENSE",))
    client = await room.client()
    assert undefined(await client.command("SEARCH FILTER odd")) == [b"UNDEFINED-FILTER"]


async def test_strings_are_utf_8_quoted_or_literal(room: Room) -> None:
    await room.deliver(mail("a", "=?utf-8?q?Gr=C3=BC=C3=9Fe?="), mail("b", "other"))
    client = await room.client()
    for keys in ('SUBJECT "Grüße"', "SUBJECT {7}\r\nGrüße", "SUBJECT {7+}\r\nGrüße FROM a"):
        assert (await keep(client, "greeting", keys)).ok, keys
        assert await found(client, "FILTER greeting") == (1,)


NO_SEARCHES = (
    b"",
    b" ALL",
    b"ALL ",
    b"NONSENSE",
    b"SUBJECT",
    b"SUBJECT \xff",
    b"SUBJECT {7}\r\nshort",
    b"SUBJECT {1}",
    b"ALL\r\n",
    b"ALL\r\nx LOGOUT",
    b"CHARSET UTF-8 ALL",
    b"FILTER a/b",
    b"(" * 20 + b"ALL" + b")" * 20,
)


async def test_what_is_no_search_is_not_kept(room: Room) -> None:
    client = await room.client()
    for keys in NO_SEARCHES:
        reply = await keep(client, "x", keys)
        assert reply.kind == "NO", keys
        assert codes_of(reply) == [b"CANNOT"]
    assert undefined(await client.command("SEARCH FILTER x")) == [b"UNDEFINED-FILTER"]


async def test_the_name_of_a_filter_is_an_atom(room: Room) -> None:
    client = await room.client()
    for name in ("a/b", "a b", "a]", "(a"):
        reply = await client.command(f'SETMETADATA "" ("{VALUES}{name}" "ALL")')
        assert codes_of(reply) == [b"CANNOT"], name
    assert (await client.command("SEARCH FILTER a/b")).kind == "BAD"
    assert (await client.command("SEARCH FILTER")).kind == "BAD"
    for entry in ("/private/filters/descriptions/a", "/private/filters/other/a/b"):
        assert (await client.command(f'SETMETADATA "" ({entry} "any text (")')).ok


async def test_beside_a_filter_all_is_utf_8(room: Room) -> None:
    client = await room.client()
    assert (await keep(client, "all", "ALL")).ok
    reply = await client.command("SEARCH CHARSET ISO-8859-1 FILTER all")
    assert reply.kind == "BAD"
    assert codes_of(reply) == [b"BADCHARSET"]
    for charset in ("US-ASCII", "UTF-8"):
        assert (await client.command(f"SEARCH CHARSET {charset} FILTER all")).ok


async def test_the_index_narrows_by_what_a_filter_says(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(room)
    client = await room.client()
    asked: list[SearchKey] = []

    async def narrowed(
        session: Session, place: Selected, key: SearchKey, ranges: list[Range]
    ) -> list[Range]:
        asked.append(key)
        return ranges

    monkeypatch.setattr(searched, "narrowed", narrowed)
    assert (await keep(client, "boss", "TEXT boss")).ok
    assert await found(client, "FILTER boss SEEN") == ()
    assert asked == [And((TextContains("boss"), HasFlag("\\Seen")))]


# --- bounds ---------------------------------------------------------------------------------------


async def test_loops_and_depth_end(room: Room) -> None:
    client = await room.client()
    assert (await keep(client, "self", "FILTER self")).ok
    assert (await keep(client, "one", "FILTER two")).ok
    assert (await keep(client, "two", "NOT FILTER one")).ok
    assert (await keep(client, "d0", "ALL")).ok
    for n in range(1, 8):
        assert (await keep(client, f"d{n}", f"FILTER d{n - 1}")).ok
    for name in ("self", "one", "two", f"d{filters.PASSES}"):
        reply = await client.command(f"SEARCH FILTER {name}")
        assert undefined(reply) == [b"UNDEFINED-FILTER"], name
    assert (await client.command(f"SEARCH FILTER d{filters.PASSES - 1}")).ok


async def test_filters_that_double_are_bounded(room: Room) -> None:
    client = await room.client()
    assert (await keep(client, "d0", " ".join(["SEEN"] * 99))).ok
    for n in range(1, 5):
        many = " ".join([f"FILTER d{n - 1}"] * 12)
        assert (await keep(client, f"d{n}", many)).ok
    assert (await client.command("SEARCH FILTER d1")).ok
    reply = await client.command("SEARCH FILTER d4")
    assert reply.kind == "NO"
    assert codes_of(reply) == [b"LIMIT"]
    reply = await client.command("SEARCH " + " ".join(["FILTER d1"] * 12))
    assert codes_of(reply) == [b"LIMIT"]


async def test_many_and_long_filters_are_bounded(room: Room) -> None:
    client = await room.client()
    for n in range(2):
        assert (await keep(client, f"long{n}", "SUBJECT " + "x" * 60_000)).ok
    assert (await client.command("SEARCH FILTER long0 FILTER long0")).ok
    reply = await client.command("SEARCH FILTER long0 FILTER long1")
    assert codes_of(reply) == [b"LIMIT"]
    names = " ".join(f"FILTER f{n}" for n in range(filters.FILTERS_MOST + 1))
    assert codes_of(await client.command(f"SEARCH {names}")) == [b"LIMIT"]


async def test_numbers_in_a_filter_keep_their_meaning_while_it_is_searched(room: Room) -> None:
    """RFC 3501 §7.4.1, RFC 9586 §3.5: as if they stood in the command."""
    await fill(room)
    client = await room.client()
    assert (await keep(client, "first", "1:2")).ok
    await room.remove([1])
    assert not (await client.command("UID SEARCH FILTER first"))["EXPUNGE"]
    assert (await client.command("UID SEARCH ALL"))["EXPUNGE"]
    uid_only = await room.client()
    assert (await uid_only.command("ENABLE UIDONLY")).ok
    reply = await uid_only.command("UID SEARCH FILTER first")
    assert codes_of(reply) == [b"UIDREQUIRED"]
