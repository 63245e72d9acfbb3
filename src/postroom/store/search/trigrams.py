"""The trigrams of a folded text.

A trigram is three characters in a row. It is kept as a number, 21 bits each: 63 bits, which both
engines keep as a positive integer and order alike, whatever the collation of a database is. While
a segment is gathered it stays a string: so it is counted once for a segment, not for each message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_CHUNK: Final = 16 * 1024
"""Characters looked at in one go."""
# The windows are made once: taking each of a text is then one loop in C.
_WINDOWS: Final = tuple(slice(at, at + 3) for at in range(_CHUNK))


def trigrams(folded: str) -> frozenset[int]:
    """All trigrams of a text; none if it has fewer than three characters: then look at it."""
    found: set[str] = set()
    for chunk in _chunks(folded):
        _take(chunk, found)
    return frozenset(map(number, found))


def _chunks(text: str) -> Iterator[str]:
    """A text cut into chunks that overlap by two, so that each trigram is in one of them."""
    for start in range(0, len(text) - 2, _CHUNK):
        yield text[start : start + _CHUNK + 2]


def _take(chunk: str, found: set[str]) -> None:
    found.update(map(chunk.__getitem__, _WINDOWS[: len(chunk) - 2]))


def number(trigram: str) -> int:
    """A trigram as it is kept."""
    first, second, third = map(ord, trigram)
    return first << 42 | second << 21 | third


class Collector:
    """Gathers the trigrams of one message from texts that come in pieces, up to a bound.

    Past the bound the message is `over`: it is in no set and has to be a candidate always.
    """

    __slots__ = ("_found", "_most", "_tail", "over")

    def __init__(self, most: int) -> None:
        """`most`: distinct trigrams that are kept: it bounds memory, whatever a stranger sends."""
        self._most = most
        self._found: set[str] = set()
        self._tail = ""
        self.over = False

    def feed(self, folded: str) -> None:
        """The next piece of a text; what stands across the cut counts. Linear."""
        if self.over:
            return
        text = self._tail + folded
        for chunk in _chunks(text):
            _take(chunk, self._found)
            if len(self._found) > self._most:
                self.over = True
                self._found.clear()
                return
        self._tail = text[-2:]

    def stop(self) -> None:
        """The text ends here: what comes next is another."""
        self._tail = ""

    def found(self) -> frozenset[str]:
        """The trigrams; nothing if the message is `over`."""
        return frozenset(self._found)
