"""The failing disks: each fault is seen as SQLite and the file layer would see a real one."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from postroom.testing.faults import Error, Fault, Faults, Op


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def db(faults: Faults, tmp_path: Path) -> Iterator[apsw.Connection]:
    """A WAL database with one committed row, on a VFS that obeys `faults`."""
    vfs = faults.vfs("faulty")
    connection = apsw.Connection(str(tmp_path / "t.db"), vfs=vfs.name)
    try:
        assert connection.pragma("journal_mode", "wal") == "wal"
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", 0)
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES ('kept')")
        yield connection
    finally:
        faults.disarm()
        connection.close()
        vfs.unregister()


def rows(db: apsw.Connection) -> list[str]:
    return [str(x) for (x,) in db.execute("SELECT x FROM t ORDER BY rowid")]


def result(error: apsw.Error) -> int:
    """SQLite's extended result code."""
    code: int = error.extendedresult  # type: ignore[attr-defined]  # the stubs leave it out
    return code


def insert(db: apsw.Connection, value: str = "lost") -> None:
    db.execute("INSERT INTO t VALUES (?)", (value,))


# --- beneath SQLite -----------------------------------------------------------------------


def test_wal_mode_works_over_it_with_two_connections(db: apsw.Connection, tmp_path: Path) -> None:
    assert sorted(os.listdir(tmp_path)) == ["t.db", "t.db-shm", "t.db-wal"]
    other = apsw.Connection(str(tmp_path / "t.db"), vfs="faulty")
    with db:
        insert(db, "new")
        assert rows(other) == ["kept"]  # a reader keeps its snapshot: the -shm is shared
    assert rows(other) == ["kept", "new"]
    other.close()


@pytest.mark.parametrize(
    ("fault", "raised", "extended"),
    [
        (Fault("write", "full", file="-wal"), apsw.FullError, apsw.SQLITE_FULL),
        (Fault("write", "quota", file="-wal"), apsw.IOError, apsw.SQLITE_IOERR_WRITE),
        (Fault("write", "io", file="-wal"), apsw.IOError, apsw.SQLITE_IOERR_WRITE),
        (Fault("write", "short", file="-wal"), apsw.IOError, apsw.SQLITE_IOERR_WRITE),
        (Fault("sync", "io", file="-wal"), apsw.IOError, apsw.SQLITE_IOERR_FSYNC),
        (Fault("sync", "full", file="-wal"), apsw.IOError, apsw.SQLITE_IOERR_FSYNC),
    ],
)
def test_a_commit_that_fails_keeps_nothing_and_the_next_one_works(
    db: apsw.Connection,
    faults: Faults,
    fault: Fault,
    raised: type[apsw.Error],
    extended: int,
) -> None:
    with faults.armed(fault), pytest.raises(raised) as caught:
        insert(db)
    assert result(caught.value) == extended
    assert fault.hits >= 1
    assert not db.in_transaction
    assert rows(db) == ["kept"]
    insert(db, "next")
    assert rows(db) == ["kept", "next"]


def test_the_error_is_the_one_that_a_full_disk_gives(tmp_path: Path) -> None:
    """The same statement against a real limit (RLIMIT_FSIZE), beside the injected one."""
    program = """
import apsw, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db = apsw.Connection(sys.argv[1])
db.execute("PRAGMA journal_mode = wal; CREATE TABLE t (x)").fetchall()
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    db.execute("INSERT INTO t VALUES (randomblob(200000))")
except apsw.Error as error:
    print(type(error).__name__, error.extendedresult)
"""
    real = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "real.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    # EFBIG is not ENOSPC: SQLite calls it an I/O error of the write, as `io` and `quota` do.
    assert real.stdout.split() == ["IOError", str(int(apsw.SQLITE_IOERR_WRITE))]


@pytest.mark.parametrize(
    ("op", "file", "extended"),
    [
        ("read", "main", apsw.SQLITE_IOERR_READ),
        ("open", "main", apsw.SQLITE_CANTOPEN),
        ("open", "-wal", apsw.SQLITE_CANTOPEN),
    ],
)
def test_a_file_that_cannot_be_read_or_opened(
    db: apsw.Connection, faults: Faults, tmp_path: Path, op: Op, file: str, extended: int
) -> None:
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    with faults.armed(Fault(op, "io", file=file)) as fault, pytest.raises(apsw.Error) as caught:
        other = apsw.Connection(str(tmp_path / "t.db"), vfs="faulty")
        rows(other)
    assert result(caught.value) == extended
    assert fault.hits >= 1


@pytest.mark.parametrize(
    ("op", "file"), [("write", "main"), ("sync", "main"), ("truncate", "-wal"), ("read", "-wal")]
)
def test_a_checkpoint_that_fails_loses_nothing(
    db: apsw.Connection, faults: Faults, op: Op, file: str
) -> None:
    with faults.armed(Fault(op, "io", file=file)) as fault, pytest.raises(apsw.Error):
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert fault.hits >= 1
    assert rows(db) == ["kept"]
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert rows(db) == ["kept"]


