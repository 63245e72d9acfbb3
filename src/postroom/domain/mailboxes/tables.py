"""The tables of mail that is kept, and every statement on them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text

from postroom.store.schema import BYTES, INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import Picking, Statement, sql

_DOOMED = text("doomed = 1")

TYPE_STATE = narrow(
    "type_state",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("type", INT, primary_key=True),  # events.Type
    column("modseq", INT),
)

MAILBOX = wide(
    "mailbox",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("account", INT, ForeignKey("account.id", ondelete="RESTRICT")),
    column("parent", INT),  # 0 at the top
    column("name", TEXT),
    column("role", TEXT),  # RFC 6154 without the backslash, in lower case; inbox; or empty
    column("subscribed", INT),
    column("uidvalidity", INT),
    column("uidnext", INT),
    column("modseq", INT),  # of the last change of its content, or of what is noted on it
    column("total", INT),
    column("unseen", INT),
    column("deleted", INT),
    column("size", INT),
    column("created_modseq", INT),
    column("changed_modseq", INT),  # of the last change of the mailbox itself
    column("doomed", INT),  # 1 while a job empties it: it is out of sight already
    UniqueConstraint("account", "parent", "name"),
    Index("mailbox_account", "account"),
    # Of the few that are doomed, so that the job which looks for them reads no others.
    Index("mailbox_doomed", "id", sqlite_where=_DOOMED, postgresql_where=_DOOMED),
)

MESSAGE = wide(
    "message",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),  # EMAILID: RFC 8474
    column("account", INT, ForeignKey("account.id", ondelete="RESTRICT")),
    column("blob", INT, ForeignKey("blob.id", ondelete="RESTRICT")),
    column("thread", INT),  # THREADID
    column("received_at", INT),
    column("created_modseq", INT),
    Index("message_thread", "account", "thread"),
    Index("message_blob", "blob"),
)

PARSED = wide(
    "parsed",
    MAIL,
    column("blob", INT, ForeignKey("blob.id", ondelete="CASCADE"), primary_key=True,
           autoincrement=False),
    column("version", INT),  # of the maker: an older one is made again
    column("header_size", INT),
    column("sent_at", INT, nullable=True),
    column("attachment", INT),
    column("envelope", BYTES),
    column("structure", BYTES),
    column("layout", BYTES),
    column("message_id", BYTES, nullable=True),
    column("subject", TEXT),
    column("subject_base", TEXT),
    column("sort_from", TEXT),
    column("sort_to", TEXT),
    column("sort_cc", TEXT),
    column("preview", TEXT),
)  # fmt: skip

PLACEMENT = narrow(
    "placement",
    MAIL,
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="RESTRICT"), primary_key=True),
    column("uid", INT, primary_key=True),
    column("message", INT, ForeignKey("message.id", ondelete="RESTRICT")),
    column("blob", INT),
    column("size", INT),
    column("received_at", INT),
    column("flags", INT),  # that it came with; what became of them since: `marks`
    column("created_modseq", INT),
    column("saved_at", INT),  # RFC 8514
    Index("placement_message", "message"),
)

KEYWORD = narrow(
    "keyword",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("bit", INT, primary_key=True),
    column("name", TEXT),  # as it was first written
)

THREAD_REF = narrow(
    "thread_ref",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("reference", INT, primary_key=True),  # a hash of the Message-ID
    column("subject", INT, primary_key=True),  # a hash of the base subject: RFC 8621 §3
    column("thread", INT),
    Index("thread_ref_thread", "account", "thread"),
)

TOMBSTONE = narrow(
    "tombstone",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("type", INT, primary_key=True),
    column("container", INT, primary_key=True),  # the mailbox of a placement, else 0
    column("modseq", INT, primary_key=True),
    column("key", INT, primary_key=True),  # uid or id
    column("at", INT),
    Index("tombstone_at", "at"),
    Index("tombstone_modseq", "account", "modseq"),
)

# How many tombstones an account has, so that who has too many is found without a count of all.
TOMBSTONE_COUNT = narrow(
    "tombstone_count",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("held", INT),
    Index("tombstone_count_held", "held"),
)

RECOVERABLE = narrow(
    "recoverable",
    MAIL,
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE"), primary_key=True),
    column("mailbox", INT, primary_key=True),  # from where; it may be gone itself
    column("uid", INT, primary_key=True),
    column("message", INT, ForeignKey("message.id", ondelete="RESTRICT")),
    column("path", TEXT),  # of the mailbox at that time
    column("flags", INT),
    column("received_at", INT),
    column("until", INT),
    Index("recoverable_until", "until"),
    Index("recoverable_message", "message"),
)

# What copies of several units have placed so far: see `unfinished`.
COPIED = narrow(
    "copied",
    MAIL,
    column("copying", INT, primary_key=True),
    column("first", INT, primary_key=True),  # UIDs
    column("last", INT),
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE")),
    column("holder", INT),  # the worker that copies, as leases name it
    Index("copied_holder", "holder"),
    Index("copied_mailbox", "mailbox"),
)

# --- the account and its change log -----------------------------------------------------------

LOCK_ACCOUNTS = sql("""
    SELECT id, modseq, next_uidvalidity, used_bytes, used_messages FROM account
    WHERE id IN {ids} ORDER BY id {for update}
