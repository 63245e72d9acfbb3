"""How a session keeps up with a mailbox that others change, and what it tells of that.

RFC 3501 §7.4.1, RFC 7162 §3.2.10. Every command ends here, by `finish`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from postroom.core.errors import NotFound
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.flags import registry as read_registry
from postroom.domain.mailboxes.reading import Changes
from postroom.domain.mailboxes.rights import Right
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.selected import Selected, Unasked
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.view import Range, Ranges, View
from postroom.store.sql import Tx
from postroom.wire.imap import Command, flags, untagged

RANGES: Final = 500
"""Ranges of UIDs in one VANISHED."""

NOTHING_NEW: Final = Unasked()


async def finish(
    session: Session,
    command: Command,
    text: str,
    code: bytes | None = None,
    *,
    look: bool = True,
    highest: bool = False,
) -> None:
    """The end of a command that went well: what others did, then its tagged reply.

    Without `look`, what they had done when the command began: enough for one that was short
    and changed nothing itself. With `highest`, a client that keeps up by modseq hears up to
    which one it has been told everything: RFC 7162 §3.2.7.
    """
    await settle(session, look=look)
    if highest and session.condstore and session.selected is not None:
        code = b"HIGHESTMODSEQ %d" % session.selected.view.stamp
    session.tell(command.tag, "OK", text, code)


def is_up_to_date(session: Session) -> bool:
    """The view is the mailbox as it was when the command began, or as it was later."""
    return session.looked is not None and session.open.view.stamp >= session.looked


async def settle(session: Session, *, look: bool = True) -> None:
    """`catch_up` at the end of a command. While removals wait, a client that keeps up by modseq
    hears up to which one it has been told everything: else it would go by those that it saw, and
    if the connection were lost never hear of what waits. RFC 7162 §3.2, §6."""
    if not await catch_up(session, expunge=session.may_expunge, look=look) and session.condstore:
        session.tell_highest()


async def catch_up(session: Session, *, expunge: bool, look: bool = True) -> bool:
    """Tell the client what others did to the open mailbox.

    Without `expunge` (during FETCH, STORE, SEARCH: RFC 3501 §7.4.1) no more than what came is told
    while removals wait, so that numbers keep their meaning; the next command tells the rest.
    Without `look`, nothing is read if nothing had happened when the command began. Returns whether
    nothing waits.
    """
    selected, whole = session.selected, True
    if selected is None:
        return whole
    if look or not is_up_to_date(session):
        changes = await _news(session, selected)
        if changes is not None:
            # What came and went between two looks was never counted: RFC 7162 §3.2.10.2.
            whole = expunge or not any(map(selected.view.number, changes.vanished))
            if whole:
                await _apply(session, selected, changes)
            else:
                await _apply_part(session, selected, changes, expunge=False)
    fetches = session.watch is not None and bool(session.watch.filters.opened.items)
    following = selected.following
    if following is not None and not (fetches and following.has_new):
        await tell_followed(session)  # else with what NOTIFY fetches of what came
    return whole


async def tell_followed(session: Session, new: Unasked = NOTHING_NEW) -> bool:
    """What the changes that were told mean for the results that the client follows: behind
    them, so that it knows the messages; and before it `new`. False if there is nothing to tell of
    results, and `new` is left. RFC 5267 §4.3.3, RFC 5465 §5.1, §5.2, §7."""
    selected = session.selected
    if selected is None or session.state is State.LOGOUT or not selected.rights & Right.READ:
        return False
    if selected.following is None or not selected.following.is_behind:
        return False
    await selected.following.tell(new)
    return True


async def catch_up_partly(session: Session, *, expunge: bool, flags: bool) -> None:
    """`catch_up` between commands, where a client may have asked for less than everything:
    the next command tells the rest. RFC 5465 §5, §6.1.2."""
    selected = session.selected
    changes = await _news(session, selected) if selected is not None else None
    if selected is None or changes is None:
        return
    if flags and (expunge or not changes.vanished):
        await _apply(session, selected, changes)
    else:
        await _apply_part(session, selected, changes, expunge=expunge)


async def _news(session: Session, selected: Selected) -> Changes | None:
    """What happened since the view was taken; None if there is nothing to tell."""
    if not selected.rights & Right.READ:
        return None  # it was taken away: nothing of the mailbox is told any more
    mail = session.shared.house.mail
    try:
        changes, registry = await mail.read(_changes, selected)
    except NotFound:
        _mailbox_gone(session)
        return None
    announce_keywords(session, selected, registry)
    return changes if changes.mailbox.modseq != selected.view.stamp else None


def announce_keywords(session: Session, selected: Selected, registry: Registry) -> None:
    """Tell keywords that are new to the account. RFC 3501 §7.2.6."""
    if registry.names == selected.registry.names:
        return
    selected.registry = registry
    selected.forget_names()
    session.write(untagged(b"FLAGS", flags(registry.names)))
    if not selected.read_only:
        session.tell_permanent(selected)


def _changes(tx: Tx, selected: Selected) -> tuple[Changes, Registry]:
    box, stamp = selected.mailbox, selected.view.stamp
    found = reading.changes(tx, box.id, stamp)
    if found.mailbox.modseq > stamp and _forgotten(tx, box.account, stamp):
        there = reading.uids(tx, box.id)
        gone = sorted(set(selected.view.all_uids()).difference(there))
        found = replace(found, vanished=tuple(gone))
    registry = selected.registry
    if found.flags:
        registry = read_registry(tx, selected.mailbox.account)
    return found, registry


def _mailbox_gone(session: Session) -> None:
    """Another session deleted the mailbox: nothing in it means anything any more."""
    session.tell(None, "BYE", "The mailbox was deleted")
    session.state = State.LOGOUT


async def _apply(session: Session, selected: Selected, changes: Changes) -> None:
    old, highest = selected.view, selected.mailbox.uidnext
    added = [uid for uid, _, _ in changes.flags if uid >= highest]
    gone = [uid for uid in changes.vanished if old.number(uid)]
    await _leave_followed(session, selected, gone)
    stamp = changes.mailbox.modseq
    known = session.shared.views.get(session.viewed)
    if known is None or known.stamp != stamp:
        # No other session has made it already.
        sets: dict[int, list[int]] = {}
        for uid, bits, _ in changes.flags:
            sets.setdefault(bits, []).append(uid)
        view = old.changed(added, changes.vanished, stamp, sets)
        known = session.shared.views.keep(session.viewed, view)
    selected.view, selected.mailbox = known, changes.mailbox
    selected.ahead = False
    own, selected.own = selected.own, set()
    await _tell_gone(session, old, gone)
    await _tell_added(session, selected, added)
    await session.write_lines(
        [
            flags_line(session, selected, uid, bits, modseq)
            for uid, bits, modseq in changes.flags
            if uid < highest and modseq not in own
        ]
    )
    selected.stir((uid for uid, _, _ in changes.flags), added)


async def _apply_part(
    session: Session, selected: Selected, changes: Changes, *, expunge: bool
) -> None:
    """Tell what came and, with `expunge`, what went, but no flags. The view keeps its stamp,
    since not all up to a later one is told; it is this session's own from here on."""
    old, highest = selected.view, selected.mailbox.uidnext
    added = [uid for uid, _, _ in changes.flags if uid >= highest]
    gone = [uid for uid in changes.vanished if old.number(uid)] if expunge else []
    selected.mailbox = changes.mailbox
    if not added and not gone:
        return
    await _leave_followed(session, selected, gone)
    selected.view = old.changed(added, gone, old.stamp)
    selected.ahead = True
    await _tell_gone(session, old, gone)
    await _tell_added(session, selected, added)
    selected.stir(added, added)


