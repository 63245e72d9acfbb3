"""CATENATE over sockets: messages made of texts and of what URLs name. RFC 4469, RFC 5550."""

from __future__ import annotations

import asyncio
import random

import pytest

from postroom.core.errors import Corrupt
from postroom.core.settings import Value
from postroom.protocols.imap import fetching, urls
from postroom.protocols.imap.commands import append as appending
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.testing.imap import ImapClient, Literal, Part, Reply, flags_of
from tests.protocols.imap.serving import ANN, BOB, DOMAIN, SMALL, Room, message
from tests.protocols.imap.test_acl import give
from tests.protocols.imap.test_append import appended, bodies
from tests.protocols.imap.test_hot import lose_parse

HEAD = b"From: a@b.example\r\nSubject: made\r\nMIME-Version: 1.0\r\n"
MIXED = (
    b"From: a@b.example\r\nTo: c@d.example\r\nSubject: two parts\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\n\r\nthe text\r\n--x\r\n'
    b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n%b\r\n--x--\r\n"
)
ENCODED = b"aGVsbG8gdGhlcmU="
PICTURE = MIXED % ENCODED


def text(data: bytes, *, sync: bool = True, binary: bool = False) -> list[Part]:
    return ["TEXT ", Literal(data, sync, binary)]


def url(what: str) -> str:
    return f'URL "{what}"'


async def catenate(client: ImapClient, *parts: Part | list[Part], before: str = "") -> Reply:
    """APPEND to Drafts of these parts."""
    said: list[Part] = []
    for n, part in enumerate(parts):
        said += [" "] if n else []
        said += part if isinstance(part, list) else [part]
    return await client.command(f"APPEND Drafts {before}CATENATE (", *said, ")")


async def drafts(room: Room, client: ImapClient) -> list[object]:
    assert (await client.command("EXAMINE Drafts")).ok
    found = await bodies(client)
    assert (await client.command("SELECT INBOX")).ok
    return found


def bad_url(reply: Reply) -> str:
    """The URL that a refusal names."""
    assert (reply.kind, reply.code) == ("NO", "BADURL"), reply
    data = reply.code_data("BADURL")
    assert data is not None
    (named,) = data
    assert isinstance(named, bytes)
    return named.decode()


@pytest.mark.parametrize("sync", [True, False])
async def test_texts_and_parts_of_messages_become_one(room_both: Room, sync: bool) -> None:
    await room_both.deliver(PICTURE)
    client, box = await room_both.client(), await room_both.box()
    base = f"/INBOX;UIDVALIDITY={box.uidvalidity}/;UID=1"
    reply = await catenate(
        client,
        text(HEAD + b'Content-Type: multipart/mixed; boundary="y"\r\n\r\n--y\r\n', sync=sync),
        url(f"{base}/;SECTION=2.MIME"),
        url(f"{base}/;SECTION=2"),
        text(b"\r\n--y--\r\n", sync=sync),
        before='(\\Seen $Work) "17-Jul-1996 02:44:25 -0700" ',
    )
    assert reply.ok, reply
    assert appended(reply)[1] == [1]
    made = (
        HEAD + b'Content-Type: multipart/mixed; boundary="y"\r\n\r\n--y\r\n'
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + ENCODED + b"\r\n--y--\r\n"
    )  # fmt: skip
    assert await drafts(room_both, client) == [made]
    assert (await client.command("SELECT Drafts")).ok
    reply = await client.command("FETCH 1 (FLAGS INTERNALDATE BODYSTRUCTURE BINARY.PEEK[1])")
    (items,) = reply.fetched().values()
    assert flags_of(items["FLAGS"]) - {"\\Recent"} == {"\\Seen", "$Work"}
    assert items["INTERNALDATE"] == b"17-Jul-1996 09:44:25 +0000"
    assert items["BINARY[1]"] == b"hello there"
    assert await room_both.stored() == {1: set()}, "reading a URL marks nothing as seen"


