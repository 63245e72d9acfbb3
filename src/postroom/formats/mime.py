"""The tree of a message: one pass over the bytes, offsets only, nothing decoded.

RFC 2045, RFC 2046. `scan` never raises, whatever the bytes are. It is linear in their number,
does not recurse, and what lies beyond a cap becomes an opaque leaf: kept, delivered, never lost.

How it stays linear: the lines that begin with `--` are visited once, by one cursor. The
delimiter lines of every open multipart are the keys of one dict, so what such a line means costs
one lookup, however deep the nesting. Line ends are counted by a second cursor.

Where readers of mail differ, this one chooses:
- A delimiter line matches as a whole, but for trailing white space (the grammar of RFC 2046
  §5.1.1; its prose would accept a mere prefix, and then `--b` would cut into a part whose own
  boundary is `bb`).
- If an open outer multipart has the same delimiter, the line is the outer one's. So a part is
  the same tree when its slice is scanned alone.
- A multipart without any part gets one text/plain part that holds what is there. Nothing that
  somebody wrote is hidden, and BODYSTRUCTURE is well formed.
- A multipart or message that is itself encoded (RFC 2045 §6.4 forbids it) is an opaque leaf.
  Quoted-printable and unknown names on a multipart are a common slip that changes no boundary
  line, and are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from postroom.formats.headers import (
    FIELDS_MAX,
    PARAMETERS_MAX,
    Headers,
    parameterised,
    raw_parameters,
    unfold,
)
from postroom.formats.headers import scan as scan_headers
from postroom.formats.transfer import IDENTITY, QUOTED_PRINTABLE, canonical

# Why a part is opaque. The first five are caps: `Part.opaque in OVER_CAP`.
DEPTH: Final = "depth"
PARTS: Final = "parts"
HEADER_BYTES: Final = "header-bytes"
HEADER_FIELDS: Final = "header-fields"
PARAMETERS: Final = "parameters"
ENCODED: Final = "encoded"  # a multipart or message in base64
BOUNDARY: Final = "boundary"  # a multipart that names no boundary: read as text/plain

OVER_CAP: Final = frozenset({DEPTH, PARTS, HEADER_BYTES, HEADER_FIELDS, PARAMETERS})

VALUE_MAX: Final = 64 * 1024  # octets of a field that are read
_LINE: Final = 1_000  # RFC 5322 §2.1.1: a longer line is no delimiter
_SHORT: Final = 256  # octets of a field value worth remembering
_BLANKS: Final = b" \t\r\n"
_OCTET_STREAM: Final = (b"application", b"octet-stream")
_TEXT_PLAIN: Final = (b"text", b"plain")
_MESSAGE_TYPES: Final = frozenset({b"rfc822", b"global"})  # RFC 2046 §5.2.1, RFC 6532 §3.7
_MEDIA_TYPE: Final = re.compile(rb"([!#-'*+\-.0-9A-Z^-~]++)[ \t]*+/[ \t]*+([!#-'*+\-.0-9A-Z^-~]++)")

Parameters = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Caps of one message. Those of one header block are `headers.HEADER_MAX` and its kin."""

    depth: int = 100  # the root is 1
    parts: int = 5_000
    header_bytes: int = 4 << 20  # of all parts together
    header_fields: int = 40_000  # of all parts together


LIMITS: Final = Limits()


