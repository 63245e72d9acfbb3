"""The table of jobs: when each declared job is due, who runs it, how it went."""

from __future__ import annotations

from postroom.store.schema import INT, MAIL, TEXT, column, narrow
from postroom.store.sql import sql

JOB = narrow(
    "job",
    MAIL,
    column("name", TEXT, primary_key=True),
    column("due", INT),
    column("lease", INT),  # until when it is leased; 0 is free
    column("holder", INT),  # the worker that holds it
    column("fence", INT),  # raised by each lease: an outcome must match it
    column("attempts", INT),  # failures since it went well
    column("last_error", TEXT),
    column("last_done", INT),  # 0 is never
)

ENSURE = sql("""
    INSERT INTO job (name, due, lease, holder, fence, attempts, last_error, last_done)
    VALUES (:name, :due, 0, 0, 0, 0, '', 0) ON CONFLICT (name) DO NOTHING
""")
DUE = sql("""
    SELECT name FROM job WHERE name IN {names:text} AND due <= :now AND lease <= :now
    ORDER BY due, name
""")
NEXT = sql("""
    SELECT min(CASE WHEN lease > due THEN lease ELSE due END) FROM job WHERE name IN {names:text}
""")
TAKE = sql("""
    UPDATE job SET lease = :until, holder = :holder, fence = fence + 1
    WHERE name = :name AND due <= :now AND lease <= :now RETURNING fence, attempts
""")
EXTEND = sql("UPDATE job SET lease = :until WHERE name = :name AND fence = :fence AND lease > 0")
DONE = sql("""
    UPDATE job SET lease = 0, holder = 0, due = :due, attempts = 0, last_error = '',
        last_done = :now
    WHERE name = :name AND fence = :fence AND lease > 0
""")
FAILED = sql("""
    UPDATE job SET lease = 0, holder = 0, due = :due, attempts = attempts + 1,
        last_error = :error
    WHERE name = :name AND fence = :fence AND lease > 0
""")
RELEASE = sql("""
    UPDATE job SET lease = 0, holder = 0 WHERE name = :name AND fence = :fence AND lease > 0
""")
RELEASE_HOLDER = sql("""
    UPDATE job SET lease = 0, holder = 0, fence = fence + 1 WHERE holder = :holder AND lease > 0
""")
HASTEN = sql("UPDATE job SET due = :now WHERE name = :name AND lease <= :now AND due > :now")
ROWS = sql("""
    SELECT name, due, lease, holder, attempts, last_error, last_done FROM job ORDER BY name
""")