""")
ADVANCE = sql("""
    UPDATE account SET modseq = :modseq, used_bytes = used_bytes + :octets,
        used_messages = used_messages + :messages, next_uidvalidity = :next_uidvalidity
    WHERE id = :id
""")
TYPE_CHANGED = sql("""
    INSERT INTO type_state (account, type, modseq) VALUES (:account, :type, :modseq)
    ON CONFLICT (account, type) DO UPDATE SET modseq = excluded.modseq
""")
ACCOUNT_STATE = sql("SELECT modseq, floor_modseq, rights_epoch FROM account WHERE id = :id")
USAGE = sql("SELECT used_bytes, used_messages FROM account WHERE id = :id")
TYPE_STATES = sql("SELECT type, modseq FROM type_state WHERE account = :account")

# --- mailboxes ----------------------------------------------------------------------------------

_MAILBOX = """id, account, parent, name, role, subscribed, uidvalidity, uidnext, modseq, total,
    unseen, deleted, size, created_modseq, changed_modseq"""
TREE = sql(f"SELECT {_MAILBOX} FROM mailbox WHERE account = :account AND doomed = 0")
MAILBOX_NAMED = sql(f"""
    SELECT {_MAILBOX} FROM mailbox
    WHERE account = :account AND parent = :parent AND name = :name AND doomed = 0
""")
MAILBOX_ROW = sql(f"SELECT {_MAILBOX} FROM mailbox WHERE id = :id AND doomed = 0")
MAILBOXES_BY_ID = sql(f"SELECT {_MAILBOX} FROM mailbox WHERE id IN {{ids}} AND doomed = 0")
MAILBOX_MODSEQ = sql("SELECT modseq FROM mailbox WHERE id = :id AND doomed = 0")
BY_ROLE = sql(f"""
    SELECT {_MAILBOX} FROM mailbox WHERE account = :account AND role = :role AND doomed = 0
""")
INSERT_MAILBOX = sql("""
    INSERT INTO mailbox (id, account, parent, name, role, subscribed, uidvalidity, uidnext, modseq,
        total, unseen, deleted, size, created_modseq, changed_modseq, doomed)
    VALUES (:id, :account, :parent, :name, :role, :subscribed, :uidvalidity, 1, :modseq,
        0, 0, 0, 0, :modseq, :modseq, 0)
""")
RENAME_MAILBOX = sql("""
    UPDATE mailbox SET parent = :parent, name = :name, changed_modseq = :modseq WHERE id = :id
""")
SUBSCRIBE = sql("""
    UPDATE mailbox SET subscribed = :subscribed, changed_modseq = :modseq
    WHERE id = :id AND subscribed <> :subscribed
