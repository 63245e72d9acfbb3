"""63-bit ids: made before the unit, passed in, stable when the unit is rerun.

Layout, high to low: 41 bits milliseconds since 2024-01-01, 6 bits node, 6 bits worker,
10 bits counter. Outside the house an id is a type letter and 13 characters of lowercase
base32, which sort as the numbers do.
"""

from __future__ import annotations

from typing import Final

from postroom.core.clock import Clock, Instant
from postroom.core.errors import Malformed

_EPOCH_MS: Final = 1_704_067_200_000  # 2024-01-01T00:00:00Z
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u to misread
_VALUE: Final = {c: n for n, c in enumerate(_ALPHABET)}
_DIGITS: Final = 13
_PAIRS: Final = tuple([high + low for high in _ALPHABET for low in _ALPHABET])

NODES: Final = 64
WORKERS: Final = 64


class Ids:
    """Makes ids for one worker of one node; never repeats, never goes back.

    If the clock goes back or more than 1,024 ids are made in a millisecond, the maker runs
    ahead of the clock instead of waiting.
    """

    __slots__ = ("_clock", "_last", "_low")

    def __init__(self, clock: Clock, *, node: int = 0, worker: int = 0) -> None:
        if not 0 <= node < NODES or not 0 <= worker < WORKERS:
            raise ValueError("node and worker are 0..63")
        self._clock = clock
        self._low = (node << 16) | (worker << 10)
        self._last = 0  # (milliseconds << 10) | counter

    def new(self) -> int:
        """A fresh id, greater than every earlier one of this maker."""
        tick = (self._clock.now() - _EPOCH_MS) << 10
        self._last = tick if tick > self._last else self._last + 1
        return ((self._last >> 10) << 22) | self._low | (self._last & 0x3FF)


def external(letter: str, value: int) -> str:
    """The id as others see it, such as `m0r5k2…`: a type letter and base32."""
    # Two digits at a time: every message has some of these made.
    pairs = _PAIRS
    return (
        f"{letter}{_ALPHABET[value >> 60 & 31]}{pairs[value >> 50 & 1023]}"
        f"{pairs[value >> 40 & 1023]}{pairs[value >> 30 & 1023]}{pairs[value >> 20 & 1023]}"
        f"{pairs[value >> 10 & 1023]}{pairs[value & 1023]}"
    )


def internal(letter: str, text: str) -> int:
    """The number behind an external id; raises Malformed if it is not one of that type."""
    if len(text) != _DIGITS + 1 or text[0] != letter:
        raise Malformed("Not an id of this type")
    value = 0
    for c in text[1:]:
        digit = _VALUE.get(c)
        if digit is None:
            raise Malformed("Not an id of this type")
        value = value * 32 + digit
    if value >= 1 << 63:
        raise Malformed("Not an id of this type")
    return value


# The type letters, in one place so that none is used twice.
ACCOUNT: Final = "a"
BLOB: Final = "b"
CHANGE_SET: Final = "c"
DOMAIN: Final = "d"
JOB: Final = "j"
MAILBOX: Final = "x"
MESSAGE: Final = "m"
QUEUE: Final = "q"
REPORT: Final = "p"
SESSION: Final = "s"
THREAD: Final = "t"
TRACE: Final = "r"


def made_at(value: int) -> Instant:
    """When an id was made, by the clock of its maker."""
    return Instant((value >> 22) + _EPOCH_MS)
