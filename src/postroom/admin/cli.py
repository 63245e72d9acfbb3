"""The command line, made from the declarations of the operations.

`understood`, `wanted`, `asked`, `done` and `failed` are the steps of a command: a running server
takes them for whoever typed it (`typed`), `main` takes them where there is none.

Exit codes: 0 done, 1 refused, 2 misuse.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Final, NoReturn, Protocol, TextIO, runtime_checkable

from postroom.admin import client, codec, render
from postroom.admin.client import NotRunning, Refused
from postroom.admin.offline import (
    OpenHouse,
    OpenVacancy,
    no_vacancy,
    perform_offline,
    perform_vacant,
)
from postroom.core.errors import MailError, Malformed, Misuse
from postroom.core.operations import OPERATIONS, REASON, Operation
from postroom.core.terminal import DONE, LINE, MISUSE, REFUSED, STDIN, Answered, Typed, converse

__all__ = ["DONE", "MISUSE", "REFUSED", "Finds", "Ways", "main", "parser"]

DATA: Final = "./data"
FOLLOW: Final = "follow"
"""The argument of operations whose output goes on."""
_PERFORMED: Final = " operation"  # among what was given: no argument has such a name
ITSELF: Final = ""
"""Where a verb may stand: the operation that has the group's own name."""
_WIDTH: Final = 80
"""Columns of help where there is no terminal."""

# Commands that are no operations: the command `postroom` runs them itself.
COMMANDS: Final = {
    "serve": "Run the server",
    "ready": "Wait until the server accepts everywhere",
}


@dataclass(frozen=True, slots=True)
class Ways:
    """How a command reaches the stores of a data directory."""

    control_socket: Callable[[str], str]  # of a data directory
    open_house: OpenHouse
    vacancy: OpenVacancy = no_vacancy


@runtime_checkable
class Finds(Protocol):
    """An output that may say what is wrong: then the command has not done all that was asked."""

    @property
    def problems(self) -> tuple[str, ...]: ...


@runtime_checkable
class GoesOn(Protocol):
    """An output that more follows, for who asked for that with `follow`."""

    def goes_on(self) -> Mapping[str, str]:
        """What to ask with for that, by argument."""
        ...

    def more_told(self) -> str:
        """What is said of this piece, without any word on that it holds nothing."""
        ...

    def more_parts(self) -> tuple[object, ...]:
        """The same for machines, each for a line of its own."""
        ...


class _Ended(Exception):
    """The words were answered by the parser: with help, or with what is wrong about them."""

    def __init__(self, answered: Answered) -> None:
        super().__init__()
        self.answered = answered


class _Parser(argparse.ArgumentParser):
    """Prints nothing: whoever typed the words may be at another process."""

    several = ""
    """The argument that takes as many words as somebody likes."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but such words may stand after options too."""
        found, left = super().parse_known_args(args, namespace)
        if self.several:
            more = [word for word in left if not word.startswith("-")]
            if more:
                setattr(found, self.several, [*getattr(found, self.several, ()), *more])
            left = [word for word in left if word.startswith("-")]
        return found, left

    def print_help(self, file: Any = None) -> NoReturn:
        raise _Ended(Answered(out=self.format_help()))

    def error(self, message: str) -> NoReturn:
        said = f"{self.format_usage()}{self.prog}: error: {message}\n"
        raise _Ended(Answered(err=said, code=MISUSE))


# --- the parser -------------------------------------------------------------------------------


def parser(columns: int = 0) -> argparse.ArgumentParser:
    """The whole command line; its help is for a terminal of so many columns."""
    formatter = partial(argparse.HelpFormatter, width=(columns or _WIDTH) - 2)
    root = _Parser(
        prog="postroom",
        description="Postroom, an all-in-one mail server.",
        epilog="Exit codes: 0 done, 1 refused, 2 misuse. `postroom COMMAND --help` says more, "
        "`postroom --version` the release.",
        allow_abbrev=False,
        formatter_class=formatter,
    )
    _common(root, DATA, False)
    branches: dict[tuple[str, ...], Any] = {(): root.add_subparsers(metavar="COMMAND")}
    for name, text in COMMANDS.items():
        branches[()].add_parser(name, help=text, add_help=False)
    groups = _groups()
    for name, operation in sorted(OPERATIONS.items()):
        words = tuple(name.split())
        if words in groups:
            words = (*words, ITSELF)
        for depth in range(1, len(words)):
            if words[:depth] not in branches:
                above = branches[words[: depth - 1]]
                group = above.add_parser(
                    words[depth - 1],
                    help=_group_help(words[:depth]),
                    allow_abbrev=False,
                    formatter_class=formatter,
                )
                _common(group, argparse.SUPPRESS, argparse.SUPPRESS)
                branches[words[:depth]] = group.add_subparsers(metavar="VERB", required=True)
        _leaf(branches[words[:-1]], words[-1], operation, formatter)
    return root


