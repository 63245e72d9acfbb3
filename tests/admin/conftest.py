"""An administrated house on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from postroom.testing.clock import ManualClock
from tests.admin.housing import Admin, open_admin
from tests.stores import Stores, stores

__all__ = ["admin", "stores"]


@pytest_asyncio.fixture
async def admin(stores: Stores, clock: ManualClock, tmp_path: Path) -> AsyncIterator[Admin]:
    """A house whose passwords cost little, with the domain example.org."""
    async with open_admin(stores, clock, tmp_path) as opened:
        yield opened
