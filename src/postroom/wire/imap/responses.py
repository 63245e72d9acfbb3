"""The client's input: bytes in, responses out, for tests, migration and collecting mail.

A server is not trusted more than a client: lines, literals and depth are bounded, and the
tree of values is built with a stack of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from postroom.core.errors import Malformed

_LITERAL: Final = re.compile(rb"~?\{([0-9]{1,19})\}\Z")
_STATUS: Final = frozenset({b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"})
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n\x00]++|\\["\\])*+)"')
_ESCAPE: Final = re.compile(rb'\\(["\\])')
# An atom or a flag (\Seen, \*). Brackets are common in mailbox names ([Gmail]); in a code
# the closing one ends it, and in FETCH they enclose a section: BODY[HEADER.FIELDS (TO)]<0>.
_WORD: Final = re.compile(rb"\\?[^\x00-\x20\x7f(){\"\\]++")
_CODE_WORD: Final = re.compile(rb"\\?[^\x00-\x20\x7f(){\"\\\]]++")
_SECTIONED: Final = re.compile(rb"(?:BODY|BINARY(?:\.SIZE)?+)\[", re.IGNORECASE)
_SECTION: Final = re.compile(
    rb"[A-Za-z.]++\[(?:[^\]\"\r\n]++|\"(?:[^\"\\\r\n]++|\\.)*+\")*+\](?:<[0-9]++>)?+"
)
_INTEGER: Final = re.compile(rb"[0-9]{1,19}\Z")


class BadResponse(Malformed):
    """The server does not speak IMAP, or more of it than we take: close the connection."""

    sentence = "The server's answer could not be understood"


class Atom(bytes):
    """A word of the grammar: `FLAGS`, `\\Seen`, `BODY[TEXT]<0>`. A plain bytes is a string."""

    __slots__ = ()


Value: TypeAlias = "Atom | bytes | int | tuple[Value, ...] | None"
"""An atom, a string (quoted or literal), a number, NIL, or a list."""


@dataclass(frozen=True, slots=True)
class Code:
    """`[COPYUID 1 2:3 4:5]`: what stands in the brackets of a status response."""

    name: bytes  # upper case
    data: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Untagged:
    """`* name …`. `* 23 FETCH …` has its number; OK, NO, BAD, BYE, PREAUTH have code and text."""

    name: bytes  # upper case
    data: tuple[Value, ...] = ()
    number: int | None = None
    code: Code | None = None
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Tagged:
    tag: bytes
    kind: bytes  # OK, NO or BAD
    code: Code | None
    text: bytes


@dataclass(frozen=True, slots=True)
class Continuation:
    text: bytes


Response: TypeAlias = Untagged | Tagged | Continuation


@dataclass(frozen=True, slots=True)
class ResponseLimits:
    """Octets; a response is its lines and its literals together."""

    line: int = 8 * 1024 * 1024  # a SEARCH response of a million messages
    literal: int = 64 * 1024 * 1024
    response: int = 96 * 1024 * 1024
    depth: int = 200  # BODYSTRUCTURE of a deep message


class ResponseReader:
    """Reads what one server says. Not thread-safe; holds no socket and no clock."""

    def __init__(self, limits: ResponseLimits | None = None) -> None:
        self.limits = limits or ResponseLimits()
        self._data: bytearray = bytearray()
        self._at = 0
        self._scanned = 0
        self._pieces: list[bytes] = []  # line, literal, line … of the response under way
        self._size = 0
        self._left: int | None = None  # octets of the literal still to come

    def feed(self, data: bytes) -> None:
        """Take what the socket gave; pull until None before the next."""
        if self._at:
            del self._data[: self._at]
            self._scanned -= self._at
            self._at = 0
        self._data += data

    @property
    def buffered(self) -> int:
        """Octets held that are part of no response given yet."""
        return len(self._data) - self._at + self._size

    @property
    def empty(self) -> bool:
        """Nothing has come beyond the response last given: so it must be at STARTTLS."""
        return self.buffered == 0

    def next(self) -> Response | None:
        """The next response, or None until more is fed; raises BadResponse."""
        while True:
            if self._left is None:
                line = self._line()
                if line is None:
                    return None
                found = _LITERAL.search(line, max(0, len(line) - 32))
                if found is None or (not self._pieces and _ends_in_text(line)):
                    return self._whole(line)
                self._left = int(found[1])
                self._grow(len(line))
                if self._left > self.limits.literal:
                    raise BadResponse("A literal is too large")
                if self._size + self._left > self.limits.response:
                    raise BadResponse("A response is too large")
                self._pieces.append(line[: found.start()])
            if len(self._data) - self._at < self._left:
                self._scanned = self._at
                return None
            stop = self._at + self._left
            self._pieces.append(bytes(memoryview(self._data)[self._at : stop]))
            self._grow(self._left)
            self._at = self._scanned = stop
            self._left = None

    def _line(self) -> bytes | None:
        end = self._data.find(b"\r\n", self._scanned)
        length = (len(self._data) if end < 0 else end) - self._at
        if length > self.limits.line:
            raise BadResponse("A line is too long")
        if end < 0:
            self._scanned = max(self._at, len(self._data) - 1)
            return None
        line = bytes(memoryview(self._data)[self._at : end])
        self._at = self._scanned = end + 2
        return line

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self.limits.response:
            raise BadResponse("A response is too large")

    def _whole(self, line: bytes) -> Response:
        pieces = [*self._pieces, line]
        self._pieces = []
        self._size = 0
        return _response(pieces, self.limits.depth)


def _ends_in_text(line: bytes) -> bool:
    """Whether `{5}` at the end is mere text: in continuations and status responses."""
    words = line.split(b" ", 2)
    return words[0] == b"+" or (len(words) > 1 and words[1].upper() in _STATUS)


def _response(pieces: list[bytes], depth: int) -> Response:
    first = pieces[0]
    if first[:1] == b"+":
        return Continuation(first[2:])
    tag, _, rest = first.partition(b" ")
    name, _, text = rest.partition(b" ")
    if not tag or not name:
        raise BadResponse("A response has no name")
    if tag != b"*":
        if name.upper() not in (b"OK", b"NO", b"BAD"):
            raise BadResponse("A tagged response has no status")
        code, text = _code(text, depth)
        return Tagged(tag, name.upper(), code, text)
    if name.upper() in _STATUS:
        code, text = _code(text, depth)
        return Untagged(name.upper(), code=code, text=text)
    number: int | None = None
    if _INTEGER.match(name):
        number = int(name)
        name, _, text = text.partition(b" ")
        if not name:
            raise BadResponse("A response has no name")
    data = _Tree([text, *pieces[1:]], depth, sections=name.upper() == b"FETCH").read()
    return Untagged(name.upper(), data, number)


def _code(text: bytes, depth: int) -> tuple[Code | None, bytes]:
    """The code, if any, and the text. What only looks like a code is text."""
    if text[:1] != b"[":
        return None, text
    tree = _Tree([text[1:]], depth, closes=True)
    try:
        data = tree.read()
    except BadResponse:
        return None, text
    name = data[0] if data else None
    if not isinstance(name, Atom):
        return None, text
    return Code(bytes(name).upper(), data[1:]), tree.rest().lstrip(b" ")


class _Tree:
    """Reads values separated by spaces from lines with literals between them."""

    def __init__(
        self,
        pieces: list[bytes],
        depth: int,
        *,
        closes: bool = False,
        sections: bool = False,
    ) -> None:
        """`closes`: a `]` ends it, as a response code. `sections`: BODY[…] is one word."""
        self._pieces = pieces
        self._n = 0
        self._at = 0
        self._depth = depth
        self._closes = closes
        self._sections = sections

    def rest(self) -> bytes:
        """What follows the end, on the line where it was."""
        return self._pieces[self._n][self._at :]

    def read(self) -> tuple[Value, ...]:
        stack: list[list[Value]] = [[]]
        while True:
            line = self._pieces[self._n]
            mark = line[self._at : self._at + 1]
            if not mark:
                if self._n + 1 == len(self._pieces):
                    break
                stack[-1].append(self._pieces[self._n + 1])
                self._n += 2
                self._at = 0
            elif mark == b" ":
                self._at += 1
            elif mark == b"(":
                if len(stack) > self._depth:
                    raise BadResponse("A list is nested too deeply")
                self._at += 1
                stack.append([])
            elif mark == b")":
                if len(stack) == 1:
                    raise BadResponse("A list ends that did not begin")
                self._at += 1
                done = tuple(stack.pop())
                stack[-1].append(done)
            elif mark == b"]" and self._closes and len(stack) == 1:
                self._at += 1
                return tuple(stack[0])
            else:
                stack[-1].append(self._scalar(line, mark))
        if len(stack) > 1 or self._closes:
            raise BadResponse("A list does not end")
        return tuple(stack[0])

    def _scalar(self, line: bytes, mark: bytes) -> Value:
        if mark == b'"':
            pattern = _QUOTED
        elif self._closes:
            pattern = _CODE_WORD
        elif self._sections and _SECTIONED.match(line, self._at):
            pattern = _SECTION
        else:
            pattern = _WORD
        found = pattern.match(line, self._at)
        if found is None:
            raise BadResponse("A value could not be read")
        self._at = found.end()
        if mark == b'"':
            return _ESCAPE.sub(rb"\1", found[1]) if b"\\" in found[1] else found[1]
        word = found[0]
        if _INTEGER.match(word):
            return int(word)
        return None if word.upper() == b"NIL" else Atom(word)
