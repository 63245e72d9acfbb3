"""BINARY over sockets: parts without their transfer encoding, messages that hold NUL. RFC 3516."""

from __future__ import annotations

import asyncio
import base64
import binascii
import tracemalloc
from random import Random
from typing import NamedTuple

import pytest

from postroom.formats import mime, transfer
from postroom.formats.layout import Layout
from postroom.formats.parsed import parse
from postroom.formats.recode import fits
from postroom.protocols.imap import decoding, fetching
from postroom.protocols.imap.commands.append import as_lines
from postroom.testing.imap import Fetched, ImapClient, Literal
from postroom.wire.imap import Value
from tests.differential.mail import has_no_field, malformed, published
from tests.protocols.imap.dovecot import IMAP, dovecot_home, dovecot_session
from tests.protocols.imap.serving import ANN, PASSWORD, Room, client_context, codes_of, message

EVERY_OCTET = bytes(range(256)) * 3


def part(encoding: str, body: bytes, type_: str = "application/octet-stream") -> bytes:
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        type_.encode(),
        encoding.encode(),
        body,
    )


def mixed(*parts: bytes) -> bytes:
    body = b"".join(b"--=b\r\n%b\r\n" % each for each in parts) + b"--=b--\r\n"
    return message(
        body=body, fields=b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="=b"\r\n'
    )


def encoded(data: bytes) -> bytes:
    return transfer.encode_base64(data).removesuffix(b"\r\n")


async def only(client: ImapClient, line: str) -> Fetched:
    reply = await client.command(line)
    assert reply.ok, (line, reply)
    (items,) = reply.fetched().values()
    return items


async def said(room: Room, line: str) -> bytes:
    """What is on the wire between the command and its tagged reply."""
    port = room.workers[0].ports["imaps"]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(), server_hostname="127.0.0.1", limit=1 << 24
    )
    writer.write(b'a LOGIN "%b" "%b"\r\nb SELECT INBOX\r\n' % (ANN.encode(), PASSWORD.encode()))
    await reader.readuntil(b"\r\nb OK")
    await reader.readuntil(b"\r\n")
    writer.write(b"c " + line.encode() + b"\r\n")
    heard = await reader.readuntil(b"\r\nc OK")
    writer.close()
    return heard.removesuffix(b"\r\nc OK")


# --- FETCH ---------------------------------------------------------------------------------------


async def test_parts_are_told_without_their_encoding(room_both: Room) -> None:
    await room_both.deliver(
        mixed(
            part("base64", encoded(EVERY_OCTET)),
            part("quoted-printable", b"caf=C3=A9 =\r\nau lait  \r\nend", "text/plain"),
            part("8bit", "Grüße".encode(), "text/plain"),
            part("x-uuencode", b"begin 644 a\r\n" + binascii.b2a_uu(b"Cat") + b"`\r\nend\r\n"),
        )
    )
    client = await room_both.client()
    names = " ".join(f"BINARY.PEEK[{n}] BINARY.SIZE[{n}]" for n in (1, 2, 3, 4))
    items = await only(client, f"FETCH 1 ({names} FLAGS RFC822.SIZE)")
    expected = (EVERY_OCTET, "café au lait\r\nend".encode(), "Grüße".encode(), b"Cat")
    for n, data in enumerate(expected, 1):
        assert items[f"BINARY[{n}]"] == data
        assert items[f"BINARY.SIZE[{n}]"] == len(data)
    assert await room_both.stored() == {1: set()}


async def test_a_literal8_stands_where_there_is_a_nul_and_nowhere_else(room: Room) -> None:
    await room.deliver(mixed(part("base64", encoded(b"a\0b")), part("base64", encoded(b"a\xffb"))))
    assert await said(room, "FETCH 1 BINARY.PEEK[1]") == b"* 1 FETCH (BINARY[1] ~{3}\r\na\0b)"
    assert await said(room, "FETCH 1 BINARY.PEEK[2]") == b"* 1 FETCH (BINARY[2] {3}\r\na\xffb)"
    assert await said(room, "FETCH 1 BINARY.PEEK[1]<0.1>") == b"* 1 FETCH (BINARY[1]<0> {1}\r\na)"
    told = await said(room, "FETCH 1 (BINARY.PEEK[1]<1.9> BINARY.SIZE[1])")
    assert told == b"* 1 FETCH (BINARY[1]<1> ~{2}\r\n\0b BINARY.SIZE[1] 3)"
    assert await said(room, "FETCH 1 BINARY.PEEK[1]<3.9>") == b"* 1 FETCH (BINARY[1]<3> {0}\r\n)"


