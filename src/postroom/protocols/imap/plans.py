"""What one FETCH asks for, and what is told without content. RFC 3501 §7.4.2.

Rendered by formatting operations over whole columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from time import gmtime
from typing import Any, Final, NamedTuple

from postroom.core.ids import MESSAGE, THREAD, external
from postroom.protocols.imap.selected import Selected
from postroom.protocols.imap.view import Neighbours
from postroom.wire.imap import (
    FetchAttribute,
    FetchBinarySize,
    FetchBody,
    FetchItem,
    FetchPreview,
    Section,
    quoted_or_literal,
)

Row = Sequence[Any]

# Positions in the rows of reading.Brief and reading.Full.
UID, FLAGS, MODSEQ, SIZE, RECEIVED, SAVED, MESSAGE_ID, BLOB_ID = range(8)
ENVELOPE, STRUCTURE, LAYOUT, HEADER_SIZE, PREVIEW = range(8, 13)

_FROM_PARSE: Final = frozenset(
    {FetchAttribute.ENVELOPE, FetchAttribute.BODYSTRUCTURE, FetchAttribute.PREVIEW}
)
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@lru_cache(maxsize=8192)
def internal_date(second: int) -> bytes:
    """The INTERNALDATE of a second since 1970, in UTC."""
    year, month, day, hour, minute, sec, *_ = gmtime(second)
    month_name = _MONTHS[month - 1]
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (day, month_name, year, hour, minute, sec)


# --- what is asked for -------------------------------------------------------------------------


class Rows(NamedTuple):
    """Rows by column, and what their messages' flags and threads are called."""

    columns: Sequence[Sequence[Any]]
    selected: Selected
    threads: Mapping[int, int]


Column = Callable[[Rows], Iterable[Any]]
"""From rows, the values of one item."""

_COLUMNS: Final[dict[FetchItem, tuple[bytes, Column]]] = {
    FetchAttribute.UID: (b"UID %d", lambda r: r.columns[UID]),
    FetchAttribute.FLAGS: (
        b"FLAGS %b",
        lambda r: r.selected.flags_column(r.columns[FLAGS], r.columns[UID]),
    ),
    FetchAttribute.INTERNALDATE: (
        b"INTERNALDATE %b",
        lambda r: map(_date, r.columns[RECEIVED]),
    ),
    FetchAttribute.RFC822_SIZE: (b"RFC822.SIZE %d", lambda r: r.columns[SIZE]),
    FetchAttribute.ENVELOPE: (b"ENVELOPE %b", lambda r: r.columns[ENVELOPE]),
    FetchAttribute.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", lambda r: r.columns[STRUCTURE]),
    FetchAttribute.MODSEQ: (b"MODSEQ (%d)", lambda r: r.columns[MODSEQ]),
    FetchAttribute.EMAILID: (b"EMAILID (%b)", lambda r: map(_email_id, r.columns[MESSAGE_ID])),
    FetchAttribute.THREADID: (
        b"THREADID (%b)",
        lambda r: [_thread_id(r.threads[each]) for each in r.columns[MESSAGE_ID]],
    ),
    FetchAttribute.SAVEDATE: (b"SAVEDATE %b", lambda r: map(_date, r.columns[SAVED])),
    FetchAttribute.PREVIEW: (b"PREVIEW %b", lambda r: map(_preview, r.columns[PREVIEW])),
}

# Of these, what never changes, from the rows of reading.listed_rows.
_STILL: Final[dict[FetchItem, Callable[[Sequence[Sequence[Any]]], Iterable[Any]]]] = {
    FetchAttribute.RFC822_SIZE: lambda columns: columns[1],
    FetchAttribute.INTERNALDATE: lambda columns: map(_date, columns[2]),
    FetchAttribute.ENVELOPE: lambda columns: columns[3],
    FetchAttribute.BODYSTRUCTURE: lambda columns: columns[4],
}
_VIEWED: Final = frozenset({FetchAttribute.UID, FetchAttribute.FLAGS})


