"""Mailboxes as mbox files that are written (mboxrd), one for each. Blocks throughout."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

from postroom.core.clock import iso, to_datetime
from postroom.formats import headers, mbox
from postroom.formats.maildir import Path
from postroom.mailflow.transfer.items import sync_directory, unwritable
from postroom.mailflow.transfer.outgoing import Outgoing
from postroom.mailflow.transfer.receipt import EXPORTED
from postroom.mailflow.transfer.status_fields import wrap
from postroom.mailflow.transfer.targets import make_directory, make_file

_ENDING: Final = ".mbox"
_NAME_MAX: Final = 255 - len(_ENDING)  # octets
_HEAD: Final = 64 << 10  # octets in which the Return-Path is looked for
# What would be hidden, lead elsewhere, or be taken for a file of ours.
_UNFIT: Final = re.compile(r"\A\.|%|\.(?=(?:mbox|jsonl)\Z)", re.IGNORECASE)


class MboxOut:
    """Writes one mailbox after the other. Raises StoreFull, StoreFailed."""

    __slots__ = ("_file", "_path", "_single", "_target")

    def __init__(self, target: str, *, single: bool) -> None:
        """`single`: the target is a file for one mailbox, else a directory, new or empty.

        Raises AlreadyExists, Misuse.
        """
        self._target = target
        self._single = single
        self._path = target
        self._file: BinaryIO | None = make_file(target) if single else None
        if not single:
            make_directory(target)

    @property
    def place(self) -> str:
        return os.path.dirname(self._target) if self._single else self._target

    def begin(self, path: Path) -> None:
        """The mailbox that comes next; () is INBOX."""
        if self._single:
            return
        *above, name = map(file_name, path or ("INBOX",))
        at = self._target
        try:
            for each in above:
                at = os.path.join(at, each)
                if not os.path.isdir(at):
                    os.mkdir(at, 0o700)
                    sync_directory(os.path.dirname(at))
        except OSError as error:
            raise unwritable(at, error) from error
        self._path = os.path.join(at, name + _ENDING)
        self._file = make_file(self._path)

    def write(self, page: Sequence[Outgoing]) -> Iterator[dict[str, Any]]:
        """Write messages; they are on disk after `end`."""
        file = self._file
        assert file is not None  # between begin and end
        try:
            for each in page:
                offset = file.tell()
                digest = hashlib.sha256()
                for chunk in mbox.write(
                    wrap(each.chunks(), each.flags),
                    sender=_sender(each),
                    date=to_datetime(each.received_at),
                ):
                    digest.update(chunk)
                    file.write(chunk)
                yield {
                    "file": os.path.relpath(self._path, self.place),
                    "offset": offset,
                    "entry_sha256": digest.hexdigest(),
                    "received": iso(each.received_at),
                    "flags": list(each.flags),
                    "status": EXPORTED,
                }
        except OSError as error:
            raise unwritable(self._path, error) from error

    def end(self) -> None:
        """The mailbox is whole, and on disk."""
        file = self._file
        assert file is not None  # since begin
        try:
            file.flush()
            os.fsync(file.fileno())
            file.close()
            sync_directory(os.path.dirname(self._path))
        except OSError as error:
            raise unwritable(self._path, error) from error

    def finish(self, subscribed: Sequence[Path]) -> None:
        """All is whole; mbox has no place for subscriptions."""
        try:
            sync_directory(os.path.dirname(self._target))
        except OSError as error:
            raise unwritable(self._target, error) from error

    def close(self) -> None:
        """What was not ended stays as it is; may be called again."""
        if self._file is not None:
            self._file.close()


def file_name(name: str) -> str:
    """A mailbox's name as that of a file or directory, without its ending."""
    made = _UNFIT.sub(lambda found: f"%{ord(found[0]):02X}", name)
    if len(made.encode()) <= _NAME_MAX:
        return made
    short = made.encode()[: _NAME_MAX - 33].decode(errors="ignore")
    return f"{short}%{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _sender(each: Outgoing) -> str | None:
    """The reverse path, as the message's own trace has it."""
    head = next(each.chunks(), b"")[:_HEAD]
    path = headers.scan(head).first(b"return-path")
    if path is None:
        return None
    return path.strip(b"<> \t").decode("utf-8", "replace") or None
