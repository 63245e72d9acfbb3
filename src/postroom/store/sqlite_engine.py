"""The SQLite engine as every part of the store uses it: connections, transactions, its errors as
the house's, and the lock between processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import apsw

from postroom.core.errors import Busy, Corrupt, MailError, StoreFailed, StoreFull
from postroom.store.sql import Params, Row, Statement

BUSY_MS: Final = 10_000
"""For a foreign writer, such as a shell of the operator."""

_CACHE_KIB: Final = 32 * 1024
_STATEMENTS_KEPT: Final = 300


class SqliteTx:
    """A transaction on one connection; see `sql.Tx`."""

    __slots__ = ("_db", "_execute", "events")

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._execute = db.execute
        self.events: list[object] = []

    def all(self, statement: Statement, **params: Any) -> list[Row]:
        return self._execute(statement.sqlite, statement.for_sqlite(params)).fetchall()

    def one(self, statement: Statement, **params: Any) -> Row | None:
        cursor = self._execute(statement.sqlite, statement.for_sqlite(params))
        row: Row | None = cursor.fetchone()
        cursor.close(True)
        return row

    def run(self, statement: Statement, **params: Any) -> int:
        for _ in self._execute(statement.sqlite, statement.for_sqlite(params)):
            pass
        return self._db.changes()

    def many(self, statement: Statement, rows: Iterable[Params]) -> None:
        self._db.executemany(statement.sqlite, rows)

    def after(self, event: object) -> None:
        self.events.append(event)


def connect(path: str, *, durable: bool, vfs: str | None = None) -> apsw.Connection:
    """Open a connection as every part of the house uses it.

    `durable` chooses synchronous=FULL: a COMMIT that returned survives a power cut. Without
    it (NORMAL) the last second may be lost, the file never damaged. Raises StoreFailed, Corrupt.
    """
    with house_errors(), contextlib.ExitStack() as undo:
        db = apsw.Connection(path, vfs=vfs, statementcachesize=_STATEMENTS_KEPT)
        undo.callback(db.close, True)
        db.set_busy_timeout(BUSY_MS)
        # A plan holds for whatever is bound. Else a statement is planned anew each time where a
        # value might lead to another plan, as behind each LIMIT: that cost more than it ran.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        db.execute("PRAGMA journal_mode=WAL").fetchall()
        db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("PRAGMA temp_store=MEMORY")
        db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        db.wal_autocheckpoint(0)  # checkpoints run outside the commit, in a thread of their own
        undo.pop_all()
    return db


def engine_error(error: apsw.Error) -> MailError:
    """The house's word for what the engine said."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, apsw.FullError):
        return StoreFull(detail=detail)
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return Corrupt(detail=detail)
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return Busy(detail=detail)
    return StoreFailed(detail=detail)


@contextlib.contextmanager
def house_errors() -> Iterator[None]:
    """Turn what the engine raises into the house's errors."""
    try:
        yield
    except apsw.Error as error:
        raise engine_error(error) from error


class FileLock:
    """An exclusive flock between processes; opened after the fork, so that each has its own."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def try_hold(self) -> bool:
        """Take the lock if it is free; the caller lets go with `let_go`."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def let_go(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._fd)
