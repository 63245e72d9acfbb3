"""Messages in mailboxes: append, flags, copy, move, expunge. Plain functions over a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound, OverQuota
from postroom.domain.events import Type
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, tables, threads
from postroom.domain.mailboxes.change import Change, begin
from postroom.domain.mailboxes.folders import Mailbox
from postroom.formats.parsed import Parsed
from postroom.store import blobs
from postroom.store.sql import Tx

SYSTEM_ACTOR: Final = 0
FEW: Final = 100
ALL: Final = (1 << 63) - 1
"""As a LIMIT: every row."""


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may hold; 0 is no limit."""

    octets: int = 0
    messages: int = 0

    def check(self, change: Change, octets: int, messages: int) -> None:
        """Raises OverQuota if the account would hold more than it may."""
        if self.octets and change.used_bytes + change.octets + octets > self.octets:
            raise OverQuota
        if self.messages and change.used_messages + change.messages + messages > self.messages:
            raise OverQuota


UNLIMITED: Final = Quota()


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that is about to be placed; its blob and its parse are in the store."""

    id: int
    blob: int
    size: int
    received_at: Instant
    parsed: Parsed
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a message came to lie."""

    mailbox: int
    uidvalidity: int
    uid: int
    message: int
    thread: int


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice of UIDs in one mailbox: those from `first` to `last`, or of them only `uids`.

    A session whose choice is contiguous in its view gives no list, and the engine walks one
    range. UIDs that do not exist are passed over.
    """

    first: int
    last: int
    uids: Sequence[int] | None = None

    @classmethod
    def of(cls, uids: Sequence[int]) -> Pick:
        """The choice of just these, in ascending order and not empty."""
        return cls(uids[0], uids[-1], None if len(uids) == 1 else uids)

    @property
    def few(self) -> bool:
        """So few that a unit on them is a light one: `units.Database.write`."""
        count = self.last - self.first + 1 if self.uids is None else len(self.uids)
        return count <= FEW

    def on(self, picking: tables.Picking) -> tables.Form:
        """The form of a statement that this choice takes."""
        return picking.by_range if self.uids is None else picking.by_list

    def up_to(self, last: int) -> Pick:
        """The choice without what lies beyond `last`."""
        if self.last <= last:
            return self
        listed = None if self.uids is None else [uid for uid in self.uids if uid <= last]
        return Pick(self.first, last, listed)

    def params(self, box: int) -> dict[str, Any]:
        """What that form is given."""
        if self.uids is None:
            return {"mailbox": box, "first": self.first, "last": self.last}
        return {"mailbox": box, "uids": self.uids}


# --- in ---------------------------------------------------------------------------------------


def store_parsed(tx: Tx, blob: int, parsed: Parsed) -> None:
    """Keep what was parsed, shared as the blob is; an older maker's rows are replaced."""
    tx.run(
        tables.INSERT_PARSED,
        blob=blob,
        version=parsed.version,
        header_size=parsed.header_size,
        sent_at=parsed.sent_at,
        attachment=int(parsed.has_attachment),
        envelope=parsed.envelope,
        structure=parsed.bodystructure,
        layout=parsed.layout,
        message_id=parsed.message_id,
        subject=parsed.subject,
        subject_base=parsed.subject_base,
        sort_from=parsed.sort_from,
        sort_to=parsed.sort_to,
        sort_cc=parsed.sort_cc,
        preview=parsed.preview,
    )


def place(tx: Tx, change: Change, box: Mailbox, message: NewMessage, now: Instant) -> Stored:
    """Put a message into a mailbox, within a change that the caller began and will end."""
    set_ = bits.bits_for(tx, change.account, message.flags) if message.flags else 0
    thread = threads.assign(tx, change.account, message.id, message.parsed)
    # Counting first also hands out the UID: under the account's lock, from the mailbox's row.
    uid = _count(
        tx,
        change,
        box.id,
        uids=1,
        total=1,
        unseen=int(not set_ & bits.SEEN),
        deleted=int(bool(set_ & bits.DELETED)),
        size=message.size,
    )
    tx.run(
        tables.INSERT_MESSAGE,
        id=message.id,
        account=change.account,
        blob=message.blob,
        thread=thread,
        received_at=message.received_at,
        modseq=change.modseq,
    )
    tx.run(
        tables.INSERT_PLACEMENT,
        mailbox=box.id,
        uid=uid,
        message=message.id,
        blob=message.blob,
        size=message.size,
        received_at=message.received_at,
        flags=set_,
        modseq=change.modseq,
        now=now,
    )
    change.touch(Type.EMAIL | Type.MAILBOX, octets=message.size, messages=1)
    return Stored(box.id, box.uidvalidity, uid, message.id, thread)


