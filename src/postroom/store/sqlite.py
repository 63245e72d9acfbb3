"""The engine for one machine: SQLite in WAL mode, written by groups of units.

Each worker has one writer thread and one connection for it. The thread takes the store's
flock first and collects what waits afterwards, so that waiting grows the batch; then one
BEGIN IMMEDIATE, a savepoint for each unit, one COMMIT (synchronous=FULL: on disk when it
returns), unlock, and all callers are answered at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

import apsw

from postroom.core.errors import Busy, Corrupt, MailError, ShuttingDown, StoreFailed, StoreFull
from postroom.store.sql import Params, Row, Statement
from postroom.store.units import (
    BATCH_SECONDS,
    BATCH_UNITS,
    LANE_LIMITS,
    WAL_FORCED_CHECKPOINT,
    Lane,
    Unit,
)

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[list[object]], None]

_READERS: Final = 4
_CHECKPOINT_PAGES: Final = 1_000
_CHECKPOINT_EVERY: Final = 0.5  # seconds
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
    it (NORMAL) the last second may be lost, the file never damaged.
    """
    db = apsw.Connection(path, vfs=vfs, statementcachesize=_STATEMENTS_KEPT)
    db.set_busy_timeout(10_000)
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    db.execute("PRAGMA foreign_keys=ON")
    db.execute("PRAGMA temp_store=MEMORY")
    db.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
    db.wal_autocheckpoint(0)  # checkpoints run outside the commit, in a thread of their own
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


class _Waiting:
    """A unit in line, and then its answer."""

    __slots__ = ("error", "future", "result", "run")

    def __init__(
        self, run: Callable[[SqliteTx], object], future: asyncio.Future[Any] | None
    ) -> None:
        self.run = run
        self.future = future
        self.result: object = None
        self.error: BaseException | None = None


