"""INPROGRESS: who waits for long is told how far a command has come. RFC 9585."""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Clock

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
        """The code to tell now of `done` things out of `goal`; mostly none, and none of
        what is done: its tagged reply follows. RFC 9585 §4."""
        now = self._clock.monotonic()
        if now < self._due or done >= goal:
            return b""
        self._due = now + EVERY
        # Some clients look for the end of a code by its bracket, wherever it stands.
        tag = b'"%b"' % self._tag if b"]" not in self._tag else b"NIL"
        return b"INPROGRESS (%b %d %d)" % (tag, done, goal)
