"""Policy: the values of settings that are kept, and what applies where.

Called by every room that follows a setting, and by administration. May import: store, core,
domain.events. A cached answer carries the version it was read under: `Policies.current` costs
one point read when nothing changed, so that a change applies at once, without restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from postroom.core.clock import Instant
from postroom.core.errors import Misuse
from postroom.core.settings import (
    SETTINGS,
    Chain,
    Effective,
    Place,
    Scope,
    Setting,
    Value,
    Values,
    declared,
    resolve,
)
from postroom.domain.events import DirectoryChanged
from postroom.domain.policy import tables
from postroom.domain.policy.history import (
    Change,
    ChangeSet,
    Image,
    Note,
    difference,
    record,
)
from postroom.store.sql import Tx

G = TypeVar("G")
SETTINGS_VERSION: Final = "settings"


class Policy:
    """All settings as they apply to one chain of places; immutable."""

    __slots__ = ("_along", "_groups", "_values")

    def __init__(self, along: Chain, values: Values) -> None:
        self._along = along
        self._values = values
        self._groups: dict[type, Effective[Any]] = {}

    def of(self, group: type[G]) -> G:
        """The effective values of a group."""
        return self.effective(group).values

    def effective(self, group: type[G]) -> Effective[G]:
        """The effective values of a group, with their origins."""
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = resolve(group, self._along, self._values)
        return found

    def origin(self, name: str) -> str:
        """Where the value of a setting comes from, for the trace."""
        for place in self._along:
            if name in self._values.get(place, {}):
                return str(place)
        return "default"


class Policies:
    """The policies of one worker, remade when the store's version of the settings moves."""

    def __init__(self) -> None:
        self._version = -1
        self._values: Values = {}
        self._made: dict[Chain, Policy] = {}

    def current(self, tx: Tx, along: Chain) -> Policy:
        """The policy that applies along a chain, true for this transaction's snapshot."""
        row = tx.one(tables.VERSION_OF, what=SETTINGS_VERSION)
        version = int(row[0]) if row is not None else 0
        if version != self._version:
            self._values = stored(tx)
            self._made.clear()
            self._version = version
        return self.latest(along)

    def latest(self, along: Chain) -> Policy:
        """The policy along a chain under the version that was read last: for what announces."""
        policy = self._made.get(along)
        if policy is None:
            if len(self._made) >= _MOST_CHAINS:
                self._made.clear()
            policy = self._made[along] = Policy(along, self._values)
        return policy


_MOST_CHAINS: Final = 10_000
_SCOPES: Final = frozenset(map(str, Scope))


def stored(tx: Tx) -> Values:
    """Every value that was set and that this release takes.

    What another release left, a name that is declared no more or a value that a bound now
    excludes, is passed over: mail has to flow. `unfit` tells an administrator of it.
    """
    values: dict[Place, dict[str, Value]] = {}
    for scope, object_, name, text in tx.all(tables.ALL):
        taken = _taken(scope, name, text)
        if not isinstance(taken, str):
            place = Place(Scope(scope), object_)
            values.setdefault(place, {})[name] = taken.value
    return values


def unfit(tx: Tx) -> list[str]:
    """What was set and is passed over, with the reason, a line each."""
    found: list[str] = []
    for scope, object_, name, text in tx.all(tables.ALL):
        taken = _taken(scope, name, text)
        if isinstance(taken, str):
            where = f"{scope}:{object_}" if object_ else scope
            found.append(f"{where} {name}: {taken}")
    return found


@dataclass(frozen=True, slots=True)
class _Taken:
    value: Value


def _taken(scope: str, name: str, text: str) -> _Taken | str:
    """A stored value, or why this release does not take it."""
    if scope not in _SCOPES:
        return "no such scope"
    setting = SETTINGS.get(name)
    if setting is None:
        return "no such setting"
    try:
        return _Taken(setting.check(json.loads(text)))
    except Misuse as error:
        return str(error)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value for a setting at a place; None takes the value away."""

    place: Place
    name: str
    value: Value | None


def change(
    tx: Tx, assignments: Iterable[Assignment], change_set: int, now: Instant, author: int,
    reason: str,
) -> ChangeSet:  # fmt: skip
    """`assign` as a change set of its own, by nobody's operation."""
    diff = assign(tx, assignments, change_set)
    return record(tx, Note(change_set, now, author, "", reason), diff)


def assign(tx: Tx, assignments: Iterable[Assignment], change_set: int) -> list[Change]:
    """Set and unset values together, as a part of a change set that the caller records; returns
    what changed. Raises NotFound or Misuse, and then changes nothing.
    """
    diff: list[Change] = []
    for a in assignments:
        at = {"scope": str(a.place.scope), "object": a.place.object, "name": a.name}
        was = value_at(tx, a.place, a.name)
        is_: Image | None = None
        if a.value is not None:
            text = json.dumps(_fitting(a).check(a.value))
            tx.run(tables.SET, **at, value=text, change_set=change_set)
            is_ = {"value": json.loads(text)}
        elif was is not None:  # also what another release left: it may go
            tx.run(tables.UNSET, **at)
        else:
            _fitting(a)
        if was != is_:
            key = setting_key(a.place, a.name)
            diff.append(difference("setting", key, key, was, is_))
    tx.run(tables.RAISE_VERSION, what=SETTINGS_VERSION)
    tx.after(DirectoryChanged())
    return diff


def _fitting(a: Assignment) -> Setting:
    """The setting, if it can be set there; raises NotFound, Misuse."""
    setting = declared(a.name)
    if a.place.scope not in setting.scopes:
        allowed = ", ".join(setting.scopes)
        raise Misuse(f"{a.name} can be set for: {allowed}")
    return setting


def setting_key(place: Place, name: str) -> str:
    """How the history knows the value of a setting at a place."""
    return f"{place} {name}"


def setting_of(key: str) -> tuple[Place, str]:
    """The place and the name in a `setting_key`."""
    place, _, name = key.rpartition(" ")
    scope, _, object_ = place.partition(":")
    return Place(Scope(scope), object_), name


def value_at(tx: Tx, place: Place, name: str) -> Image | None:
    """The value that was set at exactly this place, as the history has it; None without one."""
    row = tx.one(tables.ONE, scope=str(place.scope), object=place.object, name=name)
    return {"value": json.loads(row[0])} if row is not None else None


def set_by(tx: Tx, place: Place, name: str) -> int:
    """The change set that set the value at exactly this place; 0 if none is set."""
    row = tx.one(tables.SETTING_ROW, scope=str(place.scope), object=place.object, name=name)
    return int(row[1]) if row is not None else 0


def names_at(tx: Tx, place: Place) -> list[str]:
    """Every name that is set at exactly this place, also what this release does not know."""
    rows = tx.all(tables.OF_PLACE, scope=str(place.scope), object=place.object)
    return sorted(row[0] for row in rows)
