"""The SQLite engine as the store sets it up."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from postroom.store.sql import Statement
from postroom.store.sqlite_engine import SqliteTx, connect

# Not by `sql`, as they are of no table of the house.
STATEMENTS = (
    Statement("SELECT a FROM t WHERE a > :a ORDER BY a LIMIT :limit"),
    Statement("SELECT b FROM t WHERE a = 1 AND b > :a AND b < :limit"),
    Statement("SELECT b FROM t WHERE b = :a OR b = :limit ORDER BY a"),
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_is_planned_once_whatever_is_bound(
    tmp_path: Path, statement: Statement
) -> None:
    """The engine asks its authorizer for each thing that a statement does while it plans it."""
    db = connect(str(tmp_path / "s.db"), durable=False)
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER); CREATE INDEX t_b ON t (b)")
    planned = 0

    def asked(*about: object) -> int:
        nonlocal planned
        planned += 1
        return apsw.SQLITE_OK

    db.authorizer = asked
    tx = SqliteTx(db)
    tx.all(statement, a=1, limit=2)
    first = planned
    assert first
    for n in range(5):
        tx.all(statement, a=n, limit=n * 1000)
    assert planned == first
    db.close()
