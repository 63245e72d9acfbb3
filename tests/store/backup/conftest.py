"""Filled stores on both engines, and backups of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.testing.clock import ManualClock
from tests.store.backup.keeping import Keeper
from tests.stores import Stores
from tests.tables import (
    postgres_emptied,
    postgres_tables,
    sqlite_emptied,
    sqlite_template,
    stores,
)

__all__ = ["postgres_emptied", "postgres_tables", "sqlite_emptied", "sqlite_template", "stores"]


@pytest.fixture
def keeper(stores: Stores, tmp_path: Path, clock: ManualClock) -> Keeper:
    """Makes backups of the stores below a folder of this test's own."""
    return Keeper(stores, tmp_path / "work", clock)
