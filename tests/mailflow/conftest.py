"""A serving house for these tests: on SQLite, or on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.mailflow.doors import Doors, open_doors
from tests.mailflow.serving import Mx, serve
from tests.stores import Stores, open_mail, stores

__all__ = ["doors", "doors_both", "mx", "mx_both", "stores"]


@pytest_asyncio.fixture
async def mx(tmp_path: Path) -> AsyncIterator[Mx]:
    """A server over SQLite, with TLS on offer."""
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with serve(tmp_path, mail, state, tls=True) as served:
            yield served
    finally:
        await mail.close()
        await state.close()


@pytest_asyncio.fixture
async def mx_both(tmp_path: Path, stores: Stores) -> AsyncIterator[Mx]:
    """A server over each engine."""
    async with serve(tmp_path, stores.mail, stores.state, tls=True) as served:
        yield served


@pytest_asyncio.fixture
async def doors(mx: Mx, tmp_path: Path) -> AsyncIterator[Doors]:
    """Submission and LMTP beside port 25, over SQLite."""
    async with open_doors(mx, tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def doors_both(mx_both: Mx, tmp_path: Path) -> AsyncIterator[Doors]:
    """The same over each engine."""
    async with open_doors(mx_both, tmp_path) as opened:
        yield opened
