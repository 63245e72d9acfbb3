"""Policy: the values of settings that are kept, and what applies where.

Called by every room that follows a setting, and by administration. May import: store, core,
domain.events. A cached answer carries the version it was read under: `Policies.current` costs
one point read when nothing changed, so that a change applies at once, without restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
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


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Settings changed together, by whom and why."""

    id: int
    at: Instant
    author: int
    reason: str
    diff: tuple[Mapping[str, Any], ...]


def change(
    tx: Tx, assignments: Iterable[Assignment], change_set: int, now: Instant, author: int,
    reason: str,
) -> ChangeSet:  # fmt: skip
    """Set and unset values together; raises NotFound or Misuse, and then changes nothing."""
    diff: list[Mapping[str, Any]] = []
    for a in assignments:
        setting: Setting = declared(a.name)
        if a.place.scope not in setting.scopes:
            allowed = ", ".join(setting.scopes)
            raise Misuse(f"{a.name} can be set for: {allowed}")
        at = {"scope": str(a.place.scope), "object": a.place.object, "name": a.name}
        row = tx.one(tables.ONE, **at)
        was = json.loads(row[0]) if row is not None else None
        text = None if a.value is None else json.dumps(setting.check(a.value))
        if text is None:
            tx.run(tables.UNSET, **at)
        else:
            tx.run(tables.SET, **at, value=text, change_set=change_set)
        diff.append({**at, "was": was, "is": None if text is None else json.loads(text)})
    tx.run(
        tables.INSERT_CHANGE_SET,
        id=change_set,
        now=now,
        author=author,
        reason=reason,
        diff=json.dumps(diff),
    )
    tx.run(tables.RAISE_VERSION, what=SETTINGS_VERSION)
    tx.after(DirectoryChanged())
    return ChangeSet(change_set, now, author, reason, tuple(diff))


def change_sets(tx: Tx, limit: int) -> list[ChangeSet]:
    """The latest change sets."""
    rows = tx.all(tables.CHANGE_SETS, limit=limit)
    return [ChangeSet(i, at, who, why, tuple(json.loads(d))) for i, at, who, why, d in rows]
