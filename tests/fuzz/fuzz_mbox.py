"""Mailboxes in one file: read from any octets in every dialect, written and read back."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from postroom.formats.mbox import Dialect, detect, read, write

NOW = datetime(2026, 11, 2, 15, 18, 9, tzinfo=UTC)
FROM = b"From a@b Mon Nov  2 15:18:09 2026\n"
SEEDS: list[bytes] = [
    FROM + b"A: 1\n\n>From x\n>>From y\n\n" + FROM + b"A: 2\n\nz\n\n",
    (FROM + b"A: 1\n\nx\n\n").replace(b"\n", b"\r\n"),
    (FROM + b"Content-Length: 2\n\nx\n\n") * 2,
    FROM + b"Content-Length: 38\n\nx\n" + FROM + b"y\n\n",
    b"garbage\n\nFrom -\nA: 1\n\nFrom here on\n\n",
    b"From - Mon, 2 Nov 2026 15:18:09 +0000\nA: 1\n\n",
]
TOKENS: list[bytes] = [
    *(FROM, b"\nFrom ", b"\n>From ", b"\n>>>>From ", b"\n\n", b"Content-Length: ", b"From -\n"),
    *(b"A: 1\n", b"Mon Nov  2 15:18:09 2026", b">" * 300, b"x" * 5_000),
]


def one_input(data: bytes) -> None:
    """Entries lie in order and inside the file; any octets come back through mboxrd."""
    for dialect in (None, *Dialect):
        last = -1
        total = 0
        for entry in read(io.BytesIO(data), dialect):
            assert last < entry.offset < len(data)
            assert entry.garbage or data.startswith(b"From ", entry.offset)
            last = entry.offset
            total += sum(map(len, entry.chunks))
        assert total <= len(data)
    file = io.BytesIO(data)
    detect(file)
    assert file.tell() == 0
    step = len(data) // 3 + 1
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    written = b"".join(write(pieces, sender="a@b", date=NOW)) * 2
    wanted = data.replace(b"\r\n", b"\n")
    if wanted and not wanted.endswith(b"\n"):
        wanted += b"\n"
    assert [e.read() for e in read(io.BytesIO(written), Dialect.MBOXRD)] == [wanted, wanted]
