"""postroom.core.terminal: what goes between who typed a command and who understands it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.core import terminal
from postroom.core.terminal import LINE, MISUSE, STDIN, Answered, Typed, converse


def conversation(
    ask: Callable[[Typed], Answered], *words: str, stdin: str = ""
) -> tuple[int | None, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = converse(ask, words, io.StringIO(stdin), out, err)
    return code, out.getvalue(), err.getvalue()


def test_the_answer_is_said_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Typed] = []

    def ask(typed: Typed) -> Answered:
        asked.append(typed)
        return Answered("done\n", "but\n", MISUSE)

    assert conversation(ask, "paint", "it") == (MISUSE, "done\n", "but\n")
    assert asked == [Typed(("paint", "it"), str(tmp_path), 0)]


def test_what_is_wanted_is_read_here_and_asked_with_once_more(tmp_path: Path) -> None:
    file = tmp_path / "town"
    file.write_text("Königsberg\n", encoding="utf-8")
    (tmp_path / "odd").write_bytes(b"\xff")
    wants = {
        "document": str(file),
        "password": LINE,
        "rest": STDIN,
        "gone": str(tmp_path / "gone"),
        "odd": str(tmp_path / "odd"),
    }
    asked: list[Typed] = []

    def ask(typed: Typed) -> Answered:
        asked.append(typed)
        return Answered("ok\n") if len(asked) == 2 else Answered(wants=wants)

    assert conversation(ask, "x", stdin="first\r\nsecond\nthird\n") == (0, "ok\n", "")
    assert asked[1].read == {
        "document": "Königsberg\n",
        "password": "first",
        "rest": "second\nthird\n",
    }
    assert asked[1].unread["gone"].endswith("gone cannot be read: No such file or directory")
    assert asked[1].unread["odd"].endswith("odd cannot be read: it is no text in UTF-8")
    assert "first" not in repr(asked[1])


def test_what_only_another_process_can_do_says_nothing() -> None:
    assert conversation(lambda typed: Answered("no\n", alone=True), "restore") == (None, "", "")


def test_a_folder_that_is_gone_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert conversation(lambda typed: Answered(typed.folder or "nowhere"), "x")[1] == "nowhere"
    finally:
        os.chdir(tmp_path)


def test_a_terminal_has_its_columns() -> None:
    first, second = os.openpty()
    with open(first, "rb"), open(second, "w", encoding="utf-8") as out:
        os.set_inheritable(second, False)
        terminal_of: list[int] = []

        def ask(typed: Typed) -> Answered:
            terminal_of.append(typed.columns)
            return Answered()

        converse(ask, ("x",), io.StringIO(), out, io.StringIO())
        assert terminal_of == [os.get_terminal_size(second).columns]


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (None, 7)])
def test_a_command_that_is_stopped_has_its_code(
    error: type[BaseException] | None, code: int
) -> None:
    def run() -> int:
        if error is not None:
            raise error
        return 7

    assert terminal.unbroken(run) == code
