"""Performing an operation without a server: the same code, on the stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from postroom.access import Authenticator
from postroom.admin.house import AdminHouse, checker, perform
from postroom.core.errors import Misuse
from postroom.core.operations import Operation
from postroom.mailflow.house import MailHouse

OpenHouse = Callable[[str], AbstractAsyncContextManager[MailHouse]]
"""Opens the stores of a data directory; raises NotFound if there are none."""

OpenVacancy = Callable[[str], AbstractContextManager[Any]]
"""Takes a data directory that holds no store, for what makes one; raises AlreadyExists, InUse."""


def no_vacancy(data: str) -> AbstractContextManager[Any]:
    """Where stores are not made."""
    raise Misuse(f"No store is made in {data}")


def perform_vacant(vacancy: OpenVacancy, data: str, operation: Operation, asked: object) -> Any:
    """Perform what makes a store. Blocks."""

    async def performed(place: object) -> Any:
        return await operation.run(place, asked)

    with vacancy(data) as place:
        return asyncio.run(performed(place))


def perform_offline(
    open_house: OpenHouse, data: str, operation: str, asked: object, reason: str
) -> Any:
    """Open the stores, perform, close them with all on disk. Blocks."""
    return asyncio.run(_perform(open_house, data, operation, asked, reason))


async def _perform(
    open_house: OpenHouse, data: str, operation: str, asked: object, reason: str
) -> Any:
    async with open_house(data) as flow:
        authenticator = Authenticator(
            flow.mail,
            flow.clock,
            flow.policies,
            flow.ids,
            default_domain=lambda: flow.default_domain,
            node=flow.node,
        )
        try:
            house = AdminHouse(flow, authenticator, checker(flow))
            return await perform(house, operation, asked, reason)
        finally:
            await authenticator.close()
