"""The tables of traces: `mail` for what was kept, `state` for what was refused."""

from __future__ import annotations

from sqlalchemy import Index

from postroom.store.schema import BYTES, INT, MAIL, STATE, TEXT, column, narrow, wide
from postroom.store.sql import sql

TRACE = wide(
    "trace",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("at", INT),
    column("record", BYTES),
    Index("trace_at", "at"),
)
TRACE_KEY = narrow(
    "trace_key",
    MAIL,
    column("key", TEXT, primary_key=True),
    column("trace", INT, primary_key=True),
    Index("trace_key_trace", "trace"),
)
TRACE_EVENT = narrow(
    "trace_event",
    MAIL,
    column("trace", INT, primary_key=True),
    column("id", INT, primary_key=True),
    column("at", INT),
    column("record", TEXT),  # JSON: what became of a recipient after the transit
)
REFUSAL = wide(
    "refusal",
    STATE,
    column("id", INT, primary_key=True, autoincrement=False),
    column("at", INT),
    column("record", BYTES),
    Index("refusal_at", "at"),
)
REFUSAL_KEY = narrow(
    "refusal_key",
    STATE,
    column("key", TEXT, primary_key=True),
    column("trace", INT, primary_key=True),
    Index("refusal_key_trace", "trace"),
)

INSERT_TRACE = sql("INSERT INTO trace (id, at, record) VALUES (:id, :at, :record)")
INSERT_KEY = sql("""
    INSERT INTO trace_key (key, trace) VALUES (:key, :trace) ON CONFLICT DO NOTHING
""")
TRACE_ROW = sql("SELECT record FROM trace WHERE id = :id")
TRACES_OF = sql("""
    SELECT t.id, t.record FROM trace_key k JOIN trace t ON t.id = k.trace
    WHERE k.key = :key ORDER BY t.id DESC LIMIT :limit
""")
LATEST = sql("SELECT id, record FROM trace ORDER BY id DESC LIMIT :limit")
INSERT_EVENT = sql("""
    INSERT INTO trace_event (trace, id, at, record) VALUES (:trace, :id, :at, :record)
    ON CONFLICT DO NOTHING
""")
EVENTS_OF = sql("""
    SELECT at, record FROM trace_event WHERE trace = :trace ORDER BY id LIMIT :limit
""")
OLD_TRACES = sql("SELECT id FROM trace WHERE at < :before ORDER BY at LIMIT :limit")
FORGET_KEYS = sql("DELETE FROM trace_key WHERE trace IN {ids}")
FORGET_EVENTS = sql("DELETE FROM trace_event WHERE trace IN {ids}")
FORGET_TRACES = sql("DELETE FROM trace WHERE id IN {ids}")

INSERT_REFUSAL = sql("""
    INSERT INTO refusal (id, at, record) VALUES (:id, :at, :record) ON CONFLICT DO NOTHING
""")
INSERT_REFUSAL_KEY = sql("""
    INSERT INTO refusal_key (key, trace) VALUES (:key, :trace) ON CONFLICT DO NOTHING
""")
REFUSAL_ROW = sql("SELECT record FROM refusal WHERE id = :id")
REFUSALS_OF = sql("""
    SELECT t.id, t.record FROM refusal_key k JOIN refusal t ON t.id = k.trace
    WHERE k.key = :key ORDER BY t.id DESC LIMIT :limit
""")
LATEST_REFUSALS = sql("SELECT id, record FROM refusal ORDER BY id DESC LIMIT :limit")
OLD_REFUSALS = sql("SELECT id FROM refusal WHERE at < :before ORDER BY at LIMIT :limit")
FORGET_REFUSAL_KEYS = sql("DELETE FROM refusal_key WHERE trace IN {ids}")
FORGET_REFUSALS = sql("DELETE FROM refusal WHERE id IN {ids}")
