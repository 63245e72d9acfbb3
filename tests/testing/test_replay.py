"""Recording and replay: on a small store, every broken promise to the user is found out.

The toy store keeps a message's text as a blob file and a row that refers to it, in the order
that the real store has: file, then commit, then "250".
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from postroom.store.files import Files, Syscalls
from postroom.testing.faults import Fault, Faults
from postroom.testing.recorder import Recorder, RecordingSyscalls
from postroom.testing.replay import SECTOR, State, Variant, cuts, marks, replay, states

# --- the toy store ------------------------------------------------------------------------


def run(
    root: Path,
    recorder: Recorder,
    *,
    files: Files,
    vfs: str,
    synchronous: str = "full",
    messages: int = 4,
    commit_first: bool = False,
) -> None:
    """Take messages, and mark each as promised once it should be durable."""
    db = apsw.Connection(str(root / "toy.db"), vfs=vfs)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", synchronous)
    db.pragma("wal_autocheckpoint", 0)
    db.execute("CREATE TABLE IF NOT EXISTS message (name PRIMARY KEY, size) WITHOUT ROWID")
    for n in range(messages):
        name = f"m{n}"
        text = content(name)
        path = str(root / "blobs" / name[-1] / name)
        if not commit_first:
            files.write_durably(path, [text[:700], text[700:]])
        with db:
            db.execute("INSERT INTO message VALUES (?, ?)", (name, len(text)))
        if commit_first:
            files.write_durably(path, [text])
        recorder.mark("250", name.encode())
        if n == messages // 2:
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    db.close()


def content(name: str) -> bytes:
    return random.Random(name).randbytes(2000)


def broken(state: State) -> str | None:
    """What is wrong with a state, if anything: it is opened as a restarted server would."""
    path = os.path.join(state.folder, "toy.db")
    promised = [mark.data.decode() for mark in state.marks]
    if not os.path.exists(path):
        return "the database is gone" if promised else None
    db = apsw.Connection(path)
    try:
        if db.pragma("integrity_check") != "ok":
            return "the database is damaged"
        if not db.execute("SELECT count(*) FROM sqlite_schema").get:
            return "the table is gone" if promised else None
        rows = [str(name) for (name,) in db.execute("SELECT name FROM message ORDER BY name")]
        for name in promised:
            if name not in rows:
                return f"promised {name} is gone"
        for name in rows:
            blob = Path(state.folder, "blobs", name[-1], name)
            if not blob.exists() or blob.read_bytes() != content(name):
                return f"{name} has lost its text"
    except apsw.Error as error:
        return f"the database does not open: {error}"
    finally:
        db.close()
    return None


class Bench:
    """A root, its recorder, and the verdicts on what is left after each cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir()
        self.recorder = Recorder(self.root, folder / "log")
        self.vfs = self.recorder.vfs("recording")
        self.files = Files(self.recorder.syscalls())

    def verdicts(self) -> dict[str, Variant]:
        """Every complaint about any state, with the last variant that shows it."""
        found: dict[str, Variant] = {}
        events = self.recorder.events()
        place = self.folder / "states"
        place.mkdir()
        for state in states(events, place, seed=7):
            complaint = broken(state)
            if complaint is not None:
                found[complaint] = state.variant
            shutil.rmtree(state.folder)
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.vfs.unregister()
    bench.recorder.close()


# --- a sound store, and unsound ones --------------------------------------------------------


def test_a_store_that_syncs_all_keeps_every_promise(bench: Bench) -> None:
    run(bench.root, bench.recorder, files=bench.files, vfs="recording")
    events = bench.recorder.events()
    assert [mark.data for mark in marks(events, len(events))] == [b"m0", b"m1", b"m2", b"m3"]
    assert len(list(cuts(events))) > 20
    assert bench.verdicts() == {}


@pytest.mark.parametrize("synchronous", ["off", "normal"])
def test_sqlite_that_does_not_sync_its_commits_is_caught(bench: Bench, synchronous: str) -> None:
    run(bench.root, bench.recorder, files=bench.files, vfs="recording", synchronous=synchronous)
    assert "promised m1 is gone" in bench.verdicts()


class NoDirectorySync(Files):
    """Forgets the directory after the rename."""

    __slots__ = ()

    def _sync_directory(self, directory: str) -> None:
        pass


class NoFileSync(RecordingSyscalls):
    """Syncs directories alone: what POSIX does not promise and laptops forgive."""

    __slots__ = ()

    def fsync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            super().fsync(fd)


