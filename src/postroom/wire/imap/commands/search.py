"""SEARCH, SORT and THREAD: a tree of what to look for.

RFC 9051 §6.4.4; RFC 3501 §6.4.4 for NEW, OLD, RECENT; ESEARCH: RFC 4731; SEARCHRES: RFC 5182;
PARTIAL: RFC 9394; WITHIN: RFC 5032; CONDSTORE: RFC 7162 §3.1.5; OBJECTID: RFC 8474 §5.3;
SAVEDATE: RFC 8514 §4.3; FILTER: RFC 5466 §3.1; SORT and THREAD: RFC 5256, RFC 5957; UPDATE,
CONTEXT: RFC 5267 §4, RFC 5465 §7.

The tree is read with a stack of its own, never by recursion: parentheses, NOT and OR nest to
the cursor's depth. A chain of ORs, which clients write for a choice of many, is one Or with
many keys and does not count as depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from enum import Enum, StrEnum
from typing import Final, TypeAlias

from postroom.wire.imap.commands.fetch import FetchItem, parse_fetch_items
from postroom.wire.imap.commands.partial import Partial, parse_partial
from postroom.wire.imap.cursor import BadSyntax, Cursor, Piece, unexpected
from postroom.wire.imap.sequence import SequenceSet

# --- the tree ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Or:
    keys: tuple[SearchKey, ...]


@dataclass(frozen=True, slots=True)
class Not:
    key: SearchKey


@dataclass(frozen=True, slots=True)
class HasFlag:
    """A system flag (`\\Seen`) or keyword. UNSEEN is Not(HasFlag), NEW is And of two."""

    flag: str


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """A header field holds the text; "" asks whether the field is there. FROM, TO, CC, BCC
    and SUBJECT are this too.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class BodyContains:
    text: str


@dataclass(frozen=True, slots=True)
class TextContains:
    """Header or body."""

    text: str


@dataclass(frozen=True, slots=True)
class Larger:
    octets: int


@dataclass(frozen=True, slots=True)
class Smaller:
    octets: int


class DateOf(Enum):
    INTERNAL = "INTERNAL"
    SENT = "SENT"
    SAVED = "SAVED"


class When(Enum):
    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"  # that day or later


@dataclass(frozen=True, slots=True)
class DateIs:
    """A day, disregarding time and zone."""

    of: DateOf
    when: When
    day: date


