"""What DMARC found, counted for each day and each domain whose policy it was, and what of it was
told to whom. RFC 9990 §3."""

from __future__ import annotations

from sqlalchemy import ForeignKeyConstraint, Index

from postroom.store.schema import BYTES, INT, MAIL, STATE, TEXT, column, narrow
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

# --- what was told ----------------------------------------------------------------------------

DMARC_TOLD = narrow(
    "dmarc_told",
    MAIL,
    column("policy_domain", TEXT, primary_key=True),
    column("day", INT, primary_key=True),
    column("report_id", TEXT),
    column("at", INT),
    column("again", INT),  # when it is tried once more; 0: it is settled
    column("why", TEXT),  # why there was nobody to tell
    Index("dmarc_told_day", "day", "policy_domain"),
)

DMARC_SENT = narrow(
    "dmarc_sent",
    MAIL,
    column("policy_domain", TEXT, primary_key=True),
    column("day", INT, primary_key=True),
    column("destination", TEXT, primary_key=True),
    column("octets", INT),  # of the message
    column("trace", INT),  # 0: it was not sent
    column("why", TEXT),  # why it was not
    ForeignKeyConstraint(
        ["policy_domain", "day"],
        ["dmarc_told.policy_domain", "dmarc_told.day"],
        ondelete="CASCADE",
    ),
)

REACHED = sql("SELECT max(policy_domain) FROM dmarc_told WHERE day = :day")
AGAIN = sql("""
    SELECT policy_domain, day FROM dmarc_told
    WHERE day >= :first AND again > 0 AND again <= :now
    ORDER BY day, policy_domain LIMIT :limit
""")
POSTPONE = sql("""
    INSERT INTO dmarc_told (policy_domain, day, report_id, at, again, why)
    VALUES (:policy_domain, :day, '', :now, :again, :why)
    ON CONFLICT (policy_domain, day)
    DO UPDATE SET again = excluded.again, at = excluded.at, why = excluded.why
    WHERE dmarc_told.again > 0
""")
SETTLE = sql("""
    INSERT INTO dmarc_told (policy_domain, day, report_id, at, again, why)
    VALUES (:policy_domain, :day, :report_id, :now, 0, :why)
    ON CONFLICT (policy_domain, day)
    DO UPDATE SET report_id = excluded.report_id, at = excluded.at, again = 0, why = excluded.why
    WHERE dmarc_told.again > 0
""")
SENT = sql("""
    INSERT INTO dmarc_sent (policy_domain, day, destination, octets, trace, why)
    VALUES (:policy_domain, :day, :destination, :octets, :trace, :why)
""")
_LISTED = """
    SELECT t.policy_domain, t.day, t.at, t.report_id, t.again, t.why,
        s.destination, s.octets, s.trace, s.why
    FROM dmarc_told t
    LEFT JOIN dmarc_sent s ON s.policy_domain = t.policy_domain AND s.day = t.day
"""
LATEST = sql(f"{_LISTED} ORDER BY t.day DESC, t.policy_domain, s.destination LIMIT :limit")
LATEST_OF = sql(f"""
    {_LISTED} WHERE t.policy_domain = :policy_domain
    ORDER BY t.day DESC, s.destination LIMIT :limit
""")
OLD_TOLD = sql("""
    SELECT policy_domain, day FROM dmarc_told WHERE day < :before ORDER BY day LIMIT :limit
""")
FORGET_TOLD = sql("DELETE FROM dmarc_told WHERE policy_domain = :policy_domain AND day = :day")

# --- single failures ---------------------------------------------------------------------------

DMARC_FAILURE = narrow(
    "dmarc_failure",
    MAIL,
    column("id", INT, primary_key=True),  # the transit of the message that failed
    column("policy_domain", TEXT),
    column("day", INT),  # since 1970, UTC
    column("at", INT),
    column("again", INT),  # when it is to be told; 0: it is settled
    column("record", TEXT),  # JSON; empty once it is settled
    column("content", BYTES),  # what of the message is told; likewise
    column("why", TEXT),  # why nobody was told
    Index("dmarc_failure_again", "again"),
    Index("dmarc_failure_day", "day", "policy_domain"),
)

