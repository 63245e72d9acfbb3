"""Operations on settings: what applies where, and why.

A place is written as `server`, `node:1`, `listener:smtp`, `domain:example.org` or
`account:ann@example.org`. Settings of an account are kept under its id, so they follow it when
its address changes and never pass to another account.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from postroom.admin.house import AdminHouse, caller_name, changed
from postroom.core.clock import iso
from postroom.core.errors import Misuse
from postroom.core.ids import CHANGE_SET, external
from postroom.core.operations import argument, operation
from postroom.core.secrets import veiled
from postroom.core.settings import (
    SETTINGS,
    Chain,
    Place,
    Role,
    Scope,
    Setting,
    Value,
    Values,
    chain,
    declared,
)
from postroom.domain import policy
from postroom.domain.changes import Changing, Kind
from postroom.domain.changes.objects import PLACES, place, place_name
from postroom.domain.changes.whole import set_values
from postroom.domain.directory import people
from postroom.domain.policy import Assignment, history
from postroom.domain.policy.history import Change, ChangeSet, Image
from postroom.domain.policy.secrets import secret_of
from postroom.store.sql import Tx

_PLACES = PLACES
_CHANGES = 1_000
DEFAULT_DOMAIN = "server.default_domain"


# --- places -----------------------------------------------------------------------------------

shown = place_name


def applying(tx: Tx, at: Place, node: str) -> Chain:
    """The places whose settings apply at a place, the nearest first."""
    here = Place(Scope.NODE, node)
    match at.scope:
        case Scope.SERVER:
            return chain()
        case Scope.NODE:
            return chain(at)
        case Scope.ACCOUNT:
            of = people.by_id(tx, int(at.object))
            return chain(at, Place(Scope.DOMAIN, of.domain), here)
    return chain(at, here)


def fits_here(house: AdminHouse, at: Place) -> None:
    """Raises Misuse for a listener that the running server does not have; a stopped one has not
    said which it has."""
    server = house.server()
    if at.scope is not Scope.LISTENER or server is None:
        return
    known = sorted({each.partition(" ")[0] for each in server.listeners})
    if at.object not in known:
        raise Misuse(f"There is no listener {at.object}; there are {', '.join(known)}")


# --- views ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SettingView:
    """A setting as it applies at a place."""

    name: str
    value: Value
    default: Value
    origin: str  # the place where the value was set, or "default"
    unit: str
    scopes: tuple[str, ...]
    help: str

    def told(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return "\n".join(
            (
                f"{self.name} = {spelled(self.value)}{unit}",
                f"  from {self.origin}; default {spelled(self.default)}{unit}; "
                f"can be set for {', '.join(self.scopes)}",
                f"  {self.help}",
            )
        )


@dataclass(frozen=True, slots=True)
class SettingLine:
    """A setting in a list."""

    name: str
    value: Value
    unit: str
    origin: str


@dataclass(frozen=True, slots=True)
class SettingDifference:
    """A value that somebody set."""

    at: str
    name: str
    value: Value
    default: Value


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One value of a change set."""

    id: str
    changed: str
    by: str
    at: str
    name: str
    was: str
    now: str
    reason: str


def spelled(value: Value) -> str:
    """A value as `settings set` takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        # With commas of their own, as JSON: `settings set` takes both.
        plain = not any("," in each for each in value)
        return (",".join(value) if plain else json.dumps(value)) or "(none)"
    return str(value) if value != "" else "(empty)"


def _effective(setting: Setting, along: Chain, values: Values) -> tuple[Value, Place | None]:
    for at in along:
        held = values.get(at, {})
        if setting.name in held:
            return held[setting.name], at
    return setting.default, None


def _view(tx: Tx, setting: Setting, along: Chain, values: Values) -> SettingView:
    value, at = _effective(setting, along, values)
    return SettingView(
        setting.name,
        veiled(value),
        setting.default,
        shown(tx, at) if at is not None else "default",
        setting.unit,
        tuple(map(str, setting.scopes)),
        setting.help,
    )


# --- operations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListSettings:
    """Settings by the beginning of their names."""

    prefix: str = argument("Only names that begin so, such as smtp.", default="")
    at: str = argument(f"What applies there: {_PLACES}; without it: on this node", default="")


@dataclass(frozen=True, slots=True)
class GetSetting:
    """One setting."""

    name: str = argument("The setting's name, such as smtp.max_size")
    at: str = argument(f"What applies there: {_PLACES}; without it: on this node", default="")


@dataclass(frozen=True, slots=True)
class SetSetting:
    """A value for a setting."""

    name: str = argument("The setting's name, such as smtp.max_size")
    value: str = argument("The value; several texts are separated by commas")
    at: str = argument(f"Where: {_PLACES}", default="server")

    def hides(self) -> frozenset[str]:
        """What is no secret's place is not let in, but somebody has said it."""
        setting = SETTINGS.get(self.name)
        return frozenset(("value",)) if setting is not None and setting.secret else frozenset()


