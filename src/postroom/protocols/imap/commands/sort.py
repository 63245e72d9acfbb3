"""SORT and UID SORT. RFC 5256 §3; RETURN: RFC 5267, RFC 9394; MODSEQ: RFC 7162 §3.1.6.
DISPLAYFROM and DISPLAYTO: RFC 5957.

Sorting is stable from the last criterion to the first, and what is sorted comes in the order of
the mailbox: so equal messages stay in it, whatever is reversed.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from operator import lt
from typing import Final

from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.reading import Brief
from postroom.formats.display import Addresses, display
from postroom.formats.folding import fold
from postroom.formats.parsed import MAKER_VERSION, Parsed
from postroom.protocols.imap.commands import context
from postroom.protocols.imap.commands.search import (
    Hits,
    among,
    esearch,
    find,
    heed_numbers,
    reading_search,
    save,
    saving,
    tell,
)
from postroom.protocols.imap.filters import expanded
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.kept import SUBJECTS, Block
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.values import Make, parsed_again, values_of, values_there
from postroom.wire.imap import (
    Command,
    SearchReturn,
    SortCriterion,
    SortKey,
    in_order,
    parse_sort,
)

TURN: Final = 2048
"""Messages that are sorted in one turn, and taken from a merge."""

ENVELOPES: Final = 64
"""UIDs whose envelopes are read at once, to take a name from each: one may have 450 KiB."""

_DISPLAY: Final = {SortKey.DISPLAYFROM: Addresses.FROM, SortKey.DISPLAYTO: Addresses.TO}


async def sort(session: Session, command: Command) -> None:
    """RFC 5256 §3."""
    uid = command.name == b"UID SORT"
    with reading_search(session):
        asked = parse_sort(command.args)
    saves = asked.returns is not None and SearchReturn.SAVE in asked.returns
    with saving(session, saves):
        asked = replace(asked, key=await expanded(session, asked.key))
    heed_numbers(session, asked.key, uid=uid)
    criteria = _decisive(asked.criteria)
    followed = context.begin(
        session,
        command.tag,
        asked.update,
        asked.key,
        among,
        uid=uid,
        ordering=Order(session, criteria),
    )
    with saving(session, saves):
        hits = await find(session, asked.key, uid=True)
        order = await _ordered(session, criteria, hits.numbers)
    view = session.open.view
    uids, modseqs = hits.numbers, hits.modseqs
    ordered = Hits(
        [uids[at] if uid else view.number(uids[at]) for at in order],
        [modseqs[at] for at in order] if modseqs is not None else None,
    )
    if saves and asked.returns is not None:
        save(session, [uids[at] for at in order], asked.returns, asked.partial)
    if followed is not None:
        followed.keep(uids, (uids[at] for at in order))
    if asked.returns is None:
        await tell(session, b"SORT", ordered)
    elif asked.returns != {SearchReturn.SAVE} or asked.partial:  # RFC 5182 §2.1
        told = esearch(command.tag, ordered, asked.returns, asked.partial, uid=uid, render=in_order)
        session.write(told)
    await finish(session, command, "Sorted")


# --- the order -----------------------------------------------------------------------------------


def _decisive(criteria: Sequence[SortCriterion]) -> list[SortCriterion]:
    """Those that decide: a key that was looked at before decides nothing any more."""
    first = {each.key: each for each in reversed(criteria)}
    return [first[key] for key in dict.fromkeys(each.key for each in criteria)]


async def _ordered(
    session: Session, criteria: Sequence[SortCriterion], uids: Sequence[int]
) -> list[int]:
    """The places of messages, whose UIDs ascend, in their order."""
    order = list(range(len(uids)))
    if not uids:
        return order
    for each in reversed(criteria):
        keys = await _keys(session, each.key, uids)
        order = await _pass(session, order, keys, reverse=each.reverse)
    return order


async def _pass(
    session: Session, order: list[int], keys: Sequence[int] | Sequence[str], *, reverse: bool
) -> list[int]:
    """One stable pass by one key, in turns: `list.sort` cannot be interrupted."""
    key = keys.__getitem__
    if len(order) <= TURN:
        return sorted(order, key=key, reverse=reverse)
    pace = Pace(session.shared.clock)
    runs: list[list[int]] = []
    for start in range(0, len(order), TURN):
        runs.append(sorted(order[start : start + TURN], key=key, reverse=reverse))
        if pace.over:
            await pace.rest()
    merged: Iterator[int] = heapq.merge(*runs, key=key, reverse=reverse)
    found: list[int] = []
    while piece := list(islice(merged, TURN)):
        found += piece
        if pace.over:
            await pace.rest()
    return found


async def _keys(
    session: Session, key: SortKey, uids: Sequence[int]
) -> Sequence[int] | Sequence[str]:
    if key in _NUMBERS:
        return await values_of(session, key.value, uids, _numbers(session, key), 0)
    return await values_of(session, key.value, uids, _texts(session, key), "")


async def _keys_there(
    session: Session, key: SortKey, uids: Sequence[int]
) -> Mapping[int, int | str]:
    """`_keys` by UID, without what is gone."""
    if key in _NUMBERS:
        return await values_there(session, key.value, uids, _numbers(session, key))
    return await values_there(session, key.value, uids, _texts(session, key))


def _texts(session: Session, key: SortKey) -> Make[str]:
    async def texts_of(box: int, first: int, last: int) -> Block[str]:
        rows, top = await _rows(session, key, box, first, last)
        made = {uid: fold(str(value)) for uid, value in rows}
        return Block(made, top, 2 * sum(map(len, made.values())))

    return texts_of


def _numbers(session: Session, key: SortKey) -> Make[int]:
    async def numbers_of(box: int, first: int, last: int) -> Block[int]:
        rows, top = await _rows(session, key, box, first, last)
        return Block({uid: int(value) for uid, value in rows}, top, 0)

    return numbers_of


async def _rows(
    session: Session, key: SortKey, box: int, first: int, last: int
) -> tuple[list[tuple[int, int | str]], int]:
    """(uid, key) of a block, and up to which UID they may be kept: not what an older maker made."""
    rows = await _read(session, key, box, first, last)
    lost: list[int] = []
    if key not in _PLACED:
        lost = [uid for uid, _, version in rows if version is None]
    again = await parsed_again(session, lost) if lost else {}
    found: list[tuple[int, int | str]] = []
    for uid, value, _ in rows:
        if uid in again:
            found.append((uid, _key_of(key, *again[uid])))
        else:
            found.append((uid, "" if value is None else value))
    old = key not in _PLACED and any(version not in (None, MAKER_VERSION) for *_, version in rows)
    return found, 0 if old else last


async def _read(
    session: Session, key: SortKey, box: int, first: int, last: int
) -> list[tuple[int, int | str | None, int | None]]:
    """(uid, key, version of its maker) of a block, as the store has it."""
    mail, pace = session.shared.house.mail, Pace(session.shared.clock)
    shown = _DISPLAY.get(key)
    step = ENVELOPES if shown is not None else SUBJECTS
    found: list[tuple[int, int | str | None, int | None]] = []
    for start in range(first, last + 1, step):
        stop = min(last, start + step - 1)
        for uid, value, version in await mail.read(reading.sort_keys, box, key, start, stop):
            known = display(value, _DISPLAY[key]) if isinstance(value, bytes) else value
            found.append((uid, known, version))
        if pace.over:
            await pace.rest()
    return found


_PLACED: Final = frozenset({SortKey.ARRIVAL, SortKey.SIZE})
_NUMBERS: Final = _PLACED | {SortKey.DATE}


def _key_of(key: SortKey, placed: Brief, parsed: Parsed) -> int | str:
    match key:
        case SortKey.DATE:
            return placed.received_at if parsed.sent_at is None else parsed.sent_at
        case SortKey.SUBJECT:
            return parsed.subject_base
        case SortKey.FROM:
            return parsed.sort_from
        case SortKey.TO:
            return parsed.sort_to
        case SortKey.CC:
            return parsed.sort_cc
        case SortKey.DISPLAYFROM | SortKey.DISPLAYTO:
            return display(parsed.envelope, _DISPLAY[key])
        case _:
            raise AssertionError(f"{key} is no key of a parse")


# --- a place in the order ------------------------------------------------------------------------

FEW: Final = 32
"""Times as many in the order as come into it: then neighbours are looked up one by one, else all
of them at once."""

WINDOW: Final = 16
"""Neighbours that are looked up together where one is gone."""


class Order:
    """The order of a SORT, to find places in it."""

    def __init__(self, session: Session, criteria: Sequence[SortCriterion]) -> None:
        """`criteria` name each key once."""
        self._session = session
        self._criteria = criteria

    async def places(self, order: Sequence[int], uids: Sequence[int]) -> list[tuple[int, int]]:
        """Where messages, whose UIDs ascend, belong in a list that is in order: (place, UID), both
        in order. What is gone is left out."""
        known = _Known(self._session, self._criteria)
        await known.look_up(uids)
        in_turn = [uids[at] for at in await _ordered(self._session, self._criteria, uids)]
        many = len(in_turn) * FEW > len(order)
        if many:
            await known.look_up(await asyncio.to_thread(sorted, order))
        pace, found, place = Pace(self._session.shared.clock), list[tuple[int, int]](), 0
        for uid in in_turn:
            if uid not in known.gone:
                place = await _place(order, place, uid, known, near=many)
                found.append((place, uid))
            if pace.over:
                await pace.rest()
        return found


class _Known:
    """What has been looked up of messages; no object for each, since there may be many."""

    def __init__(self, session: Session, criteria: Sequence[SortCriterion]) -> None:
        self._session = session
        self._criteria = criteria
        self._columns: list[dict[int, int | str]] = [{} for _ in criteria]
        self.gone: set[int] = set()

    async def look_up(self, uids: Sequence[int]) -> None:
        """Of messages whose UIDs ascend."""
        for each, column in zip(self._criteria, self._columns, strict=True):
            column.update(await _keys_there(self._session, each.key, uids))
        self.gone.update(*(set(uids).difference(column) for column in self._columns))

    def __contains__(self, uid: int) -> bool:
        return uid in self._columns[0] or uid in self.gone

    def precedes(self, one: int, other: int) -> bool:
        """Of two that are there; what is equal stays in the order of the mailbox."""
        for each, column in zip(self._criteria, self._columns, strict=True):
            mine, theirs = column[one], column[other]
            if mine != theirs:
                return bool(lt(mine, theirs)) != each.reverse
        return one < other


async def _place(order: Sequence[int], lo: int, uid: int, known: _Known, *, near: bool) -> int:
    """Where one belongs, not before `lo`, and perhaps `near` it. What is gone by now, of which the
    client is yet to be told, is no guide: the next that is there is."""
    hi, step = len(order), 1
    while near and lo + step < hi:
        at = await _next_there(order, lo + step - 1, hi, known)
        if at == hi or not known.precedes(order[at], uid):
            hi = lo + step
        else:
            lo, step = at + 1, 2 * step
    while lo < hi:
        middle = (lo + hi) // 2
        at = await _next_there(order, middle, hi, known)
        if at < hi and known.precedes(order[at], uid):
            lo = at + 1
        else:
            hi = middle
    return lo


async def _next_there(order: Sequence[int], at: int, hi: int, known: _Known) -> int:
    """From a place on, that of the first message which is there; `hi` if none is."""
    step = 1
    while at < hi:
        if order[at] not in known:
            await known.look_up(sorted(order[at : min(hi, at + step)]))
            step = WINDOW
        if order[at] not in known.gone:
            return at
        at += 1
    return hi
