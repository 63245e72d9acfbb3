"""Which messages a SEARCH means: the tree of keys as a test of one message. Pure.

A test answers True, False, or None while what it needs has not been read, and the tree keeps
that: a message is decided as soon as what is known of it decides. So a search reads placements
first, parsed columns of those that are left, then header blocks, and whole messages last.

What matches a string (RFC 3501 §6.4.4): it is a substring of the decoded text, both folded by
`formats.folding` (i;unicode-casemap, RFC 5255 §4.1). SUBJECT looks at the first Subject field, as
ENVELOPE does, up to
4,096 characters; the other header keys at every field of the name. Dates are compared by day:
INTERNALDATE in UTC, as we tell it, Date in its own zone.

RFC 3501 §6.4.4, RFC 5032, RFC 7162 §3.1.5, RFC 8474 §5.3, RFC 8514 §4.3.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, Malformed
from postroom.core.ids import MESSAGE, THREAD, internal
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.reading import Brief, Searched
from postroom.formats.folding import fold
from postroom.protocols.imap.text import EPOCH, Found, HeaderText
from postroom.protocols.imap.view import Range, View
from postroom.wire.imap import (
    All,
    And,
    BodyContains,
    DateIs,
    DateOf,
    EmailIdIs,
    HasFlag,
    HeaderContains,
    Larger,
    ModSeqFrom,
    Not,
    Older,
    Or,
    SaveDateSupported,
    SearchKey,
    SequenceIn,
    Smaller,
    TextContains,
    ThreadIdIs,
    UidIn,
    When,
    Younger,
)

STRINGS_MOST: Final = 200
"""Strings in one search: each is looked for in every message that is read."""

DAY: Final = 24 * 3600 * 1000


class Level(IntEnum):
    """How far a message has been read; each level costs more than the one before."""

    PLACED = 0
    PARSED = 1
    HEADER = 2
    CONTENT = 3


@dataclass(slots=True)
class Candidate:
    """A message that may match, with what has been read of it so far."""

    placed: Brief | Searched
    parsed: Searched | None = None
    thread: int | None = None
    header: HeaderText | None = None
    found: Found | None = None


Test = Callable[[Candidate], bool | None]


@dataclass(frozen=True, slots=True)
class About:
    """What keys refer to beside the message: the open mailbox and the time."""

    view: View
    registry: Registry
    recent: Sequence[Range]  # UIDs
    now: Instant
    result: Iterable[Range] = ()  # UIDs: what `$` means, RFC 5182


@dataclass(slots=True)
class Question:
    """A search that is ready to be put to messages."""

    test: Test = lambda message: True
    levels: set[Level] = field(default_factory=set)
    """The levels that a message may have to be read to; empty if the ranges are the answer."""
    in_header: set[str] = field(default_factory=set)
    in_body: set[str] = field(default_factory=set)
    """Folded strings to look for in messages that are read whole."""
    ranges: list[Range] = field(default_factory=list)
    """No message outside of these message numbers can match."""
    subjects: frozenset[str] = frozenset()
    """Folded strings without all of which in its subject no message can match."""
    asks_modseq: bool = False
    asks_thread: bool = False
    asks_placed: bool = False
    """A placement alone may decide: read that first."""
    keys: int = 0
    strings: int = 0

    @property
    def turn(self) -> int:
        """How many messages may be tested without a look at the time."""
        return max(1, 5_000 // (self.keys + 1))


def question(key: SearchKey, about: About) -> Question:
    """Make a search ready. Raises LimitReached.

    Recursion is as deep as the tree, and the tree as deep as the reader of commands allows.
    """
    asked = Question()
    _, asked.test = _compiled(key, about, asked)
    asked.ranges = _bounds(key, about)
    asked.subjects = _subjects(key)
    return asked


def matches(key: SearchKey, message: Candidate, about: About) -> bool | None:
    """Whether one message matches, None where it was not read far enough to say."""
    return question(key, about).test(message)


# --- the tree -----------------------------------------------------------------------------------


def _compiled(key: SearchKey, about: About, asked: Question) -> tuple[Level, Test]:
    """The test of a key, and the level that it needs, to try cheap ones first."""
    asked.keys += 1
    match key:
        case And(keys):
            return _all(sorted((_compiled(k, about, asked) for k in keys), key=_level))
        case Or(keys):
            asked.levels.add(Level.PLACED)
            return _any(sorted((_compiled(k, about, asked) for k in keys), key=_level))
        case Not(inner):
            asked.levels.add(Level.PLACED)
            level, test = _compiled(inner, about, asked)
            return level, _not(test)
        case HeaderContains() | BodyContains() | TextContains():
            asked.strings += 1
            if asked.strings > STRINGS_MOST:
                raise LimitReached("These are too many strings to look for at once")
            return _string(key, asked)
        case DateIs(DateOf.SENT, when, day):
            asked.levels |= {Level.PLACED, Level.PARSED, Level.HEADER}
            return Level.PARSED, _sent(_ORDER[when], day.toordinal() - EPOCH)
        case ThreadIdIs(name):
            asked.levels |= {Level.PLACED, Level.PARSED}
            asked.asks_thread = True
            return Level.PARSED, _thread(_number(THREAD, name))
        case SequenceIn() | UidIn():
            asked.asks_placed = True
            return Level.PLACED, _among(_uids(key, about))
        case All() | SaveDateSupported():
            return Level.PLACED, lambda message: True
        case _:
            asked.levels.add(Level.PLACED)
            asked.asks_placed = True
            asked.asks_modseq = asked.asks_modseq or isinstance(key, ModSeqFrom)
            return Level.PLACED, _placed(key, about)


def _level(each: tuple[Level, Test]) -> Level:
    return each[0]


def _all(tests: list[tuple[Level, Test]]) -> tuple[Level, Test]:
    in_turn = [test for _, test in tests]

    def test(message: Candidate) -> bool | None:
        known: bool | None = True
        for each in in_turn:
            got = each(message)
            if got is False:
                return False
            if got is None:
                known = None  # a later one may still say no
        return known

    return tests[-1][0], test


def _any(tests: list[tuple[Level, Test]]) -> tuple[Level, Test]:
    in_turn = [test for _, test in tests]

    def test(message: Candidate) -> bool | None:
        known: bool | None = False
        for each in in_turn:
            got = each(message)
            if got:
                return True
            if got is None:
                known = None
        return known

    return tests[-1][0], test


def _not(test: Test) -> Test:
    def negated(message: Candidate) -> bool | None:
        got = test(message)
        return None if got is None else not got

    return negated


# --- what the view and the placement answer -----------------------------------------------------


def _among(uids: Sequence[Range]) -> Test:
    lows = [lo for lo, _ in uids]
    highs = [hi for _, hi in uids]

    def test(message: Candidate) -> bool:
        at = bisect_right(lows, message.placed.uid) - 1
        return at >= 0 and message.placed.uid <= highs[at]

    return test


def _uids(key: SequenceIn | UidIn, about: About) -> list[Range]:
    """The UIDs that a set names."""
    view = about.view
    if key.messages.saved:
        return list(about.result)
    if isinstance(key, UidIn):
        return key.messages.resolve(view.last_uid)
    numbers = view.by_number(key.messages.resolve(view.size))
    return [(view.uid(lo), view.uid(hi)) for lo, hi in numbers]


def _bounds(key: SearchKey, about: About) -> list[Range]:
    """The message numbers outside of which nothing can match."""
    view = about.view
    everything = [(1, view.size)] if view.size else []
    match key:
        case SequenceIn() | UidIn():
            return view.by_uid(_uids(key, about))
        case And(keys):
            bounds = everything
            for each in keys:
                bounds = common(bounds, _bounds(each, about))
            return bounds
        case _:
            return everything


def _subjects(key: SearchKey) -> frozenset[str]:
    """Folded strings all of which the subject of a message that matches must hold."""
    match key:
        case HeaderContains(name, text) if name.lower() == "subject":
            return frozenset({fold(text)} - {""})
        case And(keys):
            return frozenset().union(*map(_subjects, keys))
        case _:
            return frozenset()


def common(some: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """What two lists of ranges, sorted and disjoint, have in common."""
    found: list[Range] = []
    at = 0
    for lo, hi in some:
        while at < len(others) and others[at][1] < lo:
            at += 1
        n = at
        while n < len(others) and others[n][0] <= hi:
            found.append((max(lo, others[n][0]), min(hi, others[n][1])))
            n += 1
        at = max(at, n - 1)
    return found


def _placed(key: SearchKey, about: About) -> Test:
    match key:
        case HasFlag(flag):
            return _flag(flag, about)
        case Larger(octets):
            return lambda message: message.placed.size > octets
        case Smaller(octets):
            return lambda message: message.placed.size < octets
        case ModSeqFrom(modseq):
            return lambda message: message.placed.modseq >= modseq
        case Older(seconds):
            limit = about.now // 1000 - seconds
            return lambda message: message.placed.received_at // 1000 <= limit
        case Younger(seconds):
            limit = about.now // 1000 - seconds
            return lambda message: message.placed.received_at // 1000 >= limit
        case EmailIdIs(name):
            number = _number(MESSAGE, name)
            return lambda message: message.placed.message == number
        case DateIs(of, when, day):
            return _internal(of, _ORDER[when], day.toordinal() - EPOCH)
        case _:
            raise AssertionError(f"{key} is no key of a placement")


def _flag(flag: str, about: About) -> Test:
    if flag.lower() == "\\recent":
        return _among(sorted(about.recent))
    bit = about.registry.known((flag,))  # 0 for a keyword that nobody has set yet
    return lambda message: message.placed.flags & bit != 0


_ORDER: Final[dict[When, Callable[[int, int], bool]]] = {
    When.BEFORE: operator.lt,
    When.ON: operator.eq,
    When.SINCE: operator.ge,
}


def _internal(of: DateOf, compare: Callable[[int, int], bool], day: int) -> Test:
    if of is DateOf.SAVED:
        return lambda message: compare(message.placed.saved_at // DAY, day)
    return lambda message: compare(message.placed.received_at // DAY, day)


def _number(letter: str, name: str) -> int:
    """The number of an object id; -1, which nothing has, for what is no id of ours."""
    try:
        return internal(letter, name)
    except Malformed:
        return -1


# --- what has to be read ------------------------------------------------------------------------


def _thread(number: int) -> Test:
    def test(message: Candidate) -> bool | None:
        return message.thread == number if message.thread is not None else None

    return test


def _sent(compare: Callable[[int, int], bool], day: int) -> Test:
    """By the parsed instant where every zone agrees on the answer, else by the field itself."""

    def test(message: Candidate) -> bool | None:
        parsed = message.parsed
        if parsed is None:
            return None
        if parsed.header_size is not None:
            if parsed.sent_at is None:
                return False
            at = parsed.sent_at // DAY
            if abs(at - day) > 1:
                return compare(at, day)
        if message.header is None:
            return None
        sent = message.header.sent_day()
        return sent is not None and compare(sent, day)

    return test


def _string(
    key: HeaderContains | BodyContains | TextContains, asked: Question
) -> tuple[Level, Test]:
    folded = fold(key.text)
    match key:
        case HeaderContains(name) if name.lower() == "subject" and folded:
            asked.levels |= {Level.PLACED, Level.PARSED, Level.HEADER}
            return Level.PARSED, _subject(folded)
        case HeaderContains(name):
            asked.levels |= {Level.PLACED, Level.PARSED, Level.HEADER}
            return Level.HEADER, _header(name, folded)
        case _ if not folded:
            return Level.PLACED, lambda message: True  # every text holds the empty one
        case BodyContains():
            asked.levels |= {Level.PLACED, Level.CONTENT}
            asked.in_body.add(folded)
            return Level.CONTENT, _content(folded, header=False)
        case TextContains():
            asked.levels |= {Level.PLACED, Level.CONTENT}
            asked.in_header.add(folded)
            return Level.CONTENT, _content(folded, header=True)


def _subject(folded: str) -> Test:
    def test(message: Candidate) -> bool | None:
        parsed = message.parsed
        if parsed is None:
            return None
        if parsed.subject is not None:
            return folded in fold(parsed.subject)
        header = message.header  # the parse is missing: it will be made again
        return header.contains("subject", folded) if header is not None else None

    return test


def _header(name: str, folded: str) -> Test:
    def test(message: Candidate) -> bool | None:
        header = message.header
        return header.contains(name, folded) if header is not None else None

    return test


def _content(folded: str, *, header: bool) -> Test:
    def test(message: Candidate) -> bool | None:
        found = message.found
        if found is None:
            return None
        return folded in found.body or (header and folded in found.header)

    return test


def sift(
    asked: Question, candidates: Iterable[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """Those that match, and those of which more has to be read."""
    hits: list[Candidate] = []
    left: list[Candidate] = []
    test = asked.test
    for candidate in candidates:
        got = test(candidate)
        if got:
            hits.append(candidate)
        elif got is None:
            left.append(candidate)
    return hits, left
