"""The engine for many machines: the same units on PostgreSQL through psycopg 3.

A unit is its own READ COMMITTED transaction in one of a few threads, rerun on serialisation
failure and deadlock; reads of several statements are REPEATABLE READ READ ONLY. If the server
goes away during COMMIT, it is asked afterwards what became of that transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from postroom.core.errors import (
    Busy,
    Corrupt,
    InDoubt,
    MailError,
    ShuttingDown,
    StoreFailed,
    StoreFull,
)
from postroom.store.lanes import Lanes
from postroom.store.sql import Params, Row, Statement
from postroom.store.units import Lane, Unit, answerable

P = ParamSpec("P")
T = TypeVar("T")
Listener = Callable[[list[object]], None]

_WRITERS: Final = 6
_READERS: Final = 4
_RERUNS: Final = 8
_ROUND: Final = 8  # units, of which each lane that waits gets one
# A server that does not answer is gone; a conninfo that says otherwise is followed.
_PATIENCE: Final = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
_ASKING: Final = 15.0
"""Seconds in which a server that went away during COMMIT must be back to say what came of it."""
_ASK_AGAIN: Final = 0.2
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


class Link(psycopg.Connection[Row]):
    """A connection, and the moment at which its server came up after a crash, or first of all.

    The server forgets its statistics when it recovers, be it that it died or one process of its;
    the background writer's are read as they cost nothing. No connection outlives that.
    """

    recovered: str = ""


def connect(conninfo: str, schema: str, *, durable: bool) -> Link:
    """Open a connection; without `durable` a commit may lose its last second in a crash."""
    db = Link.connect(
        _patient(conninfo),
        autocommit=True,
        prepare_threshold=3,
        options=f"-c search_path={schema} -c synchronous_commit={'on' if durable else 'off'}"
        " -c lock_timeout=15s -c idle_in_transaction_session_timeout=60s",
    )
    db.prepared_max = 400
    (db.recovered,) = db.execute(_RECOVERED, prepare=False).fetchone() or ("",)
    return db


_RECOVERED: Final = "SELECT pg_stat_get_bgwriter_stat_reset_time()::text"


def _patient(conninfo: str) -> str:
    given = conninfo_to_dict(conninfo)
    return make_conninfo(conninfo, **{k: v for k, v in _PATIENCE.items() if k not in given})


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


class _Begun(NamedTuple):
    """A transaction, as its server can be asked about it later."""

    number: str
    recovered: str  # as the connection that it was begun on


def _begin(db: Link) -> _Begun:
    """Begin a transaction; its number by the same round trip."""
    cursor = db.execute("BEGIN; SELECT pg_current_xact_id()::text", prepare=False)
    cursor.nextset()
    (number,) = cursor.fetchone() or ("",)
    return _Begun(str(number), db.recovered)


def _roll_back(db: psycopg.Connection[Row]) -> None:
    try:
        db.execute("ROLLBACK")
    except psycopg.Error:
        db.close()  # it is gone, and with it the transaction


class _Connections:
    """Connections of one kind: taken for a unit, put back, dropped when the server went."""

    def __init__(self, opener: Callable[[], Link]) -> None:
        self._open = opener
        self._idle: queue.SimpleQueue[Link] = queue.SimpleQueue()

    @contextlib.contextmanager
    def one(self) -> Iterator[Link]:
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
        """Close those that nobody uses; the next ones are fresh."""
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
        self._lanes: Lanes[Callable[[], None]] = Lanes()
        self._taken = itertools.count(1)
        self._dropping = threading.Lock()
        self.dropped_notes = 0
        self._writers = [
            threading.Thread(target=self._work, name=f"{schema} writer {n}", daemon=True)
            for n in range(_WRITERS)
        ]
        for thread in self._writers:
            thread.start()

    # --- writing ---------------------------------------------------------------------------

    def _work(self) -> None:
        while self._lanes.wait():
            if next(self._taken) % _ROUND == 0:
                self._lanes.next_round()
            job = self._lanes.take()
            if job is not None:  # else another thread was quicker
                job()

    def waiting(self) -> tuple[int, ...]:
        """How many units wait in each lane."""
        return self._lanes.waiting()

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
            except BaseException as error:  # the unit's own error goes to its caller
                failure = (
                    engine_error(error) if isinstance(error, psycopg.Error) else answerable(error)
                )
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(answer, result, failure, events)

        self._lanes.put(lane, job)
        return future

    def _run(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, list[object]]:
        reruns = 0
        fresh = False
        while True:
            begun: _Begun | None = None
            try:
                with self._connections.one() as db:
                    begun = _begin(db)
                    try:
                        with db.cursor(binary=True) as cursor:
                            tx = PostgresTx(cursor)
                            result = unit(tx, *args, **kwargs)
                    except BaseException:
                        _roll_back(db)
                        raise
                    try:
                        ended = db.execute("COMMIT").statusmessage
                    except _GONE as error:
                        db.close()
                        if not self._was_committed(begun):
                            raise StoreFailed(detail=f"COMMIT: {error}") from error
                    else:
                        if ended != "COMMIT":  # the unit went on over a statement that failed
                            raise StoreFailed(detail=f"COMMIT became {ended}")
                return result, tx.events
            except _RERUN:
                reruns += 1
                if reruns > _RERUNS:
                    raise
                time.sleep(random.uniform(0, 0.002 * 2**reruns))  # noqa: S311 - spread, no secret
            except _GONE:
                if begun is not None or fresh:
                    raise
                # The server was restarted under idle connections: once more on a fresh one.
                self._connections.close()
                fresh = True

    def _was_committed(self, begun: _Begun) -> bool:
        """What became of a transaction whose COMMIT was not answered. Blocks; raises InDoubt.

        The server keeps that in its commit log, also over a crash. But a number of which the log
        knew nothing at a crash is given anew: what was committed under it since may be another's.
        """
        until = time.monotonic() + _ASKING
        self._connections.close()
        while time.monotonic() < until:
            try:
                with self._connections.one() as db:
                    asked = db.execute("SELECT pg_xact_status(%s::text::xid8)", [begun.number])
                    (status,) = asked.fetchone() or (None,)
                    same = db.recovered == begun.recovered
            except pg.InvalidParameterValue:
                return False  # there was no such number yet: the log lost it, and all under it
            except _GONE:
                status, same = "away", False
            if status == "aborted":
                return False
            if status == "committed" and same:
                return True
            if status == "committed":
                raise InDoubt(detail=f"transaction {begun.number} may be that or a later one")
            time.sleep(_ASK_AGAIN)  # away still, or its process has not noticed that we left
        raise InDoubt(detail=f"transaction {begun.number} was not answered")

    async def write(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.PERSON, unit, *args, **kwargs)

    write_much = write

    async def write_mail(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.MAIL, unit, *args, **kwargs)

    async def write_later(self, unit: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._submit(Lane.BACKGROUND, unit, *args, **kwargs)

    def note(self, unit: Unit[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        def job() -> None:
            try:
                _, events = self._run(unit, *args, **kwargs)
            except BaseException:  # nobody waits for the answer: it is counted, whatever it is
                self._drop_note()
                return
            if events:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                    self._loop.call_soon_threadsafe(self._listener, events)

        try:
            self._lanes.put(Lane.BACKGROUND, job)
        except (Busy, ShuttingDown):
            self._drop_note()

    def _drop_note(self) -> None:
        with self._dropping:
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
            # The server was restarted under idle connections: once more on a fresh one.
            self._connections.close()
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
        self._lanes.close()
        for thread in self._writers:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._connections.close()
