"""What a client that comes back is told: which messages vanished, and what changed. RFC 7162 §3.2.

Tombstones answer what vanished; where they were forgotten, it is all that the client may know of
and that is not there. Answers are made in pieces while the peer reads, whatever their size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.folders import Mailbox
from postroom.protocols.imap.keeping_up import announce_keywords, write_vanished
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.view import Range, Ranges, View
from postroom.store.sql import Tx
from postroom.wire.imap import QResync, SequenceSet

PIECE: Final = 1_000
"""Messages in one read, and in one write."""


async def resynchronise(session: Session, asked: QResync) -> None:
    """All that happened in the mailbox that was just opened since the client saw it last.

    The caller has compared UIDVALIDITY. What came and went after the mailbox was read is told
    later, as to any client. RFC 7162 §3.2.5.1.
    """
    selected = session.open
    if selected.mailbox.modseq <= asked.modseq:
        return
    within = known(selected.mailbox, asked.known_uids)
    beyond = 0
    if asked.sequence_match is not None:
        beyond = matching(selected.view, *asked.sequence_match)
    missed = [(max(lo, beyond + 1), hi) for lo, hi in within if hi > beyond]
    await tell_vanished(session, asked.modseq, missed)
    await tell_changed(session, asked.modseq, within)


def known(mailbox: Mailbox, uids: SequenceSet | None) -> list[Range]:
    """The UIDs that a client speaks of; without a word, all that there ever were."""
    last = mailbox.uidnext - 1
    if uids is None:
        return [(1, last)] if last else []
    return [(lo, min(hi, last)) for lo, hi in uids.resolve(last) if lo <= last]


def matching(view: View, numbers: SequenceSet, uids: SequenceSet) -> int:
    """The highest UID that still has the message number which the client has for it, 0 if there
    is none: of what lies below, nothing vanished without the client. RFC 7162 §3.2.5.2.

    Both sets ascend, and the n-th of one belongs to the n-th of the other.
    """
    found = 0
    for number, uid, count in _pairs(numbers.ranges, uids.ranges):
        low, high = number, min(number + count - 1, view.size)
        while low <= high:  # a UID's distance to its number never shrinks: the last one that fits
            middle = (low + high) // 2
            if view.uid(middle) - middle <= uid - number:
                low = middle + 1
            else:
                high = middle - 1
        if high >= number and view.uid(high) - high == uid - number:
            found = view.uid(high)
    return found


def _pairs(some: Sequence[Range], others: Sequence[Range]) -> Iterator[tuple[int, int, int]]:
    """(number, UID, count): stretches of numbers whose UIDs rise with them."""
    left, right = iter(some), iter(others)
    lo, hi = next(left, (1, 0))
    first, last = next(right, (1, 0))
    while lo <= hi and first <= last:
        count = min(hi - lo, last - first) + 1
        yield lo, first, count
        lo, first = lo + count, first + count
        if lo > hi:
            lo, hi = next(left, (1, 0))
        if first > last:
            first, last = next(right, (1, 0))


async def tell_vanished(session: Session, since: int, within: Sequence[Range]) -> None:
    """VANISHED (EARLIER): of the UIDs `within`, ascending and disjoint, those that were removed
    after `since`, or, if that is not known any more, all that are not there. RFC 7162 §3.2.10.1.

    Not what the client still counts: that vanishes before its eyes.
    """
    selected = session.open
    if not within:
        return
    gone = await session.shared.house.mail.read_much(_vanished, selected.mailbox, since)
    ranges = within if gone is None else common(gone, within)
    view = selected.view
    absent = (each for lo, hi in ranges for each in view.absent(lo, hi))
    await write_vanished(session, absent, earlier=True)


def _vanished(tx: Tx, mailbox: Mailbox, since: int) -> Ranges | None:
    uids = reading.vanished(tx, mailbox, since)
    return Ranges(uids) if uids is not None else None


def common(some: Iterable[Range], others: Iterable[Range]) -> Iterator[Range]:
    """What two rows of ranges, each ascending and disjoint, have in common."""
    left, right = iter(some), iter(others)
    one, other = next(left, None), next(right, None)
    while one is not None and other is not None:
        lo, hi = max(one[0], other[0]), min(one[1], other[1])
        if lo <= hi:
            yield lo, hi
        if one[1] < other[1]:
            one = next(left, None)
        else:
            other = next(right, None)


async def tell_changed(session: Session, since: int, within: Sequence[Range]) -> None:
    """The flags of what came or changed after `since`, of the UIDs `within`. RFC 7162 §3.2.5.1."""
    selected, mail = session.open, session.shared.house.mail
    for first, last in common(await changed_spans(session, since), within):
        async for rows in changed_rows(session, since, first, last):
            # Others may have made keywords since the mailbox was read.
            announce_keywords(
                session, selected, await mail.read(bits.registry, selected.mailbox.account)
            )
            session.write(_lines(session, rows))
            await session.output.drain()


def _lines(session: Session, rows: Sequence[tuple[int, int, int]]) -> bytes:
    """(uid, flags, modseq) of messages, ascending, as responses; what came since is passed over."""
    selected = session.open
    numbers = selected.view.numbers([row[0] for row in rows])
    known = [row for row, number in zip(rows, numbers, strict=True) if number]
    if not known:
        return b""
    uids, sets, modseqs = zip(*known, strict=True)
    shown = selected.flags_column(sets, uids)
    if session.uidonly:
        each = zip(uids, shown, modseqs, strict=True)
        return b"".join(map(b"* %d UIDFETCH (FLAGS %b MODSEQ (%d))\r\n".__mod__, each))
    told = zip(filter(None, numbers), uids, shown, modseqs, strict=True)
    return b"".join(map(b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n".__mod__, told))


async def changed_spans(session: Session, since: int) -> list[Range]:
    """Ranges of UIDs outside of which nothing changed after `since`."""
    mail = session.shared.house.mail
    return await mail.read_much(reading.changed_spans, session.open.mailbox, since)


async def changed_rows(
    session: Session, since: int, first: int, last: int
) -> AsyncIterator[list[tuple[int, int, int]]]:
    """(uid, flags, modseq) of what changed after `since` among some UIDs, piece by piece."""
    mail, box = session.shared.house.mail, session.open.mailbox.id
    pace = Pace(session.shared.clock)
    at = first
    while at <= last:
        rows = await mail.read(reading.changed_in, box, since, at, last, PIECE)
        if rows:
            yield rows
        if len(rows) < PIECE:
            return
        at = rows[-1][0] + 1
        if pace.over:
            await pace.rest()
