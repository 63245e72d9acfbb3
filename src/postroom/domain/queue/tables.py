"""The queue's tables: one message, many recipients; the destination is what is leased."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, UniqueConstraint

from postroom.store.schema import INT, MAIL, TEXT, column, narrow, wide
from postroom.store.sql import sql

QUEUE_MESSAGE = wide(
    "queue_message",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("trace", INT),  # the transit's id, by which people name it
    column("blob", INT, ForeignKey("blob.id", ondelete="RESTRICT")),
    column("size", INT),
    column("reverse_path", TEXT, nullable=True),  # NULL is <>
    column("envid", TEXT, nullable=True),
    column("ret", TEXT, nullable=True),
    column("utf8", INT),  # 1: an address or a header field needs SMTPUTF8 (RFC 6531)
    column("eight_bit", INT),  # 1: the content holds octets above 127
    column("origin", TEXT),  # how it came: a protocol, or what composed it
    column("arrived_at", INT),
    column("expires_at", INT),
    Index("queue_message_blob", "blob"),
    Index("queue_message_trace", "trace"),
    Index("queue_message_expires", "expires_at"),
)

DESTINATION = wide(
    "destination",
    MAIL,
    column("id", INT, primary_key=True, autoincrement=False),
    column("queue", TEXT),  # local, remote, composed
    column("next_hop", TEXT),
    column("due", INT),
    column("lease", INT),  # until when it is leased; 0 is free
    column("holder", INT),  # the worker that holds it
    column("fence", INT),  # raised by each lease: an outcome must match it
    column("failures", INT),  # rounds in which nobody behind it could be reached, in a row
    column("used_at", INT),  # when it was given back last
    UniqueConstraint("queue", "next_hop"),
    Index("destination_due", "queue", "due"),
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
    column("due", INT),  # NEVER while it is held
    column("held", INT),  # 1: an administrator holds it back; 2: it is in quarantine
    column("warned", INT),  # 1: its sender was told of the delay
    column("last_at", INT),  # when it was tried last, 0 for never
    column("last_reply", TEXT),
    Index("queue_recipient_due", "destination", "due"),
)

NEVER = (1 << 62) - 1  # as a due time: nothing waits there
QUARANTINED = 2  # as `held`

INSERT_MESSAGE = sql("""
    INSERT INTO queue_message (id, trace, blob, size, reverse_path, envid, ret, utf8, eight_bit,
        origin, arrived_at, expires_at)
    VALUES (:id, :trace, :blob, :size, :reverse_path, :envid, :ret, :utf8, :eight_bit, :origin,
        :arrived_at, :expires_at)
""")
DESTINATIONS = sql("""
    SELECT next_hop, id FROM destination WHERE queue = :queue AND next_hop IN {hops:text}
""")
ADD_DESTINATION = sql(f"""
    INSERT INTO destination (id, queue, next_hop, due, lease, holder, fence, failures, used_at)
    VALUES (:id, :queue, :next_hop, {NEVER}, 0, 0, 0, 0, :now)
    ON CONFLICT (queue, next_hop) DO NOTHING
""")
HASTEN = sql("UPDATE destination SET due = :due WHERE id IN {ids} AND due > :due")
INSERT_RECIPIENT = sql("""
    INSERT INTO queue_recipient (message, n, destination, address, account, role, flags, notify,
        orcpt, attempts, due, held, warned, last_at, last_reply)
    VALUES (:message, :n, :destination, :address, :account, :role, :flags, :notify,
        :orcpt, :attempts, :due, :held, 0, :last_at, :last_reply)
""")
DUE_DESTINATION = sql("""
    SELECT id, next_hop, failures FROM destination
    WHERE queue = :queue AND due <= :now AND lease <= :now ORDER BY due LIMIT 1 {for update}
""")
ANY_DUE = sql("""
    SELECT 1 FROM destination WHERE queue = :queue AND due <= :now AND lease <= :now LIMIT 1
""")
TAKE_LEASE = sql("""
    UPDATE destination SET lease = :until, holder = :holder, fence = fence + 1
    WHERE id = :id AND lease <= :now RETURNING fence