@dataclass(frozen=True, slots=True)
class SetSecret:
    """A value for a setting that is a secret."""

    name: str = argument("The setting's name, such as relay.smart_host_password")
    value: str = argument("The secret", secret=True)
    at: str = argument(f"Where: {_PLACES}", default="server")


@dataclass(frozen=True, slots=True)
class UnsetSetting:
    """A value that goes."""

    name: str = argument("The setting's name, such as smtp.max_size")
    at: str = argument(f"Where: {_PLACES}", default="server")


@dataclass(frozen=True, slots=True)
class SettingsHistory:
    """How far back."""

    limit: int = argument("How many changes", default=50)


@dataclass(frozen=True, slots=True)
class Differences:
    """No argument."""


def _along(tx: Tx, house: AdminHouse, at: str) -> Chain:
    node = house.flow.node
    return applying(tx, place(tx, at or f"node:{node}"), node)


@operation("settings list", Role.ADMIN, changes=False)
async def list_settings(house: AdminHouse, asked: ListSettings) -> tuple[SettingLine, ...]:
    """List the settings with the values that apply and where each comes from."""

    def look(tx: Tx) -> tuple[SettingLine, ...]:
        along, values = _along(tx, house, asked.at), policy.stored(tx)
        views = (
            _view(tx, setting, along, values)
            for name, setting in sorted(SETTINGS.items())
            if name.startswith(asked.prefix)
        )
        return tuple(SettingLine(v.name, v.value, v.unit, v.origin) for v in views)

    return await house.flow.mail.read_much(look)


@operation("settings get", Role.ADMIN, changes=False)
async def get_setting(house: AdminHouse, asked: GetSetting) -> SettingView:
    """Show a setting: the value that applies, its origin, its default, what it does."""
    setting = declared(asked.name)

    def look(tx: Tx) -> SettingView:
        return _view(tx, setting, _along(tx, house, asked.at), policy.stored(tx))

    return await house.flow.mail.read_much(look)


@operation("settings set", Role.ADMIN)
async def set_setting(house: AdminHouse, asked: SetSetting) -> SettingView:
    """Set a value somewhere. It applies at once, without a restart."""
    value = declared(asked.name).parse(asked.value)
    return await _change(house, asked.name, value, asked.at)


@operation("settings secret", Role.ADMIN)
async def set_secret(house: AdminHouse, asked: SetSecret) -> SettingView:
    """Set a value that is a secret, such as a password that has to be said to another server. It
    is sealed with a key of this server before it is stored, and shown to nobody."""
    if not declared(asked.name).secret:
        raise Misuse(f"{asked.name} is no secret: use `settings set`")
    if not asked.value:
        raise Misuse("A secret is not empty: `settings unset` takes it away")

    def sealed(at: Place) -> Value:
        return house.flow.secrets.seal(asked.value, secret_of(at, asked.name))

    return await _change(house, asked.name, sealed, asked.at)


@operation("settings unset", Role.ADMIN)
async def unset_setting(house: AdminHouse, asked: UnsetSetting) -> SettingView:
    """Take a value away again: what is set farther off, or the default, applies."""
    return await _change(house, asked.name, None, asked.at)


