from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from postroom.core.errors import StoreFailed
from postroom.domain.schema import INDEX_STEPS, MAIL_STEPS, STATE_STEPS
from postroom.store import postgres, sqlite
from postroom.store.migrate import NewerSchema, migrate_postgres, migrate_sqlite
from postroom.store.postgres import PostgresTx
from postroom.store.schema import INDEX, MAIL, STATE, Step
from postroom.store.sql import Row, Statement
from postroom.store.sqlite import SqliteTx

ONE = Step(1, "one", ("CREATE TABLE a (x INTEGER)",), ("CREATE TABLE a (x BIGINT)",))
TWO = Step(
    2, "two", ("ALTER TABLE a ADD COLUMN y INTEGER",), ("ALTER TABLE a ADD COLUMN y BIGINT",)
)
HALF = Step(2, "half", ("CREATE TABLE b (x INTEGER)", "CREATE TABLE b (x INTEGER)"),
            ("CREATE TABLE b (x BIGINT)", "CREATE TABLE b (x BIGINT)"))  # fmt: skip


@dataclass
class Engine:
    name: str
    place: str
    apply: Callable[[Sequence[Step]], list[Step]]

    def rows(self, text: str) -> list[Row]:
        statement = Statement(text)
        if self.name == "sqlite":
            lite = sqlite.connect(self.place, durable=False)
            try:
                return SqliteTx(lite).all(statement)
            finally:
                lite.close()
        with postgres.connect(self.place, "mail", durable=False) as post:
            return PostgresTx(post.cursor(binary=True)).all(statement)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        path = str(tmp_path / "deep" / "mail.db")
        return Engine("sqlite", path, lambda steps: migrate_sqlite(path, steps))
    url = str(request.getfixturevalue("postgres_url"))
    return Engine("postgres", url, lambda steps: migrate_postgres(url, "mail", steps))


def test_missing_steps_are_applied_once_and_in_order(engine: Engine) -> None:
    assert engine.apply([TWO, ONE]) == [ONE, TWO]
    assert engine.apply([ONE, TWO]) == []
    assert engine.rows("SELECT number, name FROM schema_step ORDER BY number") == [
        (1, "one"),
        (2, "two"),
    ]
    engine.rows("SELECT x, y FROM a")


def test_a_later_release_adds_its_own(engine: Engine) -> None:
    assert engine.apply([ONE]) == [ONE]
    assert engine.apply([ONE, TWO]) == [TWO]


def test_a_step_that_fails_leaves_those_before_it(engine: Engine) -> None:
    with pytest.raises(StoreFailed):
        engine.apply([ONE, HALF])
    assert engine.rows("SELECT number FROM schema_step") == [(1,)]
    with pytest.raises(Exception, match="b"):
        engine.rows("SELECT x FROM b")
    assert engine.apply([ONE, TWO]) == [TWO]


def test_a_store_of_a_later_release_is_left_alone(engine: Engine) -> None:
    engine.apply([ONE, TWO])
    with pytest.raises(NewerSchema) as caught:
        engine.apply([ONE])
    assert "newer release" in str(caught.value)


def test_two_at_once_apply_each_step_once(engine: Engine) -> None:
    applied: list[Step] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            applied.extend(engine.apply([ONE, TWO]))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(step.number for step in applied) == [1, 2]


@pytest.mark.parametrize(
    ("steps", "declared"), [(MAIL_STEPS, MAIL), (STATE_STEPS, STATE), (INDEX_STEPS, INDEX)]
)
def test_the_steps_build_what_is_declared(
    engine: Engine, steps: Sequence[Step], declared: MetaData
) -> None:
    engine.apply(steps)
    for table in declared.sorted_tables:
        columns = ", ".join(column.name for column in table.columns)
        assert engine.rows(f"SELECT {columns} FROM {table.name}") == []
    if engine.name == "sqlite":
        found = engine.rows("SELECT name FROM sqlite_master WHERE type = 'index' AND sql <> ''")
    else:
        found = engine.rows("SELECT indexname FROM pg_indexes WHERE schemaname = 'mail'")
    indexes = {str(index.name) for table in declared.sorted_tables for index in table.indexes}
    assert indexes <= {row[0] for row in found}
