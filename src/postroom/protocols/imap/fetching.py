"""What one FETCH asks for, and rows of the store as its responses. RFC 3501 §7.4.2.

What needs no content is rendered by formatting operations over whole columns. Content is read by
range: small parts of several messages by one statement, a large literal in slices while the peer
reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from time import gmtime
from typing import Any, Final, NamedTuple

import structlog

from postroom.core.errors import ConnectionLost, Corrupt, MailError
from postroom.core.ids import BLOB, MESSAGE, THREAD, external
from postroom.domain.mailboxes import reading
from postroom.formats import headers, mime
from postroom.formats.bodystructure import body as body_without_extension
from postroom.formats.layout import Layout, What
from postroom.protocols.imap.session import Output, Selected, Session, fetch_head
from postroom.protocols.imap.view import Neighbours
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.wire.imap import (
    BadSyntax,
    FetchAttribute,
    FetchBinarySize,
    FetchBody,
    FetchItem,
    FetchPreview,
    Section,
    literal_header,
    quoted_or_literal,
)

SLICE: Final = 128 * 1024
"""A literal larger than this is read and sent in slices of this: one frame of the store. As much
of small parts is read at once."""

Row = Sequence[Any]

# Positions in the rows of reading.Brief and reading.Full.
_UID, _FLAGS, _MODSEQ, _SIZE, _RECEIVED, _SAVED, _MESSAGE, _BLOB = range(8)
_ENVELOPE, _STRUCTURE, _LAYOUT, _HEADER_SIZE, _PREVIEW = range(8, 13)

_FROM_PARSE: Final = frozenset(
    {FetchAttribute.ENVELOPE, FetchAttribute.BODYSTRUCTURE, FetchAttribute.PREVIEW}
)
_log: Final = structlog.get_logger("postroom.imap")
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
    FetchAttribute.UID: (b"UID %d", lambda r: r.columns[_UID]),
    FetchAttribute.FLAGS: (
        b"FLAGS %b",
        lambda r: r.selected.flags_column(r.columns[_FLAGS], r.columns[_UID]),
    ),
    FetchAttribute.INTERNALDATE: (
        b"INTERNALDATE %b",
        lambda r: map(_date, r.columns[_RECEIVED]),
    ),
    FetchAttribute.RFC822_SIZE: (b"RFC822.SIZE %d", lambda r: r.columns[_SIZE]),
    FetchAttribute.ENVELOPE: (b"ENVELOPE %b", lambda r: r.columns[_ENVELOPE]),
    FetchAttribute.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", lambda r: r.columns[_STRUCTURE]),
    FetchAttribute.MODSEQ: (b"MODSEQ (%d)", lambda r: r.columns[_MODSEQ]),
    FetchAttribute.EMAILID: (b"EMAILID (%b)", lambda r: map(_email_id, r.columns[_MESSAGE])),
    FetchAttribute.THREADID: (
        b"THREADID (%b)",
        lambda r: [_thread_id(r.threads[each]) for each in r.columns[_MESSAGE]],
    ),
    FetchAttribute.SAVEDATE: (b"SAVEDATE %b", lambda r: map(_date, r.columns[_SAVED])),
    FetchAttribute.PREVIEW: (b"PREVIEW %b", lambda r: map(_preview, r.columns[_PREVIEW])),
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
    def marks(self) -> bool:
        """Reading it sets \\Seen."""
        return any(body.marks for body in self.bodies)


@lru_cache(maxsize=512)
def planned(asked: tuple[FetchItem, ...], *, uid: bool, modseq: bool, by_uid: bool = False) -> Plan:
    """Decide once how the items are answered. Raises BadSyntax for BINARY.

    `uid`: it is UID FETCH; `modseq`: CHANGEDSINCE was given; `by_uid`: UIDONLY was enabled.
    """
    items = list(asked)
    if any(_is_binary(item) for item in items):
        raise BadSyntax("BINARY is not offered")  # RFC 3516
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


def _line(by_uid: bool, *items: bytes) -> bytes:
    return fetch_head(by_uid) + b" ".join(filter(None, items)) + b")\r\n"


def _body(item: FetchItem) -> Body:
    """The RFC822 items are other names for sections. RFC 3501 §6.4.5."""
    match item:
        case FetchBody():
            return Body(item.label(), item, not item.peek)
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


# --- from the store ----------------------------------------------------------------------------


@dataclass(slots=True)
class Rendering:
    """Turns rows of the store into the responses of one FETCH."""

    session: Session
    plan: Plan
    changed_since: int  # -1: it was not asked
    contents: dict[int, bytes] = field(default_factory=dict)  # by blob, of what was read already
    changed: bool = False  # reading set flags
    missing: int = 0  # messages that were gone
    failure: MailError | None = None  # of content that could not be read; nothing was said of it
    threads: dict[int, int] = field(default_factory=dict)

    def lines(self, rows: Sequence[Row]) -> bytes:
        """The responses of messages none of whose content is asked for, column by column."""
        if self.changed_since >= 0:
            rows = [row for row in rows if row[_MODSEQ] > self.changed_since]
        if not rows:
            return b""
        columns = list(zip(*rows, strict=True))
        numbers = self.session.open.view.numbers(columns[_UID])
        if 0 in numbers:
            # Placed after the view was taken: the client does not know of them yet.
            here = [row for row, number in zip(rows, numbers, strict=True) if number]
            return self.lines(here)
        source = Rows(columns, self.session.open, self.threads)
        made = [make(source) for make in self.plan.columns]
        template = fetch_head(self.plan.by_uid) + self.plan.items + b")\r\n"
        shown = columns[_UID] if self.plan.by_uid else numbers
        return b"".join(map(template.__mod__, zip(shown, *made, strict=True)))

    async def write_content(self, rows: Sequence[Row], seen: frozenset[int]) -> None:
        """The responses of messages whose content is asked for, one after the other.

        Small ones are read and sent together. A message that cannot be read is noted and passed
        over; if a part of it was sent already the connection ends, since nothing could stand in
        the place of the rest.
        """
        if not rows:
            return
        held: list[_Message] = []
        octets = 0
        numbers = self.session.open.view.numbers([row[_UID] for row in rows])
        for number, row in zip(numbers, rows, strict=True):
            if not number or row[_MODSEQ] <= self.changed_since:
                continue
            try:
                parts = [_part(body, row) for body in self.plan.bodies]
            except MailError as error:
                self.note(row, error)
                continue
            size = sum([part.length for part in parts])
            if held and octets + size > SLICE:
                await self._write_small(held)
                held, octets = [], 0
            shown = row[_UID] if self.plan.by_uid else number
            head = fetch_head(self.plan.by_uid) % shown + self._told(row, seen)
            message = _Message(head, row, parts)
            if size > SLICE or any(part.body.wanted is None for part in parts):
                await self._write_small(held)
                held, octets = [], 0
                await self._write_alone(message)
            else:
                held.append(message)
                octets += size
        await self._write_small(held)

    async def _write_small(self, messages: Sequence[_Message]) -> None:
        """Messages whose parts are read together and sent together."""
        if not messages:
            return
        places = [
            (part.blob, part.start, part.length)
            for message in messages
            for part in message.parts
            if part.length > 0
        ]
        found = await self._read(places)
        written: list[bytes] = []
        at = 0
        for message in messages:
            pieces = [message.head]
            failure: MailError | None = None
            for part in message.parts:
                content: bytes | MailError = b""
                if part.length > 0:
                    content = found[at]
                    at += 1
                if isinstance(content, MailError):
                    failure = content
                    continue
                head, text = part.shown(content)
                pieces += (head, text, b" ")
            if failure is not None:
                self.note(message.row, failure)
                continue
            pieces[-1] = b")\r\n"
            written += pieces
        self.session.output.write(b"".join(written))
        await self.session.output.drain()

    async def _read(self, places: Sequence[tuple[int, int, int]]) -> Sequence[bytes | MailError]:
        """Parts by (blob, start, length), each as it is, or why it could not be read."""
        house, ready = self.session.shared.house, self.contents
        if all(blob in ready for blob, _, _ in places):
            return [ready[blob][start : start + length] for blob, start, length in places]
        return await house.mail.read(_contents, house.blobs, places)

    async def _write_alone(self, message: _Message) -> None:
        """A message that is streamed, or whose structure is made anew."""
        session, row = self.session, message.row
        response = Response(session.output)
        response.add(message.head)
        separator = b""
        try:
            for part in message.parts:
                response.add(separator)
                separator = b" "
                if part.body.wanted is None:
                    mail = session.shared.house.mail
                    response.add(b"BODY " + await mail.read_much(self._structure, row[_BLOB]))
                else:
                    await self._stream(response, part)
                if response.size > SLICE:
                    await response.flush()
        except ConnectionLost:
            raise
        except MailError as error:
            self.note(row, error)
            if response.begun:
                session.output.abort()
                raise ConnectionLost(detail="a response could not be finished") from error
            return
        response.add(b")\r\n")
        await response.flush()

    def note(self, row: Row, error: MailError) -> None:
        """A message was passed over. What is damaged counts more than what is out of reach now."""
        blob, reason = external(BLOB, row[_BLOB]), error.detail or str(error)
        _log.error("content not readable", session=self.session.id, blob=blob, reason=reason)
        if not isinstance(self.failure, Corrupt):
            self.failure = error

    def _told(self, row: Row, seen: frozenset[int]) -> bytes:
        """The items that need no content, and what reading the content changed; with a space after
        each."""
        asked = self.plan.asked
        told = b""
        if self.plan.items:
            source = Rows([(value,) for value in row], self.session.open, self.threads)
            values = tuple([next(iter(make(source))) for make in self.plan.columns])
            told = self.plan.items % values + b" "
        if row[_UID] in seen:
            named = self.session.qresync or self.session.rev2
            if named and not self.plan.by_uid and FetchAttribute.UID not in asked:
                told += b"UID %d " % row[_UID]  # RFC 7162 §3.2.4, RFC 9051 §7.5.2
            if FetchAttribute.FLAGS not in asked:
                told += b"FLAGS %b " % self.session.open.flags_of(row[_FLAGS], row[_UID])
            if self.session.condstore and FetchAttribute.MODSEQ not in asked:
                told += b"MODSEQ (%d) " % row[_MODSEQ]  # RFC 7162 §3.1
        return told

    async def _stream(self, response: Response, part: _Part) -> None:
        house = self.session.shared.house
        mail, read = house.mail, house.blobs.read
        if part.length <= SLICE or not part.streams:
            one = await mail.read(read, part.blob, part.start, max(0, part.length))
            for piece in part.shown(one):
                response.add(piece)
            return
        data = await mail.read_much(read, part.blob, part.start, SLICE)
        response.add(part.body.label + b" " + literal_header(part.length) + data)
        end, start = part.start + part.length, part.start + len(data)
        while start < end:
            await response.flush()
            data = await mail.read_much(read, part.blob, start, min(SLICE, end - start))
            response.add(data)
            start += len(data)

    def _structure(self, tx: Tx, blob: int) -> bytes:
        """BODY: the structure without what only BODYSTRUCTURE tells."""
        raw = self.session.shared.house.blobs.read(tx, blob)
        return body_without_extension(mime.scan(raw), raw)


class _Part(NamedTuple):
    """Where the octets of an item lie."""

    body: Body
    blob: int
    start: int
    length: int  # -1: there is no such section

    @property
    def streams(self) -> bool:
        """The octets go out as they are."""
        wanted = self.body.wanted
        return wanted is not None and wanted.section not in _OF_FIELDS

    def shown(self, content: bytes) -> tuple[bytes, bytes]:
        """The label with the head of a literal, and the literal's octets."""
        label, wanted, _ = self.body
        if self.length < 0:
            return label, b" NIL"
        if wanted is not None and wanted.section in _OF_FIELDS:
            content = chosen_fields(content, wanted)
            if wanted.partial is not None:
                first, most = wanted.partial
                content = content[first : first + most]
        return b"%b {%d}\r\n" % (label, len(content)), content


