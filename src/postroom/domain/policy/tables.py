"""The tables of policy: settings, the change sets that made them, versions of what is cached."""

from __future__ import annotations

from sqlalchemy import Index

from postroom.store.schema import INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

SETTING = narrow(
    "setting",
    MAIL,
    column("scope", TEXT, primary_key=True),  # server, node, listener, domain, account
    column("object", TEXT, primary_key=True),  # which one; empty for the server
    column("name", TEXT, primary_key=True),
    column("value", TEXT),  # JSON
    column("change_set", INT),
)

CHANGE_SET = wide(
    "change_set",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("at", INT),
    column("author", INT),  # a principal; 0 is whoever owns the data directory
    column("operation", TEXT),
    column("reason", TEXT),
    column("reverts", INT),  # the change set that it takes back; 0 for none
    column("diff", TEXT),  # JSON: what was, what is; never a secret
    Index("change_set_at", "at"),
)

CHANGE_KEY = narrow(
    "change_key",
    MAIL,
    column("key", TEXT, primary_key=True),  # an object of the diff, or a name that it had
    column("change_set", INT, primary_key=True),
    Index("change_key_change_set", "change_set"),
)

VERSION = narrow(
    "version",
    MAIL,
    column("what", TEXT, primary_key=True),  # directory, settings
    column("number", INT),
)

# --- statements -------------------------------------------------------------------------------

ALL = sql("SELECT scope, object, name, value FROM setting ORDER BY scope, object, name")
OF_PLACE = sql("SELECT name, value FROM setting WHERE scope = :scope AND object = :object")
ONE = sql("""
    SELECT value FROM setting WHERE scope = :scope AND object = :object AND name = :name
""")
SET = sql("""
    INSERT INTO setting (scope, object, name, value, change_set)
    VALUES (:scope, :object, :name, :value, :change_set)
    ON CONFLICT (scope, object, name)
    DO UPDATE SET value = excluded.value, change_set = excluded.change_set
""")
UNSET = sql("DELETE FROM setting WHERE scope = :scope AND object = :object AND name = :name")
SETTING_ROW = sql("""
    SELECT value, change_set FROM setting
    WHERE scope = :scope AND object = :object AND name = :name
""")

OF_NAMES = sql("""
    SELECT scope, object, name, value FROM setting WHERE name IN {names:text}
    ORDER BY scope, object, name
""")
OF_NAMES_AFTER = sql("""
    SELECT scope, object, name, value FROM setting
    WHERE name IN {names:text} AND (scope, object, name)
        > (CAST(:scope AS text), CAST(:object AS text), CAST(:name AS text))
    ORDER BY scope, object, name LIMIT :limit
""")
RESEAL = sql("""
    UPDATE setting SET value = :value
    WHERE scope = :scope AND object = :object AND name = :name
""")

_CHANGE_SET = "id, at, author, operation, reason, reverts, diff"
INSERT_CHANGE_SET = sql(f"""
    INSERT INTO change_set ({_CHANGE_SET})
    VALUES (:id, :at, :author, :operation, :reason, :reverts, :diff)
""")
INSERT_CHANGE_KEY = sql("""
    INSERT INTO change_key (key, change_set) VALUES (:key, :change_set) ON CONFLICT DO NOTHING
""")
CHANGE_SET_ROW = sql(f"SELECT {_CHANGE_SET} FROM change_set WHERE id = :id")
_BY_OPERATION = "(CAST(:operation AS text) = '' OR operation = CAST(:operation AS text))"
CHANGE_SETS = sql(f"""
    SELECT {_CHANGE_SET} FROM change_set WHERE {_BY_OPERATION} ORDER BY id DESC LIMIT :limit
""")
CHANGE_SETS_OF = sql("""
    SELECT s.id, s.at, s.author, s.operation, s.reason, s.reverts, s.diff
    FROM change_key k JOIN change_set s ON s.id = k.change_set
    WHERE k.key = :key ORDER BY k.change_set DESC LIMIT :limit
""")
CHANGE_SETS_BY = sql(f"""
    SELECT {_CHANGE_SET} FROM change_set WHERE author = :author AND {_BY_OPERATION}
    ORDER BY id DESC LIMIT :limit
""")
CHANGE_SETS_AFTER = sql("""
    SELECT s.id, s.diff FROM change_key k JOIN change_set s ON s.id = k.change_set
    WHERE k.key = :key AND k.change_set > :after ORDER BY k.change_set LIMIT :limit
""")
RESEAL_CHANGE_SET = sql("UPDATE change_set SET diff = :diff WHERE id = :id")
OLD_CHANGE_SETS = sql("SELECT id FROM change_set WHERE at < :before ORDER BY at LIMIT :limit")
FORGET_CHANGE_KEYS = sql("DELETE FROM change_key WHERE change_set IN {ids}")
FORGET_CHANGE_SETS = sql("DELETE FROM change_set WHERE id IN {ids}")

VERSION_OF = sql("SELECT number FROM version WHERE what = :what")
RAISE_VERSION = sql("""
    INSERT INTO version (what, number) VALUES (:what, 1)
    ON CONFLICT (what) DO UPDATE SET number = version.number + 1
""")
