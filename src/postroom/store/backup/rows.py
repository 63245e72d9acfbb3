"""Tables as chunks of rows: read in the order of the key, cut where the key says so.

Whether a row ends a chunk follows from its key alone, so a row that comes or goes changes its
own chunk (or two), and all others are the same octets as in the last backup. A chunk is a line
of JSON for each row, its values in the order of the columns. Octets are a text: "=" and the
octets where they are ASCII, else base64 (in which there is no "=" at the beginning).
"""

from __future__ import annotations

import threading
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final, NamedTuple
from zlib import crc32

import orjson
from sqlalchemy import BigInteger, LargeBinary, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

from postroom.core.errors import Corrupt, ShuttingDown
from postroom.store.sql import Row, Statement, Tx

CHUNK_OCTETS: Final = 2 << 20
"""A chunk ends here in any case; then the next cut by key brings the old boundaries back."""

PAGE_OCTETS: Final = 1 << 20
PAGE_ROWS: Final = 2_000
_FIRST_PAGE: Final = 64
_CUT: Final = 1_024  # rows of a chunk, on average
_CUT_WIDE: Final = 256

CONTENT: Final = "blob"
"""The table of the store's own whose content is kept beside it."""

# How content is stored here says nothing about how it will be stored where it is restored.
_LEFT_OUT: Final = {CONTENT: frozenset({"stored", "frames", "data"})}
_KINDS: Final[tuple[tuple[type[TypeEngine[Any]], str], ...]] = (
    (BigInteger, "int"),
    (Text, "text"),
    (LargeBinary, "bytes"),
)
_CAST: Final = {"int": "bigint", "text": "text"}
_TYPES: Final = {
    "int": frozenset({int, type(None)}),
    "text": frozenset({str, type(None)}),
    "bytes": frozenset({str, type(None)}),
}


@dataclass(frozen=True, slots=True)
class Form:
    """How a table is copied: its columns with their kinds, its key, how it is read."""

    name: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    first: Statement
    after: Statement
    cut: int


def forms(metadata: MetaData) -> tuple[Form, ...]:
    """The tables of a store, what is referred to before what refers. Made at import."""
    return tuple(_form(t) for t in metadata.sorted_tables if t.info.get("backup", True))


def _form(table: Table[Any]) -> Form:
    left_out = _LEFT_OUT.get(table.name, frozenset())
    columns = tuple((c.name, _kind(c.type)) for c in table.columns if c.name not in left_out)
    kinds = dict(columns)
    key = tuple(c.name for c in table.primary_key.columns)
    if not key or not all(kinds[name] in _CAST for name in key):
        raise TypeError(f"{table.name} has no key by which it can be copied")
    names, order = ", ".join(kinds), ", ".join(key)
    given = ", ".join(f"CAST(:k{n} AS {_CAST[kinds[name]]})" for n, name in enumerate(key))
    return Form(
        name=table.name,
        columns=columns,
        key=key,
        first=Statement(f"SELECT {names} FROM {table.name} ORDER BY {order} LIMIT :limit"),
        after=Statement(f"""
            SELECT {names} FROM {table.name} WHERE ({order}) > ({given})
            ORDER BY {order} LIMIT :limit
        """),
        cut=_CUT_WIDE if "bytes" in kinds.values() else _CUT,
    )


def _kind(of: TypeEngine[Any]) -> str:
    for declared, kind in _KINDS:
        if isinstance(of, declared):
            return kind
    raise TypeError(f"a column of type {of} cannot be copied")


class Chunk(NamedTuple):
    """Some rows that follow each other: their lines, how many, the first and the last key."""

    lines: bytes
    rows: int
    first: tuple[Any, ...]
    last: tuple[Any, ...]


def chunks(tx: Tx, form: Form, stopping: threading.Event) -> Iterator[Chunk]:
    """All rows of a table, within one snapshot; raises ShuttingDown once `stopping` is set."""
    names = [name for name, _ in form.columns]
    at = [names.index(name) for name in form.key]
    keys: Callable[[Row], tuple[Any, ...]] = itemgetter(*at) if len(at) > 1 else _single(at[0])
    dumps, cut = orjson.dumps, form.cut
    lines: list[bytes] = []
    octets = 0
    first: tuple[Any, ...] = ()
    key: tuple[Any, ...] = ()
    for page in _pages(tx, form, keys, stopping):
        for row in page:
            key = keys(row)
            if not lines:
                first = key
            line = dumps(row, default=_cell)
            lines.append(line)
            octets += len(line)
            if crc32(dumps(key)) % cut == 0 or octets >= CHUNK_OCTETS:
                yield Chunk(b"\n".join(lines), len(lines), first, key)
                lines.clear()
                octets = 0
    if lines:
        yield Chunk(b"\n".join(lines), len(lines), first, key)


def _single(at: int) -> Callable[[Row], tuple[Any, ...]]:
    return lambda row: (row[at],)


def _pages(
    tx: Tx, form: Form, keys: Callable[[Row], tuple[Any, ...]], stopping: threading.Event
) -> Iterator[list[Row]]:
    """Pages of about PAGE_OCTETS: a table of short rows is read quickly, one of long in little."""
    limit = _FIRST_PAGE
    page = tx.all(form.first, limit=limit)
    while page:
        if stopping.is_set():
            raise ShuttingDown
        yield page
        last = {f"k{n}": value for n, value in enumerate(keys(page[-1]))}
        octets = sum(
            8 + (len(value) if isinstance(value, str | bytes) else 8)
            for row in page
            for value in row
        )
        fits = PAGE_OCTETS * len(page) // octets
        limit = max(1, min(PAGE_ROWS, 4 * limit, fits))
        page = tx.all(form.after, **last, limit=limit)


def _cell(value: object) -> str:
    """Octets as a text; orjson does the rest by itself."""
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} is not kept")
    if value.isascii():
        return "=" + value.decode("ascii")
    return b2a_base64(value, newline=False).decode("ascii")


def decode(columns: Sequence[tuple[str, str]], lines: bytes) -> list[list[Any]]:
    """The rows of a chunk; raises Corrupt."""
    try:
        rows: list[list[Any]] = orjson.loads(b"[" + lines.replace(b"\n", b",") + b"]")
    except orjson.JSONDecodeError as error:
        raise Corrupt("The backup is damaged: rows cannot be read", detail=str(error)) from error
    if not all(type(row) is list and len(row) == len(columns) for row in rows):
        raise Corrupt("The backup is damaged: a row does not fit its table")
    for n, (name, kind) in enumerate(columns):
        # SQLite would keep whatever it is given.
        if {type(row[n]) for row in rows} - _TYPES.get(kind, frozenset()):
            raise Corrupt("The backup is damaged: a value is of another type", detail=name)
        if kind == "bytes":
            _restore_octets(rows, n)
    return rows


def _restore_octets(rows: list[list[Any]], n: int) -> None:
    try:
        for row in rows:
            value = row[n]
            if value is not None:
                plain = value[:1] == "="
                row[n] = value[1:].encode() if plain else a2b_base64(value, strict_mode=True)
    except ValueError as error:
        raise Corrupt("The backup is damaged: octets cannot be read") from error