""")
SET_ROLE = sql("UPDATE mailbox SET role = :role, changed_modseq = :modseq WHERE id = :id")
# Its own parent: the name is free again at once, and no living mailbox can have this place. Its
# name becomes the whole path, which its messages remember when they become recoverable.
DOOM = sql("""
    UPDATE mailbox SET doomed = 1, role = '', parent = id, name = :path, changed_modseq = :modseq
    WHERE id = :id
""")
DOOMED = sql("SELECT id, account, name FROM mailbox WHERE doomed = 1 ORDER BY id LIMIT :limit")
DELETE_MAILBOX = sql("DELETE FROM mailbox WHERE id = :id AND doomed = 1")
COUNT = sql("""
    UPDATE mailbox SET uidnext = uidnext + :uids, modseq = :modseq, total = total + :total,
        unseen = unseen + :unseen, deleted = deleted + :deleted, size = size + :size
    WHERE id = :id RETURNING uidnext
""")

# --- messages and placements ------------------------------------------------------------------


INSERT_MESSAGE = sql("""
    INSERT INTO message (id, account, blob, thread, received_at, created_modseq)
    VALUES (:id, :account, :blob, :thread, :received_at, :modseq)
""")
INSERT_PARSED = sql("""
    INSERT INTO parsed (blob, version, header_size, sent_at, attachment, envelope, structure,
        layout, message_id, subject, subject_base, sort_from, sort_to, sort_cc, preview)
    VALUES (:blob, :version, :header_size, :sent_at, :attachment, :envelope, :structure,
        :layout, :message_id, :subject, :subject_base, :sort_from, :sort_to, :sort_cc, :preview)
    ON CONFLICT (blob) DO UPDATE SET version = excluded.version,
        header_size = excluded.header_size, sent_at = excluded.sent_at,
        attachment = excluded.attachment, envelope = excluded.envelope,
        structure = excluded.structure, layout = excluded.layout,
        message_id = excluded.message_id, subject = excluded.subject,
        subject_base = excluded.subject_base, sort_from = excluded.sort_from,
        sort_to = excluded.sort_to, sort_cc = excluded.sort_cc, preview = excluded.preview
""")
INSERT_PLACEMENT = sql("""
    INSERT INTO placement (mailbox, uid, message, blob, size, received_at, flags, created_modseq,
        saved_at)
    VALUES (:mailbox, :uid, :message, :blob, :size, :received_at, :flags, :modseq, :now)
""")
COPY_PLACEMENTS = Picking("""
    INSERT INTO placement (mailbox, uid, message, blob, size, received_at, flags, created_modseq,
        saved_at)
    SELECT :target, :base + row_number() OVER (ORDER BY uid) - 1, message, blob, size, received_at,
        flags, :modseq, :now
    FROM placement WHERE mailbox = :mailbox AND <pick>
""")
REFERENCES = sql("""
    SELECT reference, thread FROM thread_ref
    WHERE account = :account AND subject = :subject AND reference IN {references}
""")
INSERT_REFERENCE = sql("""
    INSERT INTO thread_ref (account, reference, subject, thread)
    VALUES (:account, :reference, :subject, :thread)
    ON CONFLICT (account, reference, subject) DO UPDATE SET thread = excluded.thread
""")
THREAD_SIZE = sql("""
    SELECT thread, count(*) FROM message WHERE account = :account AND thread IN {threads}
    GROUP BY thread
""")
MOVE_THREAD = sql("""
    UPDATE message SET thread = :into WHERE account = :account AND thread = :thread
""")
MOVE_REFERENCES = sql("""
    UPDATE thread_ref SET thread = :into WHERE account = :account AND thread = :thread
""")
PARSED_VERSION = sql("SELECT version FROM parsed WHERE blob = :blob")
MESSAGES_OF_BLOB = sql("SELECT id, account, thread FROM message WHERE blob = :blob")

UIDS = sql("SELECT uid FROM placement WHERE mailbox = :mailbox ORDER BY uid")
FIRST_UIDS = sql("""
    SELECT uid FROM placement WHERE mailbox = :mailbox ORDER BY uid LIMIT :limit
""")
UIDS_CREATED = sql("""
    SELECT uid FROM placement
    WHERE mailbox = :mailbox AND uid >= :first ORDER BY uid
