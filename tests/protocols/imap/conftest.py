"""Two workers over one store: on SQLite, or on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.protocols.imap.serving import Room, new_bus, serve
from tests.stores import open_mail


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """Over SQLite."""
    bus = new_bus()
    mail, state = open_mail("sqlite", str(tmp_path), bus.tell)
    try:
        async with serve(tmp_path, mail, state, bus) as served:
            yield served
    finally:
        await mail.close()
        await state.close()


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def room_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Room]:
    """Over each engine."""
    engine = str(request.param)
    place = str(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    bus = new_bus()
    mail, state = open_mail(engine, place, bus.tell)
    try:
        async with serve(tmp_path, mail, state, bus) as served:
            yield served
    finally:
        await mail.close()
        await state.close()
