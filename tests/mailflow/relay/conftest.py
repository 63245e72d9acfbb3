"""A small internet for the rooms of the relay. Whole journeys are in tests/plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from postroom.testing.internet import small_internet
from postroom.testing.plays import Play


@pytest_asyncio.fixture
async def play(tmp_path: Path) -> AsyncIterator[Play]:
    async with small_internet(tmp_path) as town:
        yield Play(town)