@pytest.mark.parametrize(
    "make",
    [
        lambda recorder: NoDirectorySync(recorder.syscalls()),
        lambda recorder: Files(NoFileSync(recorder, Syscalls())),
    ],
    ids=["no directory sync", "no file sync"],
)
def test_a_file_layer_that_forgets_a_sync_is_caught(
    bench: Bench, make: Callable[[Recorder], Files]
) -> None:
    run(bench.root, bench.recorder, files=make(bench.recorder), vfs="recording")
    assert "m0 has lost its text" in bench.verdicts()


def test_a_commit_before_its_file_is_caught(bench: Bench) -> None:
    run(bench.root, bench.recorder, files=bench.files, vfs="recording", commit_first=True)
    assert "m1 has lost its text" in bench.verdicts()


def test_a_drive_that_lies_about_one_sync_is_caught(bench: Bench) -> None:
    faults = Faults()
    vfs = faults.vfs("lying", base="recording")
    with faults.armed(Fault("sync", "lie", file="-wal", after=3, times=1)) as fault:
        run(bench.root, bench.recorder, files=bench.files, vfs=vfs.name)
    vfs.unregister()
    assert fault.hits == 1
    assert any("promised" in complaint for complaint in bench.verdicts())


# --- the model of the disk, one promise at a time --------------------------------------------


def left(
    bench: Bench, variant: Variant, *, cut: int | None = None, seed: int = 0
) -> dict[str, bytes]:
    """The files of a state, by name."""
    events = bench.recorder.events()
    folder = bench.folder / f"left-{variant.value}-{cut}-{seed}"
    replay(events, len(events) if cut is None else cut, folder, variant, seed=seed)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    shutil.rmtree(folder)
    return found


class Hand:
    """Single recorded calls on the root, by short names."""

    def __init__(self, bench: Bench) -> None:
        self.calls = bench.recorder.syscalls()
        self.root = bench.root

    def path(self, name: str) -> str:
        return str(self.root / name)

    def write(self, name: str, *pieces: bytes, sync: bool) -> None:
        fd = self.calls.open(self.path(name), os.O_CREAT | os.O_WRONLY)
        for piece in pieces:
            self.calls.write(fd, piece)
        if sync:
            self.calls.fsync(fd)
        self.calls.close(fd)

    def sync(self, name: str = "") -> None:
        fd = self.calls.open(self.path(name), os.O_RDONLY)
        self.calls.fsync(fd)
        self.calls.close(fd)


def test_bytes_without_fsync_and_names_without_directory_fsync_may_go(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"aaa", sync=True)
    assert left(bench, Variant.NONE) == {}  # an fsync of the file does nothing for its name
    hand.sync()
    assert left(bench, Variant.NONE) == {"a": b"aaa"}
    hand.write("a", b"bbbb", sync=False)
    assert left(bench, Variant.NONE) == {"a": b"aaa"}
    assert left(bench, Variant.ALL) == {"a": b"bbbb"}
    hand.write("c", b"c", sync=False)
    hand.sync()
    assert left(bench, Variant.NONE) == {"a": b"aaa", "c": b""}
    hand.sync("c")
    assert left(bench, Variant.NONE)["c"] == b"c"


def test_the_variants_part_names_and_bytes(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"old", sync=True)
    hand.sync()
    hand.write("tmp", b"new", sync=False)
    hand.calls.rename(hand.path("tmp"), hand.path("a"))
    assert left(bench, Variant.NONE) == {"a": b"old"}
    assert left(bench, Variant.NAMES) == {"a": b""}  # the empty file after a rename
    assert left(bench, Variant.BYTES) == {"a": b"old"}
    assert left(bench, Variant.ALL) == {"a": b"new"}


def test_a_rename_in_a_directory_happens_as_a_whole(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"a", sync=True)
    hand.sync()
    hand.calls.rename(hand.path("a"), hand.path("b"))
    seen = [left(bench, Variant.RANDOM, seed=seed) for seed in range(20)]
    assert {"a": b"a"} in seen
    assert {"b": b"a"} in seen
    assert all(len(files) == 1 for files in seen)


def test_a_rename_between_directories_may_leave_both_names_or_none(bench: Bench) -> None:
    hand = Hand(bench)
    for name in ("x", "y"):
        hand.calls.mkdir(hand.path(name))
    hand.sync()
    hand.write("x/a", b"a", sync=True)
    hand.sync("x")
    hand.calls.rename(hand.path("x/a"), hand.path("y/a"))
    seen = {frozenset(left(bench, Variant.RANDOM, seed=seed)) for seed in range(40)}
    assert seen == {frozenset(), *map(frozenset, (["x/a"], ["y/a"], ["x/a", "y/a"]))}
    hand.sync("y")
    assert "y/a" in left(bench, Variant.NONE)


