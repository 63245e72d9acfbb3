"""Every domain test runs on both engines: `store` for plain units, `stores` for the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.testing.postgres import Cluster, database_name
from tests.domain.making import Direct, Town
from tests.stores import migrate, stores

__all__ = ["stores"]


@pytest.fixture(scope="session")
def postgres_template(postgres_cluster: Cluster) -> str:
    """The name of a database with all tables: a copy of it is quicker than they are made."""
    url = postgres_cluster.create_database()
    migrate("postgres", url)
    return database_name(url)


@pytest.fixture
def postgres_tables(postgres_cluster: Cluster, postgres_template: str) -> Iterator[str]:
    """The conninfo of a fresh database with all tables in it."""
    url = postgres_cluster.create_database(template=postgres_template)
    yield url
    postgres_cluster.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Direct]:
    """Units run one after the other, without threads and loops."""
    if request.param == "sqlite":
        made = Direct("sqlite", str(tmp_path))
    else:
        place = str(request.getfixturevalue("postgres_tables"))
        made = Direct("postgres", place, migrated=True)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def town(store: Direct) -> Town:
    """A domain with an administrator and a user."""
    return Town(store)
