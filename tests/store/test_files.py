"""The file layer: what a call promises, on a disk that works and on one that does not."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.core.errors import Corrupt, MailError, Misuse, StoreFailed, StoreFull
from postroom.store.files import Chunk, Files, Syscalls, is_unfinished
from postroom.testing.faults import Error, Fault, Faults, Op


class Spy(Syscalls):
    """Remembers what changes the disk, in words relative to the root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.did: list[str] = []
        self._paths: dict[int, str] = {}

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        fd = super().open(path, flags, mode)
        self._paths[fd] = path
        return fd

    def write(self, fd: int, data: Chunk) -> int:
        self._say("write", self._paths[fd])
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        self._say("fsync", self._paths[fd])
        super().fsync(fd)

    def rename(self, source: str, target: str) -> None:
        self._say("rename", target)
        super().rename(source, target)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        super().mkdir(path, mode)
        self._say("mkdir", path)

    def _say(self, verb: str, path: str) -> None:
        name = os.path.relpath(path, self.root)
        self.did.append(f"{verb} {'TMP' if is_unfinished(os.path.basename(path)) else name}")


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- writing ------------------------------------------------------------------------------


def test_a_file_and_its_directories_are_synced_in_the_order_that_makes_them_durable(
    tmp_path: Path,
) -> None:
    spy = Spy(tmp_path)
    size = Files(spy).write_durably(str(tmp_path / "a/b/blob"), [b"one ", b"", b"two"])
    assert size == 7
    assert everything(tmp_path) == {"a/b/blob": b"one two"}
    assert spy.did == [
        "mkdir a",
        "fsync .",
        "mkdir a/b",
        "fsync a",
        "write TMP",
        "write TMP",
        "fsync TMP",
        "rename a/b/blob",
        "fsync a/b",
    ]


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    Files().write_durably(str(tmp_path / "a/blob"), [b"secret"])
    assert stat.S_IMODE((tmp_path / "a/blob").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_known_directory_costs_one_fsync_beside_the_files(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    files = Files(spy)
    files.write_durably(str(tmp_path / "a/1"), [b"1"])
    spy.did.clear()
    files.write_durably(str(tmp_path / "a/2"), [b"2"])
    assert spy.did == ["write TMP", "fsync TMP", "rename a/2", "fsync a"]


def test_a_directory_that_another_process_made_is_not_trusted_to_be_on_disk(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    spy = Spy(tmp_path)
    Files(spy).write_durably(str(tmp_path / "a/1"), [b"1"])
    assert spy.did == ["fsync .", "write TMP", "fsync TMP", "rename a/1", "fsync a"]


def test_a_group_syncs_each_directory_once_after_all_renames(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    files = Files(spy)
    paths = [str(tmp_path / name) for name in ("a/1", "b/2", "a/3")]
    files.write_many_durably([(path, [b"warm"]) for path in paths])
    spy.did.clear()
    assert files.write_many_durably([(path, [path.encode()]) for path in paths]) == [
        len(path) for path in paths
    ]
    assert spy.did == [
        *["write TMP"] * 3,
        *["fsync TMP"] * 3,
        *["rename a/1", "rename b/2", "rename a/3"],
        *["fsync a", "fsync b"],
    ]


def test_a_group_larger_than_the_open_file_slice_is_written_whole(tmp_path: Path) -> None:
    before = descriptors()
    items = [(str(tmp_path / f"d/{n}"), [b"%d" % n]) for n in range(300)]
    Files().write_many_durably(items)
    assert everything(tmp_path) == {f"d/{n}": b"%d" % n for n in range(300)}
    assert descriptors() == before


def test_an_empty_group_is_nothing() -> None:
    assert Files().write_many_durably([]) == []


def test_every_kind_of_buffer_is_written(tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    Files().write_durably(path, [b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3]])
    assert Files().read(path, 0, 100) == b"abcdef"


def test_short_writes_are_carried_on(tmp_path: Path) -> None:
    faults = Faults()
    with faults.armed(Fault("write", "short")) as fault:
        Files(faults.syscalls()).write_durably(str(tmp_path / "x"), [b"0123456789" * 10])
    assert everything(tmp_path) == {"x": b"0123456789" * 10}
    assert fault.hits > 2


def test_the_name_of_a_dead_process_temporary_file_is_stepped_over(tmp_path: Path) -> None:
    stale = tmp_path / f".new-{os.getpid():x}-0.tmp"
    stale.write_bytes(b"stale")
    Files().write_durably(str(tmp_path / "x"), [b"new"])
    assert everything(tmp_path) == {"x": b"new", stale.name: b"stale"}


def test_a_directory_removed_meanwhile_is_made_again_at_the_second_try(tmp_path: Path) -> None:
    files = Files()
    files.write_durably(str(tmp_path / "a/1"), [b"1"])
    files.unlink(str(tmp_path / "a/1"))
    (tmp_path / "a").rmdir()
    with pytest.raises(StoreFailed):
        files.write_durably(str(tmp_path / "a/2"), [b"2"])
    files.write_durably(str(tmp_path / "a/2"), [b"2"])
    assert everything(tmp_path) == {"a/2": b"2"}


# --- a disk that fails --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "error", "file", "raised"),
    [
        ("open", "full", ".tmp", StoreFull),
        ("write", "full", None, StoreFull),
        ("write", "quota", None, StoreFull),
        ("write", "io", None, StoreFailed),
        ("sync", "full", ".tmp", StoreFull),  # delayed allocation, NFS
        ("sync", "io", ".tmp", StoreFailed),
        ("rename", "full", None, StoreFull),
        ("rename", "io", None, StoreFailed),
    ],
)
def test_what_fails_leaves_nothing_and_replaces_nothing(
    tmp_path: Path, op: Op, error: Error, file: str | None, raised: type[MailError]
) -> None:
    faults = Faults()
    files = Files(faults.syscalls())
    files.write_durably(str(tmp_path / "old"), [b"old"])
    before = descriptors()
    items = [(str(tmp_path / name), [b"first", b"second"]) for name in ("old", "new")]
    with faults.armed(Fault(op, error, file=file)), pytest.raises(raised) as caught:
        files.write_many_durably(items)
    assert type(caught.value) is raised
    assert str(tmp_path) in caught.value.detail
    assert str(tmp_path) not in str(caught.value)
    assert everything(tmp_path) == {"old": b"old"}
    assert descriptors() == before
    files.write_many_durably(items)  # the disk is well again
    assert everything(tmp_path) == {"old": b"firstsecond", "new": b"firstsecond"}


def test_a_disk_that_fills_up_in_the_middle_of_a_write_leaves_nothing(tmp_path: Path) -> None:
    faults = Faults()
    fault = Fault("write", "full", after_bytes=150)
    with faults.armed(fault), pytest.raises(StoreFull):
        Files(faults.syscalls()).write_durably(str(tmp_path / "x"), [b"a" * 100, b"b" * 100])
    assert everything(tmp_path) == {}
    assert fault.seen >= 3


def test_a_failed_directory_sync_is_not_called_durable(tmp_path: Path) -> None:
    faults = Faults()
    files = Files(faults.syscalls())
    files.write_durably(str(tmp_path / "a/1"), [b"1"])
    with faults.armed(Fault("sync", "io", file="/a")), pytest.raises(StoreFailed):
        files.write_durably(str(tmp_path / "a/2"), [b"2"])


def test_a_new_directory_whose_name_could_not_be_synced_is_made_anew(tmp_path: Path) -> None:
    faults = Faults()
    spy = Spy(tmp_path)
    files = Files(faults.syscalls(spy))
    fault = Fault("sync", "io", file=tmp_path.name, times=1)
    with faults.armed(fault), pytest.raises(StoreFailed):
        files.write_durably(str(tmp_path / "a/1"), [b"1"])
    assert not (tmp_path / "a").exists()
    files.write_durably(str(tmp_path / "a/1"), [b"1"])
    assert spy.did[:3] == ["mkdir a", "mkdir a", "fsync ."]


def test_after_a_failed_fsync_the_file_is_never_synced_again(tmp_path: Path) -> None:
    faults = Faults()
    fault = Fault("sync", "io", file=".tmp")
    with faults.armed(fault), pytest.raises(StoreFailed):
        Files(faults.syscalls()).write_durably(str(tmp_path / "x"), [b"x"])
    assert (fault.seen, fault.hits) == (1, 1)


def test_errors_of_the_source_pass_and_leave_nothing(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise Misuse

    with pytest.raises(Misuse):
        Files().write_durably(str(tmp_path / "x"), chunks())
    assert everything(tmp_path) == {}


def test_a_file_where_a_directory_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(StoreFailed):
        Files().write_durably(str(tmp_path / "a/b/x"), [b"x"])


# --- reading and the rest -----------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=200),
    offset=st.integers(0, 250),
    length=st.integers(0, 250),
    short=st.booleans(),
)
def test_a_range_is_read_as_it_was_written(
    tmp_path: Path, content: bytes, offset: int, length: int, short: bool
) -> None:
    path = str(tmp_path / "x")
    faults = Faults()
    files = Files(faults.syscalls())
    files.write_durably(path, [content])
    if short:
        faults.arm(Fault("read", "short"))
    assert files.read(path, offset, length) == content[offset : offset + length]
    assert files.size(path) == len(content)


def test_a_device_that_cannot_read_is_told_from_a_file_that_is_gone(tmp_path: Path) -> None:
    faults = Faults()
    files = Files(faults.syscalls())
    path = str(tmp_path / "x")
    files.write_durably(path, [b"x"])
    before = descriptors()
    with faults.armed(Fault("read", "io")), pytest.raises(StoreFailed, match="store"):
        files.read(path, 0, 1)
    assert descriptors() == before
    assert files.exists(path)
    assert files.unlink(path)
    assert not files.unlink(path)
    assert not files.exists(path)
    assert not files.exists(path + "/below")
    with pytest.raises(Corrupt):
        files.read(path, 0, 1)
    with pytest.raises(Corrupt):
        files.size(path)


def test_names_are_listed_in_order_and_unfinished_ones_can_be_told(tmp_path: Path) -> None:
    files = Files()
    for name in ("b", "a"):
        files.write_durably(str(tmp_path / name), [b""])
    (tmp_path / ".new-1-1.tmp").touch()
    names = files.listdir(str(tmp_path))
    assert names == [".new-1-1.tmp", "a", "b"]
    assert [name for name in names if is_unfinished(name)] == [".new-1-1.tmp"]
    assert files.listdir(str(tmp_path / "none")) == []


def test_replacing_syncs_the_content_before_the_name(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    Files(spy).replace_durably(str(tmp_path / "new"), str(tmp_path / "old"))
    assert everything(tmp_path) == {"old": b"new"}
    assert spy.did[-3:] == ["fsync new", "rename old", "fsync ."]


def test_replacing_with_what_cannot_be_synced_leaves_the_old(tmp_path: Path) -> None:
    faults = Faults()
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    with faults.armed(Fault("sync", "io", file="new")), pytest.raises(StoreFailed):
        Files(faults.syscalls()).replace_durably(str(tmp_path / "new"), str(tmp_path / "old"))
    assert everything(tmp_path) == {"old": b"old"}


# --- files under way ----------------------------------------------------------------------


def test_a_new_file_is_readable_while_it_grows_and_durable_once_kept(tmp_path: Path) -> None:
    spy = Spy(tmp_path)
    files = Files(spy)
    before = descriptors()
    new = files.create(str(tmp_path / "new/1"))
    new.write(b"hello ")
    assert new.read(0, 100) == b"hello "
    new.write(b"world")
    assert (new.size, new.read(6, 5)) == (11, b"world")
    spy.did.clear()
    new.keep(str(tmp_path / "ab/blob"))
    assert spy.did == ["mkdir ab", "fsync .", "fsync new/1", "rename ab/blob", "fsync ab"]
    new.drop()  # after keeping it does nothing
    assert everything(tmp_path) == {"ab/blob": b"hello world"}
    assert descriptors() == before


def test_a_dropped_file_is_gone_and_takes_no_more(tmp_path: Path) -> None:
    new = Files().create(str(tmp_path / "new/1"))
    new.write(b"hello")
    new.drop()
    new.drop()
    assert everything(tmp_path) == {}
    with pytest.raises(StoreFailed):
        new.write(b"more")
    with pytest.raises(StoreFailed):
        new.keep(str(tmp_path / "x"))


@pytest.mark.parametrize("op", ["write", "sync", "rename"])
def test_a_new_file_that_fails_is_dropped(tmp_path: Path, op: Op) -> None:
    faults = Faults()
    files = Files(faults.syscalls())
    before = descriptors()
    new = files.create(str(tmp_path / "new/1"))
    new.write(b"hello")
    file = "1" if op != "rename" else None
    with faults.armed(Fault(op, "full", file=file)), pytest.raises(StoreFull):
        new.write(b"more")
        new.keep(str(tmp_path / "x"))
    assert everything(tmp_path) == {}
    assert descriptors() == before


def test_a_new_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(StoreFailed):
        Files().create(str(tmp_path / "x"))
    assert everything(tmp_path) == {"x": b"old"}
