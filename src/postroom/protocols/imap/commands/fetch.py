"""FETCH and UID FETCH. RFC 3501 §6.4.5, RFC 7162 §3.1.4, §3.2.6.

What most clients ask for most often, flags and what was known at delivery, is answered from the
view and from what is kept; all else from the store, a piece at a time.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import structlog

from postroom.core.errors import MailError
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import messages, reading
from postroom.domain.mailboxes.messages import FlagChange
from postroom.domain.mailboxes.picking import FEW, Pick
from postroom.domain.mailboxes.rights import Right
from postroom.formats.parsed import MAKER_VERSION, parse
from postroom.protocols.imap import replies
from postroom.protocols.imap.decoding import UnknownEncoding
from postroom.protocols.imap.fetching import Rendering
from postroom.protocols.imap.keeping_up import (
    announce_keywords,
    catch_up,
    finish,
    is_up_to_date,
    know_flags,
    settle,
)
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.picking import picks
from postroom.protocols.imap.plans import (
    Plan,
    Still,
    planned,
    run_lines,
    still_columns,
    still_texts,
)
from postroom.protocols.imap.resync import (
    changed_rows,
    changed_spans,
    common,
    known,
    tell_vanished,
)
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.view import Range
from postroom.store.blobs import ROW_LIMIT
from postroom.store.sql import Row, Tx
from postroom.wire.imap import (
    BadSyntax,
    Command,
    FetchAttribute,
    FetchItem,
    Partial,
    parse_fetch,
    parse_uid_fetch,
)

PIECE: Final = 256
"""Messages in one read: what a peer that stops reading may make us hold."""

LINES: Final = 1024
"""Messages in one write where only numbers and flags are told."""

TOGETHER: Final = 4
"""Messages that are read with their content in one statement."""

META: Final = 10
"""Columns of `reading.meta_rows`: those of `reading.full_rows` begin alike."""

_log: Final = structlog.get_logger("postroom.imap")


async def fetch(session: Session, command: Command) -> None:
    """Answer in pieces; the peer's reading sets the pace."""
    uid = command.name == b"UID FETCH"
    asked = parse_uid_fetch(command.args) if uid else parse_fetch(command.args)
    if asked.vanished and not session.qresync:
        raise BadSyntax("QRESYNC was not enabled")  # RFC 7162 §3.2.6
    since_given, by_uid = asked.changed_since is not None, session.uidonly
    plan = planned(asked.items, uid=uid, modseq=since_given, by_uid=by_uid)
    if plan.viewed is not None:
        await catch_up(session, expunge=session.may_expunge, look=False)
        if session.state is State.LOGOUT:
            return
    ranges = session.ranges(asked.messages, uid=uid)
    if FetchAttribute.MODSEQ in plan.asked:
        session.enable_condstore()  # RFC 7162 §3.1: CONDSTORE enabling commands
    if asked.partial is not None:
        ranges = _page(ranges, asked.partial)  # before CHANGEDSINCE: RFC 9394 §3.4
    if asked.vanished and asked.changed_since is not None:
        box, named = session.open.mailbox, asked.messages
        within = list(session.open.result) if named.saved else known(box, named)
        await tell_vanished(session, asked.changed_since, within)  # before any FETCH: §3.2.6
    if asked.changed_since is not None:
        ranges = await _changed(session, ranges, asked.changed_since)
    since = -1 if asked.changed_since is None else asked.changed_since
    rendering = Rendering(session, plan, since)
    left: Sequence[Range] = ranges
    if plan.viewed is not None and is_up_to_date(session):
        left = await _from_view(session, rendering, ranges)
    if left:
        await _from_store(session, rendering, left)
    if rendering.failure is not None:
        await settle(session)
        code = replies.code_of_content(rendering.failure)
        decodable = not isinstance(rendering.failure, UnknownEncoding)
        text = "Some messages could not be read" if decodable else str(rendering.failure)
        session.tell(command.tag, "NO", text, code)
        return
    if rendering.missing and not uid and asked.changed_since is None:
        # RFC 5530 §3: what another session removed cannot be told before this command ends.
        await settle(session)
        session.tell(command.tag, "NO", "Some messages are gone already", b"EXPUNGEISSUED")
        return
    short = len(ranges) == 1 and ranges[0][1] - ranges[0][0] < PIECE and not rendering.changed
    short = short and FetchAttribute.MODSEQ not in plan.asked  # they may be later than the look
    await finish(session, command, "Fetched", look=not short)


