"""What DMARC found, counted for each day and each domain whose policy it was. RFC 9990 §3."""

from __future__ import annotations

from sqlalchemy import Index

from postroom.store.schema import INT, STATE, TEXT, column, narrow
from postroom.store.sql import sql

DMARC_TALLY = narrow(
    "dmarc_tally",
    STATE,
    column("policy_domain", TEXT, primary_key=True),
    column("day", INT, primary_key=True),  # since 1970, UTC
    column("key", TEXT, primary_key=True),  # of the record: equal ones are counted together
    column("record", TEXT),  # JSON
    column("messages", INT),
    Index("dmarc_tally_day", "day"),
)

ADD = sql("""
    INSERT INTO dmarc_tally (policy_domain, day, key, record, messages)
    VALUES (:policy_domain, :day, :key, :record, :messages)
    ON CONFLICT (policy_domain, day, key)
    DO UPDATE SET messages = dmarc_tally.messages + excluded.messages
""")
TALLIES = sql("""
    SELECT record, messages FROM dmarc_tally
    WHERE policy_domain = :policy_domain AND day = :day ORDER BY key LIMIT :limit
""")
DOMAINS = sql("""
    SELECT DISTINCT policy_domain FROM dmarc_tally
    WHERE day = :day AND policy_domain > :after ORDER BY policy_domain LIMIT :limit
""")
OLD = sql("""
    SELECT policy_domain, day, key FROM dmarc_tally WHERE day < :before ORDER BY day LIMIT :limit
""")
FORGET = sql("""
    DELETE FROM dmarc_tally WHERE policy_domain = :policy_domain AND day = :day AND key = :key
""")
