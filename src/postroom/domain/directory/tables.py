"""The directory's tables: domains, accounts, principals, credentials, aliases, settings."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text

from postroom.store.schema import INT, MAIL, TEXT, column, wide
from postroom.store.sql import sql

_GONE = text("kind = 'gone'")

DOMAIN = wide(
    "domain",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("name", TEXT, unique=True),  # lowercase A-labels
    column("created_at", INT),
)

PRINCIPAL = wide(
    "principal",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),  # a person's account has the same
    column("name", TEXT),
    column("role", TEXT),  # user, domain-admin, admin
    column("state", TEXT),  # active, frozen, disabled
    column("epoch", INT),  # raised when rights or credentials change: sessions notice
    column("created_at", INT),
)

ACCOUNT = wide(
    "account",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("kind", TEXT),  # person, public, list, archive
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
    UniqueConstraint("domain", "local_key"),
    # Of the few that are gone, so that the job which looks for them reads no others.
    Index("account_gone", "id", sqlite_where=_GONE, postgresql_where=_GONE),
)

CREDENTIAL = wide(
    "credential",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("principal", INT, ForeignKey("principal.id", ondelete="CASCADE")),
    column("kind", TEXT),  # password
    column("secret", TEXT),  # an Argon2id verifier in PHC form: never reversible
    column("created_at", INT),
    Index("credential_principal", "principal", "kind"),
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

# --- statements -------------------------------------------------------------------------------

DOMAIN_BY_NAME = sql("SELECT id, name, created_at FROM domain WHERE name = :name")
LOCK_DOMAIN = sql("SELECT id FROM domain WHERE id = :id {for update}")
DOMAINS = sql("SELECT id, name, created_at FROM domain ORDER BY name")
INSERT_DOMAIN = sql("INSERT INTO domain (id, name, created_at) VALUES (:id, :name, :now)")
DELETE_DOMAIN = sql("DELETE FROM domain WHERE id = :id")
DOMAIN_USE = sql("""
    SELECT (SELECT count(*) FROM account WHERE domain = :id),
        (SELECT count(*) FROM alias WHERE domain = :id)
""")

_ACCOUNT = """a.id, a.kind, a.domain, d.name, a.local, p.name, p.role, p.state, a.used_bytes,
    a.used_messages, a.created_at"""
_JOINED = "account a JOIN domain d ON d.id = a.domain JOIN principal p ON p.id = a.id"
ACCOUNT_BY_KEY = sql(f"""
    SELECT {_ACCOUNT} FROM {_JOINED} WHERE a.domain = :domain AND a.local_key = :key
""")
ACCOUNT_BY_ID = sql(f"SELECT {_ACCOUNT} FROM {_JOINED} WHERE a.id = :id")
ACCOUNTS = sql(f"""
    SELECT {_ACCOUNT} FROM {_JOINED}
    WHERE a.kind <> 'gone' AND (d.name = :domain OR :domain = '')
    ORDER BY d.name, a.local_key LIMIT :limit
""")
# What RCPT asks, in one statement: the account's id and whether it may receive.
DELIVERY_TARGET = sql("""
    SELECT a.id, a.local, p.state FROM account a JOIN principal p ON p.id = a.id
    WHERE a.domain = :domain AND a.local_key = :key
""")
INSERT_PRINCIPAL = sql("""
    INSERT INTO principal (id, name, role, state, epoch, created_at)
    VALUES (:id, :name, :role, 'active', 1, :now)
""")
INSERT_ACCOUNT = sql("""
    INSERT INTO account (id, kind, domain, local, local_key, modseq, floor_modseq, rights_epoch,
        next_uidvalidity, used_bytes, used_messages, created_at)
    VALUES (:id, 'person', :domain, :local, :key, 1, 0, 1, 1, 0, 0, :now)
""")
SET_STATE = sql("UPDATE principal SET state = :state, epoch = epoch + 1 WHERE id = :id")
SET_ROLE = sql("UPDATE principal SET role = :role, epoch = epoch + 1 WHERE id = :id")
SET_NAME = sql("UPDATE principal SET name = :name WHERE id = :id")
RAISE_EPOCH = sql("UPDATE principal SET epoch = epoch + 1 WHERE id = :id")
PRINCIPAL_EPOCH = sql("SELECT epoch, state FROM principal WHERE id = :id")
VACATE_ACCOUNT = sql("UPDATE account SET local_key = :key, kind = 'gone' WHERE id = :id")
GONE_ACCOUNTS = sql("SELECT id FROM account WHERE kind = 'gone' ORDER BY id LIMIT :limit")
IS_GONE = sql("SELECT 1 FROM account WHERE id = :id AND kind = 'gone'")
DELETE_ACCOUNT = sql("DELETE FROM account WHERE id = :id AND kind = 'gone'")
DELETE_PRINCIPAL = sql("DELETE FROM principal WHERE id = :id")
LOCK_ADMINS = sql("""
    SELECT id FROM principal WHERE role = 'admin' AND state = 'active' ORDER BY id {for update}
""")

CREDENTIALS = sql("""
    SELECT id, secret FROM credential WHERE principal = :principal AND kind = :kind ORDER BY id
""")
INSERT_CREDENTIAL = sql("""
    INSERT INTO credential (id, principal, kind, secret, created_at)
    VALUES (:id, :principal, :kind, :secret, :now)
""")
DELETE_CREDENTIALS = sql("DELETE FROM credential WHERE principal = :principal AND kind = :kind")
REPLACE_SECRET = sql("UPDATE credential SET secret = :secret WHERE id = :id AND secret = :old")

ALIASES_EXACT = sql("""
    SELECT target FROM alias WHERE domain = :domain AND wild = 0 AND pattern = :pattern
    ORDER BY id LIMIT :limit
""")
ALIASES_WILD = sql("""
    SELECT pattern, target FROM alias WHERE domain = :domain AND wild = 1
    ORDER BY length(pattern) DESC, pattern, id LIMIT :limit
""")
ALIASES = sql("""
    SELECT l.id, l.pattern, d.name, l.target, l.created_at
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
DELETE_ALIAS = sql("""
    DELETE FROM alias WHERE domain = :domain AND pattern = :pattern
        AND (target = :target OR :target = '')
""")
ALIASES_TO = sql("SELECT id FROM alias WHERE target = :target LIMIT 1")
DELETE_ALIASES_TO = sql("DELETE FROM alias WHERE target = :target")
