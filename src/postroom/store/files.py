"""The file layer under blobs: the only place where the store touches files itself.

SQLite touches its own through its VFS. `Files` makes files durable and turns what the system
refuses into core errors; `Syscalls` is the thin line to the system, passed in so that tests
refuse, delay and record there (postroom.testing.faults and .recorder).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, TypeAlias

from postroom.core.errors import Corrupt, StoreFailed, StoreFull

Chunk: TypeAlias = bytes | bytearray | memoryview

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_GROUP: Final = 128  # files open at once while a group is written
_TMP_PREFIX: Final = ".new-"
_TMP_SUFFIX: Final = ".tmp"


class Syscalls:
    """The system calls of the file layer, one method each; raises OSError as `os` does."""

    __slots__ = ()

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: Chunk) -> int:
        return os.write(fd, data)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        return os.pread(fd, length, offset)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)


def is_unfinished(name: str) -> bool:
    """True for the name of a file that a write had not finished; old ones may be removed."""
    return name.startswith(_TMP_PREFIX) and name.endswith(_TMP_SUFFIX)


class Files:
    """Durable files. Every method blocks; any thread may call; may be shared across a fork.

    What is written is on disk when the call returns, or the call raises StoreFull (no space,
    no quota) or StoreFailed (all else) and nothing is at the path that was not there before,
    save one case: a directory whose fsync failed may show the new file. A caller tries again
    with its bytes from the start: after a failed fsync the kernel may drop the pages and call
    the next fsync good, so a file is never synced a second time.
    """

    __slots__ = ("_numbers", "_settled", "_sys")

    def __init__(self, syscalls: Syscalls | None = None) -> None:
        self._sys = syscalls if syscalls is not None else Syscalls()
        self._numbers = itertools.count()
        # Directories whose name this process knows to be on disk.
        self._settled: set[str] = set()

    def write_durably(self, path: str, chunks: Iterable[Chunk]) -> int:
        """Write a whole file, its directories with it; returns its size in bytes.

        A file that is at `path` is replaced at once or not at all.
        """
        return self.write_many_durably([(path, chunks)])[0]

    def write_many_durably(self, items: Sequence[tuple[str, Iterable[Chunk]]]) -> list[int]:
        """The same for many, with one fsync for each directory; returns their sizes.

        If it raises, some may be there in full: files that nothing refers to yet.
        """
        sizes: list[int] = []
        unfinished: dict[str, str] = {}  # temporary name: final name
        directories = tuple(dict.fromkeys(_directory(path) for path, _ in items))
        with _store_errors("write", items[0][0] if items else ""), self._within(*directories):
            try:
                for start in range(0, len(items), _GROUP):
                    sizes += self._write_group(items[start : start + _GROUP], unfinished)
                for tmp, path in list(unfinished.items()):
                    self._sys.rename(tmp, path)
                    del unfinished[tmp]
                for directory in directories:
                    self._sync_directory(directory)
            except BaseException:
                for tmp in unfinished:
                    self._discard(tmp)
                raise
        return sizes

    def replace_durably(self, source: str, target: str) -> None:
        """Move a finished file to `target`, on the same file system; replaces what is there.

        Syncs the content first. If that fails `source` is discarded, as its pages may be lost.
        From another directory the old name may come back after a crash, beside the new one.
        """
        with _store_errors("move to", target), self._within(_directory(target)):
            fd = self._sys.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._sys.fsync(fd)
            except OSError:
                self._discard(source)
                raise
            finally:
                self._sys.close(fd)
            self._sys.rename(source, target)
            self._sync_directory(_directory(target))

    def create(self, path: str) -> NewFile:
        """A new empty file to write to piece by piece; durable only once it is kept."""
        with _store_errors("create", path), self._within(_directory(path)):
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            return NewFile(self, path, self._sys.open(path, flags, 0o600))

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes from `offset`: `length` of them, or fewer where the file ends.

        Raises Corrupt if the file is not there: a reference leads nowhere.
        """
        with _store_errors("read", path):
            fd = self._sys.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self._read_all(fd, offset, length)
            finally:
                self._sys.close(fd)

    def size(self, path: str) -> int:
        """Bytes in the file; raises Corrupt if it is not there."""
        with _store_errors("measure", path):
            return self._sys.size(path)

    def exists(self, path: str) -> bool:
        """Whether something is at `path`; raises StoreFailed where that cannot be known."""
        with _store_errors("look for", path):
            try:
                self._sys.size(path)
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def unlink(self, path: str) -> bool:
        """Remove a file; False if it was not there. A crash may bring it back."""
        with _store_errors("remove", path):
            try:
                self._sys.unlink(path)
            except FileNotFoundError:
                return False
            return True

    def sync_directory(self, path: str) -> None:
        """Make durable which names are in a directory: that what was removed stays so."""
        with _store_errors("sync", path):
            self._sync_directory(path)

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted, unfinished files among them; none if it is not there."""
        with _store_errors("list", path):
            try:
                return sorted(self._sys.listdir(path))
            except FileNotFoundError:
                return []

    # --- within --------------------------------------------------------------------------

    def _write_group(
        self, items: Sequence[tuple[str, Iterable[Chunk]]], unfinished: dict[str, str]
    ) -> list[int]:
        sizes: list[int] = []
        fds: list[int] = []
        with ExitStack() as closing:
            for path, chunks in items:
                tmp, fd = self._create(_directory(path))
                closing.callback(self._sys.close, fd)
                unfinished[tmp] = path
                fds.append(fd)
                sizes.append(sum(self._write_all(fd, chunk) for chunk in chunks))
            # All written before the first sync: one journal commit then serves several files.
            for fd in fds:
                self._sys.fsync(fd)
        return sizes

    def _create(self, directory: str) -> tuple[str, int]:
        """A new empty file of ours: its name and descriptor."""
        while True:
            name = f"{_TMP_PREFIX}{os.getpid():x}-{next(self._numbers):x}{_TMP_SUFFIX}"
            tmp = os.path.join(directory, name)
            try:
                flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                return tmp, self._sys.open(tmp, flags, 0o600)
            except FileExistsError:
                continue  # an earlier process of this number died here

    def _write_all(self, fd: int, chunk: Chunk) -> int:
        size = len(chunk)
        done = self._sys.write(fd, chunk) if size else 0
        if done < size:
            rest = memoryview(chunk)
            while done < size:
                wrote = self._sys.write(fd, rest[done:])
                if wrote == 0:
                    raise OSError(errno.EIO, "a write made no progress")
                done += wrote
        return size

    def _read_all(self, fd: int, offset: int, length: int) -> bytes:
        data = self._sys.pread(fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        done = len(data)
        while done < length and (data := self._sys.pread(fd, length - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    @contextmanager
    def _within(self, *directories: str) -> Iterator[None]:
        """Work in directories that are there and whose names are on disk."""
        try:
            for directory in directories:
                if directory not in self._settled:
                    self._settle(directory)
            yield
        except OSError:
            # Somebody may have removed one: look again next time.
            self._settled.difference_update(directories)
            raise

    def _settle(self, directory: str) -> None:
        """Make sure that the directory is there and that its name is on disk.

        One that is there already may be another process's, made a moment ago and not yet
        synced, so its parent is synced once by each process. Its ancestors were synced before
        it was made: this method is how every process makes them.
        """
        missing = [directory]
        while not self._make_directory(missing[-1]):
            parent = _directory(missing[-1])
            if parent == missing[-1]:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parent)
            missing.append(parent)
        made = missing.pop()
        self._sync_name(made)
        while missing:
            made = missing.pop()
            self._make_directory(made)
            self._sync_name(made)

    def _make_directory(self, directory: str) -> bool:
        """False if its parent is missing; True if it is there now."""
        try:
            self._sys.mkdir(directory)
        except FileExistsError:
            return True
        except FileNotFoundError:
            return False
        return True

    def _sync_name(self, directory: str) -> None:
        try:
            self._sync_directory(_directory(directory))
        except OSError:
            # Made anew next time, if it is still empty; else its owner's own sync decides.
            with suppress(OSError):
                self._sys.rmdir(directory)
            raise
        self._settled.add(directory)

    def _sync_directory(self, directory: str) -> None:
        fd = self._sys.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._sys.fsync(fd)
        finally:
            self._sys.close(fd)

    def _discard(self, path: str) -> None:
        """Remove what failed; if that fails too, the name says that it is unfinished."""
        with suppress(OSError):
            self._sys.unlink(path)


class NewFile:
    """A file under way: written piece by piece, readable meanwhile, then kept or dropped.

    For one thread at a time. A failed write or keep drops it: its bytes must come again.
    """

    __slots__ = ("_fd", "_files", "path", "size")

    def __init__(self, files: Files, path: str, fd: int) -> None:
        self._files = files
        self._fd = fd
        self.path = path
        self.size = 0
        """Bytes written so far."""

    def write(self, data: Chunk) -> None:
        """Add to the end. Raises StoreFull or StoreFailed."""
        with _store_errors("write", self.path), self._or_drop():
            self.size += self._files._write_all(self._descriptor(), data)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes from `offset`: `length` of them, or fewer where the file ends."""
        with _store_errors("read", self.path):
            return self._files._read_all(self._descriptor(), offset, length)

    def keep(self, path: str) -> None:
        """Make it durable under its final name; it takes no more. Raises as `write`.

        The name of its time under way may come back after a crash, beside the final one.
        """
        files = self._files
        with _store_errors("keep", path), self._or_drop(), files._within(_directory(path)):
            files._sys.fsync(self._descriptor())
            files._sys.rename(self.path, path)
            self._close()
            files._sync_directory(_directory(path))

    def drop(self) -> None:
        """Remove it, unless it was kept; may be called again."""
        if self._fd >= 0:
            self._close()
            self._files._discard(self.path)

    def _descriptor(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, "the file was kept or dropped")
        return self._fd

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        self._files._sys.close(fd)

    @contextmanager
    def _or_drop(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.drop()
            raise


def _directory(path: str) -> str:
    return os.path.dirname(path) or "."


@contextmanager
def _store_errors(doing: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        detail = f"cannot {doing} {path}: {name}: {error}"
        if error.errno in _FULL:
            raise StoreFull(detail=detail) from error
        if isinstance(error, FileNotFoundError) and doing in {"read", "measure"}:
            raise Corrupt(detail=detail) from error
        raise StoreFailed(detail=detail) from error
