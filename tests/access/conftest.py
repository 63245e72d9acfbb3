"""Stores for these tests, and a door before them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from postroom.testing.clock import ManualClock
from tests.access.doors import Door, opened
from tests.stores import Stores, stores

__all__ = ["door", "stores"]


@pytest_asyncio.fixture
async def door(stores: Stores, clock: ManualClock) -> AsyncIterator[Door]:
    async with opened(stores, clock) as made:
        yield made