class Body(NamedTuple):
    """An item that is made of octets of the message."""

    label: bytes
    wanted: FetchBody | None  # None: BODY, the structure, which is made anew
    marks: bool  # reading it sets \\Seen
    counts: bool = False  # only how many octets it has is told: BINARY.SIZE

    @property
    def is_all(self) -> bool:
        """It needs no more than the whole content."""
        wanted = self.wanted
        return wanted is None or (wanted.section is Section.ALL and not wanted.path)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the responses to one list of items are made, whoever asks and whatever is there."""

    items: bytes  # a template of those that need no content
    columns: tuple[Column, ...]
    bodies: tuple[Body, ...]
    asked: frozenset[FetchItem]
    viewed: tuple[FetchItem, ...] | None
    """The items that the view answers, if all others never change; else None."""
    still: tuple[FetchItem, ...]  # those others
    still_items: bytes  # their template
    line: bytes  # of such a response: number, what the view answers, the text of the others
    whole: bytes  # the same with a value for each of the others
    by_uid: bool  # responses are UIDFETCH, and start with the UID: RFC 9586

    @property
    def needs_parse(self) -> bool:
        """Something that was parsed at delivery is told, or says where the content is."""
        return bool(self.asked & _FROM_PARSE) or not all(body.is_all for body in self.bodies)

    @property
    def needs_all_parsed(self) -> bool:
        """More than envelope and structure."""
        return FetchAttribute.PREVIEW in self.asked or (bool(self.bodies) and self.needs_parse)

    @property
    def decodes(self) -> bool:
        """Something is told without its transfer encoding."""
        return any(body.wanted is not None and body.wanted.binary for body in self.bodies)

    @property
    def marks(self) -> bool:
        """Reading it sets \\Seen."""
        return any(body.marks for body in self.bodies)


@lru_cache(maxsize=512)
def planned(asked: tuple[FetchItem, ...], *, uid: bool, modseq: bool, by_uid: bool = False) -> Plan:
    """Decide once how the items are answered.

    `uid`: it is UID FETCH; `modseq`: CHANGEDSINCE was given; `by_uid`: UIDONLY was enabled.
    """
    items = list(asked)
    if uid and not by_uid and FetchAttribute.UID not in items:
        items.insert(0, FetchAttribute.UID)  # RFC 3501 §6.4.8
    if modseq and FetchAttribute.MODSEQ not in items:
        items.append(FetchAttribute.MODSEQ)  # RFC 7162 §3.1.4.1
    # PREVIEW (LAZY) is answered as PREVIEW: it was made at delivery. RFC 8970 §3.1.
    plain = [FetchAttribute.PREVIEW if isinstance(i, FetchPreview) else i for i in items]
    simple = [item for item in dict.fromkeys(plain) if item in _COLUMNS]
    viewed = tuple(item for item in simple if item in _VIEWED)
    still = tuple(item for item in simple if item in _STILL)
    whole = len(simple) == len(plain) == len(viewed) + len(still)
    head = b" ".join(_COLUMNS[item][0] for item in viewed)
    still_items = b" ".join(_COLUMNS[item][0] for item in still)
    return Plan(
        items=b" ".join(_COLUMNS[item][0] for item in simple),
        columns=tuple(_COLUMNS[item][1] for item in simple),
        bodies=tuple(_body(item) for item in plain if item not in _COLUMNS),
        asked=frozenset(plain),
        viewed=viewed if whole else None,
        still=still,
        still_items=still_items,
        line=_line(by_uid, head, b"%b" if still else b""),
        whole=_line(by_uid, head, still_items),
        by_uid=by_uid,
    )


def fetch_head(by_uid: bool) -> bytes:
    """A template of how a FETCH response begins, or a UIDFETCH. RFC 9586 §3."""
    return b"* %d UIDFETCH (" if by_uid else b"* %d FETCH ("


def _line(by_uid: bool, *items: bytes) -> bytes:
    return fetch_head(by_uid) + b" ".join(filter(None, items)) + b")\r\n"


def _body(item: FetchItem) -> Body:
    """The RFC822 items are other names for sections. RFC 3501 §6.4.5."""
    match item:
        case FetchBody():
            return Body(item.label(), item, not item.peek)
        case FetchBinarySize(path):
            return Body(item.label(), FetchBody(path, binary=True), marks=False, counts=True)
        case FetchAttribute.RFC822:
            return Body(b"RFC822", FetchBody(), marks=True)
        case FetchAttribute.RFC822_TEXT:
            return Body(b"RFC822.TEXT", FetchBody(section=Section.TEXT), marks=True)
        case FetchAttribute.RFC822_HEADER:
            return Body(b"RFC822.HEADER", FetchBody(section=Section.HEADER), marks=False)
        case _:
            return Body(b"BODY", None, marks=False)


# --- from the view -----------------------------------------------------------------------------


class Still(NamedTuple):
    """What never changes of some messages, by column, and the line that it fits."""

    line: bytes
    columns: Sequence[Sequence[Any]]

    def cut(self, start: int, end: int) -> Still:
        """Of some of them."""
        return Still(self.line, [column[start:end] for column in self.columns])


def run_lines(asked: Plan, selected: Selected, run: Neighbours, still: Still) -> bytes:
    """The responses of neighbours in the view, made by one formatting operation.

    The first column of `still` has None for a message that is gone.
    """
    count = len(run.uids)
    assert asked.viewed is not None  # who asks has looked
    columns: list[Iterable[Any]] = [
        run.uids if asked.by_uid else range(run.first, run.first + count),
        *(
            run.uids if item is FetchAttribute.UID else selected.flags_of_run(run)
            for item in asked.viewed
        ),
        *still.columns,
    ]
    rows: Iterable[tuple[Any, ...]] = zip(*columns, strict=True)
    if still.columns and None in still.columns[0]:
        first = len(columns) - len(still.columns)
        rows = [row for row in rows if row[first] is not None]
        count = len(rows)
    return (still.line * count) % tuple(chain.from_iterable(rows))


def still_columns(asked: Plan, rows: Sequence[Row]) -> Still:
    """From rows of reading.listed_rows, which are not none."""
    columns = list(zip(*rows, strict=True))
    return Still(asked.whole, [tuple(_STILL[item](columns)) for item in asked.still])


def still_texts(asked: Plan, rows: Sequence[Row]) -> list[bytes]:
    """From rows of reading.listed_rows, the text of the items that never change."""
    if not rows:
        return []
    made = still_columns(asked, rows).columns
    return list(map(asked.still_items.__mod__, zip(*made, strict=True)))


# --- values --------------------------------------------------------------------------------------


def _date(at: int) -> bytes:
    return internal_date(at // 1000)


def _email_id(message: int) -> bytes:
    return external(MESSAGE, message).encode("ascii")


def _thread_id(thread: int) -> bytes:
    return external(THREAD, thread).encode("ascii")


def _preview(text: str) -> bytes:
    return quoted_or_literal(text.encode())
