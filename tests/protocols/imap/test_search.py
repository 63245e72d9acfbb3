"""SEARCH and UID SEARCH over sockets. RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 7162."""

from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.testing.imap import ImapClient, Literal, numbers_of
from postroom.wire.imap import CHARSETS
from tests.protocols.imap.serving import SMALL, Room, message

DAY = 24 * 3600 * 1000


async def found(client: ImapClient, text: str) -> list[int]:
    reply = await client.command("SEARCH " + text)
    assert reply.ok, (text, reply)
    (each,) = reply["SEARCH"]
    return [n for n in each.data if isinstance(n, int)]


async def fill(room: Room) -> None:
    """Six messages that differ in what can be searched."""
    start = 1_767_225_600_000  # 2026-01-01
    html = (
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
    )
    raws = [
        message("plain one", b"the quick brown fox\r\n"),
        message("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", b"jumps over\r\n", b"Cc: carol@c.example\r\n"),
        message("third", b"caf=C3=A9 <b>bold</b>\r\n", html),
        message("fourth", b"z" * 5000 + b"\r\n", b"X-Special: yes\r\n"),
        message("Re: plain one", b"answer\r\n", b"Bcc: dave@d.example\r\n"),
        message("sixth", b"nothing\r\n", b"X-Special:\r\n"),
    ]
    for n, raw in enumerate(raws):
        await room.deliver(raw, at=Instant(start + n * DAY))
    await room.flag([1, 4], add=("\\Seen",))
    await room.flag([2], add=("\\Flagged", "$Work"))
    await room.flag([5], add=("\\Answered", "\\Draft", "\\Deleted"))


KEYS = {
    "ALL": [1, 2, 3, 4, 5, 6],
    "SEEN": [1, 4],
    "UNSEEN": [2, 3, 5, 6],
    "FLAGGED": [2],
    "KEYWORD $work": [2],
    "UNKEYWORD $Work": [1, 3, 4, 5, 6],
    "KEYWORD Never": [],
    "ANSWERED DRAFT DELETED": [5],
    "UNDELETED UNANSWERED UNDRAFT UNFLAGGED": [1, 3, 4, 6],
    "RECENT": [1, 2, 3, 4, 5, 6],
    "NEW": [2, 3, 5, 6],
    "OLD": [],
    "2:4": [2, 3, 4],
    "*": [6],
    "UID 2,4:*": [2, 4, 5, 6],
    "NOT 2:5": [1, 6],
    "OR 1 6": [1, 6],
    "OR OR 1 2 OR 5 6": [1, 2, 5, 6],
    "(SEEN 1) ": None,
    "(SEEN) (1:3)": [1],
    "NOT (SEEN FLAGGED)": [1, 2, 3, 4, 5, 6],
    "LARGER 4000": [4],
    "SMALLER 4000 SEEN": [1],
    "ON 3-Jan-2026": [3],
    "BEFORE 3-Jan-2026": [1, 2],
    "SINCE 3-Jan-2026": [3, 4, 5, 6],
    "SENTON 1-Jan-2026": [1, 2, 3, 4, 5, 6],
    "SENTBEFORE 1-Jan-2026": [],
    "SUBJECT plain": [1, 5],
    "SUBJECT PLAIN NOT SUBJECT re:": [1],
    'SUBJECT "plain one"': [1, 5],
    "FROM zoe": [1, 2, 3, 4, 5, 6],
    "FROM nobody": [],
    "CC carol": [2],
    "BCC dave": [5],
    "TO ann@example.test SEEN": [1, 4],
    "HEADER X-Special yes": [4],
    'HEADER X-Special ""': [4, 6],
    "BODY quick": [1],
    "BODY QUICK": [1],
    "BODY bold": [3],
    "TEXT carol": [2],
    "TEXT fox": [1],
    "BODY carol": [],
    "YOUNGER 1": [],
    "OLDER 1": [1, 2, 3, 4, 5, 6],
    "MODSEQ 1": None,
}


async def test_every_key(room_both: Room) -> None:
    await fill(room_both)
    client = await room_both.client()
    for text, numbers in KEYS.items():
        if numbers is not None:
            assert await found(client, text) == numbers, text


