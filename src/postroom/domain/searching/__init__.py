"""The index of searches: which messages may hold a string. It narrows and never decides.

Called by indexing (below), the protocols and administration. May import: store, formats, core.

An account's messages are numbered in segments; a segment has a set of numbers for each trigram
that its messages hold. What a segment holds of a message never changes, as its content does not,
so copies, moves, renames and flags concern nobody here. A mailbox has a mark: every message up to
that UID is a member of a segment, and what lies beyond is a candidate always. What is removed
stays in its sets until its segment is written anew. docs/adr/0009.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt
from postroom.domain.searching import tables
from postroom.store.search import ALWAYS, common, unpack
from postroom.store.sql import Tx

PAGE: Final = 500
TRIGRAMS_MOST: Final = 48
"""Trigrams of one string that are asked for: more narrow no further."""

TRIGRAMS_OF_ALL: Final = 480
"""Trigrams of all strings of a search: of many strings fewer are asked for, but some of each."""


class State(IntEnum):
    """What a segment is."""

    BUILDING = 0  # its rows are being written: it says nothing yet
    LIVE = 1
    BROKEN = 2  # a set could not be read: its members are candidates until it is made anew
    DEAD = 3  # to be removed


# --- asking ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What the index says of some strings in one mailbox."""

    uid: int  # above it every message is a candidate
    candidates: tuple[frozenset[int], ...]  # for each string, messages of the account by id
    damaged: tuple[int, ...] = ()  # segments with a set that could not be read


