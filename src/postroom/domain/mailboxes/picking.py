"""A choice of messages in one mailbox, and the two forms of a statement that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from postroom.store.sql import Form, Picking

FEW: Final = 100
"""So few that a unit on them is a light one: `units.Database.write`."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice of UIDs in one mailbox: those from `first` to `last`, or of them only `uids`.

    A session whose choice is contiguous in its view gives no list, and the engine walks one
    range. UIDs that do not exist are passed over.
    """

    first: int
    last: int
    uids: Sequence[int] | None = None

    @classmethod
    def of(cls, uids: Sequence[int]) -> Pick:
        """The choice of just these, in ascending order and not empty."""
        return cls(uids[0], uids[-1], None if are_neighbours(uids) else uids)

    @property
    def few(self) -> bool:
        """At most FEW."""
        count = self.last - self.first + 1 if self.uids is None else len(self.uids)
        return count <= FEW

    def on(self, picking: Picking) -> Form:
        """The form of a statement that this choice takes."""
        return picking.by_range if self.uids is None else picking.by_list

    def up_to(self, last: int) -> Pick:
        """The choice without what lies beyond `last`."""
        if self.last <= last:
            return self
        listed = None if self.uids is None else [uid for uid in self.uids if uid <= last]
        return Pick(self.first, last, listed)

    def params(self, box: int) -> dict[str, Any]:
        """What that form is given."""
        if self.uids is None:
            return {"mailbox": box, "first": self.first, "last": self.last}
        return {"mailbox": box, "uids": self.uids}

    def runs(self) -> Iterator[tuple[int, int]]:
        """Its UIDs as ranges, ascending and disjoint."""
        return iter(((self.first, self.last),)) if self.uids is None else runs(self.uids)


def are_neighbours(uids: Sequence[int]) -> bool:
    """Whether ascending numbers leave none out."""
    return uids[-1] - uids[0] == len(uids) - 1


def runs(uids: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges."""
    if not uids:
        return
    if are_neighbours(uids):  # most choices of many
        yield uids[0], uids[-1]
        return
    first = last = uids[0]
    for uid in uids:
        if uid > last + 1:
            yield first, last
            first = uid
        last = uid
    yield first, last
