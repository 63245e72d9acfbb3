"""SORT by what a reader is shown for the first address, over sockets. RFC 5957."""

from __future__ import annotations

import pytest

from postroom.domain.mailboxes import tables
from postroom.store.sql import Tx, sql
from postroom.testing.imap import ImapClient
from tests.protocols.imap.serving import Room


def mail(from_: str, to: str) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in (("From", from_), ("To", to)) if value)
    return f"{head}Subject: x\r\n\r\nx\r\n".encode()


MAILS = (
    mail("Zoe <aaa@a.example>", "=?utf-8?q?=C3=89va?= <z@a.example>"),
    mail("mia@a.example", "Bob <b@a.example>, Ann <a@a.example>"),
    mail('"anna, the first" <zzz@a.example>', "everyone: zoe@a.example;"),
    mail("", "BOB <c@a.example>"),
    mail("=?iso-8859-1?q?=C4gidius?= <x@a.example>", ""),
    mail("Mia@A.example", "anton@a.example"),
)

ORDERS = {
    "(DISPLAYFROM) UTF-8 ALL": [4, 3, 5, 2, 6, 1],
    "(REVERSE DISPLAYFROM) UTF-8 ALL": [1, 2, 6, 5, 3, 4],
    "(DISPLAYTO) UTF-8 ALL": [5, 6, 2, 4, 3, 1],  # decomposed: U+0301 goes after letters
    "(REVERSE DISPLAYTO DISPLAYFROM) UTF-8 ALL": [1, 3, 4, 2, 6, 5],
    "(DISPLAYFROM REVERSE ARRIVAL) UTF-8 2:6": [4, 3, 5, 6, 2],
}


async def sorted_by(client: ImapClient, text: str) -> list[object]:
    reply = await client.command("SORT " + text)
    assert reply.ok, (text, reply)
    (each,) = reply["SORT"]
    return list(each.data)


async def fill(room: Room) -> ImapClient:
    for raw in MAILS:
        await room.deliver(raw)
    return await room.client()


async def test_it_is_offered(room: Room) -> None:
    client = await room.client()
    (told,) = (await client.command("CAPABILITY"))["CAPABILITY"]
    assert b"SORT=DISPLAY" in told.data


async def test_names_go_before_addresses_and_case_does_not_matter(room_both: Room) -> None:
    client = await fill(room_both)
    for _ in range(2):  # from the store, then from what is kept
        for text, order in ORDERS.items():
            assert await sorted_by(client, text) == order, text


async def test_extended_answers_and_uids(room: Room) -> None:
    client = await fill(room)
    reply = await client.command("UID SORT RETURN (MIN ALL COUNT) (DISPLAYFROM) UTF-8 2:5")
    (each,) = reply["ESEARCH"]
    assert each.data[1:] == (b"UID", b"MIN", 4, b"ALL", b"4,3,5,2", b"COUNT", 4)


@pytest.mark.parametrize("text", ["(DISPLAYCC) UTF-8 ALL", "(DISPLAYFROM DISPLAY) UTF-8 ALL"])
async def test_other_fields_have_no_such_key(room: Room, text: str) -> None:
    client = await room.client()
    assert (await client.command("SORT " + text)).kind == "BAD"


async def test_a_message_whose_parse_is_missing_is_parsed_again(room: Room) -> None:
    client = await fill(room)
    await room.house.mail.write(_forget)
    text = "(DISPLAYFROM) UTF-8 ALL"
    assert await sorted_by(client, text) == ORDERS[text]


def _forget(tx: Tx) -> None:
    tx.run(_FORGET)


_FORGET = sql(f"DELETE FROM {tables.PARSED.name}")