async def _leave_followed(session: Session, selected: Selected, gone: Sequence[int]) -> None:
    """Before removals are told: RFC 5267 §4.3.4."""
    if gone and selected.following is not None:
        await selected.following.gone(gone)


async def _tell_gone(session: Session, old: View, gone: Sequence[int]) -> None:
    """Of a view, the UIDs that are there no more."""
    if session.qresync or session.uidonly:
        # What came and went between two looks was never counted: RFC 7162 §3.2.10.2.
        await write_vanished(session, Ranges(gone))
        return
    # From the last to the first: each number means what it meant before. RFC 3501 §7.4.1.
    numbers = [old.number(uid) for uid in reversed(gone)]
    await session.write_lines([b"* %d EXPUNGE\r\n" % number for number in numbers])


async def _tell_added(session: Session, selected: Selected, added: Sequence[int]) -> None:
    if not added:
        return
    if not session.rev2:  # it knows nothing of \\Recent: RFC 9051 Appendix E
        await _claim_recent(session, selected, added)
    session.write(b"* %d EXISTS\r\n" % selected.view.size)
    if not session.rev2:
        session.write(b"* %d RECENT\r\n" % selected.recent_count())


async def write_vanished(
    session: Session, ranges: Iterable[Range], *, earlier: bool = False
) -> None:
    """Write which UIDs vanished, in responses of bounded size. RFC 7162 §3.2.10."""
    head = b"* VANISHED (EARLIER) " if earlier else b"* VANISHED "
    pace = Pace(session.shared.clock)
    held: list[bytes] = []
    for lo, hi in ranges:
        held.append(b"%d:%d" % (lo, hi) if lo < hi else b"%d" % lo)
        if len(held) == RANGES or pace.over:
            session.write(head + b",".join(held) + b"\r\n")
            held.clear()
            await session.output.drain()
            if pace.over:
                await pace.rest()
    if held:
        session.write(head + b",".join(held) + b"\r\n")


