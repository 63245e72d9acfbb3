"""The directory's tables: domains, accounts, principals, credentials, keys, aliases."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text

from postroom.store.schema import BYTES, INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

_GONE = text("kind = 'gone'")

DOMAIN = wide(
    "domain",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("name", TEXT, unique=True),  # lowercase A-labels; see VACATE_DOMAIN
    column("gone", INT),  # 1 if it was deleted, and deleted accounts of it can be brought back
    column("created_at", INT),
)

PRINCIPAL = wide(
    "principal",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),  # a person's account has the same
    column("name", TEXT),
    column("name_key", TEXT),  # by which people of one name are found: people.name_key
    column("role", TEXT),  # user, domain-admin, admin
    column("state", TEXT),  # active, frozen, disabled
    column("epoch", INT),  # raised when rights or credentials change: sessions notice
    column("created_at", INT),
    Index("principal_name_key", "name_key"),
)

ACCOUNT = wide(
    "account",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("kind", TEXT),  # person, public, list, archive; gone
    column("domain", INT, ForeignKey("domain.id", ondelete="RESTRICT")),
    column("local", TEXT),  # as the administrator wrote it
    column("local_key", TEXT),  # casefolded: what is compared
    column("modseq", INT),
    column("floor_modseq", INT),  # below it a client resynchronises in full
    column("rights_epoch", INT),
    column("next_uidvalidity", INT),
    column("used_bytes", INT),
    column("used_messages", INT),
    column("created_at", INT),
    column("erase_at", INT),  # of one that is gone: when its content goes; 0: that has begun
    UniqueConstraint("domain", "local_key"),
    # Of the few that are gone, so that the job which looks for them reads no others.
    Index("account_gone", "id", sqlite_where=_GONE, postgresql_where=_GONE),
)

CREDENTIAL = wide(
    "credential",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("principal", INT, ForeignKey("principal.id", ondelete="CASCADE")),
    column("kind", TEXT),  # password, scram-sha-256
    column("secret", TEXT),  # a verifier: Argon2id as PHC has it, or SCRAM as RFC 5803; one-way
    column("created_at", INT),
    Index("credential_principal", "principal", "kind"),
)

FORMER_CREDENTIAL = narrow(
    "former_credential",
    MAIL,
    column("principal", INT, ForeignKey("principal.id", ondelete="CASCADE"), primary_key=True),
    column("since", INT, primary_key=True),  # the change set that set this password; 0: none
    column("kind", TEXT, primary_key=True),
    column("secret", TEXT),
    column("replaced_at", INT),
    Index("former_credential_replaced", "replaced_at"),
)

ALIAS = wide(
    "alias",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("domain", INT, ForeignKey("domain.id", ondelete="RESTRICT")),
    column("pattern", TEXT),  # casefolded local part, with * and ? as wildcards
    column("wild", INT),  # 1 if it has a wildcard
    column("target", TEXT),  # an address
    column("created_at", INT),
    UniqueConstraint("domain", "pattern", "target"),
)

FOLDER_ADDRESS = narrow(
    "folder_address",
    MAIL,
    column("domain", INT, ForeignKey("domain.id", ondelete="RESTRICT"), primary_key=True),
    column("local_key", TEXT, primary_key=True),  # casefolded local part
    column("local", TEXT),  # as it is written
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE")),
    column("anybody", INT),  # 1: anybody may post; 0: who has the right to
    column("created_at", INT),
    Index("folder_address_mailbox", "mailbox"),
)

HOUSE_KEY = narrow(
    "house_key",
    MAIL,
    column("name", TEXT, primary_key=True),  # what it is good for
    column("value", BYTES),  # random; never shown
    column("created_at", INT),
)

# --- statements -------------------------------------------------------------------------------

DOMAIN_BY_NAME = sql("SELECT id, name, created_at FROM domain WHERE name = :name")
DOMAIN_BY_ID = sql("SELECT id, name, created_at, gone FROM domain WHERE id = :id")
LOCK_DOMAIN = sql("SELECT id FROM domain WHERE id = :id {for update}")
DOMAINS = sql("SELECT id, name, created_at FROM domain WHERE gone = 0 ORDER BY name")
INSERT_DOMAIN = sql("""
    INSERT INTO domain (id, name, gone, created_at) VALUES (:id, :name, 0, :now)