""")
EXTEND_LEASE = sql("UPDATE destination SET lease = :until WHERE id = :id AND fence = :fence")
FENCE = sql("SELECT fence FROM destination WHERE id = :id {for update}")
_RECIPIENT = """r.n, r.address, r.account, r.role, r.flags, r.notify, r.orcpt, r.attempts, r.due,
    r.held, r.warned, r.last_at, r.last_reply,
    m.id, m.trace, m.blob, m.size, m.reverse_path, m.envid, m.ret, m.utf8, m.eight_bit, m.origin,
    m.arrived_at, m.expires_at"""
DUE_RECIPIENTS = sql(f"""
    SELECT {_RECIPIENT} FROM queue_recipient r JOIN queue_message m ON m.id = r.message
    WHERE r.destination = :destination AND r.due <= :now ORDER BY r.due, m.id, r.n LIMIT :limit
""")
WAITING = sql(f"""
    SELECT {_RECIPIENT}, d.queue, d.next_hop
    FROM queue_recipient r JOIN queue_message m ON m.id = r.message
        JOIN destination d ON d.id = r.destination
    ORDER BY r.due, m.id, r.n LIMIT :limit
""")
QUARANTINED_WAITING = sql(f"""
    SELECT {_RECIPIENT}, d.queue, d.next_hop
    FROM queue_recipient r JOIN queue_message m ON m.id = r.message
        JOIN destination d ON d.id = r.destination
    WHERE r.held = {QUARANTINED} ORDER BY m.id, r.n LIMIT :limit
""")
QUARANTINE_OVER = sql(f"""
    SELECT {_RECIPIENT} FROM queue_message m JOIN queue_recipient r ON r.message = m.id
    WHERE m.expires_at <= :now AND r.held = {QUARANTINED} ORDER BY m.expires_at, m.id, r.n
    LIMIT :limit
""")
OF_TRACE = sql(f"""
    SELECT {_RECIPIENT}, d.queue, d.next_hop
    FROM queue_recipient r JOIN queue_message m ON m.id = r.message
        JOIN destination d ON d.id = r.destination
    WHERE m.trace = :trace ORDER BY m.id, r.n LIMIT :limit
""")
EXPIRED = sql(f"""
    SELECT {_RECIPIENT} FROM queue_recipient r JOIN queue_message m ON m.id = r.message
    WHERE r.destination = :destination AND m.expires_at <= :now AND r.held = 0
    ORDER BY m.id, r.n LIMIT :limit
""")
LATE = sql(f"""
    SELECT {_RECIPIENT} FROM queue_recipient r JOIN queue_message m ON m.id = r.message
    WHERE r.destination = :destination AND m.arrived_at <= :before AND r.warned = 0
        AND r.held = 0 AND r.attempts > 0
    ORDER BY m.id, r.n LIMIT :limit
""")
WANTED = sql("""
    SELECT n FROM queue_recipient
    WHERE message = :message AND destination = :destination AND held = 0
""")
REMOVE_RECIPIENTS = sql("""
    DELETE FROM queue_recipient WHERE message = :message AND n IN {numbers}
""")
REMOVE_IF_DONE = sql("""
    DELETE FROM queue_message WHERE id = :id
        AND NOT EXISTS (SELECT 1 FROM queue_recipient r WHERE r.message = queue_message.id)
""")
RETRY_RECIPIENT = sql("""
    UPDATE queue_recipient
    SET attempts = attempts + 1, due = :due, last_at = :now, last_reply = :last_reply
    WHERE message = :message AND n = :n AND held = 0
""")
NEXT_RETRY = sql("""
    SELECT min(due) FROM queue_recipient
    WHERE destination = :destination AND due > :now AND held = 0 AND attempts > 0
""")
# The moments of `values.next_try`, for all at once.
RETRY_ALL_DUE = sql("""
    UPDATE queue_recipient
    SET attempts = attempts + 1, last_at = :now, last_reply = :last_reply,
        due = (SELECT CASE
                WHEN queue_recipient.warned = 0 AND m.arrived_at + :notice > :now
                    AND m.arrived_at + :notice < :due
                    AND (m.expires_at <= :now OR m.arrived_at + :notice <= m.expires_at)
                    THEN m.arrived_at + :notice
                WHEN m.expires_at > :soon AND m.expires_at < :due THEN m.expires_at
                WHEN m.expires_at <= :soon AND :soon < :due THEN :soon
                ELSE :due END
            FROM queue_message m WHERE m.id = queue_recipient.message)
    WHERE destination = :destination AND due <= :now
