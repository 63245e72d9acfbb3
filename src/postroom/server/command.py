"""`python -m postroom.server.command`: what the command `postroom` becomes where no server runs.

It holds the whole house, and does alone what was typed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from postroom.admin import cli
from postroom.core import log
from postroom.core.errors import NotFound
from postroom.core.terminal import unbroken
from postroom.mailflow.house import MailHouse
from postroom.server import house
from postroom.server.instance import Layout
from postroom.server.privileges import account_for, drop
from postroom.server.vacancy import vacant


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit code."""
    log.configure("text", level="warning")
    ways = cli.Ways(
        lambda data: _layout(data).control_socket,
        open_offline,
        lambda data: vacant(_layout(data)),
    )
    return unbroken(lambda: cli.main(argv, ways))


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
    house.refuse_unfinished(layout)
    boot = house.read_bootstrap(layout)
    if not boot.database_url and not os.path.exists(house.mail_path(layout)):
        raise NotFound(f"There is no store in {layout.root}; `postroom serve` makes one")
    owner = account_for(layout.root, None, port_offset=1)
    if os.geteuid() == 0 and not owner.is_root:
        drop(owner)  # what root makes here the server could not open
    house.migrate(layout, boot)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