""")
# The name it is given is none of a domain, so its own name is free.
VACATE_DOMAIN = sql("UPDATE domain SET gone = 1, name = :name WHERE id = :id")
RETURN_DOMAIN = sql("UPDATE domain SET gone = 0, name = :name WHERE id = :id AND gone = 1")
DELETE_DOMAIN = sql("""
    DELETE FROM domain WHERE id = :id
        AND NOT EXISTS (SELECT 1 FROM account a WHERE a.domain = domain.id)
""")
DELETE_VACANT = sql("""
    DELETE FROM domain WHERE gone = 1 AND id = :id
        AND NOT EXISTS (SELECT 1 FROM account a WHERE a.domain = domain.id)
""")
DOMAIN_USE = sql("""
    SELECT (SELECT count(*) FROM account WHERE domain = :id AND kind <> 'gone'),
        (SELECT count(*) FROM alias WHERE domain = :id)
""")

_ACCOUNT = """a.id, a.kind, a.domain, d.name, a.local, p.name, p.role, p.state, a.used_bytes,
    a.used_messages, a.created_at"""
_JOINED = "account a JOIN domain d ON d.id = a.domain JOIN principal p ON p.id = a.id"
ACCOUNT_BY_KEY = sql(f"""
    SELECT {_ACCOUNT} FROM {_JOINED} WHERE a.domain = :domain AND a.local_key = :key
""")
ACCOUNT_BY_ID = sql(f"SELECT {_ACCOUNT} FROM {_JOINED} WHERE a.id = :id")
ACCOUNTS_BY_ID = sql(f"SELECT {_ACCOUNT} FROM {_JOINED} WHERE a.id IN {{ids}}")
ACCOUNTS = sql(f"""
    SELECT {_ACCOUNT} FROM {_JOINED}
    WHERE a.kind = 'person' AND (d.name = :domain OR :domain = '')
    ORDER BY d.name, a.local_key LIMIT :limit
""")
# What RCPT asks, in one statement: the account's id and whether it may receive.
DELIVERY_TARGET = sql("""
    SELECT a.id, a.local, p.state FROM account a JOIN principal p ON p.id = a.id
    WHERE a.domain = :domain AND a.local_key = :key
""")
INSERT_PRINCIPAL = sql("""
    INSERT INTO principal (id, name, name_key, role, state, epoch, created_at)
    VALUES (:id, :name, :key, :role, 'active', 1, :now)
""")
INSERT_ACCOUNT = sql("""
    INSERT INTO account (id, kind, domain, local, local_key, modseq, floor_modseq, rights_epoch,
        next_uidvalidity, used_bytes, used_messages, created_at, erase_at)
    VALUES (:id, 'person', :domain, :local, :key, 1, 0, 1, 1, 0, 0, :now, 0)
""")
INSERT_PUBLIC = sql("""
    INSERT INTO account (id, kind, domain, local, local_key, modseq, floor_modseq, rights_epoch,
        next_uidvalidity, used_bytes, used_messages, created_at, erase_at)
    VALUES (:id, 'public', :domain, '', :key, 1, 0, 1, 1, 0, 0, :now, 0)
""")
SET_STATE = sql("UPDATE principal SET state = :state, epoch = epoch + 1 WHERE id = :id")
SET_ROLE = sql("UPDATE principal SET role = :role, epoch = epoch + 1 WHERE id = :id")
SET_NAME = sql("UPDATE principal SET name = :name, name_key = :key WHERE id = :id")
NAMED = sql("""
    SELECT a.local, d.name FROM principal p
    JOIN account a ON a.id = p.id AND a.kind = 'person' JOIN domain d ON d.id = a.domain
    WHERE p.name_key = :key AND p.state <> 'disabled' ORDER BY a.id LIMIT 1
