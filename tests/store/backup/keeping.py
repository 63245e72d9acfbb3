"""Rows for every declared table, and shorthands for backups of them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from sqlalchemy import LargeBinary, MetaData, Table, Text

from postroom.core.ids import Ids
from postroom.domain import schema
from postroom.store import backup
from postroom.store.backup import (
    Extra,
    Loading,
    Manifest,
    PostgresLoading,
    Repository,
    Restored,
    Source,
    SqliteLoading,
)
from postroom.store.blobs import Blobs, NewBlob, Place, Slice, insert
from postroom.store.files import Files
from postroom.store.postgres import PostgresDatabase
from postroom.store.schema import MAIL, STATE
from postroom.store.sql import Row, Statement, Tx
from postroom.store.sqlite import SqliteDatabase
from postroom.store.units import Database
from postroom.testing.clock import ManualClock
from tests.stores import Stores

STEPS: Final = {"mail": schema.MAIL_STEPS, "state": schema.STATE_STEPS}
FORMS: Final = {"mail": backup.forms(MAIL), "state": backup.forms(STATE)}
_TEXTS: Final = ("", "plain", "a\r\n\t\"'\\", "\u00e9\U0001f4e7 \u2028", "={}[]", "=", "\x01\x7f")
_OCTETS: Final = (b"", b"=plain", b"a\r\nb", b"\0\xff\x80", b"=\xff", bytes(range(256)))

# Columns whose meaning blobs and the sweeper depend on are filled by the store's own functions.
_BY_THE_STORE: Final = ("blob", "blob_part")


class Keeper:
    """Backups of some stores into one repository, and stores restored from them."""

    def __init__(self, stores: Stores, work: Path, clock: ManualClock) -> None:
        self.stores = stores
        self.work = work
        self.clock = clock
        self.ids = Ids(clock)
        self.files = Files()
        self.blobs = Blobs(str(work / "blobs"), self.files, self.ids)
        self.repository = Repository(str(work / "backups"), self.files)
        self.extras: list[Extra] = []

    async def take(self, *, full: bool = False, files: Files | None = None) -> Manifest:
        """One backup, a second after the last one."""
        self.clock.advance(1)
        repository = self.repository
        if files is not None:
            repository = Repository(repository.root, files)
        sources = [
            Source("mail", self.stores.mail, FORMS["mail"]),
            Source("state", self.stores.state, FORMS["state"]),
        ]
        return await backup.take(
            repository, sources, self.blobs, self.extras, self.clock, release="1", full=full
        )

    async def keep(self, content: bytes) -> NewBlob:
        new = await self.blobs.make(content)
        await self.stores.mail.write(insert, new, self.clock.now())
        return new

    async def rope(self, *parts: Slice, whole: bytes) -> NewBlob:
        spool = self.blobs.spool()
        spool.write(whole)
        new = NewBlob(self.ids.new(), spool.sha256(), len(whole), Place.ROPE, None, parts)
        spool.drop()
        await self.stores.mail.write(insert, new, self.clock.now())
        return new

    def restore(
        self,
        loading: Loading,
        folder: Path,
        name: str = "latest",
        folders: Mapping[str, str] | None = None,
    ) -> Restored:
        """Blocks. Content goes below `folder`."""
        repository = Repository(self.repository.root, self.files)
        blobs = Blobs(str(folder / "blobs"), self.files, self.ids)
        with repository.reading():
            manifest = repository.choose(name)
            return backup.restore(repository, manifest, loading, blobs, STEPS, folders or {})


def loading(engine: str, folder: Path, url: str = "") -> SqliteLoading | PostgresLoading:
    """Empty stores to fill: files below `folder`, or a fresh database."""
    if engine == "postgres":
        return PostgresLoading(url)
    folder.mkdir(exist_ok=True)
    paths = {name: str(folder / f"{name}.db") for name in STEPS}
    return SqliteLoading(paths, Files())


def opened(engine: str, folder: Path, url: str = "") -> tuple[Database, Database]:
    """What was restored, as the server opens it."""
    if engine == "postgres":
        return (
            PostgresDatabase(url, "mail", durable=False),
            PostgresDatabase(url, "state", durable=False),
        )
    return (
        SqliteDatabase(os.path.join(folder, "mail.db"), durable=False),
        SqliteDatabase(os.path.join(folder, "state.db"), durable=False),
    )


# --- rows -----------------------------------------------------------------------------------------


def fill(tx: Tx, metadata: MetaData, rng: random.Random, count: int, first: int) -> None:
    """Some rows for each table, with references that lead somewhere."""
    for table in metadata.sorted_tables:
        if table.name not in _BY_THE_STORE:
            _fill(tx, table, rng, count, first)


def _fill(tx: Tx, table: Table[Any], rng: random.Random, count: int, first: int) -> None:
    columns = [column.name for column in table.columns]
    marks = ", ".join(f":{name}" for name in columns)
    statement = Statement(f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})")
    parents: dict[str, list[Any]] = {}
    for key in table.foreign_keys:
        look = Statement(f"SELECT {key.column.name} FROM {key.column.table.name}")
        parents[key.parent.name] = [row[0] for row in tx.all(look)]
    for n in range(first, first + count):
        row: dict[str, Any] = {}
        for column in table.columns:
            if column.name in parents:
                choices = parents[column.name]
                # A key that is a reference is used once.
                row[column.name] = choices[n % len(choices)] if choices else None
            elif column.nullable and rng.random() < 0.3:
                row[column.name] = None
            else:
                row[column.name] = _value(column, rng, n)
        if any(row[column.name] is None and not column.nullable for column in table.columns):
            continue  # there is nothing to refer to
        tx.run(statement, **row)


def hold(tx: Tx, blob: int, by: int) -> None:
    """Let an envelope in the queue refer to a content."""
    table = MAIL.tables["queue_message"]
    row = {column.name: _value(column, random.Random(by), by) for column in table.columns}
    marks = ", ".join(f":{name}" for name in row)
    statement = Statement(f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({marks})")
    tx.run(statement, **{**row, "blob": blob})


def _value(column: Any, rng: random.Random, n: int) -> Any:
    """A value of the column's type; `n` makes keys and unique columns differ."""
    if isinstance(column.type, Text):
        return f"{n} {rng.choice(_TEXTS)}"
    if isinstance(column.type, LargeBinary):
        return rng.choice(_OCTETS) + rng.randbytes(rng.randint(0, 9))
    return n if column.primary_key else rng.choice((n, 0, 1, (1 << 62) + n))


