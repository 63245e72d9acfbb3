"""Rows of the store as the responses of one FETCH. RFC 3501 §7.4.2.

Content is read by range: small parts of several messages by one statement, a large literal in
slices while the peer reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import structlog

from postroom.core.errors import ConnectionLost, Corrupt, MailError
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import reading
from postroom.formats import headers, mime
from postroom.formats.bodystructure import body as body_without_extension
from postroom.formats.layout import UNKNOWN, Layout, What
from postroom.formats.transfer import IDENTITY
from postroom.mailflow.house import MailHouse
from postroom.protocols.imap.decoding import ASIDE, Encoded, Memory, UnknownEncoding, decoded
from postroom.protocols.imap.plans import (
    BLOB_ID,
    FLAGS,
    HEADER_SIZE,
    LAYOUT,
    MODSEQ,
    SIZE,
    UID,
    Body,
    Plan,
    Row,
    Rows,
    fetch_head,
)
from postroom.protocols.imap.session import Output, Session
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.wire.imap import (
    FetchAttribute,
    FetchBody,
    Section,
    literal_header,
)

SLICE: Final = 128 * 1024
"""A literal larger than this is read and sent in slices of this: one frame of the store. As much
of small parts is read at once."""

_log: Final = structlog.get_logger("postroom.imap")


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
            rows = [row for row in rows if row[MODSEQ] > self.changed_since]
        if not rows:
            return b""
        columns = list(zip(*rows, strict=True))
        numbers = self.session.open.view.numbers(columns[UID])
        if 0 in numbers:
            # Placed after the view was taken: the client does not know of them yet.
            here = [row for row, number in zip(rows, numbers, strict=True) if number]
            return self.lines(here)
        source = Rows(columns, self.session.open, self.threads)
        made = [make(source) for make in self.plan.columns]
        template = fetch_head(self.plan.by_uid) + self.plan.items + b")\r\n"
        shown = columns[UID] if self.plan.by_uid else numbers
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
        numbers = self.session.open.view.numbers([row[UID] for row in rows])
        for number, row in zip(numbers, rows, strict=True):
            if not number or row[MODSEQ] <= self.changed_since:
                continue
            try:
                parts = [_part(body, row) for body in self.plan.bodies]
            except MailError as error:
                self.note(row, error)
                continue
            size = sum([part.octets for part in parts])
            if held and octets + size > SLICE:
                await self._write_small(held)
                held, octets = [], 0
            shown = row[UID] if self.plan.by_uid else number
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
            (part.blob, part.start, part.octets)
            for message in messages
            for part in message.parts
            if part.octets > 0
        ]
        found = await self._read(places)
        if self.plan.decodes and _toil(messages) > ASIDE:
            written, failures = await asyncio.to_thread(_written, messages, found)
        else:
            written, failures = _written(messages, found)
        for row, failure in failures:
            self.note(row, failure)
        self.session.output.write(written)
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
                    response.add(b"BODY " + await mail.read_much(self._structure, row[BLOB_ID]))
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
        """A message was passed over. What is damaged counts more than what is out of reach now, and
        that more than what cannot be decoded."""
        if isinstance(error, UnknownEncoding):
            self.failure = self.failure or error
            return
        blob, reason = external(BLOB, row[BLOB_ID]), error.detail or str(error)
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
        if row[UID] in seen:
            named = self.session.condstore or self.session.rev2
            if named and not self.plan.by_uid and FetchAttribute.UID not in asked:
                told += b"UID %d " % row[UID]  # RFC 7162 §3.2.4, RFC 9051 §7.5.2
            if FetchAttribute.FLAGS not in asked:
                told += b"FLAGS %b " % self.session.open.flags_of(row[FLAGS], row[UID])
            if self.session.condstore and FetchAttribute.MODSEQ not in asked:
                told += b"MODSEQ (%d) " % row[MODSEQ]  # RFC 7162 §3.1
        return told

    async def _stream(self, response: Response, part: _Part) -> None:
        house = self.session.shared.house
        mail, read = house.mail, house.blobs.read
        if part.encoded is not None and part.octets > SLICE:
            await self._stream_decoded(response, part.body, part.encoded)
            return
        if part.octets <= SLICE or not part.streams:
            one = await mail.read(read, part.blob, part.start, part.octets)
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

    async def _stream_decoded(self, response: Response, body: Body, part: Encoded) -> None:
        house, memory = self.session.shared.house, self.session.open.decoding
        if body.counts:
            size = 0
            async for piece in decoded(house, part, memory):
                size += len(piece)
            response.add(b"%b %d" % (body.label, size))
            return
        await write_decoded(house, response, body.label, part, memory)

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
    encoded: Encoded | None = None  # BINARY: what is told is decoded

    @property
    def octets(self) -> int:
        """How many have to be read."""
        if self.encoded is not None and self.body.counts and not self.encoded.is_coded:
            return 0
        return max(0, self.length)

    @property
    def streams(self) -> bool:
        """The octets go out as they are."""
        wanted = self.body.wanted
        return wanted is not None and wanted.section not in _OF_FIELDS

    def shown(self, content: bytes) -> tuple[bytes, bytes]:
        """The label with the head of a literal, and the literal's octets."""
        label, wanted, _, counts = self.body
        if self.length < 0:
            return label, b" 0" if counts else b" NIL"
        if self.encoded is not None:
            return self._decoded(self.encoded, content)
        if wanted is not None and wanted.section in _OF_FIELDS:
            content = chosen_fields(content, wanted)
            if wanted.partial is not None:
                first, most = wanted.partial
                content = content[first : first + most]
        return b"%b {%d}\r\n" % (label, len(content)), content

    def _decoded(self, part: Encoded, content: bytes) -> tuple[bytes, bytes]:
        """A literal8 only where there is a NUL, so that the client knows. RFC 3516 §4.3."""
        label, _, _, counts = self.body
        if counts:
            size = len(part.of(content)) if self.octets else self.length
            return label, b" %d" % size
        content = part.of(content)
        return label + b" " + literal_header(len(content), binary=b"\0" in content), content


