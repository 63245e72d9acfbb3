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
from postroom.store.lanes import Lanes
from postroom.store.sql import Params, Row, Statement
from postroom.store.units import (
    BATCH_SECONDS,
    BATCH_UNITS,
    LOOP_LATE,
    LOOP_SECONDS,
    WAL_FORCED_CHECKPOINT,
    Lane,
    Unit,
    answerable,
)

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[list[object]], None]

_READERS: Final = 4
_CHECKPOINT_PAGES: Final = 1_000
_CHECKPOINT_EVERY: Final = 0.5  # seconds
_BUSY_MS: Final = 10_000  # for a foreign writer, such as a shell of the operator
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
        db.set_busy_timeout(_BUSY_MS)
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


class _Waiting:
    """A unit in line, and then its answer."""

    __slots__ = ("error", "future", "heavy", "result", "run")

    def __init__(
        self,
        run: Callable[[SqliteTx], object],
        future: asyncio.Future[Any] | None,
        *,
        heavy: bool = False,
    ) -> None:
        self.run = run
        self.future = future
        self.heavy = heavy  # takes longer than the loop may be held
        self.result: object = None
        self.error: BaseException | None = None


class _Turn:
    """The loop's part of a batch."""

    __slots__ = ("_claim", "done", "ends", "events", "heavy", "over", "sound")

    def __init__(self, done: list[_Waiting], events: list[object], ends: float) -> None:
        self.done = done
        self.ends = ends  # of the batch, by time.monotonic()
        self.events = events
        self.heavy: _Waiting | None = None  # taken, and left to the thread
        self.sound = True  # the engine is still in the transaction
        self.over = threading.Event()
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """True for the first who asks: it is his to run."""
        return self._claim.acquire(blocking=False)