def _part(body: Body, row: Row) -> _Part:
    """Raises Corrupt."""
    if body.wanted is None:
        return _Part(body, row[_BLOB], 0, row[_SIZE])
    return _Part(body, row[_BLOB], *_place(row, body.wanted))


class _Message(NamedTuple):
    """A response that waits for its content."""

    head: bytes  # its beginning, and the items that need none, each with a space after it
    row: Row
    parts: list[_Part]


def _contents(
    tx: Tx, blobs: Blobs, places: Sequence[tuple[int, int, int]]
) -> list[bytes | MailError]:
    """Parts by (blob, start, length), each as it is, or why it could not be read."""
    found: list[bytes | MailError] = []
    for place, data in zip(places, reading.parts(tx, places), strict=True):
        if data is None:
            try:
                found.append(blobs.read(tx, *place))
            except MailError as error:
                found.append(error)
        else:
            found.append(data)
    return found


class Response:
    """One FETCH response under way: kept until it is whole or large, so that what cannot be
    read is found out before its line has begun.
    """

    __slots__ = ("_output", "begun", "held", "size")

    def __init__(self, output: Output) -> None:
        self._output = output
        self.held: list[bytes] = []
        self.size = 0
        self.begun = False  # the peer has a part of it

    def add(self, data: bytes) -> None:
        self.held.append(data)
        self.size += len(data)

    async def flush(self) -> None:
        """Send what is held; the peer's reading sets the pace."""
        self.begun = True
        self._output.write(b"".join(self.held))
        self.held.clear()
        self.size = 0
        await self._output.drain()


