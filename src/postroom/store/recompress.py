"""Older content is compressed in the background, in frames, where it is worth it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, NotFound
from postroom.core.ids import BLOB, external
from postroom.store import frames, tables
from postroom.store.blobs import Blobs, Facts, Place, facts
from postroom.store.sql import Row, Tx
from postroom.store.units import Database

LEAST: Final = 2_048
"""Content below this stays raw: a page of the store is not saved by it."""

YOUNG: Final = 24 * 3600 * 1000
"""What was just delivered is about to be read, perhaps several times."""

PIECE: Final = 64


async def recompress(mail: Database, blobs: Blobs, now: Instant, after: int) -> int | None:
    """Compress the next few old blobs after id `after`; returns where to go on, or None."""
    rows = await mail.read_much(_old, after, Instant(now - YOUNG))
    for row in rows:
        await _one(mail, blobs, row)
    return int(rows[-1][0]) if rows else None


def _old(tx: Tx, after: int, before: Instant) -> list[Row]:
    return tx.all(tables.YOUNG_RAW, after=after, before=before, least=LEAST, limit=PIECE)


async def _one(mail: Database, blobs: Blobs, row: Row) -> None:
    blob, sha256, size, place = row
    known = Facts(blob, sha256, size, size, Place(place), None)
    try:
        packed = await mail.read_much(_pack, blobs, known)
    except (Corrupt, NotFound):
        return  # damaged: `check` reports it; or gone since. Neither stops the others
    if packed is None:
        await mail.write_later(_keep_raw, blob)
        return
    table, stored = packed
    if known.place is Place.ROW:
        await mail.write_later(_replace, blob, table, len(stored), stored)
        return
    # The compressed file is durable before the row says that it is the one to read; the raw one
    # goes afterwards. If we die in between, the sweeper finds it by its name.
    whole = [stored, frames.trailer(table)]
    path = blobs.path(blob, sha256, compressed=True)
    size = await asyncio.to_thread(blobs.files.write_durably, path, whole)
    if await mail.write_later(_replace, blob, table, size, None):
        raw = blobs.path(blob, sha256, compressed=False)
        await asyncio.to_thread(blobs.files.unlink, raw)
    else:
        # The sweeper removed the blob meanwhile, or another worker was quicker with it.
        await _discard(mail, blobs, known, path)


async def _discard(mail: Database, blobs: Blobs, known: Facts, path: str) -> None:
    try:
        await mail.read(facts, known.id)
    except NotFound:
        await asyncio.to_thread(blobs.files.unlink, path)


def _pack(tx: Tx, blobs: Blobs, known: Facts) -> tuple[bytes, bytes] | None:
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for start in range(0, known.size, frames.FRAME):
            piece = blobs.read_facts(tx, known, start, frames.FRAME)
            digest.update(piece)
            yield piece

    packed = frames.pack(pieces())
    if packed is not None and digest.digest() != known.sha256:
        raise Corrupt(detail=f"blob {external(BLOB, known.id)}: the content has another hash")
    return packed


def _replace(tx: Tx, blob: int, table: bytes, stored: int, data: bytes | None) -> int:
    return tx.run(tables.COMPRESS, id=blob, frames=table, stored=stored, data=data)


def _keep_raw(tx: Tx, blob: int) -> None:
    # An empty table says: tried, and it does not pay. It reads as raw.
    tx.run(tables.KEEP_RAW, id=blob, frames=frames.RAW)