def test_a_rollback_journal_can_fail_too(faults: Faults, tmp_path: Path) -> None:
    vfs = faults.vfs("faulty")
    db = apsw.Connection(str(tmp_path / "j.db"), vfs=vfs.name)
    db.execute("CREATE TABLE t (x)")
    for op in ("open", "write", "sync", "delete"):
        fault = Fault(op, "io", file="-journal")
        with faults.armed(fault), pytest.raises(apsw.Error):
            insert(db)
        assert fault.hits >= 1, op
    assert rows(db) == []
    db.close()


def test_faults_strike_after_operations_and_a_number_of_times(
    db: apsw.Connection, faults: Faults
) -> None:
    with faults.armed(Fault("sync", "io", file="-wal", after=2, times=1)) as fault:
        insert(db, "1")
        insert(db, "2")
        with pytest.raises(apsw.IOError):
            insert(db, "3")
        insert(db, "4")
    assert (fault.hits, fault.seen) == (1, 4)
    assert rows(db) == ["kept", "1", "2", "4"]


def test_a_disk_is_full_after_so_many_bytes(
    db: apsw.Connection, faults: Faults, tmp_path: Path
) -> None:
    wal = tmp_path / "t.db-wal"
    room = 10_000
    before = wal.stat().st_size
    with faults.armed(Fault("write", "full", file="-wal", after_bytes=room)):
        with pytest.raises(apsw.FullError):
            db.execute("INSERT INTO t VALUES (zeroblob(100000))")
        assert wal.stat().st_size == before + room  # the write that crossed was cut
        with pytest.raises(apsw.FullError):  # and it stays full
            insert(db)
    assert rows(db) == ["kept"]


def test_a_sync_may_be_slow(db: apsw.Connection, faults: Faults) -> None:
    with faults.armed(Fault("sync", "none", file="-wal", delay=0.05)):
        began = time.monotonic()
        insert(db, "slow")
    assert time.monotonic() - began >= 0.05
    assert rows(db) == ["kept", "slow"]


def test_a_lying_disk_says_all_is_well(db: apsw.Connection, faults: Faults) -> None:
    with faults.armed(Fault("sync", "lie")) as fault:
        insert(db, "believed")
    assert fault.hits == 1
    assert rows(db) == ["kept", "believed"]


def test_a_process_can_be_killed_at_an_operation(tmp_path: Path) -> None:
    program = """
import apsw, sys
from postroom.testing.faults import Fault, Faults
faults = Faults()
vfs = faults.vfs("faulty")
db = apsw.Connection(sys.argv[1], vfs="faulty")
db.execute("PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE t (x)").fetchall()
faults.arm(Fault("sync", "kill", file="-wal", after=3))
for n in range(10):
    db.execute("INSERT INTO t VALUES (?)", (n,))
    print(n, flush=True)
"""
    path = str(tmp_path / "k.db")
    run = subprocess.run(
        [sys.executable, "-c", program, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert run.stdout.split() == ["0", "1", "2"]
    db = apsw.Connection(path)
    # The fourth was written to the page cache, which outlives the process.
    assert rows(db) == ["0", "1", "2", "3"]
    db.close()


def test_temporary_files_without_a_name_are_let_be(db: apsw.Connection, faults: Faults) -> None:
    db.pragma("temp_store", 1)
    db.pragma("cache_size", 5)
    with faults.armed(Fault("open", "io")):
        db.execute(
            "CREATE TEMP TABLE big AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 "
            "FROM n WHERE i < 50) SELECT randomblob(4000) AS x FROM n"
        )
        assert db.execute("SELECT count(*) FROM (SELECT x FROM big ORDER BY x)").get == 50


# --- the script ---------------------------------------------------------------------------


def test_disarming_all_ends_all(db: apsw.Connection, faults: Faults) -> None:
    faults.arm(Fault("write", "io"), Fault("sync", "io"))
    faults.disarm()
    insert(db, "fine")
    assert rows(db) == ["kept", "fine"]


def test_two_equal_faults_are_two(faults: Faults) -> None:
    one, two = Fault("write"), Fault("write")
    faults.arm(one, two)
    faults.disarm(one)
    assert faults.strike("write", "x") is not None
    assert (one.hits, two.hits) == (0, 1)


@pytest.mark.parametrize(
    ("op", "error", "file", "after_bytes"),
    [
        ("write", "io", "-shm", None),
        ("sync", "io", None, 10),
        ("sync", "short", None, None),
        ("open", "lie", None, None),
    ],
)
def test_a_script_that_could_never_strike_is_refused(
    op: Op, error: Error, file: str | None, after_bytes: int | None
) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Fault(op, error, file=file, after_bytes=after_bytes)


@pytest.mark.parametrize(
    ("file", "path", "strikes"),
    [
        (None, "/d/t.db-wal", True),
        ("main", "/d/t.db", True),
        ("main", "/d/t.db-wal", False),
        ("main", "/d/t.db-journal", False),
        ("-wal", "/d/t.db-wal", True),
        ("-wal", "/d/t.db", False),
        (".tmp", "/d/.new-1-1.tmp", True),
    ],
)
def test_files_are_chosen_by_the_end_of_their_name(
    file: str | None, path: str, strikes: bool
) -> None:
    assert Fault("write", file=file).matches("write", path) is strikes
    assert not Fault("read", file=file).matches("write", path)