@pytest.mark.parametrize(
    ("what", "is_"),
    [
        ("/INBOX/;UID=1", PICTURE),
        ("/inbox/;uid=1", PICTURE),
        (";UID=1", PICTURE),
        ("/%49NBOX/;UID=1/;SECTION=1", b"the text"),
        ("/INBOX/;UID=1/;SECTION=2", ENCODED),
        ("/INBOX/;UID=1/;SECTION=2/;PARTIAL=4.6", ENCODED[4:10]),
        ("/INBOX/;UID=1/;PARTIAL=40", PICTURE[40:]),
        ("/INBOX/;UID=1/;PARTIAL=40.100000", PICTURE[40:]),
        ("/INBOX/;UID=1/;SECTION=HEADER", PICTURE[: PICTURE.index(b"\r\n\r\n") + 4]),
        ("/INBOX/;UID=1/;SECTION=TEXT", PICTURE[PICTURE.index(b"\r\n\r\n") + 4 :]),
        ("/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT)", b"Subject: two parts\r\n\r\n"),
        ("/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT)/;PARTIAL=9.3", b"two"),
        (f"imap://mail.{DOMAIN}/INBOX/;UID=1/;SECTION=1", b"the text"),
        (f"imap://ann%40{DOMAIN};AUTH=*@MAIL.{DOMAIN}:993/INBOX/;UID=1/;SECTION=1", b"the text"),
    ],
)
async def test_what_a_url_stands_for(room: Room, what: str, is_: bytes) -> None:
    await room.configure("server.hostname", f"mail.{DOMAIN}")
    await room.deliver(PICTURE)
    client = await room.client()
    reply = await catenate(client, text(HEAD + b"\r\n"), url(what))
    assert reply.ok, reply
    assert await drafts(room, client) == [HEAD + b"\r\n" + is_]


BAD = [
    "/Nowhere/;UID=1",
    "/INBOX/;UID=2",
    "/INBOX;UIDVALIDITY=1/;UID=1",
    "/INBOX/;UID=1/;SECTION=9",
    "/INBOX/;UID=1/;SECTION=1.1.1",
    "/INBOX/;UID=1/;SECTION=nonsense",
    "/INBOX",
    "/INBOX/;UID=1;URLAUTH=anonymous:INTERNAL:00",
    "/../INBOX/;UID=1",
    "/%2e%2e/INBOX/;UID=1",
    "/INBOX%00/;UID=1",
    "/INBOX/%0d%0aX LOGOUT/;UID=1",
    "/INBOX%/;UID=1",
    "//elsewhere/INBOX/;UID=1",
    "imap://elsewhere.example/INBOX/;UID=1",
    f"imap://bob%40{DOMAIN}@mail.{DOMAIN}/INBOX/;UID=1",
    f"imap://mail.{DOMAIN}:25/INBOX/;UID=1",
    f"/Shared/{BOB}/INBOX/;UID=1",
    f"/Shared%2F{BOB}%2FINBOX/;UID=1",
    f"/Shared/{BOB}/;UID=1",
    "/Public/;UID=1",
    "http://127.0.0.1/",
    "file:///etc/passwd",
    "x",
    "",
    "/INBOX/;UID=1]",
    "/caf\u00e9/;UID=1",
]


@pytest.mark.parametrize("sync", [True, False])
async def test_a_bad_url_is_told_and_nothing_is_stored(room: Room, sync: bool) -> None:
    """Also where literals follow that nobody waits for."""
    await room.configure("server.hostname", f"mail.{DOMAIN}")
    await room.deliver(PICTURE)
    await room.deliver(SMALL, user=BOB)
    client = await room.client()
    for what in BAD:
        said = what.encode()
        named = Literal(said, sync) if not said.isascii() else f'"{what}"'
        reply = await catenate(
            client, text(HEAD, sync=sync), ["URL ", named], text(b"A1 LOGOUT\r\n", sync=sync)
        )
        shown = what.replace(" ", "%20").replace("]", "%5D").replace("\u00e9", "%C3%A9")
        assert bad_url(reply) == shown, what
    assert (await client.command("NOOP")).ok
    assert await room.stored("Drafts") == {}


