"""The tables of policy: settings, the change sets that made them, versions of what is cached."""

from __future__ import annotations

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
    column("author", INT),
    column("reason", TEXT),
    column("diff", TEXT),  # JSON: what was, what is
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
INSERT_CHANGE_SET = sql("""
    INSERT INTO change_set (id, at, author, reason, diff)
    VALUES (:id, :now, :author, :reason, :diff)
""")
CHANGE_SETS = sql("""
    SELECT id, at, author, reason, diff FROM change_set ORDER BY id DESC LIMIT :limit
""")
VERSION_OF = sql("SELECT number FROM version WHERE what = :what")
RAISE_VERSION = sql("""
    INSERT INTO version (what, number) VALUES (:what, 1)
    ON CONFLICT (what) DO UPDATE SET number = version.number + 1
""")
