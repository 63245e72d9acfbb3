"""Several processes on one file: whole units, fair shares, and nothing lost by a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from postroom.store import sqlite
from postroom.store.sql import Statement, Tx
from postroom.store.sqlite import SqliteDatabase, SqliteTx
from tests.store.making import make_sqlite

_SECONDS: Final = 1.5

ADD: Final = Statement("UPDATE line SET text = CAST(text AS integer) + 1 WHERE id = :id")
READ: Final = Statement("SELECT CAST(text AS integer) FROM line WHERE id = :id")
SUMS: Final = Statement("SELECT id, CAST(text AS integer) FROM line ORDER BY id")
INSERT: Final = Statement("INSERT INTO line (id, text) VALUES (:id, '0')")


def add(tx: Tx, who: int) -> int:
    """Row 0 is everybody's, row `who` its own: together they tell of any lost update."""
    tx.run(ADD, id=0)
    tx.run(ADD, id=who)
    row = tx.one(READ, id=who)
    assert row is not None
    return int(row[0])


async def worker(path: str, who: int, seconds: float) -> None:
    """Sixteen clients that wait for each answer; prints each answer as it comes."""
    db = SqliteDatabase(path, durable=True)
    ends = time.monotonic() + seconds
    out = os.fdopen(1, "wb", buffering=0, closefd=False)

    async def client() -> None:
        while time.monotonic() < ends:
            out.write(b"%d\n" % await db.write(add, who))

    print("ready", flush=True)
    await asyncio.gather(*(client() for _ in range(16)))
    await db.close()


def start(path: str, who: int, seconds: float) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    command = [sys.executable, "-m", "tests.store.test_sqlite_processes", path, str(who)]
    return subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, env=env, cwd=root)


def _prepare(disk_path: Path) -> str:
    path = str(disk_path / "mail.db")
    make_sqlite(path)
    db = sqlite.connect(path, durable=True)
    for number in range(3):
        SqliteTx(db).run(INSERT, id=number)
    db.close()
    return path


def _sums(path: str) -> dict[int, int]:
    db = sqlite.connect(path, durable=True)
    sums: dict[int, int] = dict(SqliteTx(db).all(SUMS))
    assert db.pragma("integrity_check") == "ok"
    db.close()
    return sums


def test_two_processes_share_one_file_evenly(disk_path: Path) -> None:
    path = _prepare(disk_path)
    workers = [start(path, who, _SECONDS) for who in (1, 2)]
    told = [[int(n) for n in w.communicate(timeout=60)[0].split()[1:]] for w in workers]
    assert [w.returncode for w in workers] == [0, 0]
    sums = _sums(path)
    assert sums[0] == sums[1] + sums[2], "an update was lost"
    for who, answers in enumerate(told, start=1):
        assert sorted(answers) == list(range(1, sums[who] + 1)), "answers and truth differ"
    assert min(sums[1], sums[2]) > 0.25 * sums[0], f"one of them starved: {sums}"


def test_a_killed_process_loses_nothing_it_acknowledged(disk_path: Path) -> None:
    """And the other goes on: the lock of the dead is free at once."""
    path = _prepare(disk_path)
    victim, other = start(path, 1, 30), start(path, 2, _SECONDS)
    assert victim.stdout is not None
    lines = [victim.stdout.readline() for _ in range(50)]
    victim.send_signal(signal.SIGKILL)
    lines += victim.stdout.readlines()
    victim.wait()
    victim.stdout.close()
    answered = [int(line) for line in lines[1:] if line.endswith(b"\n")]
    told = [int(n) for n in other.communicate(timeout=60)[0].split()[1:]]
    assert other.returncode == 0
    sums = _sums(path)
    assert sums[1] >= max(answered)
    assert sums[2] == max(told)
    assert sums[0] == sums[1] + sums[2], "half of a unit was kept"


if __name__ == "__main__":
    asyncio.run(worker(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