class Writer:
    """Writes to one store file: a thread holds lock and fsync, the loop runs light units."""

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
        self._lanes: Lanes[_Waiting] = Lanes()
        self._lock = FileLock(path + ".lock")
        self._db = connect(path, durable=durable, vfs=vfs)
        self._usable = True
        self.batches = 0
        self.units = 0
        self.failed_notes = 0
        self._thread = threading.Thread(target=self._work, name=f"writer {path}", daemon=True)
        self._thread.start()

    def put(self, lane: Lane, waiting: _Waiting) -> None:
        """Put a unit in line; raises Busy if the lane is full, ShuttingDown after `close`."""
        self._lanes.put(lane, waiting)

    def waiting(self) -> tuple[int, ...]:
        """How many units wait in each lane."""
        return self._lanes.waiting()

    def close(self) -> None:
        """Finish what waits and stop. Blocks; call it from a thread."""
        self._lanes.close()
        self._thread.join()

    # --- in the thread -------------------------------------------------------------------

    def _work(self) -> None:
        while self._lanes.wait():
            done: list[_Waiting] = []
            events: list[object] = []
            try:
                with self._lock.held():
                    self._shorten_wal()
                    self._batch(done, events)
            except OSError as refused:  # the lock itself failed: nothing was begun
                self._fail_waiting(done, StoreFailed(detail=f"the lock: {refused}"))
            self._answer(done, events)
        self._db.close()
        self._lock.close()

    def _batch(self, done: list[_Waiting], events: list[object]) -> None:
        ends = time.monotonic() + BATCH_SECONDS
        try:
            self._begin()
        except MailError as error:
            self._fail_waiting(done, error)
            return
        self._lanes.next_round()
        while True:
            turn = _Turn(done, events, ends)
            self._on_loop(turn)
            sound, heavy = turn.sound, turn.heavy
            if sound and heavy is not None:
                done.append(heavy)
                sound = self._try(heavy, events)
            if not sound or heavy is None:
                break
            if len(done) >= BATCH_UNITS or time.monotonic() > ends:
                break
        if sound:
            self._commit(done, events)
        else:
            # The engine gave up the whole batch (full, I/O error): each unit alone.
            events.clear()
            self._each_alone(done, events)

    def _on_loop(self, turn: _Turn) -> None:
        """Have the loop run the light units of the batch, and wait until it has.

        Here in the thread each statement would let go of the interpreter's lock and wait for
        it again, twenty times for a delivery, while the loop is busy: that cost more than the
        units. A loop that is late or gone must not keep the other workers from the store: then
        they run here after all.
        """
        try:
            self._loop.call_soon_threadsafe(self._claimed_units, turn)
        except RuntimeError:
            self._light_units(turn)
            return
        if turn.over.wait(LOOP_LATE):
            return
        if turn.claim():
            self._light_units(turn)
        else:
            turn.over.wait()

    def _claimed_units(self, turn: _Turn) -> None:
        """On the loop: the units, unless the thread has taken them back."""
        if turn.claim():
            self._light_units(turn)

    def _light_units(self, turn: _Turn) -> None:
        """Run units for as long as the loop may be held; stop at a heavy one."""
        ends = min(turn.ends, time.monotonic() + LOOP_SECONDS)
        try:
            while len(turn.done) < BATCH_UNITS and (waiting := self._lanes.take()) is not None:
                if waiting.heavy:
                    turn.heavy = waiting
                    break
                turn.done.append(waiting)
                if not self._try(waiting, turn.events):
                    turn.sound = False
                    break
                if time.monotonic() > ends:
                    break
        finally:
            turn.over.set()

    def _begin(self) -> None:
        if not self._usable:
            self._db = connect(self._path, durable=self._durable, vfs=self._vfs)
            self._usable = True
        with house_errors():
            self._db.execute("BEGIN IMMEDIATE")

    def _try(self, waiting: _Waiting, events: list[object]) -> bool:
        """Run one unit under a savepoint; False if the engine left the transaction."""
        db = self._db
        tx = SqliteTx(db)
        try:
            db.execute("SAVEPOINT unit")
            waiting.result = waiting.run(tx)
            db.execute("RELEASE unit")
        except BaseException as error:  # the unit's own error goes to its caller, whatever it is
            waiting.error = (
                engine_error(error) if isinstance(error, apsw.Error) else answerable(error)
            )
            try:
                if not db.in_transaction:
                    return False
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
            for waiting in done:
                waiting.error = waiting.error or engine_error(error)
            self._bury()
        self.batches += 1
        self.units += len(done)

    def _bury(self) -> None:
        """Write something harmless over a commit that failed.

        If only its sync failed, it lies in the WAL whole, and whoever opens the store after a
        crash would take it for kept, although its units were told otherwise. Any later commit
        overwrites it; this one does so at once, as far as the disk lets it.
        """
        try:
            self._begin()
            version = self._db.pragma("user_version")
            self._db.pragma("user_version", 1 - min(version, 1))
            self._db.execute("COMMIT")
        except (apsw.Error, MailError):
            self._roll_back()  # those who were here were told already, and the next will be

    def _each_alone(self, done: list[_Waiting], events: list[object]) -> None:
        self._roll_back()
        for waiting in done:
            waiting.error = None
            own: list[object] = []
            try:
                self._begin()
            except MailError as error:
                waiting.error = error
                continue
            if self._try(waiting, own):
                self._commit([waiting], own)
                events += own
            else:
                self._roll_back()

    def _fail_waiting(self, done: list[_Waiting], failure: MailError) -> None:
        """Answer a batch of those who wait: the store cannot even begin."""
        while len(done) < BATCH_UNITS and (waiting := self._lanes.take()) is not None:
            waiting.error = type(failure)(detail=failure.detail)  # each caller raises its own
            done.append(waiting)

    def _roll_back(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error:
            # A connection that cannot even roll back is given up; the next unit opens another.
            self._db.close(True)
            self._usable = False

    def _shorten_wal(self) -> None:
        """Past the bound, the lock holder restarts the WAL itself.

        It does not wait for readers, as all who write wait for it: the next holder tries again.
        """
        try:
            if os.stat(self._path + "-wal").st_size <= WAL_FORCED_CHECKPOINT:
                return
        except OSError:
            return  # there is no WAL yet; what else is wrong with it, the commit will say
        with contextlib.suppress(apsw.Error):  # readers, or a disk that fails: the WAL keeps all
            try:
                self._db.set_busy_timeout(0)
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                self._db.set_busy_timeout(_BUSY_MS)

    def _answer(self, done: list[_Waiting], events: list[object]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, done, events)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def _deliver(self, done: list[_Waiting], events: list[object]) -> None:
        for waiting in done:
            future = waiting.future
            if future is None:
                self.failed_notes += waiting.error is not None
            elif future.done():
                continue
            elif waiting.error is not None:
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
        self.writer.put(lane, _Waiting(lambda tx: unit(tx, *args, **kwargs), future))
        return future

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.PERSON, unit, *args, **kwargs)

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.MAIL, unit, *args, **kwargs)

    async def write_much(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = _Waiting(lambda tx: unit(tx, *args, **kwargs), future, heavy=True)
        self.writer.put(Lane.PERSON, waiting)
        return await future

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future: asyncio.Future[T] = self._loop.create_future()
        waiting = _Waiting(lambda tx: unit(tx, *args, **kwargs), future, heavy=True)
        self.writer.put(Lane.BACKGROUND, waiting)
        return await future

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            waiting = _Waiting(lambda tx: unit(tx, *args, **kwargs), None, heavy=True)
            self.writer.put(Lane.BACKGROUND, waiting)
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
