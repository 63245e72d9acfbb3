"""Messages that a command chose, in pieces of which each is one question to the store."""

from __future__ import annotations

import array
from collections.abc import Sequence

from postroom.domain.mailboxes.picking import Pick
from postroom.protocols.imap.view import Range, View


def picks(view: View, ranges: Sequence[Range], size: int) -> list[tuple[Range, Pick]]:
    """The chosen messages in pieces of at most `size`, each with what the store is asked.

    Neighbouring small ranges go together as a list; a long range goes without one.
    """
    made: list[tuple[Range, Pick]] = []
    held = array.array("I")
    first = last = 0
    for lo, hi in ranges:
        at = lo
        while at <= hi:
            end = min(hi, at + size - 1)
            alone = end - at + 1 >= size // 4
            if held and (alone or len(held) + end - at + 1 > size):
                made.append(((first, last), Pick.of(held.tolist())))
                held = array.array("I")
            if alone:
                made.append(((at, end), Pick(view.uid(at), view.uid(end))))
            else:
                first = first if held else at
                held += view.uids(at, end)
                last = end
            at = end + 1
    if held:
        made.append(((first, last), Pick.of(held.tolist())))
    return made
