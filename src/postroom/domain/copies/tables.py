"""How often signed messages came, by the mark of their signature."""

from __future__ import annotations

from sqlalchemy import Index

from postroom.store.schema import INT, STATE, column, narrow
from postroom.store.sql import sql

DKIM_COPY = narrow(
    "dkim_copy",
    STATE,
    column("mark", INT, primary_key=True),  # 63 bits of a hash of the signature
    column("hour", INT, primary_key=True),  # since 1970
    column("copies", INT),
    Index("dkim_copy_hour", "hour"),
)

ADD = sql("""
    INSERT INTO dkim_copy (mark, hour, copies) VALUES (:mark, :hour, :copies)
    ON CONFLICT (mark, hour) DO UPDATE SET copies = dkim_copy.copies + excluded.copies
""")
OF = sql("""
    SELECT mark, hour, copies FROM dkim_copy WHERE mark IN {marks} AND hour >= :since
""")
OLD = sql("SELECT mark, hour FROM dkim_copy WHERE hour < :before ORDER BY hour LIMIT :limit")
FORGET = sql("DELETE FROM dkim_copy WHERE mark = :mark AND hour = :hour")
