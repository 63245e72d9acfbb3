"""The tables of the search index, and every statement on them.

All of it can be made anew from the mail, so nothing of it is backed up. Rows of a segment are
written in several units and count once its state says so.
"""

from __future__ import annotations

from sqlalchemy import Index, text

from postroom.store.schema import BYTES, INDEX, INT, column, narrow, wide
from postroom.store.sql import sql

_NOT_LIVE = text("state <> 1")

SEGMENT = wide(
    "segment",
    INDEX,
    column("id", INT, primary_key=True, autoincrement=False),
    column("account", INT),
    column("state", INT),  # searching.State
    column("held", INT),  # messages
    column("made_at", INT),
    Index("segment_account", "account"),
    # Of the few that somebody has to do something about.
    Index("segment_state", "state", sqlite_where=_NOT_LIVE, postgresql_where=_NOT_LIVE),
)

SEGMENT_MEMBER = narrow(
    "segment_member",
    INDEX,
    column("segment", INT, primary_key=True),
    column("number", INT, primary_key=True),  # from 0
    column("message", INT),
    Index("segment_member_message", "message"),
)

# A segment's rows lie together: it is written, merged and removed as a whole, and a search asks
# for a few points of each.
SEGMENT_SET = narrow(
    "segment_set",
    INDEX,
    column("segment", INT, primary_key=True),
    column("trigram", INT, primary_key=True),  # store.search: a number, or ALWAYS
    column("numbers", BYTES),
)

INDEXED_ACCOUNT = narrow(
    "indexed_account",
    INDEX,
    column("account", INT, primary_key=True),
    column("modseq", INT),  # of the account when it was last looked through
)

INDEXED_MAILBOX = narrow(
    "indexed_mailbox",
    INDEX,
    column("mailbox", INT, primary_key=True),
    column("account", INT),
    column("uid", INT),  # every message up to this UID is a member of a segment
    Index("indexed_mailbox_account", "account"),
)

# --- marks --------------------------------------------------------------------------------------

MODSEQ_OF = sql("SELECT modseq FROM indexed_account WHERE account = :account")
MODSEQS_OF = sql("SELECT account, modseq FROM indexed_account WHERE account IN {accounts}")
INDEXED_AFTER = sql("""
    SELECT account, modseq FROM indexed_account WHERE account > :after
    ORDER BY account LIMIT :limit
""")
# Whoever begins, ends or forgets something of an account takes its row first: on PostgreSQL they
# would else pass each other, and a mark could outlive the segments that it speaks of.
LOCK_ACCOUNT = sql("""
    INSERT INTO indexed_account (account, modseq) VALUES (:account, 0)
    ON CONFLICT (account) DO UPDATE SET modseq = indexed_account.modseq
""")
MARK_ACCOUNT = sql("""
    INSERT INTO indexed_account (account, modseq) VALUES (:account, :modseq)
    ON CONFLICT (account) DO UPDATE SET modseq = excluded.modseq
""")
MARK_OF = sql("SELECT uid FROM indexed_mailbox WHERE mailbox = :mailbox AND account = :account")
MARKS_OF = sql("SELECT mailbox, uid FROM indexed_mailbox WHERE account = :account")
MARK_MAILBOX = sql("""
    INSERT INTO indexed_mailbox (mailbox, account, uid) VALUES (:mailbox, :account, :uid)
    ON CONFLICT (mailbox) DO UPDATE SET account = excluded.account, uid = excluded.uid
""")
FORGET_MAILBOXES = sql("DELETE FROM indexed_mailbox WHERE mailbox IN {mailboxes}")
FORGET_MARKS = sql("DELETE FROM indexed_mailbox WHERE account = :account")
FORGET_ACCOUNT = sql("DELETE FROM indexed_account WHERE account = :account")
FORGET_ALL_MARKS = sql("DELETE FROM indexed_mailbox")
FORGET_ALL_ACCOUNTS = sql("DELETE FROM indexed_account")

# --- segments -----------------------------------------------------------------------------------

