"""Statements over all mailboxes: what they say of themselves beside what they hold."""

from __future__ import annotations

from postroom.store.sql import sql

MAILBOXES_AFTER = sql("""
    SELECT id, account, uidnext, modseq, total, unseen, deleted, size FROM mailbox
    WHERE id > :after ORDER BY id LIMIT :limit
""")
LAST_UID = sql("SELECT coalesce(max(uid), 0) FROM placement WHERE mailbox = :mailbox")
# The highest UID and modseq that were ever given in a mailbox, as far as anything remembers.
MAILBOX_HIGHEST = sql("""
    SELECT coalesce(max(uid), 0), coalesce(max(modseq), 0) FROM (
        SELECT max(uid) AS uid, max(created_modseq) AS modseq FROM placement
            WHERE mailbox = :mailbox
        UNION ALL SELECT 0, max(modseq) FROM flag_block WHERE mailbox = :mailbox
        UNION ALL SELECT max(key), max(modseq) FROM tombstone
            WHERE account = :account AND type = 1 AND container = :mailbox
        UNION ALL SELECT max(uid), 0 FROM recoverable
            WHERE account = :account AND mailbox = :mailbox) h
""")
CORRECT_MAILBOX = sql("""
    UPDATE mailbox SET total = :total, unseen = :unseen, deleted = :deleted, size = :size,
        uidnext = CASE WHEN uidnext > :last THEN uidnext ELSE :last + 1 END,
        modseq = CASE WHEN modseq >= :modseq THEN modseq ELSE :modseq END
    WHERE id = :id
""")
ADRIFT = sql("""
    SELECT m.id FROM mailbox m WHERE m.id IN {ids} AND m.doomed = 0 AND m.parent <> 0
        AND NOT EXISTS (SELECT 1 FROM mailbox p
            WHERE p.id = m.parent AND p.id <> m.id AND p.account = m.account AND p.doomed = 0)
""")
ACCOUNTS_AFTER = sql("""
    SELECT id, modseq, used_bytes, used_messages FROM account WHERE id > :after
    ORDER BY id LIMIT :limit
""")
ACCOUNT_TRUTH = sql("""
    SELECT coalesce(sum(size), 0), coalesce(sum(total), 0) FROM mailbox WHERE account = :account
""")
# The highest modseq that was ever given in an account, as far as its log remembers.
ACCOUNT_HIGHEST = sql("""
    SELECT max(modseq) FROM (
        SELECT max(modseq) AS modseq FROM mailbox WHERE account = :account
        UNION ALL SELECT max(changed_modseq) FROM mailbox WHERE account = :account
        UNION ALL SELECT max(modseq) FROM tombstone WHERE account = :account
        UNION ALL SELECT max(modseq) FROM type_state WHERE account = :account
        UNION ALL SELECT floor_modseq FROM account WHERE id = :account) h
""")
CORRECT_ACCOUNT = sql("""
    UPDATE account SET used_bytes = :octets, used_messages = :messages,
        modseq = CASE WHEN modseq >= :modseq THEN modseq ELSE :modseq END
    WHERE id = :id
""")
MESSAGES_AFTER = sql("""
    SELECT m.id, m.account, m.blob, b.size, d.version, m.created_modseq
    FROM message m LEFT JOIN blob b ON b.id = m.blob LEFT JOIN parsed d ON d.blob = m.blob
    WHERE m.id > :after ORDER BY m.id LIMIT :limit
""")
ODD_PLACEMENTS = sql("""
    SELECT p.mailbox, p.uid, p.message FROM placement p
    LEFT JOIN message m ON m.id = p.message LEFT JOIN mailbox b ON b.id = p.mailbox
    WHERE p.message IN {ids}
        AND (m.id IS NULL OR b.id IS NULL OR m.blob <> p.blob OR m.account <> b.account)
""")
ODD_SIZES = sql("""
    SELECT p.mailbox, p.uid FROM placement p JOIN blob b ON b.id = p.blob
    WHERE p.message IN {ids} AND p.size <> b.size
""")
UNPLACED = sql("""
    SELECT m.id FROM message m WHERE m.id IN {ids}
        AND NOT EXISTS (SELECT 1 FROM placement p WHERE p.message = m.id)
        AND NOT EXISTS (SELECT 1 FROM recoverable r WHERE r.message = m.id)
""")

# --- after a whole restore (domain.backup) ------------------------------------------------------

RENUMBER_ACCOUNTS = sql("""
    UPDATE account SET modseq = modseq + :modseqs, floor_modseq = modseq + :modseqs,
        rights_epoch = rights_epoch + 1
""")
RENUMBER_MAILBOXES = sql("""
    UPDATE mailbox SET uidnext = CASE WHEN uidnext < :most THEN uidnext + :uids ELSE uidnext END,
        modseq = (SELECT a.modseq FROM account a WHERE a.id = mailbox.account),
        changed_modseq = (SELECT a.modseq FROM account a WHERE a.id = mailbox.account)
""")
RENUMBER_TYPES = sql("""
    UPDATE type_state SET modseq = (SELECT a.modseq FROM account a WHERE a.id = type_state.account)
""")
