from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import psycopg
import pytest

from postroom.domain import schema
from postroom.store import postgres, sqlite
from postroom.store.schema import INDEX, MAIL, STATE
from postroom.store.sql import STATEMENTS, Statement, keepable
from tests.stores import migrate

_NAMES: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")

# Texts whose statements do not show it by a column's name.
_TEXTS: Final = frozenset({"path"})


def _columns(statement: Statement) -> dict[str, str]:
    """Parameter: the type of the column that it is compared with or written to."""
    source = statement.source
    found: dict[str, str] = {}
    inserted = re.search(r"INSERT INTO (\w+) \(([^)]*)\) VALUES \(([^)]*)\)", source)
    if inserted:
        table, columns, values = inserted.groups()
        for column, value in zip(columns.split(", "), values.split(", "), strict=True):
            if value.startswith(":"):
                found[value[1:]] = _type(table, column)
    for column, name in re.findall(r"(\w+) (?:=|<>|<=|>=|<|>) :(\w+)", source):
        kinds = {_type(table, column) for table in _tables(source)} - {""}
        if len(kinds) == 1:
            found.setdefault(name, kinds.pop())
    return found


def _tables(source: str) -> set[str]:
    return set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE) (\w+)", source))


def _type(table: str, column: str) -> str:
    for metadata in (MAIL, STATE, INDEX):
        if table in metadata.tables and column in metadata.tables[table].columns:
            return type(metadata.tables[table].columns[column].type).__name__
    return ""


def sample(statement: Statement, number: int) -> dict[str, Any]:
    """Parameters as the domain passes them: numbers are `number`, lists hold two."""
    types = _columns(statement)
    params: dict[str, Any] = {}
    names = {*_NAMES.findall(statement.source), *statement.lists, *statement.tables}
    for name in names:
        if name in statement.lists:
            text = statement.lists[name] == "text"
            params[name] = ["a", "b"] if text else [number, number - 1]
        elif name in statement.tables:
            params[name] = [tuple(number for _ in statement.tables[name])]
        elif (kind := types.get(name, "")) == "Text" or (not kind and name in _TEXTS):
            params[name] = "a"
        elif kind == "LargeBinary":
            params[name] = b"\x00\xff"
        elif name in ("first", "length") and "substr" in statement.source:
            params[name] = min(number, 1 << 20)
        else:
            params[name] = number
    return params


def _nullable(statement: Statement) -> list[str]:
    inserted = re.search(r"INSERT INTO (\w+) \(([^)]*)\) VALUES \(([^)]*)\)", statement.source)
    if not inserted:
        return []
    table, columns, values = inserted.groups()
    metadata = next(each for each in (MAIL, STATE, INDEX) if table in each.tables)
    return [
        value[1:]
        for column, value in zip(columns.split(", "), values.split(", "), strict=True)
        if value.startswith(":") and metadata.tables[table].columns[column].nullable
    ]


def _store_of(statement: Statement) -> str:
    tables = _tables(statement.source)
    others = {"state": STATE, "index": INDEX}
    return next((name for name, each in others.items() if tables & set(each.tables)), "mail")


def variants(statement: Statement) -> Iterator[dict[str, Any]]:
    """Small numbers, the largest, empty lists, and None where a column may be NULL."""
    yield sample(statement, 7)
    # psycopg chooses a type by the value, so a large number is another statement to it.
    yield sample(statement, (1 << 62) - 1)
    if statement.lists or statement.tables:
        empty = dict.fromkeys((*statement.lists, *statement.tables), ())
        yield {**sample(statement, 7), **empty}
    nullable = _nullable(statement)
    if nullable:
        yield {**sample(statement, 7), **dict.fromkeys(nullable)}


def test_every_room_has_declared_its_statements() -> None:
    assert len(STATEMENTS) > 120
    assert {type(s) for s in STATEMENTS} == {Statement}
    assert schema.SWEEP.mark in STATEMENTS


def test_every_statement_prepares_on_sqlite(tmp_path: Path) -> None:
    migrate("sqlite", str(tmp_path))
    stores = {
        name: sqlite.connect(os.path.join(tmp_path, f"{name}.db"), durable=False)
        for name in ("mail", "state", "index")
    }
    _prepare_all(lambda s, p: list(stores[_store_of(s)].execute(f"EXPLAIN {s.sqlite}", p)), "lite")
    for db in stores.values():
        db.close()


@pytest.mark.postgres
def test_every_statement_prepares_on_postgres(postgres_url: str) -> None:
    migrate("postgres", postgres_url)
    stores = {
        name: postgres.connect(postgres_url, name, durable=False)
        for name in ("mail", "state", "index")
    }

    def explain(statement: Statement, params: Any) -> None:
        with stores[_store_of(statement)].cursor(binary=True) as cursor:
            cursor.execute(f"EXPLAIN {statement.postgres}", params, prepare=True)

    _prepare_all(explain, "postgres")
    for db in stores.values():
        db.close()


def _prepare_all(explain: Callable[[Statement, Any], object], engine: str) -> None:
    failed = []
    for statement in STATEMENTS:
        for params in variants(statement):
            given = (
                statement.for_sqlite(params) if engine == "lite" else statement.for_postgres(params)
            )
            try:
                explain(statement, given)
            except (apsw.Error, psycopg.Error, TypeError) as error:
                failed.append(f"{statement.source[:300]}\n  {params}\n  {error}")
    assert not failed, "\n".join(failed)


