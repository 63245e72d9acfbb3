"""Messages in mailboxes: append, flags, copy, move, expunge. Plain functions over a unit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotFound, OverQuota
from postroom.domain.events import Type
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, marks, tables, threads
from postroom.domain.mailboxes.change import Change, begin
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.picking import Pick, runs
from postroom.formats.parsed import Parsed
from postroom.store import blobs
from postroom.store.sql import Tx

SYSTEM_ACTOR: Final = 0
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
    if known is not None and known.modseq == box.modseq and unchanged_since is None:
        before = known.groups
    else:
        before, failed = _grouped(tx, box_id, pick, limit)
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
        marks.change(tx, box_id, groups, change.modseq)
        _count(tx, change, box_id, unseen=unseen, deleted=deleted)
        change.touch(Type.EMAIL | (Type.MAILBOX if unseen or deleted else Type(0)))
    change.end(tx, now, actor, "flags", {"box": box_id, "was": was})
    reached = change.modseq if groups else change.modseq - 1
    return Flagged(reached, tuple(groups), tuple(same), failed)


def _grouped(tx: Tx, box_id: int, pick: Pick, limit: int) -> tuple[Groups, tuple[int, ...]]:
    """The picked messages by their flags, and those that changed after `limit` instead."""
    rows = tx.all(pick.on(tables.FLAGS), **pick.params(box_id), limit=ALL)
    found: dict[int, list[int]] = {}
    later: list[int] = []
    for uid, flags, modseq in marks.now(tx, box_id, pick, rows):
        if modseq <= limit:
            found.setdefault(flags, []).append(uid)
        else:
            later.append(uid)
    return tuple([(flags, tuple(uids)) for flags, uids in found.items()]), tuple(later)


def compressed(uids: Sequence[int]) -> str:
    """Ascending numbers as ranges: 1:3,7."""
    return ",".join([f"{lo}:{hi}" if lo < hi else str(lo) for lo, hi in runs(uids)])


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
    copied = _copy(tx, change, box_id, target, pick, held(tx, box_id, pick), quota, now)
    before = {"box": box_id, "to": target_id, "uids": compressed(copied.target)}
    change.end(tx, now, actor, "copy", before)
    return copied


@dataclass(frozen=True, slots=True)
class Held:
    """Picked messages that are there, with what they count."""

    uids: tuple[int, ...]
    flags: tuple[int, ...]
    size: int  # octets
    marks: marks.Marks  # of those whose flags changed since they came

    @property
    def unseen(self) -> int:
        return sum([not flags & bits.SEEN for flags in self.flags])

    @property
    def deleted(self) -> int:
        return sum([bool(flags & bits.DELETED) for flags in self.flags])

    @property
    def by_flags(self) -> Groups:
        """Their UIDs by their flags."""
        found: dict[int, list[int]] = {}
        for uid, flags in zip(self.uids, self.flags, strict=True):
            found.setdefault(flags, []).append(uid)
        return tuple(found.items())


def held(tx: Tx, box_id: int, pick: Pick) -> Held:
    """The picked messages that are there."""
    rows = tx.all(pick.on(tables.HELD), **pick.params(box_id))
    uids = tuple([row[0] for row in rows])
    became = marks.of(tx, box_id, pick, rows)
    flags = tuple([became[uid][0] if uid in became else came for uid, came, _ in rows])
    return Held(uids, flags, sum([row[2] for row in rows]), became)


def _copy(
    tx: Tx,
    change: Change,
    box_id: int,
    target: Mailbox,
    pick: Pick,
    source: Held,
    quota: Quota,
    now: Instant,
) -> Copied:
    total = len(source.uids)
    if not total:
        return Copied(target.uidvalidity, (), (), change.modseq - 1)
    pick = pick.up_to(source.uids[-1])
    quota.check(change, source.size, total)
    base = _count(
        tx,
        change,
        target.id,
        uids=total,
        total=total,
        unseen=source.unseen,
        deleted=source.deleted,
        size=source.size,
    )
    tx.run(
        pick.on(tables.COPY_PLACEMENTS),
        **pick.params(box_id),
        target=target.id,
        base=base,
        modseq=change.modseq,
        now=now,
    )
    marked: dict[int, list[int]] = {}
    for n, uid in enumerate(source.uids if source.marks else ()):
        if uid in source.marks:
            marked.setdefault(source.flags[n], []).append(base + n)
    marks.change(tx, target.id, marked.items(), change.modseq)
    change.touch(Type.EMAIL | Type.MAILBOX, octets=source.size, messages=total)
    return Copied(target.uidvalidity, source.uids, tuple(range(base, base + total)), change.modseq)


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
    source = held(tx, box_id, pick)
    moved = _copy(tx, change, box_id, target, pick, source, UNLIMITED, now)
    if source.uids:
        # The target may be the same mailbox: what came to lie there is not to go.
        remove(tx, change, box_id, pick.up_to(source.uids[-1]), source, now)
    before = {
        "box": box_id,
        "uids": compressed(source.uids),
        "to": target_id,
        "became": compressed(moved.target),
    }
    change.end(tx, now, actor, "move", before)
    return moved


def remove(tx: Tx, change: Change, box_id: int, pick: Pick, gone: Held, now: Instant) -> None:
    """Take picked placements away within a change: tombstones, counters, quota."""
    buried = tx.run(
        pick.on(tables.TO_TOMBSTONES),
        **pick.params(box_id),
        account=change.account,
        modseq=change.modseq,
        now=now,
    )
    tx.run(tables.COUNT_TOMBSTONES, account=change.account, more=buried)
    erase(tx, change, box_id, pick, gone)


def erase(tx: Tx, change: Change, box_id: int, pick: Pick, gone: Held) -> None:
    """`remove` without tombstones: where no client will ask again."""
    tx.run(pick.on(tables.REMOVE_PLACEMENTS), **pick.params(box_id))
    if gone.marks:
        marks.forget(tx, box_id, pick)
    total, size = len(gone.uids), gone.size
    _count(
        tx,
        change,
        box_id,
        total=-total,
        unseen=-gone.unseen,
        deleted=-gone.deleted,
        size=-size,
    )
    change.touch(Type.EMAIL | Type.MAILBOX, octets=-size, messages=-total)


def make_recoverable(
    tx: Tx, account: int, box_id: int, gone: Held, path: str, until: Instant
) -> None:
    """Messages that are about to be removed can be brought back until then."""
    for flags, uids in gone.by_flags:
        pick = Pick.of(uids)
        tx.run(
            pick.on(tables.TO_RECOVERABLE),
            **pick.params(box_id),
            account=account,
            path=path,
            flags=flags,
            until=until,
        )


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
    gone = held(tx, box_id, pick)
    if gone.uids:
        path = folders.tree(tx, account).path(box_id)
        make_recoverable(tx, account, box_id, gone, path, Instant(now + retention))
        remove(tx, change, box_id, pick, gone, now)
    before = {"box": box_id, "uids": compressed(gone.uids)}
    change.end(tx, now, actor, "expunge", before)
    return Expunged(gone.uids, change.modseq if gone.uids else change.modseq - 1)


def flagged_deleted(tx: Tx, box_id: int, limit: int) -> list[int]:
    """UIDs flagged \\Deleted, ascending, at most `limit`."""
    return marks.flagged(tx, box_id, bits.DELETED, limit)


def pieces(uids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut a long choice into pieces that fit a unit."""
    for start in range(0, len(uids), size):
        yield uids[start : start + size]
