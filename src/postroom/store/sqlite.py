"""The engine for one machine: SQLite in WAL mode, written by groups of units.

Each worker has one writer (`sqlite_writer`), one connection for short reads on the loop, a few
for long ones in threads, and a thread that moves the WAL into the file.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

import apsw

from postroom.core.errors import Busy, ShuttingDown
from postroom.store.sqlite_engine import FileLock, SqliteTx, connect, house_errors
from postroom.store.sqlite_writer import Listener, Waiting, Writer
from postroom.store.units import Lane, Unit

__all__ = ["SqliteDatabase", "SqliteTx", "connect"]

P = ParamSpec("P")
T = TypeVar("T")

_READERS: Final = 4
_CHECKPOINT_PAGES: Final = 1_000
_CHECKPOINT_EVERY: Final = 0.5  # seconds


class Checkpointer:
    """Moves the WAL into the file, outside every commit; one process at a time."""

    def __init__(self, path: str, *, durable: bool, vfs: str | None) -> None:
        self._path = path
        self._stop = threading.Event()
        self._lock = FileLock(path + ".checkpoint")
        self._db = connect(path, durable=durable, vfs=vfs)
        self._thread = threading.Thread(target=self._work, name=f"checkpoint {path}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        bound = _CHECKPOINT_PAGES * 4096
        while not self._stop.wait(_CHECKPOINT_EVERY):
            try:
                if os.stat(self._path + "-wal").st_size < bound or not self._lock.try_hold():
                    continue
            except OSError:
                continue  # there is no WAL yet, or the disk fails: the next round looks again
            try:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            except apsw.Error:
                continue  # a full disk or a busy file: the WAL keeps all, the next round retries
            finally:
                self._lock.let_go()
        self._db.close()
        self._lock.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class SqliteDatabase:
    """One store file; see `units.Database`. Construct after the fork, in a running loop."""

    def __init__(
        self,
        path: str,
        *,
        durable: bool,
        listener: Listener = lambda events: None,
        vfs: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._path = path
        self._durable = durable
        self._vfs = vfs
        self.writer = Writer(path, durable=durable, vfs=vfs, loop=self._loop, listener=listener)
        self._checkpointer = Checkpointer(path, durable=durable, vfs=vfs)
        self._inline = self._reader()
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        self._idle: deque[apsw.Connection] = deque()
        self._dropped_notes = 0

    @property
    def dropped_notes(self) -> int:
        """Notes that found no place in line, or failed."""
        return self._dropped_notes + self.writer.failed_notes

    def _reader(self) -> apsw.Connection:
        db = connect(self._path, durable=self._durable, vfs=self._vfs)
        db.execute("PRAGMA query_only=ON")
        return db

    def _submit(
        self, lane: Lane, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self.writer.put(lane, Waiting(lambda tx: unit(tx, *args, **kwargs), future))
        return future

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.PERSON, unit, *args, **kwargs)

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.MAIL, unit, *args, **kwargs)

    async def write_much(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = Waiting(lambda tx: unit(tx, *args, **kwargs), future, heavy=True)
        self.writer.put(Lane.PERSON, waiting)
        return await future

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = Waiting(lambda tx: unit(tx, *args, **kwargs), future, heavy=True)
        self.writer.put(Lane.BACKGROUND, waiting)
        return await future

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            waiting = Waiting(lambda tx: unit(tx, *args, **kwargs), None, heavy=True)
            self.writer.put_note(Lane.BACKGROUND, waiting)
        except (Busy, ShuttingDown):
            self._dropped_notes += 1

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _snapshot(self._inline, unit, *args, **kwargs)

    async def read_much(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def work() -> T:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._reader()
            try:
                return _snapshot(db, unit, *args, **kwargs)
            finally:
                self._idle.append(db)

        return await self._loop.run_in_executor(self._pool, work)

    async def damage(self) -> list[str]:
        def look() -> list[str]:
            db = self._reader()
            try:
                found = [row[0] for row in db.execute("PRAGMA integrity_check(100)")]
                found += [
                    f"{table} {row}: its reference to {parent} leads nowhere"
                    for table, row, parent, _ in db.execute("PRAGMA foreign_key_check")
                ]
                return [text for text in found if text != "ok"]
            except apsw.Error as error:
                return [str(error)]
            finally:
                db.close()

        return await self._loop.run_in_executor(self._pool, look)

    async def close(self) -> None:
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self._checkpointer.close)
        await asyncio.to_thread(self._pool.shutdown)
        self._inline.close()
        while self._idle:
            self._idle.pop().close()


def _snapshot(db: apsw.Connection, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a read on one snapshot of the store."""
    with house_errors():
        db.execute("BEGIN")
        try:
            return unit(SqliteTx(db), *args, **kwargs)
        finally:
            if db.in_transaction:
                db.execute("COMMIT")
