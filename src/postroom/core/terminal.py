"""A command that somebody typed, and what is said to them.

The process that they started is not the one that understands them: a running server reads the
words, performs them and finds the sentences; without one a slower process does. What lies where
the person is goes with the words: the folder, the width of the terminal, files and standard
input. So this module imports little, and a command starts fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TextIO

LINE: Final = "the first line of standard input"
STDIN: Final = "-"
TEXT_MAX: Final = 16 * 1024 * 1024
LINE_MAX: Final = 4096
"""Characters of a file, and of a line."""

REQUEST_MAX: Final = 16 * 1024 * 1024
ANSWER_MAX: Final = 256 * 1024 * 1024
"""Octets of a line to a running server, and of one from it, with their ends."""

DONE: Final = 0
REFUSED: Final = 1
MISUSE: Final = 2


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody typed, and where."""

    words: tuple[str, ...]
    folder: str = ""  # that they are in; relative paths begin there
    columns: int = 0  # of the terminal that the output goes to; 0: it goes elsewhere
    # What an answer wanted, by the names of arguments. It may hold secrets: never logged.
    read: Mapping[str, str] = field(default_factory=dict, metadata={"secret": True}, repr=False)
    unread: Mapping[str, str] = field(default_factory=dict)  # why it could not be read


@dataclass(frozen=True, slots=True)
class Answered:
    """What is said, with the exit code; or what is wanted first."""

    out: str = ""
    err: str = ""
    code: int = DONE
    wants: Mapping[str, str] = field(default_factory=dict)  # LINE, STDIN or a path, by argument
    alone: bool = False  # whether only a process without a server can do it
    # What to ask again with once this is said, by argument: more is to come.
    goes_on: Mapping[str, str] = field(default_factory=dict)


def converse(
    ask: Callable[[Typed], Answered],
    words: Sequence[str],
    stdin: TextIO,
    stdout: TextIO,
    stderr: TextIO,
) -> int | None:
    """Ask, bring what is wanted, say the answer, and go on for as long as there is more to come;
    the exit code, or None for what `ask` must do alone. Raises what `ask` raises."""
    typed = Typed(tuple(words), _folder(), _columns(stdout))
    answered = ask(typed)
    if answered.wants:
        answered = ask(_brought(typed, answered.wants, stdin))
    if answered.alone:
        return None
    while answered.goes_on:
        # What was said has to be taken before more is asked for: no process holds it meanwhile.
        stdout.write(answered.out)
        stdout.flush()
        typed = replace(typed, read={**typed.read, **answered.goes_on})
        answered = ask(typed)
    stdout.write(answered.out)
    stdout.flush()
    stderr.write(answered.err)
    return answered.code


def _brought(typed: Typed, wants: Mapping[str, str], stdin: TextIO) -> Typed:
    read: dict[str, str] = {}
    unread: dict[str, str] = {}
    for name, source in wants.items():
        try:
            read[name] = _read(source, stdin)
        except OSError as error:
            unread[name] = f"{source} cannot be read: {error.strerror or error}"
        except UnicodeDecodeError:
            unread[name] = f"{source} cannot be read: it is no text in UTF-8"
    return replace(typed, read=read, unread=unread)


def _read(source: str, stdin: TextIO) -> str:
    """Raises OSError, UnicodeDecodeError."""
    if source == LINE:
        return stdin.readline(LINE_MAX).rstrip("\r\n")
    if source == STDIN:
        return stdin.read(TEXT_MAX)
    with open(source, encoding="utf-8") as file:
        return file.read(TEXT_MAX)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


def _columns(stdout: TextIO) -> int:
    if not stdout.isatty():
        return 0
    try:
        return os.get_terminal_size(stdout.fileno()).columns
    except OSError:
        return 0


def unbroken(run: Callable[[], int]) -> int:
    """Run a command; the exit code, also if its reader goes away or somebody presses Ctrl-C."""
    try:
        return run()
    except BrokenPipeError:
        # Whoever read our output wants no more. Python would complain once again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return REFUSED
    except KeyboardInterrupt:
        return 130  # as a shell says it: 128 and the number of SIGINT