async def _change(
    house: AdminHouse, name: str, value: Value | Callable[[Place], Value] | None, at: str
) -> SettingView:
    """Set or unset a value; one that depends on the place is made where that is known."""
    setting, node = declared(name), house.flow.node

    def unit(changing: Changing) -> SettingView:
        tx = changing.tx
        where = place(tx, at)
        set_to = value(where) if callable(value) else value
        if set_to is not None:  # what stands where nothing is may still be taken away
            fits_here(house, where)
            if name == DEFAULT_DOMAIN:
                people.domain(tx, str(set_to))  # raises NotFound, Malformed
        set_values(changing, [Assignment(where, name, set_to)])
        return _view(tx, setting, applying(tx, where, node), policy.stored(tx))

    return await changed(house, unit)


@operation("settings diff", Role.ADMIN, changes=False)
async def diff_settings(house: AdminHouse, asked: Differences) -> tuple[SettingDifference, ...]:
    """Show every value that somebody set, beside its default."""

    def look(tx: Tx) -> tuple[SettingDifference, ...]:
        found = [
            SettingDifference(shown(tx, at), name, veiled(value), SETTINGS[name].default)
            for at, held in policy.stored(tx).items()
            for name, value in held.items()
        ]
        return tuple(sorted(found, key=lambda each: (each.at, each.name)))

    return await house.flow.mail.read_much(look)


@operation("settings history", Role.ADMIN, changes=False)
async def settings_history(house: AdminHouse, asked: SettingsHistory) -> tuple[SettingChange, ...]:
    """Show who changed which setting when and why, the latest first."""
    if not 1 <= asked.limit <= _CHANGES:
        raise Misuse(f"A limit is from 1 to {_CHANGES}")

    def look(tx: Tx) -> tuple[SettingChange, ...]:
        found: list[SettingChange] = []
        for made in history.latest_of_kind(tx, Kind.SETTING, asked.limit):
            by = caller_name(tx, made.note.author)
            found += [_setting_change(made, c, by) for c in made.diff if c.kind == Kind.SETTING]
        return tuple(found)

    return await house.flow.mail.read_much(look)


def _setting_change(made: ChangeSet, change: Change, by: str) -> SettingChange:
    at, _, name = change.name.rpartition(" ")
    return SettingChange(
        external(CHANGE_SET, made.id),
        iso(made.note.at),
        by,
        at,
        name,
        _told(change.was),
        _told(change.is_),
        made.note.reason,
    )


def _told(image: Image | None) -> str:
    if image is None:
        return "(not set)"
    value = veiled(image["value"])
    return spelled(tuple(value) if isinstance(value, list) else value)


# --- why a value applies ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExplainSetting:
    """One setting somewhere."""

    name: str = argument("The setting's name, such as quota.octets")
    at: str = argument(f"What applies there: {_PLACES}; without it: on this node", default="")


@dataclass(frozen=True, slots=True)
class SettingStep:
    """One place that was looked at, the nearest first; the last is the default."""

    at: str
    value: str
    applies: bool
    by: str
    set: str
    reason: str
    change_set: str


@operation("settings explain", Role.ADMIN, changes=False)
async def explain_setting(house: AdminHouse, asked: ExplainSetting) -> tuple[SettingStep, ...]:
    """Say why a value applies somewhere: each place that is looked at, the nearest first, with
    who set it there, when and why."""
    setting = declared(asked.name)

    def look(tx: Tx) -> tuple[SettingStep, ...]:
        steps: list[SettingStep] = []
        values = policy.stored(tx)
        won = False
        for at in _along(tx, house, asked.at):
            if at.scope in setting.scopes:
                steps.append(_step(tx, setting, at, values, not won))
                won = won or steps[-1].applies
        return (*steps, SettingStep("default", spelled(setting.default), not won, "", "", "", ""))

    return await house.flow.mail.read_much(look)


def _step(tx: Tx, setting: Setting, at: Place, values: Values, first: bool) -> SettingStep:
    held = values.get(at, {})
    if setting.name not in held:
        return SettingStep(shown(tx, at), "(not set)", False, "", "", "", "")
    made = history.find(tx, policy.set_by(tx, at, setting.name))
    value = spelled(veiled(held[setting.name]))
    if made is None:  # the history was forgotten since
        return SettingStep(shown(tx, at), value, first, "", "", "", "")
    return SettingStep(
        shown(tx, at),
        value,
        first,
        caller_name(tx, made.note.author),
        iso(made.note.at),
        made.note.reason,
        external(CHANGE_SET, made.id),
    )
