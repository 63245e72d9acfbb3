"""Which messages can match a search at all, as the index of message texts has it.

A key that looks for a string becomes one that names candidates. They are joined as the keys are,
in positions where a message has to hold the string: what stands under NOT says nothing. The
messages that are left are read and tested as without an index, so the answer is the same: the
index is never believed when it says yes. docs/adr/0009.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from postroom.core import metrics
from postroom.core.errors import MailError
from postroom.core.ids import ACCOUNT, external
from postroom.domain import searching
from postroom.domain.searching.indexing import Indexer
from postroom.domain.searching.settings import SearchSettings
from postroom.formats.folding import fold
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.searching import common
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.view import Range
from postroom.store.search import trigrams
from postroom.wire.imap import And, BodyContains, HeaderContains, Or, SearchKey, TextContains

WORTH: Final = 32
"""Messages that are read rather than asked for in the index."""

AT_ONCE: Final = 1_000
"""Candidates that are looked up in the view without a look at the time."""

NARROWED: Final = metrics.counter(
    "search.narrowed", "searches", "Searches for strings, by what the index said", label="by"
)

_log: Final = structlog.get_logger("postroom.search")


@dataclass(frozen=True, slots=True)
class Holds:
    """A string that a message must hold, folded."""

    folded: str


@dataclass(frozen=True, slots=True)
class Each:
    """All of these."""

    parts: tuple[Needs, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of these."""

    parts: tuple[Needs, ...]


Needs = Holds | Each | Either


def needs(key: SearchKey) -> Needs | None:
    """What a message must hold to match; None if nothing is known to be needed.

    Subjects are narrowed by their own: `searching.Question.subjects`. What is compared there is the
    subject as it was parsed, which is cut.
    """
    match key:
        case HeaderContains(name) if name.lower() == "subject":
            return None
        case HeaderContains(_, text) | BodyContains(text) | TextContains(text):
            folded = fold(text)
            return Holds(folded) if len(folded) >= 3 else None
        case And(keys):
            known = tuple(found for each in keys if (found := needs(each)) is not None)
            return Each(known) if known else None
        case Or(keys):
            branches = tuple(map(needs, keys))
            known = tuple(each for each in branches if each is not None)
            return Either(known) if len(known) == len(branches) else None
        case _:
            return None  # NOT among them


def _strings(needed: Needs) -> Iterator[str]:
    match needed:
        case Holds(folded):
            yield folded
        case Each(parts) | Either(parts):
            for part in parts:
                yield from _strings(part)


def _held(needed: Needs, by: Mapping[str, frozenset[int]]) -> frozenset[int]:
    match needed:
        case Holds(folded):
            return by[folded]
        case Each(parts):
            return frozenset.intersection(*(_held(part, by) for part in parts))
        case Either(parts):
            return frozenset().union(*(_held(part, by) for part in parts))


async def narrowed(
    session: Session, place: Selected, key: SearchKey, ranges: list[Range]
) -> list[Range]:
    """Of some messages of a mailbox, by number, those that may match as far as the index knows."""
    indexer = session.shared.house.indexer
    needed = needs(key)
    if needed is None or indexer is None or sum(hi - lo + 1 for lo, hi in ranges) < WORTH:
        return ranges
    house = session.shared.house
    if not house.policies.latest(house.chain("")).of(SearchSettings).index:
        return ranges
    try:
        found = await _asked(session, place, indexer, needed)
    except MailError as error:
        _log.warning("the search index does not answer", reason=error.detail or str(error))
        found = None
    NARROWED.add(label="nothing" if found is None else "index")
    return ranges if found is None else common(ranges, found)


async def _asked(
    session: Session, place: Selected, indexer: Indexer, needed: Needs
) -> list[Range] | None:
    box, view = place.mailbox, place.view
    strings = list(dict.fromkeys(_strings(needed)))
    told = await indexer.index.read_much(
        searching.narrow, box.account, box.id, [trigrams(each) for each in strings]
    )
    if told is None:
        return None
    if told.damaged:
        _log.warning(
            "a set of the search index cannot be read",
            account=external(ACCOUNT, box.account),
            segments=len(told.damaged),
        )
        indexer.index.note(searching.break_segments, told.damaged)
    messages = _held(needed, dict(zip(strings, told.candidates, strict=True)))
    mail = session.shared.house.mail
    uids = await mail.read_much(searching.lying, box.id, messages) if messages else []
    pace, found = Pace(session.shared.clock), list[Range]()
    for start in range(0, len(uids), AT_ONCE):
        some = uids[start : start + AT_ONCE]
        found += view.by_uid((uid, uid) for uid in some if uid <= told.uid)
        if pace.over:
            await pace.rest()
    return found + view.by_uid([(told.uid + 1, max(view.last_uid, told.uid + 1))])