DMARC_FAILURE_SENT = narrow(
    "dmarc_failure_sent",
    MAIL,
    column("id", INT, primary_key=True),
    column("destination", TEXT, primary_key=True),
    column("day", INT),
    column("octets", INT),  # of the message
    column("trace", INT),  # 0: it was not sent
    column("why", TEXT),  # why it was not
    ForeignKeyConstraint(["id"], ["dmarc_failure.id"], ondelete="CASCADE"),
    Index("dmarc_failure_sent_to", "destination", "day"),
)

# Who fails in a domain's name, from where and how: what is only counted until the next report.
DMARC_FAILURE_ALIKE = narrow(
    "dmarc_failure_alike",
    MAIL,
    column("policy_domain", TEXT, primary_key=True),
    column("source", TEXT, primary_key=True),  # the peer's IP address
    column("failure", TEXT, primary_key=True),  # what failed: dmarc, signature, bodyhash, spf
    column("at", INT),  # when one was last reported; 0: never
    column("more", INT),  # messages since then
    column("day", INT),  # of the last message
    Index("dmarc_failure_alike_day", "day"),
)

# Counting ends at what is allowed: a day of many costs no more.
OWED_OF_DAY = sql("""
    SELECT count(*) FROM (SELECT 1 FROM dmarc_failure WHERE day = :day LIMIT :limit) AS found
""")
OWED_OF_DOMAIN = sql("""
    SELECT count(*) FROM (
        SELECT 1 FROM dmarc_failure
        WHERE day = :day AND policy_domain = :policy_domain LIMIT :limit
    ) AS found
""")
SENT_TO = sql("""
    SELECT count(*) FROM (
        SELECT 1 FROM dmarc_failure_sent
        WHERE destination = :destination AND day = :day AND trace > 0 LIMIT :limit
    ) AS found
""")
ALIKE = sql("""
    SELECT at, more FROM dmarc_failure_alike
    WHERE policy_domain = :policy_domain AND source = :source AND failure = :failure {for update}
""")
SET_ALIKE = sql("""
    INSERT INTO dmarc_failure_alike (policy_domain, source, failure, at, more, day)
    VALUES (:policy_domain, :source, :failure, :at, :more, :day)
    ON CONFLICT (policy_domain, source, failure)
    DO UPDATE SET at = excluded.at, more = excluded.more, day = excluded.day
""")
OLD_ALIKE = sql("""
    SELECT policy_domain, source, failure FROM dmarc_failure_alike
    WHERE day < :before ORDER BY day LIMIT :limit
""")
FORGET_ALIKE = sql("""
    DELETE FROM dmarc_failure_alike
    WHERE policy_domain = :policy_domain AND source = :source AND failure = :failure
""")
OWE = sql("""
    INSERT INTO dmarc_failure (id, policy_domain, day, at, again, record, content, why)
    VALUES (:id, :policy_domain, :day, :now, :now, :record, :content, '')
""")
OWED = sql("""
    SELECT id, policy_domain, at, record, content FROM dmarc_failure
    WHERE again > 0 AND again <= :now ORDER BY again LIMIT :limit
""")
PUT_OFF = sql("""
    UPDATE dmarc_failure SET again = :again, why = :why WHERE id = :id AND again > 0
""")
SETTLE_FAILURE = sql("""
    UPDATE dmarc_failure SET again = 0, record = '', content = :nothing, why = :why
    WHERE id = :id AND again > 0
""")
FAILURE_SENT = sql("""
    INSERT INTO dmarc_failure_sent (id, destination, day, octets, trace, why)
    VALUES (:id, :destination, :day, :octets, :trace, :why)
""")
_FAILURES = """
    SELECT f.id, f.policy_domain, f.at, f.again, f.why, s.destination, s.octets, s.trace, s.why
    FROM dmarc_failure f LEFT JOIN dmarc_failure_sent s ON s.id = f.id
"""
FAILURES = sql(f"{_FAILURES} ORDER BY f.day DESC, f.id DESC, s.destination LIMIT :limit")
FAILURES_OF = sql(f"""
    {_FAILURES} WHERE f.policy_domain = :policy_domain
    ORDER BY f.day DESC, f.id DESC, s.destination LIMIT :limit
""")
OLD_FAILURES = sql("""
    SELECT id FROM dmarc_failure WHERE day < :before ORDER BY day LIMIT :limit
""")
FORGET_FAILURE = sql("DELETE FROM dmarc_failure WHERE id = :id")