def chosen_fields(block: bytes, wanted: FetchBody) -> bytes:
    """The named fields of a header block (or all others) as they stand, and a blank line."""
    names = {name.lower() for name in wanted.fields}
    inverse = wanted.section is Section.HEADER_FIELDS_NOT
    kept = [
        block[each.start : each.end]
        for each in headers.scan(block).fields
        if (each.name.lower() in names) is not inverse
    ]
    return b"".join(kept) + b"\r\n"


_OF_FIELDS: Final = frozenset({Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT})
_WHAT: Final[dict[Section, What]] = {
    Section.ALL: "part",
    Section.HEADER: "HEADER",
    Section.HEADER_FIELDS: "HEADER",
    Section.HEADER_FIELDS_NOT: "HEADER",
    Section.TEXT: "TEXT",
    Section.MIME: "MIME",
}


def _place(row: Row, wanted: FetchBody) -> tuple[int, int]:
    """Where the octets lie that are asked for: offset and length in the message; the length is
    -1 where there is no such section. Raises Corrupt. RFC 3501 §6.4.5.
    """
    size = row[_SIZE]
    if wanted.section is Section.ALL and not wanted.path:
        found: tuple[int, int] | None = (0, size)
    elif wanted.section in _OF_FIELDS and not wanted.path:
        found = (0, row[_HEADER_SIZE])
    else:
        found = Layout.unpack(row[_LAYOUT]).section(wanted.path, _WHAT[wanted.section])
    if found is None:
        return 0, -1
    start, length = found
    if start + length > size:
        raise Corrupt(detail=f"the layout reaches {start + length} of {size} octets")
    if wanted.partial is not None and wanted.section not in _OF_FIELDS:
        first, most = wanted.partial
        first = min(first, length)
        start, length = start + first, min(most, length - first)
    return start, length


def _is_binary(item: FetchItem) -> bool:
    return isinstance(item, FetchBinarySize) or (isinstance(item, FetchBody) and item.binary)


def _date(at: int) -> bytes:
    return internal_date(at // 1000)


def _email_id(message: int) -> bytes:
    return external(MESSAGE, message).encode("ascii")


def _thread_id(thread: int) -> bytes:
    return external(THREAD, thread).encode("ascii")


def _preview(text: str) -> bytes:
    return quoted_or_literal(text.encode())
