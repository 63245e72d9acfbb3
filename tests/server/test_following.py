"""`log tail --follow`: lines of all workers as they come, and what a slow reader is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from postroom.admin.questions import FindLines
from postroom.core import log
from postroom.core.log import Recent
from postroom.net.unix import listen_unix
from postroom.server.answers import Answering
from postroom.server.terminal import told_by_server
from tests.walking import DOMAIN, ENVIRONMENT, PROGRAM, Walking

PATIENCE = 20.0
ADMIN = f"admin@{DOMAIN}"


def test_what_came_after_a_line_and_how_much_of_it_is_gone() -> None:
    recent = Recent(lines=3)
    assert recent.after(0) == ((), 0, 0)
    for n in range(1, 6):
        recent.add(f"line {n}", 6)
    assert recent.after(4) == (("line 5",), 5, 0)
    assert recent.after(5) == ((), 5, 0)
    assert recent.after(2) == (("line 3", "line 4", "line 5"), 5, 0)
    assert recent.after(0) == (("line 3", "line 4", "line 5"), 5, 2)
    recent.clear()
    assert recent.after(4) == ((), 5, 1)


async def test_a_worker_answers_from_a_place_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = Recent(lines=3)
    monkeypatch.setattr(log, "RECENT", recent)
    worker = Answering(1, ())

    async def found(place: str, session: str = "") -> tuple[tuple[str, ...], str, int]:
        after = {"0": "7.7", "1": place} if place else {}
        answer = await worker.lines(FindLines(10, session, after=after))
        return answer.lines, answer.place, answer.lost

    recent.add('{"session":"s1"}', 16)
    first, place, lost = await found("")
    assert (first, place, lost) == (('{"session":"s1"}',), f"{os.getpid()}.1", 0)
    assert await found(place) == ((), place, 0)
    for n in range(2, 7):
        recent.add(f'{{"session":"s{n}"}}', 16)
    lines, after, lost = await found(place)
    assert (len(lines), after, lost) == (3, f"{os.getpid()}.6", 2)
    assert await found(place, "s5") == (('{"session":"s5"}',), after, 2)
    # The place of a process that died, whose worker this one is now: all that it has.
    assert (await found("1.500")) == (lines, after, 0)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("following"))
    try:
        walking.start()
        yield walking
    finally:
        walking.close()


class Reader:
    """`log tail --follow` in a process of its own."""

    def __init__(self, house: Walking, *words: str) -> None:
        command = [*PROGRAM, "--data", str(house.data), "log", "tail", "--follow", *words]
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
        )
        self.lines: list[str] = []
        self._read = threading.Thread(target=self._reads)
        self._read.start()

    def _reads(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text: str) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for line in self.lines:
                if text in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{text} did not come, but {self.lines}")

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C: the exit code, and what was said on stderr."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        self._read.join(PATIENCE)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        with self.process.stderr, self.process.stdout:
            return code, self.process.stderr.read()


@pytest.fixture
def following(house: Walking) -> Iterator[Callable[..., Reader]]:
    """Begins to follow, with more words; whoever still does at the end of a test is let go."""
    readers: list[Reader] = []

    def begin(*words: str) -> Reader:
        readers.append(Reader(house, *words))
        return readers[-1]

    yield begin
    for reader in readers:
        if reader.process.poll() is None:
            reader.interrupt()


def test_lines_come_until_ctrl_c(house: Walking, following: Callable[..., Reader]) -> None:
    plain, machine = following("--lines", "1"), following("--json")
    house.postroom("alias", "create", f"first@{DOMAIN}", ADMIN)
    first = plain.wait_for("first@")
    assert "postroom.admin: operation performed" in first
    house.postroom("alias", "create", f"second@{DOMAIN}", ADMIN)
    plain.wait_for("second@")
    told = json.loads(machine.wait_for("second@"))
    assert told["line"]["operation"] == "alias create"
    assert all(isinstance(json.loads(line), dict) for line in machine.lines)
    for reader in (plain, machine):
        assert reader.interrupt() == (130, "")
        assert sum("first@" in line for line in reader.lines) == 1, "each line comes once"


def test_what_is_followed_is_filtered(house: Walking, following: Callable[..., Reader]) -> None:
    reader = following("--id", "third@")
    for local in ("other", "third"):
        house.postroom("alias", "create", f"{local}@{DOMAIN}", ADMIN)
    reader.wait_for("third@")
    reader.interrupt()
    assert not any("other@" in line for line in reader.lines)


# --- the terminal -------------------------------------------------------------------------------


def said(**output: Any) -> bytes:
    return json.dumps({"ok": True, "output": output}).encode() + b"\n"


def test_who_was_let_go_asks_again_from_the_same_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that pauses is silent for longer than a connection may be."""
    path = str(tmp_path / "control.sock")
    asked: list[Any] = []

    def serve() -> None:
        for answer in (said(out="one\n", goes_on={"after": "0:1.1"}), said(out="two\n", code=3)):
            peer, _ = listening.accept()
            with peer, peer.makefile("rb") as lines:
                asked.append(json.loads(lines.readline()))
                peer.sendall(answer)

    with listen_unix(path) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        assert told_by_server(path, ("log", "tail", "--follow")) == 3
        thread.join(10)
    assert capsys.readouterr() == ("one\ntwo\n", "")
    assert [each["input"]["read"] for each in asked] == [{}, {"after": "0:1.1"}]
