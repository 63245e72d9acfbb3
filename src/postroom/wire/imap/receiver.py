"""The server's input: bytes in, commands out, pulled one at a time.

`feed` keeps bytes, `next` gives the next event or None. Nothing is looked at before it is
asked for, so a pipelined command meets the state that its predecessor left. What may be
kept is bounded by `limits` and `budget` whatever arrives.

Lines end with CRLF (RFC 9051 §2.2). A bare LF ends the connection: two readers who disagree
about where a line ends run different commands (a mailbox name with a line feed in it, passed
on by a careless web application, would become a command of its own). A bare CR or any other
control character is refused by the grammar where it stands.

A command that is refused before it was read whole is read to its end and dropped: literals
that need no permission are on their way and must not be taken for commands. RFC 7888 §4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, TypeAlias

from postroom.wire.imap.cursor import Cursor, Piece
from postroom.wire.imap.events import (
    BadLine,
    Command,
    CommandPart,
    Event,
    Line,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    NeedLiteral,
)
from postroom.wire.imap.limits import BEFORE_SIGN_IN, PIECE_OVERHEAD, Budget, Limits

_COMMAND: Final = re.compile(
    rb'([^(){ %*"\\+\x00-\x1f\x7f-\xff]{1,255}+) '
    rb"((?:[Uu][Ii][Dd] )?+[A-Za-z][A-Za-z0-9.-]{0,31}+)(?= |\Z)"
)
_TAG: Final = re.compile(rb'([^(){ %*"\\+\x00-\x1f\x7f-\xff]{1,255}+) ')
_HUGE: Final = 1 << 63
_SKIP_TAIL: Final = 64
_SPACE: Final = 0x20
_CR: Final = 0x0D

STREAMED: Final[Mapping[bytes, int]] = {b"APPEND": 2, b"REPLACE": 3, b"UID REPLACE": 3}
"""Commands whose messages are streamed, and how many spaces come between the name and the
first literal that can be one: an earlier literal is a mailbox name. RFC 9051 §6.3.12,
RFC 8508 §3.4."""


class _Step(Enum):
    AGAIN = auto()  # the state changed and there is nothing to say about it


_AGAIN: Final = _Step.AGAIN
_Outcome: TypeAlias = Event | Literal[_Step.AGAIN] | None


class _State(Enum):
    START = auto()  # the first line of a command
    MORE = auto()  # the line after a collected literal
    TAIL = auto()  # the line after a streamed literal
    ASKED = auto()  # a line that the session asked for
    ANNOUNCED = auto()  # a literal waits for accept or reject
    COLLECT = auto()  # octets of a literal that is kept
    STREAM = auto()  # octets of a literal that is handed on
    SKIP_LITERAL = auto()  # octets of a refused command
    SKIP_LINE = auto()
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class _Announce:
    """`{310}`, `{310+}`, `~{310}` at the end of a line."""

    size: int
    sync: bool
    binary: bool
    at: int  # where in the line it starts


def _announce(line: bytes) -> _Announce | None:
    if line[-1:] != b"}":
        return None
    opened = line.rfind(b"{")
    digits = line[opened + 1 : -1]
    sync = digits[-1:] != b"+"
    if not sync:
        digits = digits[:-1]
    if opened < 0 or not digits.isdigit():
        return None
    # int() of a hostile number of digits is slow; 19 digits are beyond every limit anyway.
    size = int(digits) if len(digits) <= 19 else _HUGE
    binary = line[opened - 1 : opened] == b"~"
    return _Announce(size, sync, binary, opened - 1 if binary else opened)


# --- the receiver ------------------------------------------------------------------------


class Receiver:
    """Reads what one client says. Not thread-safe; holds no socket and no clock."""

    __slots__ = (
        "_args_at",
        "_asked",
        "_at",
        "_broken",
        "_data",
        "_held",
        "_kept",
        "_left",
        "_line",
        "_line_used",
        "_literal",
        "_literals_used",
        "_name",
        "_pending",
        "_pieces",
        "_scanned",
        "_skipped",
        "_spaces",
        "_started",
        "_state",
        "_streaming",
        "_tag",
        "_tail",
        "budget",
        "limits",
        "utf8",
    )

    def __init__(self, budget: Budget, limits: Limits = BEFORE_SIGN_IN) -> None:
        self.budget = budget
        self.limits = limits
        self.utf8 = False
        """Mailbox names are UTF-8 from the next command on. RFC 9051 §6.3.1, RFC 9755 §3."""
        self._data: bytes | bytearray = b""
        self._at = 0  # where the unread part of _data begins
        self._scanned = 0  # no LF before this place
        self._held = 0  # octets of the event last given, freed by the next pull
        self._state = _State.START
        self._left = 0  # octets of the literal still to come
        self._skipped = 0
        self._tail = b""  # the end of a line that is dropped
        self._started = False  # LiteralStart was given
        self._asked = False  # NeedLiteral was given
        self._broken: BadLine | None = None
        self._forget()

    def _forget(self) -> None:
        """Ready for the next command."""
        self._state = _State.START
        self._tag = b""
        self._name = b""
        self._line = b""  # the first line, without its announcement
        self._args_at = 0
        self._pieces: list[Piece] = []
        self._literal: tuple[bytes, bool] = (b"", False)
        self._pending: _Announce | None = None
        self._streaming = False
        self._spaces = 0
        self._line_used = 0
        self._literals_used = 0
        self._kept = 0  # octets of this command that were read and are held

    # --- what the server and the session do ------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what the socket gave. Past the budget the connection is lost: `next` says so.

        Feed at most a part of the budget at a time, and pull until None before the next.
        """
        if self._state is _State.DEAD or self._broken is not None:
            return
        left = len(self._data) - self._at
        if not left and self._state is _State.SKIP_LITERAL:
            skip = min(self._left, len(data))  # refused octets are not even kept
            self._left -= skip
            data = data[skip:]
        if not self.budget.take(len(data)):
            self._drop()
            self._broken = BadLine(None, "Too much at once", fatal=True)
            return
        if not left:
            self._data = data
            self._at = self._scanned = 0
            return
        if isinstance(self._data, bytearray):
            del self._data[: self._at]
        else:
            self._data = bytearray(memoryview(self._data)[self._at :])
        self._scanned -= self._at
        self._at = 0
        self._data += data

    def next(self) -> Event | None:
        """The next event, or None until more is fed."""
        if self._held:
            self.budget.give(self._held)
            self._held = 0
        if self._broken is not None:
            return self._die(self._broken)
        while True:
            event = self._step()
            if event is not _Step.AGAIN:
                return event

    def accept(self) -> None:
        """Take the literal of the NeedLiteral just given."""
        announce = self._pending
        if announce is None or not self._asked:
            raise RuntimeError("no literal is announced")
        self._begin(announce)

    def reject(self) -> None:
        """Drop the rest of this command, whose tagged reply is said elsewhere.

        Right after NeedLiteral, and also while its literal is streamed or before its last
        CommandPart: a disk that fills, a date that cannot be.
        """
        announce = self._pending
        if self._state is _State.ANNOUNCED and announce is not None:
            self._refuse(announce)
        elif self._state is _State.STREAM:
            self._skip(self._left)
        elif self._state is _State.TAIL:
            self._skip_line()
        else:
            raise RuntimeError("no command is under way")

    def expect_line(self) -> None:
        """The next line is not a command: it comes as Line. RFC 9051 §6.2.2, §6.3.13."""
        if self._state is not _State.START:
            raise RuntimeError("a command is under way")
        self._state = _State.ASKED

    @property
    def buffered(self) -> int:
        """Octets held: unread, of the command under way, and of the event last given."""
        return len(self._data) - self._at + self._kept + self._held

    @property
    def empty(self) -> bool:
        """Nothing has come beyond the command last given. After STARTTLS it must be so:
        what came before the handshake anyone may have written. RFC 9051 §6.2.1.
        """
        unread = len(self._data) - self._at
        return not unread and self._state is _State.START and self._broken is None

    def close(self) -> None:
        """Give everything back to the budget; nothing more comes out."""
        self._drop()
        self._state = _State.DEAD

    # --- one step --------------------------------------------------------------------------

    def _step(self) -> _Outcome:
        state = self._state
        if state is _State.START:
            return self._first_line()
        if state is _State.MORE or state is _State.TAIL:
            return self._later_line()
        if state is _State.COLLECT:
            return self._collect()
        if state is _State.STREAM:
            return self._stream()
        if state is _State.ANNOUNCED:
            return self._ask()
        if state is _State.ASKED:
            return self._asked_line()
        if state is _State.SKIP_LITERAL:
            return self._skip_literal()
        if state is _State.SKIP_LINE:
            return self._skip_to_line_end()
        return None

    def _first_line(self) -> _Outcome:
        line = self._take_line()
        if line is None or isinstance(line, BadLine):
            return line
        announce = _announce(line) if line[-1:] == b"}" else None
        found = _COMMAND.match(line)
        if found is None:
            tag = _TAG.match(line)
            sentence = "A command is missing" if line else "The line is empty"
            self._refuse(announce)
            return BadLine(tag[1] if tag else None, sentence)
        tag_, name = found.groups()
        name = name.upper()
        if announce is None:
            self._held = self._kept
            self._kept = self._line_used = 0
            return Command(
                tag_, name, Cursor(line, found.end(), utf8=self.utf8, depth=self.limits.depth)
            )
        self._tag = tag_
        self._name = name
        self._args_at = found.end()
        self._line = line[: announce.at]
        self._spaces = self._line.count(b" ", self._args_at)
        return self._announced(announce)

    def _later_line(self) -> _Outcome:
        line = self._take_line()
        if line is None or isinstance(line, BadLine):
            return line
        announce = _announce(line) if line[-1:] == b"}" else None
        text = line if announce is None else line[: announce.at]
        if self._state is _State.TAIL:
            if announce is not None:
                self._line = text
                self._args_at = 0
                return self._announced(announce)
            cursor = Cursor(text, utf8=self.utf8, depth=self.limits.depth)
            self._held = self._kept
            self._forget()
            return CommandPart(cursor, more=False)
        self._pieces.append(Piece(*self._literal, text))
        self._spaces += text.count(b" ")
        if announce is not None:
            return self._announced(announce)
        command = self._command(more=False)
        self._held = self._kept
        self._forget()
        return command

    def _command(self, *, more: bool) -> Command:
        args = Cursor(
            self._line, self._args_at, self._pieces,
            utf8=self.utf8, depth=self.limits.depth, more=more,
        )  # fmt: skip
        return Command(self._tag, self._name, args, more)

    def _asked_line(self) -> _Outcome:
        line = self._take_line()
        if line is None or isinstance(line, BadLine):
            return line
        self._held = self._kept
        self._forget()
        return Line(line)

    # --- literals ----------------------------------------------------------------------------

    def _announced(self, announce: _Announce) -> _Outcome:
        """A line ended with an announcement: refuse it, begin it, or ask the session."""
        first = not self._streaming
        streamed = self._streaming or (
            self.limits.append > 0
            and self._name in STREAMED
            and self._spaces >= STREAMED[self._name]
        )
        largest = self.limits.append if streamed else self.limits.literal
        if not announce.sync and self.limits.nonsync is not None:
            largest = min(largest, self.limits.nonsync)
        total = self._literals_used + announce.size + PIECE_OVERHEAD
        if announce.size > largest or (not streamed and total > self.limits.literals_total):
            return self._too_big(announce)
        self._pending = announce
        self._asked = False
        self._state = _State.ANNOUNCED
        if not streamed:
            self._literals_used = total
            if not announce.sync:
                self._begin(announce)
            return _AGAIN
        self._streaming = True
        self._held = self._kept
        self._kept = self._line_used = 0
        if first:
            command = self._command(more=True)
            self._pieces = []
            return command
        args = Cursor(self._line, utf8=self.utf8, depth=self.limits.depth, more=True)
        return CommandPart(args, more=True)

    def _too_big(self, announce: _Announce) -> BadLine:
        tag = self._tag
        if not announce.sync and announce.size > self.limits.discard:
            return self._die(BadLine(tag, "The literal is too large", fatal=True, too_big=True))
        name = self._name
        self._refuse(announce)
        return BadLine(tag, "The literal is too large", too_big=True, name=name)

    def _ask(self) -> _Outcome:
        announce = self._pending
        if announce is None or self._asked:
            raise RuntimeError("accept() or reject() the literal first")
        self._asked = True
        return NeedLiteral(
            self._tag, self._name, announce.size, announce.sync, self._streaming, announce.binary
        )

    def _begin(self, announce: _Announce) -> None:
        self._left = announce.size
        self._started = False
        self._state = _State.STREAM if self._streaming else _State.COLLECT

    def _collect(self) -> _Outcome:
        size = self._left
        if len(self._data) - self._at < size:
            self._starve()
            return None
        announce = self._pending
        assert announce is not None
        self._literal = (self._take(size), announce.binary)
        self._kept += size
        self._pending = None
        self._state = _State.MORE
        return _AGAIN

    def _stream(self) -> _Outcome:
        announce = self._pending
        assert announce is not None
        if not self._started:
            self._started = True
            return LiteralStart(announce.size, announce.binary)
        if not self._left:
            self._pending = None
            self._state = _State.TAIL
            return LiteralEnd()
        size = min(self._left, len(self._data) - self._at)
        if not size:
            self._starve()
            return None
        start = self._at
        if isinstance(self._data, bytearray):
            # A view would hold the array against growing; only what followed half a line.
            view = memoryview(self._take(size))
        else:
            view = memoryview(self._data)[start : start + size]
            self._advance(start + size)
        self._left -= size
        self._held = size
        return LiteralChunk(view)

    # --- refusing ------------------------------------------------------------------------------

    def _refuse(self, announce: _Announce | None) -> None:
        """Forget the command whose last line ended with `announce`; drop what is on its way."""
        self.budget.give(self._kept)
        self._forget()
        self._skipped = 0
        if announce is not None and not announce.sync:
            self._skip(announce.size)

    def _skip(self, size: int) -> None:
        self._free()
        self._left = size
        self._skipped += size
        if self._skipped > self.limits.discard:
            self._drop()
            self._broken = BadLine(None, "Too much was refused", fatal=True)
            return
        self._state = _State.SKIP_LITERAL

    def _skip_line(self) -> None:
        self._free()
        self._tail = b""
        self._state = _State.SKIP_LINE

    def _free(self) -> None:
        """Forget a command under way, but not how much of it was dropped."""
        self.budget.give(self._kept)
        self._forget()

    def _skip_literal(self) -> _Outcome:
        size = min(self._left, len(self._data) - self._at)
        self._left -= size
        self.budget.give(size)
        self._advance(self._at + size)
        if self._left:
            return None
        self._skip_line()
        return _AGAIN

    def _skip_to_line_end(self) -> _Outcome:
        end = self._data.find(b"\n", self._at)
        stop = len(self._data) if end < 0 else end + 1
        size = stop - self._at
        self._tail = (self._tail + self._data[max(self._at, stop - _SKIP_TAIL) : stop])[
            -_SKIP_TAIL:
        ]
        self._skipped += size
        self.budget.give(size)
        self._advance(stop)
        if self._skipped > self.limits.discard:
            return self._die(BadLine(None, "Too much was refused", fatal=True))
        if end < 0:
            return None
        if self._tail[-2:-1] != b"\r":
            return self._die(BadLine(None, "A line does not end with CRLF", fatal=True))
        tail = self._tail[:-2]
        self._tail = b""
        if tail[-2:] == b"+}" and len(tail) == _SKIP_TAIL - 2 and tail[:-2].isdigit():
            return self._die(BadLine(None, "The literal is too large", fatal=True))
        announce = _announce(tail)
        if announce is None or announce.sync:
            self._forget()
            self._skipped = 0
            return _AGAIN
        self._skip(announce.size)
        return self._die(self._broken) if self._broken else _AGAIN

    def _die(self, error: BadLine) -> BadLine:
        self._drop()
        self._broken = None
        self._state = _State.DEAD
        return error

    def _drop(self) -> None:
        self.budget.give(len(self._data) - self._at + self._kept + self._held)
        self._data = b""
        self._at = self._scanned = self._held = 0
        self._forget()

    # --- bytes ---------------------------------------------------------------------------------

    def _take_line(self) -> bytes | BadLine | None:
        """The next line without CRLF, counted as kept; None if it is not whole yet."""
        data = self._data
        at = self._at
        end = data.find(b"\n", self._scanned)
        length = (len(data) if end < 0 else end) - at  # with the CR, without the LF
        if length > self.limits.line - self._line_used + 1:
            found = _TAG.match(data, at) if self._state is _State.START else None
            tag = found[1] if found else self._tag or None
            self._skipped = 0
            self._skip_line()
            return BadLine(bytes(tag) if tag else None, "The line is too long")
        if end < 0:
            self._starve()
            return None
        if end == at or data[end - 1] != _CR:
            found = _TAG.match(data, at) if self._state is _State.START else None
            tag = found[1] if found else self._tag or None
            return self._die(
                BadLine(bytes(tag) if tag else None, "A line does not end with CRLF", fatal=True)
            )
        line = data[at : end - 1]
        self._line_used += length - 1
        self._kept += length + 1
        self._advance(end + 1)
        return line if type(line) is bytes else bytes(line)

    def _take(self, size: int) -> bytes:
        at = self._at
        taken = self._data[at : at + size]
        self._advance(at + size)
        return taken if type(taken) is bytes else bytes(taken)

    def _advance(self, to: int) -> None:
        if to == len(self._data):
            self._data = b""
            self._at = self._scanned = 0
        else:
            self._at = self._scanned = to

    def _starve(self) -> None:
        """Wait for more: keep only what is unread, and do not search it again."""
        if self._at:
            self._data = self._data[self._at :]
            self._at = 0
        self._scanned = len(self._data)
