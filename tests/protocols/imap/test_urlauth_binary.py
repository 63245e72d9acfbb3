"""URLFETCH of what is decoded, and of its structure. RFC 5524."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from postroom.core.errors import Corrupt
from postroom.protocols.imap import fetching
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.testing.imap import ImapClient, Reply
from tests.protocols.imap.serving import Room
from tests.protocols.imap.test_catenate import ENCODED, PICTURE
from tests.protocols.imap.test_urlauth import ONE, arrange, authorized

WITH_NUL = b"one\0two"
TEXTS = (
    b"From: a@b.example\r\nSubject: texts\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n'
    b"--x\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\none=\r\n line=0D=0Atwo\r\n"
    b"--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: x-own\r\n\r\n"
    b"anything\r\n"
    b"--x\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n"
    b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nwithin\r\n--x--\r\n"
) % base64.b64encode(WITH_NUL)


@pytest_asyncio.fixture
async def here(room: Room, tmp_path: Path) -> Room:
    await arrange(room, tmp_path)
    await room.deliver(TEXTS)
    return room


async def fetch(client: ImapClient, where: str, items: str) -> Any:
    """What is told behind the URL of something in Ann's INBOX."""
    (url,) = await authorized(client, f"{ONE[:-1]}{where};URLAUTH=anonymous")
    reply = await client.command(f'URLFETCH ("{url}"{items})')
    assert reply.ok, reply
    (told,) = reply["URLFETCH"]
    return told.data[1:]


async def test_a_part_is_told_as_it_is_or_decoded(here: Room) -> None:
    client = await here.client()
    assert b"URLAUTH=BINARY" in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    part = "1/;SECTION=2"
    assert await fetch(client, part, "") == (ENCODED,)
    assert await fetch(client, part, " BODY") == ((b"BODY", ENCODED),)
    assert await fetch(client, part, " BINARY") == ((b"BINARY", b"hello there"),)
    assert await fetch(client, f"{part}/;PARTIAL=6.3", " BINARY") == ((b"BINARY", b"the"),)
    assert await fetch(client, f"{part}/;PARTIAL=6.3", " BODY") == ((b"BODY", ENCODED[6:9]),)
    assert await fetch(client, "2/;SECTION=3", " BINARY") == ((b"BINARY", WITH_NUL),)


async def test_what_is_no_part_is_told_as_it_is(here: Room) -> None:
    client = await here.client()
    end = PICTURE.index(b"\r\n\r\n") + 4
    for where, octets in (
        ("1", PICTURE),
        ("1/;SECTION=HEADER", PICTURE[:end]),
        ("1/;SECTION=TEXT", PICTURE[end:]),
        ("1/;SECTION=HEADER.FIELDS%20(SUBJECT)", b"Subject: two parts\r\n\r\n"),
        ("2/;SECTION=4.TEXT", b"within"),
    ):
        assert await fetch(client, where, " BINARY") == ((b"BINARY", octets),), where
        assert await fetch(client, where, " BODY") == ((b"BODY", octets),), where


async def test_a_structure_is_that_of_what_is_told(here: Room) -> None:
    client = await here.client()
    assert (await client.command("SELECT INBOX")).ok
    for uid in (1, 2):
        reply = await client.command(f"UID FETCH {uid} BODYSTRUCTURE")
        (items,) = reply.fetched().values()
        whole = items["BODYSTRUCTURE"]
        assert isinstance(whole, tuple)
        told = await fetch(client, str(uid), " BODYPARTSTRUCTURE")
        assert told == ((b"BODYPARTSTRUCTURE", whole),)
        told = await fetch(client, f"{uid}/;SECTION=2", " BODYPARTSTRUCTURE")
        assert told == ((b"BODYPARTSTRUCTURE", whole[1]),)
    ((_, plain),) = await fetch(client, "1/;SECTION=2", " BODYPARTSTRUCTURE")
    structure, content = await fetch(client, "1/;SECTION=2", " BODYPARTSTRUCTURE BINARY")
    assert plain[5:7] == (b"base64", len(ENCODED))
    assert structure[1][5:7] == (b"binary", len(b"hello there"))
    assert content == (b"BINARY", b"hello there")
    structure, content = await fetch(client, "2/;SECTION=1", " BODYPARTSTRUCTURE BINARY")
    assert content == (b"BINARY", b"one line\r\ntwo")
    assert structure[1][5:8] == (b"binary", 13, 1)
    body, structure = await fetch(client, "2/;SECTION=1", " BODY BODYPARTSTRUCTURE")
    assert structure[1][5:8] == (b"quoted-printable", len(body[1]), 1)


async def test_an_encoding_that_nobody_knows_is_told_as_it_is_alone(here: Room) -> None:
    client = await here.client()
    structure, content = await fetch(client, "2/;SECTION=2", " BODYPARTSTRUCTURE BINARY")
    assert content == (b"BINARY", None)
    assert structure[1][5:7] == (b"x-own", 8)
    assert await fetch(client, "2/;SECTION=2", " BODY") == ((b"BODY", b"anything"),)


async def test_what_cannot_be_had_is_nil(here: Room) -> None:
    client = await here.client()
    (url,) = await authorized(client, f"{ONE};URLAUTH=anonymous")
    reply = await client.command(f'URLFETCH ("{url}0" BINARY) "{url}0" ("{url}" BINARY)')
    assert [each.data[1] for each in reply["URLFETCH"]] == [None, None, (b"BINARY", PICTURE)]


async def test_large_content_is_decoded_while_it_is_told(
    here: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = bytes(range(256)) * 4_000
    await here.deliver(PICTURE.replace(ENCODED, base64.encodebytes(octets).replace(b"\n", b"\r\n")))
    client = await here.client()
    assert len(octets) > fetching.SLICE
    assert await fetch(client, "3/;SECTION=2", " BINARY") == ((b"BINARY", octets),)
    structure, content = await fetch(client, "3/;SECTION=2", " BODYPARTSTRUCTURE BINARY")
    assert structure[1][5:7] == (b"binary", len(octets))
    assert content[1] == octets


async def test_content_that_is_damaged_is_nil(here: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    client = await here.client()

    def read(blobs: Blobs, tx: Tx, *place: int) -> bytes:
        raise Corrupt(detail="for the test")

    (url,) = await authorized(client, f"{ONE}/;SECTION=2;URLAUTH=anonymous")
    monkeypatch.setattr(Blobs, "read", read)
    for items in ("BINARY", "BODY", "BODYPARTSTRUCTURE", "BODYPARTSTRUCTURE BINARY"):
        reply: Reply = await client.command(f'URLFETCH ("{url}" {items})')
        assert [each.data[1] for each in reply["URLFETCH"]] == [None], items
