"""Whether a store has the tables that this release knows.

Steps say so for every release; a store of a build from before the first one has taken the same
step with other tables, and would else fail at some statement, hours later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Set
from typing import Final

import apsw
import psycopg
from sqlalchemy import MetaData

from postroom.core.errors import StoreFailed
from postroom.store import postgres as pg
from postroom.store import sqlite_engine as lite

_SQLITE: Final = """
    SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
    WHERE m.type = 'table'
"""
_POSTGRES: Final = """
    SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s
"""


class OtherSchema(StoreFailed):
    """The tables of a store are not those of this release, though its steps are."""

    sentence = (
        "This store was made by a build of Postroom whose tables were others; serve it with that "
        "build, and take its mail from there to a new store with `postroom export` and `import`"
    )


def check_sqlite(path: str, declared: MetaData) -> None:
    """Raises OtherSchema, StoreFailed."""
    try:
        with contextlib.closing(lite.connect(path, durable=False)) as db:
            _compare(declared, db.execute(_SQLITE))
    except apsw.Error as error:
        raise lite.engine_error(error) from error


def check_postgres(conninfo: str, schema: str, declared: MetaData) -> None:
    """Raises OtherSchema, StoreFailed."""
    try:
        with contextlib.closing(pg.connect(conninfo, schema, durable=False)) as db:
            _compare(declared, db.execute(_POSTGRES, (schema,)).fetchall())
    except psycopg.Error as error:
        raise pg.engine_error(error) from error


def _compare(declared: MetaData, found: Iterable[tuple[str, str]]) -> None:
    """A table more is no harm; one that is missing is, and so is every column that differs."""
    has: dict[str, set[str]] = {}
    for table, column in found:
        has.setdefault(table, set()).add(column)
    wanted: Mapping[str, Set[str]] = {
        name: {column.name for column in table.columns} for name, table in declared.tables.items()
    }
    odd = [
        f"there is no {table}"
        if table not in has
        else f"{table} differs in {', '.join(sorted(columns ^ has[table]))}"
        for table, columns in sorted(wanted.items())
        if has.get(table) != columns
    ]
    if odd:
        raise OtherSchema(detail="; ".join(odd))
