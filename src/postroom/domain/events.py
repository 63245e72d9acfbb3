"""What units say after their commit. Hints only: the store is the truth."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class Type(IntFlag):
    """The kinds of objects whose last change an account remembers."""

    EMAIL = 1
    MAILBOX = 2
    THREAD = 4
    IDENTITY = 8


@dataclass(frozen=True, slots=True)
class Changed:
    """Objects of `types` in `account` changed; its modseq is now at least `modseq`."""

    account: int
    modseq: int
    types: Type


@dataclass(frozen=True, slots=True)
class QueueReady:
    """Something was put into the queue; whoever runs it may look now."""

    destination: int = 0  # where; 0: in many places


@dataclass(frozen=True, slots=True)
class DirectoryChanged:
    """Domains, accounts, aliases, credentials or settings changed: cached answers are old."""
