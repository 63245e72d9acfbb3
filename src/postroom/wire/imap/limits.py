"""What a connection may make us hold: limits for one command, a budget for all that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KIB: Final = 1024
_MIB: Final = 1024 * 1024


class Budget:
    """A count of bytes that are held, and how many may be.

    One for each connection, or one shared by many: who holds bytes takes them here first
    and gives them back. The session raises `limit` when someone signs in.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserve `size` bytes; False, and nothing reserved, if that is over the limit."""
        used = self.used + size
        if used > self.limit:
            return False
        self.used = used
        return True

    def give(self, size: int) -> None:
        """Return what was taken."""
        self.used -= size


@dataclass(frozen=True, slots=True)
class Limits:
    """What one command may be. All sizes are octets.

    The lines of a command count together, so do its collected literals (each with 128
    octets more, so that many empty ones are not free). A literal that is streamed counts
    against `append` alone; with `append` 0 none is streamed.
    """

    line: int = 64 * _KIB
    literal: int = 64 * _KIB
    literals_total: int = 512 * _KIB
    depth: int = 50
    append: int = 50 * _MIB
    nonsync: int | None = None
    """The largest literal that needs no permission: 4096 for LITERAL- (RFC 7888 §5)."""
    discard: int = 100 * _MIB
    """What is read and dropped of a refused command before the connection is given up."""


SIGNED_IN: Final = Limits()
BEFORE_SIGN_IN: Final = Limits(
    line=16 * _KIB,  # room for a SASL response that carries an OAuth token
    literal=4 * _KIB,
    literals_total=64 * _KIB,
    append=0,
    discard=256 * _KIB,
)
PIECE_OVERHEAD: Final = 128  # what CPython keeps for a literal and the line after it
