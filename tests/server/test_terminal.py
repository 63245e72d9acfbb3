"""postroom.server.terminal: a command is told by the running server, or by nobody yet."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from postroom.core.terminal import MISUSE, REFUSED
from postroom.net.unix import listen_unix
from postroom.server.terminal import told_by_server


@contextmanager
def answering(path: str, answer: Callable[[dict[str, Any]], bytes]) -> Iterator[list[Any]]:
    """A server that answers each request of one connection, then goes."""
    asked: list[Any] = []

    def serve() -> None:
        peer, _ = listening.accept()
        with peer, peer.makefile("rb") as lines:
            for line in lines:
                asked.append(json.loads(line))
                told = answer(asked[-1])
                peer.sendall(told)
                if not told.endswith(b"\n"):
                    return

    with listen_unix(path) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(10)


def said(**output: Any) -> bytes:
    return json.dumps({"ok": True, "output": output}).encode() + b"\n"


def refused(sentence: str, *, misuse: bool) -> bytes:
    error = {"status": "5.0.0", "sentence": sentence, "misuse": misuse}
    return json.dumps({"ok": False, "error": error}).encode() + b"\n"


def test_the_server_says_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "control.sock")
    with answering(path, lambda _: said(out="ann\n", err="but\n", code=1, wants={})) as asked:
        assert told_by_server(path, ("account", "list")) == 1
    assert capsys.readouterr() == ("ann\n", "but\n")
    (request,) = asked
    assert request["operation"] == "typed"
    assert request["input"]["words"] == ["account", "list"]


def test_what_it_wants_is_brought(tmp_path: Path) -> None:
    path, file = str(tmp_path / "control.sock"), tmp_path / "town"
    file.write_text("format = 1\n", encoding="utf-8")

    def answer(request: dict[str, Any]) -> bytes:
        return said(code=3) if request["input"]["read"] else said(wants={"file": str(file)})

    with answering(path, answer) as asked:
        assert told_by_server(path, ("config", "diff", "town")) == 3
    assert asked[1]["input"]["read"] == {"file": "format = 1\n"}


def test_without_a_server_nothing_is_said_or_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told_by_server(str(tmp_path / "none" / "control.sock"), ("status",)) is None
    listen_unix(str(tmp_path / "dead.sock")).close()  # a killed server leaves it
    assert told_by_server(str(tmp_path / "dead.sock"), ("status",)) is None
    assert capsys.readouterr() == ("", "")


def test_what_it_cannot_do_is_left_to_us(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with answering(path, lambda _: said(alone=True)):
        assert told_by_server(path, ("restore", "copies")) is None


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (b"", REFUSED, "went away in the middle"),
        (b'{"ok": true', REFUSED, "went away in the middle"),
        (b"nonsense\n", REFUSED, "could not be understood"),
        (b"{}\n", REFUSED, "could not be understood"),
        (said(colour="red"), REFUSED, "could not be understood"),
        (refused("The server failed", misuse=False), REFUSED, "The server failed"),
        (refused("words holds what is no text", misuse=True), MISUSE, "no text"),
    ],
)
def test_a_broken_answer_is_no_success(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    answer: bytes,
    code: int,
    sentence: str,
) -> None:
    path = str(tmp_path / "control.sock")
    for words in (("status",), ("status", "--json")):
        with answering(path, lambda _: answer):
            assert told_by_server(path, words) == code
        out, err = capsys.readouterr()
        if "--json" in words:
            assert err == ""
            assert sentence in json.loads(out)["error"]["sentence"]
        else:
            assert out == ""
            assert sentence in err


def test_words_that_are_too_long_are_not_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "control.sock")
    with listen_unix(path) as listening:
        assert told_by_server(path, ("trace", "x" * (17 << 20))) == MISUSE
        listening.settimeout(5)
        peer, _ = listening.accept()
        with peer:
            assert peer.recv(1) == b""
    assert "too long" in capsys.readouterr().err
