"""An administrated house on each engine, and one on SQLite for what no engine changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from postroom.testing.clock import ManualClock
from tests.admin.conftest import admin
from tests.admin.housing import Admin, open_admin
from tests.stores import Stores, open_mail, stores

__all__ = ["admin", "house", "stores"]


@pytest_asyncio.fixture
async def house(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Admin]:
    """On SQLite."""
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with open_admin(Stores("sqlite", mail, state), clock, tmp_path) as opened:
            yield opened
    finally:
        await mail.close()
        await state.close()
