"""COPY, MOVE, EXPUNGE, UID EXPUNGE. RFC 3501 §6.4.3, §6.4.7, RFC 6851, RFC 4315."""

from __future__ import annotations

import array
import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import ConnectionLost, MailError, Malformed, NotAllowed, NotFound
from postroom.domain.mailboxes import (
    crossing,
    flags,
    folders,
    messages,
    reading,
    rights,
    sharing,
    unfinished,
)
from postroom.domain.mailboxes.change import begin
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import Copied, FlagChange, Quota
from postroom.domain.mailboxes.picking import FEW, Pick
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Reached
from postroom.domain.mailboxes.unfinished import Copying
from postroom.protocols.imap.carrying import Note, carry
from postroom.protocols.imap.keeping_up import catch_up, finish
from postroom.protocols.imap.picking import picks
from postroom.protocols.imap.selected import changeable
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.view import Range
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS
from postroom.wire.imap import Command, compress, parse_copy, parse_nothing, parse_uid_expunge

PIECE: Final = UNIT_ROWS


class NoTarget(NotFound):
    """The mailbox to copy to is not there: the client may make it. RFC 3501 §6.4.7."""

    sentence = "Create that mailbox first"


class SomeGone(NotFound):
    """Messages that are named by their numbers were removed by another session. RFC 5530 §3."""

    sentence = "Some messages are gone already"


async def _target(session: Session, path: str) -> Reached:
    try:
        return await session.reach(path, Right.INSERT)
    except NotFound:
        raise no_target(path) from None


def no_target(path: str) -> MailError:
    """Why there is no mailbox to place messages in: the client may make it, unless none can have
    that name. RFC 9051 §6.3.12, §6.4.7."""
    if sharing.is_root(path):
        return NotAllowed("This name stands for mailboxes of others")
    try:
        folders.split(path)
    except Malformed as error:
        return NotAllowed(str(error))
    return NoTarget()


async def copy(session: Session, command: Command) -> None:
    """RFC 3501 §6.4.7. All or none: a copy that fails is undone by the unit, or not begun. So it
    is with numbers of what is gone: RFC 2180 §4.4.1."""
    uid = command.name.startswith(b"UID ")
    asked = parse_copy(command.args)
    target = await _target(session, asked.mailbox)
    ranges = session.ranges(asked.messages, uid=uid)
    whole = not uid and not asked.messages.saved
    lost = asyncio.Event()
    # A task of its own: a client that goes away cancels the command while a piece is written, and
    # what was placed has to go again all the same.
    work = asyncio.create_task(_all_or_none(session, target, ranges, lost, whole=whole))
    try:
        done = await asyncio.shield(work)
    except asyncio.CancelledError:
        lost.set()
        await asyncio.gather(work, return_exceptions=True)
        raise
    except SomeGone:
        await catch_up(session, expunge=True)
        raise
    await finish(session, command, "Copied", _copyuid(done, target))


async def _all_or_none(
    session: Session, target: Reached, ranges: Sequence[Range], lost: asyncio.Event, *, whole: bool
) -> list[Copied]:
    """Every piece, or none if one fails or the client is `lost` before the last; `whole`: none,
    too, if a message is gone.

    Pieces are noted where there are several: if this worker is killed, they are taken back.
    """
    done: list[Copied] = []
    copying = Copying(session.shared.ids.new(), session.shared.holder, target.mailbox.id)
    try:
        async for copied in _copies(session, target, ranges, copying, whole=whole):
            done.append(copied)
            if lost.is_set():
                raise ConnectionLost
    except MailError:
        await _take_back(session, target.mailbox, done)
        if done:
            await session.shared.house.mail.write(unfinished.ended, copying)
        raise
    return done


async def _copies(
    session: Session,
    to: Reached,
    ranges: Sequence[Range],
    copying: Copying | None,
    *,
    whole: bool = False,
) -> AsyncIterator[Copied]:
    """Place the chosen messages in another mailbox, or without `copying` move them there: piece by
    piece. Raises SomeGone for a piece that is to be `whole` and is not."""
    selected, house = session.open, session.shared.house
    box, target = selected.mailbox, to.mailbox
    quota = await session.quota(target.account)
    done, goal = 0, sum(hi - lo + 1 for lo, hi in ranges)
    crosses = target.account != box.account
    pieces = picks(selected.view, ranges, crossing.MOST if crosses else PIECE)
    for n, ((first, last), pick) in enumerate(pieces, 1):
        note = _note(copying, last=n == len(pieces)) if copying and len(pieces) > 1 else None
        count = last - first + 1 if pick.uids is None else len(pick.uids)
        if whole:
            note = _if_whole(count, note)
        move = copying is None
        if crosses:
            copied = await carry(session, to, pick, quota, note, move=move)
        else:
            write = house.mail.write if pick.few else house.mail.write_much
            now = house.clock.now()
            copied = await write(_within, box, to, pick, quota, now, session.actor, note, move=move)
        done += len(copied.source)
        session.placed(target.id, copied.target)
        session.come_so_far(done, goal)
        yield copied


