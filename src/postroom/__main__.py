"""The command `postroom`: dispatch only.

A command is mostly for a running server, which understands and performs it. So this process
imports next to nothing; where that is not enough it becomes one that does the rest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from postroom import __version__
from postroom.core.terminal import DONE, unbroken
from postroom.server.instance import Layout
from postroom.server.terminal import told_by_server

_DATA: Final = "--data"
_DEFAULT: Final = "./data"
_BEFORE: Final = {_DATA: 1, "--json": 0}
"""Options that may stand before the command, and how many words follow each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = _command(words)
    command = words[at] if at < len(words) else ""
    rest = words[:at] + words[at + 1 :]
    if command == "serve":
        # A fresh interpreter: the supervisor, and all that it forks, hold nothing of ours.
        _become("postroom.server", rest)
    if command == "ready":
        _become("postroom.server.ready", rest)
    if words == ["--version"]:
        print(f"Postroom {__version__}")  # noqa: T201 - the command's output
        return DONE
    return unbroken(lambda: _performed(words))


def _performed(words: Sequence[str]) -> int:
    layout = Layout(os.path.abspath(_data(words)))
    code = told_by_server(layout.control_socket, words)
    if code is None:
        _become("postroom.server.command", words)
    return code


def _become(module: str, words: Sequence[str]) -> NoReturn:
    """Go on as another program of ours, in this process."""
    program = [sys.executable, "-P", "-m", module, *words]
    os.execv(program[0], program)  # noqa: S606 - ourselves, with words and no shell


def _command(words: Sequence[str]) -> int:
    """The position of the command among the words; past the end if there is none."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 1 + _BEFORE.get(words[at], 0)
    return at


def _data(words: Sequence[str]) -> str:
    """The data directory, wherever it stands among the words: the last one counts."""
    found = _DEFAULT
    for at, word in enumerate(words):
        if word == "--":
            break
        if word == _DATA and at + 1 < len(words):
            found = words[at + 1]
        elif word.startswith(f"{_DATA}="):
            found = word.removeprefix(f"{_DATA}=")
    return found


if __name__ == "__main__":
    sys.exit(main())
