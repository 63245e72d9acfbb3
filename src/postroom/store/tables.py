"""The store's own tables: blobs and the journal."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index

from postroom.store.schema import BYTES, INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

BLOB = wide(
    "blob",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("sha256", BYTES),  # of the content, whatever its form
    column("size", INT),  # of the content, octets
    column("stored", INT),  # of what lies there, octets
    column("place", INT),  # blobs.Place
    column("created_at", INT),
    column("orphan_since", INT, nullable=True),  # the sweeper's mark
    column("frames", BYTES, nullable=True),  # frame table of compressed content, else NULL
    column("data", BYTES, nullable=True),  # last: large values lie behind the rest
    Index("blob_orphan", "orphan_since"),
)

BLOB_PART = narrow(
    "blob_part",
    MAIL,
    column("rope", INT, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True),
    column("n", INT, primary_key=True),
    column("part", INT, ForeignKey("blob.id", ondelete="RESTRICT")),
    column("start", INT),
    column("length", INT),
    Index("blob_part_part", "part"),
)

JOURNAL = narrow(
    "journal",
    MAIL,
    column("account", INT, primary_key=True),
    column("modseq", INT, primary_key=True),
    column("at", INT),
    column("actor", INT),  # the principal's id, 0 for the server itself
    column("kind", TEXT),
    column("before", BYTES),
    Index("journal_at", "at"),
)

INSERT_BLOB = sql("""
    INSERT INTO blob (id, sha256, size, stored, place, created_at, orphan_since, frames, data)
    VALUES (:id, :sha256, :size, :stored, :place, :now, NULL, NULL, :data)
""")
INSERT_PART = sql("""
    INSERT INTO blob_part (rope, n, part, start, length)
    VALUES (:rope, :n, :part, :start, :length)
""")
BLOB_FACTS = sql("SELECT sha256, size, stored, place, frames FROM blob WHERE id = :id")
BLOB_DATA = sql("SELECT data FROM blob WHERE id = :id")
BLOB_SLICE = sql("SELECT substr(data, :first, :length) FROM blob WHERE id = :id")
CONTENTS = sql("""
    SELECT id, sha256, size, stored, place, frames, data FROM blob WHERE id IN {ids}
""")
BLOB_PARTS = sql("SELECT part, start, length FROM blob_part WHERE rope = :id ORDER BY n")
BLOBS_AFTER = sql("""
    SELECT id, sha256, size, stored, place, frames, orphan_since
    FROM blob WHERE id > :after ORDER BY id LIMIT :limit
""")
BLOBS_KNOWN = sql("""
    SELECT id, CASE WHEN length(frames) > 0 THEN 1 ELSE 0 END FROM blob WHERE id IN {ids}
""")
CLEAR_ORPHAN = sql("UPDATE blob SET orphan_since = NULL WHERE id = :id AND orphan_since > 0")
YOUNG_RAW = sql("""
    SELECT id, sha256, size, place FROM blob
    WHERE id > :after AND created_at < :before AND frames IS NULL AND place <= 1 AND size >= :least
    ORDER BY id LIMIT :limit
""")
COMPRESS = sql("""
    UPDATE blob SET frames = :frames, stored = :stored, data = :data
    WHERE id = :id AND frames IS NULL
""")
KEEP_RAW = sql("UPDATE blob SET frames = :frames WHERE id = :id AND frames IS NULL")

NOTE = sql("""
    INSERT INTO journal (account, modseq, at, actor, kind, before)
    VALUES (:account, :modseq, :at, :actor, :kind, :before)
""")
JOURNAL_SINCE = sql("""
    SELECT modseq, at, actor, kind, before FROM journal
    WHERE account = :account AND modseq > :since ORDER BY modseq LIMIT :limit
""")
JOURNAL_LAST = sql("SELECT coalesce(max(modseq), 0) FROM journal WHERE account = :account")
ERASE_JOURNAL = sql("""
    DELETE FROM journal WHERE (account, modseq) IN (
        SELECT account, modseq FROM journal WHERE account = :account LIMIT :limit)
""")
PRUNE_JOURNAL = sql("""
    DELETE FROM journal
    WHERE at IN (SELECT at FROM journal WHERE at < :before ORDER BY at LIMIT :limit)
""")