async def test_what_is_not_there_is_nil_and_has_no_octets(room: Room) -> None:
    await room.deliver(message())
    told = await said(room, "FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2] BINARY.PEEK[1.1])")
    assert told == b"* 1 FETCH (BINARY[2] NIL BINARY.SIZE[2] 0 BINARY[1.1] NIL)"


async def test_what_holds_other_parts_is_told_as_it_is(room: Room) -> None:
    """BINARY[] is the whole message; only leaves have an encoding. RFC 3516 §4.2, RFC 9051
    §6.4.5."""
    inner = part("base64", encoded(b"inside"), "text/plain")
    raw = mixed(part("7bit", message(body=b"x"), "message/rfc822"), mixed_part(inner))
    await room.deliver(raw)
    client = await room.client()
    for path in ("", "1", "2"):
        items = await only(
            client, f"FETCH 1 (BINARY.PEEK[{path}] BODY.PEEK[{path}] BINARY.SIZE[{path}])"
        )
        assert items[f"BINARY[{path}]"] == items[f"BODY[{path}]"]
        assert items[f"BINARY.SIZE[{path}]"] == len(octets(items[f"BODY[{path}]"]))
    assert (await only(client, "FETCH 1 BINARY.PEEK[2.1]"))["BINARY[2.1]"] == b"inside"


def mixed_part(inner: bytes) -> bytes:
    return b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n%b\r\n--in--" % inner


