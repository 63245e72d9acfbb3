"""The history: change sets, each what somebody changed at one moment, and why.

A change set is written in the unit of its changes and never edited. It says of each object what
was and what is, enough to take it back; `domain.changes` does that. No secret stands in it but a
sealed one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, NotFound
from postroom.core.ids import CHANGE_SET, external
from postroom.domain.policy import tables
from postroom.store.sql import Row, Tx, keepable
from postroom.store.units import UNIT_ROWS

Image = Mapping[str, Any]
"""An object's fields as JSON has them."""

MOST: Final = UNIT_ROWS
"""Objects that one change set may change: what a unit may touch."""
ARROW: Final = " -> "
"""Between the two addresses in the name of an alias."""
_KEY_LENGTH: Final = 400


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one object.

    `was` is None if it was not there, `is_` if it is there no more; where both are given they
    hold the fields that differ.
    """

    kind: str  # domain, account, password, alias, setting
    key: str  # which one, for ever: not its name, which may change
    name: str  # as people called it then
    was: Image | None
    is_: Image | None

    @property
    def object(self) -> str:
        return f"{self.kind} {self.key}"


@dataclass(frozen=True, slots=True)
class Note:
    """Who changes something now, by which operation, and why. `id` is the change set's."""

    id: int
    at: Instant
    author: int  # a principal; 0 is whoever owns the data directory
    operation: str
    reason: str
    reverts: int = 0


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What was changed together."""

    note: Note
    diff: tuple[Change, ...]

    @property
    def id(self) -> int:
        return self.note.id


def difference(kind: str, key: str, name: str, was: Image | None, is_: Image | None) -> Change:
    """A change from two whole images: what is the same in both is left out."""
    if was is not None and is_ is not None:
        differing = [field for field in {**was, **is_} if was.get(field) != is_.get(field)]
        was = {field: was.get(field) for field in differing}
        is_ = {field: is_.get(field) for field in differing}
    return Change(kind, key, name, was, is_)


def record(tx: Tx, note: Note, diff: Iterable[Change]) -> ChangeSet:
    """Write a change set; raises LimitReached for more than a unit may change."""
    made = ChangeSet(note, tuple(diff))
    if len(made.diff) > MOST:
        raise LimitReached(f"One change set holds at most {MOST:,} changes")
    tx.run(
        tables.INSERT_CHANGE_SET,
        id=note.id,
        at=note.at,
        author=note.author,
        operation=note.operation,
        reason=keepable(note.reason),
        reverts=note.reverts,
        diff=json.dumps([_packed(each) for each in made.diff], separators=(",", ":")),
    )
    keys = {key for each in made.diff for key in _keys(each)}
    if note.reverts:
        keys.add(reverting(note.reverts))
    tx.many(tables.INSERT_CHANGE_KEY, [{"key": key, "change_set": note.id} for key in sorted(keys)])
    return made


def reverting(change_set: int) -> str:
    """The key under which what takes a change set back is found."""
    return f"revert {external(CHANGE_SET, change_set)}"


def named(text: str) -> str:
    """The key of an object's name: an address, a domain, a setting; either case."""
    return keepable(text.strip().lower()[:_KEY_LENGTH])


def _of_kind(kind: str) -> str:
    return f"{kind} *"


def _keys(change: Change) -> Iterable[str]:
    yield keepable(change.object[:_KEY_LENGTH])
    yield _of_kind(change.kind)
    if change.kind == "setting":  # "domain:example.org quota.octets"
        place, _, name = change.name.rpartition(" ")
        yield from (named(place), named(place.partition(":")[2] or place), named(name))
    else:  # an alias is found by either end: "info@example.org -> ann@example.org"
        yield from map(named, change.name.split(ARROW))


def _packed(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "key": change.key,
        "name": change.name,
        "was": change.was,
        "is": change.is_,
    }


def _change_set(row: Row) -> ChangeSet:
    id_, at, author, operation, reason, reverts, diff = row
    changes = (Change(d["kind"], d["key"], d["name"], d["was"], d["is"]) for d in json.loads(diff))
    return ChangeSet(Note(id_, at, author, operation, reason, reverts), tuple(changes))


def find(tx: Tx, change_set: int) -> ChangeSet | None:
    """A change set, if it is kept."""
    row = tx.one(tables.CHANGE_SET_ROW, id=change_set)
    return _change_set(row) if row is not None else None


def get(tx: Tx, change_set: int) -> ChangeSet:
    """Raises NotFound."""
    found = find(tx, change_set)
    if found is None:
        raise NotFound(f"There is no change set {external(CHANGE_SET, change_set)}")
    return found


def latest(tx: Tx, limit: int, operation: str = "") -> list[ChangeSet]:
    """The latest change sets, or those of one operation, the newest first."""
    rows = tx.all(tables.CHANGE_SETS, operation=operation, limit=limit)
    return [_change_set(row) for row in rows]


def of(tx: Tx, key: str, limit: int) -> list[ChangeSet]:
    """Those that changed an object: its key, or a name it had by `named`; the newest first."""
    return [_change_set(row) for row in tx.all(tables.CHANGE_SETS_OF, key=key, limit=limit)]


def latest_of_kind(tx: Tx, kind: str, limit: int) -> list[ChangeSet]:
    """The latest that changed an object of a kind, the newest first."""
    return of(tx, _of_kind(kind), limit)


def by(tx: Tx, author: int, limit: int, operation: str = "") -> list[ChangeSet]:
    """Those that a principal made, or those of them by one operation, the newest first."""
    rows = tx.all(tables.CHANGE_SETS_BY, author=author, operation=operation, limit=limit)
    return [_change_set(row) for row in rows]


def forget(tx: Tx, before: Instant, limit: int = UNIT_ROWS // 10) -> int:
    """Forget change sets older than `before`; returns how many. They can be reverted no more."""
    ids = [row[0] for row in tx.all(tables.OLD_CHANGE_SETS, before=before, limit=limit)]
    if ids:
        tx.run(tables.FORGET_CHANGE_KEYS, ids=ids)
        tx.run(tables.FORGET_CHANGE_SETS, ids=ids)
    return len(ids)
