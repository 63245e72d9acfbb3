"""A small internet for each play: on SQLite, or on each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from postroom.domain.schema import MAIL_STEPS, STATE_STEPS
from postroom.store.migrate import migrate_postgres
from postroom.store.postgres import PostgresDatabase
from postroom.store.units import Database
from postroom.testing.house import Listener, OpenStores
from postroom.testing.internet import Internet, small_internet
from postroom.testing.plays import Play
from postroom.testing.postgres import Cluster


@pytest_asyncio.fixture
async def town(tmp_path: Path) -> AsyncIterator[Internet]:
    """Houses on SQLite."""
    async with small_internet(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def play(town: Internet) -> Play:
    return Play(town)


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def on_both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Play]:
    """A play that is given once with each engine."""
    opening = None
    dropped: Callable[[], None] = lambda: None  # noqa: E731 - nothing was made
    if request.param == "postgres":
        opening, dropped = _on_postgres(request.getfixturevalue("postgres_cluster"))
    async with small_internet(tmp_path, opening) as made:
        yield Play(made)
    dropped()


def _on_postgres(cluster: Cluster) -> tuple[OpenStores, Callable[[], None]]:
    """A database for each house, and what drops them."""
    urls: list[str] = []

    def opening(name: str, listener: Listener) -> tuple[Database, Database]:
        url = cluster.create_database()
        urls.append(url)
        migrate_postgres(url, "mail", MAIL_STEPS)
        migrate_postgres(url, "state", STATE_STEPS)
        return (
            PostgresDatabase(url, "mail", durable=True, listener=listener),
            PostgresDatabase(url, "state", durable=False, listener=lambda events: None),
        )

    def drop() -> None:
        for url in urls:
            cluster.drop_database(url)

    return opening, drop
