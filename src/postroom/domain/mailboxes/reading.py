"""What sessions read: states, UIDs, changes since a modseq, rows for FETCH."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, marks, tables
from postroom.domain.mailboxes.claimed import tables as claimed
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import ALL, held, store_parsed
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.parsed import MAKER_VERSION, Parsed
from postroom.store.sql import Picking, Row, Tx


@dataclass(frozen=True, slots=True)
class AccountState:
    """The account's change log: its end, its floor, and the epoch of rights."""

    modseq: int
    floor_modseq: int
    rights_epoch: int


def account_state(tx: Tx, account: int) -> AccountState:
    """Raises NotFound."""
    row = tx.one(tables.ACCOUNT_STATE, id=account)
    if row is None:
        raise NotFound("No such account")
    return AccountState(*row)


def usage(tx: Tx, account: int) -> tuple[int, int]:
    """Octets and messages that count towards the quota; raises NotFound."""
    row = tx.one(tables.USAGE, id=account)
    if row is None:
        raise NotFound("No such account")
    return int(row[0]), int(row[1])


@dataclass(frozen=True, slots=True)
class Opened:
    """What SELECT needs, from one snapshot. RFC 3501 §6.3.1."""

    mailbox: Mailbox
    uids: array.array[int]
    registry: Registry
    first_unseen: int | None


def open_mailbox(tx: Tx, box: int) -> Opened:
    """The mailbox with all its UIDs; raises NotFound."""
    mailbox = folders.get(tx, box)
    return Opened(mailbox, uids(tx, box), bits.registry(tx, mailbox.account), first_unseen(tx, box))


def uids(tx: Tx, box: int) -> array.array[int]:
    """Every UID of the mailbox, ascending."""
    return array.array("I", [row[0] for row in tx.all(tables.UIDS, mailbox=box)])


def modseq(tx: Tx, box: int) -> int | None:
    """The modseq of the last change of a mailbox's content; None if it is gone."""
    row = tx.one(tables.MAILBOX_MODSEQ, id=box)
    return int(row[0]) if row is not None else None


def first_unseen(tx: Tx, box: int) -> int | None:
    """The lowest UID without \\Seen, if there is one."""
    return marks.first_unseen(tx, box)


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened in a mailbox after a modseq, up to `mailbox.modseq`."""

    mailbox: Mailbox
    flags: tuple[tuple[int, int, int], ...]  # uid, flags, modseq; new messages among them
    vanished: tuple[int, ...]  # UIDs, ascending


def changes(tx: Tx, box: int, since: int) -> Changes:
    """The changes of a mailbox after `since`; costs one row if there are none.

    Raises NotFound if the mailbox is gone. The caller makes sure that `since` is not below the
    account's floor: tombstones below it are forgotten. RFC 7162 §3.2.
    """
    mailbox = folders.get(tx, box)
    if mailbox.modseq <= since:
        return Changes(mailbox, (), ())
    rows = tx.all(tables.CHANGED, mailbox=box, since=since)
    vanished = tx.all(tables.VANISHED, account=mailbox.account, mailbox=box, since=since)
    came = [(uid, flags, modseq) for uid, flags, modseq, groups in rows if groups is None]
    if len(came) < len(rows):
        blocks = [(number, groups) for number, _, _, groups in rows if groups is not None]
        came = _merged(came, marks.collected(blocks, since))
    else:
        came.sort()
    return Changes(mailbox, tuple(came), tuple([row[0] for row in vanished]))


def _merged(rows: list[Row], became: marks.Marks) -> list[Row]:
    """(uid, flags, modseq) of what came and of what became of it or of others, ascending."""
    found: dict[int, tuple[int, int]] = {uid: (flags, modseq) for uid, flags, modseq in rows}
    found.update(became)
    return [(uid, *found[uid]) for uid in sorted(found)]


def vanished(tx: Tx, mailbox: Mailbox, since: int) -> array.array[int] | None:
    """The UIDs that were removed after `since`, ascending; None if that is not known any more,
    since `since` lies below the account's floor. RFC 7162 §3.2.6."""
    if since < account_state(tx, mailbox.account).floor_modseq:
        return None
    rows = tx.all(tables.VANISHED, account=mailbox.account, mailbox=mailbox.id, since=since)
    return array.array("I", [row[0] for row in rows])


def changed_spans(tx: Tx, mailbox: Mailbox, since: int) -> list[tuple[int, int]]:
    """Ranges of UIDs, ascending and disjoint, outside of which nothing came or changed its flags
    after `since`: at most one for 64 messages. `changed_in` reads what lies within."""
    last = tx.one(tables.LAST_BEFORE, mailbox=mailbox.id, since=since)
    newer = (last[0] if last is not None else 0) + 1
    spans: list[tuple[int, int]] = []
    for first, past in marks.changed_blocks(tx, mailbox.id, since):
        end = min(past, newer - 1)
        if first > end:
            break
        begin = spans.pop()[0] if spans and spans[-1][1] + 1 == first else first
        spans.append((begin, end))
    if newer < mailbox.uidnext:
        spans.append((newer, mailbox.uidnext - 1))
    return spans


