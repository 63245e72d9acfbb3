"""STORE and UID STORE. RFC 3501 §6.4.6, RFC 7162 §3.1.3, RFC 4314 §4."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import NotAllowed
from postroom.domain.mailboxes import messages, reading, rights
from postroom.domain.mailboxes.change import begin
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import FlagChange, Flagged, Known
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.reading import Changes
from postroom.domain.mailboxes.rights import MissingRight, Right
from postroom.protocols.imap.keeping_up import announce_keywords, caught_up, finish, flags_line
from postroom.protocols.imap.picking import picks
from postroom.protocols.imap.plans import fetch_head
from postroom.protocols.imap.selected import Selected, changeable, may_change
from postroom.protocols.imap.session import Session
from postroom.store.sql import Tx
from postroom.wire.imap import Command, Store, StoreMode, compress, parse_store

LINES: Final = 1_000
"""Untagged responses written at once; then the peer's reading sets the pace."""

PIECE: Final = 10_000
"""Messages in one unit: a set statement for each combination of flags, whatever their number."""


async def store(session: Session, command: Command) -> None:
    """Change flags and tell the new ones, unless .SILENT was asked for."""
    uid = command.name.startswith(b"UID ")
    asked = parse_store(command.args)
    selected = session.open
    if selected.read_only:
        raise NotAllowed("The mailbox is open for reading only")
    wanted = _change(asked)
    if selected.rights != rights.ALL:
        wanted, whole = _permitted(wanted, selected.rights)
        asked = asked if whole else replace(asked, silent=False)  # it has to hear what came of it
    ranges = session.ranges(asked.messages, uid=uid)
    failed: list[int] = []
    house, box = session.shared.house, selected.mailbox
    known, alone = selected.view.stamp, True
    foreign: set[int] = set()  # what others changed and this client has not heard of
    sets: dict[int, Sequence[int]] = {}  # what came of it, as long as nobody else does a thing
    so_far, goal = 0, sum(hi - lo + 1 for lo, hi in ranges)
    for (first, last), pick in picks(selected.view, ranges, PIECE):
        before_it: Known | None = None
        if asked.unchanged_since is None and alone and _together(pick, first, last):
            before_it = await _known(session, known, first, last)
        write = house.mail.write if pick.few else house.mail.write_much
        before, done = await write(
            _set,
            box,
            known,
            pick,
            wanted,
            house.clock.now(),
            session.actor,
            asked.unchanged_since,
            before_it,
        )
        if asked.unchanged_since is not None:
            session.enable_condstore()  # RFC 7162 §3.1; nothing is BAD from here on
        alone = alone and before.mailbox.modseq == known
        known = before.mailbox.modseq
        if done.groups:
            known = done.modseq
            selected.own.add(known)
        for bits, uids in done.groups:
            sets[bits] = sorted([*sets[bits], *uids]) if bits in sets else uids
        foreign.update(uid for uid, _, modseq in before.flags if modseq not in selected.own)
        if foreign or selected.registry.missing(wanted.add):
            # A keyword has to be announced before it is used.
            announce_keywords(session, selected, await house.mail.read(read_registry, box.account))
        if session.condstore or not asked.silent:
            await _tell(session, selected, done, asked, uid=uid)
        if asked.silent and foreign:
            await _tell_foreign(session, selected, foreign, done)
        failed += done.failed
        so_far += last - first + 1 if pick.uids is None else len(pick.uids)
        session.come_so_far(so_far, goal)
    if alone:
        caught_up(session, selected, known, sets)
    code = None
    if failed:
        # What others changed is told with all that they did.
        await _tell_same(session, selected, [uid for uid in failed if uid not in foreign])
        numbers = failed if uid else [n for n in map(selected.view.number, failed) if n]
        code = b"MODIFIED " + compress(numbers)  # RFC 7162 §3.1.3
    text = "Stored" if not failed else "Some were changed meanwhile"
    await finish(session, command, text, code, look=not alone)


def _set(
    tx: Tx,
    box: Mailbox,
    since: int,
    pick: Pick,
    wanted: FlagChange,
    now: Instant,
    actor: int,
    unchanged_since: int | None,
    known: Known | None,
) -> tuple[Changes, Flagged]:
    """Change flags; also what others did in the mailbox after `since`, before this."""
    change = begin(tx, box.account)  # the lock: nothing comes between
    before = reading.changes(tx, box.id, since)
    done = messages.change_flags(
        tx,
        change,
        before.mailbox,
        pick,
        wanted,
        now,
        actor,
        unchanged_since=unchanged_since,
        known=known,
    )
    return before, done


def _together(pick: Pick, first: int, last: int) -> bool:
    """The picked messages are all from the number `first` to the number `last`."""
    return pick.uids is None or len(pick.uids) == last - first + 1


