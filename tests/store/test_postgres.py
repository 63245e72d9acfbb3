from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from postroom.core.errors import Busy, Corrupt, InDoubt, ShuttingDown, StoreFailed, StoreFull
from postroom.store import postgres
from postroom.store.postgres import PostgresDatabase, PostgresTx
from postroom.store.sql import Statement, Tx
from postroom.store.units import LANE_LIMITS, Lane
from postroom.testing.postgres import Cluster, database_name
from tests.store.making import (
    INTACT,
    TEXT,
    UPDATE,
    Gate,
    Refused,
    ids,
    make_postgres,
    put,
    put_and_refuse,
)

_ENDED: Final = Statement("SELECT pg_terminate_backend(pg_backend_pid())")
_SETTING: Final = Statement("SELECT current_setting(:name)")


@pytest.fixture
def told() -> list[object]:
    return []


@pytest_asyncio.fixture
async def db(pg: str, told: list[object]) -> AsyncIterator[PostgresDatabase]:
    make_postgres(pg)
    database = PostgresDatabase(pg, "mail", durable=True, listener=told.extend)
    yield database
    await database.close()


# --- units --------------------------------------------------------------------------------


async def test_each_unit_is_its_own_transaction(db: PostgresDatabase, told: list[object]) -> None:
    units = [db.write(put_and_refuse if n % 3 == 0 else put, n) for n in range(60)]
    results = await asyncio.gather(*units, return_exceptions=True)
    kept = [n for n in range(60) if n % 3]
    assert [r for r in results if not isinstance(r, Exception)] == kept
    assert all(isinstance(results[n], Refused) for n in range(0, 60, 3))
    assert await db.read(ids) == kept
    assert sorted(map(int, map(str, told))) == kept, "a failed unit told something"


async def test_what_a_unit_tells_can_be_read_by_then(pg: str) -> None:
    make_postgres(pg)
    checked: list[bool] = []

    def listen(events: list[object]) -> None:
        with postgres.connect(pg, "mail", durable=True) as other:
            found = ids(PostgresTx(other.cursor(binary=True)))
        checked.append(all(event in found for event in events))

    database = PostgresDatabase(pg, "mail", durable=True, listener=listen)
    await asyncio.gather(*(database.write(put, n) for n in range(10)))
    await database.close()
    assert checked == [True] * 10


async def test_a_unit_out_of_ids_answers_like_any_other(db: PostgresDatabase) -> None:
    def runs_out(tx: Tx) -> int:
        return next(iter(()))

    async with asyncio.timeout(5):
        with pytest.raises(RuntimeError) as caught:
            await db.write(runs_out)
    assert isinstance(caught.value.__cause__, StopIteration)
    assert await db.write(put, 1) == 1


class Stop(BaseException):
    """As an interrupt is: no Exception."""


async def test_what_is_no_exception_takes_back_its_unit_too(db: PostgresDatabase) -> None:
    def stops(tx: Tx, number: int) -> None:
        put(tx, number)
        raise Stop

    async with asyncio.timeout(5):
        for n in range(8):  # more than there are writers
            with pytest.raises(Stop):
                await db.write(stops, n)
            db.note(stops, n)
        await db.write_later(put, 9)
    assert await db.read(ids) == [9]


async def test_a_deadlock_is_run_again(db: PostgresDatabase, told: list[object]) -> None:
    """Two units lock the same rows crosswise: one is chosen to fail, reruns, and both are kept."""
    await db.write(put, 1)
    await db.write(put, 2)
    both = threading.Barrier(2, timeout=20)
    runs = {"a": 0, "b": 0}

    def lock(tx: Tx, who: str, first: int, second: int) -> None:
        runs[who] += 1
        tx.one(TEXT, id=first)
        if runs[who] == 1:
            both.wait()
        row = tx.one(TEXT, id=second)
        assert row is not None
        tx.run(UPDATE, id=second, text=row[0] + who)
        tx.after(who)

    await asyncio.gather(db.write(lock, "a", 1, 2), db.write(lock, "b", 2, 1))
    assert min(runs.values()) == 1
    assert max(runs.values()) > 1
    texts = await db.read(lambda tx: [tx.one(INTACT, id=n) for n in (1, 2)])
    assert texts == [("b",), ("a",)]
    assert sorted(map(str, told[2:])) == ["a", "b"], "a rerun tells once"