def changed_in(
    tx: Tx, box: int, since: int, first: int, last: int, limit: int
) -> list[tuple[int, int, int]]:
    """(uid, flags, modseq) of what changed after `since` among the UIDs from `first` to `last`,
    ascending, at most `limit`."""
    rows = tx.all(tables.CAME_IN, mailbox=box, since=since, first=first, last=last, limit=limit)
    became = marks.changed(tx, box, since, first, last)
    return _merged(rows, became)[:limit] if became else rows


class Brief(NamedTuple):
    """A placement without what was parsed."""

    uid: int
    flags: int
    modseq: int
    size: int
    received_at: int
    saved_at: int
    message: int
    blob: int


class Full(NamedTuple):
    """A placement with what was parsed at delivery: wire bytes, ready to send."""

    uid: int
    flags: int
    modseq: int
    size: int
    received_at: int
    saved_at: int
    message: int
    blob: int
    envelope: bytes
    structure: bytes
    layout: bytes
    header_size: int
    preview: str


def _now(tx: Tx, box: int, pick: Pick, picking: Picking, **more: int) -> list[Row]:
    """Rows that begin with UID, flags and modseq, with those as they are."""
    return marks.now(tx, box, pick, tx.all(pick.on(picking), **pick.params(box), **more))


def flags(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[tuple[int, int, int]]:
    """(uid, flags, modseq) of the picked messages, ascending."""
    return _now(tx, box, pick, tables.FLAGS, limit=limit)


def flag_sets(tx: Tx, box: int, first: int, last: int) -> list[tuple[int, int]]:
    """(uid, flags) of all messages from `first` to `last`, ascending."""
    rows = tx.all(tables.FLAG_SETS, mailbox=box, first=first, last=last)
    became = marks.of(tx, box, Pick(first, last), rows)
    if not became:
        return rows
    return [row if (mark := became.get(row[0])) is None else (row[0], mark[0]) for row in rows]


def brief(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[Brief]:
    """Placements of the picked messages, ascending, at most `limit`."""
    make: Callable[[tuple[int, ...]], Brief] = Brief._make
    return [make(row) for row in _now(tx, box, pick, tables.BRIEF, limit=limit)]


def brief_rows(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[Row]:
    """Rows in the shape of `Brief`, as bare tuples: for those who send thousands."""
    return _now(tx, box, pick, tables.BRIEF, limit=limit)


def whole_rows(tx: Tx, box: int, pick: Pick) -> list[Row]:
    """Rows in the shape of `Brief`, and the content of those that lie in one row of raw octets,
    else None. For few: all of it is in memory."""
    return _now(tx, box, pick, tables.WHOLE)


def meta_rows(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[Row]:
    """Rows in the shape of `Full` up to its structure: what a listing asks for."""
    return _now(tx, box, pick, tables.META, limit=limit)


def listed_rows(tx: Tx, box: int, pick: Pick) -> list[Row]:
    """(uid, size, received_at, envelope, structure, version of their maker): what a listing tells
    that never changes."""
    return tx.all(pick.on(tables.LISTED), **pick.params(box))


def placed_rows(tx: Tx, box: int, pick: Pick) -> list[Row]:
    """(uid, size, received_at): `listed_rows` of what was not parsed."""
    return tx.all(pick.on(tables.PLACED), **pick.params(box))


def full_rows(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[Row]:
    """Rows in the shape of `Full`, as bare tuples: for those who send thousands."""
    return _now(tx, box, pick, tables.FULL, limit=limit)


def full(tx: Tx, box: int, pick: Pick, limit: int = ALL) -> list[Full]:
    """Placements with their parse, ascending, at most `limit`."""
    return [Full._make(row) for row in _now(tx, box, pick, tables.FULL, limit=limit)]


class Searched(NamedTuple):
    """A placement with what SEARCH asks of its parse; None where the parse is missing."""

    uid: int
    flags: int
    modseq: int
    size: int
    received_at: int
    saved_at: int
    message: int
    blob: int
    subject: str | None
    sent_at: int | None
    header_size: int | None


def searched(tx: Tx, box: int, pick: Pick) -> list[Searched]:
    """The picked messages, ascending, as SEARCH looks at them."""
    make: Callable[[tuple[object, ...]], Searched] = Searched._make
    return [make(row) for row in _now(tx, box, pick, tables.SEARCHED)]


def subjects(tx: Tx, box: int, first: int, last: int) -> list[tuple[int, str | None, int | None]]:
    """(uid, subject, version of its maker) from `first` to `last`, ascending; None where the parse
    is missing."""
    return tx.all(tables.SUBJECTS, mailbox=box, first=first, last=last)


def sort_keys(
    tx: Tx, box: int, key: str, first: int, last: int
) -> list[tuple[int, int | str | bytes | None, int | None]]:
    """(uid, sort key, version of its maker) from `first` to `last`, ascending. `key` is one of
    RFC 5256 §3, a number or a text, or of RFC 5957 §4, the envelope; both are None where the parse
    is missing, but for a DATE, which is the arrival then (RFC 5256 §2.2)."""
    return tx.all(tables.SORTED_BY[key], mailbox=box, first=first, last=last)


class ToJoin(NamedTuple):
    """What THREAD asks of a message's parse; without a version the parse is missing, and so is
    all of it but the arrival in the place of the sent date."""

    uid: int
    blob: int
    header_size: int
    message_id: bytes | None
    subject: str
    sent: int
    version: int | None


def to_join(tx: Tx, box: int, first: int, last: int) -> list[ToJoin]:
    """What joins the messages from `first` to `last` to others, ascending."""
    rows = tx.all(tables.TO_JOIN, mailbox=box, first=first, last=last)
    return [ToJoin._make(row) for row in rows]


def parts(tx: Tx, wanted: Sequence[tuple[int, int, int]]) -> list[bytes | None]:
    """Parts of several contents by (blob, start, length): all by one statement.

    None where the content is not kept as one row of raw octets or is shorter: `Blobs.read` has
    it, or says what is wrong.
    """
    asked = [(n, blob, start + 1, length) for n, (blob, start, length) in enumerate(wanted)]
    found: list[bytes | None] = [None] * len(asked)
    for n, data in tx.all(tables.PARTS, wanted=asked):
        if data is not None and len(data) == asked[n][3]:
            found[n] = data
    return found


def digests(tx: Tx, box: int, first: int, limit: int) -> list[tuple[int, bytes]]:
    """(uid, SHA-256 of the content) from UID `first` on, ascending, at most `limit`."""
    return tx.all(tables.DIGESTS, mailbox=box, first=first, limit=limit)


def threads_of(tx: Tx, messages: list[int]) -> dict[int, int]:
    """THREADID by EMAILID. RFC 8474 §5.2."""
    return dict(tx.all(tables.THREADS_OF, ids=messages))


def stale(tx: Tx, blob: int) -> bool:
    """The parse of this blob was made by an older maker, or is missing."""
    row = tx.one(tables.PARSED_VERSION, blob=blob)
    return row is None or row[0] < MAKER_VERSION


def renew(tx: Tx, blob: int, parsed: Parsed) -> None:
    """Replace a parse; derived data is never authoritative."""
    store_parsed(tx, blob, parsed)


def recent_floor(tx: Tx, box: int) -> int:
    """In `state`: UIDs from here on no session has been told of. RFC 3501 §2.3.2."""
    row = tx.one(claimed.RECENT_FLOOR, mailbox=box)
    return int(row[0]) if row is not None else 1


def recent_floors(tx: Tx, boxes: list[int]) -> dict[int, int]:
    """`recent_floor` of many mailboxes; those that nobody has opened yet are not in it."""
    return dict(tx.all(claimed.RECENT_FLOORS, ids=boxes))


def count_from(tx: Tx, box: int, first: int) -> int:
    """How many messages have a UID of at least `first`."""
    row = tx.one(tables.COUNT_FROM, mailbox=box, first=first)
    return int(row[0]) if row is not None else 0


def deleted_size(tx: Tx, box: int) -> int:
    """Octets of the messages that are flagged \\Deleted: RFC 9208 §4.1.4. Walks the mailbox."""
    uids = marks.flagged(tx, box, bits.DELETED, ALL)
    return held(tx, box, Pick.of(uids)).size if uids else 0


def raise_recent(tx: Tx, box: int, floor: int) -> None:
    """In `state`: a session was told of the UIDs below `floor`."""
    tx.run(claimed.RAISE_RECENT, mailbox=box, floor=floor)


@dataclass(frozen=True, slots=True)
class Recoverable:
    """A removed message that can be brought back."""

    mailbox: int
    uid: int
    message: int
    path: str
    flags: int
    received_at: Instant
    until: Instant


def recoverable(tx: Tx, account: int, limit: int) -> list[Recoverable]:
    """What can be brought back, the latest first."""
    rows = tx.all(tables.RECOVERABLE_ROWS, account=account, limit=limit)
    return [Recoverable(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Where a message lies now, or where it lay and until when it can be brought back."""

    message: int
    account: int
    mailbox: int
    path: str
    uid: int
    flags: tuple[str, ...]
    recoverable_until: Instant | None = None


def whereabouts(tx: Tx, messages: list[int]) -> list[Whereabouts]:
    """Every placement of these messages, and what of them can be brought back."""
    found: list[Whereabouts] = []
    for message, box, uid, set_, account in tx.all(tables.WHEREABOUTS, ids=messages):
        ((_, now, _),) = marks.now(tx, box, Pick(uid, uid), [(uid, set_, 0)])
        path = folders.tree(tx, account).path(box)
        names = bits.registry(tx, account).flags(now)
        found.append(Whereabouts(message, account, box, path, uid, names))
    for message, box, uid, path, until in tx.all(tables.RECOVERABLE_OF, ids=messages):
        found.append(Whereabouts(message, 0, box, path, uid, (), Instant(until)))
    return found
