"""The server's ear: octets in, command lines out, one at a time and only when asked.

The caller feeds what the socket gave and pulls `next()` until it returns None. `expect_line` says
that the next line answers a challenge and is no command, so pipelined commands are read in the
state that their predecessors left. `feed` never refuses: the server pauses reading while
`buffered` is over its limit.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.wire.lines import BadLine, Fault, Line, LineReader
from postroom.wire.pop3.limits import COMMAND_LINE_CAP, DISCARD_CAP

__all__ = ["BadLine", "Command", "Event", "Fault", "Line", "Receiver"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command line: the verb in upper case, and all that stands behind the space after it.

    The argument is as it was said: spaces may be part of a password (RFC 1939 §7). Both may hold
    octets beyond ASCII but no control characters; an empty line has an empty verb.
    """

    verb: bytes
    argument: bytes


Event = Command | Line | BadLine


class Receiver(LineReader):
    """Frames what a POP3 client sends."""

    __slots__ = ("_raw",)

    def __init__(self) -> None:
        super().__init__(COMMAND_LINE_CAP, DISCARD_CAP)
        self._raw = False  # the next line is no command

    def expect_line(self, limit: int) -> None:
        """A challenge was said: the next line, of at most `limit` octets, is no command.

        RFC 5034 §4. It comes as Line or as BadLine; then commands are expected again.
        """
        if limit < 2:
            raise ValueError("a line is at least its CRLF")
        self._raw = True
        self.cap = limit

    def next(self) -> Event | None:
        """The next event, or None if more input is needed."""
        found = self.read_line()
        if found is None:
            return None
        raw, self._raw, self.cap = self._raw, False, COMMAND_LINE_CAP
        if isinstance(found, BadLine):
            return found
        if raw:
            return Line(found)
        verb, _, argument = found.partition(b" ")
        return Command(verb.upper(), argument)  # in any case: RFC 1939 §3