async def test_a_url_may_come_as_a_literal(room: Room) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    for sync in (True, False):
        named: list[Part] = ["URL ", Literal(b"/INBOX/;UID=1/;SECTION=1", sync)]
        reply = await catenate(client, text(HEAD + b"\r\n", sync=sync), named, named)
        assert reply.ok, reply
        long: list[Part] = ["URL ", Literal(b"/" * 9_000, sync)]
        reply = await catenate(client, text(HEAD, sync=sync), long)
        assert reply.kind == "BAD"
        odd: list[Part] = ["URL ", Literal(b"/INBOX/;UID=1", sync, binary=True)]
        assert (await catenate(client, odd)).kind == "BAD"
    assert await drafts(room, client) == [HEAD + b"\r\nthe textthe text"] * 2


async def test_of_anothers_mailbox_what_may_be_read_is_found(room_both: Room) -> None:
    await room_both.deliver(PICTURE)
    client = await room_both.client(BOB)
    await give(room_both, "l")
    what = f"/Shared/{ANN}/INBOX/;UID=1/;SECTION=1"
    assert bad_url(await catenate(client, text(HEAD + b"\r\n"), url(what))) == what
    await give(room_both, "lr")
    reply = await catenate(client, text(HEAD + b"\r\n"), url(what))
    assert reply.ok, reply
    assert await drafts(room_both, client) == [HEAD + b"\r\nthe text"]


async def test_several_messages_of_either_kind_are_one_change(room: Room) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    one: list[Part] = ["CATENATE (", *text(HEAD + b"\r\n"), ' URL "/INBOX/;UID=1/;SECTION=1")']
    whole = 'CATENATE (URL "/INBOX/;UID=1")'
    reply = await client.command(
        "APPEND Drafts ", *one, " (\\Seen) ", Literal(SMALL), " ", whole, f" (\\Draft) {whole}"
    )
    assert reply.ok, reply
    assert appended(reply)[1] == [1, 2, 3, 4]
    assert await drafts(room, client) == [HEAD + b"\r\nthe text", SMALL, PICTURE, PICTURE]
    assert await room.stored("Drafts") == {1: set(), 2: {"\\Seen"}, 3: set(), 4: {"\\Draft"}}
    reply = await client.command(
        "APPEND Drafts ", *one, ' CATENATE (URL "/INBOX/;UID=7") ', Literal(SMALL)
    )
    assert bad_url(reply) == "/INBOX/;UID=7"
    assert len(await room.stored("Drafts")) == 4


async def test_a_draft_is_replaced_by_what_is_made_of_it(room_both: Room) -> None:
    await room_both.deliver(PICTURE, flags=("\\Draft",))
    client = await room_both.client()
    reply = await client.command(
        "REPLACE 1 INBOX (\\Draft) CATENATE (", *text(HEAD + b"\r\n"), ' URL ";UID=1/;SECTION=1")'
    )
    assert reply.ok, reply
    assert reply.numbers("EXPUNGE") == [1]
    assert await room_both.stored() == {2: {"\\Draft"}}
    assert await bodies(client) == [HEAD + b"\r\nthe text"]
    reply = await client.command('UID REPLACE 2 INBOX CATENATE (URL "/INBOX/;UID=2")')
    assert reply.ok, reply
    assert list(await room_both.stored()) == [3]
    reply = await client.command('REPLACE 1 INBOX CATENATE (URL ";UID=9")')
    assert bad_url(reply) == ";UID=9"
    two = 'CATENATE (URL ";UID=3")'
    assert (await client.command(f"REPLACE 1 INBOX {two} {two}")).kind == "BAD"
    assert list(await room_both.stored()) == [3]


@pytest.mark.parametrize("sync", [True, False])
@pytest.mark.parametrize(
    "parts",
    [
        [")"],
        ["URL)"],
        ["TEXT x)"],
        ['TEXT "x")'],
        ['URL "/INBOX/;UID=1"'],
        ['URL "/INBOX/;UID=1" )'],
        ['URL "/INBOX/;UID=1")x'],
        ["FILE x)"],
        ["TEXT ", Literal(b"x")],
        ["TEXT ", Literal(b"x"), " )"],
        ["TEXT ", Literal(b"x"), "URL x)"],
        ["TEXT ", Literal(b"x"), ") ("],
        ["TEXT ", Literal(b"a\0b"), ")"],
        ["UTF8 (", Literal(b"x", binary=True), "))"],
        ["", Literal(b"x"), ")"],
        ["CATENATE (", Literal(b"x"), "))"],
    ],
)
async def test_what_follows_no_grammar_stores_nothing(
    room: Room, parts: list[Part], sync: bool
) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    said = [Literal(p.data, sync, p.binary) if isinstance(p, Literal) else p for p in parts]
    reply = await client.command("APPEND Drafts CATENATE (", *said)
    assert reply.kind == "BAD", reply
    assert (await client.command("NOOP")).ok
    assert await room.stored("Drafts") == {}


