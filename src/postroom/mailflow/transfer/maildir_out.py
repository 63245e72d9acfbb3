"""A Maildir++ tree that is written: what Dovecot and Courier read. Blocks throughout."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from postroom.core.clock import iso
from postroom.formats.maildir import (
    KEYWORDS_MAX,
    Path,
    flag_letters,
    folder_directory,
    format_keywords,
    format_subscriptions,
    maildir_name,
)
from postroom.mailflow.transfer.items import sync_directory, unwritable
from postroom.mailflow.transfer.line_ends import ToLf
from postroom.mailflow.transfer.outgoing import Outgoing
from postroom.mailflow.transfer.receipt import EXPORTED
from postroom.mailflow.transfer.targets import make_directory, make_file

_NAME_MAX: Final = 255  # octets of a name on a disk
_KEYWORDS: Final = "dovecot-keywords"
_FORWARDED: Final = "$Forwarded"


class MaildirOut:
    """Writes one folder after the other. Raises StoreFull, StoreFailed."""

    __slots__ = ("_cur", "_folder", "_host", "_keywords", "_root", "_tmp")

    def __init__(self, target: str, host: str) -> None:
        """In a new or empty directory; raises AlreadyExists, Misuse."""
        self._root = target
        self._host = host
        self._folder = self._cur = self._tmp = ""
        self._keywords: list[str | None] = []
        make_directory(target)

    @property
    def place(self) -> str:
        return self._root

    def begin(self, path: Path) -> None:
        """The folder that comes next; () is INBOX."""
        name = folder_directory(path) if path else "."
        if len(name) > _NAME_MAX:
            digest = hashlib.sha256("/".join(path).encode()).hexdigest()
            name = f".Long-{digest[:32]}"  # the receipt says which mailbox it is
        self._folder = os.path.normpath(os.path.join(self._root, name))
        self._cur = os.path.join(self._folder, "cur")
        self._tmp = os.path.join(self._folder, "tmp")
        self._keywords = []
        try:
            if path:
                os.mkdir(self._folder, 0o700)
                make_file(os.path.join(self._folder, "maildirfolder")).close()
            for below in ("cur", "new", "tmp"):
                os.mkdir(os.path.join(self._folder, below), 0o700)
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def write(self, page: Sequence[Outgoing]) -> Iterator[dict[str, Any]]:
        """Write messages: those told are on disk, with their names after `end`."""
        written: list[tuple[int, str, str, dict[str, Any]]] = []
        try:
            written.extend(map(self._write, page))  # one by one: none is left open
            for fd, _, _, _ in written:
                os.fsync(fd)
            for _, unfinished, name, line in written:
                # Nobody has this name: the directory was empty, and UIDs are never used again.
                os.rename(unfinished, os.path.join(self._cur, name))
                yield line
        except OSError as error:
            raise unwritable(self._folder, error) from error
        finally:
            for fd, _, _, _ in written:
                os.close(fd)

    def _write(self, each: Outgoing) -> tuple[int, str, str, dict[str, Any]]:
        row = each.row
        # The time of a name is when the message came into its folder: it keeps their order.
        seconds, thousandths = divmod(row.saved_at, 1000)
        unique = f"{seconds}.M{thousandths:03d}000U{row.uid}.{self._host}"
        letters, lost = _letters(each.flags, self._keywords)
        unfinished = os.path.join(self._tmp, unique)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(unfinished, flags, 0o600)
        try:
            digest, size, ends = hashlib.sha256(), 0, ToLf()
            for chunk in (*map(ends.feed, each.chunks()), ends.flush()):
                digest.update(chunk)
                size += len(chunk)
                _write_all(fd, chunk)
            at = row.received_at * 1_000_000
            os.utime(fd, ns=(at, at))
        except BaseException:
            os.close(fd)
            raise
        name = maildir_name(unique, letters, size=size, wire_size=row.size)
        line: dict[str, Any] = {
            "file": os.path.join(os.path.relpath(self._cur, self._root), name),
            "file_sha256": digest.hexdigest(),
            "received": iso(each.received_at),
            "flags": list(each.flags),
            "status": EXPORTED,
        }
        if lost:
            line["flags_not_kept"] = list(lost)
        return fd, unfinished, name, line

    def end(self) -> None:
        """The folder is whole: all of it is on disk."""
        try:
            if self._keywords:
                self._small(os.path.join(self._folder, _KEYWORDS), format_keywords(self._keywords))
            for directory in (self._cur, self._folder):
                sync_directory(directory)
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def finish(self, subscribed: Sequence[Path]) -> None:
        """The tree is whole."""
        try:
            self._small(os.path.join(self._root, "subscriptions"), format_subscriptions(subscribed))
            sync_directory(self._root)
            sync_directory(os.path.dirname(self._root))
        except OSError as error:
            raise unwritable(self._root, error) from error

    def _small(self, path: str, data: bytes) -> None:
        with make_file(path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing stays open between calls."""


def _letters(flags: Sequence[str], keywords: list[str | None]) -> tuple[str, tuple[str, ...]]:
    """`flag_letters`, with $Forwarded as a keyword besides: Dovecot knows no P."""
    letters, lost = flag_letters(flags, keywords)
    if "P" in letters:
        if _FORWARDED not in keywords and len(keywords) < KEYWORDS_MAX:
            keywords.append(_FORWARDED)
        if _FORWARDED in keywords:
            letters += chr(ord("a") + keywords.index(_FORWARDED))
    return letters, lost


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
