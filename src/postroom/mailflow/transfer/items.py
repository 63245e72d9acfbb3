"""What a source of mail is made of: folders, and in them items, each read once and in order."""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import StoreFailed, StoreFull
from postroom.formats.maildir import Path

PIECE: Final = 64 << 10
"""Octets that are read of a file at once."""

LATEST: Final = 253_402_300_799_000  # the end of the year 9999, in milliseconds


class Original:
    """The octets of a message as its source has them, summed on their way."""

    __slots__ = ("_chunks", "_hash", "size")

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0  # of what was taken so far

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks)
        self._hash.update(chunk)
        self.size += len(chunk)
        return chunk

    def sha256(self) -> bytes:
        """Of what was taken so far."""
        return self._hash.digest()


@dataclass(slots=True)
class Item:
    """One message of a source, or what stands where one should.

    The content must be taken before the next item is; taking it may raise OSError.
    """

    source: str
    """Where it lies: a path below the source, or the offset in it."""
    original: Original = field(default_factory=lambda: Original(iter(())), repr=False)
    chunks: Iterator[bytes] = field(default_factory=lambda: iter(()), repr=False)
    """What is to be kept of the original; what is taken here is taken there."""
    flags: tuple[str, ...] = ()
    received_at: Instant | None = None
    problem: str = ""
    """Why there is no message to be had."""
    left_out: bool = False
    """It is no message, and nobody will miss it: `problem` says what it is."""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """A folder of a source. `items` may be walked once."""

    path: Path
    items: Callable[[], Iterator[Item]]


@dataclass(slots=True)
class Source:
    """All that is to be brought in."""

    kind: str
    """maildir, mbox"""
    where: str
    folders: list[SourceFolder]
    subscribed: frozenset[Path] | None = None
    """The folders that somebody is subscribed to; None where the source does not say."""
    problems: list[Item] = field(default_factory=list)
    """What cannot be read, and is in no folder."""
    close: Callable[[], None] = lambda: None
    single: bool = False
    """It is one folder, whose name says little: a mailbox that is named is for its content."""


def instant(nanoseconds: int) -> Instant | None:
    """A file's time as an instant; None for one that no calendar has."""
    at = nanoseconds // 1_000_000
    return Instant(at) if 0 <= at <= LATEST else None


def readable(text: str) -> str:
    """A name of a file in a form that UTF-8 can write."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def process_user() -> str:
    """Who reads and writes files here: the server's user, not who types the command."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def why(error: OSError) -> str:
    """What the system refused, without the path."""
    return error.strerror or str(error)


def unwritable(path: str, error: OSError) -> StoreFailed:
    """What a write into a person's files came to, in a sentence that names the file."""
    kind = StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreFailed
    return kind(f"{readable(path)} cannot be written: {why(error)}", detail=str(error))


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
