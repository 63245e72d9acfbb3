"""A store of another build is told from one of this release."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from postroom.core.errors import Corrupt
from postroom.store import postgres, sqlite_engine
from postroom.store.migrate import migrate_postgres, migrate_sqlite
from postroom.store.schema import INT, TEXT, Step, column, ddl, narrow, wide
from postroom.store.shape import OtherSchema, check_postgres, check_sqlite

DECLARED = MetaData()
wide("one", DECLARED, column("id", INT, primary_key=True), column("name", TEXT))
narrow("two", DECLARED, column("a", INT, primary_key=True), column("b", INT, primary_key=True))
STEPS = [Step(1, "first", tuple(ddl(DECLARED, "sqlite")), tuple(ddl(DECLARED, "postgresql")))]

CHANGES = [
    ("DROP TABLE two", "there is no two"),
    ("ALTER TABLE one DROP COLUMN name", "one differs in name"),
    ("ALTER TABLE one ADD COLUMN later INTEGER", "one differs in later"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_other_tables_on_sqlite_are_named(tmp_path: Path, change: str, said: str) -> None:
    path = os.path.join(tmp_path, "mail.db")
    migrate_sqlite(path, STEPS)
    check_sqlite(path, DECLARED)
    db = sqlite_engine.connect(path, durable=False)
    db.execute("CREATE TABLE another (x INTEGER)")
    db.close()
    check_sqlite(path, DECLARED)
    db = sqlite_engine.connect(path, durable=False)
    db.execute(change)
    db.close()
    assert migrate_sqlite(path, STEPS) == [], "by its steps it is this release's"
    with pytest.raises(OtherSchema, match="serve it with that build") as caught:
        check_sqlite(path, DECLARED)
    assert caught.value.detail == said


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_other_tables_on_postgresql_are_named(pg: str, change: str, said: str) -> None:
    migrate_postgres(pg, "mail", STEPS)
    check_postgres(pg, "mail", DECLARED)
    with postgres.connect(pg, "mail", durable=False) as db:
        db.execute("CREATE TABLE another (x INTEGER)")
    check_postgres(pg, "mail", DECLARED)
    with postgres.connect(pg, "mail", durable=False) as db:
        db.execute(change)
    assert migrate_postgres(pg, "mail", STEPS) == []
    with pytest.raises(OtherSchema) as caught:
        check_postgres(pg, "mail", DECLARED)
    assert caught.value.detail == said


def test_what_is_no_store_is_no_store_of_another_build(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(Corrupt):
        check_sqlite(str(path), DECLARED)
