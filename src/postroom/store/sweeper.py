"""The sweeper: marks blobs that nothing refers to, and removes them a day later.

There are no reference counts to get wrong: a reference is a foreign key that restricts
deletion, and the statements here are made from the declared foreign keys. A blob that got a
reference meanwhile loses its mark; the day between mark and removal is for units that were
under way.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Final

from sqlalchemy import MetaData

from postroom.core.clock import Instant
from postroom.core.errors import Malformed
from postroom.core.ids import BLOB, internal, made_at
from postroom.store.blobs import PACKED, Blobs, Facts, Place
from postroom.store.files import is_unfinished
from postroom.store.sql import Statement, Tx, sql
from postroom.store.tables import BLOBS_KNOWN
from postroom.store.units import Database

DAY: Final = 24 * 3600 * 1000
PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Sweep:
    """The statements of the sweeper for one schema."""

    page: Statement
    mark: Statement
    unmark: Statement
    condemned: Statement
    remove: Statement


def statements(metadata: MetaData) -> Sweep:
    """Made at import, when every room has declared its tables."""
    held = [
        f"EXISTS (SELECT 1 FROM {table.name} x WHERE x.{key.parent.name} = blob.id)"
        for table in metadata.sorted_tables
        for key in sorted(table.foreign_keys, key=lambda k: k.parent.name)
        # What is deleted with its blob (its parse, a rope's list) is no reason to keep it.
        if key.column.table.name == "blob" and key.ondelete != "CASCADE"
    ]
    referred = " OR ".join(held)
    return Sweep(
        page=sql("""
            SELECT max(id) FROM (SELECT id FROM blob WHERE id > :after ORDER BY id LIMIT :limit) p
        """),
        mark=sql(f"""
            UPDATE blob SET orphan_since = :now
            WHERE id > :after AND id <= :last AND orphan_since IS NULL AND NOT ({referred})
        """),
        unmark=sql(f"""
            UPDATE blob SET orphan_since = NULL
            WHERE id > :after AND id <= :last AND orphan_since IS NOT NULL AND ({referred})
        """),
        condemned=sql(f"""
            SELECT id, sha256, size, stored, place, frames FROM blob
            WHERE orphan_since <= :before AND NOT ({referred}) ORDER BY orphan_since LIMIT :limit
        """),
        # The mark is asked for again: a reuse may have cleared it while this waited for its row.
        remove=sql("""
            DELETE FROM blob WHERE id IN {ids} AND orphan_since <= :before RETURNING id
        """),
    )


def mark(tx: Tx, sweep: Sweep, after: int, now: Instant) -> int | None:
    """Mark and unmark one page of blobs; returns where the next begins, None at the end."""
    row = tx.one(sweep.page, after=after, limit=PAGE)
    if row is None or row[0] is None:
        return None
    last = int(row[0])
    tx.run(sweep.unmark, after=after, last=last)
    tx.run(sweep.mark, after=after, last=last, now=now)
    return last


def remove(tx: Tx, sweep: Sweep, now: Instant, grace: int = DAY) -> list[Facts]:
    """Delete rows whose mark is older than `grace`; their files are the caller's afterwards."""
    before = now - grace
    rows = tx.all(sweep.condemned, before=before, limit=PAGE)
    if not rows:
        return []
    gone = {row[0] for row in tx.all(sweep.remove, ids=[row[0] for row in rows], before=before)}
    found = [Facts(i, sha, size, stored, Place(p), f) for i, sha, size, stored, p, f in rows]
    return [known for known in found if known.id in gone]


async def sweep(mail: Database, blobs: Blobs, statements_: Sweep, now: Instant) -> int:
    """One whole round: mark, remove, and clear away stray files; returns how many blobs went."""
    after: int | None = 0
    while after is not None:
        after = await mail.write_later(mark, statements_, after, now)
    gone = 0
    while removed := await mail.write_later(remove, statements_, now):
        await asyncio.to_thread(blobs.remove_files, removed)
        gone += len(removed)
    await clear_strays(mail, blobs, now)
    return gone


async def clear_strays(mail: Database, blobs: Blobs, now: Instant) -> int:
    """Remove files that no row knows and that are older than a day; returns how many.

    They come from units that failed and from processes that were killed. A raw file whose row
    says that the compressed one is to be read is one too.
    """
    removed = 0
    for name in await asyncio.to_thread(blobs.files.listdir, blobs.folder):
        folder = os.path.join(blobs.folder, name)
        names = await asyncio.to_thread(blobs.files.listdir, folder)
        old = {file: blob for file in names if (blob := _old(file, now)) is not None}
        if name != "new":
            needed = await mail.read_much(_needed, list(old.items()))
            old = {file: blob for file, blob in old.items() if file not in needed}
        removed += await asyncio.to_thread(_unlink, blobs, [os.path.join(folder, f) for f in old])
    return removed


def _unlink(blobs: Blobs, paths: list[str]) -> int:
    return sum(map(blobs.files.unlink, paths))


def _needed(tx: Tx, files: list[tuple[str, int]]) -> frozenset[str]:
    """Of these files, those that a row leads to, or may soon."""
    compressed: dict[int, int] = dict(tx.all(BLOBS_KNOWN, ids=sorted({blob for _, blob in files})))
    # A compressed file beside a raw row stays: recompression may be about to change the row.
    return frozenset(
        name
        for name, blob in files
        if blob in compressed and (name.endswith(PACKED) or not compressed[blob])
    )


def _blob_of(name: str) -> int | None:
    try:
        return internal(BLOB, name.removesuffix(PACKED))
    except Malformed:
        return None


def _old(name: str, now: Instant) -> int | None:
    """The blob of a file, if it was made more than a day ago."""
    blob = _blob_of(name)
    # A name that is no id is an unfinished write of this or an earlier process; the instance's
    # lock makes sure that at start no other process writes, so `server` clears those then.
    return blob if blob is not None and made_at(blob) < now - DAY else None


def clear_unfinished(blobs: Blobs) -> int:
    """At start, before any worker runs: remove what writes under way left behind."""
    removed = 0
    for name in blobs.files.listdir(blobs.folder):
        folder = os.path.join(blobs.folder, name)
        for file in blobs.files.listdir(folder):
            if name == "new" or is_unfinished(file):
                removed += blobs.files.unlink(os.path.join(folder, file))
    return removed