async def test_a_message_of_nothing_is_refused(room: Room) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    nothing = url("/INBOX/;UID=1/;PARTIAL=999999")
    for parts in ([text(b"")], [nothing], [text(b""), nothing]):
        reply = await catenate(client, *parts)
        assert (reply.kind, reply.code) == ("NO", "CANNOT")
    assert (await catenate(client, text(b""), nothing, text(SMALL), text(b""))).ok
    assert await drafts(room, client) == [SMALL]


async def test_line_ends_are_mended_across_parts(room: Room) -> None:
    await room.deliver(message(body=b"one\r\ntwo\r\n"))
    client = await room.client()
    start = message(body=b"one\r\ntwo\r\n").index(b"one")
    cut = url(f"/INBOX/;UID=1/;PARTIAL={start}.4")  # between CR and LF
    reply = await catenate(client, text(HEAD + b"\r\n"), cut, text(b"\nthree\nfour\r"), text(b"\n"))
    assert reply.ok, reply
    assert await drafts(room, client) == [HEAD + b"\r\none\r\nthree\r\nfour\r\n"]


async def test_a_text_may_be_binary_or_in_utf8(room: Room) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    head = HEAD + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
    reply = await catenate(client, text(head + b"\r\n"), text(b"a\0\nb", binary=True))
    assert reply.ok, reply
    assert (await client.command("SELECT Drafts")).ok
    (items,) = (await client.command("FETCH 1 BINARY.PEEK[1]")).fetched().values()
    assert items["BINARY[1]"] == b"a\0\nb"
    wide = "Subject: sm\u00f6rg\u00e5s\r\nFrom: a@b.example\r\n\r\n".encode()
    part: list[Part] = ["UTF8 (", Literal(wide, binary=True), ")"]
    assert (await catenate(client, part)).kind == "BAD", "not before UTF8=ACCEPT"
    assert (await client.command("ENABLE UTF8=ACCEPT")).ok
    assert (await catenate(client, ["UTF8 (", Literal(wide), ")"])).kind == "BAD"
    assert (await catenate(client, part, url("/INBOX/;UID=1/;SECTION=1"))).ok
    assert (await drafts(room, client))[1] == wide + b"the text"


