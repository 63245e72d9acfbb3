"""The queue's tables: one message, many recipients; the destination is what is leased."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint

from postroom.store.schema import INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

QUEUE_MESSAGE = wide(
    "queue_message",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),  # the transit's id
    column("blob", INT, ForeignKey("blob.id", ondelete="RESTRICT")),
    column("size", INT),
    column("reverse_path", TEXT, nullable=True),  # NULL is <>
    column("envid", TEXT, nullable=True),
    column("ret", TEXT, nullable=True),
    column("arrived_at", INT),
    column("expires_at", INT),
    Index("queue_message_blob", "blob"),
)

DESTINATION = wide(
    "destination",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("queue", TEXT),  # local, remote
    column("next_hop", TEXT),
    column("due", INT),
    column("lease", INT),  # until when it is leased; 0 is free
    column("holder", INT),  # the worker that holds it
    column("fence", INT),  # raised by each lease: an outcome must match it
    UniqueConstraint("queue", "next_hop"),
    Index("destination_due", "due"),
)

QUEUE_RECIPIENT = narrow(
    "queue_recipient",
    MAIL,
    column("message", INT, ForeignKey("queue_message.id", ondelete="CASCADE"), primary_key=True),
    column("n", INT, primary_key=True),
    column("destination", INT, ForeignKey("destination.id", ondelete="RESTRICT")),
    column("address", TEXT),
    column("account", INT, nullable=True),  # of a local recipient
    column("role", TEXT),  # the mailbox it goes to, by role
    column("flags", TEXT),  # JSON list
    column("notify", TEXT),
    column("orcpt", TEXT, nullable=True),
    column("attempts", INT),
    column("due", INT),
    column("last_reply", TEXT),
    Index("queue_recipient_due", "destination", "due"),
)

NEVER = (1 << 62) - 1  # as a due time: nothing waits there

INSERT_MESSAGE = sql("""
    INSERT INTO queue_message (id, blob, size, reverse_path, envid, ret, arrived_at, expires_at)
    VALUES (:id, :blob, :size, :reverse_path, :envid, :ret, :arrived_at, :expires_at)
""")
ENSURE_DESTINATION = sql("""
    INSERT INTO destination (id, queue, next_hop, due, lease, holder, fence)
    VALUES (:id, :queue, :next_hop, :due, 0, 0, 0)
    ON CONFLICT (queue, next_hop) DO UPDATE SET due =
        CASE WHEN excluded.due < destination.due THEN excluded.due ELSE destination.due END
    RETURNING id
""")
INSERT_RECIPIENT = sql("""
    INSERT INTO queue_recipient (message, n, destination, address, account, role, flags, notify,
        orcpt, attempts, due, last_reply)
    VALUES (:message, :n, :destination, :address, :account, :role, :flags, :notify,
        :orcpt, :attempts, :due, :last_reply)
""")
DUE_DESTINATION = sql("""
    SELECT id, next_hop FROM destination
    WHERE queue = :queue AND due <= :now AND lease <= :now ORDER BY due LIMIT 1 {for update}
""")
TAKE_LEASE = sql("""
    UPDATE destination SET lease = :until, holder = :holder, fence = fence + 1
    WHERE id = :id AND lease <= :now RETURNING fence
""")
FENCE = sql("SELECT fence FROM destination WHERE id = :id {for update}")
_RECIPIENT = """r.n, r.address, r.account, r.role, r.flags, r.attempts, r.due, r.last_reply,
    m.id, m.blob, m.size, m.reverse_path, m.envid, m.ret, m.arrived_at, m.expires_at"""
DUE_RECIPIENTS = sql(f"""
    SELECT {_RECIPIENT} FROM queue_recipient r JOIN queue_message m ON m.id = r.message
    WHERE r.destination = :destination AND r.due <= :now ORDER BY r.due, m.id, r.n LIMIT :limit
""")
WAITING = sql(f"""
    SELECT {_RECIPIENT} FROM queue_recipient r JOIN queue_message m ON m.id = r.message
    ORDER BY r.due, m.id, r.n LIMIT :limit
""")
REMOVE_RECIPIENT = sql("DELETE FROM queue_recipient WHERE message = :message AND n = :n")
REMOVE_IF_DONE = sql("""
    DELETE FROM queue_message WHERE id = :id
        AND NOT EXISTS (SELECT 1 FROM queue_recipient r WHERE r.message = queue_message.id)
""")
RETRY_RECIPIENT = sql("""
    UPDATE queue_recipient SET attempts = :attempts, due = :due, last_reply = :last_reply
    WHERE message = :message AND n = :n
""")
RELEASE = sql(f"""
    UPDATE destination SET lease = 0, holder = 0, due = coalesce(
        (SELECT min(r.due) FROM queue_recipient r WHERE r.destination = destination.id), {NEVER})
    WHERE id = :id AND fence = :fence
""")
RELEASE_HOLDER = sql("""
    UPDATE destination SET lease = 0, holder = 0, fence = fence + 1
    WHERE holder = :holder AND lease > 0
""")
NEXT_DUE = sql("""
    SELECT min(CASE WHEN lease > due THEN lease ELSE due END) FROM destination WHERE queue = :queue
""")
COUNTS = sql("""
    SELECT (SELECT count(*) FROM queue_message), (SELECT count(*) FROM queue_recipient)
""")