""")
# Whatever came after `since` lies above all that was there then; of the rest, the log says what
# changed. In one statement: it is asked by every session at every change. Not in order.
CHANGED = sql("""
    SELECT uid, flags, created_modseq, NULL FROM placement
    WHERE mailbox = :mailbox AND uid > coalesce((
        SELECT uid FROM placement WHERE mailbox = :mailbox AND created_modseq <= :since
        ORDER BY uid DESC LIMIT 1), 0)
    UNION ALL
    SELECT block, 0, modseq, groups FROM flag_block
    WHERE mailbox = :mailbox AND modseq > :since
""")
LAST_BEFORE = sql("""
    SELECT uid FROM placement WHERE mailbox = :mailbox AND created_modseq <= :since
    ORDER BY uid DESC LIMIT 1
""")
CAME_IN = sql("""
    SELECT uid, flags, created_modseq FROM placement
    WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND created_modseq > :since
    ORDER BY uid LIMIT :limit
""")
VANISHED = sql("""
    SELECT key FROM tombstone
    WHERE account = :account AND type = 1 AND container = :mailbox AND modseq > :since
    ORDER BY key
""")
# Flags and modseq are those that it came with; `marks` says what became of them.
FLAGS = Picking("""
    SELECT uid, flags, created_modseq FROM placement WHERE mailbox = :mailbox AND <pick>
    ORDER BY uid LIMIT :limit
""")
FLAG_SETS = sql("""
    SELECT uid, flags FROM placement WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last
    ORDER BY uid
""")
HELD = Picking("""
    SELECT uid, flags, size FROM placement WHERE mailbox = :mailbox AND <pick> ORDER BY uid
""")
_BRIEF = "p.uid, p.flags, p.created_modseq, p.size, p.received_at, p.saved_at, p.message, p.blob"
BRIEF = Picking(f"""
    SELECT {_BRIEF} FROM placement p WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid LIMIT :limit
""")
META = Picking(f"""
    SELECT {_BRIEF}, d.envelope, d.structure FROM placement p JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid LIMIT :limit
""")
PLACED = Picking("""
    SELECT uid, size, received_at FROM placement
    WHERE mailbox = :mailbox AND <pick> ORDER BY uid
""")
# What most listings tell and what never changes.
LISTED = Picking("""
    SELECT p.uid, p.size, p.received_at, d.envelope, d.structure, d.version
    FROM placement p JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid
""")
FULL = Picking(f"""
    SELECT {_BRIEF}, d.envelope, d.structure, d.layout, d.header_size, d.preview
    FROM placement p JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid LIMIT :limit
""")
# What SEARCH looks at; a message whose parse is missing is still a row.
SEARCHED = Picking(f"""
    SELECT {_BRIEF}, d.subject, d.sent_at, d.header_size
    FROM placement p LEFT JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid
""")
SUBJECTS = sql("""
    SELECT p.uid, d.subject, d.version FROM placement p LEFT JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND p.uid BETWEEN :first AND :last ORDER BY p.uid
""")


def _sorted_by(column: str) -> Statement:
    return sql(f"""
        SELECT p.uid, {column}, d.version FROM placement p LEFT JOIN parsed d ON d.blob = p.blob
        WHERE p.mailbox = :mailbox AND p.uid BETWEEN :first AND :last ORDER BY p.uid
    """)


# By the keys of RFC 5256 §3 and RFC 5957 §4, which are made from an envelope; a message whose parse
# is missing is still a row.
SORTED_BY: Final = {
    "ARRIVAL": _sorted_by("p.received_at"),
    "CC": _sorted_by("d.sort_cc"),
    "DATE": _sorted_by("coalesce(d.sent_at, p.received_at)"),
    "DISPLAYFROM": _sorted_by("d.envelope"),
    "DISPLAYTO": _sorted_by("d.envelope"),
    "FROM": _sorted_by("d.sort_from"),
    "SIZE": _sorted_by("p.size"),
    "SUBJECT": _sorted_by("d.subject_base"),
    "TO": _sorted_by("d.sort_to"),
}
TO_JOIN = sql("""
    SELECT p.uid, p.blob, d.header_size, d.message_id, d.subject,
        coalesce(d.sent_at, p.received_at), d.version
    FROM placement p LEFT JOIN parsed d ON d.blob = p.blob
    WHERE p.mailbox = :mailbox AND p.uid BETWEEN :first AND :last ORDER BY p.uid
