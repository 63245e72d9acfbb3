"""Blobs of every form, and who refers to them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from postroom.core.clock import Instant
from postroom.core.ids import Ids
from postroom.domain.queue import tables as queue_tables
from postroom.store.blobs import Blobs, NewBlob, Place, Slice, insert
from postroom.store.files import Files
from postroom.store.sql import Statement, Tx
from postroom.store.units import Database
from postroom.testing.clock import ManualClock

RELEASE: Final = Statement("DELETE FROM queue_message WHERE id = :id")
ROWS: Final = Statement("SELECT id, orphan_since FROM blob ORDER BY id")


class Contents:
    """A folder of blobs, a clock to turn, and shorthands."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self.clock = ManualClock()
        self.ids = Ids(self.clock)
        self.folder = folder / "blobs"
        self.blobs = Blobs(str(self.folder), files or Files(), self.ids)

    def now(self) -> Instant:
        return self.clock.now()

    async def keep(self, mail: Database, content: bytes) -> NewBlob:
        """Store content that nothing refers to."""
        new = await self.blobs.make(content)
        await mail.write(insert, new, self.now())
        return new

    async def rope(self, mail: Database, *parts: Slice, whole: bytes) -> NewBlob:
        digest = self.blobs.spool()
        digest.write(whole)
        new = NewBlob(self.ids.new(), digest.sha256(), len(whole), Place.ROPE, None, parts)
        digest.drop()
        await mail.write(insert, new, self.now())
        return new

    def files(self) -> list[str]:
        """The names of all files below the folder."""
        return sorted(p.name for p in self.folder.rglob("*") if p.is_file())

    def file(self, blob: NewBlob, *, compressed: bool = False) -> Path:
        return Path(self.blobs.path(blob.id, blob.sha256, compressed=compressed))


def refer(tx: Tx, blob: int, by: int) -> None:
    """Let something hold the blob: an envelope in the queue."""
    tx.run(
        queue_tables.INSERT_MESSAGE,
        id=by,
        trace=by,
        blob=blob,
        size=0,
        reverse_path=None,
        envid=None,
        ret=None,
        utf8=0,
        eight_bit=0,
        origin="",
        arrived_at=0,
        expires_at=0,
    )


def release(tx: Tx, by: int) -> None:
    tx.run(RELEASE, id=by)


def marks(tx: Tx) -> dict[int, int | None]:
    return dict(tx.all(ROWS))


def text(size: int, seed: int = 0) -> bytes:
    """Octets that compress."""
    choose = random.Random(seed)
    words = [b"%x\r\n" % choose.getrandbits(40) * 2 for _ in range(300)]
    return b"".join(choose.choice(words) for _ in range(size // 10 + 1))[:size]


def noise(size: int, seed: int = 0) -> bytes:
    """Octets that do not."""
    return random.Random(seed).randbytes(size)
