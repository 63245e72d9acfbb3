"""SEARCH and UID SEARCH: narrow by what is cheap to know, read the rest. RFC 3501 §6.4.4.

RETURN: RFC 4731, RFC 9394; UPDATE: RFC 5267 §4; MODSEQ: RFC 7162 §3.1.5. Messages are looked at in
pieces of bounded size: small reads run inline, header blocks and contents are read and decoded in
a thread of the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from postroom.core.errors import Corrupt, MailError, Malformed
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.folding import fold
from postroom.formats.headers import HEADER_MAX
from postroom.formats.parsed import MAKER_VERSION
from postroom.protocols.imap.commands import context
from postroom.protocols.imap.filters import expanded
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.kept import SUBJECTS, Subjects
from postroom.protocols.imap.narrowing import narrowed
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.picking import picks
from postroom.protocols.imap.searching import (
    About,
    Candidate,
    Level,
    Question,
    common,
    question,
    sift,
)
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.session import Session, State
from postroom.protocols.imap.text import HeaderText, look
from postroom.protocols.imap.view import Range, Ranges, View
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.wire.imap import (
    And,
    BadCharset,
    BadSyntax,
    Command,
    Not,
    Or,
    Partial,
    SearchKey,
    SearchReturn,
    SequenceIn,
    UidIn,
    compress,
    parse_search,
    quoted_or_literal,
)

PIECE: Final = 200
"""Messages in one read of placements."""

CONTENT: Final = 1024 * 1024
"""Octets of content in one turn of a thread; a larger message has a turn for itself."""

NUMBERS: Final = 4096
"""Numbers in one write of a long answer."""

_MIN: Final = frozenset({SearchReturn.MIN})
_ENDS: Final = frozenset({SearchReturn.MIN, SearchReturn.MAX})
_SAVE: Final = frozenset({SearchReturn.SAVE})
_log: Final = structlog.get_logger("postroom.imap")


async def search(session: Session, command: Command) -> None:
    """Answer with what matches in the mailbox as the client knows it."""
    uid = command.name.startswith(b"UID ")
    with reading_search(session):
        wanted = parse_search(command.args)
    if wanted.charset_given and session.utf8_accept:
        raise BadSyntax("All strings are UTF-8")  # RFC 6855 §3
    if wanted.returns is None and session.rev2:
        wanted = replace(wanted, returns=frozenset({SearchReturn.ALL}))  # RFC 9051 §6.4.4
    saves = wanted.returns is not None and SearchReturn.SAVE in wanted.returns
    with saving(session, saves):
        wanted = replace(wanted, key=await expanded(session, wanted.key))
    heed_numbers(session, wanted.key, uid=uid)
    followed = context.begin(session, command.tag, wanted.update, wanted.key, among, uid=uid)
    by_uid = uid or saves or followed is not None
    with saving(session, saves):
        enough = enough_for(wanted.returns, wanted.partial) if followed is None else 0
        hits = await find(session, wanted.key, uid=by_uid, enough=enough)
    if saves and wanted.returns is not None:
        save(session, hits.numbers, wanted.returns, wanted.partial)
    if followed is not None:
        followed.keep(hits.numbers)
    if by_uid and not uid:
        hits.numbers = await _numbered(session, hits.numbers)
    if wanted.returns is None:
        await tell(session, b"SEARCH", hits)
    elif wanted.returns != _SAVE or wanted.partial:  # RFC 5182 §2.1: SAVE alone tells nothing
        told = await extended(command.tag, hits, wanted.returns, wanted.partial, uid=uid)
        session.write(told)
    await finish(session, command, "Searched")


def heed_numbers(session: Session, key: SearchKey, *, uid: bool) -> None:
    """What message numbers mean for a search, in its question or its answer; raises UidRequired."""
    numbers = by_number(key)
    if numbers or not uid:
        session.need_uids()  # RFC 9586 §3.5, §3.8
    if numbers:
        session.may_expunge = False  # not by UID SEARCH either: RFC 7162 §3.2.10.2


def by_number(key: SearchKey, *, saved: bool = False) -> bool:
    """Whether a search names messages by their numbers, which must keep their meaning; or those
    that were `saved`, by `$`."""
    waiting = [key]
    while waiting:
        match waiting.pop():
            case SequenceIn(messages) if messages.saved == saved:
                return True
            case UidIn(messages) if saved and messages.saved:
                return True
            case And(keys) | Or(keys):
                waiting += keys
            case Not(inner):
                waiting.append(inner)
            case _:
                pass
    return False


def enough_for(returns: frozenset[SearchReturn] | None, partial: Partial | None) -> int:
    """How many of the first that match answer the question; 0: it takes all."""
    if partial is not None and not partial.from_end and returns is not None:
        return partial.highest if returns <= _MIN | _SAVE else 0
    return 1 if returns == _MIN and partial is None else 0


async def find(
    session: Session,
    key: SearchKey,
    *,
    uid: bool,
    enough: int = 0,
    place: Selected | None = None,
    within: Sequence[Range] | None = None,
) -> Hits:
    """What matches in the mailbox as the client knows it, or in another `place` than the one that
    is open, and there `within` some messages, by number: everything, or at least the first
    `enough`."""
    selected = place or session.open
    mail = session.shared.house.mail
    # Other sessions may have set keywords that this one has not been told of.
    registry = await mail.read(bits.registry, selected.mailbox.account)
    now = session.shared.clock.now()
    about = About(selected.view, registry, selected.recent, now, selected.result)
    asked = question(key, about)
    if asked.asks_modseq:
        session.enable_condstore()  # RFC 7162 §3.1: a CONDSTORE enabling command
    if within is not None:
        asked.ranges = common(asked.ranges, within)
    elif asked.subjects and asked.ranges:
        asked.ranges = await _with_subjects(session, selected, asked.subjects, asked.ranges)
    if asked.levels & {Level.HEADER, Level.CONTENT}:
        asked.ranges = await narrowed(session, selected, key, asked.ranges)
    tells = place is None and within is None
    return await _hits(session, selected, asked, uid=uid, enough=enough, tells=tells)


async def among(session: Session, key: SearchKey, ranges: Sequence[Range]) -> list[int]:
    """The UIDs of what matches among some messages of the open mailbox, by number."""
    return (await find(session, key, uid=True, within=ranges)).numbers


# --- the saved result ---------------------------------------------------------------------------


@contextmanager
def reading_search(session: Session) -> Iterator[None]:
    """Around the reading of a search: a charset that is not known is a NO, which leaves an empty
    result where one was to be saved. RFC 5182 §2.1, example 5."""
    try:
        yield
    except BadCharset as error:
        if error.saves and session.selected is not None:
            session.selected.result = Ranges()
        raise


@contextmanager
def saving(session: Session, saves: bool) -> Iterator[None]:
    """Around the finding of what is to be saved: NO leaves an empty result, BAD what was there.
    RFC 5182 §2.1."""
    try:
        yield
    except Malformed:
        raise
    except MailError:
        if saves and session.selected is not None:
            session.selected.result = Ranges()
        raise


def save(
    session: Session,
    uids: Sequence[int],
    returns: frozenset[SearchReturn],
    partial: Partial | None = None,
) -> None:
    """Keep a result, UIDs that are in the order of the answer, as `$`: what the answer names, or
    all of it. RFC 5182 §2.4, RFC 9394 §3.2."""
    told = _told(len(uids), returns, partial)
    session.open.result = Ranges(sorted(uids[place] for place in told))


def _told(count: int, returns: frozenset[SearchReturn], partial: Partial | None) -> Sequence[int]:
    """The places, from 0 and each once, of the results that an answer is about: all, unless only
    MIN, MAX or PARTIAL are asked for."""
    asked = returns - _SAVE
    if not count or asked - _ENDS or (not asked and partial is None):
        return range(count)
    page = partial.cut(count) if partial is not None else range(0)
    ends = [0] if SearchReturn.MIN in asked else []
    ends += [count - 1] if SearchReturn.MAX in asked else []
    return list(dict.fromkeys([*ends, *page]))


async def _numbered(session: Session, uids: Sequence[int]) -> list[int]:
    """Message numbers of UIDs in the view."""
    view, pace = session.open.view, Pace(session.shared.clock)
    found: list[int] = []
    for start in range(0, len(uids), NUMBERS):
        found += view.numbers(uids[start : start + NUMBERS])
        if pace.over:
            await pace.rest()
    return found


# --- narrowing ---------------------------------------------------------------------------------


async def _with_subjects(
    session: Session, place: Selected, wanted: frozenset[str], ranges: Sequence[Range]
) -> list[Range]:
    """Of some messages, by number, those whose subject may hold all of the folded strings."""
    view, box, pace = place.view, place.mailbox.id, Pace(session.shared.clock)
    found: list[Range] = []
    for lo, hi in ranges:
        at = lo
        while at <= hi:
            block = view.uid(at) // SUBJECTS
            last = min(hi, view.below((block + 1) * SUBJECTS))  # a number: of its last message
            known = await _subjects(
                session, box, block, view.uid(view.below((block + 1) * SUBJECTS))
            )
            hits = set.intersection(*(known.holding(each) for each in wanted))
            numbers = map(view.number, sorted(hits))
            found += [(number, number) for number in numbers if at <= number <= last]
            at = last + 1
            if pace.over:
                await pace.rest()
    return found


async def _subjects(session: Session, box: int, block: int, top: int) -> Subjects:
    """The subjects of a block, at least up to the UID `top`."""
    kept = session.shared.kept
    known = kept.subjects(box, block)
    if known is not None and known.top >= top:
        return known
    first = block * SUBJECTS
    mail = session.shared.house.mail
    rows = await mail.read(reading.subjects, box, first, first + SUBJECTS - 1)
    folded = [
        # An older maker's subject may be made anew: it is looked at where it lies.
        (uid, fold(subject) if subject is not None and version == MAKER_VERSION else None)
        for uid, subject, version in rows
    ]
    made = Subjects(folded, max(top, rows[-1][0] if rows else 0))
    kept.keep_subjects(box, block, made)
    return made


# --- finding ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Hits:
    """Message numbers or UIDs that match, in their order, and their modseqs if those are asked
    for."""

    numbers: list[int] = field(default_factory=list)
    modseqs: list[int] | None = None


async def _hits(
    session: Session, place: Selected, asked: Question, *, uid: bool, enough: int, tells: bool
) -> Hits:
    """Everything that matches, or at least the first `enough`; `tells` who waits how far it is."""
    if not asked.levels:
        return await _by_view(session, place.view, asked, uid=uid)
    view = place.view
    hits = Hits(modseqs=[] if asked.asks_modseq else None)
    so_far, goal = 0, sum(hi - lo + 1 for lo, hi in asked.ranges)
    for (first, last), pick in picks(view, asked.ranges, PIECE):
        for each in await _piece(session, place.mailbox.id, asked, pick):
            placed = each.placed
            hits.numbers.append(placed.uid if uid else view.number(placed.uid))
            if hits.modseqs is not None:
                hits.modseqs.append(placed.modseq)
        if 0 < enough <= len(hits.numbers) or session.state is State.LOGOUT:
            break
        so_far += last - first + 1 if pick.uids is None else len(pick.uids)
        if tells:
            session.come_so_far(so_far, goal)
        await session.output.drain()  # raises if nobody waits for the answer any more
        await asyncio.sleep(0)
    return hits


async def _by_view(session: Session, view: View, asked: Question, *, uid: bool) -> Hits:
    """The answer where only sets were asked for: nothing is read."""
    pace, hits = Pace(session.shared.clock), Hits()
    for lo, hi in asked.ranges:
        for start in range(lo, hi + 1, NUMBERS):
            stop = min(hi, start + NUMBERS - 1)
            hits.numbers += view.uids(start, stop) if uid else range(start, stop + 1)
            if pace.over:
                await pace.rest()
    return hits


async def _piece(session: Session, box: int, asked: Question, pick: Pick) -> list[Candidate]:
    """What matches among some messages, each read as far as is needed to decide."""
    mail = session.shared.house.mail
    hits: list[Candidate] = []
    if asked.asks_placed or Level.PARSED not in asked.levels:
        rows = await mail.read(reading.brief, box, pick)
        hits, left = await _sift(session, asked, [Candidate(row) for row in rows])
        if not left:
            return hits
        if len(left) < len(rows):
            pick = Pick.of([each.placed.uid for each in left])
    if Level.PARSED in asked.levels:
        left = [Candidate(row, row) for row in await mail.read(reading.searched, box, pick)]
        if asked.asks_thread:
            threads = await mail.read(reading.threads_of, [each.placed.message for each in left])
            for each in left:
                each.thread = threads.get(each.placed.message)
        more, left = await _sift(session, asked, left)
        hits += more
    blobs = session.shared.house.blobs
    if left and Level.HEADER in asked.levels:
        verdicts = await mail.read_much(_by_header, blobs, asked, left)
        hits += _those(left, verdicts, True)
        left = _those(left, verdicts, None)
    if Level.CONTENT in asked.levels:
        for batch in _batches(left):
            verdicts = await mail.read_much(_by_content, blobs, asked, batch)
            hits += _those(batch, verdicts, True)
            await session.output.drain()
    hits.sort(key=_uid)
    return hits


def _uid(candidate: Candidate) -> int:
    return candidate.placed.uid


async def _sift(
    session: Session, asked: Question, candidates: Sequence[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """`sift` in turns: a tree may have thousands of keys."""
    pace = Pace(session.shared.clock)
    hits: list[Candidate] = []
    left: list[Candidate] = []
    for start in range(0, len(candidates), asked.turn):
        some, others = sift(asked, candidates[start : start + asked.turn])
        hits += some
        left += others
        if pace.over:
            await pace.rest()
    return hits, left


def _those(
    candidates: Sequence[Candidate], verdicts: Sequence[bool | None], wanted: bool | None
) -> list[Candidate]:
    pairs = zip(candidates, verdicts, strict=True)
    return [each for each, verdict in pairs if verdict is wanted]


def _batches(candidates: Iterable[Candidate]) -> Iterator[list[Candidate]]:
    batch: list[Candidate] = []
    octets = 0
    for each in candidates:
        if batch and octets + each.placed.size > CONTENT:
            yield batch
            batch, octets = [], 0
        batch.append(each)
        octets += each.placed.size
    if batch:
        yield batch


# --- in a thread of the store -------------------------------------------------------------------


def _by_header(
    tx: Tx, blobs: Blobs, asked: Question, candidates: Sequence[Candidate]
) -> list[bool | None]:
    """Read header blocks, one at a time."""
    verdicts: list[bool | None] = []
    for each in candidates:
        known = each.parsed.header_size if each.parsed is not None else None
        size = HEADER_MAX if known is None else known
        raw = _read(tx, blobs, each, min(size, each.placed.size))
        if raw is None:
            verdicts.append(False)
            continue
        header = HeaderText(raw)
        verdicts.append(asked.test(replace(each, header=header)))
    return verdicts


def _by_content(
    tx: Tx, blobs: Blobs, asked: Question, candidates: Sequence[Candidate]
) -> list[bool | None]:
    """Read whole messages, one at a time."""
    verdicts: list[bool | None] = []
    for each in candidates:
        raw = _read(tx, blobs, each, each.placed.size)
        if raw is None:
            verdicts.append(False)
            continue
        found = look(raw, asked.in_header, asked.in_body)
        verdicts.append(asked.test(replace(each, header=HeaderText(raw), found=found)))
    return verdicts


def _read(tx: Tx, blobs: Blobs, message: Candidate, size: int) -> bytes | None:
    """Its first octets. One damaged message shall not keep a person from finding the others."""
    try:
        return blobs.read(tx, message.placed.blob, 0, size)
    except Corrupt as error:
        name = external(BLOB, message.placed.blob)
        _log.warning("a message cannot be searched", blob=name, detail=error.detail)
        return None


# --- telling ------------------------------------------------------------------------------------


async def tell(session: Session, name: bytes, hits: Hits) -> None:
    """The SEARCH or SORT response, one line of any length. RFC 3501 §7.2.5, RFC 5256 §4."""
    held = [b"* " + name]
    for start in range(0, len(hits.numbers), NUMBERS):
        if start:
            session.write(b"".join(held))
            held.clear()
            await session.output.drain()
            await asyncio.sleep(0)
        held += [b" %d" % n for n in hits.numbers[start : start + NUMBERS]]
    if hits.modseqs:
        held.append(b" (MODSEQ %d)" % max(hits.modseqs))
    held.append(b"\r\n")
    session.write(b"".join(held))


async def extended(
    tag: bytes,
    hits: Hits,
    returns: frozenset[SearchReturn],
    partial: Partial | None,
    *,
    uid: bool,
    place: bytes = b"",
) -> bytes:
    """`esearch`, in a thread where there is much to write."""
    if len(hits.numbers) <= NUMBERS:
        return esearch(tag, hits, returns, partial, uid=uid, place=place)
    return await asyncio.to_thread(esearch, tag, hits, returns, partial, uid=uid, place=place)


def esearch(
    tag: bytes,
    hits: Hits,
    returns: frozenset[SearchReturn],
    partial: Partial | None = None,
    *,
    uid: bool,
    render: Callable[[Sequence[int]], bytes] = compress,
    place: bytes = b"",
) -> bytes:
    """The ESEARCH response to SEARCH or SORT: MIN is the first in the order, ALL is in it, as
    `render` writes it. Without matches only COUNT and PARTIAL are told. RFC 4731 §3.1, RFC 5267
    §3.1, RFC 9394 §3.1. `place` says which mailbox it is about: RFC 7377 §2.1."""
    numbers, modseqs = hits.numbers, hits.modseqs
    parts = [b"* ESEARCH (TAG " + quoted_or_literal(tag) + place + b")"]
    if uid:
        parts.append(b"UID")
    if numbers:
        if SearchReturn.MIN in returns:
            parts.append(b"MIN %d" % numbers[0])
        if SearchReturn.MAX in returns:
            parts.append(b"MAX %d" % numbers[-1])
        if SearchReturn.ALL in returns:
            parts.append(b"ALL " + render(numbers))
    if SearchReturn.COUNT in returns:
        parts.append(b"COUNT %d" % len(numbers))
    if partial is not None:
        page = partial.cut(len(numbers))
        listed = render(numbers[page.start : page.stop]) or b"NIL"
        parts.append(b"PARTIAL (" + partial.render() + b" " + listed + b")")
    told = _told(len(numbers), returns, partial)
    if modseqs and told:
        # Of the messages that the answer is about: RFC 4731 §3.2.
        parts.append(b"MODSEQ %d" % max(modseqs[place] for place in told))
    return b" ".join(parts) + b"\r\n"
