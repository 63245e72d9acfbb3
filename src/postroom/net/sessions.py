"""What a session says of itself to an administrator, and how it is asked to end.

A `Handler` may speak this too: then it is listed and can be closed. Nothing is kept for it: what
is told is read off the session when somebody asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from postroom.core.clock import Instant


@dataclass(frozen=True, slots=True)
class Described:
    """One session."""

    id: str  # as in log and trace
    protocol: str  # smtp, submission, lmtp, imap, ...
    who: str  # the address of who signed in; empty: nobody yet
    state: str  # in a few words
    since: Instant


@runtime_checkable
class Describes(Protocol):
    """A handler that can be listed and closed."""

    def describe(self) -> Described:
        """What the session is and does. Cheap; called on the loop."""
        ...

    def dismiss(self, sentence: str) -> bool:
        """Say goodbye as the protocol has it, with `sentence`, and close.

        False: something is under way that has to end first; then it does so by itself.
        """
        ...
