"""A Maildir as a source: walked without following anything that leads out of it.

Below the root lie folders as `.Parent.Child` (Maildir++: Courier, Dovecot), or as directories
within directories (mbsync, Dovecot with LAYOUT=fs), or both. The owner of the files may be
hostile, and other programs may deliver, rename and remove while we read.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from postroom.core.errors import LimitReached, Misuse
from postroom.domain.mailboxes.folders import DEPTH
from postroom.formats.maildir import (
    Path,
    imap_flags,
    parse_folder,
    parse_keywords,
    parse_maildir_name,
    parse_subscriptions,
)
from postroom.mailflow.transfer.items import (
    PIECE,
    Item,
    Original,
    Source,
    SourceFolder,
    instant,
    process_user,
    readable,
    why,
)

_DIRECTORIES_MAX: Final = 20_000
_SMALL_FILE: Final = 1 << 20  # octets of a file of keywords or subscriptions
_ROUNDS: Final = 3
"""How often a folder is listed: for what came, or was renamed, while it was read."""

_OF_MAIL: Final = ("cur", "new")
_OWN: Final = frozenset({"cur", "new", "tmp"})
_DIGITS: Final = re.compile(r"([0-9]{1,18})")
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Parts = tuple[str, ...]
"""Names of directories from the root on."""


def open_maildir(path: str) -> Source:
    """The Maildir at `path`, with all folders that lie below it. Blocks.

    The caller closes the source. Raises Misuse where there is none, or where the server's user
    may not read; LimitReached for a tree without end.
    """
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Misuse(
            f"{path} cannot be read: {why(error)}. It is read as {process_user()}, the user of the "
            "server's data, on the server's machine"
        ) from error
    try:
        return _Tree(root, path).source()
    except BaseException:
        os.close(root)
        raise


class _Tree:
    """An open root; everything below it is opened from there, name by name."""

    __slots__ = ("_problems", "_root", "_where")

    def __init__(self, root: int, where: str) -> None:
        self._root = root
        self._where = where
        self._problems: list[Item] = []

    def source(self) -> Source:
        folders = [
            SourceFolder(path, _Folder(self, parts).items) for parts, path in self._folders()
        ]
        if not folders:
            raise Misuse(f"{self._where} is no Maildir: there is neither cur nor new in it")
        # INBOX first, then as people sort.
        folders.sort(key=lambda folder: folder.path)
        root = self._root
        return Source(
            "maildir",
            self._where,
            folders,
            self._subscribed(),
            self._problems,
            lambda: os.close(root),
        )

    # --- folders ------------------------------------------------------------------------------

    def _folders(self) -> Iterator[tuple[Parts, Path]]:
        waiting: list[tuple[Parts, Path]] = [((), ())]
        seen = 0
        while waiting:
            parts, path = waiting.pop()
            seen += 1
            if seen > _DIRECTORIES_MAX:
                raise LimitReached(f"More than {_DIRECTORIES_MAX:,} directories in {self._where}")
            try:
                names = self._directories(parts)
            except OSError as error:
                self._problem(parts, f"The directory cannot be read: {why(error)}")
                continue
            if any(name in names for name in _OF_MAIL):
                yield parts, path
            for name in names:
                if name in _OWN:
                    continue
                below = (*parts, name)
                own = _folder_name(name)
                if own is None:
                    self._problem(below, "This is no name of a folder")
                elif len(below) > DEPTH:
                    self._problem(below, "Folders do not nest that deep")
                else:
                    waiting.append((below, path + own))

    def _directories(self, parts: Parts) -> list[str]:
        """The directories in one of them, not through links; raises OSError."""
        names: list[str] = []
        with self.opened(parts) as directory, os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
                elif entry.is_symlink() and entry.is_dir():
                    self._problem((*parts, entry.name), "A symbolic link is not followed")
                if len(names) > _DIRECTORIES_MAX:
                    raise LimitReached(f"Too many directories in {self.shown(parts)}")
        return sorted(names)

    def _problem(self, parts: Parts, problem: str) -> None:
        self._problems.append(Item(self.shown(parts), problem=problem))

    def _subscribed(self) -> frozenset[Path] | None:
        for name in ("subscriptions", "courierimapsubscribed"):
            try:
                data = self.small((), name)
            except OSError as error:
                self._problem((name,), f"The subscriptions cannot be read: {why(error)}")
                continue
            if data is not None:
                return frozenset(parse_subscriptions(data))
        return None

    # --- files --------------------------------------------------------------------------------

    def shown(self, parts: Parts) -> str:
        return readable("/".join(parts)) or "."

    @contextmanager
    def opened(self, parts: Parts) -> Iterator[int]:
        """A directory below the root, opened name by name, so that no link leads elsewhere."""
        at = os.open(".", _DIRECTORY, dir_fd=self._root)
        try:
            for name in parts:
                below = os.open(name, _DIRECTORY, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)

    def small(self, parts: Parts, name: str) -> bytes | None:
        """A small file beside the messages; None if there is none. Raises OSError."""
        with self.opened(parts) as directory:
            try:
                fd = open_regular(directory, name)
            except FileNotFoundError:
                return None
        with os.fdopen(fd, "rb") as file:
            return file.read(_SMALL_FILE)


def open_regular(directory: int, name: str) -> int:
    """A file in a directory: no link, no pipe, no device. Raises OSError.

    Opening a device may do something, so what lies there is looked at first; and again after, as
    it may have been changed in between.
    """
    _refuse_special(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    fd = os.open(name, _FILE, dir_fd=directory)
    try:
        _refuse_special(os.fstat(fd).st_mode)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse_special(mode: int) -> None:
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "A symbolic link is not followed")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "This is no file")


def _folder_name(name: str) -> Path | None:
    """The folders that a directory's name stands for; a plain name is one, dots and all."""
    if name.startswith("."):
        return parse_folder(name)
    return parse_folder("." + name.replace(".", "\\2e"))


