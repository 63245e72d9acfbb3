"""The table of the audit: operations that left no change set. In `state`, in batches."""

from __future__ import annotations

from sqlalchemy import Index

from postroom.store.schema import INT, STATE, TEXT, column, wide
from postroom.store.sql import sql

AUDIT = wide(
    "audit",
    STATE,
    column("id", INT, primary_key=True, autoincrement=False),
    column("at", INT),
    column("caller", INT),  # a principal; 0 is whoever owns the data directory
    column("operation", TEXT),
    column("outcome", TEXT),  # performed, refused, failed
    column("asked", TEXT),  # JSON, without secrets
    column("reason", TEXT),  # what the caller gave as one
    column("answer", TEXT),  # why it was refused
    Index("audit_at", "at"),
    Index("audit_caller", "caller", "id"),
)

_ENTRY = "id, at, caller, operation, outcome, asked, reason, answer"
INSERT = sql(f"""
    INSERT INTO audit ({_ENTRY})
    VALUES (:id, :at, :caller, :operation, :outcome, :asked, :reason, :answer)
    ON CONFLICT (id) DO NOTHING
""")
_WANTED = """
    (CAST(:operation AS text) = '' OR operation = CAST(:operation AS text))
    AND (CAST(:outcome AS text) = '' OR outcome = CAST(:outcome AS text))
"""
LATEST = sql(f"SELECT {_ENTRY} FROM audit WHERE {_WANTED} ORDER BY id DESC LIMIT :limit")
LATEST_OF = sql(f"""
    SELECT {_ENTRY} FROM audit WHERE caller = :caller AND {_WANTED} ORDER BY id DESC LIMIT :limit
""")
OLD = sql("SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :limit")
FORGET = sql("DELETE FROM audit WHERE id IN {ids}")