@dataclass(slots=True, eq=False)
class Part:
    """One entity. Offsets count from the start of the message, ends are exclusive.

    `raw[start:body]` is its header block with the blank line, `raw[body:end]` its body, without
    the line end that belongs to the next boundary. `type` and `subtype` are lower case and what
    the part is treated as: an opaque multipart or message is application/octet-stream. `params`
    are as sent (names in any case, RFC 2231 pieces apart); the other fields are unfolded values.
    """

    start: int
    body: int
    end: int = 0
    lines: int = 0  # line ends in the body
    type: bytes = b"text"
    subtype: bytes = b"plain"
    params: Parameters = ()
    id: bytes | None = None
    description: bytes | None = None
    encoding: bytes | None = None
    disposition: bytes | None = None
    language: bytes | None = None
    location: bytes | None = None
    md5: bytes | None = None
    boundary: bytes = b""  # of a multipart that was opened
    opaque: str = ""
    headers: Headers | None = None  # kept where a message begins, for its envelope
    children: list[Part] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        """Its children are body parts: there is at least one."""
        return self.type == b"multipart"

    @property
    def is_message(self) -> bool:
        """Its one child is the encapsulated message."""
        return self.type == b"message" and bool(self.children)

    def at(self, path: Sequence[int]) -> Part | None:
        """The body part that the numbers of a section name, from a message. RFC 9051 §6.4.5.1."""
        part = self
        for step, number in enumerate(path):
            entity = step == 0
            if step and part.is_message:
                part, entity = part.children[0], True
            if part.is_multipart:
                if not 1 <= number <= len(part.children):
                    return None
                part = part.children[number - 1]
            elif not entity or number != 1:
                return None  # only a message has a part 1 without being a multipart
        return part

    def walk(self) -> list[Part]:
        """This part and all below it, in the order of the message."""
        found: list[Part] = []
        waiting = [self]
        while waiting:
            part = waiting.pop()
            found.append(part)
            waiting.extend(reversed(part.children))
        return found


def scan(raw: bytes, *, limits: Limits = LIMITS, header: Headers | None = None) -> Part:
    """The tree of the message `raw`. Never raises. `header` is its own one, if it is known."""
    return _Scanner(raw, limits, header).run()


def media_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """Type, subtype (lower case) and parameters of a Content-Type value; None if it has no type.

    RFC 2045 §5.1. The caller then assumes the default of §5.2.
    """
    return _short_media_type(value) if len(value) <= _SHORT else _media_type(value)


def _media_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    main, params = raw_parameters(value)
    match = _MEDIA_TYPE.match(main.strip())
    if match is None:
        return None
    return match[1].lower(), match[2].lower(), tuple(params)


_short_media_type = lru_cache(maxsize=512)(_media_type)