async def fetch_unasked(
    session: Session, items: tuple[FetchItem, ...], ranges: Sequence[Range]
) -> None:
    """Fetch messages, by number, for a client that asked to have new ones fetched: always with
    their UIDs, and none is \\Seen by it. RFC 5465 §5.2, §7.

    What cannot be read is not told: the client knows of the message, and may ask for it itself.
    """
    made = planned(items, uid=True, modseq=False, by_uid=session.uidonly)
    plan = replace(made, bodies=tuple(body._replace(marks=False) for body in made.bodies))
    if FetchAttribute.MODSEQ in plan.asked:
        session.enable_condstore()
    rendering = Rendering(session, plan, -1)
    await _from_store(session, rendering, ranges)
    if rendering.failure is not None:
        _log.warning("new messages not read", session=session.id, error=str(rendering.failure))


def _page(ranges: Sequence[Range], partial: Partial) -> list[Range]:
    """Of the chosen messages those in a page of them. RFC 9394 §3.3."""
    wanted = partial.cut(sum(hi - lo + 1 for lo, hi in ranges))
    found: list[Range] = []
    before = 0
    for lo, hi in ranges:
        first, last = lo + max(0, wanted.start - before), min(hi, lo + wanted.stop - before - 1)
        if first <= last:
            found.append((first, last))
        before += hi - lo + 1
    return found


# --- from the view -----------------------------------------------------------------------------


async def _from_view(
    session: Session, rendering: Rendering, ranges: Sequence[Range]
) -> Sequence[Range]:
    """Answer from the view and from what never changes; returns what the store has to be asked
    for, since others changed the mailbox meanwhile."""
    plan, pace = rendering.plan, Pace(session.shared.clock)
    flags = FetchAttribute.FLAGS in plan.asked
    done = 0
    for spans in _cut(ranges, PIECE if plan.still else LINES):
        if flags:
            for first, last in spans:
                if not await know_flags(session, first, last):
                    return _beyond(ranges, done)
        selected = session.open
        view, still = selected.view, Still(plan.line, ())
        if plan.still:
            uids = array("I")
            for first, last in spans:
                uids += view.uids(first, last)
            still = await _still(session, rendering, uids)
        lines: list[bytes] = []
        at = 0
        for first, last in spans:
            for run in view.runs(first, last):
                here = still.cut(at, at + len(run.uids))
                lines.append(run_lines(plan, selected, run, here))
                at += len(run.uids)
        session.write(b"".join(lines))
        done = spans[-1][1]
        await session.output.drain()
        if pace.over:
            await pace.rest()
    return ()


def _cut(ranges: Sequence[Range], size: int) -> Iterator[list[Range]]:
    """Ranges in pieces of at most `size` messages."""
    held: list[Range] = []
    room = size
    for lo, hi in ranges:
        at = lo
        while at <= hi:
            end = min(hi, at + room - 1)
            held.append((at, end))
            room -= end - at + 1
            at = end + 1
            if not room:
                yield held
                held, room = [], size
    if held:
        yield held


def _beyond(ranges: Sequence[Range], done: int) -> list[Range]:
    """What of the ranges lies above a number."""
    return [(max(lo, done + 1), hi) for lo, hi in ranges if hi > done]


async def _still(session: Session, rendering: Rendering, uids: Sequence[int]) -> Still:
    """What never changes of messages, None for those that are gone."""
    plan, kept, box = rendering.plan, session.shared.kept, session.open.mailbox.id
    texts = kept.texts(box, plan.still_items, uids)
    if None not in texts:
        return Still(plan.line, (texts,))
    missing = [uid for uid, text in zip(uids, texts, strict=True) if text is None]
    numbers = session.open.view.numbers(missing)
    together = numbers[-1] - numbers[0] == len(missing) - 1
    pick = Pick(missing[0], missing[-1]) if together else Pick.of(missing)
    read = reading.listed_rows if plan.needs_parse else reading.placed_rows
    rows = await session.shared.house.mail.read(read, box, pick)
    wanted = kept.wants(box, plan.still_items, missing)
    if len(rows) == len(uids) and not wanted:
        return still_columns(plan, rows)
    made = still_texts(plan, rows)
    there = [row[0] for row in rows]
    # An older maker's are told, and asked for again: they may have been made anew by then.
    if wanted and (not plan.needs_parse or all(row[-1] >= MAKER_VERSION for row in rows)):
        kept.keep_texts(box, plan.still_items, there, made)
    found = dict(zip(there, made, strict=True))
    if len(found) < len(missing) and plan.needs_parse:
        lost = [uid for uid in missing if uid not in found]
        again = [_as_listed(row) for row in await _parsed(session, rendering, lost)]
        found.update(zip([row[0] for row in again], still_texts(plan, again), strict=True))
    rendering.missing += len(missing) - len(found)
    all_texts = [text or found.get(uid) for uid, text in zip(uids, texts, strict=True)]
    return Still(plan.line, (all_texts,))


# --- from the store ----------------------------------------------------------------------------


