"""The log: shared by processes, whole after a kill, refused when it cannot be trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from postroom.store.files import Files
from postroom.testing.recorder import Recorder
from postroom.testing.replay import marks, replay


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def recorder(root: Path, tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(root, tmp_path / "log")
    yield recorder
    recorder.close()


def test_calls_are_logged_in_order_with_what_they_moved(recorder: Recorder, root: Path) -> None:
    Files(recorder.syscalls()).write_durably(str(root / "d/x"), [b"ab", b"cd"])
    recorder.mark("250", b"x")
    events = recorder.events()[2:]  # after the picture of the empty root
    assert [event.kind for event in events] == [
        *["mkdir", "fsync", "create", "write", "write", "fsync", "rename", "fsync", "mark"]
    ]
    assert [(e.offset, e.data) for e in events if e.kind == "write"] == [(0, b"ab"), (2, b"cd")]
    assert [e.target for e in events if e.kind == "rename"] == ["d/x"]
    folder, blob = (root / "d").stat().st_ino, (root / "d/x").stat().st_ino
    syncs = [e.node for e in events if e.kind == "fsync"]
    assert syncs == [root.stat().st_ino, blob, folder]


def test_sqlite_is_logged_as_it_works(recorder: Recorder, root: Path) -> None:
    """With the directory that the system's VFS syncs, out of our sight, on the first sync."""
    vfs = recorder.vfs("recording")
    db = apsw.Connection(str(root / "s.db"), vfs=vfs.name)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    before = len(recorder.events())
    db.execute("CREATE TABLE t (x)")
    events = recorder.events()[before:]
    db.close()
    vfs.unregister()
    wal = next(event for event in events if event.kind == "create")
    assert wal.path == "s.db-wal"
    syncs = [event.node for event in events if event.kind == "fsync"]
    assert syncs == [wal.node, root.stat().st_ino, wal.node]
    assert {event.node for event in events if event.kind == "write"} == {wal.node}
    assert recorder.events()[-1].path == "s.db-wal"  # the last to close removes it
    assert recorder.events()[-1].kind == "unlink"


def test_processes_share_a_log_and_a_killed_one_leaves_it_whole(
    recorder: Recorder, root: Path, tmp_path: Path
) -> None:
    program = """
import os, signal, sys
from postroom.store.files import Files
from postroom.testing.recorder import Recorder
recorder = Recorder(sys.argv[1], sys.argv[2], join=True)
Files(recorder.syscalls()).write_durably(sys.argv[1] + "/theirs", [b"x"])
recorder.mark("done")
os.kill(os.getpid(), signal.SIGKILL)
"""
    files = Files(recorder.syscalls())
    files.write_durably(str(root / "ours"), [b"1"])
    run_ = subprocess.run(
        [sys.executable, "-c", program, str(root), recorder.log],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run_.returncode < 0
    files.write_durably(str(root / "last"), [b"2"])
    events = recorder.events()
    replay(events, len(events), tmp_path / "left")
    assert sorted(os.listdir(tmp_path / "left")) == ["last", "ours", "theirs"]
    assert (tmp_path / "left/theirs").read_bytes() == b"x"
    assert [event.target for event in marks(events, len(events))] == ["done"]
    # A record cut short by the kill is dropped; the rest of the log counts.
    os.truncate(recorder.log, os.path.getsize(recorder.log) - 5)
    assert recorder.events() == events[:-1]


def test_a_damaged_log_is_refused(recorder: Recorder) -> None:
    recorder.mark("x")
    with open(recorder.log, "r+b") as log:
        log.write(b"XXXX")
    with pytest.raises(ValueError, match="damaged"):
        recorder.events()


def test_paths_and_logs_in_the_wrong_place_are_refused(
    recorder: Recorder, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="outside"):
        recorder.syscalls().mkdir(str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="log"):
        Recorder(root, root / "log")