def test_what_lies_in_a_directory_whose_name_is_lost_is_lost(bench: Bench) -> None:
    hand = Hand(bench)
    hand.calls.mkdir(hand.path("d"))
    hand.write("d/a", b"a", sync=True)
    hand.sync("d")
    assert left(bench, Variant.NONE) == {}
    hand.sync()
    assert left(bench, Variant.NONE) == {"d/a": b"a"}


def test_an_unlinked_file_may_come_back_until_the_directory_is_synced(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"a", sync=True)
    hand.sync()
    hand.calls.unlink(hand.path("a"))
    assert left(bench, Variant.NONE) == {"a": b"a"}
    assert left(bench, Variant.ALL) == {}
    hand.sync()
    assert left(bench, Variant.NONE) == {}


def test_a_torn_write_ends_at_the_edge_of_a_sector(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"1" * 700, b"2" * 3000, sync=False)
    sizes = {len(left(bench, Variant.TORN, seed=seed)["a"]) for seed in range(60)}
    assert len(sizes) > 3
    assert 700 in sizes  # nothing of it
    assert 3700 not in sizes  # never the whole
    assert all(size == 700 or size % SECTOR == 0 for size in sizes)


def test_random_states_lose_any_sector_and_nothing_that_is_safe(bench: Bench) -> None:
    hand = Hand(bench)
    hand.write("a", b"s" * 1024, sync=True)
    hand.sync()
    hand.write("a", b"n" * 2048, sync=False)
    seen = {left(bench, Variant.RANDOM, seed=seed)["a"] for seed in range(60)}
    assert b"s" * 1024 in seen
    assert b"n" * 2048 in seen
    assert b"s" * 512 + b"n" * 512 in {content[:1024] for content in seen}
    assert b"n" * 512 + b"s" * 512 in {content[:1024] for content in seen}
    for found in seen:
        sectors = [found[at : at + SECTOR] for at in range(0, len(found), SECTOR)]
        assert set(sectors[:2]) <= {b"s" * SECTOR, b"n" * SECTOR}
        assert set(sectors[2:]) <= {b"\0" * SECTOR, b"n" * SECTOR}  # a hole, beyond the old end


def test_a_write_after_an_fsync_began_is_not_covered_by_it(bench: Bench) -> None:
    path = str(bench.root / "a")

    class Late(Syscalls):
        """While the disk works on the fsync, another thread writes."""

        def fsync(self, fd: int) -> None:
            os.fsync(fd)
            slow.write(fd, b"late")

    slow = bench.recorder.syscalls(Late())
    fd = slow.open(path, os.O_CREAT | os.O_WRONLY)
    slow.write(fd, b"early")
    slow.fsync(fd)
    slow.close(fd)
    Hand(bench).sync()
    assert left(bench, Variant.NONE) == {"a": b"early"}
    assert left(bench, Variant.ALL) == {"a": b"earlylate"}


def test_what_was_there_at_the_start_is_safe(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d/e").mkdir(parents=True)
    (root / "d/e/old").write_bytes(b"old")
    recorder = Recorder(root, tmp_path / "log")
    recorder.close()
    replay(recorder.events(), len(recorder.events()), tmp_path / "left")
    assert (tmp_path / "left/d/e/old").read_bytes() == b"old"


def test_sqlite_loses_its_journal_name_or_not_as_the_system_does(bench: Bench) -> None:
    """The WAL's directory is synced with the first sync of the WAL, below the VFS."""
    db = apsw.Connection(str(bench.root / "s.db"), vfs="recording")
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    db.execute("CREATE TABLE t (x)")
    assert set(left(bench, Variant.NONE)) >= {"s.db", "s.db-wal"}
    db.close()


# --- walking the log ----------------------------------------------------------------------


def test_what_escapes_the_recorder_is_not_passed_over(bench: Bench) -> None:
    (bench.root / "behind").write_bytes(b"x")
    Hand(bench).write("behind", b"y", sync=True)
    with pytest.raises(ValueError, match="outside the recording"):
        left(bench, Variant.ALL)


def test_states_and_replay_agree(bench: Bench) -> None:
    run(bench.root, bench.recorder, files=bench.files, vfs="recording", messages=2)
    events = bench.recorder.events()
    place = bench.folder / "states"
    place.mkdir()
    some = sorted(random.Random(1).sample(list(cuts(events)), 5))
    walked = list(states(events, place, at=some, seed=3))
    assert [state.cut for state in walked] == [cut for cut in some for _ in Variant]
    for state in walked:
        again = bench.folder / "again"
        assert replay(events, state.cut, again, state.variant, seed=3).marks == state.marks
        assert tree(again) == tree(Path(state.folder))
        shutil.rmtree(again)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }
