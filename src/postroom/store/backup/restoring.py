"""Filling empty stores from a backup, on either engine.

The schema is made as it was when the backup was taken, and the rows go in as they were, what is
referred to first; the caller then migrates the rest (`migrate`). Content comes to lie as this
release would put it: in a row or in a file, raw. Leases are given up, for whoever held them is
not here. SQLite is filled under another name and appears when it is whole; PostgreSQL in one
transaction: what is interrupted leaves no store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import apsw
import psycopg

from postroom.core.errors import AlreadyExists, Corrupt, MailError, Misuse
from postroom.core.ids import BLOB, external
from postroom.store import postgres as pg
from postroom.store import sqlite_engine as lite
from postroom.store.backup.packs import FRAME
from postroom.store.backup.repository import (
    Entry,
    Kept,
    Manifest,
    Repository,
    StoreCopy,
    TableCopy,
    decode_places,
)
from postroom.store.backup.rows import CONTENT, decode
from postroom.store.backup.taking import GONE
from postroom.store.blobs import ROW_LIMIT, Blobs, Place
from postroom.store.files import Chunk, Files
from postroom.store.migrate import MAKE_STEPS, NewerSchema
from postroom.store.schema import Step

UNFINISHED: Final = ".restoring"
"""What ends the name of an SQLite file that is being filled."""

GROUP_OCTETS: Final = 16 << 20
GROUP_FILES: Final = 64
PROBLEMS_LISTED: Final = 1_000

_CONTENT_COLUMNS: Final = ("stored", "frames", "data")
_LEASE: Final = frozenset({"lease", "holder"})
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_*@+-][A-Za-z0-9_.*@+-]{0,200}")

Columns = Mapping[str, bool]
"""The columns of a table in the store that is filled: whether each must be given a value."""


@dataclass(slots=True)
class Restored:
    """What was put where, and what could not be had."""

    rows: int = 0
    blobs: int = 0
    octets: int = 0
    files: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_LISTED:
            self.problems.append(text)


class Loading(Protocol):
    """Empty stores of one engine that are filled."""

    def make(self, store: str, steps: Sequence[Step]) -> None:
        """Make the tables; raises AlreadyExists if they are there."""
        ...

    def columns(self, store: str, table: str) -> Columns:
        """Those of a table; none if there is no such table."""
        ...

    def insert(
        self, store: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Put rows in. `table` and `columns` are names that `columns` gave."""
        ...

    def run(self, store: str, statement: str) -> None:
        """Execute one of our own statements."""
        ...

    def finish(self) -> None:
        """Make it all durable and visible."""
        ...


# --- engines --------------------------------------------------------------------------------------