def narrow(tx: Tx, account: int, box: int, needles: Sequence[frozenset[int]]) -> Narrowed | None:
    """In `index`: the messages that may hold each of some strings, which come as the trigrams of
    their folded text, none of them empty. None if nothing is known of the mailbox."""
    mark = tx.one(tables.MARK_OF, mailbox=box, account=account)
    if mark is None:
        return None
    most = min(TRIGRAMS_MOST, max(3, TRIGRAMS_OF_ALL // max(1, len(needles))))
    asked = [_chosen(needle, most) for needle in needles]
    live: list[int] = []
    whole: list[int] = []
    for segment, state, _ in tx.all(tables.SEGMENTS_OF, account=account):
        (live if state == State.LIVE else whole).append(segment)
    sets: dict[int, dict[int, bytes]] = {segment: {} for segment in live}
    wanted = sorted({ALWAYS}.union(*asked))
    for segment, trigram, numbers in tx.all(tables.SETS_AT, segments=live, trigrams=wanted):
        sets[segment][trigram] = numbers
    found: list[set[int]] = [set() for _ in asked]
    damaged: list[int] = []
    for segment, held in sets.items():
        try:
            always = unpack(held[ALWAYS]) if ALWAYS in held else []
            numbered = [_numbers(held, needle, always) for needle in asked]
        except Corrupt:
            damaged.append(segment)
            continue
        for messages, numbers in zip(found, numbered, strict=True):
            if numbers:
                rows = tx.all(tables.MEMBERS_AT, segment=segment, numbers=numbers)
                messages.update([row[0] for row in rows])
    for segment in (*whole, *damaged):
        members = [message for _, message in tx.all(tables.MEMBERS, segment=segment)]
        for messages in found:
            messages.update(members)
    return Narrowed(mark[0], tuple(map(frozenset, found)), tuple(damaged))


def _chosen(needle: frozenset[int], most: int) -> list[int]:
    """At most so many of a string's trigrams, spread over them."""
    ordered = sorted(needle)
    return ordered[:: -(-len(ordered) // most)]


def _numbers(held: Mapping[int, bytes], needle: list[int], always: list[int]) -> list[int]:
    try:
        sets = [held[trigram] for trigram in needle]
    except KeyError:
        return always  # a trigram that no message of the segment has
    return [*common(sets), *always]


def lying(tx: Tx, box: int, messages: Collection[int]) -> list[int]:
    """In `mail`: the UIDs of some messages in a mailbox, ascending."""
    rows = tx.all(tables.LYING, messages=sorted(messages))
    return sorted(uid for uid, mailbox in rows if mailbox == box)


def break_segments(tx: Tx, segments: Sequence[int]) -> None:
    """In `index`: these cannot be read, and are to be made anew."""
    tx.run(tables.BREAK, ids=segments)


# --- what indexing keeps --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Marks:
    """How far an account is indexed."""

    modseq: int
    uids: Mapping[int, int]  # by mailbox


def marks(tx: Tx, account: int) -> Marks:
    """In `index`."""
    row = tx.one(tables.MODSEQ_OF, account=account)
    return Marks(row[0] if row is not None else 0, dict(tx.all(tables.MARKS_OF, account=account)))


def begin(tx: Tx, segment: int, account: int, now: Instant) -> Marks:
    """In `index`: begin a segment. Whoever forgets the account from here on makes it void, so
    what follows from these marks can be kept at its end."""
    tx.run(tables.LOCK_ACCOUNT, account=account)
    tx.run(tables.BEGIN_SEGMENT, id=segment, account=account, now=now)
    return marks(tx, account)


def looked(tx: Tx, account: int, was: Marks, modseq: int) -> None:
    """In `index`: nothing came into an account since it had these marks; not if it has others."""
    tx.run(tables.LOCK_ACCOUNT, account=account)
    if marks(tx, account) == was:
        tx.run(tables.MARK_ACCOUNT, account=account, modseq=modseq)


def add_members(tx: Tx, segment: int, first: int, messages: Sequence[int]) -> None:
    """In `index`: messages by id, numbered from `first`."""
    rows = [
        {"segment": segment, "number": number, "message": message}
        for number, message in enumerate(messages, first)
    ]
    tx.many(tables.ADD_MEMBER, rows)


def add_sets(tx: Tx, segment: int, sets: Iterable[tuple[int, bytes]]) -> None:
    """In `index`: sets with their trigrams."""
    rows = [
        {"segment": segment, "trigram": trigram, "numbers": numbers} for trigram, numbers in sets
    ]
    tx.many(tables.ADD_SET, rows)


def finish(
    tx: Tx,
    segment: int,
    account: int,
    held: int,
    *,
    instead_of: Sequence[int] = (),
    modseq: int | None = None,
    uids: Mapping[int, int] | None = None,
) -> bool:
    """In `index`: from here on the segment counts, `instead_of` others, with the marks that it
    reaches. False, and it is dead, if it was made void, or one of the others is gone."""
    tx.run(tables.LOCK_ACCOUNT, account=account)
    states = [State.LIVE, State.BROKEN]
    there = tx.one(tables.COUNT_IN_STATES, ids=instead_of, states=states)
    fits = there is not None and there[0] == len(instead_of)
    if not fits or not tx.run(tables.FINISH_SEGMENT, id=segment, account=account, held=held):
        tx.run(tables.SET_STATE, ids=[segment], state=State.DEAD)
        return False
    dead = list(instead_of) if held else [*instead_of, segment]
    if dead:
        tx.run(tables.SET_STATE, ids=dead, state=State.DEAD)
    if uids:
        rows = [{"mailbox": box, "account": account, "uid": uid} for box, uid in uids.items()]
        tx.many(tables.MARK_MAILBOX, rows)
    if modseq is not None:
        tx.run(tables.MARK_ACCOUNT, account=account, modseq=modseq)
    return True


def abandon(tx: Tx, segment: int) -> None:
    """In `index`: a segment that is not made to its end."""
    tx.run(tables.SET_STATE, ids=[segment], state=State.DEAD)


def forget(tx: Tx, account: int) -> None:
    """In `index`: know nothing of an account; indexing then begins anew."""
    tx.run(tables.LOCK_ACCOUNT, account=account)
    tx.run(tables.DROP_SEGMENTS, account=account)
    tx.run(tables.FORGET_MARKS, account=account)
    tx.run(tables.FORGET_ACCOUNT, account=account)


def forget_all(tx: Tx) -> None:
    """In `index`: know nothing."""
    tx.run(tables.FORGET_ALL_ACCOUNTS)  # waits for whoever holds one
    tx.run(tables.DROP_ALL)
    tx.run(tables.FORGET_ALL_MARKS)


def forget_mailboxes(tx: Tx, boxes: Sequence[int]) -> None:
    """In `index`: mailboxes that are gone."""
    tx.run(tables.FORGET_MAILBOXES, mailboxes=boxes)


def remove(tx: Tx, limit: int, before: Instant) -> int:
    """In `index`: remove rows of a dead segment, and make dead what somebody began before that
    time and never finished; returns how many rows. Call it again until that is none."""
    tx.run(tables.DROP_STALE, before=before)
    row = tx.one(tables.DEAD)
    if row is None:
        return 0
    removed = tx.run(tables.REMOVE_SETS, segment=row[0], limit=limit)
    removed = removed or tx.run(tables.REMOVE_MEMBERS, segment=row[0], limit=limit)
    return removed or tx.run(tables.REMOVE_SEGMENT, id=row[0])


@dataclass(frozen=True, slots=True)
class Tally:
    """What the index holds of an account."""

    segments: int = 0
    messages: int = 0  # members; some may be removed by now
    broken: int = 0
    modseq: int = 0  # 0: it was not looked through yet


def tallies(tx: Tx, accounts: Sequence[int]) -> dict[int, Tally]:
    """In `index`: what it holds of some accounts; of which it knows nothing are not in it."""
    modseqs: dict[int, int] = dict(tx.all(tables.MODSEQS_OF, accounts=accounts))
    found = {account: Tally(modseq=modseq) for account, modseq in modseqs.items()}
    for account, segments, held, broken in tx.all(tables.TALLY, accounts=accounts):
        found[account] = Tally(segments, int(held), int(broken), modseqs.get(account, 0))
    return found
