"""The command `postroom`: dispatch only."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from postroom.admin import cli
from postroom.core import log
from postroom.core.errors import NotFound
from postroom.mailflow.house import MailHouse
from postroom.server import house
from postroom.server.instance import Layout, wait_ready
from postroom.server.options import parse_ready
from postroom.server.privileges import account_for, drop

# Options that may stand before the command, and how many words follow each.
_BEFORE: Final = {"--data": 1, "--json": 0}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    log.configure("text", level="warning")
    at = _command(words)
    command = words[at] if at < len(words) else ""
    rest = words[:at] + words[at + 1 :]
    try:
        if command == "serve":
            # A fresh interpreter: the supervisor, and all that it forks, hold nothing of ours.
            program = [sys.executable, "-P", "-m", "postroom.server", *rest]
            os.execv(program[0], program)  # noqa: S606 - ourselves, with words and no shell
        if command == "ready":
            data, timeout = parse_ready(rest)
            return 0 if wait_ready(Layout(os.path.abspath(data)), timeout) else 1
        ways = cli.Ways(lambda data: _layout(data).control_socket, open_offline)
        return cli.main(words, ways)
    except BrokenPipeError:
        # Whoever read our output wants no more. Python would complain once again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except KeyboardInterrupt:
        return 130


def _command(words: Sequence[str]) -> int:
    """The position of the command among the words; past the end if there is none."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 1 + _BEFORE.get(words[at], 0)
    return at


def _layout(data: str) -> Layout:
    return Layout(os.path.abspath(data))


@asynccontextmanager
async def open_offline(data: str) -> AsyncIterator[MailHouse]:
    """The stores of a stopped server; raises NotFound if there are none yet."""
    layout = _layout(data)
    _prepare(layout)
    async with house.open_house(layout) as flow:
        yield flow


def _prepare(layout: Layout) -> None:
    boot = house.read_bootstrap(layout)
    if not boot.database_url and not os.path.exists(house.mail_path(layout)):
        raise NotFound(f"There is no store in {layout.root}; `postroom serve` makes one")
    owner = account_for(layout.root, None, port_offset=1)
    if os.geteuid() == 0 and not owner.is_root:
        drop(owner)  # what root makes here the server could not open
    house.migrate(layout, boot)


if __name__ == "__main__":
    sys.exit(main())