""")
# With the content, where that lies in its row as it is.
WHOLE = Picking(f"""
    SELECT {_BRIEF}, CASE WHEN b.place = 0 AND (b.frames IS NULL OR length(b.frames) = 0)
        THEN b.data END
    FROM placement p JOIN blob b ON b.id = p.blob
    WHERE p.mailbox = :mailbox AND <pick> ORDER BY uid
""")
# Parts of several contents; NULL where the content does not lie in its row as it is.
PARTS = sql("""
    SELECT n, CASE WHEN b.place = 0 AND (b.frames IS NULL OR length(b.frames) = 0)
        THEN substr(b.data, CAST(first AS integer), CAST(octets AS integer)) END
    FROM {wanted(n,part,first,octets)} JOIN blob b ON b.id = part ORDER BY n
""")
DIGESTS = sql("""
    SELECT p.uid, b.sha256 FROM placement p JOIN blob b ON b.id = p.blob
    WHERE p.mailbox = :mailbox AND p.uid >= :first ORDER BY p.uid LIMIT :limit
""")
THREADS_OF = sql("SELECT id, thread FROM message WHERE id IN {ids}")
CAME_UNSEEN = sql("""
    SELECT uid FROM placement
    WHERE mailbox = :mailbox AND uid BETWEEN :first AND :last AND (flags & 1) = 0
    ORDER BY uid LIMIT :limit
""")
COUNT_FROM = sql("SELECT count(*) FROM placement WHERE mailbox = :mailbox AND uid >= :first")
CAME_FLAGGED = sql("""
    SELECT uid FROM placement WHERE mailbox = :mailbox AND (flags & :mask) = :mask ORDER BY uid
""")
KEYWORDS = sql("SELECT bit, name FROM keyword WHERE account = :account ORDER BY bit")
INSERT_KEYWORD = sql("INSERT INTO keyword (account, bit, name) VALUES (:account, :bit, :name)")

# --- removal ------------------------------------------------------------------------------------

TO_RECOVERABLE = Picking("""
    INSERT INTO recoverable (account, mailbox, uid, message, path, flags, received_at, until)
    SELECT :account, mailbox, uid, message, :path, :flags, received_at, :until FROM placement
    WHERE mailbox = :mailbox AND <pick>
""")
TO_TOMBSTONES = Picking("""
    INSERT INTO tombstone (account, type, container, modseq, key, at)
    SELECT :account, 1, mailbox, :modseq, uid, :now FROM placement
    WHERE mailbox = :mailbox AND <pick>
""")
ADD_TOMBSTONE = sql("""
    INSERT INTO tombstone (account, type, container, modseq, key, at)
    VALUES (:account, :type, :container, :modseq, :key, :now)
""")
COUNT_TOMBSTONES = sql("""
    INSERT INTO tombstone_count (account, held) VALUES (:account, :more)
    ON CONFLICT (account) DO UPDATE SET held = tombstone_count.held + excluded.held
""")
NOTE_COPIED = sql("""
    INSERT INTO copied (copying, first, last, mailbox, holder)
    VALUES (:copying, :first, :last, :mailbox, :holder)
""")
LEFT_COPIED = sql("""
    SELECT c.copying, b.account, c.mailbox, c.first, c.last
    FROM copied c JOIN mailbox b ON b.id = c.mailbox WHERE c.holder IN {holders}
    ORDER BY c.copying, c.first LIMIT 1
""")
FORGET_COPIED = sql("DELETE FROM copied WHERE copying = :copying AND first = :first")
FORGET_COPYING = sql("DELETE FROM copied WHERE copying = :copying")
REMOVE_PLACEMENTS = Picking("DELETE FROM placement WHERE mailbox = :mailbox AND <pick>")
EXPIRED_RECOVERABLE = sql("""
    SELECT account, mailbox, uid, message FROM recoverable WHERE until <= :now
    ORDER BY until LIMIT :limit
