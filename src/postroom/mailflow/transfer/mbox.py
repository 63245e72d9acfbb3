"""An mbox file as a source."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from postroom.core.clock import from_datetime
from postroom.core.errors import Misuse
from postroom.formats import mbox
from postroom.mailflow.transfer.items import (
    Item,
    Original,
    Source,
    SourceFolder,
    process_user,
    why,
)
from postroom.mailflow.transfer.status_fields import unwrap

_ENDINGS: Final = (".mbox", ".mbx")


def open_mbox(path: str) -> Source:
    """The file at `path` as one folder, which has the file's name. Blocks.

    The caller closes the source. Raises Misuse where there is none, or where the server's user
    may not read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Misuse(
            f"{path} cannot be read: {why(error)}. It is read as {process_user()}, the user of the "
            "server's data, on the server's machine"
        ) from error
    file = os.fdopen(fd, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        file.close()
        raise Misuse(f"{path} is no file")

    def items() -> Iterator[Item]:
        # Unbuffered: the reader asks for large blocks.
        dialect = mbox.detect(file)
        for entry in mbox.read(file, dialect):
            yield _item(entry, counted=dialect.counts)

    return Source("mbox", path, [SourceFolder(_folder(path), items)], close=file.close, single=True)


def _folder(path: str) -> tuple[str, ...]:
    name = os.path.basename(path)
    for ending in _ENDINGS:
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
    return () if name.upper() == "INBOX" else (os.fsencode(name).decode("utf-8", "replace"),)


def _item(entry: mbox.Entry, *, counted: bool) -> Item:
    source = f"offset {entry.offset}"
    original = Original(entry.chunks)
    if entry.garbage:
        what = "Here no message begins: there is no From line"
        return Item(source, original, original, problem=what)
    at = from_datetime(entry.date) if entry.date is not None else None
    inner = unwrap(original, counted=counted)
    if inner.internal:
        what = "Data that a mail server keeps for itself"
        return Item(source, original, inner.chunks, problem=what, left_out=True)
    known = at if at is not None and at >= 0 else None
    return Item(source, original, inner.chunks, inner.flags, known)
