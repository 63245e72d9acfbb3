"""INPROGRESS: who waits for long is told how far a command has come. RFC 9585."""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Clock
from postroom.wire.imap import status_line

EVERY: Final = 10.0
"""Seconds between two of them, and before the first. RFC 9585 §4."""


class Progress:
    """Of the command that a session carries out; costs a look at the clock."""

    __slots__ = ("_clock", "_due", "_tag")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tag = b""
        self._due = 0.0

    def begin(self, tag: bytes) -> None:
        """Another command begins."""
        self._tag = tag
        self._due = self._clock.monotonic() + EVERY

    def due(self, done: int, goal: int) -> bytes:
        """What is to be told now of `done` things out of `goal`; mostly nothing."""
        now = self._clock.monotonic()
        if now < self._due:
            return b""
        self._due = now + EVERY
        # Some clients look for the end of a code by its bracket, wherever it stands.
        tag = b'"%b"' % self._tag if b"]" not in self._tag else b"NIL"
        code = b"INPROGRESS (%b %d %d)" % (tag, done, goal)
        return status_line(None, "OK", code, f"{done} of {goal}, please wait")
