from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from postroom.core.errors import Busy, ShuttingDown, StoreFailed
from postroom.store import sqlite, sqlite_writer
from postroom.store.sql import Statement, Tx
from postroom.store.sqlite import SqliteDatabase
from postroom.store.sqlite_engine import FileLock
from postroom.store.units import LANE_LIMITS, Lane
from tests.store.making import COUNT, INSERT, Gate, Refused, ids, make_sqlite, put, put_and_refuse


@pytest.fixture
def told() -> list[object]:
    return []


@pytest_asyncio.fixture
async def db(tmp_path: Path, told: list[object]) -> AsyncIterator[SqliteDatabase]:
    path = str(tmp_path / "mail.db")
    make_sqlite(path)
    database = SqliteDatabase(path, durable=True, listener=told.extend)
    yield database
    await database.close()


async def until_idle(db: SqliteDatabase) -> None:
    while any(db.writer.waiting()):
        await asyncio.sleep(0.001)


# --- groups -------------------------------------------------------------------------------


async def test_units_that_wait_together_share_a_commit(
    db: SqliteDatabase, told: list[object]
) -> None:
    gate = Gate()
    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [asyncio.ensure_future(db.write(put, n)) for n in range(200)]
    await asyncio.sleep(0)
    gate.open()
    assert await asyncio.gather(*waiting) == list(range(200))
    await held
    assert await db.read(ids) == list(range(200))
    assert db.writer.units == 201
    assert db.writer.batches <= 1 + 200 // 50  # a batch ends after 20 ms on a slow machine
    assert told == list(range(200))


