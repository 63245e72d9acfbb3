"""SORT and UID SORT. RFC 5256 §3; RETURN: RFC 5267 §3, RFC 9394; MODSEQ: RFC 7162 §3.1.6.
DISPLAYFROM and DISPLAYTO: RFC 5957.

Sorting is stable from the last criterion to the first, and what is sorted comes in the order of
the mailbox: so equal messages stay in it, whatever is reversed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.reading import Brief
from postroom.formats.display import Addresses, display
from postroom.formats.folding import fold
from postroom.formats.parsed import MAKER_VERSION, Parsed
from postroom.protocols.imap.commands.search import (
    Hits,
    esearch,
    find,
    heed_numbers,
    save,
    saving,
    tell,
)
from postroom.protocols.imap.kept import SUBJECTS, Block
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.values import parsed_again, values_of
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
    asked = parse_sort(command.args)
    heed_numbers(session, asked.key, uid=uid)
    saves = asked.returns is not None and SearchReturn.SAVE in asked.returns
    with saving(session, saves):
        hits = await find(session, asked.key, uid=True)
        order = await _ordered(session, asked.criteria, hits.numbers)
    view = session.open.view
    uids, modseqs = hits.numbers, hits.modseqs
    ordered = Hits(
        [uids[at] if uid else view.number(uids[at]) for at in order],
        [modseqs[at] for at in order] if modseqs is not None else None,
    )
    if saves and asked.returns is not None:
        save(session, [uids[at] for at in order], asked.returns, asked.partial)
    if asked.returns is None:
        await tell(session, b"SORT", ordered)
    elif asked.returns != {SearchReturn.SAVE} or asked.partial:  # RFC 5182 §2.1
        told = esearch(command.tag, ordered, asked.returns, asked.partial, uid=uid, render=in_order)
        session.write(told)
    await session.finish(command, "Sorted")


# --- the order -----------------------------------------------------------------------------------


async def _ordered(
    session: Session, criteria: Sequence[SortCriterion], uids: Sequence[int]
) -> list[int]:
    """The places of messages, whose UIDs ascend, in their order."""
    order = list(range(len(uids)))
    if not uids:
        return order
    # A key that was looked at before decides nothing any more.
    first = {each.key: each for each in reversed(criteria)}
    wanted = [first[key] for key in dict.fromkeys(each.key for each in criteria)]
    for each in reversed(wanted):
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
    numbers = key in _NUMBERS

    async def texts_of(box: int, first: int, last: int) -> Block[str]:
        rows, top = await _rows(session, key, box, first, last)
        made = {uid: fold(str(value)) for uid, value in rows}
        return Block(made, top, 2 * sum(map(len, made.values())))

    async def numbers_of(box: int, first: int, last: int) -> Block[int]:
        rows, top = await _rows(session, key, box, first, last)
        return Block({uid: int(value) for uid, value in rows}, top, 0)

    if numbers:
        return await values_of(session, key.value, uids, numbers_of, 0)
    return await values_of(session, key.value, uids, texts_of, "")


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