class SqliteLoading:
    """Store files, filled under another name. Close it, finished or not."""

    def __init__(self, paths: Mapping[str, str], files: Files) -> None:
        """`paths` is where each store will lie."""
        self._paths = dict(paths)
        self._files = files
        self._open: dict[str, apsw.Connection] = {}

    def make(self, store: str, steps: Sequence[Step]) -> None:
        path = self._paths[store]
        if self._files.exists(path):
            raise AlreadyExists(f"There is a store in {os.path.dirname(path)}")
        for end in ("", "-journal", "-wal", "-shm"):
            self._files.unlink(path + UNFINISHED + end)  # of a run that was interrupted
        self._files.write_durably(path + UNFINISHED, [])  # its owner's alone from the beginning
        with lite.house_errors():
            db = self._open[store] = apsw.Connection(path + UNFINISHED)
            # Nobody else sees it, and if we do not come to the end it is made anew.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute("PRAGMA foreign_keys=ON")
            for step in steps:
                for statement in step.sqlite:
                    db.execute(statement)
            db.execute(MAKE_STEPS)
            numbered = [(step.number, step.name) for step in steps]
            db.executemany("INSERT INTO schema_step VALUES (?, ?)", numbered)

    def columns(self, store: str, table: str) -> Columns:
        with lite.house_errors():
            rows = self._open[store].execute("SELECT * FROM pragma_table_info(?)", (table,))
            return {name: bool(needed and default is None)
                    for _, name, _, needed, default, _ in rows}  # fmt: skip

    def insert(
        self, store: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        db = self._open[store]
        with lite.house_errors(), db:
            db.executemany(statement, rows)

    def run(self, store: str, statement: str) -> None:
        with lite.house_errors():
            self._open[store].execute(statement).fetchall()

    def finish(self) -> None:
        for store in list(self._open):
            with lite.house_errors():
                self._open.pop(store).close()
        for path in self._paths.values():
            self._files.replace_durably(path + UNFINISHED, path)

    def close(self) -> None:
        """Let go; what is not finished is no store."""
        while self._open:
            self._open.popitem()[1].close(True)


class PostgresLoading:
    """Schemas of one database, filled in one transaction. Close it, finished or not."""

    def __init__(self, conninfo: str) -> None:
        with _postgres_errors():
            self._db = pg.connect(conninfo, "public", durable=True)
            self._db.execute("SET idle_in_transaction_session_timeout = 0")
            self._db.execute("BEGIN")

    def make(self, store: str, steps: Sequence[Step]) -> None:
        with _postgres_errors():
            if self.occupied(store):
                raise AlreadyExists("The database holds a store")
            self._db.execute(f"CREATE SCHEMA IF NOT EXISTS {store}".encode())
            self._db.execute(f"SET LOCAL search_path = {store}".encode())
            for step in steps:
                for statement in step.postgres:
                    self._db.execute(statement.encode())
            self._db.execute(MAKE_STEPS)
            with self._db.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO schema_step VALUES (%s, %s)",
                    [(step.number, step.name) for step in steps],
                )

    def occupied(self, store: str) -> bool:
        """Whether the schema holds tables."""
        with _postgres_errors():
            there = self._db.execute(
                "SELECT count(*) FROM information_schema.tables WHERE table_schema = %s", (store,)
            ).fetchone()
            return there is not None and there[0] > 0

    def columns(self, store: str, table: str) -> Columns:
        with _postgres_errors():
            rows = self._db.execute(
                """SELECT column_name, is_nullable = 'NO' AND column_default IS NULL
                FROM information_schema.columns WHERE table_schema = %s AND table_name = %s""",
                (store, table),
            )
            return dict(rows.fetchall())

    def insert(
        self, store: str, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> None:
        statement = f"COPY {store}.{table} ({', '.join(columns)}) FROM STDIN"
        with (
            _postgres_errors(),
            self._db.cursor() as cursor,
            cursor.copy(statement.encode()) as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def run(self, store: str, statement: str) -> None:
        with _postgres_errors():
            self._db.execute(f"SET LOCAL search_path = {store}".encode())
            self._db.execute(statement.encode())

    def finish(self) -> None:
        with _postgres_errors():
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Let go; what is not finished is rolled back."""
        self._db.close()


@contextlib.contextmanager
def _postgres_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise pg.engine_error(error) from error


# --- filling --------------------------------------------------------------------------------------


def restore(
    repository: Repository,
    manifest: Manifest,
    loading: Loading,
    blobs: Blobs,
    steps: Mapping[str, Sequence[Step]],
    folders: Mapping[str, str],
) -> Restored:
    """Fill the stores, write the files, finish. Blocks; call it within `reading`.

    `steps` are this release's for each store, `folders` the place of each folder of small
    files; a file that is there already stays. Content that is damaged or missing is named in the
    answer, and its message stays without; anything else that is damaged raises Corrupt. Raises
    AlreadyExists, Misuse for a backup that does not fit this release, NewerSchema, StoreFull.
    """
    run = _Run(repository, loading, blobs)
    for copy in manifest.stores:
        if copy.name not in steps:
            raise Misuse(f"The backup holds a store {copy.name}, which this release does not know")
        loading.make(copy.name, _steps(copy, steps[copy.name]))
        fitting = [(table, run.fitting(copy, table)) for table in copy.tables if table.rows]
        for table, names in fitting:
            run.table(manifest, copy, table, names)
        run.settle(copy)
    run.files(manifest, folders)
    loading.finish()
    return run.report


def _steps(copy: StoreCopy, steps: Sequence[Step]) -> list[Step]:
    newest = max((step.number for step in steps), default=0)
    if copy.step > newest:
        raise NewerSchema(
            "The backup was made by a newer release of Postroom; please install that one",
            detail=f"schema step {copy.step}, this release knows {newest}",
        )
    return [step for step in steps if step.number <= copy.step]


class _Run:
    def __init__(self, repository: Repository, loading: Loading, blobs: Blobs) -> None:
        self._repository = repository
        self._loading = loading
        self._blobs = blobs
        self._gone: list[int] = []
        self.report = Restored()

    def table(
        self, manifest: Manifest, store: StoreCopy, table: TableCopy, names: list[str]
    ) -> None:
        """Fill one table; `names` are its columns, as `fitting` gave them."""
        entries = self._repository.entries(table.chunks)
        content = table.name == CONTENT
        places = self._repository.entries(manifest.content.places) if content else []
        if content and len(places) != len(entries):
            raise Corrupt("The backup is damaged: its content does not fit its table")
        for number, entry in enumerate(entries):
            rows = decode(table.columns, self._repository.packs.read(entry.ref))
            if content:
                self._contents(store, names, rows, places[number])
            else:
                self._loading.insert(store.name, table.name, names, rows)
            self.report.rows += len(rows)

    def fitting(self, store: StoreCopy, table: TableCopy) -> list[str]:
        """The columns' names, which are those of the table that was made and no other text.

        Raises Misuse if the table of this release has others.
        """
        there = self._loading.columns(store.name, table.name)
        names = [name for name, _ in table.columns]
        given = {*names, *(_CONTENT_COLUMNS if table.name == CONTENT else ())}
        needed = {name for name, must in there.items() if must}
        if not there or len(set(names)) != len(names) or given - set(there) or needed - given:
            odd = sorted((given - set(there)) | (needed - given)) if there else ["the table"]
            raise Misuse(
                f"The backup does not fit this release: {store.name}.{table.name} differs in "
                + ", ".join(odd)
            )
        return names

    def settle(self, store: StoreCopy) -> None:
        """What must not be as it was: leases, and content that was on its way out."""
        if self._gone:
            # Nothing refers to it; its parse goes with it.
            for start in range(0, len(self._gone), 500):
                listed = ", ".join(map(str, self._gone[start : start + 500]))
                self._loading.run(store.name, f"DELETE FROM {CONTENT} WHERE id IN ({listed})")
            self._gone.clear()
        for table in store.tables:
            if set(self._loading.columns(store.name, table.name)) >= _LEASE:
                statement = f"UPDATE {table.name} SET lease = 0, holder = 0 WHERE lease > 0"
                self._loading.run(store.name, statement)

    # --- content ----------------------------------------------------------------------------

    def _contents(
        self, store: StoreCopy, names: list[str], rows: list[list[Any]], entry: Entry
    ) -> None:
        """The blobs of a chunk with their content, in groups that fit in memory."""
        told = decode_places(self._repository.packs.read(entry.ref))
        places = {kept.blob: kept for kept in told}
        at = {name: names.index(name) for name in ("id", "sha256", "size", "place")}
        columns = [*names, *_CONTENT_COLUMNS]
        made: list[list[Any]] = []
        held = 0
        large: list[tuple[str, Iterable[Chunk]]] = []
        written = 0
        for row in rows:
            blob, sha256, size, place = (row[at[name]] for name in at)
            if not _is_blob(blob, sha256, size):
                raise Corrupt("The backup is damaged: a blob is none")
            if place == Place.ROPE:
                made.append([*row, 0, None, None])
                continue
            kept = places.get(blob)
            pieces = self._content(blob, sha256, size, kept)
            row[at["place"]] = Place.ROW if pieces is None or size <= ROW_LIMIT else Place.FILE
            if pieces is None:
                made.append([*row, size, None, None])
            elif size <= ROW_LIMIT:
                made.append([*row, size, None, b"".join(pieces)])
                held += size
            else:
                path = self._blobs.path(blob, sha256, compressed=False)
                large.append((path, pieces))
                written += size
                made.append([*row, size, None, None])
            if held >= GROUP_OCTETS or written >= GROUP_OCTETS or len(large) >= GROUP_FILES:
                self._flush(store, columns, made, large)
                held = written = 0
        self._flush(store, columns, made, large)

    def _flush(
        self,
        store: StoreCopy,
        columns: Sequence[str],
        made: list[list[Any]],
        large: list[tuple[str, Iterable[Chunk]]],
    ) -> None:
        if large:
            self._blobs.files.write_many_durably(large)
        self._loading.insert(store.name, CONTENT, columns, made)
        made.clear()
        large.clear()

    def _content(
        self, blob: int, sha256: bytes, size: int, kept: Kept | None
    ) -> Iterable[bytes] | None:
        """A blob's content, proved before it is given; None, and a problem, if it is not there."""
        name = f"blob {external(BLOB, blob)}"
        if kept is not None and kept.why == GONE:
            self._gone.append(blob)
            return None
        if kept is None or kept.ref is None:
            self.report.problem(f"{name}: its content is not in the backup")
            return None
        if kept.why:
            self.report.problem(f"{name}: its content was damaged when the backup was made")
        elif kept.ref.sha256 != sha256.hex() or kept.ref.size != size:
            raise Corrupt(f"The backup is damaged: {name} is not what its table says")
        packs, ref = self._repository.packs, kept.ref
        try:
            if size <= FRAME:
                pieces: Iterable[bytes] = (packs.read(ref),)
            else:
                # Read twice: nothing is written that is not what it should be.
                for _ in packs.pieces(ref):
                    pass
                pieces = packs.pieces(ref)
        except MailError as error:
            self.report.problem(f"{name}: {error.detail or error}")
            return None
        self.report.blobs += 1
        self.report.octets += size
        return pieces

    # --- files ------------------------------------------------------------------------------

    def files(self, manifest: Manifest, folders: Mapping[str, str]) -> None:
        """The small files of the data directory, where none of that name is."""
        files = self._blobs.files
        for kept in manifest.files:
            folder = folders.get(kept.folder)
            if folder is None or not _FILE_NAME.fullmatch(kept.name):
                self.report.problem(f"{kept.folder}/{kept.name} is not a file that is restored")
                continue
            path = os.path.join(folder, kept.name)
            if not files.exists(path):
                files.write_durably(path, [self._repository.packs.read(kept.ref)])
                self.report.files += 1


def _is_blob(blob: Any, sha256: Any, size: Any) -> bool:
    """Of the types of which paths are made."""
    return (
        type(blob) is int
        and 0 <= blob < 1 << 63
        and type(sha256) is bytes
        and len(sha256) == hashlib.sha256().digest_size
        and type(size) is int
        and size >= 0
    )
