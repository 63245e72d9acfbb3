"""BDAT and BINARYMIME over sockets: octets are counted, whatever becomes of them. RFC 3030."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import pytest

from postroom.core.errors import Status
from postroom.formats import mime, transfer
from postroom.protocols.smtp.session import BAD_COMMANDS, IDLE_COMMANDS
from postroom.store.blobs import SPOOL_LIMIT
from postroom.testing.smtp import SmtpClient
from tests.mailflow.doors import ANN as ME
from tests.mailflow.doors import Doors
from tests.mailflow.faulty import InFolder, serve_faulty
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"
HEAD = b"From: <ann@elsewhere.example>\r\nSubject: x\r\n\r\n"
LINE = b"y" * 70 + b"\r\n"
LARGE = HEAD + LINE * (2 * SPOOL_LIMIT // len(LINE))


def bdat(octets: bytes, *, last: bool = False) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(octets), b" LAST" if last else b"", octets)


async def begin(client: SmtpClient, parameters: str = "", sender: str = ANN) -> None:
    await client.ask(f"MAIL FROM:<{sender}> {parameters}".rstrip(), 250)
    await client.ask(f"RCPT TO:<{BOB}>", 250)


async def codes(client: SmtpClient, count: int) -> list[int]:
    return [reply.code for reply in await client.replies(count)]


@pytest.mark.parametrize("sizes", [[10_000], [1] * 20, [3, 0, 7, 0, 0, 100], [0], [50, 1, 0]])
@pytest.mark.parametrize("zero", [True, False], ids=["BDAT 0 LAST", "LAST"])
async def test_chunks_of_any_size_make_the_message(mx: Mx, sizes: list[int], zero: bool) -> None:
    bob = await mx.account(BOB)
    content = message(body=LINE * 30 + b".\r\n..\r\nBDAT 5 LAST\r\nQUIT\r\n")
    async with mx.connect() as client:
        for pipelined in (False, True):
            await begin(client)
            pieces, at = [], 0
            for size in sizes:
                pieces.append(bdat(content[at : at + size]))
                at += size
            rest = content[at:]
            pieces += [bdat(rest), bdat(b"", last=True)] if zero else [bdat(rest, last=True)]
            if pipelined:
                await client.send(b"".join(pieces))
                assert set(await codes(client, len(pieces))) == {250}
            else:
                for piece in pieces:
                    await client.send(piece)
                    assert await codes(client, 1) == [250]
            await client.ask("NOOP", 250)
    assert [each.endswith(content) for each in await mx.content(bob)] == [True, True]


@pytest.mark.parametrize("content", [message(), LARGE])
async def test_a_transaction_in_one_write_and_octet_by_octet(mx: Mx, content: bytes) -> None:
    bob = await mx.account(BOB)
    whole = f"MAIL FROM:<{ANN}>\r\nRCPT TO:<{BOB}>\r\n".encode() + bdat(content, last=True)
    async with mx.connect() as client:
        await client.send(whole + whole + b"NOOP\r\n")
        assert await codes(client, 7) == [250] * 7
        if content is not LARGE:
            await client.drip(whole)
            assert await codes(client, 3) == [250] * 3
    assert {each[-100:] for each in await mx.content(bob)} == {content[-100:]}


async def test_dots_are_no_end_and_are_not_doubled(mx: Mx) -> None:
    bob = await mx.account(BOB)
    content = HEAD + b".\r\n\r\n.\r\n..\r\n.x\r\n"
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(content, last=True))
        assert await codes(client, 1) == [250]
    assert (await mx.content(bob))[0].endswith(content)


# --- out of order: the octets are no commands ---------------------------------------------------

TRAP = b"QUIT\r\nMAIL FROM:<evil@far.example>\r\n"


@pytest.mark.parametrize("before", [[], ["MAIL"], ["MAIL", "NOBODY"]])
@pytest.mark.parametrize("last", [True, False])
async def test_a_chunk_before_its_time_is_swallowed_and_refused(
    mx: Mx, before: list[str], last: bool
) -> None:
    await mx.account(BOB)
    lines = {"MAIL": f"MAIL FROM:<{ANN}>", "NOBODY": f"RCPT TO:<no@{DOMAIN}>"}
    async with mx.connect() as client:
        for line in before:
            await client.ask(lines[line])
        await client.send(bdat(TRAP, last=last) + b"NOOP\r\n")
        refused, alive = await client.replies(2)
        assert refused.code == (554 if before else 503)
        assert alive.code == 250
        if before:
            await client.ask(f"RCPT TO:<{BOB}>", 250)  # the transaction is as it was
            await client.send(bdat(message(), last=True))
            assert await codes(client, 1) == [250]


async def test_before_the_greeting_too(mx: Mx) -> None:
    async with mx.connect(hello="") as client:
        await client.send(bdat(TRAP, last=True) + b"EHLO x\r\n")
        assert await codes(client, 2) == [503, 250]


@pytest.mark.parametrize("again", ["RSET", "EHLO x", "HELO x"])
async def test_what_begins_afresh_between_chunks_forgets_them(mx: Mx, again: str) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client)
        # A bare LF in what is forgotten is nobody's concern.
        await client.send(bdat(b"Subject: old\n\r\n\r\nold") + f"{again}\r\n".encode())
        assert await codes(client, 2) == [250, 250]
        await client.send(bdat(TRAP, last=True))
        assert await codes(client, 1) == [503]
        if again != "HELO x":
            await begin(client)
            await client.send(bdat(message(), last=True))
            assert await codes(client, 1) == [250]
    if again != "HELO x":
        (stored,) = await mx.content(bob)
        assert b"old" not in stored
    assert not mx.files()


async def test_a_large_part_that_is_reset_leaves_no_file(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(LARGE))
        assert await codes(client, 1) == [250]
        assert len(mx.files()) == 1
        await client.ask("RSET", 250)
        assert not mx.files()


@pytest.mark.parametrize("line", ["DATA", f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>"])
async def test_data_and_bdat_do_not_mix(mx: Mx, line: str) -> None:
    """RFC 3030 §2: 503, and the chunks so far stay."""
    bob = await mx.account(BOB)
    content = message()
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(content[:50]))
        assert await codes(client, 1) == [250]
        await client.ask(line, 503)
        await client.send(bdat(content[50:], last=True))
        assert await codes(client, 1) == [250]
    assert (await mx.content(bob))[0].endswith(content)


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipelined", [True, False])
async def test_beyond_the_limit_in_the_middle_all_is_refused_and_explained(
    mx: Mx, pipelined: bool
) -> None:
    bob = await mx.account(BOB)
    await mx.set("smtp.max_size", 100_000)
    piece = LINE * 500
    async with mx.connect() as client:
        await begin(client)
        pieces = [HEAD + piece, piece, piece, piece, b"QUIT\r\n"]
        sent = [bdat(each, last=n == 4) for n, each in enumerate(pieces)]
        if pipelined:
            await client.send(b"".join(sent))
            replies = await client.replies(5)
        else:
            replies = []
            for each in sent:
                await client.send(each)
                replies.append(await client.reply())
        assert [reply.code for reply in replies] == [250, 250, 552, 503, 503]
        assert replies[2].status == Status(5, 3, 4)
        told = (await mx.refusal(replies[2]))["verdicts"][-1]
        assert (told["rule"], told["setting"]) == ("size", "smtp.max_size")
        await begin(client)
        await client.send(bdat(message(), last=True))
        assert await codes(client, 1) == [250]
    assert await mx.count(bob) == 1
    assert not mx.files()


async def test_beyond_the_limit_in_the_last_chunk(mx: Mx) -> None:
    bob = await mx.account(BOB)
    await mx.set("smtp.max_size", 100_000)
    async with mx.connect() as client:
        for parameters in ("", "BODY=BINARYMIME"):
            await begin(client, parameters)
            await client.send(bdat(HEAD + LINE * 2_000, last=True))
            assert await codes(client, 1) == [552]
            await client.ask("NOOP", 250)
    assert await mx.count(bob) == 0


async def test_the_chunks_that_a_client_had_under_way_cost_it_no_connection(mx: Mx) -> None:
    """It pipelined them before it could know; but not without end."""
    await mx.account(BOB)
    await mx.set("smtp.max_size", 100_000)
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(HEAD + LINE * 2_000))
        assert await codes(client, 1) == [552]
        await client.send(bdat(LINE) * (IDLE_COMMANDS - 20))
        assert set(await codes(client, IDLE_COMMANDS - 20)) == {503}
        await client.ask("NOOP", 250)
        await client.send(bdat(LINE) * IDLE_COMMANDS)
        assert (await client.rest())[-1].code == 421


async def test_chunks_without_a_message_are_bad_commands(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.send(bdat(TRAP, last=True) * (BAD_COMMANDS + 5))
        assert [r.code for r in await client.rest()] == [503] * (BAD_COMMANDS - 1) + [421]


async def test_empty_chunks_lead_nowhere(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(b"") * (IDLE_COMMANDS + 5))
        assert (await client.rest())[-1].code == 421


@pytest.mark.parametrize("size", [2**31, 2**63, 10**20 - 1])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_huge_size_that_is_announced_costs_no_memory(
    mx: Mx, size: int, begun: bool
) -> None:
    """Attack class 8: what is announced is a number; what comes beyond the limit is let go."""
    await mx.account(BOB)
    await mx.set("smtp.max_size", 100_000)
    async with mx.connect() as client:
        if begun:
            await begin(client)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await client.send(b"BDAT %d LAST\r\n" % size)
        block = LINE * 900
        for _ in range(300):
            await client.send(block)
        assert await client.silent(0.05)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 8 * 1024, f"{grown} KiB"  # of 19 MB that were sent
        assert not mx.files()
        client.reset()
        await mx.settled(lambda: not mx.acceptor.connections)


@pytest.mark.parametrize(
    "line",
    [
        "BDAT", "BDAT LAST", "BDAT -1", "BDAT +5", "BDAT 0x10", "BDAT 1 2", "BDAT 5 LAST x",
        "BDAT 5LAST", "BDAT 1e3", "BDAT 10_000", "BDAT " + "9" * 21, "BDAT \u0665", "BDAT 5;LAST",
    ],
)  # fmt: skip
async def test_a_size_that_cannot_be_read_ends_the_session(mx: Mx, line: str) -> None:
    """Nobody knows where the octets end, so nothing behind it is a command."""
    await mx.account(BOB)
    for begun in (False, True):
        async with mx.connect() as client:
            if begun:
                await begin(client)
            await client.send(f"{line}\r\n".encode() + TRAP + b"NOOP\r\n")
            assert [reply.code for reply in await client.rest()] == [501]


# --- ends that are none -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["reset", "half_close", "close"])
@pytest.mark.parametrize("where", ["within", "between"])
async def test_a_client_that_dies_between_its_chunks_leaves_nothing(
    mx: Mx, how: str, where: str
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(LARGE))
        assert await codes(client, 1) == [250]
        if where == "within":
            await client.send(b"BDAT 1000000 LAST\r\n" + LINE)
        {"reset": client.reset, "half_close": client.half_close, "close": client.close}[how]()
        await mx.settled(lambda: not mx.acceptor.connections)
    assert not mx.files()
    assert await mx.count(bob) == 0


BARE = [b"\n", b"\r", b"\n.\n", b"\r\n.\n", b"\n\r", b"\0"]


@pytest.mark.parametrize("bare", BARE)
@pytest.mark.parametrize("at", ["first", "split", "last"])
async def test_a_bare_line_end_in_any_chunk_refuses_the_whole(mx: Mx, bare: bytes, at: str) -> None:
    bob = await mx.account(BOB)
    pieces = {
        "first": [HEAD + b"a" + bare + b"b", b"rest\r\n"],
        "split": [HEAD + b"a" + bare[:1], bare[1:] + b"b\r\n"],
        "last": [HEAD, b"a" + bare],
    }[at]
    async with mx.connect() as client:
        await begin(client)
        await client.send(bdat(pieces[0]) + bdat(pieces[1], last=True))
        first, last = await client.replies(2)
        assert first.code == 250
        assert (last.code, last.status) == (554, Status(5, 6, 0))
        await client.ask("NOOP", 250)
        await begin(client)
        await client.send(bdat(message(), last=True))  # what was wrong is forgotten
        assert await codes(client, 1) == [250]
    assert await mx.count(bob) == 1


async def test_a_crlf_across_two_chunks_is_a_line_end(mx: Mx) -> None:
    bob = await mx.account(BOB)
    content = message(body=b"one\r\ntwo\r\n")
    async with mx.connect() as client:
        for cut in range(len(content) - 12, len(content)):
            await begin(client)
            await client.send(bdat(content[:cut]) + bdat(content[cut:], last=True))
            assert await codes(client, 2) == [250, 250]
    assert await mx.count(bob) == 12


async def test_a_disk_that_fills_within_the_chunks_is_said_at_their_end(tmp_path: Path) -> None:
    async with serve_faulty(tmp_path) as (mx, faults):
        bob = await mx.account(BOB)
        async with mx.connect() as client:
            await begin(client)
            await client.send(bdat(HEAD))
            assert await codes(client, 1) == [250]
            with faults.armed(InFolder("write", "full", file=mx.house.blobs.folder)):
                await client.send(bdat(LARGE) + bdat(TRAP, last=True))
                failed, out_of_order = await client.replies(2)
                assert (failed.code, failed.status) == (452, Status(4, 3, 1))
                assert out_of_order.code == 503
            await begin(client)
            await client.send(bdat(message(), last=True))
            assert await codes(client, 1) == [250]
        assert await mx.count(bob) == 1
        assert not [path for path in mx.files() if "/new/" in path]


# --- BINARYMIME ---------------------------------------------------------------------------------

IMAGE = bytes(range(256)) * 8 + b"\r\n.\r\n\n.\n\r.\r" + b"\0\r\n"
BINARY = (
    HEAD.replace(b"\r\n\r\n", b"\r\n")
    + b"MIME-Version: 1.0\r\nMessage-ID: <b@elsewhere.example>\r\n"
    + b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    + b"--b\r\nContent-Type: text/plain\r\n\r\nGood morning.\r\n"
    + b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    + IMAGE
    + b"\r\n--b--\r\n"
)


async def test_binary_parts_are_encoded_before_anybody_sees_them(doors: Doors) -> None:
    """NUL, bare CR and LF, dots: a reader finds the same part, a relay finds lines."""
    mx = doors.mx
    bob = await mx.account(BOB)
    binary = BINARY.replace(b"ann@elsewhere.example", b"ann@example.test", 1)
    async with doors.signed_in() as client:
        for cut in (0, 10, len(binary) - 5):
            await client.ask(f"MAIL FROM:<{ME}> BODY=BINARYMIME", 250)
            await client.ask(f"RCPT TO:<{BOB}>", 250)
            await client.ask("RCPT TO:<someone@far.example>", 250)
            await client.send(bdat(binary[:cut]) + bdat(binary[cut:], last=True))
            assert await codes(client, 2) == [250, 250]
    stored = await mx.content(bob)
    outgoing = [content for _, content in await doors.outgoing()]
    assert len(stored) == len(outgoing) == 3
    for content in stored + outgoing:
        lines = content.replace(b"\r\n", b"")
        assert not set(b"\r\n\0") & set(lines)
        text, image = mime.scan(content).children
        assert content[text.body : text.end] == b"Good morning."
        assert image.encoding == b"base64"
        assert transfer.decode(content[image.body : image.end], "base64") == IMAGE
    assert [row.message.eight_bit for row, _ in await doors.outgoing()] == [False] * 3
    record = (await mx.traces())[0]
    assert "re-encoded binary parts" in record["amended"]


async def test_the_limit_is_for_what_was_sent_not_for_its_encoding(mx: Mx) -> None:
    bob = await mx.account(BOB)
    await mx.set("smtp.max_size", 100_000)
    image = IMAGE * 45
    content = BINARY.replace(IMAGE, image)
    assert 75_000 < len(content) < 100_000
    async with mx.connect() as client:
        await begin(client, f"BODY=BINARYMIME SIZE={len(content)}")
        await client.send(bdat(content, last=True))
        assert await codes(client, 1) == [250]
    (stored,) = await mx.content(bob)
    assert len(stored) > 100_000
    assert (await mx.usage(bob))[0] == len(stored)


async def test_a_large_binary_message_goes_by_a_file(mx: Mx) -> None:
    bob = await mx.account(BOB)
    content = BINARY.replace(IMAGE, IMAGE * 400)
    async with mx.connect() as client:
        await begin(client, "BODY=BINARYMIME")
        await client.send(bdat(content, last=True))
        assert await codes(client, 1) == [250]
    (stored,) = await mx.content(bob)
    image = mime.scan(stored).children[1]
    assert transfer.decode(stored[image.body : image.end], "base64") == IMAGE * 400
    assert not [path for path in mx.files() if "/new/" in path]


async def test_binary_content_that_is_lines_already_stays_as_it_is(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client, "BODY=BINARYMIME")
        await client.send(bdat(message(), last=True))
        assert await codes(client, 1) == [250]
    assert (await mx.content(bob))[0].endswith(message())
    assert "amended" not in (await mx.traces())[0]


@pytest.mark.parametrize(
    "content",
    [
        HEAD.replace(b"Subject: x", b"Subject: x\ny: z") + b"text\r\n",
        HEAD.replace(b"Subject: x", b"Subject: \0") + b"text\r\n",
        HEAD.replace(b"\r\n\r\n", b"\r\n") + b"Content-Type: multipart/signed; boundary=b\r\n\r\n"
        b"--b\r\n\r\na\0b\r\n--b\r\n\r\nx\r\n--b--\r\n",
    ],
)
async def test_what_cannot_be_converted_is_refused(mx: Mx, content: bytes) -> None:
    """Headers are lines in any case, and a signed part must not be touched."""
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client, "BODY=BINARYMIME")
        await client.send(bdat(content, last=True))
        reply = await client.reply()
        assert reply.code in (550, 554)
        assert reply.status in (Status(5, 6, 0), Status(5, 6, 3)), reply
        assert (await mx.refusal(reply))["verdicts"][-1]["rule"] in ("binary", "nul", "line_ends")
        await client.ask("NOOP", 250)
    assert await mx.count(bob) == 0
    assert not mx.files()


async def test_binarymime_does_not_come_by_data(mx: Mx) -> None:
    """RFC 3030 §3."""
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await begin(client, "BODY=BINARYMIME")
        await client.ask("DATA", 503)
        await client.send(bdat(BINARY, last=True))
        assert await codes(client, 1) == [250]
    assert await mx.count(bob) == 1


async def test_without_binarymime_the_same_octets_are_refused(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        for parameters, octets in itertools.product(("", "BODY=8BITMIME"), (b"\0", b"\n", b"\r")):
            await begin(client, parameters)
            await client.send(bdat(HEAD + b"x" + octets + b"x\r\n", last=True))
            assert await codes(client, 1) == [554]
    assert await mx.count(bob) == 0