async def test_a_serialisation_failure_is_run_again(db: PostgresDatabase, pg: str) -> None:
    strict = f"ALTER DATABASE {database_name(pg)} SET default_transaction_isolation = serializable"
    with postgres.connect(pg, "mail", durable=True) as other:
        other.execute(strict.encode())
    await db.write(put, 1)
    both = threading.Barrier(2, timeout=20)
    runs = 0

    def grow(tx: Tx, letter: str) -> None:
        nonlocal runs
        runs += 1
        first = runs <= 2
        row = tx.one(INTACT, id=1)
        assert row is not None
        if first:
            both.wait()
        tx.run(UPDATE, id=1, text=row[0] + letter)

    await asyncio.gather(db.write(grow, "x"), db.write(grow, "y"))
    assert runs == 3
    row = await db.read(lambda tx: tx.one(INTACT, id=1))
    assert row is not None
    assert sorted(row[0]) == ["x", "y"], "one of them overwrote the other"


async def test_what_never_serialises_is_busy_at_last(
    db: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_RERUNS", 2)
    runs = 0

    def never(tx: Tx) -> None:
        nonlocal runs
        runs += 1
        raise errors.SerializationFailure("could not serialize access")

    with pytest.raises(Busy):
        await db.write(never)
    assert runs == 3


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.DiskFull, StoreFull),
        (errors.DataCorrupted, Corrupt),
        (errors.LockNotAvailable, Busy),
        (errors.UniqueViolation, StoreFailed),
    ],
)
async def test_the_engines_errors_are_the_houses(
    db: PostgresDatabase, error: type[Exception], expected: type[Exception]
) -> None:
    def fails(tx: Tx) -> None:
        put(tx, 1)
        raise error("says the engine")

    with pytest.raises(expected) as caught:
        await db.write(fails)
    assert "says the engine" in getattr(caught.value, "detail", "")
    assert await db.read(ids) == []


# --- lanes --------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def narrow(pg: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresDatabase]:
    """One writer thread, so that the order can be seen."""
    make_postgres(pg)
    monkeypatch.setattr(postgres, "_WRITERS", 1)
    database = PostgresDatabase(pg, "mail", durable=True)
    yield database
    await database.close()