def append(
    tx: Tx,
    account: int,
    box_id: int,
    new: Sequence[tuple[blobs.NewBlob, NewMessage]],
    quota: Quota,
    now: Instant,
    actor: int,
) -> list[Stored]:
    """APPEND of one or more messages, all or none. RFC 3501 §6.3.11, RFC 3502.

    Each pair is the last blob of its content and the message; raises NotFound, OverQuota.
    """
    change = begin(tx, account)
    box = _own(tx, account, box_id)
    stored: list[Stored] = []
    for blob, message in new:
        quota.check(change, message.size, 1)
        blobs.insert(tx, blob, now)
        store_parsed(tx, blob.id, message.parsed)
        stored.append(place(tx, change, box, message, now))
    before = {"box": box.id, "uids": [s.uid for s in stored]}
    change.end(tx, now, actor, "append", before)
    return stored


def _own(tx: Tx, account: int, box_id: int) -> Mailbox:
    box = folders.get(tx, box_id)
    if box.account != account:
        raise NotFound("No such mailbox")
    return box


def _count(
    tx: Tx,
    change: Change,
    box: int,
    *,
    uids: int = 0,
    total: int = 0,
    unseen: int = 0,
    deleted: int = 0,
    size: int = 0,
) -> int:
    """Move the mailbox's counters; returns the first of `uids` new UIDs."""
    row = tx.one(
        tables.COUNT,
        id=box,
        modseq=change.modseq,
        uids=uids,
        total=total,
        unseen=unseen,
        deleted=deleted,
        size=size,
    )
    if row is None:
        raise NotFound("No such mailbox")
    return int(row[0]) - uids