""")
FORGET_RECOVERABLE = sql("""
    DELETE FROM recoverable WHERE account = :account AND mailbox = :mailbox AND uid = :uid
""")
RECOVERABLE_ROWS = sql("""
    SELECT mailbox, uid, message, path, flags, received_at, until FROM recoverable
    WHERE account = :account ORDER BY until DESC, uid DESC LIMIT :limit
""")
RECOVERABLE_AFTER = sql("""
    SELECT r.mailbox, r.uid, r.message, r.path, b.size FROM recoverable r
    JOIN message m ON m.id = r.message JOIN blob b ON b.id = m.blob
    WHERE r.account = :account AND r.until > :now AND (r.mailbox, r.uid) > (:mailbox, :uid)
    ORDER BY r.mailbox, r.uid LIMIT :limit
""")
RECOVERABLE_PICKED = sql("""
    SELECT r.uid, r.message, m.blob, b.size, r.flags, r.received_at FROM recoverable r
    JOIN message m ON m.id = r.message JOIN blob b ON b.id = m.blob
    WHERE r.account = :account AND r.mailbox = :mailbox AND r.uid IN {uids} AND r.until > :now
    ORDER BY r.uid
""")
REMOVED_SINCE = sql("""
    SELECT container, key FROM tombstone WHERE account = :account AND type = 1 AND at >= :since
""")
LIES_IN = sql("SELECT message FROM placement WHERE message IN {ids} AND mailbox = :mailbox")
FORGET_MESSAGES = sql("""
    DELETE FROM message WHERE id IN {ids}
        AND NOT EXISTS (SELECT 1 FROM placement p WHERE p.message = message.id)
        AND NOT EXISTS (SELECT 1 FROM recoverable r WHERE r.message = message.id)
""")
PRUNE_TOMBSTONES = sql("""
    DELETE FROM tombstone WHERE account = :account AND modseq <= :floor
""")
RAISE_FLOOR = sql("""
    UPDATE account SET floor_modseq = :floor WHERE id = :account AND floor_modseq < :floor
""")
CROWDED = sql("""
    SELECT account, held FROM tombstone_count WHERE held > :most ORDER BY held DESC LIMIT 1
""")
NTH_TOMBSTONE = sql("""
    SELECT modseq FROM tombstone WHERE account = :account ORDER BY modseq LIMIT 1 OFFSET :n
""")
OLD_TOMBSTONES = sql("""
    SELECT account, modseq FROM tombstone WHERE at < :before ORDER BY at LIMIT :limit
""")

# What a deleted account owned, in pieces.
PLACED_BOX = sql("""
    SELECT b.id FROM mailbox b
    WHERE b.account = :account AND EXISTS (SELECT 1 FROM placement p WHERE p.mailbox = b.id)
    ORDER BY b.id LIMIT 1
""")


def _erasing(table: str, key: str) -> Statement:
    return sql(f"""
        DELETE FROM {table} WHERE ({key}) IN (
            SELECT {key} FROM {table} WHERE account = :account LIMIT :limit)
    """)


# In this order: what refers to another row goes before it.
ERASE = (
    _erasing("recoverable", "account, mailbox, uid"),
    _erasing("message", "id"),
    _erasing("mailbox", "id"),
    _erasing("thread_ref", "account, reference, subject"),
    _erasing("keyword", "account, bit"),
    _erasing("tombstone", "account, type, container, modseq, key"),
    _erasing("tombstone_count", "account"),
    _erasing("type_state", "account, type"),
)

# --- where a message lies -----------------------------------------------------------------------

WHEREABOUTS = sql("""
    SELECT p.message, p.mailbox, p.uid, p.flags, b.account FROM placement p
    JOIN mailbox b ON b.id = p.mailbox WHERE p.message IN {ids} ORDER BY p.message, p.mailbox, p.uid
""")
RECOVERABLE_OF = sql("""
    SELECT message, mailbox, uid, path, until FROM recoverable WHERE message IN {ids}
""")
