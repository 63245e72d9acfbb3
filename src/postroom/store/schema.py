"""Where tables are declared, and the numbered steps that bring a store to the newest shape.

Each room declares its tables on `MAIL`, `STATE` or `INDEX` in its own tables.py. `domain.schema`
knows them all, and the frozen steps. A step is plain SQL for each engine, written once and never
changed after a release: one release's schema serves its predecessor's code (expand, then
contract).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

MAIL: Final = MetaData()
STATE: Final = MetaData()
INDEX: Final = MetaData()

INT: Final = BigInteger().with_variant(Integer(), "sqlite")
TEXT: Final = Text()
BYTES: Final = LargeBinary()


def column(name: str, kind: TypeEngine[Any], *rest: Any, **options: Any) -> Column[Any]:
    """A column; NOT NULL unless `nullable=True` says otherwise."""
    options.setdefault("nullable", False)
    return Column(name, kind, *rest, **options)


@dataclass(frozen=True, slots=True)
class Step:
    """One numbered change of the schema, as statements for each engine."""

    number: int
    name: str
    sqlite: tuple[str, ...]
    postgres: tuple[str, ...]


def ddl(metadata: MetaData, engine: str) -> list[str]:
    """The statements that create every table and index of `metadata` on `engine`."""
    dialect = sqlite.dialect() if engine == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    made: list[str] = []
    for table in metadata.sorted_tables:
        made.append(_one_line(str(CreateTable(table).compile(dialect=dialect))))
        made += [
            _one_line(str(CreateIndex(index).compile(dialect=dialect)))
            for index in sorted(table.indexes, key=lambda i: str(i.name))
        ]
    return made


def _one_line(text: str) -> str:
    return " ".join(text.split())


def pending(steps: Sequence[Step], reached: int) -> Iterable[Step]:
    """The steps after number `reached`, in order."""
    return sorted((s for s in steps if s.number > reached), key=lambda s: s.number)


def narrow(name: str, metadata: MetaData, *columns: Any, **options: Any) -> Table[Any]:
    """A table kept in key order: WITHOUT ROWID on SQLite; a primary key is needed."""
    options.setdefault("sqlite_with_rowid", False)
    return Table(name, metadata, *columns, **options)


def wide(name: str, metadata: MetaData, *columns: Any, **options: Any) -> Table[Any]:
    """A table whose integer primary key is the row's own address."""
    return Table(name, metadata, *columns, **options)