# --- flags ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlagChange:
    """STORE: which flags to set and to clear. RFC 3501 §6.4.6."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    replace: bool = False  # clear all that `add` does not name
    only: int = -1  # the bits that may change, where not all may


Groups = tuple[tuple[int, Sequence[int]], ...]
"""Flag sets, each with the UIDs that have it, ascending."""


@dataclass(frozen=True, slots=True)
class Flagged:
    """What a flag change did: groups of UIDs by their new flags, and who was passed over."""

    modseq: int
    groups: Groups  # new flags, changed UIDs
    same: Groups  # flags, UIDs that had them already
    failed: tuple[int, ...]  # changed after `unchanged_since`: RFC 7162 §3.1.3


@dataclass(frozen=True, slots=True)
class Known:
    """The flags of all picked messages as they were when their mailbox was at `modseq`."""

    modseq: int
    groups: Groups


def set_flags(
    tx: Tx,
    account: int,
    box_id: int,
    pick: Pick,
    wanted: FlagChange,
    now: Instant,
    actor: int,
    *,
    unchanged_since: int | None = None,
    known: Known | None = None,
) -> Flagged:
    """Change flags of the picked messages, in one statement; who has them already is left alone.

    `known` saves the look at the old flags, if the mailbox has not changed since. Raises
    NotFound, LimitReached if a keyword does not fit any more, Malformed.
    """
    change = begin(tx, account)
    box = _own(tx, account, box_id)
    return change_flags(
        tx, change, box, pick, wanted, now, actor, unchanged_since=unchanged_since, known=known
    )


def change_flags(
    tx: Tx,
    change: Change,
    box: Mailbox,
    pick: Pick,
    wanted: FlagChange,
    now: Instant,
    actor: int,
    *,
    unchanged_since: int | None = None,
    known: Known | None = None,
) -> Flagged:
    """`set_flags` as the whole of a change that the caller began, in a mailbox that it read since;
    ends the change."""
    account, box_id = change.account, box.id
    add = bits.bits_for(tx, account, wanted.add)
    remove = ~add if wanted.replace else bits.known_bits(tx, account, wanted.remove)
    add, remove = add & wanted.only, remove & wanted.only
    limit = change.modseq if unchanged_since is None else unchanged_since
    failed: tuple[int, ...] = ()
    if unchanged_since is not None:
        late = tx.all(pick.on(tables.LATER_CHANGED), **pick.params(box_id), unchanged_since=limit)
        failed = tuple(row[0] for row in late)
    if known is not None and known.modseq == box.modseq and unchanged_since is None:
        before = known.groups
    else:
        before = _grouped(tx, box_id, pick, limit)
    groups: list[tuple[int, Sequence[int]]] = []
    same: list[tuple[int, Sequence[int]]] = []
    was: list[tuple[int, str]] = []
    unseen = deleted = 0
    for old, uids in before:
        new = (old & ~remove) | add
        if new == old:
            same.append((old, uids))
            continue
        unseen += len(uids) * (int(not new & bits.SEEN) - int(not old & bits.SEEN))
        deleted += len(uids) * (int(bool(new & bits.DELETED)) - int(bool(old & bits.DELETED)))
        groups.append((new, uids))
        was.append((old, compressed(uids)))
    if groups:
        _change_flags(tx, box_id, pick, groups, ~remove, add, change.modseq, limit)
        _count(tx, change, box_id, unseen=unseen, deleted=deleted)
        change.touch(Type.EMAIL | (Type.MAILBOX if unseen or deleted else Type(0)))
    change.end(tx, now, actor, "flags", {"box": box_id, "was": was})
    reached = change.modseq if groups else change.modseq - 1
    return Flagged(reached, tuple(groups), tuple(same), failed)


def _grouped(tx: Tx, box_id: int, pick: Pick, limit: int) -> Groups:
    """The picked messages by their flags, but for those that changed after `limit`."""
    rows = tx.all(pick.on(tables.GROUPED_FLAGS), **pick.params(box_id), unchanged_since=limit)
    return tuple((old, tuple(sorted(map(int, listed.split(","))))) for old, listed in rows)


def _change_flags(
    tx: Tx,
    box_id: int,
    pick: Pick,
    groups: Sequence[tuple[int, Sequence[int]]],
    keep: int,
    add: int,
    modseq: int,
    limit: int,
) -> None:
    """The rows of those that change, and the log of changes."""
    changed: Sequence[int] = groups[0][1]
    if len(groups) > 1:
        changed = sorted(chain.from_iterable(uids for _, uids in groups))
    if len(changed) <= FEW:
        pick = Pick.of(changed)  # the others of a large choice need not be looked at again
    tx.run(
        pick.on(tables.SET_FLAGS),
        **pick.params(box_id),
        keep=keep,
        add=add,
        modseq=modseq,
        unchanged_since=limit,
    )
    tx.run(
        tables.MARK_BLOCKS, mailbox=box_id, blocks=[(n,) for n in _blocks(changed)], modseq=modseq
    )


def _blocks(uids: Sequence[int]) -> Sequence[int]:
    """The blocks in which ascending UIDs lie, ascending."""
    first, last = uids[0] // tables.BLOCK, uids[-1] // tables.BLOCK
    if uids[-1] - uids[0] == len(uids) - 1:
        return range(first, last + 1)
    return sorted({uid // tables.BLOCK for uid in uids})


def compressed(uids: Sequence[int]) -> str:
    """Ascending numbers as ranges: 1:3,7."""
    if len(uids) > 1 and uids[-1] - uids[0] == len(uids) - 1:
        return f"{uids[0]}:{uids[-1]}"  # no gap: most choices of many
    pieces: list[str] = []
    first = last = 0
    for uid in uids:
        if uid == last + 1 and last:
            last = uid
            continue
        if last:
            pieces.append(f"{first}:{last}" if last > first else str(first))
        first = last = uid
    if last:
        pieces.append(f"{first}:{last}" if last > first else str(first))
    return ",".join(pieces)


# --- copy, move, expunge ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Copied:
    """COPYUID: source and target UIDs, pairwise. RFC 4315 §3."""

    uidvalidity: int
    source: tuple[int, ...]
    target: tuple[int, ...]
    modseq: int


def copy(
    tx: Tx,
    account: int,
    box_id: int,
    target_id: int,
    pick: Pick,
    quota: Quota,
    now: Instant,
    actor: int,
) -> Copied:
    """Place the picked messages in another mailbox of the account as well; no byte is copied.

    Raises NotFound, OverQuota.
    """
    change = begin(tx, account)
    _own(tx, account, box_id)
    target = _own(tx, account, target_id)
    source = _existing(tx, box_id, pick)
    copied = _copy(tx, change, box_id, target, pick, source, quota, now)
    before = {"box": box_id, "to": target_id, "uids": compressed(copied.target)}
    change.end(tx, now, actor, "copy", before)
    return copied


def _existing(tx: Tx, box_id: int, pick: Pick) -> tuple[int, ...]:
    rows = tx.all(pick.on(tables.FLAGS), **pick.params(box_id), limit=ALL)
    return tuple(row[0] for row in rows)


def _copy(
    tx: Tx,
    change: Change,
    box_id: int,
    target: Mailbox,
    pick: Pick,
    source: tuple[int, ...],
    quota: Quota,
    now: Instant,
) -> Copied:
    if not source:
        return Copied(target.uidvalidity, (), (), change.modseq - 1)
    pick = pick.up_to(source[-1])
    total, unseen, deleted, size = _counted(tx, box_id, pick)
    quota.check(change, size, total)
    base = _count(
        tx, change, target.id, uids=total, total=total, unseen=unseen, deleted=deleted, size=size
    )
    tx.run(
        pick.on(tables.COPY_PLACEMENTS),
        **pick.params(box_id),
        target=target.id,
        base=base,
        modseq=change.modseq,
        now=now,
    )
    change.touch(Type.EMAIL | Type.MAILBOX, octets=size, messages=total)
    return Copied(target.uidvalidity, source, tuple(range(base, base + total)), change.modseq)


def _counted(tx: Tx, box_id: int, pick: Pick) -> tuple[int, int, int, int]:
    row = tx.one(pick.on(tables.COUNTED), **pick.params(box_id))
    total, unseen, deleted, size = row if row is not None else (0, 0, 0, 0)
    return int(total), int(unseen), int(deleted), int(size)


def move(
    tx: Tx,
    account: int,
    box_id: int,
    target_id: int,
    pick: Pick,
    now: Instant,
    actor: int,
) -> Copied:
    """Move the picked messages within the account, in one unit. RFC 6851.

    Nothing becomes recoverable: the messages are still there. Raises NotFound.
    """
    change = begin(tx, account)
    _own(tx, account, box_id)
    target = _own(tx, account, target_id)
    source = _existing(tx, box_id, pick)
    moved = _copy(tx, change, box_id, target, pick, source, UNLIMITED, now)
    if source:
        # The target may be the same mailbox: what came to lie there is not to go.
        remove(tx, change, box_id, pick.up_to(source[-1]), now)
    before = {
        "box": box_id,
        "uids": compressed(source),
        "to": target_id,
        "became": compressed(moved.target),
    }
    change.end(tx, now, actor, "move", before)
    return moved


def remove(tx: Tx, change: Change, box_id: int, pick: Pick, now: Instant) -> None:
    """Take placements away within a change: tombstones, counters, quota."""
    buried = tx.run(
        pick.on(tables.TO_TOMBSTONES),
        **pick.params(box_id),
        account=change.account,
        modseq=change.modseq,
        now=now,
    )
    tx.run(tables.COUNT_TOMBSTONES, account=change.account, more=buried)
    erase(tx, change, box_id, pick)


def erase(tx: Tx, change: Change, box_id: int, pick: Pick) -> None:
    """`remove` without tombstones: where no client will ask again."""
    total, unseen, deleted, size = _counted(tx, box_id, pick)
    tx.run(pick.on(tables.REMOVE_PLACEMENTS), **pick.params(box_id))
    blocks = _block_pick(pick)
    tx.run(blocks.on(tables.FORGET_BLOCKS), **blocks.params(box_id))
    _count(tx, change, box_id, total=-total, unseen=-unseen, deleted=-deleted, size=-size)
    change.touch(Type.EMAIL | Type.MAILBOX, octets=-size, messages=-total)


def _block_pick(pick: Pick) -> Pick:
    """The blocks of the log in which picked UIDs lie."""
    if pick.uids is not None:
        return Pick.of(_blocks(pick.uids))
    return Pick(pick.first // tables.BLOCK, pick.last // tables.BLOCK)


@dataclass(frozen=True, slots=True)
class Expunged:
    """The UIDs that are gone, ascending."""

    uids: tuple[int, ...]
    modseq: int


def expunge(
    tx: Tx,
    account: int,
    box_id: int,
    pick: Pick,
    now: Instant,
    actor: int,
    *,
    retention: int,
) -> Expunged:
    """Remove the picked messages; each stays recoverable for `retention` milliseconds.

    Callers choose among messages flagged \\Deleted and pick at most `units.UNIT_ROWS` at a
    time; RFC 3501 §6.4.3. Raises NotFound.
    """
    change = begin(tx, account)
    _own(tx, account, box_id)
    gone = _existing(tx, box_id, pick)
    if gone:
        path = folders.tree(tx, account).path(box_id)
        tx.run(
            pick.on(tables.TO_RECOVERABLE),
            **pick.params(box_id),
            account=account,
            path=path,
            until=now + retention,
        )
        remove(tx, change, box_id, pick, now)
    change.end(tx, now, actor, "expunge", {"box": box_id, "uids": compressed(gone)})
    return Expunged(gone, change.modseq if gone else change.modseq - 1)


def flagged_deleted(tx: Tx, box_id: int, limit: int) -> list[int]:
    """UIDs flagged \\Deleted, ascending, at most `limit`."""
    rows = tx.all(tables.UIDS_FLAGGED, mailbox=box_id, mask=bits.DELETED, limit=limit)
    return [row[0] for row in rows]


def pieces(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut a long choice into pieces that fit a unit."""
    for start in range(0, len(uids), size):
        yield uids[start : start + size]
