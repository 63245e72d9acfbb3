"""PARTIAL: a page of results, counted from the first or from the last. RFC 9394 §4."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from postroom.wire.imap.cursor import NUMBER32, BadSyntax, Cursor

_RANGE: Final = re.compile(rb"(-?+)([1-9][0-9]{0,9}+):\1([1-9][0-9]{0,9}+)(?=[ )])")


@dataclass(frozen=True, slots=True)
class Partial:
    """Two places as they were given, in either order. 1 is the first, or `from_end` the last."""

    one: int
    other: int
    from_end: bool = False

    @property
    def highest(self) -> int:
        """The place that is farthest from where counting begins."""
        return max(self.one, self.other)

    def cut(self, count: int) -> range:
        """The places that are meant among `count` results, from 0; empty if there are none."""
        first, last = min(self.one, self.other) - 1, min(self.highest, count)
        if self.from_end:
            first, last = count - last, count - first
        return range(min(first, last), last)

    def render(self) -> bytes:
        """The range as it was given."""
        sign = b"-" if self.from_end else b""
        return b"%b%d:%b%d" % (sign, self.one, sign, self.other)


def parse_partial(args: Cursor) -> Partial:
    """`partial-range`."""
    found = args.match(_RANGE)
    if found is None:
        raise BadSyntax("A range such as 1:100 or -1:-100 is missing")
    one, other = int(found[2]), int(found[3])
    if max(one, other) > NUMBER32:
        raise BadSyntax("A number is too large")
    return Partial(one, other, found[1] == b"-")