async def test_strings_in_their_charset(room: Room) -> None:
    await fill(room)
    client = await room.client()
    for charset, text in (("UTF-8", "GRÜßE"), ("UTF-8", "grüße"), ("ISO-8859-1", "grüße")):
        octets = text.encode(charset)
        reply = await client.command(f"SEARCH CHARSET {charset} SUBJECT ", Literal(octets))
        assert [each.data for each in reply["SEARCH"]] == [(2,)], (charset, text)
    reply = await client.command("SEARCH BODY ", Literal("CAFÉ".encode()))
    assert [each.data for each in reply["SEARCH"]] == [(3,)]
    reply = await client.command("SEARCH CHARSET KLINGON ALL")
    assert (reply.kind, reply.code) == ("NO", "BADCHARSET")
    assert reply.code_data("BADCHARSET") == (tuple(CHARSETS),)  # RFC 9051 §7.1: those that are
    for name in CHARSETS:
        assert (await client.command(f"SEARCH CHARSET {name.decode()} ALL")).ok


async def test_extended_answers(room_both: Room) -> None:
    await fill(room_both)
    await room_both.remove([3])
    client = await room_both.client()
    for text, answer in (
        ("RETURN (MIN MAX ALL) UNSEEN", (b"MIN", 2, b"MAX", 5, b"ALL", b"2,4:5")),
        ("RETURN () SEEN", (b"ALL", b"1,3")),
        ("RETURN (COUNT) FLAGGED KEYWORD Never", (b"COUNT", 0)),
        ("RETURN (MIN) KEYWORD Never", ()),
        ("RETURN (MAX) ALL", (b"MAX", 5)),
    ):
        reply = await client.command("SEARCH " + text)
        (each,) = reply["ESEARCH"]
        assert each.data[0] == (b"TAG", reply.tagged.tag)
        assert each.data[1:] == answer, text
    reply = await client.command("UID SEARCH RETURN (ALL) UNSEEN")
    (each,) = reply["ESEARCH"]
    assert each.data[1] == b"UID"
    assert numbers_of(each.data[3]) == [2, 5, 6]
    for text in ("RETURN (NONSENSE) ALL", "RETURN (SAVE", "$,1"):
        assert (await client.command("SEARCH " + text)).kind == "BAD"


async def test_modseq_is_told_when_it_was_asked_for(room: Room) -> None:
    await fill(room)
    client = await room.client()
    modseqs = await room.modseqs()
    latest = max(modseqs.values())
    reply = await client.command(f"SEARCH MODSEQ {latest}")
    (each,) = reply["SEARCH"]
    assert each.data == (5, (b"MODSEQ", latest))
    reply = await client.command(f"SEARCH RETURN (ALL COUNT) MODSEQ {latest}")
    assert reply["ESEARCH"][0].data[-2:] == (b"MODSEQ", latest)
    reply = await client.command(f"SEARCH MODSEQ {latest + 1}")
    assert reply["SEARCH"][0].data == ()
    await room.flag([1], add=("$Later",))
    (items,) = (await client.command("NOOP")).fetched().values()
    assert "MODSEQ" in items  # the command enabled CONDSTORE


@pytest.mark.parametrize(
    "text",
    ["", "NONSENSE", "KEYWORD", "SUBJECT", "NOT", "OR 1", "(", "ALL)", "ON yesterday", "LARGER x"],
)
async def test_what_cannot_be_searched_is_bad(room: Room, text: str) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    assert (await client.command(f"SEARCH {text}".rstrip())).kind == "BAD"
    assert await found(client, "ALL") == [1]


async def test_many_messages(room: Room) -> None:
    await room.fill(5000)
    client = await room.client()
    await room.flag(range(7, 5000, 7), add=("\\Seen",))
    assert await found(client, "SEEN") == list(range(7, 5000, 7))
    assert await found(client, "ALL") == list(range(1, 5001))
    assert await found(client, "SUBJECT hello 4990:*") == list(range(4990, 5001))


async def test_numbers_hold_while_expunges_wait(room: Room) -> None:
    await room.deliver(*[SMALL] * 4)
    client = await room.client()
    await room.remove([2])
    assert await found(client, "UNSEEN") == [1, 3, 4]
    assert await found(client, "UNSEEN") == [1, 3, 4]
    reply = await client.command("UID SEARCH UNSEEN")
    assert reply["SEARCH"][0].data == (1, 3, 4)
    assert reply.numbers("EXPUNGE") == [2]
    assert await found(client, "UNSEEN") == [1, 2, 3]