""")
MOVE_RECIPIENT = sql("""
    UPDATE queue_recipient SET destination = :destination WHERE message = :message AND n = :n
""")
WARNED = sql("UPDATE queue_recipient SET warned = 1 WHERE message = :message AND n = :n")
RELEASE = sql(f"""
    UPDATE destination SET lease = 0, holder = 0, used_at = :now, failures = :failures,
        due = coalesce((SELECT min(r.due) FROM queue_recipient r
            WHERE r.destination = destination.id), {NEVER})
    WHERE id = :id AND fence = :fence
""")
RELEASE_HOLDER = sql("""
    UPDATE destination SET lease = 0, holder = 0, fence = fence + 1
    WHERE holder = :holder AND lease > 0
""")
NEXT_DUE = sql("""
    SELECT min(CASE WHEN lease > due THEN lease ELSE due END) FROM destination
    WHERE queue = :queue AND due < :never
""")
IDLE_DESTINATIONS = sql(f"""
    SELECT id FROM destination WHERE due = {NEVER} AND lease = 0 AND used_at < :before
    LIMIT :limit {{for update}}
""")
FORGET_DESTINATIONS = sql("""
    DELETE FROM destination WHERE id IN {ids}
        AND NOT EXISTS (SELECT 1 FROM queue_recipient r WHERE r.destination = destination.id)
""")
COUNTS = sql("""
    SELECT (SELECT count(*) FROM queue_message), (SELECT count(*) FROM queue_recipient)
""")

# --- by an administrator ------------------------------------------------------------------

_OF_TRACE = "message IN (SELECT id FROM queue_message WHERE trace = :trace)"
TRACE_DESTINATIONS = sql(f"""
    SELECT DISTINCT destination FROM queue_recipient WHERE {_OF_TRACE}
""")
HOLD = sql(f"""
    UPDATE queue_recipient SET held = 1, due = {NEVER} WHERE held = 0 AND {_OF_TRACE}
""")
LET_GO = sql(f"""
    UPDATE queue_recipient
    SET held = 0, due = :now, last_reply = CASE WHEN attempts = 0 THEN '' ELSE last_reply END
    WHERE held > 0 AND {_OF_TRACE}
""")
# What was in quarantine has its whole time before it.
RENEW = sql(f"""
    UPDATE queue_message SET expires_at = :expires_at
    WHERE trace = :trace AND id IN
        (SELECT message FROM queue_recipient WHERE held = {QUARANTINED} AND {_OF_TRACE})
""")
RETRY_NOW = sql(f"""
    UPDATE queue_recipient SET due = :now WHERE held = 0 AND due > :now AND {_OF_TRACE}
""")
RETRY_QUEUE = sql("""
    UPDATE queue_recipient SET due = :now WHERE held = 0 AND due > :now AND destination IN
        (SELECT id FROM destination WHERE queue = :queue AND next_hop = :next_hop)
""")
QUEUE_DESTINATION = sql("""
    SELECT id FROM destination WHERE queue = :queue AND next_hop = :next_hop
""")
BUSY_DESTINATIONS = sql("""
    SELECT d.queue, d.next_hop, d.due, d.lease, d.failures, count(*), max(r.last_at),
        max(r.attempts)
    FROM destination d JOIN queue_recipient r ON r.destination = d.id
    GROUP BY d.id, d.queue, d.next_hop, d.due, d.lease, d.failures
    ORDER BY count(*) DESC, d.next_hop LIMIT :limit
""")
DELETE_OF_TRACE = sql("DELETE FROM queue_message WHERE trace = :trace")
MESSAGES_OF_TRACE = sql("""
    SELECT id, trace, blob, size, reverse_path, envid, ret, utf8, eight_bit, origin, arrived_at,
        expires_at
    FROM queue_message WHERE trace = :trace ORDER BY id
""")
