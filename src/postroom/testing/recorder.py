"""Records what a run asks of the disk, and what it promised meanwhile.

A `Recorder` appends one event to a log file for every operation that comes through its VFS
(SQLite) or its Syscalls (store/files), and for every `mark`, by which a test says what was
promised to whom and when ("message X got 250"). Processes may share a log: a forked server and
the client that marks the replies each append to it. postroom.testing.replay rebuilds from the
log what a power cut may leave.

Not recorded: the -shm file, which SQLite rebuilds after a crash, and lock files.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import apsw

from postroom.store.files import Chunk, Syscalls
from postroom.testing.faults import filename

Kind: TypeAlias = Literal[
    "create", "mkdir", "rename", "unlink", "rmdir", "write", "truncate", "fsync", "mark"
]

_FRAME: Final = struct.Struct(">4sII")  # magic, length of the header, length of the data
_MAGIC: Final = b"prlg"


@dataclass(frozen=True, slots=True)
class Event:
    """One operation that has returned, or a mark.

    path: relative to the root, where the operation names one; "" is the root.
    target: a rename's new path; a mark's label.
    node: inode number; what write, truncate and fsync concern, whatever its name is by then.
    offset: of a write; a truncate's new size.
    data: a write's bytes; a mark's payload.
    covers: for an fsync, how many events of the log stood before it began.
    """

    kind: Kind
    path: str = ""
    target: str = ""
    node: int = 0
    offset: int = 0
    data: bytes = b""
    covers: int = 0


class Recorder:
    """Appends to `log` all that happens below `root`, what is there at the start first.

    With `join`, adds to a log that another process began, and takes no picture of the root.
    Threads may share a recorder and a fork may inherit it: an event is one appending write.
    """

    def __init__(
        self, root: str | os.PathLike[str], log: str | os.PathLike[str], *, join: bool = False
    ) -> None:
        self.root = os.path.realpath(root)
        self.log = os.path.realpath(log)
        if os.path.commonpath((self.root, self.log)) == self.root:
            raise ValueError("the log lies in what it records")
        fresh = 0 if join else os.O_TRUNC | os.O_CREAT
        self._fd = os.open(self.log, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | fresh, 0o600)
        if not join:
            self._picture()

    def vfs(self, name: str, base: str = "") -> RecordingVFS:
        """Register a VFS that records. Keep the object; unregister() when done."""
        return RecordingVFS(self, name, base)

    def syscalls(self, base: Syscalls | None = None) -> RecordingSyscalls:
        return RecordingSyscalls(self, base if base is not None else Syscalls())

    def mark(self, label: str, payload: bytes = b"") -> None:
        """Say that something was promised: it must hold after every cut from here on."""
        self.add("mark", target=label, data=payload)

    def events(self) -> list[Event]:
        """The log so far."""
        return load(self.log)

    def close(self) -> None:
        os.close(self._fd)

    def add(
        self,
        kind: Kind,
        path: str | None = None,
        *,
        target: str = "",
        node: int = 0,
        offset: int = 0,
        data: Chunk = b"",
        began: int = 0,
    ) -> None:
        """Append one event; call it after the operation has returned.

        path: absolute. began: for an fsync, `position()` before it.
        """
        relative = "" if path is None else self.relative(path)
        header = json.dumps([kind, relative, target, node, offset, began]).encode()
        frame = b"".join((_FRAME.pack(_MAGIC, len(header), len(data)), header, data))
        if os.write(self._fd, frame) != len(frame):
            raise OSError("the log of the recorder could not be written")

    def position(self) -> int:
        """Where the log ends now, in bytes."""
        return os.fstat(self._fd).st_size

    def relative(self, path: str) -> str:
        """The path below the root; raises ValueError for any other: it would go unrecorded."""
        folder, name = os.path.split(os.path.abspath(path))
        real = os.path.join(os.path.realpath(folder), name)
        if real == self.root:
            return ""
        if os.path.commonpath((self.root, real)) != self.root:
            raise ValueError(f"{path} lies outside {self.root}")
        return os.path.relpath(real, self.root)

    def _picture(self) -> None:
        """Record what is there already, as safe."""
        self.add("mkdir", self.root, node=os.stat(self.root).st_ino)
        for folder, folders, files in os.walk(self.root):
            for name in sorted(folders):
                path = os.path.join(folder, name)
                self.add("mkdir", path, node=os.stat(path).st_ino)
            for name in sorted(files):
                path = os.path.join(folder, name)
                about = os.lstat(path)
                if not stat.S_ISREG(about.st_mode) or name.endswith("-shm"):
                    continue
                self.add("create", path, node=about.st_ino)
                with open(path, "rb") as file:
                    self.add("write", path, node=about.st_ino, data=file.read())
                self.add("fsync", path, node=about.st_ino, began=self.position())
            self.add("fsync", folder, node=os.stat(folder).st_ino, began=self.position())


def load(log: str | os.PathLike[str]) -> list[Event]:
    """The events of a log file. A last one that a killed process left unfinished is dropped."""
    with open(log, "rb") as file:
        raw = file.read()
    events: list[Event] = []
    ends: list[int] = []  # of each event, in bytes
    at = 0
    while at + _FRAME.size <= len(raw):
        magic, header_size, data_size = _FRAME.unpack_from(raw, at)
        if magic != _MAGIC:
            raise ValueError(f"the log is damaged at byte {at}")
        header_at = at + _FRAME.size
        data_at = header_at + header_size
        end = data_at + data_size
        if end > len(raw):
            break
        kind, path, target, node, offset, began = json.loads(raw[header_at:data_at])
        data = raw[data_at:end]
        events.append(Event(kind, path, target, node, offset, data, _count(ends, began)))
        ends.append(end)
        at = end
    return events


def _count(ends: Sequence[int], position: int) -> int:
    """Events that end at or before a position. It may lie within one: an append by another
    process grows the file page by page."""
    return bisect_right(ends, position)


# --- recording ----------------------------------------------------------------------------


class RecordingSyscalls(Syscalls):
    """Syscalls that record what succeeds."""

    __slots__ = ("_base", "_ends", "_recorder")

    def __init__(self, recorder: Recorder, base: Syscalls) -> None:
        self._recorder = recorder
        self._base = base
        self._ends: dict[int, int] = {}  # descriptor: where its next write goes

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        fd = self._base.open(path, flags, mode)
        node = os.fstat(fd).st_ino
        if new:
            self._recorder.add("create", path, node=node)
        elif flags & os.O_TRUNC:
            self._recorder.add("truncate", path, node=node)
        self._ends[fd] = os.fstat(fd).st_size if flags & os.O_APPEND else 0
        return fd

    def close(self, fd: int) -> None:
        self._ends.pop(fd, None)
        self._base.close(fd)

    def write(self, fd: int, data: Chunk) -> int:
        wrote = self._base.write(fd, data)
        self._recorder.add(
            "write",
            node=os.fstat(fd).st_ino,
            offset=self._ends[fd],
            data=memoryview(data)[:wrote],
        )
        self._ends[fd] += wrote
        return wrote

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return self._base.pread(fd, length, offset)

    def fsync(self, fd: int) -> None:
        began = self._recorder.position()
        self._base.fsync(fd)
        self._recorder.add("fsync", node=os.fstat(fd).st_ino, began=began)

    def rename(self, source: str, target: str) -> None:
        self._base.rename(source, target)
        self._recorder.add("rename", source, target=self._recorder.relative(target))

    def unlink(self, path: str) -> None:
        self._base.unlink(path)
        self._recorder.add("unlink", path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._base.mkdir(path, mode)
        self._recorder.add("mkdir", path, node=os.stat(path).st_ino)

    def rmdir(self, path: str) -> None:
        self._base.rmdir(path)
        self._recorder.add("rmdir", path)

    def size(self, path: str) -> int:
        return self._base.size(path)

    def listdir(self, path: str) -> list[str]:
        return self._base.listdir(path)


class RecordingVFS(apsw.VFS):
    """A VFS that records what succeeds. WAL mode works: -shm stays in the VFS below."""

    def __init__(self, recorder: Recorder, name: str, base: str = "") -> None:
        self._recorder = recorder
        self._base = base
        self.name = name
        super().__init__(name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        path = filename(name)
        if path is None:
            return apsw.VFSFile(self._base, name, flags)
        new = not os.path.lexists(path)
        file = RecordingFile(self._recorder, self._base, name, path, flags)
        if new:
            self._recorder.add("create", path, node=file.node)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, False)
        self._recorder.add("unlink", filename)
        if syncdir:
            _sync_directory(self._recorder, os.path.dirname(filename))


class RecordingFile(apsw.VFSFile):
    """One open file of a RecordingVFS."""

    def __init__(
        self,
        recorder: Recorder,
        base: str,
        name: str | apsw.URIFilename | None,
        path: str,
        flags: list[int],
    ) -> None:
        super().__init__(base, name, flags)
        self._recorder = recorder
        self._path = path
        self.node = os.stat(path).st_ino
        # SQLite's unix VFS syncs the directory with the first sync of each journal or WAL
        # that it opened for creation (UNIXFILE_DIRSYNC in os_unix.c), below our sight.
        side = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL
        side |= apsw.SQLITE_OPEN_SUPER_JOURNAL
        self._sync_directory = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & side)

    def xWrite(self, data: Chunk, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._recorder.add("write", node=self.node, offset=offset, data=data)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._recorder.add("truncate", node=self.node, offset=newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        began = self._recorder.position()
        super().xSync(flags)
        self._recorder.add("fsync", node=self.node, began=began)
        if self._sync_directory:
            folder = os.stat(os.path.dirname(self._path)).st_ino
            self._recorder.add("fsync", node=folder, began=began)
            self._sync_directory = False


def _sync_directory(recorder: Recorder, folder: str) -> None:
    """SQLite asks for this with a delete; done here so that both steps are recorded apart."""
    began = recorder.position()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        recorder.add("fsync", node=os.fstat(fd).st_ino, began=began)
    finally:
        os.close(fd)