def octets(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return bytes(value)


async def test_reading_marks_as_read_and_peeking_does_not(room: Room) -> None:
    await room.deliver(*[mixed(part("base64", b"eA=="))] * 3)
    client = await room.client()
    for line in ("FETCH 1 BINARY.PEEK[1]", "FETCH 2 BINARY.SIZE[1]"):
        assert (await client.command(line)).ok
    items = await only(client, "FETCH 3 BINARY[1]")
    assert (items["BINARY[1]"], items["FLAGS"]) == (b"x", (b"\\Seen", b"\\Recent"))
    assert await room.stored() == {1: set(), 2: set(), 3: {"\\Seen"}}


async def test_who_sees_no_numbers_is_told_uids(room: Room) -> None:
    await room.deliver(message(), mixed(part("base64", b"eA==")))
    await room.remove([1])
    client = await room.client(mailbox=None)
    await client.command("ENABLE UIDONLY")
    await client.command("SELECT INBOX")
    reply = await client.command("UID FETCH 2 (BINARY.PEEK[1])")
    (told,) = reply["UIDFETCH"]
    assert (told.number, told.data) == (2, ((b"BINARY[1]", b"x"),))


@pytest.mark.parametrize("encoding", ["x-yenc", "base65", "8bit-ish", "gzip64"])
async def test_an_unknown_encoding_is_refused_and_the_others_are_told(
    room: Room, encoding: str
) -> None:
    odd = mixed(part(encoding, b"=ybegin"), part("base64", b"eA=="))
    await room.deliver(odd, mixed(part("base64", b"eA==")))
    client = await room.client()
    for item in ("BINARY.PEEK[1]", "BINARY.SIZE[1]", "BINARY.PEEK[1]<0.2>"):
        reply = await client.command(f"FETCH 1:2 ({item})")
        assert (reply.kind, reply.code) == ("NO", "UNKNOWN-CTE")
        assert list(reply.fetched()) == [2]
    assert (await only(client, "FETCH 1 BINARY.PEEK[2]"))["BINARY[2]"] == b"x"
    assert (await only(client, "FETCH 1 BODY.PEEK[1]"))["BODY[1]"] == b"=ybegin"


LYING = (
    ("base64", b"this is no base64 at all!"),
    ("base64", b"====" * 500),
    ("base64", b"YWJj" * 300 + b"Y"),
    ("base64", b"YQ==YQ==\r\n" * 200),
    ("quoted-printable", b"=ZZ=\r\n==3D=3" * 150),
    ("quoted-printable", b"a" * 3000 + b"   "),
    ("quoted-printable", b""),
    ("uuencode", b"no begin line\r\n" * 100),
    ("uuencode", b"begin 644 x\r\n" + b"M\r\n" * 300 + b"end\r\n"),
    ("7bit", b"eight \xff bits and no line end"),
    ("binary", b"l\r\n" * 900),
)


async def test_a_part_is_its_body_decoded_whole_and_by_every_partial(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both below and above the size from which a part is streamed."""
    chance = Random(11)
    bodies = [*LYING]
    for size in (0, 1, 2, 3, 57, 999, 4000):
        data = chance.randbytes(size)
        bodies.append(("base64", encoded(data)))
        text = base64.b85encode(data).replace(b"~", b"\r\n") + "é".encode()
        bodies.append(("quoted-printable", transfer.encode_quoted_printable(text)))
    await room.deliver(*[mixed(part(encoding, body)) for encoding, body in bodies])
    client = await room.client()
    for most in (fetching.SLICE, 700):
        monkeypatch.setattr(fetching, "SLICE", most)
        monkeypatch.setattr(decoding, "STEP", most)
        for n, (encoding, _) in enumerate(bodies, 1):
            items = await only(client, f"FETCH {n} (BODY.PEEK[1] BINARY.PEEK[1] BINARY.SIZE[1])")
            whole = transfer.decode(octets(items["BODY[1]"]), encoding)
            assert items["BINARY[1]"] == whole, (n, encoding)
            assert items["BINARY.SIZE[1]"] == len(whole)
            spans = [(0, 1), (0, 2**62), (len(whole), 5), (2**40, 2**40)]
            spans += [(chance.randrange(len(whole) + 2), chance.randrange(1, 900)) for _ in "1234"]
            spans += [(chance.randrange(len(whole) + 2), len(whole) + 1)]
            wanted = " ".join(f"BINARY.PEEK[1]<{first}.{size}>" for first, size in spans)
            reply = await client.command(f"FETCH {n} ({wanted})")
            (told,) = reply["FETCH"]
            (listed,) = told.data
            assert isinstance(listed, tuple)
            values = listed[1::2]
            unlike = dict.fromkeys(spans)  # what is asked twice is told once
            for (first, size), value in zip(unlike, values, strict=True):
                assert value == whole[first : first + size], (n, encoding, first, size)


async def test_a_large_part_costs_little_memory(room: Room) -> None:
    """50 MB of base64: its size, a piece of its end, and all of it."""
    size = 37_000_000
    line = encoded(Random(1).randbytes(57)) + b"\r\n"
    await room.deliver(mixed(part("base64", line * (size // 57))))
    whole = size // 57 * 57
    client = await room.client()
    tracemalloc.start()
    try:
        items = await only(client, f"FETCH 1 (BINARY.SIZE[1] BINARY.PEEK[1]<{whole - 57}.100>)")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert items["BINARY.SIZE[1]"] == whole
    assert items[f"BINARY[1]<{whole - 57}>"] == base64.b64decode(line)
    assert peak < 4_000_000
    port = room.workers[0].ports["imaps"]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=client_context(), server_hostname="127.0.0.1"
    )
    writer.write(b'a LOGIN "%b" "%b"\r\nb SELECT INBOX\r\n' % (ANN.encode(), PASSWORD.encode()))
    await reader.readuntil(b"\r\nb OK")
    await reader.readuntil(b"\r\n")
    tracemalloc.start()
    try:
        writer.write(b"c FETCH 1 BINARY.PEEK[1]\r\n")
        announced = await reader.readuntil(b"}\r\n")
        assert int(announced.rpartition(b"{")[2][:-3]) == whole
        got = 0
        while got < whole:
            got += len(await reader.read(min(65_536, whole - got)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert await reader.readuntil(b"\r\n") == b")\r\n"
    assert (await reader.readuntil(b"\r\n")).startswith(b"c OK")
    writer.close()
    assert peak < 8_000_000


async def test_a_part_that_is_fetched_piece_by_piece_is_decoded_about_once(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Random(5).randbytes(3_000_000)
    quoted = transfer.encode_quoted_printable(base64.encodebytes(data[:700_000]))
    await room.deliver(mixed(part("base64", encoded(data)), part("quoted-printable", quoted)))
    client = await room.client()
    fed: list[int] = []

    class Counting(transfer.Decoder):
        def feed(self, chunk: bytes) -> bytes:
            fed.append(len(chunk))
            return super().feed(chunk)

    monkeypatch.setattr(decoding, "Decoder", Counting)
    for number, whole in ((1, data), (2, transfer.decode(quoted, "quoted-printable"))):
        fed.clear()
        got = b""
        while piece := await piece_of(client, number, len(got), 70_000):
            got += piece
        assert got == whole
        assert sum(fed) < 5 * len(whole)
        for first in (len(whole) // 2, 0, 5, len(whole) - 3, 17):  # forward and back
            assert await piece_of(client, number, first, 90) == whole[first : first + 90]


async def piece_of(client: ImapClient, number: int, first: int, most: int) -> bytes:
    items = await only(client, f"FETCH 1 BINARY.PEEK[{number}]<{first}.{most}>")
    return octets(items[f"BINARY[{number}]<{first}>"])


# --- APPEND --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100_000, 1_000_000])
async def test_a_message_with_nul_is_kept_and_told(room_both: Room, size: int) -> None:
    """BODY is lines and holds no NUL, for who knows no BINARY; BINARY is what came."""
    data = EVERY_OCTET * (size // len(EVERY_OCTET) + 1)
    client = await room_both.client()
    raw = mixed(part("binary", data), part("8bit", "Grüße".encode(), "text/plain"))
    reply = await client.command("APPEND INBOX (\\Seen) ", Literal(raw, binary=True))
    assert (reply.kind, reply.code) == ("OK", "APPENDUID"), reply
    items = await only(
        client, "FETCH 1 (BODY.PEEK[] BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[2] RFC822.SIZE)"
    )
    assert (items["BINARY[1]"], items["BINARY.SIZE[1]"]) == (data, len(data))
    assert items["BINARY[2]"] == "Grüße".encode()
    whole = octets(items["BODY[]"])
    assert fits(whole, eight_bit=True)
    assert len(whole) == items["RFC822.SIZE"]


async def test_what_holds_nothing_binary_is_kept_as_by_any_other_literal(room: Room) -> None:
    client = await room.client()
    raws = [message(body=b"one\ntwo\r\n"), message(body=b"x" * 2000 + b"\r\n")]
    for raw in raws:
        assert (await client.command("APPEND INBOX ", Literal(raw, binary=True))).ok
        assert (await client.command("APPEND INBOX ", Literal(raw))).ok
    found = (await client.command("FETCH 1:* BODY.PEEK[]")).fetched()
    assert found[1] == found[2]
    assert found[3] == found[4]


async def test_what_is_binary_and_cannot_be_encoded_is_refused(room: Room) -> None:
    """In a header, or in what is signed; what are lines there is kept."""
    signed = b'Content-Type: multipart/signed; boundary="=b"\r\nMIME-Version: 1.0\r\n'
    sealed = b"--=b\r\n%b\r\n--=b\r\n\r\nsignature\r\n--=b--\r\n"
    client = await room.client()
    for raw in (
        message(fields=b"X-Odd: a\0b\r\n"),
        message(body=sealed % part("binary", b"a\0b"), fields=signed),
        message(body=sealed % part("binary", b"a\nb"), fields=signed),
    ):
        reply = await client.command("APPEND INBOX ", Literal(raw, binary=True))
        assert (reply.kind, reply.code) == ("NO", "UNKNOWN-CTE")
    refused = await client.command("APPEND INBOX ", Literal(message(body=b"a\0b")))
    assert refused.kind == "BAD"  # no literal8: RFC 3501 §9
    assert await room.stored() == {}
    long = message(body=sealed % part("binary", b"x" * 2000), fields=signed)
    assert (await client.command("APPEND INBOX ", Literal(long, binary=True))).ok
    assert (await only(client, "FETCH 1 BODY.PEEK[]"))["BODY[]"] == long


async def test_several_literals_of_both_kinds_are_one_append(room: Room) -> None:
    client = await room.client()
    binary = Literal(mixed(part("binary", b"\0")), binary=True)
    assert (await client.command("APPEND INBOX ", Literal(message()), " ", binary)).ok
    assert (await only(client, "FETCH 2 BINARY.PEEK[1]"))["BINARY[1]"] == b"\0"
    assert (await client.command("REPLACE 1 INBOX ", binary)).ok
    assert (await only(client, "FETCH 2 BINARY.PEEK[1]"))["BINARY[1]"] == b"\0"


@pytest.mark.parametrize("body", [b"a\nb", b"a\rb\r\n", b"x" * 1500, b"\0" * 5, b"\r\n.\r\n"])
def test_every_octet_of_a_binary_part_is_kept(body: bytes) -> None:
    made = as_lines(mixed(part("binary", body)))
    assert fits(made, eight_bit=True)
    inside = made.partition(b"--=b\r\n")[2].rpartition(b"\r\n--=b--")[0]
    fields, _, text = inside.partition(b"\r\n\r\n")
    name = fields.rpartition(b": ")[2].decode()
    assert transfer.decode(text, name) == body


async def test_it_is_offered_to_who_signed_in(room: Room) -> None:
    client = await room.connect()
    before = (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    assert b"BINARY" not in before
    await client.login(ANN, PASSWORD)
    assert b"BINARY" in (await client.command("CAPABILITY"))["CAPABILITY"][0].data
    assert codes_of(await client.command("NOOP")) == []


# --- beside Dovecot ------------------------------------------------------------------------------

_PLAIN = frozenset({b"7bit", b"8bit", b"binary"})
_CODED = frozenset({b"base64", b"quoted-printable"})


def _why(raw: bytes, path: str, ours: Told, theirs: Told) -> str | None:
    """Why Dovecot may answer otherwise; None if it may not."""
    body = octets(ours.body) if ours.body is not None else b""
    lies = layout_of(raw).binary(tuple(map(int, path.split("."))))
    if has_no_field(raw) or body != (octets(theirs.body) if theirs.body is not None else b""):
        return "the section is another one, which tests/differential explains"
    parts = list(mime.scan(raw).walk())
    names = {
        b"7bit" if each.encoding is None else each.encoding.lower().rstrip(b";") for each in parts
    }
    if theirs.code == "UNKNOWN-CTE" and names - _PLAIN - _CODED:
        return "RFC 3516 §4.3: only what is asked for has to be decoded, and an empty name is none"
    if theirs.code == "PARSE" and names & _CODED:
        return "RFC 2045 §6.7, §6.8: what cannot be decoded is passed over"
    if lies is None:
        return "RFC 3501 §9: a part that is not there is NIL" if theirs.data == b"" else None
    part = next(each for each in parts if (each.body, each.end - each.body) == lies[:2])
    if part.children and ours.data == body:
        return "RFC 9051 §6.4.5: only leaves are decoded"
    if part.type == b"message" and theirs.data == body:
        return "RFC 2046 §5.2.1: a message in base64 is a file"
    if theirs.data == ours.data and theirs.size != len(octets(theirs.data)):
        return "it counts otherwise than it tells"
    return None


class Told(NamedTuple):
    body: Value
    data: Value
    size: Value
    code: str | None


async def _asked(client: ImapClient, number: int, path: str) -> Told:
    body = await only(client, f"FETCH {number} BODY.PEEK[{path}]")
    reply = await client.command(f"FETCH {number} (BINARY.PEEK[{path}] BINARY.SIZE[{path}])")
    items = reply.fetched().get(number, {}) if reply.ok else {}
    return Told(
        body[f"BODY[{path}]"],
        items.get(f"BINARY[{path}]"),
        items.get(f"BINARY.SIZE[{path}]"),
        None if reply.ok else reply.code,
    )


def layout_of(raw: bytes) -> Layout:
    return Layout.unpack(parse(raw).layout)


@pytest.mark.skipif(not IMAP.exists(), reason="dovecot is not installed")
async def test_dovecot_tells_the_same(room: Room) -> None:
    raws = published() + malformed(100, 5)
    await room.deliver(*raws)
    client = await room.client()
    alike, odd = 0, []
    async with dovecot_home() as folder, dovecot_session(folder) as other:
        for raw in raws:
            assert (await other.append("INBOX", raw, sync=False)).ok
        assert (await other.command("SELECT INBOX")).ok
        for path in ("1", "2", "1.1"):
            for number, raw in enumerate(raws, 1):
                ours = await _asked(client, number, path)
                theirs = await _asked(other, number, path)
                if ours[1:] == theirs[1:]:
                    alike += 1
                elif _why(raw, path, ours, theirs) is None:
                    odd.append((number, path, ours, theirs))
    assert not odd, odd[0]
    assert alike > 150
