"""Messages that go from the mailbox of one owner to that of another: COPY and MOVE between
accounts.

What arrives is a new message of its new owner, with his quota, his change log and his keywords;
its content is the same immutable blob. So each message is placed by itself, where within an
account a set statement does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.mailboxes import folders, messages, reading, tables
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.messages import Copied, NewMessage, Quota
from postroom.domain.mailboxes.picking import Pick
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS

MOST: Final = UNIT_ROWS // 8
"""Messages of one unit: each is some eight rows."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A message that is to cross: where it lies, and what it becomes."""

    uid: int
    message: int
    becomes: NewMessage


def cross(
    tx: Tx,
    box_id: int,
    target_id: int,
    crossing: Sequence[Crossing],
    quota: Quota,
    now: Instant,
    actor: int,
    *,
    move: bool,
) -> Copied:
    """Place messages in a mailbox of another account, and with `move` remove them where they lie,
    in the same unit. At most MOST, by ascending UID; who is gone is passed over.

    What is moved cannot be recovered where it lay: it is still there. Raises NotFound, OverQuota,
    and what `flags.bits_for` raises of a keyword that does not fit into the other account.
    """
    box, target = folders.get(tx, box_id), folders.get(tx, target_id)
    if box.account == target.account:
        raise NotFound("These mailboxes have one owner")
    changes = begin_all(tx, (box.account, target.account))
    target = folders.get(tx, target_id)  # as it is under the lock
    if not crossing:
        return Copied(target.uidvalidity, (), (), target.modseq)
    left = {row.uid: row.message for row in reading.brief(tx, box_id, Pick.of(_uids(crossing)))}
    there = [each for each in crossing if left.get(each.uid) == each.message]
    change = changes[target.account]
    placed = []
    for each in there:
        quota.check(change, each.becomes.size, 1)
        placed.append(messages.place(tx, change, target, each.becomes, now))
    source = tuple(_uids(there))
    become = tuple(stored.uid for stored in placed)
    gone = changes[box.account]
    if move and source:
        pick = Pick.of(source)
        messages.remove(tx, gone, box_id, pick, messages.held(tx, box_id, pick), now)
        tx.run(tables.FORGET_MESSAGES, ids=[each.message for each in there])
    before = {"box": box_id, "to": target_id, "uids": messages.compressed(source)}
    became = {"became": messages.compressed(become)}
    for each_change in (change, gone):
        each_change.end(tx, now, actor, "move" if move else "copy", {**before, **became})
    return Copied(target.uidvalidity, source, become, change.modseq)


def _uids(crossing: Sequence[Crossing]) -> list[int]:
    return [each.uid for each in crossing]
