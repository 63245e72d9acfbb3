"""Two workers over one store: on SQLite, or on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.protocols.pop3.serving import Pop3Room, serve
from tests.stores import open_mail


@pytest_asyncio.fixture
async def room(tmp_path: Path) -> AsyncIterator[Pop3Room]:
    """Over SQLite."""
    mail, state = open_mail("sqlite", str(tmp_path))
    try:
        async with serve(tmp_path, mail, state) as served:
            yield served
    finally:
        await mail.close()
        await state.close()


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def room_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pop3Room]:
    """Over each engine."""
    engine = str(request.param)
    place = str(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    mail, state = open_mail(engine, place)
    try:
        async with serve(tmp_path, mail, state) as served:
            yield served
    finally:
        await mail.close()
        await state.close()
