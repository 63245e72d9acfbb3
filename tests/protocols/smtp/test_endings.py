"""How sessions end: peers that go away, peers that say nothing, a server that drains."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.core.errors import Status
from postroom.domain.transit import Fact, Recipient, Transit
from postroom.mailflow.house import MailHouse
from postroom.mailflow.phases import DATA, Phases, Probe
from postroom.protocols.smtp import server
from postroom.testing.faults import Fault
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply
from tests.mailflow.faulty import serve_faulty
from tests.mailflow.serving import DOMAIN, Mx, message, serve
from tests.stores import open_mail

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"
LARGE = message() + (b"y" * 70 + b"\r\n") * 8_000  # beyond what stays in memory


async def _begin(client: SmtpClient) -> None:
    for line, code in ((f"MAIL FROM:<{ANN}>", 250), (f"RCPT TO:<{BOB}>", 250), ("DATA", 354)):
        await client.ask(line, code)


# --- peers that go away -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [message(), LARGE])
@pytest.mark.parametrize("how", ["reset", "half_close", "close"])
async def test_a_client_that_dies_within_data_leaves_nothing(
    mx: Mx, content: bytes, how: str
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await _begin(client)
        await client.send(content)
        if content is LARGE:
            await mx.settled(lambda: len(mx.files()) == 1)
        {"reset": client.reset, "half_close": client.half_close, "close": client.close}[how]()
        await mx.settled(lambda: not mx.acceptor.connections)
    assert not mx.files()
    assert await mx.count(bob) == 0
    assert not await mx.traces()


@pytest.mark.parametrize("content", [message(), LARGE])
async def test_a_client_that_dies_after_the_dot_has_sent_its_message(
    tmp_path: Path, content: bytes
) -> None:
    """The content is complete: it is kept and traced. The peer may bring it again."""
    async with serve_faulty(tmp_path) as (mx, faults):
        bob = await mx.account(BOB)
        with faults.armed(Fault("sync", "none", file="-wal", delay=0.15)) as slow:
            async with mx.connect() as client:
                await _begin(client)
                before = slow.hits
                await client.send(content + b".\r\n")
                async with asyncio.timeout(5):
                    while slow.seen == before:
                        await asyncio.sleep(0.001)
                client.reset()
            await mx.settled(lambda: not mx.acceptor.connections)
            async with asyncio.timeout(5):
                while await mx.count(bob) == 0:
                    await asyncio.sleep(0.01)
        assert (await mx.content(bob))[0].endswith(content)
        assert (await mx.delivered("<1@elsewhere.example>"))["outcome"] == "accepted"
        assert not any("/new/" in path for path in mx.files())


async def test_a_half_closed_client_gets_all_its_answers(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect(hello="") as client:
        await client.send(
            f"EHLO x\r\nMAIL FROM:<{ANN}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n".encode()
            + message()
            + b".\r\nNOOP\r\n"
        )
        client.half_close()
        assert [reply.code for reply in await client.rest()] == [250, 250, 250, 354, 250, 250]
    assert await mx.count(bob) == 1


async def test_quit_is_answered_and_closes(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.send(b"QUIT\r\n")
        assert [reply.code for reply in await client.rest()] == [221]


# --- peers that say nothing ---------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience in tenths of seconds."""
    monkeypatch.setattr(server, "BEFORE_GREETING", 0.2)
    monkeypatch.setattr(server, "SERVER_TIMEOUT", 0.3)


def _is_timeout(replies: list[Reply]) -> bool:
    return [(reply.code, reply.status) for reply in replies] == [(421, Status(4, 4, 2))]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("before", [[], ["NOOP"], ["FOO"], ["EHLO"]])
async def test_who_does_not_greet_is_let_go_whatever_else_he_says(
    mx: Mx, before: list[str]
) -> None:
    begun = time.monotonic()
    async with mx.connect(hello="") as client:
        for line in before:
            await client.ask(line)
            await asyncio.sleep(0.1)
        assert _is_timeout(await client.rest())
    assert time.monotonic() - begun < 0.6


@pytest.mark.usefixtures("hurried")
async def test_who_falls_silent_is_let_go_and_who_speaks_is_not(mx: Mx) -> None:
    async with mx.connect() as client:
        for _ in range(4):
            await asyncio.sleep(0.15)
            await client.ask("NOOP", 250)
        assert _is_timeout(await client.rest())


@pytest.mark.usefixtures("hurried")
async def test_attack_08_a_line_that_drips_gains_no_time(mx: Mx) -> None:
    begun = time.monotonic()
    async with mx.connect() as client:
        drip = asyncio.create_task(client.drip(b"x" * 100, 0.02))
        assert _is_timeout(await client.rest())
        drip.cancel()
    assert time.monotonic() - begun < 1


