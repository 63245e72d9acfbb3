"""The sealed values of settings: what each is of, and how they are sealed anew.

A former value stands sealed in the history, so that a change can be reverted; it is sealed anew
with the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from postroom.core.secrets import is_sealed
from postroom.core.settings import SETTINGS, Place
from postroom.domain.policy import setting_key, setting_of, tables
from postroom.domain.policy.history import named
from postroom.store.sql import Tx

Again = Callable[[str, str], str]
"""Of a sealed text, and of what it is a secret, the text sealed anew; the same if that need not
or cannot be."""

VALUES: Final = 500
"""Values that one unit seals anew."""
CHANGE_SETS: Final = 20
"""Change sets that one unit looks through."""


_KIND: Final = "setting "  # secrets of other kinds may come


def secret_of(place: Place, name: str) -> str:
    """What is authenticated with the value of a secret setting at a place."""
    return _of(setting_key(place, name))


def _of(key: str) -> str:
    return f"{_KIND}{key}"


def setting_in(of: str) -> tuple[Place, str]:
    """The place and the name that a `secret_of` names."""
    return setting_of(of.removeprefix(_KIND))


def names() -> tuple[str, ...]:
    """The settings that are secrets."""
    return tuple(name for name, setting in sorted(SETTINGS.items()) if setting.secret)


def kept(tx: Tx) -> dict[str, str]:
    """Every sealed value that is set, by what it is a secret of."""
    return {
        _of(f"{scope}:{object_} {name}" if object_ else f"{scope} {name}"): json.loads(text)
        for scope, object_, name, text in tx.all(tables.OF_NAMES, names=list(names()))
        if is_sealed(json.loads(text))
    }


Row = tuple[str, str, str]
"""Scope, object and name of a value; before the first: `FIRST`."""
FIRST: Final = ("", "", "")


def reseal(tx: Tx, again: Again, after: Row) -> tuple[int, Row | None]:
    """Seal the next values anew: how many were, and the last one that was looked at, or None at
    the end."""
    scope, object_, name = after
    done = 0
    rows = tx.all(
        tables.OF_NAMES_AFTER,
        names=list(names()),
        scope=scope,
        object=object_,
        name=name,
        limit=VALUES,
    )
    for scope, object_, name, text in rows:
        was = json.loads(text)
        if not is_sealed(was):
            continue
        place = f"{scope}:{object_}" if object_ else scope
        is_ = again(was, _of(f"{place} {name}"))
        if is_ != was:
            tx.run(tables.RESEAL, scope=scope, object=object_, name=name, value=json.dumps(is_))
            done += 1
    return done, (scope, object_, name) if len(rows) == VALUES else None


def reseal_history(tx: Tx, name: str, again: Again, after: int) -> tuple[int, int | None]:
    """Seal anew what the next change sets hold of a setting: how many values were, and the last
    of these change sets, or None at the end."""
    done = 0
    rows = tx.all(tables.CHANGE_SETS_AFTER, key=named(name), after=after, limit=CHANGE_SETS)
    for id_, diff in rows:
        changes = json.loads(diff)
        made = sum(_resealed(each, again) for each in changes)
        if made:
            text = json.dumps(changes, separators=(",", ":"))
            tx.run(tables.RESEAL_CHANGE_SET, id=id_, diff=text)
            done += made
    return done, int(rows[-1][0]) if len(rows) == CHANGE_SETS else None


def _resealed(change: dict[str, Any], again: Again) -> int:
    """Seal anew what a change holds; how many values were."""
    done = 0
    for image in _images(change):
        was = image["value"]
        image["value"] = again(was, _of(change["key"]))
        done += image["value"] != was
    return done


def _images(change: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The images of a change of a setting that hold a sealed value."""
    if change["kind"] != "setting":
        return
    for image in (change["was"], change["is"]):
        if image is not None and isinstance(image.get("value"), str) and is_sealed(image["value"]):
            yield image


def former(tx: Tx, name: str, after: int) -> tuple[list[str], int | None]:
    """The sealed values in the next change sets of a setting, and the last of these change sets,
    or None at the end."""
    rows = tx.all(tables.CHANGE_SETS_AFTER, key=named(name), after=after, limit=CHANGE_SETS)
    found = [
        image["value"]
        for _, diff in rows
        for change in json.loads(diff)
        for image in _images(change)
    ]
    return found, int(rows[-1][0]) if len(rows) == CHANGE_SETS else None
