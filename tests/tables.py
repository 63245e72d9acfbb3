"""Empty stores on both engines, quickly: tables are made once in a run and emptied for each test.

A folder of tests that wants them re-exports the fixtures in its conftest.py.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from postroom.store.schema import INDEX, MAIL, STATE
from postroom.testing.postgres import Cluster
from tests.stores import Stores, migrate, open_mail


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with empty stores: to copy them is quicker than to make them."""
    folder = tmp_path_factory.mktemp("template")
    migrate("sqlite", str(folder))
    return folder


@pytest.fixture
def sqlite_emptied(sqlite_template: Path, tmp_path: Path) -> str:
    """A folder of this test's own, with empty stores."""
    for name in ("mail.db", "state.db", "index.db"):
        shutil.copy(sqlite_template / name, tmp_path)
    return str(tmp_path)


@pytest.fixture(scope="session")
def postgres_tables(postgres_cluster: Cluster) -> str:
    """The conninfo of one database with all tables, for the whole run."""
    url = postgres_cluster.create_database()
    migrate("postgres", url)
    return url


@pytest.fixture
def postgres_emptied(postgres_tables: str) -> str:
    """The same without a row: much quicker than a database for each test."""
    with psycopg.connect(postgres_tables) as db:
        for schema, metadata in (("mail", MAIL), ("state", STATE), ("index", INDEX)):
            for table in reversed(metadata.sorted_tables):
                db.execute(f"DELETE FROM {schema}.{table.name}".encode())
    return postgres_tables


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Empty stores on each engine, as tests.stores has them."""
    engine = str(request.param)
    place = str(request.getfixturevalue(f"{engine}_emptied"))
    events: list[object] = []
    mail, state = open_mail(engine, place, events.extend)
    try:
        yield Stores(engine, mail, state, events)
    finally:
        await mail.close()
        await state.close()