class _Folder:
    """The messages of one folder."""

    __slots__ = ("_keywords", "_parts", "_tree")

    def __init__(self, tree: _Tree, parts: Parts) -> None:
        self._tree = tree
        self._parts = parts
        self._keywords: list[str | None] = []

    def items(self) -> Iterator[Item]:
        """Every message once, in the order in which they came, as their names say.

        What was renamed, moved from `new` to `cur` or delivered while we read is found by looking
        again; a message is known by the part of its name that stays.
        """
        try:
            keywords = self._tree.small(self._parts, "dovecot-keywords")
            self._keywords = parse_keywords(keywords or b"")
        except OSError as error:
            yield self._problem("dovecot-keywords", f"The keywords cannot be read: {why(error)}")
        done: set[str] = set()
        gone: dict[str, str] = {}
        for n in range(_ROUNDS):
            found: list[tuple[str, str]] = []
            for directory in ("new", "cur"):  # so: what moves goes from one to the other
                try:
                    found += self._listed(directory, done)
                except OSError as error:
                    if n == 0 and error.errno != errno.ENOENT:
                        yield self._problem(directory, f"It cannot be read: {why(error)}")
            if not found:
                break
            found.sort(key=_arrival)
            read: set[str] = set()
            for directory, name in found:
                unique = parse_maildir_name(name).unique
                try:
                    yield from self._message(directory, name)
                except FileNotFoundError:
                    gone[unique] = f"{directory}/{name}"
                else:
                    read.add(unique)
            done |= read
        for unique, where in gone.items():
            if unique not in done:
                yield self._problem(where, "It went away before it was read")

    def _listed(self, directory: str, done: set[str]) -> list[tuple[str, str]]:
        """What is there and not done; names with a dot in front are nobody's messages."""
        with self._tree.opened((*self._parts, directory)) as opened:
            names = os.listdir(opened)
        return [
            (directory, name)
            for name in names
            if not name.startswith(".") and parse_maildir_name(name).unique not in done
        ]

    def _message(self, directory: str, name: str) -> Iterator[Item]:
        """One message, or why there is none. Raises FileNotFoundError."""
        where = f"{directory}/{name}"
        try:
            with self._tree.opened((*self._parts, directory)) as opened:
                fd = open_regular(opened, name)
        except FileNotFoundError:
            raise
        except OSError as error:
            yield self._problem(where, why(error))
            return
        try:
            flags = imap_flags(parse_maildir_name(name).flags, self._keywords)
            at = instant(os.fstat(fd).st_mtime_ns)
            original = Original(_pieces(fd))
            yield Item(self._shown(where), original, original, flags, at)
        finally:
            os.close(fd)

    def _shown(self, where: str) -> str:
        return self._tree.shown((*self._parts, where))

    def _problem(self, where: str, problem: str) -> Item:
        return Item(self._shown(where), problem=problem)


def _arrival(found: tuple[str, str]) -> tuple[str | int, ...]:
    """Names of messages begin with a time, and hold numbers that are read as such."""
    return tuple([int(s) if n % 2 else s for n, s in enumerate(_DIGITS.split(found[1]))])


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, PIECE):
        yield piece