async def _from_store(session: Session, rendering: Rendering, ranges: Sequence[Range]) -> None:
    pace = Pace(session.shared.clock)
    for span, pick in picks(session.open.view, ranges, PIECE):
        seen = await _mark_seen(session, rendering.plan, pick)
        rendering.changed = rendering.changed or bool(seen)
        await _piece(session, rendering, span, pick, seen)
        await session.output.drain()
        if pace.over:
            await pace.rest()


async def _changed(session: Session, ranges: Sequence[Range], since: int) -> list[Range]:
    """Of the chosen messages those that changed after `since`: by the index of changes, so that
    a client which comes back pays for what happened and not for what it has. RFC 7162 §3.1.4.1.
    """
    view = session.open.view
    found: list[Range] = []
    spans = await changed_spans(session, since)
    for first, last in common(view.by_uid(spans), ranges):
        async for rows in changed_rows(session, since, view.uid(first), view.uid(last)):
            for number in filter(None, map(view.number, (row[0] for row in rows))):
                if found and found[-1][1] + 1 == number:
                    found[-1] = (found[-1][0], number)
                else:
                    found.append((number, number))
    return found


async def _mark_seen(session: Session, asked: Plan, pick: Pick) -> frozenset[int]:
    """Reading a body without PEEK sets \\Seen; returns whose flags that changed."""
    selected = session.open
    if selected.read_only or not asked.marks or not selected.rights & Right.SEEN:
        return frozenset()
    mail, box = session.shared.house.mail, selected.mailbox
    unseen = await mail.read(_unseen, box.id, pick)
    if not unseen:
        return frozenset()
    write = mail.write if len(unseen) <= FEW else mail.write_much
    done = await write(
        messages.set_flags,
        box.account,
        box.id,
        Pick.of(unseen),
        FlagChange(add=("\\Seen",)),
        session.shared.clock.now(),
        session.actor,
    )
    if done.groups:
        selected.own.add(done.modseq)
        # Told with the content: so a keyword that another session made is announced before.
        announce_keywords(session, selected, await mail.read(bits.registry, box.account))
    return frozenset(uid for _, uids in done.groups for uid in uids)


def _unseen(tx: Tx, box: int, pick: Pick) -> list[int]:
    return [uid for uid, set_, _ in reading.flags(tx, box, pick) if not set_ & bits.SEEN]


async def _piece(
    session: Session, rendering: Rendering, span: Range, pick: Pick, seen: frozenset[int]
) -> None:
    """One piece of the answer."""
    mail, box, plan = session.shared.house.mail, session.open.mailbox.id, rendering.plan
    rows: Sequence[Row]
    if plan.bodies and not plan.needs_parse and span[1] - span[0] < TOGETHER:
        rows = await mail.read(reading.whole_rows, box, pick)
        rendering.contents = {
            row[7]: row[8] for row in rows if row[8] is not None and len(row[8]) == row[3]
        }
    elif plan.needs_all_parsed:
        rows = await mail.read(reading.full_rows, box, pick)
    elif plan.needs_parse:
        rows = await mail.read(reading.meta_rows, box, pick)
    else:
        rows = await mail.read(reading.brief_rows, box, pick)
    chosen = pick.uids if pick.uids is not None else session.open.view.uids(*span)
    if len(rows) < len(chosen):
        there = {row[0] for row in rows}
        lost = [uid for uid in chosen if uid not in there]
        if plan.needs_parse:
            columns = META if not plan.needs_all_parsed else None
            more = [row[:columns] for row in await _parsed(session, rendering, lost)]
            rows = sorted([*rows, *more])
        rendering.missing += len(chosen) - len(rows)
    if FetchAttribute.THREADID in plan.asked:
        rendering.threads = await mail.read(reading.threads_of, [row[6] for row in rows])
    if plan.bodies:
        await rendering.write_content(rows, seen)
    else:
        session.write(rendering.lines(rows))


async def _parsed(session: Session, rendering: Rendering, uids: Sequence[int]) -> list[Row]:
    """Messages whose parse is missing, parsed again: rows in the shape of `reading.Full`.

    The parse is kept, in a unit that nobody waits for. What is gone is passed over.
    """
    house, found = session.shared.house, []
    for row in await house.mail.read(reading.brief, session.open.mailbox.id, Pick.of(uids)):
        try:
            raw = await house.mail.read_much(house.blobs.read, row.blob)
        except MailError as error:
            rendering.note(row, error)
            continue
        large = row.size > ROW_LIMIT
        parsed = await asyncio.to_thread(parse, raw) if large else parse(raw)
        house.mail.note(reading.renew, row.blob, parsed)
        _log.warning("parsed again", session=session.id, blob=external(BLOB, row.blob))
        of_parse = (parsed.envelope, parsed.bodystructure, parsed.layout)
        found.append((*row, *of_parse, parsed.header_size, parsed.preview))
    return found


def _as_listed(full: Row) -> Row:
    """A row in the shape of `reading.listed_rows`."""
    return (full[0], full[3], full[4], full[8], full[9], MAKER_VERSION)
