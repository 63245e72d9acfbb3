"""Disks that fail by script: beneath SQLite as a VFS, beneath store/files as Syscalls.

One script serves both. A `Fault` names the operation, the files, when it strikes and how:

>>> faults = Faults()
>>> vfs = faults.vfs("faulty")                   # keep it; apsw.Connection(path, vfs="faulty")
>>> files = Files(faults.syscalls())
>>> with faults.armed(Fault("write", "full", file="-wal", after=3)) as fault:
...     ...
>>> assert fault.hits

What it cannot reach: the -shm file of WAL mode. apsw passes SQLite's shared-memory methods
straight to the VFS below, so WAL works here, but they never come through Python.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import apsw

from postroom.store.files import Chunk, Syscalls

Op: TypeAlias = Literal[
    "open", "read", "write", "sync", "truncate", "delete", "rename", "mkdir", "list"
]
Error: TypeAlias = Literal["full", "quota", "io", "short", "lie", "kill", "none"]

_SIDES: Final = ("-wal", "-journal")


@dataclass(slots=True, eq=False)
class Fault:
    """One line of a script.

    op: what it strikes. Through the VFS there is no rename, mkdir or list; Syscalls have no
    truncate. An fsync of a directory is a `sync` of the directory's own path; SQLite's are
    made by the VFS below and cannot be told from the sync they follow.
    error:
      full, quota   no space (ENOSPC), no quota (EDQUOT)
      io            the device fails (EIO)
      short         half of the bytes are moved. Syscalls return the count, as the system may;
                    the VFS fails after it, as SQLite's does when it can get no further
      lie           success is reported and nothing done (a drive that ignores flushes)
      kill          this process dies by SIGKILL before the operation
      none          nothing but the delay
    file: the end of the file's name; "main" is every database file that is not a WAL or
    journal; None is every file.
    after: operations that match and are let through first.
    after_bytes: for writes, bytes let through first; the write that crosses is cut there.
    times: how often it strikes; None is until disarmed.
    delay: seconds slept before it strikes.
    """

    op: Op
    error: Error = "io"
    file: str | None = None
    after: int = 0
    after_bytes: int | None = None
    times: int | None = None
    delay: float = 0.0
    hits: int = field(default=0, init=False)
    """How often it has struck."""
    seen: int = field(default=0, init=False)
    """How many operations matched, struck or not."""
    _passed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.file == "-shm":
            raise ValueError("the -shm file does not pass through a Python VFS")
        if self.after_bytes is not None and self.op != "write":
            raise ValueError("after_bytes counts what is written")
        if self.error == "short" and self.op not in {"read", "write"}:
            raise ValueError("only a read or a write can be short")
        if self.error == "lie" and self.op not in {"write", "sync", "truncate", "delete"}:
            raise ValueError(f"a lie about {self.op} has no meaning")

    def matches(self, op: Op, path: str) -> bool:
        if op != self.op:
            return False
        if self.file == "main":
            return not path.endswith(_SIDES)
        return self.file is None or path.endswith(self.file)


@dataclass(frozen=True, slots=True)
class Strike:
    """What befalls one operation. `keep`: bytes of a write that still get through."""

    error: Error
    keep: int = 0


class Faults:
    """The script in force, for every file layer made from it.

    Threads share the counts; after a fork each process counts for itself.
    """

    def __init__(self) -> None:
        self._armed: list[Fault] = []
        self._lock = threading.Lock()

    @contextmanager
    def armed(self, *faults: Fault) -> Iterator[Fault]:
        """Put faults in force for the block; gives the first, to ask for its hits."""
        self.arm(*faults)
        try:
            yield faults[0]
        finally:
            self.disarm(*faults)

    def arm(self, *faults: Fault) -> None:
        with self._lock:
            self._armed = [*self._armed, *faults]

    def disarm(self, *faults: Fault) -> None:
        """Take these out of force; all of them if none is named."""
        with self._lock:
            self._armed = [f for f in self._armed if faults and f not in faults]

    def vfs(self, name: str, base: str = "") -> FaultyVFS:
        """Register a VFS over `base` ("" is the system's, or a recorder's). Keep the object."""
        return FaultyVFS(self, name, base)

    def syscalls(self, base: Syscalls | None = None) -> FaultySyscalls:
        return FaultySyscalls(self, base if base is not None else Syscalls())

    def strike(self, op: Op, path: str, size: int = 0) -> Strike | None:
        """What the script says of this operation; sleeps its delay. `size`: bytes to move."""
        for fault in self._armed:  # the list is replaced, never changed, under readers
            if not fault.matches(op, path):
                continue
            with self._lock:
                struck = _judge(fault, size)
            if struck is None:
                continue
            if fault.delay:
                time.sleep(fault.delay)
            if struck.error == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if struck.error == "none":
                continue
            return struck
        return None


def _judge(fault: Fault, size: int) -> Strike | None:
    """Count the operation; whether the fault strikes it."""
    fault.seen += 1
    if fault.seen <= fault.after:
        return None
    if fault.times is not None and fault.hits >= fault.times:
        return None
    keep = size // 2 if fault.error == "short" else 0
    if fault.after_bytes is not None:
        keep = min(size, fault.after_bytes - fault._passed)
        fault._passed += keep
        if keep == size:
            return None
    fault.hits += 1
    return Strike(fault.error, keep)


# --- beneath store/files ------------------------------------------------------------------

_ERRNO: Final = {"full": errno.ENOSPC, "quota": errno.EDQUOT, "io": errno.EIO}


class FaultySyscalls(Syscalls):
    """Syscalls under a script. Paths are as the caller gave them to `open`."""

    __slots__ = ("_base", "_faults", "_paths")

    def __init__(self, faults: Faults, base: Syscalls) -> None:
        self._faults = faults
        self._base = base
        self._paths: dict[int, str] = {}

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._strike("open", path)
        fd = self._base.open(path, flags, mode)
        self._paths[fd] = path
        return fd

    def close(self, fd: int) -> None:
        self._paths.pop(fd, None)
        self._base.close(fd)

    def write(self, fd: int, data: Chunk) -> int:
        struck = self._faults.strike("write", self._paths[fd], len(data))
        if struck is None:
            return self._base.write(fd, data)
        if struck.error == "lie":
            return len(data)
        if struck.keep:
            # The rest fails at the next call, as it does on a disk that fills up.
            return self._base.write(fd, memoryview(data)[: struck.keep])
        if struck.error == "short":
            return self._base.write(fd, data)  # one byte cannot be halved
        raise _os_error(struck.error, self._paths[fd])

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        struck = self._faults.strike("read", self._paths[fd], length)
        if struck is None:
            return self._base.pread(fd, length, offset)
        if struck.error == "short":
            return self._base.pread(fd, struck.keep or length, offset)
        raise _os_error(struck.error, self._paths[fd])

    def fsync(self, fd: int) -> None:
        if self._strike("sync", self._paths[fd]):
            self._base.fsync(fd)

    def rename(self, source: str, target: str) -> None:
        self._strike("rename", target)
        self._base.rename(source, target)

    def unlink(self, path: str) -> None:
        if self._strike("delete", path):
            self._base.unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._strike("mkdir", path)
        self._base.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        self._base.rmdir(path)

    def size(self, path: str) -> int:
        return self._base.size(path)

    def listdir(self, path: str) -> list[str]:
        self._strike("list", path)
        return self._base.listdir(path)

    def _strike(self, op: Op, path: str) -> bool:
        """Raise what the script says; False if the operation is to be pretended."""
        struck = self._faults.strike(op, path)
        if struck is None:
            return True
        if struck.error == "lie":
            return False
        raise _os_error(struck.error, path)


def _os_error(error: Error, path: str) -> OSError:
    number = _ERRNO[error]
    return OSError(number, os.strerror(number), path)


# --- beneath SQLite -----------------------------------------------------------------------

# What SQLite's own unix VFS answers when the system call under that operation fails.
_IO_RESULT: Final[dict[Op, int]] = {
    "open": apsw.SQLITE_CANTOPEN,
    "read": apsw.SQLITE_IOERR_READ,
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "delete": apsw.SQLITE_IOERR_DELETE,
}


def _sqlite_error(op: Op, error: Error) -> Exception:
    # Only a write says FULL, and only for ENOSPC; EDQUOT is an I/O error to SQLite.
    full = op == "write" and error == "full"
    return apsw.exception_for(apsw.SQLITE_FULL if full else _IO_RESULT[op])


class FaultyVFS(apsw.VFS):
    """A VFS under a script. WAL mode works; see the module for what is not reached."""

    def __init__(self, faults: Faults, name: str, base: str = "") -> None:
        self._faults = faults
        self._base = base
        self.name = name
        super().__init__(name, base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's name
        path = filename(name)
        if path is None:  # a temporary file of SQLite's, without a name
            return apsw.VFSFile(self._base, name, flags)
        if self._faults.strike("open", path) is not None:
            raise _sqlite_error("open", "io")
        return FaultyFile(self._faults, self._base, name, path, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        struck = self._faults.strike("delete", filename)
        if struck is None:
            super().xDelete(filename, syncdir)
        elif struck.error != "lie":
            raise _sqlite_error("delete", struck.error)


class FaultyFile(apsw.VFSFile):
    """One open file of a FaultyVFS."""

    def __init__(
        self,
        faults: Faults,
        base: str,
        name: str | apsw.URIFilename | None,
        path: str,
        flags: list[int],
    ) -> None:
        self._faults = faults
        self._path = path
        super().__init__(base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        struck = self._faults.strike("read", self._path, amount)
        if struck is None:
            return super().xRead(amount, offset)
        raise _sqlite_error("read", struck.error)

    def xWrite(self, data: Chunk, offset: int) -> None:  # noqa: N802
        struck = self._faults.strike("write", self._path, len(data))
        if struck is None:
            super().xWrite(data, offset)
            return
        if struck.keep:
            super().xWrite(bytes(memoryview(data)[: struck.keep]), offset)
        if struck.error != "lie":
            raise _sqlite_error("write", struck.error)

    def xSync(self, flags: int) -> None:  # noqa: N802
        struck = self._faults.strike("sync", self._path)
        if struck is None:
            super().xSync(flags)
        elif struck.error != "lie":
            raise _sqlite_error("sync", struck.error)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        struck = self._faults.strike("truncate", self._path)
        if struck is None:
            super().xTruncate(newsize)
        elif struck.error != "lie":
            raise _sqlite_error("truncate", struck.error)


def filename(name: str | apsw.URIFilename | None) -> str | None:
    """The path that SQLite asks a VFS to open; None for an unnamed temporary file."""
    return name.filename() if isinstance(name, apsw.URIFilename) else name
