"""Performing an operation without a server: the same code, on the stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from postroom.access import Authenticator
from postroom.admin.house import AdminHouse, checker, perform
from postroom.mailflow.house import MailHouse

OpenHouse = Callable[[str], AbstractAsyncContextManager[MailHouse]]
"""Opens the stores of a data directory; raises NotFound if there are none."""


def perform_offline(open_house: OpenHouse, data: str, operation: str, asked: object) -> Any:
    """Open the stores, perform, close them with all on disk. Blocks."""
    return asyncio.run(_perform(open_house, data, operation, asked))


async def _perform(open_house: OpenHouse, data: str, operation: str, asked: object) -> Any:
    async with open_house(data) as flow:
        authenticator = Authenticator(
            flow.mail,
            flow.clock,
            flow.policies,
            default_domain=lambda: flow.default_domain,
            node=flow.node,
        )
        try:
            return await perform(AdminHouse(flow, authenticator, checker(flow)), operation, asked)
        finally:
            await authenticator.close()