@pytest.mark.usefixtures("hurried")
async def test_who_falls_silent_within_data_leaves_nothing(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await _begin(client)
        await client.send(LARGE)
        await mx.settled(lambda: len(mx.files()) == 1)
        assert _is_timeout(await client.rest())
    assert not mx.files()
    assert await mx.count(bob) == 0


def _thinking(seconds: float) -> Phases:
    async def run(house: MailHouse, transit: Transit, to: Recipient | None) -> tuple[Fact, ...]:
        await asyncio.sleep(seconds)
        return ()

    return Phases(data=replace(DATA, probes=(*DATA.probes, Probe("thinking", run))))


@asynccontextmanager
async def _serving(folder: Path, phases: Phases) -> AsyncIterator[Mx]:
    mail, state = open_mail("sqlite", str(folder))
    try:
        async with serve(folder, mail, state, phases=phases) as mx:
            yield mx
    finally:
        await mail.close()
        await state.close()


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("content", [message(), LARGE])
async def test_the_time_that_we_take_to_decide_is_not_the_peer_s(
    tmp_path: Path, content: bytes
) -> None:
    """A message under decision is not dropped because its sender says nothing meanwhile."""
    async with _serving(tmp_path, _thinking(0.8)) as mx:
        bob = await mx.account(BOB)
        async with mx.connect() as client:
            assert (await client.deliver(ANN, [BOB], content)).accepted
            assert _is_timeout(await client.rest())  # and then he has as long as ever
        assert (await mx.content(bob))[0].endswith(content)


# --- a server that drains -----------------------------------------------------------------------


def _is_goodbye(replies: list[Reply]) -> bool:
    return [(reply.code, reply.status) for reply in replies] == [(421, Status(4, 3, 2))]


@pytest.mark.parametrize("before", ["", "EHLO x", "MAIL", "RCPT"])
async def test_a_draining_server_says_goodbye_to_who_is_not_in_data(mx: Mx, before: str) -> None:
    await mx.account(BOB)
    async with mx.connect(hello="EHLO x" if before else "") as client:
        if before in ("MAIL", "RCPT"):
            await client.ask(f"MAIL FROM:<{ANN}>", 250)
        if before == "RCPT":
            await client.ask(f"RCPT TO:<{BOB}>", 250)
        drained = asyncio.create_task(mx.acceptor.shutdown())
        assert _is_goodbye(await client.rest())
        client.close()
        await asyncio.wait_for(drained, 5)


@pytest.mark.parametrize("content", [message(), LARGE])
async def test_a_message_that_is_coming_in_may_end_and_then_comes_goodbye(
    mx: Mx, content: bytes
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await _begin(client)
        await client.send(content[:100])
        drained = asyncio.create_task(mx.acceptor.shutdown())
        await asyncio.sleep(0.05)
        assert not drained.done()
        # Another transaction in the same packet is not begun.
        await client.send(content[100:] + f".\r\nMAIL FROM:<{ANN}>\r\n".encode())
        taken, *rest = await client.rest()
        assert taken.code == 250
        assert _is_goodbye(rest)
        client.close()
        await asyncio.wait_for(drained, 5)
    assert (await mx.content(bob))[0].endswith(content)


async def test_a_message_under_decision_is_decided_before_goodbye(tmp_path: Path) -> None:
    async with _serving(tmp_path, _thinking(0.3)) as mx:
        bob = await mx.account(BOB)
        async with mx.connect() as client:
            await _begin(client)
            await client.send(message() + b".\r\n")
            await asyncio.sleep(0.1)
            drained = asyncio.create_task(mx.acceptor.shutdown())
            taken, *rest = await client.rest()
            assert taken.code == 250 and _is_goodbye(rest)
            client.close()
            await asyncio.wait_for(drained, 5)
        assert await mx.count(bob) == 1


async def test_a_session_with_half_a_line_is_no_obstacle_to_draining(mx: Mx) -> None:
    """The drain may fall between the octets and the task that reads them."""
    async with mx.connect() as client:
        for connection in mx.acceptor.connections:
            handler = connection.handler
            assert handler is not None
            handler.on_bytes(b"NO")  # its task has not run yet
            handler.on_shutdown()
        assert _is_goodbye(await client.rest())


# --- our own mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["mail", "rcpt", "data"])
async def test_a_mistake_of_ours_ends_one_session_with_421_and_no_other(
    mx: Mx, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bob = await mx.account(BOB)

    async def broken(*arguments: object) -> None:
        raise KeyError("a mistake of ours")

    async with mx.connect() as other, mx.connect() as client:
        with monkeypatch.context() as patched:
            patched.setattr(type(mx.intake), step, broken)
            await client.send(
                f"MAIL FROM:<{ANN}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n".encode() + LARGE + b".\r\n"
            )
            replies = await client.rest()
        assert (replies[-1].code, replies[-1].status) == (421, Status(4, 3, 0))
        assert "mistake" not in replies[-1].text
        assert (await other.deliver(ANN, [BOB], message())).accepted
    assert not mx.files()
    assert await mx.count(bob) == 1
