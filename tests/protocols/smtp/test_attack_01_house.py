"""Attack class 1 through the whole house: every way in, every way out, every false end.

What lies in a mailbox and what other servers are given are exactly the messages that were taken,
for a reader that knows RFC 5321 and for one that takes any CR or LF for a line end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from postroom.domain import queue, trace
from postroom.domain.queue import Composed
from postroom.formats import mime, transfer
from postroom.net.connection import Peer
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.verbs import LMTP
from postroom.store.blobs import SPOOL_LIMIT
from postroom.testing.house import House
from postroom.testing.internet import Internet, Stranger, small_internet
from postroom.testing.smtp import SmtpClient
from tests.mailflow.line import Line
from tests.protocols.smtp.variants import VARIANTS, is_strict, naive_ends, strict_ends

ANN = "ann@a.test"
TO = (ANN, "chunks@a.test", "dots@a.test")
"""A mailbox, and aliases to a server with CHUNKING and to one without."""
SENDER = "stranger@elsewhere.example"
HEAD = b"From: <ann@a.test>\r\nTo: <ann@a.test>\r\nSubject: outer\r\nMessage-ID: <%d@x>\r\n"
DATE = b"Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
SECOND = (
    b"MAIL FROM:<evil@far.example>\r\nRCPT TO:<victim@far.example>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled"
)


@dataclass
class World:
    town: Internet
    house: House
    chunks: Stranger
    dots: Stranger

    def lmtp(self) -> Line:
        flow = self.house.flow
        server = SmtpServer(
            self.house.intake, flow.clock, flow.ids, lambda: flow.hostname, None, LMTP
        )
        return Line(server, Peer(None, 0, None, 0, "lmtp"))


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with small_internet(tmp_path) as town:
        house = await town.house("a.test", "ann")
        chunks = await town.server("chunks.example")
        dots = await town.server("dots.example", without=("CHUNKING", "BINARYMIME"))
        await house.alias("chunks@a.test", "bob@chunks.example")
        await house.alias("dots@a.test", "bob@dots.example")
        yield World(town, house, chunks, dots)


def outer(n: int, variant: bytes, *, fields: bytes = b"") -> bytes:
    return HEAD % n + DATE + fields + b"\r\nouter" + variant + SECOND + b"\r\n"


def dotted(content: bytes) -> bytes:
    """As DATA wants it, but with the line ends that a hostile client sends."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def chunked(content: bytes, pieces: int) -> bytes:
    size = len(content) // pieces + 1
    cut = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(b"BDAT %d\r\n%b" % (len(each), each) for each in cut) + b"BDAT 0 LAST\r\n"


# --- ways in: each takes a message or refuses it, and is in step afterwards ---------------------

Bring = Callable[[bytes], Awaitable[bool]]


async def _by_data(client: SmtpClient, sender: str, content: bytes) -> bool:
    await client.ask(f"MAIL FROM:<{sender}>", 250)
    for to in TO:
        await client.ask(f"RCPT TO:<{to}>", 250)
    await client.ask("DATA", 354)
    await client.send(dotted(content))
    return await _judged(client, 1)


