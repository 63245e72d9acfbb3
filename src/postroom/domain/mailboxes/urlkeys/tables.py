"""The table of mailbox access keys, and every statement on it."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint

from postroom.store.schema import INT, MAIL, TEXT, column, wide
from postroom.store.sql import sql

URL_KEY = wide(
    "url_key",
    MAIL,
    column("name", INT, primary_key=True, autoincrement=False),  # drawn at random: tokens say it
    column("account", INT, ForeignKey("account.id", ondelete="CASCADE")),  # who authorizes
    column("mailbox", INT, ForeignKey("mailbox.id", ondelete="CASCADE")),
    column("secret", TEXT),  # sealed
    UniqueConstraint("account", "mailbox"),
    Index("url_key_mailbox", "mailbox"),
)

_KEY = "name, account, mailbox, secret"
NAMED = sql(f"SELECT {_KEY} FROM url_key WHERE name = :name")
OF_MAILBOXES = sql(f"""
    SELECT {_KEY} FROM url_key WHERE account = :account AND mailbox IN {{ids}}
""")
ADD = sql(f"""
    INSERT INTO url_key ({_KEY}) VALUES (:name, :account, :mailbox, :secret)
    ON CONFLICT (account, mailbox) DO NOTHING
""")
PUT = sql(f"""
    INSERT INTO url_key ({_KEY}) VALUES (:name, :account, :mailbox, :secret)
    ON CONFLICT (account, mailbox) DO UPDATE SET name = excluded.name, secret = excluded.secret
""")
DROP_ALL = sql("DELETE FROM url_key WHERE account = :account")

SEALED = sql("SELECT name, secret FROM url_key ORDER BY name")
SEALED_AFTER = sql("""
    SELECT name, secret FROM url_key WHERE name > :after ORDER BY name LIMIT :limit
""")
RESEAL = sql("UPDATE url_key SET secret = :secret WHERE name = :name")
