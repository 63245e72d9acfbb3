"""postroom.server.ask: questions between workers, over real sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.admin.questions import FindMetrics, MetricsFound
from postroom.core.bus import Missing, NoAnswer, Question
from postroom.server import ask
from postroom.server.ask import FORMS, Form, ask_path
from postroom.server.bus import MachineBus

SRC = str(Path(__file__).parents[2] / "src")


@dataclass(frozen=True, slots=True)
class HowMany(Question["Many"]):
    """As many letters as that."""

    letters: int


@dataclass(frozen=True, slots=True)
class Many:
    letters: str


TEST_FORMS = (*FORMS, Form(200, HowMany, Many))


async def letters(asked: HowMany) -> Many:
    return Many("a" * asked.letters)


@asynccontextmanager
async def buses(run: Path, count: int, of: int = 0) -> AsyncIterator[list[MachineBus]]:
    """The first `count` workers `of` so many."""
    made = [MachineBus(str(run), index, of or count, forms=TEST_FORMS) for index in range(count)]
    for each in made:
        each.start()
    try:
        yield made
    finally:
        for each in made:
            each.close()


async def test_every_worker_is_asked_and_answers_for_itself(tmp_path: Path) -> None:
    async with buses(tmp_path, 3) as made:
        for index, bus in enumerate(made):

            async def answer(asked: FindMetrics, mine: int = index) -> MetricsFound:
                return MetricsFound({"mine": mine})

            bus.answer(FindMetrics, answer)
        for bus in made:
            answers = await bus.ask(FindMetrics())
            assert {w: found.metrics["mine"] for w, found in answers.by.items()} == {
                0: 0,
                1: 1,
                2: 2,
            }
            assert answers.missing == {}


async def test_an_answer_may_be_far_longer_than_a_datagram(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        first.answer(HowMany, letters)
        second.answer(HowMany, letters)
        answers = await first.ask(HowMany(3_000_000))
        assert [len(answers.by[w].letters) for w in (0, 1)] == [3_000_000, 3_000_000]


async def test_one_that_has_too_much_to_say_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "ANSWER_MAX", 10_000)
    async with buses(tmp_path, 2) as (first, second):
        second.answer(HowMany, letters)
        first.answer(HowMany, letters)
        answers = await first.ask(HowMany(10_000))
        assert answers.missing == {1: Missing.TOO_LARGE}
        assert set(answers.by) == {0}  # what stays in the process has no bound


async def test_a_worker_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    async with buses(tmp_path, 1, of=3) as (bus,):
        bus.answer(HowMany, letters)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(ask_path(str(tmp_path), 2))  # left by one that was killed
        async with asyncio.timeout(1):
            answers = await bus.ask(HowMany(1), 30)
        assert answers.missing == {1: Missing.GONE, 2: Missing.GONE}
        assert answers.by == {0: Many("a")}


async def test_one_that_is_late_is_named_and_heard_no_more(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        begun, ended = asyncio.Event(), asyncio.Event()

        async def slow(asked: HowMany) -> Many:
            begun.set()
            await ended.wait()
            return Many("too late")

        first.answer(HowMany, letters)
        stop = second.answer(HowMany, slow)
        answers = await first.ask(HowMany(1), 0.1)
        assert begun.is_set()
        assert answers.missing == {1: Missing.LATE}
        ended.set()
        stop()
        second.answer(HowMany, letters)
        assert (await first.ask(HowMany(2))).by == {0: Many("aa"), 1: Many("aa")}


async def test_we_ourselves_may_be_late_too(tmp_path: Path) -> None:
    async with buses(tmp_path, 1) as (bus,):

        async def never(asked: HowMany) -> Many:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        bus.answer(HowMany, never)
        assert (await bus.ask(HowMany(1), 0.05)).missing == {0: Missing.LATE}


async def test_one_whose_answer_fails_is_named_and_goes_on(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, second):
        first.answer(HowMany, letters)

        async def broken(asked: HowMany) -> Many:
            raise ZeroDivisionError

        stop = second.answer(HowMany, broken)
        assert (await first.ask(HowMany(1))).missing == {1: Missing.FAILED}
        stop()
        assert (await first.ask(HowMany(1))).missing == {1: Missing.STRANGE}  # nobody answers it
        second.answer(HowMany, letters)
        assert (await first.ask(HowMany(1))).missing == {}


async def test_a_question_without_a_form_is_a_mistake_of_ours(tmp_path: Path) -> None:
    async with buses(tmp_path, 2) as (first, _):

        @dataclass(frozen=True, slots=True)
        class Unknown(Question[Many]):
            pass

        with pytest.raises(TypeError, match="Unknown has no form"):
            await first.ask(Unknown())


async def test_two_cannot_answer_one_question(tmp_path: Path) -> None:
    async with buses(tmp_path, 1) as (bus,):
        bus.answer(HowMany, letters)
        with pytest.raises(ValueError, match="HowMany"):
            bus.answer(HowMany, letters)


async def test_many_questions_at_a_time_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "AT_ONCE", 2)
    async with buses(tmp_path, 2) as (first, second):
        at_once = most = 0

        async def counted(asked: HowMany) -> Many:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.005)
            at_once -= 1
            return Many("a")

        first.answer(HowMany, letters)
        second.answer(HowMany, counted)
        answers = await asyncio.gather(*(first.ask(HowMany(1)) for _ in range(20)))
        assert all(each.by[1] == Many("a") for each in answers)
        assert most == 2


async def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    async with buses(tmp_path, 1):
        assert stat.S_IMODE(os.stat(ask_path(str(tmp_path), 0)).st_mode) == 0o600
    assert not os.path.exists(ask_path(str(tmp_path), 0))


# --- what is no question, and what is no answer -------------------------------------------------


async def said_to(run: Path, octets: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(ask_path(str(run), 0))
    writer.write(octets)
    writer.write_eof()
    heard = await reader.read()
    writer.close()
    return heard


STRANGE = b"\x51\x01\x03" + bytes(4)


async def test_what_cannot_be_understood_is_answered_so(tmp_path: Path) -> None:
    async with buses(tmp_path, 1) as (bus,):
        bus.answer(HowMany, letters)
        for octets in (
            b"\x51\x02\xc8\x00\x00\x00\x00",  # another version
            b"\x51\x01\xc7\x00\x00\x00\x00",  # an unknown question
            b"\x51\x01\xc8\xff\xff\xff\xff",  # longer than a question is
            b"\x51\x01\xc8\x00\x00\x00\x01{",
            b"\x51\x01\xc8\x00\x00\x00\x02{}",
            b"\x51\x01\xc8\x00\x00\x00\x0f" + b'{"letters":"x"}',
        ):
            assert await said_to(tmp_path, octets) == STRANGE
        assert await said_to(tmp_path, b"\x51\x01") == b""  # not even a head


@given(st.binary(max_size=100))
@settings(max_examples=60, deadline=None)
def test_any_octets_are_an_answer_or_none(octets: bytes) -> None:
    form = TEST_FORMS[-1]

    async def read() -> None:
        try:
            assert isinstance(await ask._read(form, octets, 1), Many)
        except NoAnswer as error:
            assert error.why is Missing.STRANGE

    asyncio.run(read())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", Missing.GONE),  # it died over the question
        (b"\x51\x01\x00\x00\x00\x00\x09{", Missing.GONE),  # or over the answer
        (b"\x50\x01\x00\x00\x00\x00\x00", Missing.STRANGE),
        (b"\x51\x09\x00\x00\x00\x00\x00", Missing.STRANGE),
        (b"\x51\x01\x09\x00\x00\x00\x00", Missing.STRANGE),
        (b"\x51\x01\x00\x00\x00\x00\x02[]", Missing.STRANGE),
        (b"\x51\x01\x00\xff\xff\xff\xff", Missing.TOO_LARGE),
        (b"\x51\x01\x02\x00\x00\x00\x00", Missing.TOO_LARGE),
    ],
)
async def test_an_answer_that_is_none_names_its_worker(
    tmp_path: Path, answer: bytes, why: Missing
) -> None:
    async with buses(tmp_path, 1, of=2) as (bus,):
        bus.answer(HowMany, letters)

        async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(answer)
            writer.close()

        server = await asyncio.start_unix_server(odd, ask_path(str(tmp_path), 1))
        async with server:
            answers = await bus.ask(HowMany(1))
        assert answers.missing == {1: why}
        assert answers.by == {0: Many("a")}


async def test_what_follows_an_answer_is_not_heard(tmp_path: Path) -> None:
    async with buses(tmp_path, 1, of=2) as (bus,):
        bus.answer(HowMany, letters)

        async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            for said in (b'{"letters":"a"}', b'{"letters":"b"}'):
                writer.write(b"\x51\x01\x00\x00\x00\x00" + bytes((len(said),)) + said)
            writer.close()

        server = await asyncio.start_unix_server(twice, ask_path(str(tmp_path), 1))
        async with server:
            assert (await bus.ask(HowMany(1))).by[1] == Many("a")


# --- two processes ------------------------------------------------------------------------------

OTHER = """
import asyncio, os, sys
import uvloop
from postroom.admin.questions import FindMetrics, MetricsFound
from postroom.server.bus import MachineBus

async def main():
    bus = MachineBus(sys.argv[1], 1, 2)
    bus.start()
    asked = 0
    async def answer(question):
        nonlocal asked
        asked += 1
        if asked > 1:
            os.kill(os.getpid(), 9)
        return MetricsFound({"process": os.getpid()})
    bus.answer(FindMetrics, answer)
    print("ready", flush=True)
    await asyncio.sleep(20)

uvloop.run(main())
"""


async def test_a_worker_that_dies_over_the_question_is_named(tmp_path: Path) -> None:
    async with buses(tmp_path, 1, of=2) as (bus,):

        async def answer(asked: FindMetrics) -> MetricsFound:
            return MetricsFound({})

        bus.answer(FindMetrics, answer)
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": SRC},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
            answers = await bus.ask(FindMetrics())
            assert answers.by[1].metrics == {"process": other.pid}
            answers = await bus.ask(FindMetrics())
            assert (set(answers.by), answers.missing) == ({0}, {1: Missing.GONE})
            assert await asyncio.to_thread(other.wait, 10) == -signal.SIGKILL
            assert (await bus.ask(FindMetrics())).missing == {1: Missing.GONE}
        finally:
            other.kill()
            other.communicate()