# --- comparing ------------------------------------------------------------------------------------

# How content lies here, and who works on what, is not the same in another store.
_OWN: Final = {"blob": {"stored", "frames", "data", "place"}}
_LEASE: Final = {"lease", "holder"}


def rows(tx: Tx, metadata: MetaData) -> dict[str, list[Row]]:
    """Everything in a store, but what a restored one may have otherwise."""
    found = {}
    for table in metadata.sorted_tables:
        names = [column.name for column in table.columns]
        own = _OWN.get(table.name, set()) | (_LEASE if set(names) >= _LEASE else set())
        listed = ", ".join(name for name in names if name not in own)
        everything = tx.all(Statement(f"SELECT {listed} FROM {table.name}"))
        found[table.name] = sorted(everything, key=repr)
    return found


async def everything(mail: Database, state: Database) -> dict[str, list[Row]]:
    """Both stores' rows."""
    return await mail.read_much(rows, MAIL) | await state.read_much(rows, STATE)


def contents(tx: Tx, blobs: Blobs) -> dict[int, bytes]:
    """The content of every blob, read as the house reads it."""
    ids = [row[0] for row in tx.all(Statement("SELECT id FROM blob ORDER BY id"))]
    return {blob: blobs.read(tx, blob) for blob in ids}


def run(tx: Tx, /, statement: str, **params: Any) -> int:
    return tx.run(Statement(statement), **params)


def damage(path: Path, at: int) -> None:
    """Flip a bit."""
    whole = bytearray(path.read_bytes())
    whole[at] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(whole)


def packs(keeper: Keeper) -> list[Path]:
    return sorted((Path(keeper.repository.root) / "packs").iterdir())


def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """For what blocks, within a test of coroutines."""
    return asyncio.to_thread(function, *args, **kwargs)
