"""The keys with which mail of our domains is signed."""

from __future__ import annotations

from sqlalchemy import ForeignKey, UniqueConstraint

from postroom.store.schema import INT, MAIL, TEXT, column, wide
from postroom.store.sql import sql

SIGNING_KEY = wide(
    "signing_key",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("domain", INT, ForeignKey("domain.id", ondelete="CASCADE")),
    column("selector", TEXT),
    column("kind", TEXT),  # rsa, ed25519
    column("state", TEXT),  # made, published, active, retired
    column("since", INT),  # when it came to be in that state
    column("record", TEXT),  # what DNS is to say of it
    column("private", TEXT),  # sealed: PKCS #8 in base64
    column("created_at", INT),
    column("apart", INT),  # 1: it signs what a rule names it for, and nothing else
    UniqueConstraint("domain", "selector"),
)

# --- statements -------------------------------------------------------------------------------

_KEY = """k.id, d.name, k.selector, k.kind, k.state, k.since, k.record, k.private, k.created_at,
    k.apart"""
_JOINED = "signing_key k JOIN domain d ON d.id = k.domain"
KEYS = sql(f"SELECT {_KEY} FROM {_JOINED} WHERE d.gone = 0 ORDER BY d.name, k.created_at, k.id")
OF_DOMAIN = sql(f"""
    SELECT {_KEY} FROM {_JOINED} WHERE d.name = :domain ORDER BY k.created_at, k.id
""")
ACTIVE = sql(f"""
    SELECT {_KEY} FROM {_JOINED} WHERE d.name IN {{names:text}} AND k.state = 'active'
    ORDER BY k.kind DESC, k.id
""")
INSERT = sql("""
    INSERT INTO signing_key
        (id, domain, selector, kind, state, since, record, private, created_at, apart)
    VALUES (:id, :domain, :selector, :kind, 'made', :now, :record, :private, :now, :apart)
""")
MOVE = sql("UPDATE signing_key SET state = :state, since = :now WHERE id = :id")
DELETE = sql("DELETE FROM signing_key WHERE id = :id")

SEALED = sql("SELECT id, private FROM signing_key ORDER BY id")
SEALED_AFTER = sql("""
    SELECT id, private FROM signing_key WHERE id > :after ORDER BY id LIMIT :limit
""")
RESEAL = sql("UPDATE signing_key SET private = :private WHERE id = :id")
