"""The store on disks that fill up and fail: nothing half kept, nothing acknowledged lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw
import pytest
import pytest_asyncio

from postroom.core.errors import Busy, Corrupt, StoreFailed, StoreFull
from postroom.store import sqlite, sqlite_engine, sqlite_writer
from postroom.store.sql import Statement, Tx
from postroom.store.sqlite import SqliteDatabase, SqliteTx
from postroom.testing.faults import Error, Fault, Faults, FaultyVFS
from tests.store.making import INSERT, Gate, ids, make_sqlite, put, put_and_refuse

_names = (f"faulty-{n}" for n in itertools.count())


@dataclass
class House:
    faults: Faults
    db: SqliteDatabase
    path: str
    told: list[object]

    async def together(self, *units: Callable[[Tx], object]) -> list[object]:
        """The answers of units that share one batch."""
        gate = Gate()
        held = asyncio.ensure_future(self.db.write_much(gate.unit))
        await asyncio.to_thread(gate.reached.wait)
        waiting = [asyncio.ensure_future(self.db.write(unit)) for unit in units]
        await asyncio.sleep(0)
        gate.open()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.gather(held, return_exceptions=True)
        return list(answers)

    def as_after_a_crash(self) -> list[int]:
        """What a process finds that opens the files as they lie there."""
        copy = self.path + ".crashed"
        for suffix in ("", "-wal"):
            if os.path.exists(self.path + suffix):
                shutil.copy(self.path + suffix, copy + suffix)
        db = sqlite.connect(copy, durable=False)
        found = ids(SqliteTx(db))
        db.close()
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(copy + suffix):
                os.unlink(copy + suffix)
        return found


@pytest.fixture
def vfs() -> Iterator[tuple[Faults, FaultyVFS]]:
    faults = Faults()
    vfs = faults.vfs(next(_names))
    yield faults, vfs
    vfs.unregister()


@pytest_asyncio.fixture
async def house(tmp_path: Path, vfs: tuple[Faults, FaultyVFS]) -> AsyncIterator[House]:
    path = str(tmp_path / "mail.db")
    make_sqlite(path)
    told: list[object] = []
    db = SqliteDatabase(path, durable=True, listener=told.extend, vfs=vfs[1].name)
    yield House(vfs[0], db, path, told)
    vfs[0].disarm()
    await db.close()


_COMMIT_FAULTS: list[tuple[Fault, type[StoreFailed]]] = [
    (Fault("write", "full", file="-wal"), StoreFull),
    (Fault("write", "io", file="-wal"), StoreFailed),
    (Fault("write", "quota", file="-wal"), StoreFailed),
    (Fault("write", "short", file="-wal", after=2), StoreFailed),
    (Fault("sync", "io", file="-wal"), StoreFailed),
]


@pytest.mark.parametrize("number", range(len(_COMMIT_FAULTS)))
async def test_a_commit_that_fails_fails_all_of_its_batch(house: House, number: int) -> None:
    fault, expected = _COMMIT_FAULTS[number]
    await house.db.write(put, 1)
    with house.faults.armed(fault):
        answers = await house.together(
            lambda tx: put(tx, 10), lambda tx: put_and_refuse(tx, 11), lambda tx: put(tx, 12)
        )
        assert fault.hits
        assert isinstance(answers[0], expected)
        assert "Refused" in type(answers[1]).__name__, "its own error says more"
        assert isinstance(answers[2], expected)
        assert answers[0] is not answers[2], "two tasks would share one traceback"
        # What can be read is as before, while the disk still fails.
        assert await house.db.read(ids) == [1]
        assert await house.db.read_much(ids) == [1]
    assert house.told == [1]
    # And it goes on without a restart.
    assert await house.db.write(put, 12) == 12
    assert await house.db.read(ids) == [1, 12]
    assert house.as_after_a_crash() == [1, 12]
    assert house.told == [1, 12]
    assert await house.db.damage() == []


@pytest.mark.parametrize("error", ["io", "full"])
async def test_what_was_refused_does_not_come_back_after_a_crash(
    house: House, error: Error
) -> None:
    """A commit whose sync failed lies in the log whole: the next opener must not take it."""
    await house.db.write(put, 1)
    with house.faults.armed(Fault("sync", error, file="-wal", times=1)) as fault:
        with pytest.raises(StoreFailed):
            await house.db.write(put, 2)
        assert fault.hits == 1
    assert house.as_after_a_crash() == [1]


def _large(tx: Tx, number: int) -> int:
    """More than the cache holds, so that the engine writes before the commit."""
    for n in range(40):
        tx.run(INSERT, id=number + n, text="", data=bytes(8_000))
    tx.after(number)
    return number


def _while_armed(faults: Faults, fault: Fault, number: int, tx: Tx) -> int:
    with faults.armed(fault):
        return _large(tx, number)


def _data(tx: Tx, number: int, size: int) -> None:
    tx.run(INSERT, id=number, text="", data=bytes(size))


async def test_a_batch_that_the_engine_gave_up_is_run_again_each_alone(
    house: House, monkeypatch: pytest.MonkeyPatch, vfs: tuple[Faults, FaultyVFS], tmp_path: Path
) -> None:
    monkeypatch.setattr(sqlite_engine, "_CACHE_KIB", 16)
    path = str(tmp_path / "small.db")
    make_sqlite(path)
    told: list[object] = []
    small = House(
        house.faults,
        SqliteDatabase(path, durable=True, listener=told.extend, vfs=vfs[1].name),
        path,
        told,
    )
    faults: tuple[tuple[Error, int], ...] = (("full", 10_000), ("io", 20_000))
    for error, base in faults:
        fault = Fault("write", error, file="-wal")
        answers = await small.together(
            partial(put, number=base),
            partial(_while_armed, house.faults, fault, base + 100),
            partial(put_and_refuse, number=base + 1),
            partial(put, number=base + 2),
        )
        assert fault.hits
        assert answers[0] == base
        assert isinstance(answers[1], StoreFull if error == "full" else StoreFailed)
        assert "Refused" in type(answers[2]).__name__
        assert answers[3] == base + 2
    expected = [10_000, 10_002, 20_000, 20_002]
    assert await small.db.read(ids) == expected
    assert told == expected, "told once each, and nothing of who failed"
    assert await small.db.write(_large, 50_000) == 50_000
    await small.db.close()
    assert small.as_after_a_crash() == [*expected, *range(50_000, 50_040)]


async def test_a_batch_survives_one_bad_moment_of_the_disk(
    monkeypatch: pytest.MonkeyPatch, vfs: tuple[Faults, FaultyVFS], tmp_path: Path
) -> None:
    """Struck once in the middle: alone, each unit passes, and none is written twice."""
    monkeypatch.setattr(sqlite_engine, "_CACHE_KIB", 16)
    path = str(tmp_path / "small.db")
    make_sqlite(path)
    told: list[object] = []
    db = SqliteDatabase(path, durable=True, listener=told.extend, vfs=vfs[1].name)
    house = House(vfs[0], db, path, told)
    with house.faults.armed(Fault("write", "full", file="-wal", after=4, times=1)) as fault:
        answers = await house.together(
            lambda tx: put(tx, 1), lambda tx: _large(tx, 100), lambda tx: put(tx, 2)
        )
        assert fault.hits == 1
    assert answers == [1, 100, 2]
    assert await db.read(ids) == [1, 2, *range(100, 140)]
    assert sorted(map(str, told)) == ["1", "100", "2"]
    await db.close()


async def test_a_store_that_another_program_holds_says_busy_and_comes_back(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sqlite_engine, "BUSY_MS", 50)
    path = str(tmp_path / "held.db")
    make_sqlite(path)
    db = SqliteDatabase(path, durable=True)
    other = apsw.Connection(path)
    other.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(db.write(put, n) for n in range(5)), return_exceptions=True)
    assert {type(a) for a in answers} == {Busy}
    other.execute("ROLLBACK")
    assert await db.write(put, 7) == 7
    assert await db.read(ids) == [7]
    other.close()
    await db.close()


async def test_a_lost_connection_is_replaced(house: House) -> None:
    def breaks(tx: Tx) -> None:
        put(tx, 2)
        assert isinstance(tx, SqliteTx)
        tx._db.close(True)

    async with asyncio.timeout(10):
        answers = await house.together(
            lambda tx: put(tx, 1), breaks, lambda tx: put(tx, 3), lambda tx: put(tx, 4)
        )
        assert isinstance(answers[1], StoreFailed)
        # Those of its batch are run again on a fresh one.
        assert await house.db.write(put, 5) == 5
    kept = await house.db.read(ids)
    assert 2 not in kept
    assert answers[2:] == [3, 4]
    assert kept == [1, 3, 4, 5]


async def test_a_read_that_fails_says_so_and_the_next_one_answers(house: House) -> None:
    for n in range(50):
        await house.db.write(_data, n, 4_000)
    with house.faults.armed(Fault("read", "io")) as fault:
        with pytest.raises(StoreFailed):
            await house.db.read_much(
                lambda tx: tx.all(Statement("SELECT sum(length(data)), max(data) FROM line"))
            )
        assert fault.hits
    assert len(await house.db.read_much(ids)) == 50


async def test_a_file_that_is_no_store_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "mail.db"
    path.write_bytes(b"this is not what you think it is" * 200)
    with pytest.raises(Corrupt):
        make_sqlite(str(path))
    with pytest.raises(Corrupt):
        SqliteDatabase(str(path), durable=True)


async def test_a_checkpoint_that_fails_loses_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "WAL_FORCED_CHECKPOINT", 50_000)
    with house.faults.armed(
        Fault("write", "full", file="main"), Fault("sync", "io", file="main")
    ) as fault:
        for n in range(20):
            await house.db.write(_data, n, 20_000)
        assert fault.hits
    assert await house.db.read(ids) == list(range(20))
    assert house.as_after_a_crash() == list(range(20))
    await house.db.write(put, 100)
    assert os.stat(house.path + "-wal").st_size < 100_000