""")
RAISE_EPOCH = sql("UPDATE principal SET epoch = epoch + 1 WHERE id = :id")
PRINCIPAL_EPOCH = sql("SELECT epoch, state FROM principal WHERE id = :id")
VACATE_ACCOUNT = sql("""
    UPDATE account SET local_key = :key, kind = 'gone', erase_at = :erase_at WHERE id = :id
""")
RETURN_ACCOUNT = sql("""
    UPDATE account SET kind = 'person', domain = :domain, local = :local, local_key = :key,
        erase_at = 0
    WHERE id = :id AND kind = 'gone' AND erase_at > :now
""")
READDRESS = sql("""
    UPDATE account SET domain = :domain, local = :local, local_key = :key WHERE id = :id
""")
GONE_ACCOUNTS = sql("""
    SELECT id FROM account WHERE kind = 'gone' AND erase_at <= :now ORDER BY id LIMIT :limit
""")
RETURNABLE = sql(f"""
    SELECT {_ACCOUNT}, a.erase_at FROM {_JOINED}
    WHERE a.kind = 'gone' AND a.erase_at > :now ORDER BY a.erase_at, a.id LIMIT :limit
""")
BEGIN_ERASING = sql("""
    UPDATE account SET erase_at = 0 WHERE id = :id AND kind = 'gone' AND erase_at <= :now
""")
HASTEN_ERASING = sql("""
    UPDATE account SET erase_at = :now WHERE id = :id AND kind = 'gone' AND erase_at > :now
""")
DELETE_ACCOUNT = sql("DELETE FROM account WHERE id = :id AND kind = 'gone'")
DELETE_PRINCIPAL = sql("DELETE FROM principal WHERE id = :id")
ACCOUNT_DOMAIN = sql("SELECT domain FROM account WHERE id = :id")
LOCK_ADMINS = sql("""
    SELECT id FROM principal WHERE role = 'admin' AND state = 'active' ORDER BY id {for update}
""")

# All that a sign-in asks of the store, in one statement, so that a login that nobody has takes
# no step less: an account without a password has one row, with NULLs.
SIGN_IN = sql("""
    SELECT a.id, a.local, d.name, p.role, p.epoch, p.state, c.kind, c.secret
    FROM domain d
    JOIN account a ON a.domain = d.id AND a.local_key = :key
    JOIN principal p ON p.id = a.id
    LEFT JOIN credential c ON c.principal = p.id
    WHERE d.name = :domain
""")
LOCK_PRINCIPAL = sql("SELECT id FROM principal WHERE id = :id {for update}")
CREDENTIALS = sql("SELECT kind, secret FROM credential WHERE principal = :principal")
INSERT_CREDENTIAL = sql("""
    INSERT INTO credential (id, principal, kind, secret, created_at)
    VALUES (:id, :principal, :kind, :secret, :now)
""")
DELETE_CREDENTIAL = sql("DELETE FROM credential WHERE principal = :principal AND kind = :kind")
DELETE_CREDENTIALS = sql("DELETE FROM credential WHERE principal = :principal")

KEEP_CREDENTIALS = sql("""
    INSERT INTO former_credential (principal, since, kind, secret, replaced_at)
    SELECT principal, :since, kind, secret, :now FROM credential
    WHERE principal = :principal AND kind IN {kinds:text}
    ON CONFLICT (principal, since, kind)
    DO UPDATE SET secret = excluded.secret, replaced_at = excluded.replaced_at
""")
FORMER_CREDENTIALS = sql("""
    SELECT kind, secret FROM former_credential WHERE principal = :principal AND since = :since
