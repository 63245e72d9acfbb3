"""The receipt of an import or export: lines of JSON, one for each message, then a summary.

It is written as the work is done, a batch after its commit, so that after a kill it tells what
is kept. Given again, it says what need not be done again, even if the user has moved or deleted
it since.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from postroom.core.errors import Misuse
from postroom.mailflow.transfer.items import process_user, sync_directory, unwritable, why

_LINE_MAX: Final = 1 << 20
_BEGINS: Final = b'{"receipt":'
IMPORTED: Final = "imported"
THERE: Final = "already there"
FAILED: Final = "failed"
LEFT_OUT: Final = "left out"
WOULD: Final = "would be imported"
EXPORTED: Final = "exported"

Line = Mapping[str, Any]


class Receipt:
    """An open receipt. Methods block. Raises StoreFull or StoreFailed where it cannot be kept."""

    def __init__(self, path: str, begin: Line, *, again: bool = True) -> None:
        """Begin a receipt, or go on with the one at `path` if `again`.

        `begin` says what is done, in its first line, and for which account: a receipt of another
        one is refused. Raises Misuse for what cannot be written or is no receipt.
        """
        self.path = path
        self._done: Counter[tuple[str, str]] = Counter()
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            fd = os.open(path, flags if again else flags | os.O_EXCL, 0o600)
        except OSError as error:
            raise Misuse(
                f"The receipt {path} cannot be written: {why(error)}. It is written as "
                f"{process_user()}, the user of the server's data, on the server's machine"
            ) from error
        self._file = os.fdopen(fd, "r+b")
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Misuse(f"{path} is no file")
            self._read(begin["account_id"])
            self.add([begin])
        except BaseException:
            self._file.close()
            raise

    def _read(self, account: str) -> None:
        """What the runs before have done; lines that a kill has cut are passed over.

        A run tells again what it found done, so of several runs the one that tells most counts.
        """
        begins = self._file.read(len(_BEGINS))
        if not _BEGINS.startswith(begins):
            raise Misuse(f"{self.path} is there and is no receipt")
        self._file.seek(0)
        torn = False
        run: Counter[tuple[str, str]] = Counter()
        while line := self._file.readline(_LINE_MAX):
            torn = not line.endswith(b"\n")
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if not isinstance(told, dict):
                continue
            if told.get("account_id", account) != account:
                raise Misuse(f"{self.path} is a receipt of {told.get('account')}")
            if "receipt" in told:
                self._done |= run
                run.clear()
            elif told.get("status") in (IMPORTED, THERE):
                run[str(told.get("mailbox")), str(told.get("source_sha256"))] += 1
        self._done |= run
        self._file.seek(0, os.SEEK_END)
        if torn:
            self._file.write(b"\n")

    def take(self, mailbox: str, source: bytes) -> bool:
        """Whether a run before has brought this content into this mailbox; each once."""
        key = (mailbox, source.hex())
        if not self._done[key]:
            return False
        self._done[key] -= 1
        return True

    def add(self, lines: Iterable[Line]) -> None:
        """Write lines; they survive this process, not yet the machine."""
        try:
            for line in lines:
                self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def finish(self, summary: Line) -> None:
        """The last line, and all of them on disk."""
        self.add([summary])
        try:
            os.fsync(self._file.fileno())
            sync_directory(os.path.dirname(self.path))
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """May be called again."""
        self._file.close()
