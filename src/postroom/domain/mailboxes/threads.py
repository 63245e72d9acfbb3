"""Threads: by References and In-Reply-To within an account. RFC 8621 §3.

Two messages share a thread if they share a Message-ID (their own or one that they refer to) and
the base subject: the subject is a guard against hijacked threads. When a message joins two
threads, the smaller one moves.
"""

from __future__ import annotations

import hashlib
from typing import Final

from postroom.domain.mailboxes import tables
from postroom.formats.parsed import Parsed
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS

MOST_REFERENCES: Final = 20
"""References looked at: the first and the last ones carry the thread."""


def hashed(data: bytes) -> int:
    """A 63-bit hash, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def _references(parsed: Parsed) -> list[int]:
    ids = list(dict.fromkeys((*parsed.references, *parsed.in_reply_to)))
    if len(ids) > MOST_REFERENCES:
        ids = ids[:2] + ids[2 - MOST_REFERENCES :]
    if parsed.message_id is not None:
        ids.append(parsed.message_id)
    return list(dict.fromkeys(hashed(i) for i in ids))


def assign(tx: Tx, account: int, message: int, parsed: Parsed) -> int:
    """The thread of a message that is about to be stored; its own id begins a new one."""
    references = _references(parsed)
    if not references:
        return message
    subject = hashed(parsed.subject_base.encode())
    found: dict[int, int] = dict(
        tx.all(tables.REFERENCES, account=account, subject=subject, references=references)
    )
    threads = set(found.values())
    thread = _merge(tx, account, threads) if len(threads) > 1 else next(iter(threads), message)
    tx.many(
        tables.INSERT_REFERENCE,
        [
            {"account": account, "reference": r, "subject": subject, "thread": thread}
            for r in references
            if found.get(r) != thread
        ],
    )
    return thread


def _merge(tx: Tx, account: int, threads: set[int]) -> int:
    """Move the smaller threads into the largest; one too large for a unit stays by itself."""
    sizes = dict.fromkeys(threads, 0)
    sizes.update(tx.all(tables.THREAD_SIZE, account=account, threads=sorted(threads)))
    largest = max(threads, key=lambda t: (sizes[t], -t))
    for thread in sorted(threads - {largest}):
        if sizes[thread] <= UNIT_ROWS:
            tx.run(tables.MOVE_THREAD, account=account, into=largest, thread=thread)
            tx.run(tables.MOVE_REFERENCES, account=account, into=largest, thread=thread)
    return largest