""")
FORGET_FORMER = sql("DELETE FROM former_credential WHERE replaced_at < :before")

KEY_OF_HOUSE = sql("SELECT value FROM house_key WHERE name = :name")
INSERT_KEY = sql("""
    INSERT INTO house_key (name, value, created_at) VALUES (:name, :value, :now)
    ON CONFLICT (name) DO NOTHING
""")

ALIASES_EXACT = sql("""
    SELECT target FROM alias WHERE domain = :domain AND wild = 0 AND pattern = :pattern
    ORDER BY id LIMIT :limit
""")
ALIASES_WILD = sql("""
    SELECT pattern, target FROM alias WHERE domain = :domain AND wild = 1
    ORDER BY length(pattern) DESC, pattern, id LIMIT :limit
""")
ALIASES = sql("""
    SELECT l.id, l.pattern, d.name, l.target, l.created_at, l.wild
    FROM alias l JOIN domain d ON d.id = l.domain
    WHERE d.name = :domain OR :domain = '' ORDER BY d.name, l.pattern, l.id LIMIT :limit
""")
ONE_ALIAS = sql("""
    SELECT id FROM alias WHERE domain = :domain AND pattern = :pattern AND target = :target
""")
INSERT_ALIAS = sql("""
    INSERT INTO alias (id, domain, pattern, wild, target, created_at)
    VALUES (:id, :domain, :pattern, :wild, :target, :now)
""")
ALIAS_BY_ID = sql("""
    SELECT l.id, l.pattern, d.name, l.target, l.created_at, l.wild
    FROM alias l JOIN domain d ON d.id = l.domain WHERE l.id = :id
""")
ALIASES_OF = sql("""
    SELECT l.id, l.pattern, d.name, l.target, l.created_at, l.wild
    FROM alias l JOIN domain d ON d.id = l.domain
    WHERE l.domain = :domain AND l.pattern = :pattern AND (l.target = :target OR :target = '')
    ORDER BY l.id LIMIT :limit
""")
DELETE_ALIAS_BY_ID = sql("DELETE FROM alias WHERE id = :id")
ALIASES_TO = sql("""
    SELECT l.id, l.pattern, d.name, l.target, l.created_at, l.wild
    FROM alias l JOIN domain d ON d.id = l.domain WHERE l.target = :target
    ORDER BY l.id LIMIT :limit
""")
# Of a mailbox that is there, of an account that receives.
_FOLDERS = """FROM folder_address f
    JOIN mailbox b ON b.id = f.mailbox AND b.doomed = 0
    JOIN account a ON a.id = b.account AND a.kind <> 'gone'
    JOIN principal p ON p.id = a.id AND p.state <> 'disabled'
    JOIN domain d ON d.id = f.domain"""
FOLDER_TARGET = sql(f"""
    SELECT f.local, b.account, b.id, f.anybody, f.created_at {_FOLDERS}
    WHERE f.domain = :domain AND f.local_key = :key
""")
FOLDER_ADDRESSES = sql(f"""
    SELECT f.local, d.name, b.account, b.id, f.anybody, f.created_at {_FOLDERS}
    WHERE f.domain = :domain ORDER BY f.local_key LIMIT :limit
""")
TAKEN_BY_FOLDER = sql("""
    SELECT f.mailbox FROM folder_address f JOIN mailbox b ON b.id = f.mailbox AND b.doomed = 0
    WHERE f.domain = :domain AND f.local_key = :key
""")
PUT_FOLDER_ADDRESS = sql("""
    INSERT INTO folder_address (domain, local_key, local, mailbox, anybody, created_at)
    VALUES (:domain, :key, :local, :mailbox, :anybody, :now)
    ON CONFLICT (domain, local_key) DO UPDATE SET local = excluded.local,
        mailbox = excluded.mailbox, anybody = excluded.anybody, created_at = excluded.created_at
""")
DROP_FOLDER_ADDRESS = sql("""
    DELETE FROM folder_address WHERE domain = :domain AND local_key = :key
""")
DELETE_ALIASES_TO = sql("DELETE FROM alias WHERE target = :target")