def _groups() -> set[tuple[str, ...]]:
    """The words that verbs follow; some are an operation's name by themselves."""
    named = [tuple(name.split()) for name in OPERATIONS]
    return {words[:depth] for words in named for depth in range(1, len(words))}


def itself(argv: Sequence[str]) -> list[str]:
    """The words, with ITSELF put in where a group's own operation is meant and not its verb.

    `postroom backup TARGET` takes a backup, `postroom backup list TARGET` lists them; a folder
    called `list` is written `./list`.
    """
    words = list(argv)
    at = _next(words, 0)
    group = tuple(words[at : at + 1])
    if group not in _groups() or " ".join(group) not in OPERATIONS:
        return words
    after = _next(words, at + 1)
    if after >= len(words) or words[after] not in _verbs(group):
        words.insert(at + 1, ITSELF)
    return words


def _verbs(words: tuple[str, ...]) -> list[str]:
    """The words that may follow these."""
    named = [name.split() for name in OPERATIONS]
    depth = len(words)
    return sorted({name[depth] for name in named if name[depth:] and name[:depth] == [*words]})


def _next(words: Sequence[str], at: int) -> int:
    """Where the next word stands that is no option of every command."""
    while at < len(words):
        if words[at] == "--data":
            at += 2
        elif words[at] == "--json" or words[at].startswith("--data="):
            at += 1
        else:
            break
    return at


def _group_help(words: tuple[str, ...]) -> str:
    verbs = ", ".join(_verbs(words))
    own = OPERATIONS.get(" ".join(words))
    return verbs if own is None else f"{first_sentence(own.summary)}; or {verbs}"


def _common(to: argparse.ArgumentParser, data: str, plain: Any) -> None:
    # Before and after the command alike: below the root an option that is not given says nothing.
    to.add_argument("--data", metavar="DIR", default=data, help=f"the data directory ({DATA})")
    to.add_argument("--json", action="store_true", default=plain, help="machine-readable output")


def _leaf(above: Any, word: str, operation: Operation, formatter: Any) -> None:
    summary = " ".join(operation.summary.split())
    verbs = _verbs(tuple(operation.name.split()))
    leaf = above.add_parser(
        word,
        prog=f"postroom {operation.name}",
        help=first_sentence(summary),
        description=summary,
        epilog=f"Or `{operation.name} VERB`: {', '.join(verbs)}." if verbs else None,
        allow_abbrev=False,
        formatter_class=formatter,
    )
    _common(leaf, argparse.SUPPRESS, argparse.SUPPRESS)
    leaf.set_defaults(**{_PERFORMED: operation})
    for argument in operation.arguments():
        _argument(leaf, argument.field, argument.kind)


def _argument(leaf: _Parser, each: dataclasses.Field[Any], kind: Any) -> None:
    said = (each.metadata["help"] + _default(each)).replace("%", "%%")
    if each.metadata["secret"]:
        leaf.add_argument(
            f"--{each.name}-stdin",
            dest=each.name,
            action="store_true",
            help=f"read it from standard input. {said}",
        )
        return
    options: dict[str, Any] = {"help": said}
    if each.metadata["document"]:
        options["metavar"] = "FILE"
    if isinstance(kind, type) and issubclass(kind, Enum):
        options["choices"] = [str(choice.value) for choice in kind]
    elif kind is int:
        options["type"] = int
    if each.default == ():  # as many words as somebody likes, after the others
        options["metavar"] = each.name.upper().removesuffix("S")
        leaf.add_argument(each.name, nargs="*", default=argparse.SUPPRESS, **options)
        leaf.several = each.name
    elif is_positional(each):
        leaf.add_argument(each.name, **options)
    elif kind is bool:
        leaf.add_argument(flag(each.name), dest=each.name, action="store_true", help=said)
    else:
        if kind is int:
            options["metavar"] = "N"
        elif "choices" not in options:
            options["metavar"] = each.name.upper()
        leaf.add_argument(flag(each.name), dest=each.name, default=argparse.SUPPRESS, **options)


def _default(each: dataclasses.Field[Any]) -> str:
    if each.default is dataclasses.MISSING or isinstance(each.default, bool) or not each.default:
        return ""
    return f" ({each.default})"


def is_positional(each: dataclasses.Field[Any]) -> bool:
    """Whether an input's field stands on the command line without its name."""
    return each.default == () or (
        each.default is dataclasses.MISSING and not each.metadata["option"]
    )


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


# --- the steps of a command ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Understood:
    """What was typed, as the declarations have it."""

    operation: Operation
    values: Mapping[str, Any]  # by argument, for those that were given
    data: str
    as_json: bool
    columns: int


