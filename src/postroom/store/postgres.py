"""The engine for many machines: the same units on PostgreSQL through psycopg 3.

A unit is its own READ COMMITTED transaction in one of a few threads, rerun on serialisation
failure and deadlock; reads of several statements are REPEATABLE READ READ ONLY.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar, cast

import psycopg
from psycopg import errors as pg

from postroom.core.errors import Busy, Corrupt, MailError, ShuttingDown, StoreFailed, StoreFull
from postroom.store.sql import Params, Row, Statement
from postroom.store.units import LANE_LIMITS, Lane, Unit

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[list[object]], None]

_WRITERS: Final = 6
_READERS: Final = 4
_RERUNS: Final = 8
_RERUN = (pg.SerializationFailure, pg.DeadlockDetected)
_GONE = (psycopg.OperationalError, psycopg.InterfaceError)
_FULL = (pg.DiskFull, pg.OutOfMemory, pg.InsufficientResources)
_CORRUPT = (pg.DataCorrupted, pg.IndexCorrupted)


class PostgresTx:
    """A transaction on one connection; see `sql.Tx`."""

    __slots__ = ("_cursor", "events")

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor
        self.events: list[object] = []

    def _execute(self, statement: Statement, params: Params) -> psycopg.Cursor[Row]:
        return self._cursor.execute(statement.postgres, statement.for_postgres(params))

    def all(self, statement: Statement, **params: Any) -> list[Row]:
        return self._execute(statement, params).fetchall()

    def one(self, statement: Statement, **params: Any) -> Row | None:
        return self._execute(statement, params).fetchone()

    def run(self, statement: Statement, **params: Any) -> int:
        return self._execute(statement, params).rowcount

    def many(self, statement: Statement, rows: Iterable[Params]) -> None:
        self._cursor.executemany(statement.postgres, rows)

    def after(self, event: object) -> None:
        self.events.append(event)


def connect(conninfo: str, schema: str, *, durable: bool) -> psycopg.Connection[Row]:
    """Open a connection; without `durable` a commit may lose its last second in a crash."""
    db: psycopg.Connection[Row] = psycopg.connect(
        conninfo,
        autocommit=True,
        prepare_threshold=3,
        options=f"-c search_path={schema} -c synchronous_commit={'on' if durable else 'off'}"
        " -c lock_timeout=15s -c idle_in_transaction_session_timeout=60s",
    )
    db.prepared_max = 400
    return db


def engine_error(error: psycopg.Error) -> MailError:
    """The house's word for what the engine said."""
    detail = f"{type(error).__name__}: {error}".strip()
    if isinstance(error, _FULL):
        return StoreFull(detail=detail)
    if isinstance(error, _CORRUPT):
        return Corrupt(detail=detail)
    if isinstance(error, (*_RERUN, pg.LockNotAvailable)):
        return Busy(detail=detail)
    return StoreFailed(detail=detail)


class _Connections:
    """Connections of one kind: taken for a unit, put back, dropped when the server went."""

    def __init__(self, opener: Callable[[], psycopg.Connection[Row]]) -> None:
        self._open = opener
        self._idle: queue.SimpleQueue[psycopg.Connection[Row]] = queue.SimpleQueue()

    @contextlib.contextmanager
    def one(self) -> Iterator[psycopg.Connection[Row]]:
        try:
            db = self._idle.get_nowait()
        except queue.Empty:
            db = self._open()
        try:
            yield db
        finally:
            if db.closed or db.broken:
                db.close()
            else:
                self._idle.put(db)

    def close(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


class PostgresDatabase:
    """One store (a schema of the database); see `units.Database`."""

    def __init__(
        self,
        conninfo: str,
        schema: str,
        *,
        durable: bool,
        listener: Listener = lambda events: None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._listener = listener
        self._connections = _Connections(lambda: connect(conninfo, schema, durable=durable))
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix=f"{schema} reader")
        self._line: list[tuple[int, int, Callable[[], None]]] = []
        self._waiting = [0, 0, 0]
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._closing = False
        self.dropped_notes = 0
        self._writers = [
            threading.Thread(target=self._work, name=f"{schema} writer {n}", daemon=True)
            for n in range(_WRITERS)
        ]
        for thread in self._writers:
            thread.start()

    # --- writing ---------------------------------------------------------------------------

    def _put(self, lane: Lane, job: Callable[[], None]) -> None:
        with self._wake:
            if self._closing:
                raise ShuttingDown
            if self._waiting[lane] >= LANE_LIMITS[lane]:
                raise Busy(detail=f"{self._waiting[lane]} units wait in lane {lane.name}")
            self._waiting[lane] += 1
            heapq.heappush(self._line, (lane, next(self._order), job))
            self._wake.notify()

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._line:
                    if self._closing:
                        return
                    self._wake.wait()
                lane, _, job = heapq.heappop(self._line)
                self._waiting[lane] -= 1
            job()

    def _submit(
        self, lane: Lane, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()

        def answer(result: T | None, error: BaseException | None, events: list[object]) -> None:
            if not future.done():
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result(cast("T", result))
            if events:
                self._listener(events)

        def job() -> None:
            result: T | None = None
            events: list[object] = []
            failure: BaseException | None = None
            try:
                result, events = self._run(unit, *args, **kwargs)
            except Exception as error:  # the unit's own error goes to its caller, whatever it is
                failure = engine_error(error) if isinstance(error, psycopg.Error) else error
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(answer, result, failure, events)

        self._put(lane, job)
        return future

    def _run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, list[object]]:
        tries = 0
        while True:
            tries += 1
            try:
                with (
                    self._connections.one() as db,
                    db.transaction(),
                    db.cursor(binary=True) as cursor,
                ):
                    tx = PostgresTx(cursor)
                    result = unit(tx, *args, **kwargs)
                return result, tx.events
            except _RERUN:
                if tries > _RERUNS:
                    raise
                time.sleep(random.uniform(0, 0.002 * 2**tries))  # noqa: S311 - spread, no secret

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.PERSON, unit, *args, **kwargs)

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.MAIL, unit, *args, **kwargs)

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.BACKGROUND, unit, *args, **kwargs)

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        def job() -> None:
            try:
                _, events = self._run(unit, *args, **kwargs)
            except psycopg.Error:
                self.dropped_notes += 1
                return
            if events:
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._listener, events)

        try:
            self._put(Lane.BACKGROUND, job)
        except (Busy, ShuttingDown):
            self.dropped_notes += 1

    # --- reading ---------------------------------------------------------------------------

    async def read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._loop.run_in_executor(
            self._readers, lambda: self._read(unit, *args, **kwargs)
        )

    read_much = read

    def _read(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return self._snapshot(unit, *args, **kwargs)
        except _GONE:
            # The server was restarted under an idle connection: once more on a fresh one.
            try:
                return self._snapshot(unit, *args, **kwargs)
            except psycopg.Error as error:
                raise engine_error(error) from error
        except psycopg.Error as error:
            raise engine_error(error) from error

    def _snapshot(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._connections.one() as db, db.cursor(binary=True) as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                return unit(PostgresTx(cursor), *args, **kwargs)
            finally:
                if not (db.closed or db.broken):
                    cursor.execute("ROLLBACK")

    async def damage(self) -> list[str]:
        return []  # PostgreSQL verifies its pages as it reads them, and references by itself

    async def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        for thread in self._writers:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._connections.close()
