"""Mail that brings reports, the reports, and what aggregate ones count. RFC 9990, RFC 9991."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint

from postroom.store.schema import INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

REPORT_MAIL = wide(
    "report_mail",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("trace", INT),
    column("at", INT),
    column("day", INT),  # since 1970, UTC
    column("source", TEXT),  # the network that brought it; empty: ourselves
    column("address", TEXT),  # to which it was sent
    column("voucher", TEXT),  # the domain that stands behind it; empty: none does
    column("octets", INT),
    column("blob", INT, ForeignKey("blob.id"), nullable=True),  # while it is needed
    column("state", TEXT),  # waiting, filed, foreign, unreadable
    column("why", TEXT),
    column("tries", INT),
    Index("report_mail_day", "day", "source"),
    Index("report_mail_state", "state", "at"),
    Index("report_mail_blob", "blob"),
)

REPORT = wide(
    "report",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("domain", TEXT),  # whose mail it is about
    column("key", TEXT),  # of reporter and report id: what comes twice is counted once
    column("kind", TEXT),  # aggregate, or what the feedback is: auth-failure and others
    column("reporter", TEXT),
    column("voucher", TEXT),
    column("begins", INT),
    column("ends", INT),
    column("at", INT),
    column("messages", INT),
    column("aligned", INT),
    column("trace", INT),
    column("record", TEXT),  # JSON
    UniqueConstraint("domain", "key"),
    Index("report_at", "at"),
)

REPORT_SOURCE = narrow(
    "report_source",
    MAIL,
    column("domain", TEXT, primary_key=True),
    column("week", INT, primary_key=True),  # since 1970, from Monday on, UTC
    column("source", TEXT, primary_key=True),  # an address; empty: those past a bound
    column("reporter", TEXT, primary_key=True),
    column("vouched", INT, primary_key=True),  # 1: somebody stands behind the reporter
    column("disposition", TEXT, primary_key=True),
    column("dkim", TEXT, primary_key=True),  # pass, fail: with alignment
    column("spf", TEXT, primary_key=True),
    column("messages", INT),
    column("first", INT),  # days
    column("last", INT),
    Index("report_source_week", "week"),
)

# --- mail that brings them --------------------------------------------------------------------

ACCEPT = sql("""
    INSERT INTO report_mail
        (id, trace, at, day, source, address, voucher, octets, blob, state, why, tries)
    VALUES (:id, :trace, :at, :day, :source, :address, :voucher, :octets, :blob, 'waiting', '', 0)
""")
OF_SOURCE = sql("SELECT count(*) FROM report_mail WHERE day = :day AND source = :source")
OF_DAY = sql("SELECT count(*), coalesce(sum(octets), 0) FROM report_mail WHERE day = :day")
NEXT = sql("""
    SELECT id, trace, at, address, voucher, blob, tries FROM report_mail
    WHERE state = 'waiting' ORDER BY at, id LIMIT 1
""")
TRY = sql("UPDATE report_mail SET tries = tries + 1 WHERE id = :id AND state = 'waiting'")
END = sql("""
    UPDATE report_mail SET state = :state, why = :why, voucher = :voucher, blob = :blob
    WHERE id = :id AND state = 'waiting'
""")
UNFILED = sql("""
    SELECT id, trace, at, source, address, voucher, octets, state, why FROM report_mail
    WHERE state IN {states:text} ORDER BY at DESC, id DESC LIMIT :limit
""")
OLD_MAIL = sql("""
    SELECT id FROM report_mail WHERE state = :state AND at < :before ORDER BY at LIMIT :limit
""")
FORGET_MAIL = sql("DELETE FROM report_mail WHERE id = :id")

# --- reports ----------------------------------------------------------------------------------

ADD = sql("""
    INSERT INTO report
        (id, domain, key, kind, reporter, voucher, begins, ends, at, messages, aligned, trace,
         record)
    VALUES (:id, :domain, :key, :kind, :reporter, :voucher, :begins, :ends, :at, :messages,
        :aligned, :trace, :record)
    ON CONFLICT (domain, key) DO NOTHING
""")
_REPORT = """id, domain, kind, reporter, voucher, begins, ends, at, messages, aligned, trace,
    record"""
LATEST = sql(f"SELECT {_REPORT} FROM report ORDER BY id DESC LIMIT :limit")
LATEST_OF = sql(f"""
    SELECT {_REPORT} FROM report WHERE domain = :domain ORDER BY id DESC LIMIT :limit
""")
ONE = sql(f"SELECT {_REPORT} FROM report WHERE id = :id")
OLD = sql("SELECT id FROM report WHERE at < :before ORDER BY at LIMIT :limit")
FORGET = sql("DELETE FROM report WHERE id = :id")
KINDS = sql("""
    SELECT kind, count(*), coalesce(sum(messages), 0),
        coalesce(sum(CASE WHEN voucher = '' THEN 1 ELSE 0 END), 0)
    FROM report WHERE domain = :domain AND ends >= :since GROUP BY kind ORDER BY kind
""")

# --- what they count --------------------------------------------------------------------------

KNOWN = sql("SELECT count(*) FROM report_source WHERE domain = :domain AND week = :week")
COUNT = sql("""
    INSERT INTO report_source
        (domain, week, source, reporter, vouched, disposition, dkim, spf, messages, first, last)
    VALUES (:domain, :week, :source, :reporter, :vouched, :disposition, :dkim, :spf, :messages,
        :first, :last)
    ON CONFLICT (domain, week, source, reporter, vouched, disposition, dkim, spf)
    DO UPDATE SET messages = report_source.messages + excluded.messages,
        first = CASE WHEN excluded.first < report_source.first
            THEN excluded.first ELSE report_source.first END,
        last = CASE WHEN excluded.last > report_source.last
            THEN excluded.last ELSE report_source.last END
""")
_SINCE = "domain = :domain AND week >= :since AND vouched = 1"
TOTAL = sql(f"""
    SELECT coalesce(sum(messages), 0),
        coalesce(sum(CASE WHEN dkim = 'pass' OR spf = 'pass' THEN messages ELSE 0 END), 0),
        count(DISTINCT source), count(DISTINCT reporter)
    FROM report_source WHERE {_SINCE}
""")
DISPOSITIONS = sql(f"""
    SELECT disposition, sum(messages) FROM report_source
    WHERE {_SINCE} GROUP BY disposition ORDER BY disposition
""")
SOURCES = sql(f"""
    SELECT source, sum(messages) AS told,
        sum(CASE WHEN dkim = 'pass' OR spf = 'pass' THEN messages ELSE 0 END),
        sum(CASE WHEN dkim = 'pass' THEN messages ELSE 0 END),
        sum(CASE WHEN spf = 'pass' THEN messages ELSE 0 END),
        min(first), max(last)
    FROM report_source WHERE {_SINCE}
    GROUP BY source ORDER BY told DESC, source LIMIT :limit
""")
OLD_COUNTS = sql("""
    SELECT domain, week, source, reporter, vouched, disposition, dkim, spf FROM report_source
    WHERE week < :before ORDER BY week LIMIT :limit
""")
FORGET_COUNT = sql("""
    DELETE FROM report_source
    WHERE domain = :domain AND week = :week AND source = :source AND reporter = :reporter
        AND vouched = :vouched AND disposition = :disposition AND dkim = :dkim AND spf = :spf
""")
