"""The command line of a running server: what somebody typed is understood, performed and told here.

The process that they started knows nothing of operations, so it starts in a fraction of the time
that this house takes to import, and it may be of another release.
"""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.admin import cli
from postroom.admin.house import FACES, AdminHouse, perform
from postroom.core.errors import MailError
from postroom.core.operations import Operation
from postroom.core.settings import Role
from postroom.core.terminal import Answered, Typed

TYPED: Final = "typed"


async def typed(house: AdminHouse, words: Typed) -> Answered:
    """Answer what somebody typed, or say what is wanted for it."""
    # In threads: the first help makes the whole parser, and a list may have 10,000 rows.
    command = await asyncio.to_thread(cli.understood, words)
    if isinstance(command, Answered):
        return command
    if command.operation.makes_store:
        return Answered(alone=True)
    wants = cli.wanted(command, words)
    if wants:
        return Answered(wants=wants)
    try:
        asked, reason = cli.asked(command, words)
        output = await perform(house, command.operation.name, asked, reason)
    except MailError as error:
        return cli.failed(command, error)
    return await asyncio.to_thread(cli.done, command, output)


FACES[TYPED] = Operation(
    name=TYPED,
    role=Role.ADMIN,
    input=Typed,
    output=Answered,
    summary="Answer what somebody typed in a terminal.",
    changes=False,
    run=typed,
    audited=False,
)
