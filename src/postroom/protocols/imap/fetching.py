"""Rows of the store as FETCH responses: built from wire bytes kept at delivery, streamed.

What needs no content is rendered by one formatting operation for each message. Content is read
by range, and a large literal goes out in slices while the peer reads. RFC 3501 §7.4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from time import gmtime
from typing import Any, Final

import structlog

from postroom.core.errors import ConnectionLost, Corrupt, MailError
from postroom.core.ids import BLOB, MESSAGE, THREAD, external
from postroom.formats import headers, mime
from postroom.formats.bodystructure import body as body_without_extension
from postroom.formats.layout import Layout
from postroom.protocols.imap.session import Output, Session
from postroom.store.sql import Tx
from postroom.wire.imap import (
    BadSyntax,
    Fetch,
    FetchAttribute,
    FetchBinarySize,
    FetchBody,
    FetchItem,
    FetchPreview,
    Section,
    literal,
    literal_header,
    quoted_or_literal,
)

SLICE: Final = 128 * 1024
"""A literal larger than this is read and sent in slices of this: one frame of the store."""

Row = Sequence[Any]
Column = Callable[[Sequence[Sequence[Any]]], Iterable[Any]]
"""From the columns of some rows, the values of one item."""

# Positions in the rows of reading.Brief and reading.Full.
_UID, _FLAGS, _MODSEQ, _SIZE, _RECEIVED, _SAVED, _MESSAGE, _BLOB = range(8)
_ENVELOPE, _STRUCTURE, _LAYOUT, _HEADER_SIZE, _PREVIEW = range(8, 13)

_FROM_PARSE: Final = frozenset(
    {
        FetchAttribute.ENVELOPE,
        FetchAttribute.BODYSTRUCTURE,
        FetchAttribute.PREVIEW,
        FetchAttribute.RFC822_HEADER,
        FetchAttribute.RFC822_TEXT,
    }
)
# The templates that the first three columns answer.
_FLAGS_ALONE: Final = frozenset(
    {b"UID %d FLAGS %b", b"FLAGS %b", b"FLAGS %b UID %d", b"UID %d", b"UID %d FLAGS %b MODSEQ (%d)"}
)
_log: Final = structlog.get_logger("postroom.imap")
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@lru_cache(maxsize=8192)
def internal_date(second: int) -> bytes:
    """The INTERNALDATE of a second since 1970, in UTC."""
    year, month, day, hour, minute, sec, *_ = gmtime(second)
    month_name = _MONTHS[month - 1]
    return b'"%2d-%b-%04d %02d:%02d:%02d +0000"' % (day, month_name, year, hour, minute, sec)


@dataclass(slots=True)
class Rendering:
    """How one FETCH turns rows into responses."""

    session: Session
    template: bytes  # of a whole line: message number, then an item for each column
    columns: tuple[Column, ...]
    bodies: tuple[FetchItem, ...]
    needs_parse: bool
    needs_threads: bool
    changed_since: int
    tells_flags: bool
    tells_modseq: bool = False
    tells_preview: bool = False
    damaged: int = 0  # messages whose content could not be read: nothing was said of them
    items: bytes = b""  # the template's items alone
    threads: dict[int, int] = field(default_factory=dict)

    @property
    def needs_flags_alone(self) -> bool:
        """What every client asks for first, and again at each look."""
        return not self.bodies and self.items in _FLAGS_ALONE

    @property
    def needs_meta(self) -> bool:
        """Envelope and structure, and nothing else of the parse."""
        return self.needs_parse and not self.bodies and not self.tells_preview

    @property
    def needs_content(self) -> bool:
        return bool(self.bodies)

    def lines(self, rows: Sequence[Row]) -> bytes:
        """The responses of messages none of whose content is asked for.

        Column by column and then row by row, so that all loops are the interpreter's own: a
        listing of 10,000 messages is 10,000 formatting operations and nothing else.
        """
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
        made = [make(columns) for make in self.columns]
        return b"".join(map(self.template.__mod__, zip(numbers, *made, strict=True)))

    async def write_content(self, rows: Sequence[Row], seen: frozenset[int]) -> None:
        """The responses of messages whose content is asked for, one after the other.

        A message that cannot be read is counted and passed over; if a part of it was sent
        already the connection ends, since nothing could stand in the place of the rest.
        """
        session = self.session
        for row in rows:
            at = session.open.view.number(row[_UID])
            if not at or row[_MODSEQ] <= self.changed_since:
                continue
            response = Response(session.output)
            response.add(b"* %d FETCH (" % at + b" ".join(self._told(row, seen)))
            separator = b" " if response.held[0][-1:] != b"(" else b""
            try:
                for item in self.bodies:
                    response.add(separator)
                    await self._content(response, item, row)
                    separator = b" "
                    if response.size > SLICE:
                        await response.flush()
            except ConnectionLost:
                raise
            except MailError as error:
                blob = external(BLOB, row[_BLOB])
                reason = error.detail or str(error)
                _log.error("content not readable", session=session.id, blob=blob, reason=reason)
                if response.begun:
                    session.output.abort()
                    raise ConnectionLost(detail="a response could not be finished") from error
                self.damaged += 1
                continue
            response.add(b")\r\n")
            await response.flush()

    def _told(self, row: Row, seen: frozenset[int]) -> list[bytes]:
        """The items that need no content, and what reading the content changed."""
        alone = [(value,) for value in row]
        told = self.items % tuple(next(iter(make(alone))) for make in self.columns)
        pieces = [told] if told else []
        if row[_UID] in seen:
            if not self.tells_flags:
                flags = self.session.open.flags_of(row[_FLAGS], row[_UID])
                pieces.append(b"FLAGS " + flags)
            if self.session.condstore and not self.tells_modseq:
                pieces.append(b"MODSEQ (%d)" % row[_MODSEQ])  # RFC 7162 §3.1
        return pieces

    async def _content(self, response: Response, item: FetchItem, row: Row) -> None:
        mail = self.session.shared.house.mail
        if item is FetchAttribute.BODY:
            response.add(b"BODY " + await mail.read_much(self._structure, row[_BLOB]))
            return
        wanted = _as_body(item)
        label = _label(item, wanted)
        if wanted.section in (Section.HEADER_FIELDS, Section.HEADER_FIELDS_NOT):
            block = await mail.read(self._fields, row, wanted)
            response.add(label + b" " + _nstring(_cut(block, wanted)))
            return
        found = _slice(Layout.unpack(row[_LAYOUT]), wanted, row[_SIZE])
        if found is None:
            response.add(label + b" NIL")
            return
        await self._stream(response, label, row[_BLOB], *found)

    async def _stream(
        self, response: Response, label: bytes, blob: int, start: int, length: int
    ) -> None:
        mail = self.session.shared.house.mail
        if length <= SLICE:
            data = await mail.read(self._range, blob, start, length)
            response.add(label + b" " + literal(data))
        else:
            data = await mail.read_much(self._range, blob, start, SLICE)
            response.add(label + b" " + literal_header(length) + data)
        end, start = start + length, start + len(data)
        while start < end:
            await response.flush()
            data = await mail.read_much(self._range, blob, start, min(SLICE, end - start))
            response.add(data)
            start += len(data)

    # --- in the store's hands --------------------------------------------------------------------

    def _range(self, tx: Tx, blob: int, start: int, length: int) -> bytes:
        return self.session.shared.house.blobs.read(tx, blob, start, length)

    def _structure(self, tx: Tx, blob: int) -> bytes:
        """BODY: the structure without what only BODYSTRUCTURE tells."""
        raw = self.session.shared.house.blobs.read(tx, blob)
        return body_without_extension(mime.scan(raw), raw)

    def _fields(self, tx: Tx, row: Row, wanted: FetchBody) -> bytes | None:
        """HEADER.FIELDS of the message or of one inside it. RFC 3501 §6.4.5."""
        if wanted.path:
            found = Layout.unpack(row[_LAYOUT]).section(wanted.path, "HEADER")
            if found is None:
                return None
            start, length = found
        else:
            start, length = 0, row[_HEADER_SIZE]
        block = self.session.shared.house.blobs.read(tx, row[_BLOB], start, length)
        return chosen_fields(block, wanted)


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


def _cut(block: bytes | None, wanted: FetchBody) -> bytes | None:
    if block is None or wanted.partial is None:
        return block
    first, most = wanted.partial
    return block[first : first + most]


def _nstring(data: bytes | None) -> bytes:
    return b"NIL" if data is None else literal(data)


def _as_body(item: FetchItem) -> FetchBody:
    """The RFC822 items are other names for sections. RFC 3501 §6.4.5."""
    if isinstance(item, FetchBody):
        return item
    match item:
        case FetchAttribute.RFC822_HEADER:
            return FetchBody(section=Section.HEADER, peek=True)
        case FetchAttribute.RFC822_TEXT:
            return FetchBody(section=Section.TEXT)
        case _:
            return FetchBody()


def _label(item: FetchItem, wanted: FetchBody) -> bytes:
    return item.encode("ascii") if isinstance(item, FetchAttribute) else wanted.label()


def _slice(layout: Layout, wanted: FetchBody, size: int) -> tuple[int, int] | None:
    """Where the octets lie that are asked for: offset and length in the message."""
    match wanted.section:
        case Section.ALL:
            found = layout.section(wanted.path, "part")
        case Section.HEADER:
            found = layout.section(wanted.path, "HEADER")
        case Section.TEXT:
            found = layout.section(wanted.path, "TEXT")
        case Section.MIME:
            found = layout.section(wanted.path, "MIME")
        case _:
            raise AssertionError("fields are not a slice")
    if found is None:
        return None
    start, length = found
    if start + length > size:
        raise Corrupt(detail=f"the layout reaches {start + length} of {size} octets")
    if wanted.partial is not None:
        first, most = wanted.partial
        first = min(first, length)
        start, length = start + first, min(most, length - first)
    return start, length


def render(asked: Fetch, session: Session, *, uid: bool) -> Rendering:
    """Decide once, for all rows, how the answer is made. Raises BadSyntax for BINARY."""
    selected = session.open
    items: list[FetchItem] = list(asked.items)
    if any(_is_binary(item) for item in items):
        raise BadSyntax("BINARY is not offered")  # RFC 3516
    if uid and FetchAttribute.UID not in items:
        items.insert(0, FetchAttribute.UID)  # RFC 3501 §6.4.8
    if asked.changed_since is not None and FetchAttribute.MODSEQ not in items:
        items.append(FetchAttribute.MODSEQ)  # RFC 7162 §3.1.4.1
    rendering = Rendering(
        session=session,
        template=b"",
        columns=(),
        bodies=(),
        needs_parse=False,
        needs_threads=FetchAttribute.THREADID in items,
        changed_since=asked.changed_since if asked.changed_since is not None else -1,
        tells_flags=FetchAttribute.FLAGS in items,
        tells_modseq=FetchAttribute.MODSEQ in items,
    )
    makers: dict[FetchItem, tuple[bytes, Column]] = {
        FetchAttribute.UID: (b"UID %d", lambda c: c[_UID]),
        FetchAttribute.FLAGS: (b"FLAGS %b", lambda c: selected.flags_column(c[_FLAGS], c[_UID])),
        FetchAttribute.INTERNALDATE: (b"INTERNALDATE %b", lambda c: map(_date, c[_RECEIVED])),
        FetchAttribute.RFC822_SIZE: (b"RFC822.SIZE %d", lambda c: c[_SIZE]),
        FetchAttribute.ENVELOPE: (b"ENVELOPE %b", lambda c: c[_ENVELOPE]),
        FetchAttribute.BODYSTRUCTURE: (b"BODYSTRUCTURE %b", lambda c: c[_STRUCTURE]),
        FetchAttribute.MODSEQ: (b"MODSEQ (%d)", lambda c: c[_MODSEQ]),
        FetchAttribute.EMAILID: (b"EMAILID (%b)", lambda c: map(_email_id, c[_MESSAGE])),
        FetchAttribute.THREADID: (
            b"THREADID (%b)",
            lambda c: [_thread_id(rendering.threads[each]) for each in c[_MESSAGE]],
        ),
        FetchAttribute.SAVEDATE: (b"SAVEDATE %b", lambda c: map(_date, c[_SAVED])),
        FetchAttribute.PREVIEW: (b"PREVIEW %b", lambda c: map(_preview, c[_PREVIEW])),
    }
    # PREVIEW (LAZY) is answered as PREVIEW: it was made at delivery. RFC 8970 §3.1.
    plain = [FetchAttribute.PREVIEW if isinstance(i, FetchPreview) else i for i in items]
    simple = [makers[i] for i in dict.fromkeys(plain) if i in makers]
    rendering.bodies = tuple(i for i in plain if i not in makers)
    rendering.tells_preview = FetchAttribute.PREVIEW in plain
    rendering.items = b" ".join(name for name, _ in simple)
    rendering.columns = tuple(column for _, column in simple)
    rendering.template = b"* %d FETCH (" + rendering.items + b")\r\n"
    rendering.needs_parse = bool(rendering.bodies) or any(i in _FROM_PARSE for i in plain)
    return rendering


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