async def test_a_batch_ends_at_its_bound_of_units(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "BATCH_UNITS", 4)
    monkeypatch.setattr(sqlite_writer, "BATCH_SECONDS", 60.0)
    gate = Gate()
    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [asyncio.ensure_future(db.write(put, n)) for n in range(11)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(held, *waiting)
    assert db.writer.batches == 3  # 4 + 4 + 4


async def test_a_batch_ends_at_its_bound_of_time(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "BATCH_SECONDS", 0.0)
    await asyncio.gather(*(db.write(put, n) for n in range(5)))
    assert db.writer.batches == 5


async def test_a_unit_that_raises_takes_back_only_itself(
    db: SqliteDatabase, told: list[object]
) -> None:
    gate = Gate()
    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [
        asyncio.ensure_future(db.write(put_and_refuse if n % 3 == 0 else put, n)) for n in range(30)
    ]
    await asyncio.sleep(0)
    gate.open()
    await held
    results = await asyncio.gather(*waiting, return_exceptions=True)
    kept = [n for n in range(30) if n % 3]
    assert [r for r in results if not isinstance(r, Exception)] == kept
    assert all(isinstance(results[n], Refused) for n in range(0, 30, 3))
    assert await db.read(ids) == kept
    assert told == kept, "a failed unit told something"


async def test_a_constraint_fails_its_unit_alone(db: SqliteDatabase) -> None:
    def twice(tx: Tx) -> None:
        put(tx, 50)
        put(tx, 51)
        put(tx, 50)

    results = await asyncio.gather(
        db.write(put, 1), db.write(twice), db.write(put, 2), return_exceptions=True
    )
    assert isinstance(results[1], StoreFailed)
    assert "ConstraintError" in results[1].detail
    assert await db.read(ids) == [1, 2]


async def test_a_unit_out_of_ids_answers_like_any_other(db: SqliteDatabase) -> None:
    """A future takes no StopIteration: it must not leave this caller, or its batch, waiting."""

    def runs_out(tx: Tx) -> int:
        return next(iter(()))

    async with asyncio.timeout(5):
        results = await asyncio.gather(db.write(runs_out), db.write(put, 1), return_exceptions=True)
    assert isinstance(results[0], RuntimeError)
    assert isinstance(results[0].__cause__, StopIteration)
    assert await db.read(ids) == [1]


class Stop(BaseException):
    """As an interrupt is: no Exception."""


async def test_what_is_no_exception_takes_back_its_unit_too(db: SqliteDatabase) -> None:
    def stops(tx: Tx, number: int) -> None:
        put(tx, number)
        raise Stop

    async with asyncio.timeout(5):
        results = await asyncio.gather(
            db.write(put, 1),
            db.write(stops, 2),
            db.write(put, 3),
            db.write_much(stops, 4),
            db.write(put, 5),
            return_exceptions=True,
        )
    assert [type(r) for r in results] == [int, Stop, int, Stop, int]
    assert await db.read(ids) == [1, 3, 5]


# --- the loop's part ----------------------------------------------------------------------


async def test_light_units_run_on_the_loop_and_heavy_ones_beside_it(db: SqliteDatabase) -> None:
    def where(tx: Tx) -> int:
        return threading.get_ident()

    light, heavy, later = await asyncio.gather(
        db.write(where), db.write_much(where), db.write_later(where)
    )
    assert light == threading.get_ident()
    assert heavy == later != light


async def test_many_light_units_let_the_loop_go_on_in_between(db: SqliteDatabase) -> None:
    stretch = longest = 0

    def slow(tx: Tx, number: int) -> None:
        nonlocal stretch, longest
        time.sleep(0.002)
        stretch += 1
        longest = max(longest, stretch)
        put(tx, number)

    async def watch() -> None:
        nonlocal stretch
        while True:
            stretch = 0
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    await asyncio.gather(*(db.write(slow, n) for n in range(60)))
    watching.cancel()
    assert len(await db.read(ids)) == 60
    assert longest <= 10, "the loop was held for more units than fit into 4 ms"


async def test_a_loop_that_is_gone_keeps_nobody_from_the_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    make_sqlite(path)
    loop = asyncio.new_event_loop()
    database = SqliteDatabase(path, durable=True, loop=loop)
    writing = database.write(put, 1)
    writing.send(None)
    loop.close()
    other = SqliteDatabase(path, durable=True)
    async with asyncio.timeout(10):
        await other.write(put, 2)
    assert 2 in await other.read(ids)
    await other.close()
    writing.close()
    await database.close()


async def test_a_later_unit_sees_an_earlier_one_of_its_batch(db: SqliteDatabase) -> None:
    def count(tx: Tx) -> int:
        row = tx.one(COUNT)
        assert row is not None
        return int(row[0])

    first, seen = await asyncio.gather(db.write(put, 1), db.write(count))
    assert (first, seen) == (1, 1)


# --- lanes --------------------------------------------------------------------------------


async def test_persons_go_before_mail_and_mail_before_background(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And neither mail nor background starves: one of each goes with every batch."""
    monkeypatch.setattr(sqlite_writer, "BATCH_UNITS", 4)
    monkeypatch.setattr(sqlite_writer, "BATCH_SECONDS", 60.0)
    gate = Gate()
    order: list[str] = []

    def note(tx: Tx, who: str) -> None:
        order.append(who)

    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    waiting = [asyncio.ensure_future(db.write_later(note, f"b{n}")) for n in range(3)]
    waiting += [asyncio.ensure_future(db.write_mail(note, f"m{n}")) for n in range(4)]
    waiting += [asyncio.ensure_future(db.write(note, f"p{n}")) for n in range(6)]
    await asyncio.sleep(0)
    assert db.writer.waiting() == (6, 4, 3)
    gate.open()
    await asyncio.gather(held, *waiting)
    # The gate was the first of its batch, so three places were left in it.
    batches = [order[:3], order[3:7], order[7:11], order[11:]]
    assert [sorted(b) for b in batches] == [
        ["b0", "m0", "p0"],
        ["b1", "m1", "p1", "p2"],
        ["b2", "m2", "p3", "p4"],
        ["m3", "p5"],
    ]


async def test_a_full_lane_answers_busy_and_the_others_go_on(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lane in Lane:
        monkeypatch.setitem(LANE_LIMITS, lane, 2)
    gate = Gate()
    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    background = [asyncio.ensure_future(db.write_later(put, n)) for n in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await db.write_later(put, 3)
    mail = [asyncio.ensure_future(db.write_mail(put, n)) for n in (4, 5)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await db.write_mail(put, 6)
    persons = [asyncio.ensure_future(db.write(put, n)) for n in (7, 8)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await db.write(put, 9)
    db.note(put, 10)
    db.note(put, 11)
    assert db.dropped_notes == 2
    gate.open()
    await asyncio.gather(held, *background, *mail, *persons)
    assert await db.read(ids) == [1, 2, 4, 5, 7, 8]


def test_background_stops_before_mail_and_mail_before_persons() -> None:
    assert LANE_LIMITS[Lane.BACKGROUND] < LANE_LIMITS[Lane.MAIL] < LANE_LIMITS[Lane.PERSON]


# --- notes --------------------------------------------------------------------------------


async def test_a_note_is_written_and_nobody_waits(db: SqliteDatabase, told: list[object]) -> None:
    db.note(put, 1)
    await until_idle(db)
    await db.write(put, 2)
    assert await db.read(ids) == [1, 2]
    assert told == [1, 2]
    assert db.dropped_notes == 0


async def test_notes_wait_for_each_other(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "NOTES_SECONDS", 1.0)
    for n in range(5):
        db.note(put, n)
        await asyncio.sleep(0.002)
    assert await db.read(ids) == []
    while len(found := await db.read(ids)) < 5:
        await asyncio.sleep(0.01)
    assert found == list(range(5))


async def test_a_note_goes_with_whatever_is_written(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "NOTES_SECONDS", 3600.0)
    db.note(put, 1)
    await db.write(put, 2)
    await until_idle(db)
    assert sorted(await db.read(ids)) == [1, 2]


async def test_a_note_that_waits_is_written_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "NOTES_SECONDS", 3600.0)
    path = str(tmp_path / "mail.db")
    make_sqlite(path)
    database = SqliteDatabase(path, durable=True, listener=lambda events: None)
    database.note(put, 1)
    await database.close()
    again = SqliteDatabase(path, durable=True, listener=lambda events: None)
    assert await again.read(ids) == [1]
    await again.close()


async def test_a_note_that_fails_is_counted_and_hurts_nobody(db: SqliteDatabase) -> None:
    db.note(put_and_refuse, 1)
    await db.write(put, 2)
    assert await db.read(ids) == [2]
    assert db.dropped_notes == 1


async def test_a_note_after_close_is_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    make_sqlite(path)
    database = SqliteDatabase(path, durable=False)
    await database.close()
    database.note(put, 1)
    assert database.dropped_notes == 1


# --- closing ------------------------------------------------------------------------------


async def test_close_finishes_what_waits_and_then_refuses(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    make_sqlite(path)
    told: list[object] = []
    database = SqliteDatabase(path, durable=True, listener=told.extend)
    waiting = [asyncio.ensure_future(database.write(put, n)) for n in range(300)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.gather(*waiting) == list(range(300))
    assert told == list(range(300))
    with pytest.raises(ShuttingDown):
        await database.write(put, 1_000)
    again = SqliteDatabase(path, durable=True)
    assert await again.read(ids) == list(range(300))
    await again.close()


async def test_a_caller_who_left_stops_nobody(db: SqliteDatabase) -> None:
    gate = Gate()
    held = asyncio.ensure_future(db.write_much(gate.unit))
    await asyncio.to_thread(gate.reached.wait)
    left = asyncio.ensure_future(db.write(put, 1))
    stays = asyncio.ensure_future(db.write(put, 2))
    await asyncio.sleep(0)
    left.cancel()
    gate.open()
    await asyncio.gather(held, stays)
    assert 2 in await db.read(ids)


# --- reading ------------------------------------------------------------------------------


async def test_reads_never_see_a_unit_half_done(db: SqliteDatabase) -> None:
    """Two rows in each unit: every inline and every threaded read must find an even number."""

    def pair(tx: Tx, number: int) -> None:
        put(tx, 2 * number)
        time.sleep(0.0005)
        put(tx, 2 * number + 1)

    writing = asyncio.gather(*(db.write(pair, n) for n in range(100)))
    seen = set()
    while not writing.done():
        seen.add(len(await db.read(ids)))
        seen.add(len(await db.read_much(ids)))
        await asyncio.sleep(0)
    await writing
    seen.add(len(await db.read(ids)))
    assert all(count % 2 == 0 for count in seen)
    assert 200 in seen


async def test_statements_of_one_read_see_one_snapshot(db: SqliteDatabase) -> None:
    first, second = threading.Event(), threading.Event()

    def twice(tx: Tx) -> tuple[list[int], list[int]]:
        before = ids(tx)
        first.set()
        assert second.wait(10)
        return before, ids(tx)

    await db.write(put, 1)
    reading = asyncio.ensure_future(db.read_much(twice))
    await asyncio.to_thread(first.wait)
    await db.write(put, 2)
    assert await db.read(ids) == [1, 2]
    second.set()
    assert await reading == ([1], [1])


async def test_a_read_cannot_write(db: SqliteDatabase) -> None:
    for read in (db.read, db.read_much):
        with pytest.raises(StoreFailed):
            await read(put, 1)
    assert await db.read(ids) == []


async def test_a_read_that_raises_leaves_the_reader_usable(db: SqliteDatabase) -> None:
    def fails(tx: Tx) -> None:
        ids(tx)
        raise Refused

    for read in (db.read, db.read_much):
        with pytest.raises(Refused):
            await read(fails)
        assert await read(ids) == []
    with pytest.raises(StoreFailed):
        await db.read(lambda tx: tx.all(Statement("SELECT * FROM nothing")))
    assert await db.read(ids) == []


# --- the write-ahead log ------------------------------------------------------------------


def _fill(tx: Tx, number: int) -> None:
    tx.run(INSERT, id=number, text="", data=os.urandom(200_000))


async def test_past_its_bound_the_writer_restarts_the_log(
    db: SqliteDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "WAL_FORCED_CHECKPOINT", 1_000_000)
    for n in range(30):
        await db.write(_fill, n)
    assert os.stat(tmp_path / "mail.db-wal").st_size < 2_000_000
    assert await db.read(ids) == list(range(30))


async def test_a_long_read_does_not_hold_up_who_restarts_the_log(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check or an export may read for minutes; nobody's mail waits for it."""
    monkeypatch.setattr(sqlite_writer, "WAL_FORCED_CHECKPOINT", 100_000)
    begun, ended = threading.Event(), threading.Event()

    def slow(tx: Tx) -> int:
        count = len(ids(tx))
        begun.set()
        assert ended.wait(30)
        return count

    await db.write(_fill, 0)
    reading = asyncio.ensure_future(db.read_much(slow))
    await asyncio.to_thread(begun.wait)
    started = time.monotonic()
    for n in range(1, 6):
        await db.write(_fill, n)
    taken = time.monotonic() - started
    ended.set()
    assert await reading == 1
    assert taken < 3.0


async def test_the_checkpointer_moves_the_log_into_the_file(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    for n in range(40):
        await db.write(_fill, n)
    deadline = time.monotonic() + 10
    while os.stat(tmp_path / "mail.db").st_size < 40 * 200_000:
        assert time.monotonic() < deadline, "nothing was moved"
        await asyncio.sleep(0.05)


async def test_a_commit_is_synced_and_state_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    for durable, level in ((True, 2), (False, 1)):  # FULL, NORMAL
        db = sqlite.connect(path, durable=durable)
        assert db.pragma("synchronous") == level
        assert db.pragma("journal_mode") == "wal"
        assert db.pragma("foreign_keys") == 1
        db.close()


async def test_damage_is_found_in_the_file(db: SqliteDatabase, tmp_path: Path) -> None:
    for n in range(20):
        await db.write(_fill, n)
    assert await db.damage() == []
    other = sqlite.connect(str(tmp_path / "mail.db"), durable=False)
    other.execute("PRAGMA writable_schema=ON")
    other.execute("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'schema_step'")
    other.close()
    assert await db.damage() != []


async def test_a_loop_that_is_held_up_does_not_hold_the_lock(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    """Other workers wait for the lock: units run in the thread if the loop does not come."""
    other = FileLock(str(tmp_path / "mail.db.lock"))
    assert other.try_hold()
    held = asyncio.ensure_future(db.write(put, 1))
    await asyncio.sleep(0.05)  # the loop has found the lock taken; the thread waits for it
    other.let_go()
    until = time.monotonic() + 2
    while db.writer.batches == 0 and time.monotonic() < until:
        time.sleep(0.001)  # the loop is held, as a defect would hold it
    assert db.writer.batches == 1
    await held
    other.close()


async def test_a_free_lock_is_taken_by_the_loop_and_given_back(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    other = FileLock(str(tmp_path / "mail.db.lock"))
    for n in range(50):
        await db.write(put, n)
        assert other.try_hold()
        other.let_go()
    assert db.writer.batches == 50
    other.close()


async def test_units_of_one_turn_of_the_loop_share_a_commit(db: SqliteDatabase) -> None:
    await asyncio.gather(*(db.write(put, n) for n in range(100)))
    assert db.writer.batches == 1


async def test_loop_and_thread_hand_over_without_losing_anybody(
    db: SqliteDatabase, tmp_path: Path
) -> None:
    """Light, heavy and background units at random moments, under a lock that others take too."""
    chance = random.Random(7)
    other = FileLock(str(tmp_path / "mail.db.lock"))
    stop = threading.Event()

    def another_process() -> None:
        while not stop.wait(chance.random() / 200):
            if other.try_hold():
                time.sleep(chance.random() / 200)
                other.let_go()

    rival = threading.Thread(target=another_process)
    rival.start()
    try:

        async def session(first: int) -> None:
            for n in range(first, first + 40):
                write = chance.choice([db.write, db.write_mail, db.write_much, db.write_later])
                async with asyncio.timeout(20):
                    await write(put, n)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() / 300)

        await asyncio.gather(*(session(n * 40) for n in range(20)))
    finally:
        stop.set()
        rival.join()
        other.close()
    assert len(await db.read(ids)) == 800
