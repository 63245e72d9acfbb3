"""Brings a store's schema to the newest step, under the same lock that writers take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Final

import apsw
import psycopg

from postroom.core.errors import StoreFailed
from postroom.store import postgres as pg
from postroom.store import sqlite_engine as lite
from postroom.store.schema import Step, pending

_REACHED = "SELECT coalesce(max(number), 0) FROM schema_step"
MAKE_STEPS: Final = (
    "CREATE TABLE IF NOT EXISTS schema_step (number INTEGER PRIMARY KEY, name TEXT NOT NULL)"
)
"""Where a store says which steps it has taken."""


class NewerSchema(StoreFailed):
    """The store was written by a later release than this one."""

    sentence = "This store was written by a newer release of Postroom; please install that one"


def _check(reached: int, steps: Sequence[Step]) -> None:
    newest = max((step.number for step in steps), default=0)
    if reached > newest:
        raise NewerSchema(detail=f"schema step {reached}, this release knows {newest}")


def migrate_sqlite(path: str, steps: Sequence[Step], *, vfs: str | None = None) -> list[Step]:
    """Apply what is missing, each step in its own transaction; returns what was applied."""
    os.makedirs(os.path.dirname(path) or ".", mode=0o700, exist_ok=True)
    lock = lite.FileLock(path + ".lock")
    applied: list[Step] = []
    try:
        with lock.held():
            db = lite.connect(path, durable=True, vfs=vfs)
            try:
                db.execute(MAKE_STEPS)
                reached = db.execute(_REACHED).get
                _check(reached, steps)
                for step in pending(steps, reached):
                    with db:
                        for statement in step.sqlite:
                            db.execute(statement)
                        db.execute(
                            "INSERT INTO schema_step VALUES (?, ?)", (step.number, step.name)
                        )
                    applied.append(step)
            finally:
                db.close()
    except apsw.Error as error:
        raise lite.engine_error(error) from error
    finally:
        lock.close()
    return applied


def migrate_postgres(conninfo: str, schema: str, steps: Sequence[Step]) -> list[Step]:
    """Apply what is missing under an advisory lock; returns what was applied."""
    applied: list[Step] = []
    try:
        with contextlib.closing(pg.connect(conninfo, schema, durable=True)) as db:
            db.execute("SET lock_timeout = 0")  # another node's migration takes what it takes
            # The key is arbitrary but fixed: "post" in ASCII.
            db.execute("SELECT pg_advisory_lock(1886352244)")
            db.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            db.execute(MAKE_STEPS)
            row = db.execute(_REACHED).fetchone()
            reached = int(row[0]) if row else 0
            _check(reached, steps)
            for step in pending(steps, reached):
                with db.transaction():
                    for statement in step.postgres:
                        db.execute(statement)
                    db.execute("INSERT INTO schema_step VALUES (%s, %s)", (step.number, step.name))
                applied.append(step)
    except psycopg.Error as error:
        raise pg.engine_error(error) from error
    return applied


def drop_postgres(conninfo: str, schema: str) -> None:
    """Remove a store, with all it holds: one that can be made anew."""
    try:
        with contextlib.closing(pg.connect(conninfo, schema, durable=True)) as db:
            db.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    except psycopg.Error as error:
        raise pg.engine_error(error) from error
