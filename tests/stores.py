"""Fresh stores for tests, on both engines.

A folder of tests that wants them re-exports the fixture in its conftest.py:

    from tests.stores import stores

    __all__ = ["stores"]

and each test that asks for `stores` then runs once for SQLite and once for PostgreSQL.
"""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import apsw
import pytest
import pytest_asyncio

from postroom.domain.schema import INDEX_STEPS, MAIL_STEPS, STATE_STEPS
from postroom.store.migrate import migrate_postgres, migrate_sqlite
from postroom.store.postgres import PostgresDatabase
from postroom.store.sqlite import SqliteDatabase
from postroom.store.units import Database

Listener = Callable[[list[object]], None]


@dataclass(slots=True)
class Stores:
    """Both stores, empty but for their tables, and what their units told after commits."""

    engine: str  # sqlite, postgres
    mail: Database
    state: Database
    events: list[object] = field(default_factory=list)


def migrate(engine: str, place: str) -> None:
    """Make the tables; `place` is a folder for SQLite, a conninfo for PostgreSQL."""
    if engine == "sqlite":
        # Most tests want the same three files, and a copy takes a thirtieth of the time.
        if os.path.exists(os.path.join(place, "mail.db")):
            _migrate_sqlite(place)
        else:
            for name in SQLITE_FILES:
                shutil.copyfile(os.path.join(_made(), name), os.path.join(place, name))
    else:
        migrate_postgres(place, "mail", MAIL_STEPS)
        migrate_postgres(place, "state", STATE_STEPS)
        migrate_postgres(place, "index", INDEX_STEPS)


SQLITE_FILES: Final = ("mail.db", "state.db", "index.db")


@lru_cache(maxsize=1)
def _made() -> str:
    """A folder with new SQLite files, for as long as this process lives."""
    folder = TemporaryDirectory(prefix="postroom-stores-")
    atexit.register(folder.cleanup)
    _migrate_sqlite(folder.name)
    for name in SQLITE_FILES:
        with closing(apsw.Connection(os.path.join(folder.name, name))) as db:
            # What lies in the WAL would not be copied.
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return folder.name


def _migrate_sqlite(place: str) -> None:
    migrate_sqlite(os.path.join(place, "mail.db"), MAIL_STEPS)
    migrate_sqlite(os.path.join(place, "state.db"), STATE_STEPS)
    migrate_sqlite(os.path.join(place, "index.db"), INDEX_STEPS)


def open_mail(
    engine: str, place: str, listener: Listener = lambda events: None
) -> tuple[Database, Database]:
    """Migrate and open `mail` and `state`; the caller closes both. Needs a running loop."""
    migrate(engine, place)
    if engine == "sqlite":
        return (
            SqliteDatabase(os.path.join(place, "mail.db"), durable=True, listener=listener),
            SqliteDatabase(os.path.join(place, "state.db"), durable=False, listener=listener),
        )
    return (
        PostgresDatabase(place, "mail", durable=True, listener=listener),
        PostgresDatabase(place, "state", durable=False, listener=listener),
    )


def open_index(engine: str, place: str) -> Database:
    """Open `index` where `mail` and `state` are open; the caller closes it."""
    if engine == "sqlite":
        return SqliteDatabase(os.path.join(place, "index.db"), durable=False)
    return PostgresDatabase(place, "index", durable=False)


@pytest_asyncio.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    """Empty stores on each engine."""
    engine = str(request.param)
    place = str(tmp_path) if engine == "sqlite" else str(request.getfixturevalue("postgres_url"))
    events: list[object] = []
    mail, state = open_mail(engine, place, events.extend)
    try:
        yield Stores(engine, mail, state, events)
    finally:
        await mail.close()
        await state.close()