async def test_persons_go_first_and_nobody_starves(narrow: PostgresDatabase) -> None:
    gate = Gate()
    order: list[str] = []

    def note(tx: Tx, who: str) -> None:
        order.append(who)

    held = asyncio.ensure_future(narrow.write(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [asyncio.ensure_future(narrow.write_later(note, "b")) for _ in range(3)]
    waiting += [asyncio.ensure_future(narrow.write_mail(note, "m")) for _ in range(4)]
    waiting += [asyncio.ensure_future(narrow.write(note, "p")) for _ in range(24)]
    await asyncio.sleep(0)
    assert narrow.waiting() == (24, 4, 3)
    gate.open()
    await asyncio.gather(held, *waiting)
    half = order[:16]
    assert half.count("p") >= 10, order
    assert half.count("m") >= 2, order
    assert half.count("b") >= 2, order
    assert order.index("p") < 3


async def test_a_full_lane_answers_busy(
    narrow: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lane in Lane:
        monkeypatch.setitem(LANE_LIMITS, lane, 2)
    gate = Gate()
    held = asyncio.ensure_future(narrow.write(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [asyncio.ensure_future(narrow.write_later(put, n)) for n in (1, 2)]
    waiting += [asyncio.ensure_future(narrow.write_mail(put, n)) for n in (3, 4)]
    waiting += [asyncio.ensure_future(narrow.write(put, n)) for n in (5, 6)]
    await asyncio.sleep(0)
    for write in (narrow.write_later, narrow.write_mail, narrow.write):
        with pytest.raises(Busy):
            await write(put, 7)
    narrow.note(put, 8)
    assert narrow.dropped_notes == 1
    gate.open()
    await asyncio.gather(held, *waiting)
    assert await narrow.read(ids) == [1, 2, 3, 4, 5, 6]


async def test_notes_that_fail_are_counted_and_kill_no_writer(
    narrow: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        narrow.note(put_and_refuse, n)
    narrow.note(put, 9)
    async with asyncio.timeout(5):
        await narrow.write_later(put, 10)
    assert await narrow.read(ids) == [9, 10]
    assert narrow.dropped_notes == 5


async def test_close_finishes_what_waits_and_then_refuses(pg: str) -> None:
    make_postgres(pg)
    database = PostgresDatabase(pg, "mail", durable=True)
    waiting = [asyncio.ensure_future(database.write(put, n)) for n in range(100)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(100))
    with pytest.raises(ShuttingDown):
        await database.write(put, 200)
    database.note(put, 201)
    assert database.dropped_notes == 1


# --- reading ------------------------------------------------------------------------------


async def test_statements_of_one_read_see_one_snapshot(db: PostgresDatabase) -> None:
    first, second = threading.Event(), threading.Event()

    def twice(tx: Tx) -> tuple[list[int], list[int]]:
        before = ids(tx)
        first.set()
        assert second.wait(10)
        return before, ids(tx)

    await db.write(put, 1)
    reading = asyncio.ensure_future(db.read(twice))
    await asyncio.to_thread(first.wait)
    await db.write(put, 2)
    second.set()
    assert await reading == ([1], [1])


async def test_a_read_cannot_write_and_leaves_the_connection_usable(db: PostgresDatabase) -> None:
    with pytest.raises(StoreFailed):
        await db.read(put, 1)

    def fails(tx: Tx) -> None:
        ids(tx)
        raise Refused

    with pytest.raises(Refused):
        await db.read(fails)
    for _ in range(20):
        assert await db.read(ids) == []


async def test_mail_is_synced_and_state_is_not(pg: str) -> None:
    make_postgres(pg)
    for durable, setting in ((True, "on"), (False, "off")):
        database = PostgresDatabase(pg, "mail", durable=durable)
        row = await database.write(lambda tx: tx.one(_SETTING, name="synchronous_commit"))
        assert row == (setting,)
        await database.close()


# --- a server that goes -------------------------------------------------------------------


async def test_a_server_that_dies_under_a_unit_fails_it_and_comes_back(
    told: list[object],
) -> None:
    with Cluster(fsync=False) as cluster:
        url = cluster.create_database()
        make_postgres(url)
        db = PostgresDatabase(url, "mail", durable=True, listener=told.extend)
        # Warm connections: all of them are dead after the restart.
        await asyncio.gather(*(db.write(put, n) for n in range(40)))
        await asyncio.gather(*(db.read(ids) for _ in range(20)))
        gate = Gate()
        under_way = asyncio.ensure_future(db.write_much(gate.unit, lambda tx: put(tx, 100)))
        await asyncio.to_thread(gate.reached.wait)
        await asyncio.to_thread(cluster.kill9)
        gate.open()
        with pytest.raises(StoreFailed):
            await under_way
        with pytest.raises(StoreFailed):
            await db.write(put, 101)
        with pytest.raises(StoreFailed):
            await db.read(ids)
        await asyncio.to_thread(cluster.start)
        # The same pool goes on at once: idle connections that died cost no unit.
        answers = await asyncio.gather(*(db.write(put, n) for n in range(200, 220)))
        assert answers == list(range(200, 220))
        expected = [*range(40), *range(200, 220)]
        assert await asyncio.gather(*(db.read(ids) for _ in range(12))) == [expected] * 12
        assert sorted(map(int, map(str, told))) == expected
        # And after a restart in order, whether it is met by writing or by reading first.
        await asyncio.to_thread(cluster.restart)
        answers = await asyncio.gather(*(db.write(put, n) for n in range(300, 320)))
        assert answers == list(range(300, 320))
        expected += range(300, 320)
        assert await asyncio.gather(*(db.read(ids) for _ in range(12))) == [expected] * 12
        await asyncio.to_thread(cluster.restart)
        assert await asyncio.gather(*(db.read(ids) for _ in range(12))) == [expected] * 12
        await db.close()


async def test_a_session_that_is_ended_fails_its_unit_alone(db: PostgresDatabase) -> None:
    def ended(tx: Tx) -> None:
        put(tx, 1)
        tx.one(_ENDED)

    results = await asyncio.gather(
        db.write(ended), *(db.write(put, n) for n in range(2, 12)), return_exceptions=True
    )
    assert isinstance(results[0], StoreFailed)
    assert results[1:] == list(range(2, 12))
    assert await db.read(ids) == list(range(2, 12))


async def test_a_server_that_is_not_there_says_so(pg: str) -> None:
    place = conninfo_to_dict(pg)
    gone = f"host={place['host']} port=1 dbname=x user=x"
    database = PostgresDatabase(gone, "mail", durable=True)
    async with asyncio.timeout(10):
        with pytest.raises(StoreFailed):
            await database.write(put, 1)
        with pytest.raises(StoreFailed):
            await database.read(ids)
    await database.close()


# --- a server that goes away during COMMIT ------------------------------------------------


class _Wire:
    """A way to a server that is cut at the next COMMIT, before or behind it."""

    def __init__(self, conninfo: str) -> None:
        there = conninfo_to_dict(conninfo)
        self._server = (str(there["host"]), int(str(there["port"])))
        self._door = socket.create_server(("127.0.0.1", 0))
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=self._door.getsockname()[1])
        self.cut = ""  # "before" or "behind"
        self.closed = False  # nobody is let in any more
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self._door.accept()
            except OSError:
                return
            if self.closed:
                ours.close()
                continue
            theirs = socket.create_connection(self._server)
            threading.Thread(target=self._forward, args=(ours, theirs), daemon=True).start()
            threading.Thread(target=self._back, args=(theirs, ours), daemon=True).start()

    def _forward(self, ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := ours.recv(65536):
                cut = self.cut if b"COMMIT" in octets else ""
                if cut == "behind":
                    ours.shutdown(socket.SHUT_RDWR)  # nothing comes back from here on
                if cut != "before":
                    theirs.sendall(octets)
                if cut:
                    break
        ours.close()
        with contextlib.suppress(OSError):
            theirs.shutdown(socket.SHUT_WR)

    @staticmethod
    def _back(theirs: socket.socket, ours: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while octets := theirs.recv(65536):
                ours.sendall(octets)
        theirs.close()
        with contextlib.suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._door.close()


@pytest_asyncio.fixture
async def wired(
    postgres_cluster: Cluster, pg: str, told: list[object]
) -> AsyncIterator[tuple[PostgresDatabase, _Wire]]:
    conninfo = postgres_cluster.conninfo(database_name(pg), tcp=True)
    make_postgres(conninfo)
    wire = _Wire(conninfo)
    database = PostgresDatabase(wire.conninfo, "mail", durable=True, listener=told.extend)
    yield database, wire
    wire.cut, wire.closed = "", False
    await database.close()
    wire.close()


async def test_a_commit_whose_answer_is_lost_counts(
    wired: tuple[PostgresDatabase, _Wire], told: list[object]
) -> None:
    db, wire = wired
    await db.write(put, 1)
    wire.cut = "behind"
    assert await db.write(put, 2) == 2
    wire.cut = ""
    assert await db.read(ids) == [1, 2]
    assert told == [1, 2]


async def test_a_commit_that_never_reached_the_server_does_not_count(
    wired: tuple[PostgresDatabase, _Wire], told: list[object]
) -> None:
    db, wire = wired
    await db.write(put, 1)
    wire.cut = "before"
    with pytest.raises(StoreFailed) as failed:
        await db.write(put, 2)
    assert "COMMIT" in failed.value.detail
    wire.cut = ""
    assert await db.read(ids) == [1]
    assert await db.write(put, 2) == 2
    assert told == [1, 2]


async def test_a_commit_of_which_nobody_can_tell_is_in_doubt(
    wired: tuple[PostgresDatabase, _Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, wire = wired
    monkeypatch.setattr(postgres, "_ASKING", 0.5)
    await db.write(put, 1)
    wire.cut, wire.closed = "behind", True
    with pytest.raises(InDoubt):
        await db.write(put, 2)
    wire.cut, wire.closed = "", False
    assert await db.read(ids) == [1, 2]


_NUMBER = Statement("SELECT pg_current_xact_id()::text")


async def test_a_number_that_is_given_anew_after_a_crash_proves_nothing() -> None:
    """A transaction of which nothing was written leaves its number to another one."""
    with Cluster(fsync=False) as cluster:
        url = cluster.create_database()
        make_postgres(url)
        db = PostgresDatabase(url, "mail", durable=True)
        await db.write(put, 1)
        lost = postgres.connect(url, "mail", durable=True)
        begun = postgres._begin(lost)
        await asyncio.to_thread(cluster.kill9)
        await asyncio.to_thread(cluster.start)
        assert not await asyncio.to_thread(db._was_committed, begun), "there is no such number yet"
        numbers = [await db.write(lambda tx: tx.one(_NUMBER)) for _ in range(20)]
        assert (begun.number,) in numbers, "else this test shows nothing"
        with pytest.raises(InDoubt):
            await asyncio.to_thread(db._was_committed, begun)
        lost.close()
        await db.close()


@pytest.mark.parametrize(
    ("happens", "is_told"), (("nothing", True), ("restart", True), ("kill9", False), ("one", False))
)
async def test_what_was_committed_is_told_unless_the_server_crashed(
    happens: str, is_told: bool
) -> None:
    """Where one of its processes dies, the server starts all others anew, and not itself."""
    with Cluster(fsync=False) as cluster:
        url = cluster.create_database()
        make_postgres(url)
        db = PostgresDatabase(url, "mail", durable=True)
        link = postgres.connect(url, "mail", durable=True)
        begun = postgres._begin(link)
        with link.cursor(binary=True) as cursor:
            put(postgres.PostgresTx(cursor), 1)
        link.execute("COMMIT")
        if happens == "restart":
            await asyncio.to_thread(cluster.restart)
        elif happens == "kill9":
            await asyncio.to_thread(cluster.kill9)
            await asyncio.to_thread(cluster.start)
        elif happens == "one":
            os.kill(link.info.backend_pid, signal.SIGKILL)
        try:
            assert await asyncio.to_thread(db._was_committed, begun)
            told = True
        except InDoubt:
            told = False
        assert told is is_told
        link.close()
        await db.close()


async def test_a_unit_that_hides_a_failed_statement_is_not_kept(db: PostgresDatabase) -> None:
    def hides(tx: Tx) -> None:
        put(tx, 1)
        with contextlib.suppress(errors.UniqueViolation):
            put(tx, 1)

    with pytest.raises(StoreFailed) as failed:
        await db.write(hides)
    assert "ROLLBACK" in failed.value.detail
    assert await db.read(ids) == []
