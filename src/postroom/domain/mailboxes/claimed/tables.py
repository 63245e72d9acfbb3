"""The tables of what sessions claim, in `state`, with every statement on them; what POP3 reads."""

from __future__ import annotations

from postroom.store.schema import INT, STATE, column, narrow
from postroom.store.sql import sql

RECENT = narrow(
    "recent",
    STATE,
    column("mailbox", INT, primary_key=True),
    column("floor", INT),  # UIDs from here on no session has been told of: RFC 3501 §2.3.2
)

# One POP3 session has a maildrop for itself: RFC 1939 §4. A row is one that lives.
MAILDROP = narrow(
    "maildrop",
    STATE,
    column("mailbox", INT, primary_key=True),
    column("session", INT),  # its id, by which it alone can keep and free the maildrop
    column("holder", INT),  # the worker that it lives in
    column("lease", INT),  # until when
)

# --- recent (state) -------------------------------------------------------------------------------

RECENT_FLOOR = sql("SELECT floor FROM recent WHERE mailbox = :mailbox")
RECENT_FLOORS = sql("SELECT mailbox, floor FROM recent WHERE mailbox IN {ids}")
RAISE_RECENT = sql("""
    INSERT INTO recent (mailbox, floor) VALUES (:mailbox, :floor)
    ON CONFLICT (mailbox) DO UPDATE SET floor = excluded.floor WHERE excluded.floor > recent.floor
""")

# --- maildrops: the lock (state), and what POP3 reads -------------------------------------------

TAKE_MAILDROP = sql("""
    INSERT INTO maildrop (mailbox, session, holder, lease)
    VALUES (:mailbox, :session, :holder, :until)
    ON CONFLICT (mailbox) DO UPDATE SET session = excluded.session, holder = excluded.holder,
        lease = excluded.lease
    WHERE maildrop.lease <= :now
    RETURNING session
""")
MAILDROP_TAKEN = sql("SELECT 1 FROM maildrop WHERE mailbox = :mailbox AND lease > :now")
KEEP_MAILDROPS = sql("""
    UPDATE maildrop SET lease = :until WHERE session IN {sessions} RETURNING session
""")
FREE_MAILDROP = sql("DELETE FROM maildrop WHERE mailbox = :mailbox AND session = :session")
FREE_MAILDROPS = sql("DELETE FROM maildrop WHERE holder = :holder")
MAILDROP_ROWS = sql("""
    SELECT uid, size FROM placement WHERE mailbox = :mailbox AND uid > :after
    ORDER BY uid LIMIT :limit
""")
CAME_BEFORE = sql("""
    SELECT uid, flags, created_modseq FROM placement
    WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND received_at < :before
    ORDER BY uid LIMIT :limit
""")