async def _known(session: Session, modseq: int, first: int, last: int) -> Known | None:
    """The flags before, if the view has them: then the unit need not look."""
    view = session.open.view
    if view.stamp != modseq or view.unread(first, last) is not None:
        return None
    return Known(modseq, tuple(view.grouped(first, last).items()))


def _change(asked: Store) -> FlagChange:
    kept = tuple(flag for flag in asked.flags if flag.lower() != "\\recent")
    match asked.mode:
        case StoreMode.ADD:
            return FlagChange(add=kept)
        case StoreMode.REMOVE:
            return FlagChange(remove=kept)
        case StoreMode.REPLACE:
            return FlagChange(add=kept, replace=True)


def _permitted(wanted: FlagChange, held: Right) -> tuple[FlagChange, bool]:
    """What of a change somebody may do, and whether that is all of it; raises MissingRight if it is
    nothing. RFC 4314 §4: a STORE of which some may be done does not fail."""
    add = tuple(flag for flag in wanted.add if may_change(held, flag))
    remove = tuple(flag for flag in wanted.remove if may_change(held, flag))
    only = changeable(held)
    named = wanted.add + wanted.remove
    if not only or (named and not (add or remove)):
        raise MissingRight
    whole = add + remove == named and not wanted.replace
    return replace(wanted, add=add, remove=remove, only=only), whole


async def _tell_foreign(
    session: Session, selected: Selected, foreign: set[int], done: Flagged
) -> None:
    """.SILENT is silent of what its client knows, and not of what others changed meanwhile:
    our own change hides theirs from the look at the end. RFC 3501 §6.4.6.
    """
    await session.write_lines(
        [
            flags_line(session, selected, uid, bits, done.modseq)
            for bits, uids in done.groups
            for uid in uids
            if uid in foreign
        ]
    )


async def _tell_same(session: Session, selected: Selected, uids: Sequence[int]) -> None:
    """Messages that are as they were, each with its own modseq: they had the flags already, or
    failed the test (RFC 7162 §3.1.3)."""
    mail, box = session.shared.house.mail, selected.mailbox.id
    for piece in messages.pieces(uids, LINES):
        rows = await mail.read(reading.flags, box, Pick.of(piece))
        await session.write_lines([flags_line(session, selected, *row) for row in rows])


async def _tell(
    session: Session, selected: Selected, done: Flagged, asked: Store, *, uid: bool
) -> None:
    """The untagged FETCH of each message; with .SILENT only its modseq: RFC 7162 §3.1.3."""
    for groups, changed in ((done.groups, True), (done.same, False)):
        if asked.silent and not changed:
            continue
        for bits, uids in groups:
            if session.condstore and not changed:
                await _tell_same(session, selected, uids)  # RFC 7162 §3.1: with MODSEQ
                continue
            for piece in _alike(selected, uids):
                parts = []
                if not asked.silent:
                    parts.append(b"FLAGS " + selected.flags_of(bits, piece[0]))
                if session.condstore and changed:
                    parts.append(b"MODSEQ (%d)" % done.modseq)
                if parts:
                    with_uid = uid or session.condstore or session.rev2
                    said = b" ".join(parts)
                    if session.uidonly:
                        session.write(_lines_by_uid(selected, piece, said))
                    else:
                        session.write(_lines(selected, piece, said, with_uid=with_uid))
                    await session.output.drain()


def _alike(selected: Selected, uids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Pieces whose messages all are \\Recent here or all are not."""
    at = 0
    for lo, hi in selected.recent:
        first, end = bisect_left(uids, lo, at), bisect_right(uids, hi, at)
        yield from messages.pieces(uids[at:first], LINES)
        yield from messages.pieces(uids[first:end], LINES)
        at = end
    yield from messages.pieces(uids[at:], LINES)


def _lines(selected: Selected, uids: Sequence[int], what: bytes, *, with_uid: bool) -> bytes:
    """The lines of messages that share what is told of them: all but their numbers."""
    numbers = selected.view.numbers(uids)
    if 0 in numbers:
        known = [(n, u) for n, u in zip(numbers, uids, strict=True) if n]
        if not known:
            return b""
        numbers, uids = zip(*known, strict=True)
    end = what.replace(b"%", b"%%") + b")\r\n"
    if with_uid:
        pairs = zip(numbers, uids, strict=True)
        return (b"* %d FETCH (UID %d " + end) * len(uids) % tuple(chain.from_iterable(pairs))
    return (b"* %d FETCH (" + end) * len(uids) % tuple(numbers)


def _lines_by_uid(selected: Selected, uids: Sequence[int], what: bytes) -> bytes:
    """`_lines` as UIDFETCH, which starts with the UID. RFC 9586 §3."""
    known = [uid for uid in uids if selected.view.number(uid)]
    end = what.replace(b"%", b"%%") + b")\r\n"
    return (fetch_head(by_uid=True) + end) * len(known) % tuple(known)
