"""The tables of annotations, of mailboxes and of the server, and every statement on them."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index

from postroom.store.schema import BYTES, INT, MAIL, TEXT, column, wide
from postroom.store.sql import sql

# Not in key order: values may be large, and most readers want names and sizes.
MAILBOX_ANNOTATION = wide(
    "mailbox_annotation",
    MAIL,
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE"), primary_key=True),
    column("principal", INT, primary_key=True),  # whose it is; 0: all share it
    column("name", TEXT, primary_key=True),  # whole, in lower case: /shared/comment
    column("account", INT),  # whose space it takes: of what is shared, the mailbox's owner's
    column("size", INT),  # octets of the name and the value
    column("modseq", INT),  # of that account
    column("value", BYTES),
    Index("mailbox_annotation_account", "account", "size"),
)

# What an account keeps of the server as a whole.
SERVER_ANNOTATION = wide(
    "server_annotation",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("name", TEXT, primary_key=True),
    column("size", INT),
    column("modseq", INT),
    column("value", BYTES),
)

_SEEN = "mailbox = :mailbox AND principal IN (0, :viewer)"
NAMES = sql(f"SELECT name, length(value) FROM mailbox_annotation WHERE {_SEEN}")
VALUES = sql(f"SELECT name, value FROM mailbox_annotation WHERE {_SEEN} AND name IN {{names:text}}")
VALUES_OF_MANY = sql("""
    SELECT mailbox, name, value FROM mailbox_annotation
    WHERE mailbox IN {ids} AND principal IN (0, :viewer) AND name IN {names:text}
""")
MARKS = sql("""
    SELECT mailbox, name, modseq FROM mailbox_annotation
    WHERE mailbox IN {ids} AND principal IN (0, :viewer) LIMIT :limit
""")
KEPT = sql("""
    SELECT name FROM mailbox_annotation WHERE mailbox = :mailbox AND principal = :principal
""")
PUT = sql("""
    INSERT INTO mailbox_annotation (mailbox, principal, name, account, size, modseq, value)
    VALUES (:mailbox, :principal, :name, :account, :size, :modseq, :value)
    ON CONFLICT (mailbox, principal, name) DO UPDATE SET size = excluded.size,
        modseq = excluded.modseq, value = excluded.value
""")
DROP = sql("""
    DELETE FROM mailbox_annotation
    WHERE mailbox = :mailbox AND principal = :principal AND name = :name
""")

# To a client that keeps up by modseq it is a change of the mailbox as any other: RFC 7162 §3.2.
NOTED = sql("UPDATE mailbox SET modseq = :modseq, changed_modseq = :modseq WHERE id = :id")

SERVER_NAMES = sql("SELECT name, length(value) FROM server_annotation WHERE account = :account")
SERVER_VALUES = sql("""
    SELECT name, value FROM server_annotation WHERE account = :account AND name IN {names:text}
""")
SERVER_MARKS = sql("SELECT name, modseq FROM server_annotation WHERE account = :account")
SERVER_KEPT = sql("SELECT name FROM server_annotation WHERE account = :account")
SERVER_PUT = sql("""
    INSERT INTO server_annotation (account, name, size, modseq, value)
    VALUES (:account, :name, :size, :modseq, :value)
    ON CONFLICT (account, name) DO UPDATE SET size = excluded.size, modseq = excluded.modseq,
        value = excluded.value
""")
SERVER_DROP = sql("DELETE FROM server_annotation WHERE account = :account AND name = :name")

HELD = sql("""
    SELECT (SELECT coalesce(sum(size), 0) FROM mailbox_annotation WHERE account = :account)
        + (SELECT coalesce(sum(size), 0) FROM server_annotation WHERE account = :account)
""")

# What an account that goes had noted anywhere.
ERASE_ANNOTATIONS = (
    sql("""
        DELETE FROM mailbox_annotation WHERE (mailbox, principal, name) IN (
            SELECT mailbox, principal, name FROM mailbox_annotation
            WHERE account = :account LIMIT :limit)
    """),
    sql("""
        DELETE FROM server_annotation WHERE (account, name) IN (
            SELECT account, name FROM server_annotation WHERE account = :account LIMIT :limit)
    """),
)
