"""The tables of sharing, rights of others and their subscriptions, and every statement on them."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index

from postroom.store.schema import INT, MAIL, TEXT, column, narrow
from postroom.store.sql import sql

MAILBOX_RIGHT = narrow(
    "mailbox_right",
    MAIL,
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE"), primary_key=True),
    column("principal", INT, primary_key=True),  # an account's id, or a domain's: all in it
    column("negative", INT, primary_key=True),  # 1: these are taken, not given
    column("rights", INT),  # rights.Right
    Index("mailbox_right_principal", "principal"),
)

# The owner's own subscription stands in the mailbox's row.
SUBSCRIPTION = narrow(
    "subscription",
    MAIL,
    column("principal", INT, primary_key=True),
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE"), primary_key=True),
    Index("subscription_mailbox", "mailbox"),
)

# What an owner subscribed to and deleted: the subscription stays until he ends it, or makes a
# mailbox of that name. RFC 3501 §6.3.6.
SUBSCRIBED_NAME = narrow(
    "subscribed_name",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("path", TEXT, primary_key=True),
)

_WHO = "r.principal IN (:viewer, (SELECT v.domain FROM account v WHERE v.id = :viewer))"
RIGHTS_OF = sql(f"""
    SELECT r.negative, r.rights FROM mailbox_right r WHERE r.mailbox = :mailbox AND {_WHO}
""")
RIGHTS_WITHIN = sql(f"""
    SELECT r.mailbox, r.negative, r.rights FROM mailbox_right r JOIN mailbox b ON b.id = r.mailbox
    WHERE b.account = :account AND b.doomed = 0 AND {_WHO}
""")
RIGHTS_HELD = sql(f"""
    SELECT r.mailbox, r.negative, r.rights FROM mailbox_right r JOIN mailbox b ON b.id = r.mailbox
    WHERE b.doomed = 0 AND b.account <> :viewer AND {_WHO}
""")
RIGHTS_LIST = sql("""
    SELECT principal, negative, rights FROM mailbox_right WHERE mailbox = :mailbox
    ORDER BY negative, principal
""")
RIGHTS_ENTRY = sql("""
    SELECT rights FROM mailbox_right
    WHERE mailbox = :mailbox AND principal = :principal AND negative = :negative
""")
RIGHTS_COUNT = sql("SELECT count(*) FROM mailbox_right WHERE mailbox = :mailbox")
PUT_RIGHTS = sql("""
    INSERT INTO mailbox_right (mailbox, principal, negative, rights)
    VALUES (:mailbox, :principal, :negative, :rights)
    ON CONFLICT (mailbox, principal, negative) DO UPDATE SET rights = excluded.rights
""")
DROP_RIGHTS = sql("""
    DELETE FROM mailbox_right
    WHERE mailbox = :mailbox AND principal = :principal AND negative = :negative
""")
INHERIT_RIGHTS = sql("""
    INSERT INTO mailbox_right (mailbox, principal, negative, rights)
    SELECT :mailbox, principal, negative, rights FROM mailbox_right WHERE mailbox = :parent
""")
MAILBOX_CHANGED = sql("UPDATE mailbox SET changed_modseq = :modseq WHERE id = :id")
RAISE_RIGHTS_EPOCH = sql("UPDATE account SET rights_epoch = rights_epoch + 1 WHERE id IN {ids}")
# These and all above them; UNION ends a circle of damaged parents.
WITH_PARENTS = sql("""
    WITH RECURSIVE up (id, parent, name) AS (
        SELECT id, parent, name FROM mailbox WHERE id IN {ids}
        UNION SELECT m.id, m.parent, m.name FROM mailbox m JOIN up ON m.id = up.parent)
    SELECT id, parent, name FROM up
""")
SUBSCRIPTIONS = sql("SELECT mailbox FROM subscription WHERE principal = :principal")
ADD_SUBSCRIPTION = sql("""
    INSERT INTO subscription (principal, mailbox) VALUES (:principal, :mailbox)
    ON CONFLICT (principal, mailbox) DO NOTHING
""")
DROP_SUBSCRIPTION = sql("""
    DELETE FROM subscription WHERE principal = :principal AND mailbox = :mailbox
""")

SUBSCRIBED_NAMES = sql("SELECT path FROM subscribed_name WHERE account = :account ORDER BY path")
KEEP_NAME = sql("""
    INSERT INTO subscribed_name (account, path) SELECT :account, :path
    WHERE (SELECT count(*) FROM subscribed_name WHERE account = :account) < :most
    ON CONFLICT (account, path) DO NOTHING
""")
DROP_NAME = sql("DELETE FROM subscribed_name WHERE account = :account AND path = :path")

# What others gave to an account that goes, and what it subscribed to.
ERASE_SHARES = (
    sql("""
        DELETE FROM mailbox_right WHERE (mailbox, principal, negative) IN (
            SELECT mailbox, principal, negative FROM mailbox_right
            WHERE principal = :account LIMIT :limit)
    """),
    sql("""
        DELETE FROM subscription WHERE (principal, mailbox) IN (
            SELECT principal, mailbox FROM subscription WHERE principal = :account LIMIT :limit)
    """),
    sql("""
        DELETE FROM subscribed_name WHERE (account, path) IN (
            SELECT account, path FROM subscribed_name WHERE account = :account LIMIT :limit)
    """),
)

# Rights and subscriptions of nobody, or of the owner, or that say nothing.
ODD_RIGHTS = sql("""
    SELECT r.mailbox, r.principal, r.negative FROM mailbox_right r
    JOIN mailbox b ON b.id = r.mailbox
    WHERE r.mailbox IN {ids} AND (r.principal = b.account OR r.negative NOT IN (0, 1)
        OR r.rights < 1 OR r.rights > :all
        OR (NOT EXISTS (SELECT 1 FROM account a WHERE a.id = r.principal)
            AND NOT EXISTS (SELECT 1 FROM domain d WHERE d.id = r.principal)))
""")
ODD_SUBSCRIPTIONS = sql("""
    SELECT s.mailbox, s.principal FROM subscription s JOIN mailbox b ON b.id = s.mailbox
    WHERE s.mailbox IN {ids} AND (s.principal = b.account
        OR NOT EXISTS (SELECT 1 FROM account a WHERE a.id = s.principal))
""")