def caught_up(
    session: Session,
    selected: Selected,
    stamp: int,
    sets: Mapping[int, Sequence[int]] | None = None,
) -> None:
    """All that happened up to `stamp` was our own doing and left every UID in its place;
    `sets` are the flags that changed."""
    if stamp != selected.view.stamp:
        view = selected.view.changed((), (), stamp, sets)
        selected.view = session.shared.views.keep(session.viewed, view)
    for uids in (sets or {}).values():
        selected.stir(uids)
    selected.own.clear()


# --- flags, from the view --------------------------------------------------------------------


async def know_flags(session: Session, first: int, last: int) -> bool:
    """Make the view know the flags of messages, by number, as of its stamp.

    False if it cannot: others changed the mailbox, and the client was not told yet.
    """
    selected = session.open
    known = session.shared.views.get(session.viewed)
    if known is not None and known.stamp == selected.view.stamp and not selected.ahead:
        selected.view = known  # another session may have read them
    pace = Pace(session.shared.clock)
    while (span := selected.view.unread(first, last)) is not None:
        if pace.over:
            await pace.rest()
        modseq, sets = await session.shared.house.mail.read(_flag_sets, selected.mailbox.id, *span)
        if modseq != selected.view.stamp:
            return False
        selected.view = session.shared.views.keep(session.viewed, selected.view.read(sets))
    return True


async def _claim_recent(session: Session, selected: Selected, added: Sequence[int]) -> None:
    """Which new messages are \\Recent here: those that no session was told of before."""
    state, recent, view = session.shared.house.state, selected.recent, selected.view
    floor = await state.read(reading.recent_floor, selected.mailbox.id)
    first, last = max(floor, added[0]), added[-1]
    if first > last:
        return
    if recent and view.below(first) == view.below(recent[-1][1] + 1):
        first = recent.pop()[0]  # neighbours: a session that idles for weeks keeps one range
    recent.append((first, last))
    if not selected.read_only:
        state.note(reading.raise_recent, selected.mailbox.id, last + 1)


def flags_line(session: Session, selected: Selected, uid: int, bits: int, modseq: int) -> bytes:
    """An untagged FETCH with the flags of one message. RFC 3501 §7.4.2, RFC 7162 §3.2."""
    number = selected.view.number(uid)
    if not number:
        return b""
    shown = selected.flags_of(bits, uid)
    if session.uidonly:
        more = b" MODSEQ (%d)" % modseq if session.condstore else b""
        return b"* %d UIDFETCH (FLAGS %b%b)\r\n" % (uid, shown, more)  # RFC 9586 §3
    if session.condstore:
        return b"* %d FETCH (UID %d FLAGS %b MODSEQ (%d))\r\n" % (number, uid, shown, modseq)
    if session.rev2 or session.watch is not None:  # RFC 9051 §7.5.2, RFC 5465 §5.1
        return b"* %d FETCH (UID %d FLAGS %b)\r\n" % (number, uid, shown)
    return b"* %d FETCH (FLAGS %b)\r\n" % (number, shown)


# --- telling unasked -------------------------------------------------------------------------


async def tell_of_open(session: Session) -> None:
    """What there is to tell of the open mailbox without being asked."""
    if session.watch is None:
        if session.idling is not None:
            await catch_up(session, expunge=True)
        return
    asked = session.watch.filters.opened
    if asked.messages:
        # IDLE is a command during which removals may be told: RFC 5465 §4.
        expunge = not asked.delayed or session.idling is not None
        await catch_up_partly(session, expunge=expunge, flags=asked.flags)


def _forgotten(tx: Tx, account: int, stamp: int) -> bool:
    """Of what was removed after `stamp`, something may not be known any more."""
    return reading.account_state(tx, account).floor_modseq > stamp


def _flag_sets(tx: Tx, box: int, first: int, last: int) -> tuple[int | None, list[tuple[int, int]]]:
    return reading.modseq(tx, box), reading.flag_sets(tx, box, first, last)