def _part(body: Body, row: Row) -> _Part:
    """Raises Corrupt, UnknownEncoding."""
    wanted, blob = body.wanted, row[BLOB_ID]
    if wanted is None:
        return _Part(body, blob, 0, row[SIZE])
    place = place_of(row, wanted)
    if place[1] < 0 or wanted.section in _OF_FIELDS:
        return _Part(body, blob, *place)
    if not wanted.binary:
        return _Part(body, blob, *cut(place, wanted.partial))
    part = encoded_of(row, wanted, place)
    return _Part(body, blob, part.start, part.length, part)


def encoded_of(row: Row, wanted: FetchBody, place: tuple[int, int]) -> Encoded:
    """How a section that lies at a place is read without its encoding, which only a part has.
    Raises Corrupt, UnknownEncoding. RFC 3516 §4.3."""
    encoding = IDENTITY
    if wanted.path and wanted.section is Section.ALL:
        told = Layout.unpack(row[LAYOUT]).binary(wanted.path)
        encoding = UNKNOWN if told is None else told[2]
    if encoding == UNKNOWN:
        raise UnknownEncoding
    span = wanted.partial
    if encoding == IDENTITY:
        place, span = cut(place, span), None
    return Encoded(row[BLOB_ID], *place, encoding, span)


class _Message(NamedTuple):
    """A response that waits for its content."""

    head: bytes  # its beginning, and the items that need none, each with a space after it
    row: Row
    parts: list[_Part]


def _toil(messages: Sequence[_Message]) -> int:
    """The octets that have to be decoded."""
    parts = [part for message in messages for part in message.parts]
    return sum(part.octets for part in parts if part.encoded and part.encoded.is_coded)


def _written(
    messages: Sequence[_Message], found: Sequence[bytes | MailError]
) -> tuple[bytes, list[tuple[Row, MailError]]]:
    """The responses, and of which messages a part could not be read; `found` is what was read of
    those parts that have octets."""
    written: list[bytes] = []
    failures: list[tuple[Row, MailError]] = []
    at = 0
    for message in messages:
        pieces = [message.head]
        failure: MailError | None = None
        for part in message.parts:
            content: bytes | MailError = b""
            if part.octets > 0:
                content = found[at]
                at += 1
            if isinstance(content, MailError):
                failure = content
                continue
            head, text = part.shown(content)
            pieces += (head, text, b" ")
        if failure is not None:
            failures.append((message.row, failure))
            continue
        pieces[-1] = b")\r\n"
        written += pieces
    return b"".join(written), failures


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


async def write_decoded(
    house: MailHouse, response: Response, label: bytes, part: Encoded, memory: Memory
) -> None:
    """A label and a literal. Decoded twice if it is large: a literal says first how long it is and
    whether it holds NUL, and nobody holds the whole."""
    held: list[bytes] = []
    size, nul = 0, False
    async for piece in decoded(house, part, memory):
        size += len(piece)
        nul = nul or b"\0" in piece
        if size <= SLICE:
            held.append(piece)
        else:
            held.clear()
    response.add(label + b" " + literal_header(size, binary=nul))
    if size <= SLICE:
        response.add(b"".join(held))
        return
    async for piece in decoded(house, part, memory):
        response.add(piece)
        size -= len(piece)
        await response.flush()
    if size:
        raise Corrupt(detail=f"decoded twice, a part differs by {size} octets")


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


def is_of_fields(wanted: FetchBody) -> bool:
    """Its octets do not lie together: `chosen_fields` picks them out of the header."""
    return wanted.section in _OF_FIELDS


def place_of(row: Row, wanted: FetchBody) -> tuple[int, int]:
    """Where a section lies: offset and length in the message; the length is -1 where there is no
    such section. Of chosen fields, where the header lies. Raises Corrupt. RFC 3501 §6.4.5.
    """
    size = row[SIZE]
    if wanted.section is Section.ALL and not wanted.path:
        found: tuple[int, int] | None = (0, size)
    elif wanted.section in _OF_FIELDS and not wanted.path:
        found = (0, row[HEADER_SIZE])
    else:
        found = Layout.unpack(row[LAYOUT]).section(wanted.path, _WHAT[wanted.section])
    if found is None:
        return 0, -1
    start, length = found
    if start + length > size:
        raise Corrupt(detail=f"the layout reaches {start + length} of {size} octets")
    return found


def cut(place: tuple[int, int], partial: tuple[int, int] | None) -> tuple[int, int]:
    """Of a place, the part that is asked for."""
    if partial is None:
        return place
    start, length = place
    first, most = partial
    first = min(first, length)
    return start + first, min(most, length - first)
