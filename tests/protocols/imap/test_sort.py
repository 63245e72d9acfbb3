"""SORT and UID SORT over sockets. RFC 5256 §3, RFC 5267 §3."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.formats.subject import base_subject
from postroom.testing.imap import ImapClient, Literal
from postroom.wire.imap import in_order
from tests.protocols.imap.serving import Room

DAY = 24 * 3600 * 1000
START = 1_767_225_600_000  # 2026-01-01


def mail(
    subject: str, day: int | None, *, sender: str = "zoe", to: str = "ann", n: int = 0
) -> bytes:
    date = f"Date: {day} Jan 2026 12:00:00 +0000\r\n" if day is not None else ""
    return (
        f"From: {sender}@a.example\r\nTo: {to}@b.example\r\nSubject: {subject}\r\n{date}\r\n"
        + "x" * n
    ).encode()


async def sorted_by(client: ImapClient, text: str) -> list[object]:
    reply = await client.command("SORT " + text)
    assert reply.ok, (text, reply)
    (each,) = reply["SORT"]
    return list(each.data)


async def fill(room: Room) -> None:
    for n, raw in enumerate(
        (
            mail("Re: beta", 3, sender="Carl", to="x", n=30),
            mail("[list] Alpha", None, sender="anna", to="y", n=10),
            mail("alpha", 5, sender="bert", to="x", n=20),
            mail("Fwd: Beta (fwd)", 9, sender="anna", to="w", n=10),
            mail("gamma", 1, sender="zoe", to="", n=5),
        )
    ):
        await room.deliver(raw, at=Instant(START + (10 - n) * DAY))


ORDERS = {
    "(SUBJECT) UTF-8 ALL": [2, 3, 1, 4, 5],
    "(REVERSE SUBJECT) UTF-8 ALL": [5, 1, 4, 2, 3],
    "(SUBJECT REVERSE DATE) UTF-8 ALL": [2, 3, 4, 1, 5],
    "(DATE) US-ASCII ALL": [5, 1, 3, 4, 2],  # the second has none: its arrival, the 10th
    "(ARRIVAL) UTF-8 ALL": [5, 4, 3, 2, 1],
    "(REVERSE ARRIVAL) UTF-8 ALL": [1, 2, 3, 4, 5],
    "(FROM DATE) UTF-8 ALL": [4, 2, 3, 1, 5],
    "(REVERSE FROM REVERSE DATE) UTF-8 ALL": [5, 1, 3, 2, 4],
    "(TO) UTF-8 ALL": [5, 4, 1, 3, 2],
    "(CC) UTF-8 ALL": [1, 2, 3, 4, 5],
    "(REVERSE CC) UTF-8 ALL": [1, 2, 3, 4, 5],
    "(SUBJECT REVERSE SUBJECT) UTF-8 ALL": [2, 3, 1, 4, 5],
    "(SUBJECT) UTF-8 2:4": [2, 3, 4],
    '(SUBJECT) US-ASCII TEXT "not in mailbox"': [],
}


async def test_each_criterion_and_its_reverse(room_both: Room) -> None:
    await fill(room_both)
    client = await room_both.client()
    for _ in range(2):  # from the store, then from what is kept
        for text, order in ORDERS.items():
            assert await sorted_by(client, text) == order, text
    by_size = await sorted_by(client, "(SIZE) UTF-8 ALL")
    sizes = {n: row.size for n, row in enumerate(await room_both.rows(), 1)}
    assert by_size == sorted(sizes, key=lambda n: sizes[n])


async def test_uids_and_extended_answers(room_both: Room) -> None:
    await fill(room_both)
    await room_both.remove([1])
    client = await room_both.client()
    reply = await client.command("UID SORT (SUBJECT) UTF-8 ALL")
    assert [each.data for each in reply["SORT"]] == [(2, 3, 4, 5)]
    for text, told in (
        ("SORT RETURN (MIN MAX COUNT ALL) (REVERSE SUBJECT) UTF-8 ALL", (
            b"MIN", 4, b"MAX", 2, b"ALL", b"4,3,1:2", b"COUNT", 4)),
        ("UID SORT RETURN () (ARRIVAL) UTF-8 ALL", (b"UID", b"ALL", b"5,4,3,2")),
        ("SORT RETURN (MIN COUNT) (DATE) UTF-8 ANSWERED", (b"COUNT", 0)),
    ):  # fmt: skip
        reply = await client.command(text)
        assert reply.ok
        (each,) = reply["ESEARCH"]
        assert each.data == ((b"TAG", reply.tagged.tag), *told), text


async def test_modseq_is_told_when_it_was_asked_for(room: Room) -> None:
    await fill(room)
    client = await room.client()
    latest = max((await room.modseqs()).values())
    reply = await client.command("SORT (SUBJECT) UTF-8 MODSEQ 1")
    assert reply["SORT"][0].data == (2, 3, 1, 4, 5, (b"MODSEQ", latest))
    reply = await client.command("SORT RETURN (MIN) (SUBJECT) UTF-8 MODSEQ 1")
    modseqs = await room.modseqs()
    assert reply["ESEARCH"][0].data[1:] == (b"MIN", 2, b"MODSEQ", modseqs[2])


async def test_what_comes_later_is_sorted_too(room: Room) -> None:
    await fill(room)
    client = await room.client()
    assert await sorted_by(client, "(SUBJECT) UTF-8 ALL") == [2, 3, 1, 4, 5]
    await room.deliver(mail("aaa", 2))
    await client.command("NOOP")
    assert await sorted_by(client, "(SUBJECT) UTF-8 ALL") == [6, 2, 3, 1, 4, 5]


async def test_search_strings_in_their_charset(room: Room) -> None:
    await room.deliver(mail("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 1), mail("other", 2))
    client = await room.client()
    reply = await client.command(
        "SORT (DATE) ISO-8859-1 SUBJECT ", Literal("grü".encode("latin-1"))
    )
    assert reply["SORT"][0].data == (1,)
    reply = await client.command("SORT (DATE) KLINGON ALL")
    assert (reply.kind, reply.code) == ("NO", "BADCHARSET")


@pytest.mark.parametrize(
    "text",
    [
        "SORT",
        "SORT ALL",
        "SORT () UTF-8 ALL",
        "SORT (SUBJECT)",
        "SORT (SUBJECT) UTF-8",
        "SORT (REVERSE) UTF-8 ALL",
        "SORT (REVERSE REVERSE DATE) UTF-8 ALL",
        "SORT (NONSENSE) UTF-8 ALL",
        "SORT RETURN (UPDATED) (DATE) UTF-8 ALL",
        "SORT (DATE) UTF-8 NONSENSE",
    ],
)
async def test_what_is_wrong_is_refused(room: Room, text: str) -> None:
    client = await room.client()
    assert (await client.command(text)).kind == "BAD"


async def test_many_criteria_cost_no_more_than_the_kinds_there_are(room: Room) -> None:
    await fill(room)
    client = await room.client()
    many = " ".join(["SUBJECT", "REVERSE SUBJECT"] * 1000)
    assert await sorted_by(client, f"({many}) UTF-8 ALL") == [2, 3, 1, 4, 5]


async def test_a_large_mailbox_is_sorted_stably(room: Room) -> None:
    """More than one turn: runs are merged, and equal ones stay in the mailbox's order."""
    chance = random.Random(5)
    subjects = [f"Re: s{chance.randrange(40)}" for _ in range(2600)]
    for start in range(0, len(subjects), 200):
        await room.deliver(*[mail(each, 1 + n % 9) for n, each in
                             enumerate(subjects[start : start + 200])])  # fmt: skip
    client = await room.client()
    places = range(1, len(subjects) + 1)
    for reverse in (False, True):
        word = "REVERSE " if reverse else ""
        expected = sorted(places, key=lambda n: base_subject(subjects[n - 1])[0], reverse=reverse)
        assert await sorted_by(client, f"({word}SUBJECT) UTF-8 ALL") == expected


@given(st.lists(st.integers(1, 30), unique=True))
def test_an_order_on_the_wire_reads_back(numbers: list[int]) -> None:
    found: list[int] = []
    for piece in filter(None, in_order(numbers).split(b",")):
        first, _, last = piece.partition(b":")
        found += range(int(first), int(last or first) + 1)
    assert found == numbers
