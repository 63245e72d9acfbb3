"""Attacks do what they claim and stop when told; honest clients are measured beside them."""

from __future__ import annotations

import asyncio
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest

from bench.load import bombs
from bench.load.apart import Apart, Signals, signals
from bench.load.hostile import HELD, REPEATED, AttackPlan, AttackResult, attack
from bench.load.pages import PAGE, PagesPlan, fetch_pages
from bench.model import BenchError, Endpoint
from tests.bench.test_bench_load import Mx, listening

GREETINGS = b"* OK ready\r\n"


def test_bombs_are_as_deep_as_wide_and_as_long_as_they_say() -> None:
    deep = bombs.deep()
    assert deep.count(b"multipart/mixed") == bombs.LEVELS
    assert deep.index(b"--b9999\r\n") < deep.index(b"--b9999--") < deep.index(b"--b0--")
    assert bombs.wide().count(b"\r\n--b\r\n") == bombs.PARTS
    sections = re.findall(rb"name\*(\d+)=", bombs.continued())
    assert sorted(map(int, sections)) == list(range(bombs.CONTINUATIONS))
    assert bombs.headers().index(b"\r\n\r\n") > bombs.HEADER_OCTETS * 0.99


@pytest.mark.parametrize("name", list(bombs.BOMBS))
def test_a_bomb_is_legal_on_the_wire(name: str) -> None:
    lines = bombs.BOMBS[name]().split(b"\r\n")
    assert max(map(len, lines)) <= 998  # RFC 5321 §4.5.3.1.6
    assert not any(line.startswith(b".") or b"\r" in line or b"\n" in line for line in lines)


class Door:
    """Greets, takes everything, answers what it is told; may close early."""

    def __init__(self, answer: bytes = b"", *, close: bool = False) -> None:
        self.octets = 0
        self.opened = 0
        self.first = b""
        self._answer = answer
        self._close = close

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        writer.write(GREETINGS)
        try:
            while data := await reader.read(65_536):
                self.first = self.first or data
                self.octets += len(data)
                writer.write(self._answer)
                await writer.drain()
                if self._close:
                    break
        except ConnectionError:
            pass
        writer.close()


def strike(kind: str, to: Endpoint, seconds: float = 0.4, connections: int = 3) -> AttackResult:
    """Attack for so long from a thread of this process."""
    flags = signals()
    plan = AttackPlan(kind, to, to, "bob@bench.example", connections, 0.02, flags)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(attack, plan)
        assert flags.ready.wait(10)
        threading.Event().wait(seconds)
        flags.stop.set()
        return running.result(20)


@pytest.mark.parametrize("kind", sorted({*REPEATED, *HELD} - {*bombs.BOMBS, "smtp-held"}))
def test_an_attack_is_made_again_and_again_until_it_is_told_to_stop(kind: str) -> None:
    door = Door()
    with listening(door.serve) as to:
        result = strike(kind, to)
    assert result.attempts == door.opened >= 3
    assert 0 < door.octets <= result.octets
    assert result.cut == 0
    assert result.held == (3 if kind in HELD else 0)


@pytest.mark.parametrize("kind", ["literals", "imap-garbage", "imap-held"])
def test_connections_that_the_server_ends_are_counted_and_not_held(kind: str) -> None:
    door = Door(close=True)
    with listening(door.serve) as to:
        result = strike(kind, to)
    assert result.held == 0
    assert result.cut > 0


@pytest.mark.parametrize(
    ("kind", "answer", "executed"),
    [
        ("imap-starttls", b"a OK go\r\nb OK done\r\n", True),
        ("imap-starttls", b"a OK go\r\n", False),
        ("imap-starttls", b"a BAD no\r\nb OK done\r\n", False),
        ("smtp-starttls", b"250 mx\r\n220 2.0.0 go\r\n250 2.1.0 Ok\r\n", True),
        ("smtp-starttls", b"250 mx\r\n220 2.0.0 go\r\n", False),
        ("smtp-starttls", b"250 mx\r\n502 5.5.1 no\r\n250 2.1.0 Ok\r\n", False),
    ],
)
def test_a_command_behind_starttls_is_found_out_only_if_it_was_executed(
    kind: str, answer: bytes, executed: bool
) -> None:
    with listening(Door(answer).serve) as to:
        result = strike(kind, to, connections=1)
    assert (result.executed > 0) is executed


@pytest.mark.parametrize(("accepts", "refused"), [(10**9, False), (0, True)])
def test_a_bomb_is_sent_whole_and_its_answer_noted(accepts: int, refused: bool) -> None:
    mx = Mx(refuse_after=accepts)
    with listening(mx.serve) as to:
        result = strike("rfc2231", to, connections=1)
    assert mx.messages[0] == bombs.continued() + b".\r\n"
    assert len(result.answers) == len(mx.messages) == result.attempts
    assert result.refused == (result.attempts if refused else 0)


def test_a_message_is_held_without_its_end() -> None:
    mx = Mx()
    with listening(mx.serve) as to:
        result = strike("smtp-held", to)
    assert result.held == 3
    assert mx.messages == []
    assert result.octets > 3 * 240_000


def test_an_attacker_that_nobody_lets_send_is_an_error_of_the_bench() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mx\r\n")
        while line := await reader.readline():
            writer.write(b"550 no\r\n" if line.startswith(b"RCPT") else b"250 ok\r\n")

    with listening(refuse) as to, pytest.raises(BenchError, match="550"):
        strike("depth", to, connections=1)


class Reader:
    """An IMAP server whose pages hold `page` messages."""

    def __init__(self, page: int = PAGE) -> None:
        self.fetched: list[bytes] = []
        self._page = page

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETINGS)
        while line := await reader.readline():
            tag, verb = line.split()[:2]
            if verb == b"FETCH":
                self.fetched.append(line.split()[2])
                writer.write(b"* 1 FETCH (UID 1)\r\n" * self._page)
            writer.write(tag + b" OK done\r\n")
        writer.close()


def test_pages_are_looked_at_in_turn_at_a_fixed_rate() -> None:
    server = Reader()
    with listening(server.serve) as to:
        latencies = fetch_pages(PagesPlan(to, "a", "b", 150, 0.5, 40.0, warm=0.1))
    assert server.fetched[:4] == [b"1:50", b"51:100", b"101:150", b"1:50"]
    assert len(server.fetched) == 24
    assert len(latencies) == 20


def test_a_page_that_comes_short_is_no_measurement() -> None:
    with listening(Reader(PAGE - 1).serve) as to, pytest.raises(BenchError, match="short"):
        fetch_pages(PagesPlan(to, "a", "b", 150, 0.5, 40.0))


def wait_for_stop(flags: Signals) -> str:
    flags.ready.set()
    return "told" if flags.stop.wait(20) else "not told"


def test_a_load_apart_says_when_it_is_under_way_and_hears_when_to_stop() -> None:
    flags = signals()
    with Apart(wait_for_stop, flags) as load:
        assert flags.ready.wait(20)
        assert not load.ended(0.05)
        flags.stop.set()
        # A string is how a child says what went wrong.
        with pytest.raises(BenchError, match=r"^told$"):
            load.result()
    assert get_context("spawn").active_children() == []