class _Scanner:
    """The state of one pass: four cursors that only move forward, and the stack of open parts."""

    __slots__ = (
        "counted",
        "cursor",
        "dashes",
        "delimiters",
        "header_bytes",
        "header_fields",
        "keys",
        "known",
        "limits",
        "newlines",
        "parts",
        "raw",
        "size",
        "stack",
    )

    def __init__(self, raw: bytes, limits: Limits, header: Headers | None) -> None:
        self.raw = raw
        self.known = header
        self.size = len(raw)
        self.limits = limits
        self.parts = 0
        self.header_bytes = 0
        self.header_fields = 0
        self.cursor = 0  # delimiter lines are looked for from here
        self.dashes = -1  # the last answer of _dashes_from
        self.counted = self.newlines = 0  # newlines in raw[:counted]
        self.stack: list[Part] = []  # open parts, outermost first
        self.keys: list[bytes] = []  # beside it: the delimiter of each multipart still in its body
        self.delimiters: dict[bytes, tuple[int, bool]] = {}  # line -> (index in stack, closing)

    def run(self) -> Part:
        self._open(0)
        root = self.stack[0]
        while self.delimiters:
            hit = self._delimiter()
            if hit is None:
                break
            at, after, index, closing = hit
            self._close(index, self._line_end_before(at))
            if closing:
                self._finish(index, self._line_end_before(at))
            elif reason := self._exhausted():
                self._leave(after, reason)
                break
            else:
                self._open(after)
        self._close(-1, self.size)
        return root

    # --- opening ---------------------------------------------------------------------------

    def _open(self, start: int) -> None:
        """Read the part at `start`, below the top of the stack; go down into messages."""
        while True:
            part = self._read(start)
            if self.stack:
                self.stack[-1].children.append(part)
            self.stack.append(part)
            self.keys.append(b"")
            part.lines = -self._newlines_before(part.body)
            if part.opaque:
                return
            if part.type == b"multipart":
                self._listen(part)
                return
            if part.type != b"message" or part.subtype not in _MESSAGE_TYPES:
                return
            start = part.body

    def _read(self, start: int) -> Part:
        """The part whose header begins at `start`, judged against the caps."""
        self.parts += 1
        head = self.known if start == 0 else None
        if head is None:
            head = scan_headers(self.raw, start, self._header_limit(start))
        self.header_bytes += head.end - start
        self.header_fields += len(head.fields)
        part = Part(start, head.end)
        if head.over_cap:
            part.opaque = HEADER_FIELDS if len(head.fields) >= FIELDS_MAX else HEADER_BYTES
        parent = self.stack[-1] if self.stack else None
        if parent is None or parent.type == b"message":
            part.headers = head
        self._describe(part, head, parent)
        return part

    def _describe(self, part: Part, head: Headers, parent: Part | None) -> None:
        """Fill in what the Content-* fields say; decide what the part is treated as."""
        declared: bytes | None = None
        said = _content_fields(head)
        if said:
            first = said.get
            declared = first(b"content-type")
            part.encoding = first(b"content-transfer-encoding")
            part.disposition = first(b"content-disposition")
            part.id = first(b"content-id")
            part.description = first(b"content-description")
            part.language = first(b"content-language")
            part.location = first(b"content-location")
            part.md5 = first(b"content-md5")
        known = media_type(declared) if declared is not None else None
        if known is not None:
            part.type, part.subtype, part.params = known
            if len(part.params) >= PARAMETERS_MAX:  # the rest was not read
                part.opaque = part.opaque or PARAMETERS
        elif parent is not None and parent.type == b"multipart" and parent.subtype == b"digest":
            part.type, part.subtype = b"message", b"rfc822"  # RFC 2046 §5.1.5
        if part.type == b"multipart" or (
            part.type == b"message" and part.subtype in _MESSAGE_TYPES
        ):
            self._judge(part, _boundary(declared or b"", part.params))

    def _judge(self, part: Part, boundary: bytes) -> None:
        """May this multipart or message be opened? If not it is an opaque leaf."""
        if not part.opaque:
            encoding = canonical((part.encoding or b"").decode("latin-1"))
            # Quoted-printable leaves the lines of a multipart's delimiters as they are.
            if encoding != IDENTITY and (part.type == b"message" or encoding != QUOTED_PRINTABLE):
                part.opaque = ENCODED
            elif len(self.stack) + 1 >= self.limits.depth:
                part.opaque = DEPTH
            elif part.type == b"message":
                part.opaque = self._exhausted()
            elif not boundary:
                part.opaque = BOUNDARY
            else:
                part.boundary = boundary
        if part.opaque == BOUNDARY:
            part.type, part.subtype = _TEXT_PLAIN
        elif part.opaque:
            part.type, part.subtype = _OCTET_STREAM

    def _exhausted(self) -> str:
        """The cap that forbids one more part, or an empty string."""
        if self.parts >= self.limits.parts:
            return PARTS
        if self.header_bytes >= self.limits.header_bytes:
            return HEADER_BYTES
        if self.header_fields >= self.limits.header_fields:
            return HEADER_FIELDS
        return ""

    def _listen(self, part: Part) -> None:
        """Take the delimiter lines of this multipart, on top of the stack, from now on."""
        key = b"--" + part.boundary
        index = len(self.stack) - 1
        # An outer multipart of the same name keeps its lines: RFC 2046 §5.1.2.
        if key not in self.delimiters:
            self.delimiters[key] = (index, False)
            self.keys[index] = key
            self.delimiters.setdefault(key + b"--", (index, True))
        self.cursor = max(self.cursor, part.body - 1)

    def _leave(self, start: int, reason: str) -> None:
        """The rest of the message, unread, as one opaque leaf of the multipart on top."""
        rest = Part(start, start, type=b"application", subtype=b"octet-stream", opaque=reason)
        rest.lines = -self._newlines_before(start)
        self.stack[-1].children.append(rest)
        self.stack.append(rest)
        self.keys.append(b"")

    # --- closing ---------------------------------------------------------------------------

    def _close(self, index: int, end: int) -> None:
        """End every open part above stack[index] at `end`, innermost first."""
        while len(self.stack) > index + 1:
            part = self.stack[-1]
            end = max(end, part.body)
            if part.type == b"multipart":
                self._finish(len(self.stack) - 1, end)
            part.end = end
            part.lines += self._newlines_before(end)
            self.stack.pop()
            self.keys.pop()

    def _finish(self, index: int, end: int) -> None:
        """Hear no more delimiters of this multipart; make sure that it has a part."""
        key = self.keys[index]
        if key:
            self.keys[index] = b""
            del self.delimiters[key]
            closing = key + b"--"
            if self.delimiters.get(closing) == (index, True):
                del self.delimiters[closing]
        part = self.stack[index]
        if not part.children:
            end = max(end, part.body)
            only = Part(part.body, part.body, end)
            only.lines = self._newlines_before(end) + part.lines
            part.children.append(only)

    # --- cursors ---------------------------------------------------------------------------

    def _header_limit(self, start: int) -> int:
        """Where the header at `start` must end at the latest.

        Inside a multipart that is before a line that begins with `--`: no field of a body part
        is named so, and a delimiter line must not be taken for one.
        """
        if not self.delimiters:
            return self.size
        return min(self._dashes_from(start - 1) + 1, self.size)

    def _dashes_from(self, at: int) -> int:
        """Where the next line end before a `--` is, at `at` or later; the size for none.

        What was found from an earlier place holds for a later one that it still lies ahead of.
        """
        if self.dashes < at:
            found = self.raw.find(b"\n--", at)
            self.dashes = found if found >= 0 else self.size
        return self.dashes

    def _delimiter(self) -> tuple[int, int, int, bool] | None:
        """The next delimiter line of an open multipart.

        As (its offset, the offset after it, index in the stack, closing).
        """
        raw, size, known = self.raw, self.size, self.delimiters
        find = raw.find
        newline = self._dashes_from(self.cursor)
        while 0 <= newline < size:
            at = newline + 1
            eol = find(b"\n", at, at + _LINE)
            if eol < 0:
                eol = min(at + _LINE, size)
                if eol < size:  # too long for a delimiter
                    newline = find(b"\n--", eol)
                    continue
            if hit := known.get(raw[at:eol].rstrip(b" \t\r")):
                self.cursor = eol
                return at, min(eol + 1, size), hit[0], hit[1]
            newline = find(b"\n--", eol)
        return None

    def _line_end_before(self, at: int) -> int:
        """The offset of the line end before the line at `at`: it belongs to a delimiter."""
        return at - 2 if self.raw[at - 2 : at] == b"\r\n" else at - 1

    def _newlines_before(self, offset: int) -> int:
        if offset > self.counted:
            self.newlines += self.raw.count(b"\n", self.counted, offset)
            self.counted = offset
        return self.newlines


def _content_fields(head: Headers) -> dict[bytes, bytes]:
    """The Content-* fields by lower-case name, unfolded; the first of each name counts."""
    said: dict[bytes, bytes] = {}
    for each in head.fields:
        if each.name[:8].lower() == b"content-":
            value = head.source[each.value_start : min(each.end, each.value_start + VALUE_MAX)]
            said.setdefault(each.name.lower(), unfold(value.strip(_BLANKS)))
    return said


def _boundary(declared: bytes, params: Parameters) -> bytes:
    """The boundary parameter, or nothing. RFC 2046 §5.1.1: it cannot end in white space.

    In the pieces of RFC 2231 too: a reader that puts them together must not see parts that
    we, and who scans for us, do not.
    """
    pieces = False
    for name, value in params:
        key = name.lower()
        if key == b"boundary":
            return value.rstrip()
        pieces = pieces or key.startswith(b"boundary*")
    if not pieces:
        return b""
    return parameterised(declared)[1].get("boundary", "").encode("utf-8", "replace").rstrip()