class Writer:
    """The one thread of this process that writes to one store file."""

    def __init__(
        self,
        path: str,
        *,
        durable: bool,
        vfs: str | None,
        loop: asyncio.AbstractEventLoop,
        listener: Listener,
    ) -> None:
        self._path = path
        self._durable = durable
        self._vfs = vfs
        self._loop = loop
        self._listener = listener
        self._lanes: tuple[deque[_Waiting], ...] = (deque(), deque(), deque())
        self._wake = threading.Condition()
        self._closing = False
        self._lock = FileLock(path + ".lock")
        self._db = connect(path, durable=durable, vfs=vfs)
        self.batches = 0
        self.units = 0
        self._thread = threading.Thread(target=self._work, name=f"writer {path}", daemon=True)
        self._thread.start()

    def put(self, lane: Lane, waiting: _Waiting) -> None:
        """Put a unit in line; raises Busy if the lane is full, ShuttingDown after `close`."""
        with self._wake:
            if self._closing:
                raise ShuttingDown
            line = self._lanes[lane]
            if len(line) >= LANE_LIMITS[lane]:
                raise Busy(detail=f"{len(line)} units wait in lane {lane.name}")
            line.append(waiting)
            self._wake.notify()

    def waiting(self) -> tuple[int, ...]:
        """How many units wait in each lane."""
        return tuple(len(line) for line in self._lanes)

    def close(self) -> None:
        """Finish what waits and stop. Blocks; call it from a thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # --- in the thread -------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not any(self._lanes):
                    if self._closing:
                        self._db.close()
                        self._lock.close()
                        return
                    self._wake.wait()
            done: list[_Waiting] = []
            events: list[object] = []
            with self._lock.held():
                self._shorten_wal()
                self._batch(done, events)
            self._answer(done, events)

    def _take(self, background_taken: int) -> _Waiting | None:
        with self._wake:
            persons, mail, background = self._lanes
            # One background unit goes with each batch, so that it never starves.
            if background and (background_taken == 0 or not (persons or mail)):
                return background.popleft()
            if persons:
                return persons.popleft()
            if mail:
                return mail.popleft()
            return None

    def _batch(self, done: list[_Waiting], events: list[object]) -> None:
        db = self._db
        ends = time.monotonic() + BATCH_SECONDS
        background = 0
        try:
            db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            self._fail_one_each(done, engine_error(error))
            return
        while len(done) < BATCH_UNITS:
            before = len(self._lanes[Lane.BACKGROUND])
            waiting = self._take(background)
            if waiting is None:
                break
            background += len(self._lanes[Lane.BACKGROUND]) < before
            done.append(waiting)
            if not self._try(waiting, events):
                # The engine gave up the whole batch (full, I/O error): each unit alone.
                events.clear()
                self._each_alone(done, events)
                return
            if time.monotonic() > ends:
                break
        self._commit(done, events)

    def _try(self, waiting: _Waiting, events: list[object]) -> bool:
        """Run one unit under a savepoint; False if the engine left the transaction."""
        db = self._db
        tx = SqliteTx(db)
        try:
            db.execute("SAVEPOINT unit")
            waiting.result = waiting.run(tx)
            db.execute("RELEASE unit")
        except Exception as error:  # the unit's own error goes to its caller, whatever it is
            waiting.error = engine_error(error) if isinstance(error, apsw.Error) else error
            if not db.in_transaction:
                return False
            try:
                db.execute("ROLLBACK TO unit")
                db.execute("RELEASE unit")
            except apsw.Error:
                return False
            return True
        events += tx.events
        return True

    def _commit(self, done: list[_Waiting], events: list[object]) -> None:
        try:
            self._db.execute("COMMIT")
        except apsw.Error as error:
            self._roll_back()
            events.clear()
            failure = engine_error(error)
            for waiting in done:
                waiting.error = waiting.error or failure
        self.batches += 1
        self.units += len(done)

    def _each_alone(self, done: list[_Waiting], events: list[object]) -> None:
        self._roll_back()
        for waiting in done:
            waiting.error = None
            own: list[object] = []
            try:
                self._db.execute("BEGIN IMMEDIATE")
            except apsw.Error as error:
                waiting.error = engine_error(error)
                continue
            if self._try(waiting, own):
                self._commit([waiting], own)
                if waiting.error is None:
                    events += own
            else:
                self._roll_back()

    def _fail_one_each(self, done: list[_Waiting], failure: MailError) -> None:
        while (waiting := self._take(0)) is not None:
            waiting.error = failure
            done.append(waiting)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except apsw.Error:
                # A connection that cannot even roll back is replaced by a fresh one.
                self._db.close(True)
                self._db = connect(self._path, durable=self._durable, vfs=self._vfs)

    def _shorten_wal(self) -> None:
        """Past the bound, the lock holder restarts the WAL itself: readers lag, not the disk."""
        try:
            if os.stat(self._path + "-wal").st_size > WAL_FORCED_CHECKPOINT:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except (FileNotFoundError, apsw.Error):
            return  # no WAL yet, or busy readers: the next holder tries again

    def _answer(self, done: list[_Waiting], events: list[object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, done, events)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _deliver(self, done: list[_Waiting], events: list[object]) -> None:
        for waiting in done:
            future = waiting.future
            if future is None or future.done():
                continue
            if waiting.error is not None:
                future.set_exception(waiting.error)
            else:
                future.set_result(waiting.result)
        if events:
            self._listener(events)


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
            except FileNotFoundError:
                continue
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
        self.dropped_notes = 0

    def _reader(self) -> apsw.Connection:
        db = connect(self._path, durable=self._durable, vfs=self._vfs)
        db.execute("PRAGMA query_only=ON")
        return db

    def _submit(
        self, lane: Lane, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self.writer.put(lane, _Waiting(lambda tx: unit(tx, *args, **kwargs), future))
        return future

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.PERSON, unit, *args, **kwargs)

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.MAIL, unit, *args, **kwargs)

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.BACKGROUND, unit, *args, **kwargs)

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            self.writer.put(Lane.BACKGROUND, _Waiting(lambda tx: unit(tx, *args, **kwargs), None))
        except (Busy, ShuttingDown):
            self.dropped_notes += 1

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
    try:
        db.execute("BEGIN")
        try:
            return unit(SqliteTx(db), *args, **kwargs)
        finally:
            if db.in_transaction:
                db.execute("COMMIT")
    except apsw.Error as error:
        raise engine_error(error) from error
