"""One SQL for two engines: each statement is written once and rendered once for each dialect.

The text is the subset that SQLite and PostgreSQL share (upserts, RETURNING and common table
expressions are alike in both), with parameters as `:name` and three macros:

- `{ids}`: a set of integers given as a list, usable after IN; `{names:text}` for strings;
- `{rows(a,b)}`: a table of integer columns a, b given as a list of tuples, usable in FROM;
- `{for update}`: row locks on PostgreSQL, nothing on SQLite, where the writer holds the lock.

Every statement registers itself, so that a test prepares each on both engines against the
real schema: a misspelt column fails there and not in the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

Row = tuple[Any, ...]
Params = Mapping[str, Any]

STATEMENTS: Final[list[Statement]] = []

_MACRO: Final = re.compile(r"\{([a-z_ ]+)(?::(text)|\(([a-z_,]+)\))?\}")
_PARAM: Final = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


class Statement:
    """A statement in both dialects. Made by `sql` at import, never while serving."""

    __slots__ = ("lists", "postgres", "source", "sqlite", "tables")

    sqlite: str
    postgres: str

    def __init__(self, source: str) -> None:
        self.source = " ".join(source.split())
        self.lists: dict[str, str] = {}
        self.tables: dict[str, tuple[str, ...]] = {}
        self.sqlite = _MACRO.sub(self._sqlite, self.source)
        postgres = _MACRO.sub(self._postgres, self.source).replace("%", "%%")
        self.postgres = _PARAM.sub(r"%(\1)s", postgres)

    def _sqlite(self, m: re.Match[str]) -> str:
        name, kind, columns = m.groups()
        if name == "for update":
            return ""
        if columns:
            names = tuple(columns.split(","))
            self.tables[name] = names
            picked = ", ".join(f"value ->> {n} AS {c}" for n, c in enumerate(names))
            return f"(SELECT {picked} FROM json_each(:{name}))"
        self.lists[name] = kind or "bigint"
        return f"(SELECT value FROM json_each(:{name}))"

    def _postgres(self, m: re.Match[str]) -> str:
        name, kind, columns = m.groups()
        if name == "for update":
            return "FOR UPDATE"
        if columns:
            arrays = ", ".join(f"CAST(:{name}_{c} AS bigint[])" for c in columns.split(","))
            return f"unnest({arrays}) AS {name}({columns})"
        return f"(SELECT unnest(CAST(:{name} AS {kind or 'bigint'}[])))"

    def for_sqlite(self, params: Params) -> Params:
        """The parameters as apsw takes them; lists become JSON texts."""
        if not self.lists and not self.tables:
            return params
        changed = dict(params)
        for name in (*self.lists, *self.tables):
            value = params[name]
            changed[name] = orjson.dumps(value if isinstance(value, list) else list(value)).decode()
        return changed

    def for_postgres(self, params: Params) -> Params:
        """The parameters as psycopg takes them; tables become one array for each column."""
        if not self.lists and not self.tables:
            return params
        changed = dict(params)
        for name in self.lists:
            changed[name] = list(params[name])
        for name, columns in self.tables.items():
            rows: Sequence[Sequence[int]] = list(changed.pop(name))
            for n, column in enumerate(columns):
                changed[f"{name}_{column}"] = [row[n] for row in rows]
        return changed


def sql(source: str) -> Statement:
    """Declare a statement. Call at module level only."""
    statement = Statement(source)
    STATEMENTS.append(statement)
    return statement


Form = Statement
"""A statement in the form that a choice of keys takes."""


class Picking:
    """A statement on chosen UIDs, in two forms: all between two bounds, or those of a list.

    A session whose choice is contiguous in its view needs no list: the engine walks one range of
    the key. One statement with both conditions costs a change of 10,000 flags half as much again.
    """

    __slots__ = ("by_list", "by_range")

    def __init__(self, source: str, column: str = "uid") -> None:
        self.by_range = sql(source.replace("<pick>", f"{column} BETWEEN :first AND :last"))
        self.by_list = sql(source.replace("<pick>", f"{column} IN {{uids}}"))


def keepable(text: str) -> str:
    """Text of strangers in a form that both engines keep: without NUL and lone surrogates."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


class Tx(Protocol):
    """A transaction, as a domain function sees it.

    A function that takes one has no other effect: it never sleeps, gets time and randomness
    as arguments, and speaks to others only by `after`; so it may be rerun.
    """

    def all(self, statement: Statement, **params: Any) -> list[Row]:
        """Every row of the answer."""
        ...

    def one(self, statement: Statement, **params: Any) -> Row | None:
        """The first row of the answer, or None."""
        ...

    def run(self, statement: Statement, **params: Any) -> int:
        """Execute; returns how many rows were touched."""
        ...

    def many(self, statement: Statement, rows: Iterable[Params]) -> None:
        """Execute once for each of `rows`; one round trip where the engine has trips."""
        ...

    def after(self, event: object) -> None:
        """Tell `event` on the bus once the unit is on disk, and never if it is not."""
        ...