def understood(typed: Typed) -> Understood | Answered:
    """What the words ask for; or what is said to them, as they are for help or wrong."""
    words = itself(typed.words)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    try:
        given = _shared(typed.columns).parse_args(words)
        operation: Operation | None = getattr(given, _PERFORMED, None)
        if operation is None:
            _shared(typed.columns).error("a COMMAND is missing")
    except _Ended as ended:
        return ended.answered
    values = vars(given)
    told = {
        each.field.name: values[each.field.name]
        for each in operation.arguments()
        if each.field.name in values
    }
    return Understood(operation, told, given.data, given.json, typed.columns)


_shared = lru_cache(maxsize=8)(parser)


def wanted(command: Understood, typed: Typed) -> dict[str, str]:
    """What has to be read where the words were typed, and was not yet."""
    found: dict[str, str] = {}
    for each in command.operation.arguments():
        name, value = each.field.name, command.values.get(each.field.name)
        if not value or name in typed.read or name in typed.unread:
            continue
        if each.field.metadata["document"]:
            found[name] = STDIN if value == STDIN else os.path.join(typed.folder, value)
        elif each.field.metadata["secret"]:
            found[name] = LINE
    return found


def asked(command: Understood, typed: Typed) -> tuple[Any, str]:
    """The operation's input, and the reason that was given; raises Misuse."""
    operation = command.operation
    told: dict[str, Any] = {}
    for each in operation.arguments():
        name, metadata = each.field.name, each.field.metadata
        if name in typed.unread:
            raise Misuse(typed.unread[name])
        if name in typed.read:
            told[name] = typed.read[name]
            if metadata["secret"] and not told[name]:
                raise Misuse(f"There is no {name} on standard input")
        elif name in command.values and not metadata["secret"]:
            value = command.values[name]
            told[name] = _whole(typed.folder, value) if metadata["path"] else value
    own = {each.name for each in dataclasses.fields(operation.input)}
    reason = told.pop(REASON, "") if REASON not in own else ""
    return codec.decode(operation.input, told), reason


def _whole(folder: str, path: str) -> str:
    """A path as any process may follow it; raises Misuse."""
    whole = os.path.normpath(os.path.join(folder, path))
    if not os.path.isabs(whole):
        raise Misuse(f"{path} leads nowhere: the folder that you are in is gone")
    return whole


def done(command: Understood, output: object) -> Answered:
    """What is said when it is done."""
    if command.values.get(FOLLOW) and isinstance(output, GoesOn):
        return _one_of_many(command, output)
    if command.as_json:
        out = json.dumps(codec.encode(output), indent=2)
    else:
        out = render.text(output, command.columns)
    found = isinstance(output, Finds) and output.problems
    return Answered(out=f"{out}\n", code=REFUSED if found else DONE)


def _one_of_many(command: Understood, output: GoesOn) -> Answered:
    """What is said of a piece, where more follows."""
    if command.as_json:
        said = [json.dumps(codec.encode(each)) for each in output.more_parts()]
    else:
        told = render.visible(output.more_told())
        said = [told] if told else []
    return Answered(out="".join(f"{each}\n" for each in said), goes_on=output.goes_on())


def failed(command: Understood, error: MailError, detail: str = "") -> Answered:
    """What is said when it was refused."""
    code = MISUSE if isinstance(error, Misuse | Malformed) else REFUSED
    sentence = f"{error} ({detail})" if detail else str(error)
    if command.as_json:
        status = error.status_text if isinstance(error, Refused) else str(error.status)
        told = {"error": {"status": status, "sentence": sentence}}
        return Answered(out=f"{json.dumps(told)}\n", code=code)
    return Answered(err=f"postroom: {render.visible(sentence)}\n", code=code)


# --- a command of this process --------------------------------------------------------------------


def main(argv: Sequence[str], ways: Ways, stdin: TextIO | None = None) -> int:
    """Run one command; the exit code."""
    come = sys.stdin if stdin is None else stdin
    code = converse(partial(_answer, ways), argv, come, sys.stdout, sys.stderr)
    assert code is not None  # we are the one that does it alone
    return code


def _answer(ways: Ways, typed: Typed) -> Answered:
    command = understood(typed)
    if isinstance(command, Answered):
        return command
    wants = wanted(command, typed)
    if wants:
        return Answered(wants=wants)
    try:
        told, reason = asked(command, typed)
        return done(command, _perform(ways, command, told, reason))
    except Refused as error:  # by the server, whose log says more
        return failed(command, error)
    except MailError as error:
        # There is no log here to look into, and whoever reads the store may know all.
        typed_wrong = isinstance(error, Misuse | Malformed)
        return failed(command, error, "" if typed_wrong else error.detail)


def _perform(ways: Ways, command: Understood, told: Any, reason: str) -> Any:
    """Ask the running server, or do it ourselves if there is none."""
    operation, data = command.operation, command.data
    if operation.makes_store:
        return perform_vacant(ways.vacancy, data, operation, told)
    try:
        answer = client.call(ways.control_socket(data), operation.name, codec.encode(told), reason)
    except NotRunning:
        return perform_offline(ways.open_house, data, operation.name, told, reason)
    return codec.decode(operation.output, answer)
