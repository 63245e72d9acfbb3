"""A mailbox as one POP3 session sees it: its messages at one moment, and who has it. RFC 1939 §4.

The lock is a row of `state`, in which `is_taken` to `free_all_of` run: it keeps out other POP3
sessions and nobody else. What a session removes is removed by UID, so a lock that was lost with
the last second of `state` costs no message that was not asked for. All else runs in `mail`.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import InUse, NotFound
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, marks, messages
from postroom.domain.mailboxes.claimed import tables as claimed
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import FlagChange
from postroom.domain.mailboxes.picking import Pick
from postroom.store.sql import Tx

PAGE: Final = 10_000
"""Rows that are held at once while the messages of a maildrop are read."""

_SEEN: Final = FlagChange(add=("\\Seen",))


class MaildropInUse(InUse):
    """Another POP3 session has it. RFC 2449 §8.1.1."""

    sentence = "Another session has the maildrop open"


# --- the lock, in state -------------------------------------------------------------------------


def is_taken(tx: Tx, mailbox: int, now: Instant) -> bool:
    """Whether a session has the maildrop: cheaper to ask than to try."""
    return tx.one(claimed.MAILDROP_TAKEN, mailbox=mailbox, now=now) is not None


def take(tx: Tx, mailbox: int, session: int, holder: int, now: Instant, until: Instant) -> bool:
    """Have the maildrop until then; False if another session has it."""
    row = tx.one(
        claimed.TAKE_MAILDROP, mailbox=mailbox, session=session, holder=holder, now=now, until=until
    )
    return row is not None


def keep(tx: Tx, sessions: Sequence[int], until: Instant) -> set[int]:
    """Have them longer; returns the sessions that still had theirs."""
    return {row[0] for row in tx.all(claimed.KEEP_MAILDROPS, sessions=sessions, until=until)}


def free(tx: Tx, mailbox: int, session: int) -> None:
    """Let go of the maildrop; nothing if the session has it no more."""
    tx.run(claimed.FREE_MAILDROP, mailbox=mailbox, session=session)


def free_all_of(tx: Tx, holder: int) -> int:
    """Free the maildrops of a worker that died; returns how many."""
    return tx.run(claimed.FREE_MAILDROPS, holder=holder)


# --- its messages -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The messages of a maildrop at one moment, in the order of their UIDs."""

    mailbox: Mailbox
    uids: array.array[int]
    sizes: array.array[int]  # octets
    octets: int  # of all


def inbox(tx: Tx, account: int) -> Mailbox:
    """The mailbox that POP3 shows of an account; raises NotFound."""
    found = folders.by_role(tx, account, "inbox")
    if found is None:
        raise NotFound("The account has no INBOX")
    return found


def read(tx: Tx, mailbox: int) -> Opened:
    """What is in it, without looking at any content; raises NotFound."""
    box = folders.get(tx, mailbox)
    uids, sizes = array.array("I"), array.array("Q")
    after = 0
    while page := tx.all(claimed.MAILDROP_ROWS, mailbox=mailbox, after=after, limit=PAGE):
        uids.extend([row[0] for row in page])
        sizes.extend([row[1] for row in page])
        after = uids[-1]
    return Opened(box, uids, sizes, sum(sizes))


def read_before(tx: Tx, mailbox: int, last: int, before: Instant, limit: int) -> list[int]:
    """UIDs up to `last` that were received before then and are \\Seen, at most `limit`."""
    found: list[int] = []
    first = 1
    while len(found) < limit and (
        rows := tx.all(
            claimed.CAME_BEFORE, mailbox=mailbox, first=first, last=last, before=before, limit=PAGE
        )
    ):
        pick = Pick(rows[0][0], rows[-1][0])
        found += [uid for uid, set_, _ in marks.now(tx, mailbox, pick, rows) if set_ & bits.SEEN]
        first = pick.last + 1
    return found[:limit]


def mark_seen(tx: Tx, box: Mailbox, uids: Sequence[int], now: Instant, actor: int) -> None:
    """Set \\Seen on those of ascending `uids` that are still there; raises NotFound."""
    messages.set_flags(tx, box.account, box.id, Pick.of(uids), _SEEN, now, actor)
