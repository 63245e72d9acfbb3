"""The command line, made from the declarations of the operations.

Exit codes: 0 done, 1 refused, 2 misuse.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TextIO

from postroom.admin import client, codec, render
from postroom.admin.client import NotRunning, Refused
from postroom.admin.house import CheckReport
from postroom.admin.offline import OpenHouse, perform_offline
from postroom.core.errors import MailError, Malformed, Misuse
from postroom.core.operations import OPERATIONS, Operation

DONE: Final = 0
REFUSED: Final = 1
MISUSE: Final = 2
DATA: Final = "./data"
_STDIN_MAX: Final = 4096

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


# --- the parser -------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="postroom",
        description="Postroom, an all-in-one mail server.",
        epilog="Exit codes: 0 done, 1 refused, 2 misuse. `postroom COMMAND --help` says more.",
        allow_abbrev=False,
    )
    _common(root, DATA, False)
    branches: dict[tuple[str, ...], Any] = {(): root.add_subparsers(metavar="COMMAND")}
    for name, text in COMMANDS.items():
        branches[()].add_parser(name, help=text, add_help=False)
    for name, operation in sorted(OPERATIONS.items()):
        words = tuple(name.split())
        for depth in range(1, len(words)):
            if words[:depth] not in branches:
                above = branches[words[: depth - 1]]
                group = above.add_parser(
                    words[depth - 1], help=_group_help(words[:depth]), allow_abbrev=False
                )
                _common(group, argparse.SUPPRESS, argparse.SUPPRESS)
                branches[words[:depth]] = group.add_subparsers(metavar="VERB", required=True)
        _leaf(branches[words[:-1]], words[-1], operation)
    return root


def _group_help(words: tuple[str, ...]) -> str:
    verbs = [
        name.split()[len(words)] for name in OPERATIONS if name.split()[: len(words)] == [*words]
    ]
    return ", ".join(sorted(set(verbs)))


def _common(to: argparse.ArgumentParser, data: str, plain: Any) -> None:
    # Before and after the command alike: below the root an option that is not given says nothing.
    to.add_argument("--data", metavar="DIR", default=data, help=f"the data directory ({DATA})")
    to.add_argument("--json", action="store_true", default=plain, help="machine-readable output")


def _leaf(above: Any, word: str, operation: Operation) -> None:
    summary = " ".join(operation.summary.split())
    leaf = above.add_parser(
        word, help=first_sentence(summary), description=summary, allow_abbrev=False
    )
    _common(leaf, argparse.SUPPRESS, argparse.SUPPRESS)
    leaf.set_defaults(operation=operation)
    for each in dataclasses.fields(operation.input):
        _argument(leaf, each, codec.hints(operation.input)[each.name])


def _argument(leaf: argparse.ArgumentParser, each: dataclasses.Field[Any], kind: Any) -> None:
    said = each.metadata["help"].replace("%", "%%")
    if each.metadata["secret"]:
        leaf.add_argument(
            f"--{each.name}-stdin",
            dest=each.name,
            action="store_true",
            help=f"read it from standard input. {said}",
        )
        return
    options: dict[str, Any] = {"help": said}
    if isinstance(kind, type) and issubclass(kind, Enum):
        options["choices"] = [str(choice.value) for choice in kind]
    elif kind is int:
        options["type"] = int
    if is_positional(each):
        leaf.add_argument(each.name, **options)
    elif kind is bool:
        leaf.add_argument(flag(each.name), dest=each.name, action="store_true", help=said)
    else:
        if kind is int:
            options["metavar"] = "N"
        elif "choices" not in options:
            options["metavar"] = each.name.upper()
        leaf.add_argument(flag(each.name), dest=each.name, default=argparse.SUPPRESS, **options)


def is_positional(each: dataclasses.Field[Any]) -> bool:
    """Whether an input's field stands on the command line without its name."""
    return each.default is dataclasses.MISSING and not each.metadata["option"]


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".")


# --- the command ------------------------------------------------------------------------------


def main(argv: Sequence[str], ways: Ways, stdin: TextIO | None = None) -> int:
    """Run one command; the exit code."""
    try:
        given = parser().parse_args(argv)
    except SystemExit as ended:  # argparse says what is wrong, and exits with 2, or 0 for --help
        return ended.code if isinstance(ended.code, int) else MISUSE
    operation: Operation | None = getattr(given, "operation", None)
    if operation is None:
        parser().print_usage(sys.stderr)
        return MISUSE
    try:
        asked = _asked(operation, given, stdin if stdin is not None else sys.stdin)
        output = _perform(ways, given.data, operation, asked)
    except MailError as error:
        _complain(error, as_json=given.json)
        return MISUSE if isinstance(error, Misuse | Malformed) else REFUSED
    if given.json:
        print(json.dumps(codec.encode(output), indent=2))  # noqa: T201 - the command's output
    else:
        print(render.text(output))  # noqa: T201 - the command's output
    if isinstance(output, CheckReport) and output.problems:
        return REFUSED
    return DONE


def _asked(operation: Operation, given: argparse.Namespace, stdin: TextIO) -> Any:
    told: dict[str, Any] = {}
    for each in dataclasses.fields(operation.input):
        if not hasattr(given, each.name):
            continue
        value = getattr(given, each.name)
        if not each.metadata["secret"]:
            told[each.name] = value
        elif value:
            told[each.name] = _secret(each.name, stdin)
    return codec.decode(operation.input, told)


def _secret(name: str, stdin: TextIO) -> str:
    """The first line of standard input; raises Misuse if there is none."""
    line = stdin.readline(_STDIN_MAX).rstrip("\r\n")
    if not line:
        raise Misuse(f"There is no {name} on standard input")
    return line


def _perform(ways: Ways, data: str, operation: Operation, asked: Any) -> Any:
    """Ask the running server, or do it ourselves if there is none."""
    try:
        told = client.call(ways.control_socket(data), operation.name, codec.encode(asked))
    except NotRunning:
        return perform_offline(ways.open_house, data, operation.name, asked)
    return codec.decode(operation.output, told)


def _complain(error: MailError, *, as_json: bool) -> None:
    if as_json:
        status = error.status_text if isinstance(error, Refused) else str(error.status)
        print(json.dumps({"error": {"status": status, "sentence": str(error)}}))  # noqa: T201 - as above
    else:
        print(f"postroom: {render.visible(str(error))}", file=sys.stderr)  # noqa: T201 - as above