BEGIN_SEGMENT = sql("""
    INSERT INTO segment (id, account, state, held, made_at) VALUES (:id, :account, 0, 0, :now)
""")
FINISH_SEGMENT = sql("""
    UPDATE segment SET state = 1, held = :held WHERE id = :id AND account = :account AND state = 0
""")
COUNT_IN_STATES = sql("""
    SELECT count(*) FROM segment WHERE id IN {ids} AND state IN {states}
""")
SET_STATE = sql("UPDATE segment SET state = :state WHERE id IN {ids} AND state <> 3")
BREAK = sql("UPDATE segment SET state = 2 WHERE id IN {ids} AND state = 1")
DROP_SEGMENTS = sql("UPDATE segment SET state = 3 WHERE account = :account AND state <> 3")
DROP_ALL = sql("UPDATE segment SET state = 3 WHERE state <> 3")
DROP_STALE = sql("UPDATE segment SET state = 3 WHERE state = 0 AND made_at < :before")
SEGMENTS_OF = sql("""
    SELECT id, state, held FROM segment WHERE account = :account AND state IN (1, 2) ORDER BY id
""")
BROKEN = sql("SELECT id, account FROM segment WHERE state = 2 ORDER BY id LIMIT 1")
DEAD = sql("SELECT id FROM segment WHERE state = 3 ORDER BY id LIMIT 1")
TALLY = sql("""
    SELECT account, count(*), sum(held), sum(CASE WHEN state = 2 THEN 1 ELSE 0 END) FROM segment
    WHERE state IN (1, 2) AND account IN {accounts} GROUP BY account
""")

ADD_MEMBER = sql("""
    INSERT INTO segment_member (segment, number, message) VALUES (:segment, :number, :message)
""")
MEMBERS = sql("""
    SELECT number, message FROM segment_member WHERE segment = :segment ORDER BY number
""")
MEMBERS_AT = sql("""
    SELECT message FROM segment_member WHERE segment = :segment AND number IN {numbers}
""")
KNOWN = sql("""
    SELECT DISTINCT m.message FROM segment_member m JOIN segment s ON s.id = m.segment
    WHERE m.message IN {messages} AND s.account = :account AND s.state IN (1, 2)
""")
ADD_SET = sql("""
    INSERT INTO segment_set (segment, trigram, numbers) VALUES (:segment, :trigram, :numbers)
""")
SETS_AT = sql("""
    SELECT segment, trigram, numbers FROM segment_set
    WHERE segment IN {segments} AND trigram IN {trigrams}
""")
SETS_AFTER = sql("""
    SELECT trigram, numbers FROM segment_set WHERE segment = :segment AND trigram > :after
    ORDER BY trigram LIMIT :limit
""")
COUNT_MEMBERS = sql("SELECT count(*) FROM segment_member WHERE segment = :segment")
REMOVE_SETS = sql("""
    DELETE FROM segment_set WHERE segment = :segment AND trigram IN (
        SELECT trigram FROM segment_set WHERE segment = :segment LIMIT :limit)
""")
REMOVE_MEMBERS = sql("""
    DELETE FROM segment_member WHERE segment = :segment AND number IN (
        SELECT number FROM segment_member WHERE segment = :segment LIMIT :limit)
""")
REMOVE_SEGMENT = sql("DELETE FROM segment WHERE id = :id AND state = 3")

# --- what is asked of the mail ------------------------------------------------------------------

ACCOUNTS_AFTER = sql("SELECT id, modseq FROM account WHERE id > :after ORDER BY id LIMIT :limit")
MODSEQS = sql("SELECT id, modseq FROM account WHERE id IN {accounts}")
MAILBOXES = sql("SELECT id, uidnext FROM mailbox WHERE account = :account ORDER BY id")
PLACED_AFTER = sql("""
    SELECT uid, message, blob, size FROM placement WHERE mailbox = :mailbox AND uid > :after
    ORDER BY uid LIMIT :limit
""")
CONTENTS = sql("""
    SELECT m.id, m.blob, b.size FROM message m JOIN blob b ON b.id = m.blob WHERE m.id IN {ids}
    ORDER BY m.id
""")
EXISTING = sql("SELECT id FROM message WHERE id IN {ids}")
LYING = sql("SELECT uid, mailbox FROM placement WHERE message IN {messages}")