async def _by_bdat(
    client: SmtpClient, sender: str, content: bytes, parameters: str = "", pieces: int = 3
) -> bool:
    await client.ask(f"MAIL FROM:<{sender}> {parameters}".rstrip(), 250)
    for to in TO:
        await client.ask(f"RCPT TO:<{to}>", 250)
    said = chunked(content, pieces)
    await client.send(said)
    count = len(range(0, len(content), len(content) // pieces + 1))
    assert {reply.code for reply in await client.replies(count)} == {250}
    return await _judged(client, 1)


async def _judged(client: SmtpClient, count: int) -> bool:
    codes = {reply.code for reply in await client.replies(count)}
    assert codes in ({250}, {554}), codes
    await client.ask("NOOP", 250)
    return codes == {250}


async def _play(world: World, way: str, bring: Callable[[Bring], Awaitable[None]]) -> None:
    """Open the way, and let the test bring its messages."""
    house = world.house
    if way in ("mx-data", "mx-bdat"):
        async with house.stranger() as client:
            by = _by_data if way == "mx-data" else _by_bdat
            await bring(lambda content: by(client, SENDER, content))
    elif way in ("submission-data", "submission-bdat"):
        async with house.signed_in(ANN) as client:
            by = _by_data if way == "submission-data" else _by_bdat
            await bring(lambda content: by(client, ANN, content))
    elif way == "lmtp":
        line = world.lmtp()
        await line.say(b"LHLO filter.example\r\n")
        line.replies()

        async def over_lmtp(content: bytes) -> bool:
            rcpts = b"".join(b"RCPT TO:<%b>\r\n" % to.encode() for to in TO)
            await line.say(b"MAIL FROM:<%b>\r\n%bDATA\r\n" % (SENDER.encode(), rcpts))
            assert [r.code for r in line.replies()] == [250] * 4 + [354]
            await line.say(dotted(content) + b"NOOP\r\n", 100)
            *codes, alive = [reply.code for reply in line.replies()]
            assert alive == 250 and len(codes) == 3 and len(set(codes)) == 1, codes
            return codes[0] == 250

        await bring(over_lmtp)
        await line.end()
    else:
        assert way == "composed"
        await bring(lambda content: _composed(world, content))


async def _composed(world: World, content: bytes) -> bool:
    """As if we had written it ourselves, by mistake."""
    flow = world.house.flow
    blob = await flow.blobs.make(content)
    number = flow.ids.new()
    composed = Composed(number, blob, None, TO, "test", flow.ids.new())
    await flow.mail.write_mail(queue.submit, composed, flow.clock.now())
    await world.town.settle()
    assert not any(row.message.trace == number for row in await world.house.waiting())
    return await flow.mail.read(trace.get, number) is not None


# --- ways out -----------------------------------------------------------------------------------


async def check(world: World, taken: list[bytes]) -> None:
    """Everywhere exactly these messages came out, to a strict and to a naive reader."""
    await world.town.settle()
    inbox = await world.house.inbox(ANN)
    assert len(inbox) == len(taken)
    for stored, content in zip(inbox, taken, strict=True):
        assert stored.endswith(b"\r\n" + content)
        assert is_strict(stored)
        assert strict_ends(stored) == strict_ends(content)
    for server in (world.chunks, world.dots):
        assert server.complaints == []
        # Several connections carry them, so the order may be another.
        assert len(server.messages) == len(taken)
        for content in taken:
            assert sum(got.content.endswith(b"\r\n" + content) for got in server.messages) == 1
        assert all(is_strict(got.content) for got in server.messages)
        assert {str(got) for each in server.messages for got in each.recipients} <= {
            "bob@chunks.example",
            "bob@dots.example",
        }
    said = [bytes(visit.said) for visit in world.dots.visits]
    assert all(is_strict(each) for each in said)
    datas = sum(each.count(b"\r\nDATA\r\n") - smuggled(taken, each) for each in said)
    assert datas == len(taken)
    assert sum(map(strict_ends, said)) == len(taken)
    assert sum(map(naive_ends, said)) == len(taken)
    assert all(got.chunks for got in world.chunks.messages)
    assert not any(got.chunks for got in world.dots.messages)


def smuggled(taken: list[bytes], said: bytes) -> int:
    """How many lines that spell DATA are text of the messages that were sent on a connection."""
    return said.count(b"\r\nDATA\r\nSubject: smuggled\r\n")


WAYS = ["mx-data", "mx-bdat", "submission-data", "submission-bdat", "lmtp", "composed"]


@pytest.mark.parametrize("way", WAYS)
async def test_attack_01_whatever_comes_in_comes_out_as_one_message_or_not_at_all(
    world: World, way: str
) -> None:
    taken: list[bytes] = []

    async def bring(it: Bring) -> None:
        for n, variant in enumerate(VARIANTS):
            content = outer(n, variant)
            if await it(content):
                taken.append(content)
        honest = outer(999, b"\r\n")
        assert await it(honest)
        taken.append(honest)

    await _play(world, way, bring)
    await check(world, taken)
    assert len(taken) == 1 + sum(map(is_strict, VARIANTS))


@pytest.mark.parametrize("way", WAYS)
async def test_attack_01_a_large_message_is_no_exception(world: World, way: str) -> None:
    """What goes by a file and a rope: the false end stands where pieces meet."""
    taken: list[bytes] = []
    filler = b"y" * 70 + b"\r\n"
    before = filler * (SPOOL_LIMIT // len(filler) + 50)

    async def bring(it: Bring) -> None:
        for n, variant in enumerate(
            (b"\n.\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\n", b"\r\n..\r\n")
        ):
            content = HEAD % n + DATE + b"\r\n" + before + b"x" + variant + SECOND + b"\r\n"
            if await it(content):
                taken.append(content)

    await _play(world, way, bring)
    await check(world, taken)
    assert len(taken) == 2


async def test_attack_01_what_came_as_binary_leaves_as_lines(world: World) -> None:
    """The one way in on which any octet is allowed: each variant is inside a part, encoded."""
    fields = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: binary\r\n"
    sent = [outer(n, variant, fields=fields) for n, variant in enumerate(VARIANTS)]
    async with world.house.signed_in(ANN) as client:
        for content in sent:
            assert await _by_bdat(client, ANN, content, "BODY=BINARYMIME")
    await world.town.settle()
    out = [
        await world.house.inbox(ANN),
        [got.content for got in world.chunks.messages],
        [got.content for got in world.dots.messages],
    ]
    bodies = sorted(content.partition(b"\r\n\r\n")[2] for content in sent)
    for messages in out:
        assert all(is_strict(content) for content in messages)
        assert sorted(map(_body, messages)) == bodies
    said = [bytes(visit.said) for visit in world.dots.visits]
    assert sum(map(naive_ends, said)) == sum(map(strict_ends, said)) == len(sent)


def _body(content: bytes) -> bytes:
    part = mime.scan(content)
    name = transfer.canonical((part.encoding or b"").decode())
    return transfer.decode(content[part.body : part.end], name)