def _within(
    tx: Tx,
    box: Mailbox,
    to: Reached,
    pick: Pick,
    quota: Quota,
    now: Instant,
    actor: int,
    note: Note | None,
    *,
    move: bool,
) -> Copied:
    """Between two mailboxes of one owner, in one unit; flags that the actor may not set there do
    not come along. RFC 4314 §4."""
    account, target = box.account, to.mailbox
    if move:
        done = messages.move(tx, account, box.id, target.id, pick, now, actor)
    else:
        done = messages.copy(tx, account, box.id, target.id, pick, quota, now, actor)
    if done.target and to.rights != rights.ALL:
        none = FlagChange(replace=True, only=~changeable(to.rights))
        messages.set_flags(tx, account, target.id, Pick.of(done.target), none, now, actor)
    if note is not None:
        note(tx, done)
    return done


def _note(copying: Copying, *, last: bool) -> Note:
    """What the unit of a piece does for `unfinished`: the last makes all of them count."""
    if last:
        return lambda tx, copied: unfinished.ended(tx, copying)
    return lambda tx, copied: unfinished.placed(tx, copying, copied.target)


def _if_whole(count: int, note: Note | None) -> Note:
    """A note that undoes its unit if not all were there to be placed."""

    def checked(tx: Tx, copied: Copied) -> None:
        if len(copied.source) < count:
            raise SomeGone
        if note is not None:
            note(tx, copied)

    return checked


async def _take_back(session: Session, target: Mailbox, done: list[Copied]) -> None:
    """A long copy goes in several units: what the earlier ones placed goes again."""
    house = session.shared.house
    for copied in done:
        if copied.target:
            await house.mail.write_much(
                messages.expunge,
                target.account,
                target.id,
                Pick.of(copied.target),
                house.clock.now(),
                session.actor,
                retention=0,
            )


async def move(session: Session, command: Command) -> None:
    """RFC 6851 §3.1: each piece is one unit, so no message is ever in both or in none. The target
    may be the mailbox itself: §3.3."""
    uid = command.name.startswith(b"UID ")
    asked = parse_copy(command.args)
    selected = session.open
    if selected.read_only:
        raise NotAllowed("The mailbox is open for reading only")
    target = await _target(session, asked.mailbox)
    ranges = session.ranges(asked.messages, uid=uid)
    done = [copied async for copied in _copies(session, target, ranges, None)]
    if code := _copyuid(done, target):
        # RFC 6851 §4.3: the code comes in an untagged OK, before the EXPUNGEs.
        session.tell(None, "OK", "Moved", code)
    session.may_expunge = True
    await finish(session, command, "Moved", highest=any(each.source for each in done))


def _copyuid(done: list[Copied], to: Reached) -> bytes | None:
    """RFC 4315 §3; none where nothing was copied, or to where it cannot be read."""
    if not to.rights & Right.READ:
        return None
    source = array.array("I")
    target = array.array("I")
    for copied in done:
        source.extend(copied.source)
        target.extend(copied.target)
    if not source:
        return None
    sets = (done[0].uidvalidity, compress(source.tolist()), compress(target.tolist()))
    return b"COPYUID %d %b %b" % sets


async def expunge(session: Session, command: Command) -> None:
    """RFC 3501 §6.4.3."""
    parse_nothing(command.args)
    removed = await expunge_deleted(session)
    await finish(session, command, "Expunged", highest=removed)


async def uid_expunge(session: Session, command: Command) -> None:
    """RFC 4315 §2.1: of those flagged \\Deleted, only the named ones."""
    asked = parse_uid_expunge(command.args)
    selected = session.open
    chosen: set[int] = set()
    for lo, hi in session.ranges(asked.messages, uid=True):
        chosen.update(selected.view.uids(lo, hi))
    removed = await expunge_deleted(session, chosen)
    await finish(session, command, "Expunged", highest=removed)


async def expunge_deleted(session: Session, only: set[int] | None = None) -> bool:
    """Remove what is flagged \\Deleted in the open mailbox, or of it only some; returns whether
    there was any."""
    selected = session.open
    if selected.read_only:
        raise NotAllowed("The mailbox is open for reading only")
    house, box = session.shared.house, selected.mailbox
    retention = await session.retention(box.account)
    flagged = await house.mail.read(messages.flagged_deleted, box.id, messages.ALL)
    chosen = flagged if only is None else [uid for uid in flagged if uid in only]
    done = 0
    for piece in messages.pieces(chosen, PIECE):
        now = house.clock.now()
        write = house.mail.write if len(piece) <= FEW else house.mail.write_much
        await write(_still_deleted, box, piece, now, session.actor, retention)
        done += len(piece)
        session.come_so_far(done, len(chosen))
    return bool(chosen)


def _still_deleted(
    tx: Tx, box: Mailbox, uids: Sequence[int], now: Instant, actor: int, retention: int
) -> None:
    """Another session may have taken a \\Deleted back since the mailbox was read."""
    begin(tx, box.account)  # the lock: what is read below stays true
    rows = reading.flags(tx, box.id, Pick.of(uids))
    left = [uid for uid, bits, _ in rows if bits & flags.DELETED]
    if left:
        messages.expunge(tx, box.account, box.id, Pick.of(left), now, actor, retention=retention)