# --- the macros ---------------------------------------------------------------------------


def test_a_list_stands_after_in() -> None:
    statement = Statement("SELECT id FROM t WHERE id IN {ids} AND name IN {names:text}")
    assert statement.sqlite == (
        "SELECT id FROM t WHERE id IN (SELECT value FROM json_each(:ids)) "
        "AND name IN (SELECT value FROM json_each(:names))"
    )
    assert statement.postgres == (
        "SELECT id FROM t WHERE id IN (SELECT unnest(CAST(%(ids)s AS bigint[]))) "
        "AND name IN (SELECT unnest(CAST(%(names)s AS text[])))"
    )


def test_a_percent_sign_is_not_a_parameter_of_psycopg() -> None:
    statement = Statement("SELECT a % 2 FROM t WHERE n LIKE 'x%' AND b = :b")
    assert statement.postgres == "SELECT a %% 2 FROM t WHERE n LIKE 'x%%' AND b = %(b)s"
    assert statement.sqlite == "SELECT a % 2 FROM t WHERE n LIKE 'x%' AND b = :b"


def test_a_cast_is_not_a_parameter() -> None:
    assert Statement("SELECT a::text, :b").postgres == "SELECT a::text, %(b)s"


def test_row_locks_are_for_postgres_alone() -> None:
    statement = Statement("SELECT id FROM t ORDER BY id {for update}")
    assert statement.sqlite.strip() == "SELECT id FROM t ORDER BY id"
    assert statement.postgres == "SELECT id FROM t ORDER BY id FOR UPDATE"


_LISTS: Final = Statement("SELECT id FROM line WHERE id IN {ids} AND text IN {texts:text}")
_ROWS: Final = Statement("SELECT a, b FROM {rows(a,b)} ORDER BY a")


@pytest.mark.parametrize("numbers", [[], [1], [1, (1 << 63) - 1, -(1 << 63), 0]])
def test_lists_and_tables_mean_the_same_on_both_engines(
    numbers: list[int], tmp_path: Path, postgres_url: str
) -> None:
    lite = sqlite.connect(str(tmp_path / "a.db"), durable=False)
    post = postgres.connect(postgres_url, "public", durable=False)
    for make in (lite.execute, post.execute):
        make("CREATE TABLE line (id BIGINT PRIMARY KEY, text TEXT)")
    texts = ['a"b', "\\", "\N{SNOWMAN}", "", "'"]
    cursor = post.cursor(binary=True)
    txs = (sqlite.SqliteTx(lite), postgres.PostgresTx(cursor))
    insert = Statement("INSERT INTO line (id, text) VALUES (:id, :text)")
    for tx in txs:
        for number, text in zip(numbers, texts, strict=False):
            tx.run(insert, id=number, text=text)
        found = tx.all(_LISTS, ids=iter(numbers), texts=texts)
        assert sorted(row[0] for row in found) == sorted(numbers)
        pairs = [(n, -n if n != -(1 << 63) else n) for n in numbers]
        assert tx.all(_ROWS, rows=pairs) == sorted(pairs)
    lite.close()
    post.close()


def test_text_of_strangers_is_made_keepable() -> None:
    for text in ("", "plain", "\u00e9\U0001f4e7"):
        assert keepable(text) == text
    assert keepable("a\0b") == "a\ufffdb"
    assert keepable("\u00e9\0\udcff\ud800") == "\u00e9\ufffd??"


def test_values_come_back_as_they_went_in(tmp_path: Path, postgres_url: str) -> None:
    """None, numbers of every width, text beyond the first plane, bytes with zeros."""
    lite = sqlite.connect(str(tmp_path / "a.db"), durable=False)
    post = postgres.connect(postgres_url, "public", durable=False)
    lite.execute("CREATE TABLE t (n BIGINT, x BIGINT, text TEXT, data BLOB)")
    post.execute("CREATE TABLE t (n BIGINT, x BIGINT, text TEXT, data BYTEA)")
    insert = Statement("INSERT INTO t (n, x, text, data) VALUES (:n, :x, :text, :data)")
    look = Statement("SELECT n, x, text, data FROM t ORDER BY n")
    rows: list[dict[str, Any]] = [
        {"n": 1, "x": None, "text": "", "data": b""},
        {"n": 40_000, "x": -1, "text": "a\r\n\t'\"", "data": bytes(range(256))},
        {"n": 1 << 33, "x": (1 << 63) - 1, "text": "\U0001f4e7 é", "data": None},
    ]
    for tx in (sqlite.SqliteTx(lite), postgres.PostgresTx(post.cursor(binary=True))):
        tx.many(insert, rows)
        tx.many(insert, [])
        got = tx.all(look)
        assert got == [tuple(row.values()) for row in rows]
        assert [type(v) for v in got[1]] == [int, int, str, bytes]
        assert tx.run(Statement("UPDATE t SET x = 0 WHERE n > :n"), n=1) == 2
        assert tx.run(Statement("UPDATE t SET x = 0 WHERE n > :n"), n=1 << 40) == 0
        assert tx.one(Statement("SELECT n FROM t WHERE n = :n"), n=5) is None
    lite.close()
    post.close()
