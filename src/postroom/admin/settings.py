"""Operations on settings: what applies where, and why.

A place is written as `server`, `node:1`, `listener:smtp`, `domain:example.org` or
`account:ann@example.org`. Settings of an account are kept under its id, so they follow it when
its address changes and never pass to another account.
"""

from __future__ import annotations

from dataclasses import dataclass

from postroom.admin.house import AdminHouse
from postroom.core.clock import iso
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.ids import ACCOUNT, CHANGE_SET, external
from postroom.core.operations import argument, operation
from postroom.core.settings import (
    SERVER,
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
from postroom.domain.directory import people
from postroom.domain.policy import Assignment
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Tx

_PLACES = "server, node:N, listener:NAME, domain:NAME or account:ADDRESS"
_CHANGES = 1_000


# --- places -----------------------------------------------------------------------------------


def place(tx: Tx, text: str) -> Place:
    """The place that an operator names; raises Misuse, NotFound for what is not there."""
    scope, _, of = text.partition(":")
    match scope:
        case Scope.SERVER if not of:
            return SERVER
        case Scope.NODE if of.isascii() and of.isdecimal():
            return Place(Scope.NODE, str(int(of)))
        case Scope.LISTENER if of:
            return Place(Scope.LISTENER, of)
        case Scope.DOMAIN if of:
            return Place(Scope.DOMAIN, people.domain(tx, of).name)
        case Scope.ACCOUNT if of:
            return Place(Scope.ACCOUNT, str(people.account(tx, parse_mailbox(of)).id))
    raise Misuse(f"A place is {_PLACES}, not {text}")


def shown(tx: Tx, at: Place) -> str:
    """The place as an operator names it."""
    if at.scope is not Scope.ACCOUNT:
        return str(at)
    try:
        return f"account:{people.by_id(tx, int(at.object)).address}"
    except (NotFound, Malformed):
        return f"account {external(ACCOUNT, int(at.object))}, which is gone"


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
        return ",".join(value) or "(none)"
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
        value,
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
    reason: str = argument("Why, for whoever reads the history", default="")


@dataclass(frozen=True, slots=True)
class UnsetSetting:
    """A value that goes."""

    name: str = argument("The setting's name, such as smtp.max_size")
    at: str = argument(f"Where: {_PLACES}", default="server")
    reason: str = argument("Why, for whoever reads the history", default="")


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
    return await _change(house, asked.name, value, asked.at, asked.reason)


@operation("settings unset", Role.ADMIN)
async def unset_setting(house: AdminHouse, asked: UnsetSetting) -> SettingView:
    """Take a value away again: what is set farther off, or the default, applies."""
    return await _change(house, asked.name, None, asked.at, asked.reason)


async def _change(
    house: AdminHouse, name: str, value: Value | None, at: str, reason: str
) -> SettingView:
    flow, setting = house.flow, declared(name)
    change_set, now = flow.ids.new(), flow.clock.now()

    def unit(tx: Tx) -> SettingView:
        where = place(tx, at)
        assignment = Assignment(where, name, value)
        policy.change(tx, [assignment], change_set, now, house.caller.principal, reason)
        return _view(tx, setting, applying(tx, where, flow.node), policy.stored(tx))

    return await flow.mail.write(unit)


@operation("settings diff", Role.ADMIN, changes=False)
async def diff_settings(house: AdminHouse, asked: Differences) -> tuple[SettingDifference, ...]:
    """Show every value that somebody set, beside its default."""

    def look(tx: Tx) -> tuple[SettingDifference, ...]:
        found = [
            SettingDifference(shown(tx, at), name, value, SETTINGS[name].default)
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
        for made in policy.change_sets(tx, asked.limit):
            by = _who(tx, made.author)
            for each in made.diff:
                at = shown(tx, Place(Scope(each["scope"]), each["object"]))
                found.append(
                    SettingChange(
                        external(CHANGE_SET, made.id),
                        iso(made.at),
                        by,
                        at,
                        each["name"],
                        _told(each["was"]),
                        _told(each["is"]),
                        made.reason,
                    )
                )
        return tuple(found)

    return await house.flow.mail.read_much(look)


def _who(tx: Tx, author: int) -> str:
    if not author:
        return "the command line"
    try:
        return str(people.by_id(tx, author).address)
    except (NotFound, Malformed):
        return f"{external(ACCOUNT, author)}, which is gone"


def _told(value: object) -> str:
    if value is None:
        return "(not set)"
    return spelled(tuple(value) if isinstance(value, list) else value)  # type: ignore[arg-type]  # as JSON gave it
