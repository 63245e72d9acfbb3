"""Every domain test runs on both engines: `store` for plain units, `stores` for the whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.domain.making import Direct, Town
from tests.tables import (
    postgres_emptied,
    postgres_tables,
    sqlite_emptied,
    sqlite_template,
    stores,
)

__all__ = ["postgres_emptied", "postgres_tables", "sqlite_emptied", "sqlite_template", "stores"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest) -> Iterator[Direct]:
    """Units run one after the other, without threads and loops."""
    engine = str(request.param)
    made = Direct(engine, str(request.getfixturevalue(f"{engine}_emptied")), migrated=True)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def town(store: Direct) -> Town:
    """A domain with an administrator and a user."""
    return Town(store)