async def test_what_becomes_too_large_is_refused_before_it_is_read(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of APPEND holds for the sum."""
    big = message(body=b"0123456789abcd\r\n" * (1 << 18))
    await room.deliver(big)
    client = await room.client()
    read: list[object] = []
    real = urls.Urls.read

    def reading(self: urls.Urls, *args: object) -> object:
        read.append(args)
        return real(self, *args)  # type: ignore[arg-type]  # whatever it was given

    monkeypatch.setattr(urls.Urls, "read", reading)
    part = url("/INBOX/;UID=1")
    assert (await catenate(client, *[part] * 12)).ok
    read.clear()
    reply = await catenate(client, *[part] * 40)
    assert (reply.kind, reply.code) == ("NO", "TOOBIG")
    assert len(read) == 12
    reply = await catenate(client, *[part] * 12, text(b"x" * 3_000_000))
    assert (reply.kind, reply.code) == ("NO", "TOOBIG")
    half = f"CATENATE ({' '.join([part] * 7)})"
    reply = await client.command(f"APPEND Drafts {half} {half}")
    assert (reply.kind, reply.code) == ("NO", "TOOBIG"), "what one command copies is bounded"
    assert len(await room.stored("Drafts")) == 1


@pytest.mark.parametrize(("name", "value"), [("quota.octets", 1_000_000), ("quota.messages", 1)])
async def test_the_quota_holds(room: Room, name: str, value: Value) -> None:
    await room.deliver(message(body=b"0123456789abcd\r\n" * 40_000))
    await room.configure(name, value, room.quota())
    client = await room.client()
    reply = await catenate(client, url("/INBOX/;UID=1"))
    assert (reply.kind, reply.code) == ("NO", "OVERQUOTA")
    assert await room.stored("Drafts") == {}


async def test_thousands_of_parts_are_refused(room: Room) -> None:
    await room.deliver(SMALL)
    client = await room.client()
    reply = await catenate(client, *["URL /INBOX/;UID=1"] * 2_000)
    assert (reply.kind, reply.code) == ("NO", "LIMIT")
    few = appending.MOST_PARTS // 2 + 1
    half = f"CATENATE ({' '.join(['URL ;UID=1'] * few)})"
    reply = await client.command(f"APPEND Drafts {half} {half}")
    assert (reply.kind, reply.code) == ("NO", "LIMIT"), "of all messages of a command together"
    many: list[Part] = ["TEXT ", Literal(b"x", sync=False), " "]
    reply = await client.command("APPEND Drafts CATENATE (", *many * 600, "URL x)")
    assert (reply.kind, reply.code) == ("NO", "LIMIT")
    assert await room.stored("Drafts") == {}


async def test_a_large_part_is_copied_in_slices(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "SLICE", 7_001)
    assert fetching.SLICE > 7_001
    body = random.Random(4).randbytes(200_000).hex().encode()
    big = message(body=b"\r\n".join(body[at : at + 70] for at in range(0, len(body), 70)))
    await room.deliver(big)
    client = await room.client()
    reply = await catenate(client, url("/INBOX/;UID=1"), text(b"\r\nend\r\n"))
    assert reply.ok, reply
    assert await drafts(room, client) == [big + b"\r\nend\r\n"]


async def test_a_message_whose_parse_is_missing_is_parsed_again(room_both: Room) -> None:
    """Also of a mailbox that is not open."""
    await room_both.deliver(PICTURE, SMALL)
    await lose_parse(room_both, {1})
    client = await room_both.client(mailbox=None)
    reply = await catenate(client, text(HEAD + b"\r\n"), url("/INBOX/;UID=1/;SECTION=1"))
    assert reply.ok, reply
    assert await drafts(room_both, client) == [HEAD + b"\r\nthe text"]


@pytest.mark.parametrize("parsed", [True, False])
async def test_what_is_damaged_is_no_bad_url(
    room: Room, monkeypatch: pytest.MonkeyPatch, parsed: bool
) -> None:
    """The client may keep its URL: the operator has to look."""
    await room.deliver(PICTURE)
    if not parsed:
        await lose_parse(room, {1})

    def read(self: Blobs, tx: Tx, blob: int, start: int = 0, length: int | None = None) -> bytes:
        raise Corrupt(detail="shorter than its row says")

    monkeypatch.setattr(Blobs, "read", read)
    client = await room.client()
    reply = await catenate(client, text(HEAD), url("/INBOX/;UID=1/;SECTION=1"))
    assert (reply.kind, reply.code) == ("NO", "CORRUPTION")
    assert await room.stored("Drafts") == {}


async def test_a_connection_that_is_lost_leaves_nothing(room: Room) -> None:
    await room.deliver(PICTURE)
    client = await room.client()
    client.send(b'z APPEND Drafts CATENATE (URL "/INBOX/;UID=1" TEXT {100+}\r\nhalf')
    for _ in range(200):
        if any("APPEND" in each.describe().state for each in room.workers[0].connections()):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("it never began")
    client.abort()
    for _ in range(200):
        if not room.workers[0].connections():
            break
        await asyncio.sleep(0.01)
    other = await room.client()
    assert await drafts(room, other) == []


async def test_it_is_told_only_after_sign_in(room: Room) -> None:
    client = await room.connect()
    assert b"CATENATE" not in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    reply = await client.command('APPEND Drafts CATENATE (URL "/INBOX/;UID=1")')
    assert reply.kind == "BAD"
    signed_in = await room.client(ANN)
    told = (await signed_in.command("CAPABILITY"))["CAPABILITY"][0].data
    assert {b"CATENATE", b"URL-PARTIAL"} <= set(told)
