"""A change set while its unit runs."""

from __future__ import annotations

from postroom.core.errors import LimitReached
from postroom.domain.changes.objects import Kind, Seen, look
from postroom.domain.policy import history
from postroom.domain.policy.history import MOST, ChangeSet, Note
from postroom.store.sql import Tx


class Changing:
    """What a unit changes, with what was there before it did.

    A unit touches each object, then changes it by the functions of its room; `finish` finds out
    what differs. So no room below knows of the history.
    """

    __slots__ = ("_before", "_since", "note", "tx")

    def __init__(self, tx: Tx, note: Note) -> None:
        self.tx = tx
        self.note = note
        self._before: dict[tuple[Kind, str], Seen | None] = {}
        self._since: dict[str, str] = {}

    def touch(self, kind: Kind, key: str) -> None:
        """Before an object changes, is made or goes; raises LimitReached beyond what a unit may
        touch."""
        if (kind, key) in self._before:
            return
        if len(self._before) >= MOST:
            raise LimitReached(f"That would change more than {MOST:,} things at once")
        self._before[kind, key] = look(self.tx, kind, key)

    def finish(self) -> ChangeSet | None:
        """Write what differs into the history; None if nothing does."""
        diff = []
        for (kind, key), before in self._before.items():
            after = self._after(kind, key)
            was = before.image if before is not None else None
            is_ = after.image if after is not None else None
            if was == is_:
                continue
            named = before or after
            assert named is not None  # one of them differs from None
            diff.append(history.difference(str(kind), key, named.name, was, is_))
        return history.record(self.tx, self.note, diff) if diff else None

    def set_since(self, key: str, since: str) -> None:
        """A password that was touched is now the one that the change set `since` set first."""
        self._since[key] = since

    def _after(self, kind: Kind, key: str) -> Seen | None:
        found = look(self.tx, kind, key)
        if found is not None and key in self._since and kind is Kind.PASSWORD:
            return Seen(found.name, {"since": self._since[key]})
        return found