@dataclass(frozen=True, slots=True)
class Older:
    """Internal date at least so many seconds ago. RFC 5032 §3."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Younger:
    seconds: int


@dataclass(frozen=True, slots=True)
class SequenceIn:
    messages: SequenceSet


@dataclass(frozen=True, slots=True)
class UidIn:
    messages: SequenceSet


@dataclass(frozen=True, slots=True)
class ModSeqFrom:
    """Mod-sequence of `modseq` or more; of one flag's metadata if a name is given, which a
    server that keeps one mod-sequence for each message may leave aside. RFC 7162 §3.1.5.
    """

    modseq: int
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class EmailIdIs:
    id: str


@dataclass(frozen=True, slots=True)
class ThreadIdIs:
    id: str


@dataclass(frozen=True, slots=True)
class SaveDateSupported:
    """True of every message of a mailbox that keeps save dates. RFC 8514 §4.3."""


@dataclass(frozen=True, slots=True)
class InFilter:
    """What the filter of this name, in lower case, says: it is put here before anything is looked
    for. RFC 5466 §3.1."""

    name: str


SearchKey: TypeAlias = (
    All | And | Or | Not | HasFlag | HeaderContains | BodyContains | TextContains | Larger | Smaller
    | DateIs | Older | Younger | SequenceIn | UidIn | ModSeqFrom | EmailIdIs | ThreadIdIs
    | SaveDateSupported | InFilter
)  # fmt: skip


# --- the commands --------------------------------------------------------------------------------


class BadCharset(BadSyntax):
    """NO [BADCHARSET (…)]: the charset is not one of CHARSETS. RFC 9051 §7.1."""

    sentence = "This charset is not known here"

    def __init__(self, *, saves: bool = False) -> None:
        """`saves`: the result was to be saved, and is empty now. RFC 5182 §2.1."""
        super().__init__()
        self.saves = saves


class BadFilterCharset(BadCharset):
    """BAD [BADCHARSET (…)]: what is said beside a filter is UTF-8. RFC 5466 §3.1."""

    sentence = "Strings beside a filter are UTF-8"


class SearchReturn(StrEnum):
    """RFC 4731 §3.1, RFC 5182 §2."""

    MIN = "MIN"
    MAX = "MAX"
    ALL = "ALL"
    COUNT = "COUNT"
    SAVE = "SAVE"


@dataclass(frozen=True, slots=True)
class Update:
    """How to go on telling what comes into a result and what leaves it. RFC 5267 §4.3."""

    items: tuple[FetchItem, ...] = ()
    """To fetch of a new message that comes into it. RFC 5465 §7."""


@dataclass(frozen=True, slots=True)
class Search:
    """`returns` None: the old SEARCH response; RETURN () is {ALL}. PARTIAL and UPDATE stand beside
    it; CONTEXT, which is a hint and no more, is read and left aside."""

    key: SearchKey
    returns: frozenset[SearchReturn] | None = None
    partial: Partial | None = None
    charset_given: bool = field(default=False, compare=False)
    """CHARSET was named; it says how strings were read, and is no part of what they mean."""
    update: Update | None = None


class SortKey(StrEnum):
    """RFC 5256 §3, RFC 5957 §3."""

    ARRIVAL = "ARRIVAL"
    CC = "CC"
    DATE = "DATE"
    DISPLAYFROM = "DISPLAYFROM"
    DISPLAYTO = "DISPLAYTO"
    FROM = "FROM"
    SIZE = "SIZE"
    SUBJECT = "SUBJECT"
    TO = "TO"


@dataclass(frozen=True, slots=True)
class SortCriterion:
    key: SortKey
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    criteria: tuple[SortCriterion, ...]
    key: SearchKey
    returns: frozenset[SearchReturn] | None = None
    partial: Partial | None = None
    update: Update | None = None


@dataclass(frozen=True, slots=True)
class CancelUpdate:
    """The tags of the commands whose results are followed no longer. RFC 5267 §4.3.5."""

    tags: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    algorithm: str  # upper case, such as REFERENCES
    key: SearchKey


CHARSETS: Final = {
    b"UTF-8": "utf-8",
    b"US-ASCII": "ascii",
    b"ISO-8859-1": "iso-8859-1",
    b"ISO-8859-15": "iso-8859-15",
    b"WINDOWS-1252": "cp1252",
}
"""Charset names of the wire and their codecs. UTF-8 is what every client should say."""

_ANNOUNCED: Final = re.compile(rb"\{([0-9]{1,7})\+?\}\Z")


def parse_search(args: Cursor) -> Search:
    """RFC 9051 §6.4.4; without CHARSET strings are UTF-8."""
    returns, partial, update = _returns(args)
    args.sp()
    words = _Words("utf-8")
    charset_given = args.accept_keyword(b"CHARSET ")
    if charset_given:
        words = _charset(args, returns)
        args.sp()
    return Search(_keys(args, words), returns, partial, charset_given, update)


def parse_criteria(text: bytes, depth: int) -> SearchKey:
    """The keys that a filter keeps, in UTF-8, nested `depth` times at most. RFC 5466 §3.2.

    They stand there as they would in a command, a literal with its octets behind it.
    """
    lines: list[bytes] = []
    literals: list[bytes] = []
    at = 0
    while (end := text.find(b"\r\n", at)) >= 0:
        announced = _ANNOUNCED.search(text, at, end)
        size = int(announced[1]) if announced is not None else len(text)
        at_literal = end + 2
        if announced is None or len(text) < at_literal + size:
            raise BadSyntax("A literal is missing")
        lines.append(text[at : announced.start()])
        at = at_literal + size
        literals.append(text[at_literal:at])
    lines.append(text[at:])
    pieces = [Piece(raw, False, line) for raw, line in zip(literals, lines[1:], strict=True)]
    return _keys(Cursor(lines[0], 0, pieces, depth=depth), _Words("utf-8"))


def parse_sort(args: Cursor) -> Sort:
    """`[RETURN (…)] (criteria) charset keys`. RFC 5256 §5, RFC 5267 §2."""
    returns, partial, update = _returns(args)
    args.sp()
    criteria = tuple(args.list(_criterion))
    args.sp()
    words = _charset(args, returns)
    args.sp()
    return Sort(criteria, _keys(args, words), returns, partial, update)


def parse_cancelupdate(args: Cursor) -> CancelUpdate:
    """`1*(SP quoted)`. RFC 5267 §5."""
    tags: list[bytes] = []
    while not args.at_end:
        args.sp()
        tags.append(args.string())
    if not tags:
        raise BadSyntax("A tag is missing")
    return CancelUpdate(tuple(tags))


def parse_thread(args: Cursor) -> Thread:
    """`algorithm charset keys`. RFC 5256 §5."""
    args.sp()
    algorithm = args.keyword().decode("ascii")
    args.sp()
    words = _charset(args)
    args.sp()
    return Thread(algorithm, _keys(args, words))


def _returns(
    args: Cursor,
) -> tuple[frozenset[SearchReturn] | None, Partial | None, Update | None]:
    """`RETURN (…)` with its leading space, or None and nothing consumed; PARTIAL: RFC 9394 §3.1."""
    if not args.accept_keyword(b" RETURN "):
        return None, None, None
    found = args.list(_return, empty=True)
    pages = [each for each in found if isinstance(each, Partial)]
    updates = [each for each in found if isinstance(each, Update)]
    returns = frozenset(each for each in found if isinstance(each, SearchReturn))
    if len(pages) > 1 or (pages and SearchReturn.ALL in returns):
        raise BadSyntax("One PARTIAL or ALL is enough")
    if len(updates) > 1:
        raise BadSyntax("One UPDATE is enough")
    if not found:
        returns = frozenset({SearchReturn.ALL})
    return returns, pages[0] if pages else None, updates[0] if updates else None


def _return(args: Cursor) -> SearchReturn | Partial | Update | None:
    word = args.keyword()
    if word == b"PARTIAL":
        args.sp()
        return parse_partial(args)
    if word == b"UPDATE":
        return Update(parse_fetch_items(args) if args.accept(b" (") else ())
    if word == b"CONTEXT":
        return None  # RFC 5267 §4.2
    try:
        return SearchReturn(word.decode("ascii"))
    except ValueError:
        raise BadSyntax("This return option is not known here") from None


def _criterion(args: Cursor) -> SortCriterion:
    word = args.keyword()
    reverse = word == b"REVERSE"
    if reverse:
        args.sp()
        word = args.keyword()
    try:
        return SortCriterion(SortKey(word.decode("ascii")), reverse)
    except ValueError:
        raise BadSyntax("This sort criterion is not known here") from None


def _charset(args: Cursor, returns: frozenset[SearchReturn] | None = None) -> _Words:
    codec = CHARSETS.get(args.astring().upper())
    if codec is None:
        raise BadCharset(saves=returns is not None and SearchReturn.SAVE in returns)
    return _Words(codec)


# --- reading keys --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Words:
    """Reads the strings of a search in their charset."""

    codec: str

    def text(self, args: Cursor) -> str:
        raw = args.astring()
        try:
            return raw.decode(self.codec)
        except UnicodeDecodeError:
            raise BadSyntax("A string is not in its charset") from None


@dataclass(slots=True)
class _Frame:
    """What waits for keys: the whole search, a parenthesis, NOT, or OR with `needs` keys."""

    kind: type[And | Or | Not] | None  # None is the whole search
    needs: int = 0
    keys: list[SearchKey] = field(default_factory=list)


def _keys(args: Cursor, words: _Words) -> SearchKey:
    """One or more keys to the end of the command."""
    stack = [_Frame(None)]
    while True:
        top = stack[-1]
        if args.accept(b"("):
            _push(stack, _Frame(And), args.depth)
            continue
        word = args.look_keyword()
        if word == b"NOT":
            args.accept_keyword(b"NOT")
            args.sp()
            if top.kind is Not:
                stack.pop()  # NOT NOT: neither
            else:
                _push(stack, _Frame(Not, 1), args.depth)
            continue
        if word == b"OR":
            args.accept_keyword(b"OR")
            args.sp()
            if top.kind is Or:
                top.needs += 1  # OR is associative
            else:
                _push(stack, _Frame(Or, 2), args.depth)
            continue
        key = _reduce(args, stack, _key(args, word, words))
        if key is not None:
            return key


def _push(stack: list[_Frame], frame: _Frame, depth: int) -> None:
    if len(stack) > depth:
        raise BadSyntax("The search is nested too deeply")
    stack.append(frame)


def _reduce(args: Cursor, stack: list[_Frame], key: SearchKey) -> SearchKey | None:
    """Give `key` to what waits for it; the whole tree if that was the last."""
    while True:
        top = stack[-1]
        top.keys.append(key)
        if top.kind is None:
            if args.at_end:
                return _and(top.keys)
            break
        if top.kind is And:
            if not args.accept(b")"):
                break
            key = _and(top.keys)
        elif len(top.keys) < top.needs:
            break
        else:
            key = Or(tuple(top.keys)) if top.kind is Or else Not(key)
        stack.pop()
    args.sp()
    return None


def _and(keys: list[SearchKey]) -> SearchKey:
    return keys[0] if len(keys) == 1 else And(tuple(keys))


def _key(args: Cursor, word: bytes, words: _Words) -> SearchKey:
    if word in _CONSTANT:
        args.keyword()
        return _CONSTANT[word]
    read = _READERS.get(word)
    if read is not None:
        args.keyword()
        args.sp()
        return read(args, words)
    if args.at_set:
        return SequenceIn(args.sequence_set())
    return unexpected("This search key")


_RECENT: Final = HasFlag("\\Recent")
_SEEN: Final = HasFlag("\\Seen")
_CONSTANT: Final[dict[bytes, SearchKey]] = {
    b"ALL": All(),
    b"ANSWERED": HasFlag("\\Answered"),
    b"DELETED": HasFlag("\\Deleted"),
    b"DRAFT": HasFlag("\\Draft"),
    b"FLAGGED": HasFlag("\\Flagged"),
    b"NEW": And((_RECENT, Not(_SEEN))),
    b"OLD": Not(_RECENT),
    b"RECENT": _RECENT,
    b"SAVEDATESUPPORTED": SaveDateSupported(),
    b"SEEN": _SEEN,
    b"UNANSWERED": Not(HasFlag("\\Answered")),
    b"UNDELETED": Not(HasFlag("\\Deleted")),
    b"UNDRAFT": Not(HasFlag("\\Draft")),
    b"UNFLAGGED": Not(HasFlag("\\Flagged")),
    b"UNSEEN": Not(_SEEN),
}

_Reader: TypeAlias = Callable[[Cursor, _Words], "SearchKey"]


def _header(args: Cursor, words: _Words) -> SearchKey:
    name = words.text(args)
    args.sp()
    return HeaderContains(name, words.text(args))


def _filter(args: Cursor, words: _Words) -> SearchKey:
    """`filter-name`: an atom without a slash. RFC 5466 §4."""
    if words.codec not in ("utf-8", "ascii"):
        raise BadFilterCharset
    name = args.atom()
    if b"/" in name:
        raise BadSyntax("The name of a filter has no slash")
    return InFilter(name.decode("ascii").lower())


def _named_header(name: str) -> _Reader:
    return lambda args, words: HeaderContains(name, words.text(args))


def _day(of: DateOf, when: When) -> _Reader:
    return lambda args, words: DateIs(of, when, args.date())


def _modseq(args: Cursor, words: _Words) -> SearchKey:
    """`["entry-name" SP type SP] modseq`. RFC 7162 §7."""
    entry: str | None = None
    if args.peek() == b'"':
        entry = words.text(args)
        args.sp()
        if args.keyword() not in (b"PRIV", b"SHARED", b"ALL"):
            unexpected("This type of metadata")
        args.sp()
    return ModSeqFrom(args.number64(), entry)


_READERS: Final[dict[bytes, _Reader]] = {
    b"BCC": _named_header("Bcc"),
    b"BEFORE": _day(DateOf.INTERNAL, When.BEFORE),
    b"BODY": lambda args, words: BodyContains(words.text(args)),
    b"CC": _named_header("Cc"),
    b"EMAILID": lambda args, words: EmailIdIs(args.atom().decode("ascii")),
    b"FILTER": _filter,  # RFC 5466 §3.1
    b"FROM": _named_header("From"),
    b"HEADER": _header,
    b"KEYWORD": lambda args, words: HasFlag(args.atom().decode("ascii")),
    b"LARGER": lambda args, words: Larger(args.number64()),
    b"MODSEQ": _modseq,
    b"OLDER": lambda args, words: Older(args.nz_number()),
    b"ON": _day(DateOf.INTERNAL, When.ON),
    b"SAVEDBEFORE": _day(DateOf.SAVED, When.BEFORE),
    b"SAVEDON": _day(DateOf.SAVED, When.ON),
    b"SAVEDSINCE": _day(DateOf.SAVED, When.SINCE),
    b"SENTBEFORE": _day(DateOf.SENT, When.BEFORE),
    b"SENTON": _day(DateOf.SENT, When.ON),
    b"SENTSINCE": _day(DateOf.SENT, When.SINCE),
    b"SINCE": _day(DateOf.INTERNAL, When.SINCE),
    b"SMALLER": lambda args, words: Smaller(args.number64()),
    b"SUBJECT": _named_header("Subject"),
    b"TEXT": lambda args, words: TextContains(words.text(args)),
    b"THREADID": lambda args, words: ThreadIdIs(args.atom().decode("ascii")),
    b"TO": _named_header("To"),
    b"UID": lambda args, words: UidIn(args.sequence_set()),
    b"UNKEYWORD": lambda args, words: Not(HasFlag(args.atom().decode("ascii"))),
    b"YOUNGER": lambda args, words: Younger(args.nz_number()),
}
