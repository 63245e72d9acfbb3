"""Settings, declared once: type, default, unit, help, scopes, permission.

A group is a frozen dataclass in the package that uses it; `@group` registers its fields. From
the declaration come validation, storage, the command line, the manual and the diff. Effective
settings are instances of the group, resolved along a chain of scopes, the nearest winning.

    @group("smtp")
    @dataclass(frozen=True, slots=True)
    class SmtpSettings:
        max_recipients: int = setting(1000, "Recipients of one transaction. RFC 5321 §4.5.3.1.8")
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from postroom.core.errors import MailError, Misuse, NotFound
from postroom.core.secrets import is_sealed

G = TypeVar("G")
Value = bool | int | float | str | tuple[str, ...]


class Scope(StrEnum):
    """Where a value may be set, from the widest to the nearest."""

    SERVER = "server"
    NODE = "node"
    LISTENER = "listener"
    DOMAIN = "domain"
    ACCOUNT = "account"


NEAREST_FIRST: Final = (Scope.ACCOUNT, Scope.DOMAIN, Scope.LISTENER, Scope.NODE, Scope.SERVER)
EVERYWHERE: Final = tuple(Scope)


class Role(StrEnum):
    """What a principal may do in administration."""

    USER = "user"
    DOMAIN_ADMIN = "domain-admin"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """An administrator may do what a domain's administrator may, and so on."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting."""

    name: str
    type: type[Any]
    default: Value
    help: str
    unit: str
    scopes: tuple[Scope, ...]
    role: Role
    at_least: float | None
    at_most: float | None
    choices: tuple[str, ...]
    form: Callable[[str], object] | None = None
    secret: bool = False

    def check(self, value: Any) -> Value:
        """The value in its declared type; raises Misuse with a sentence that says what fits.

        That of a secret is sealed: whoever has it in plain seals it first.
        """
        wanted: type[Any] = self.type
        if wanted is tuple:
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                raise Misuse(f"{self.name} is a list of texts")
            if self.at_most is not None and len(value) > self.at_most:
                raise Misuse(f"{self.name} has at most {self.at_most:g} entries")
            if tuple(value) == self.default or self.form is None:
                return tuple(value)
            return tuple([self._formed(each, f", entry {n}") for n, each in enumerate(value, 1)])
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise Misuse(f"{self.name} is {_A[wanted]}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if self.at_least is not None and value < self.at_least:
                raise Misuse(f"{self.name} is at least {self.at_least:g} {self.unit}".rstrip())
            if self.at_most is not None and value > self.at_most:
                raise Misuse(f"{self.name} is at most {self.at_most:g} {self.unit}".rstrip())
        if self.choices and value not in self.choices:
            raise Misuse(f"{self.name} is one of {', '.join(self.choices)}")
        if self.secret and value != self.default and not is_sealed(value):
            raise Misuse(f"{self.name} is a secret, which is kept sealed: use `settings secret`")
        if self.form is not None and value != self.default:
            value = self._formed(value)
        checked: Value = value
        return checked

    def _formed(self, text: str, which: str = "") -> str:
        """A text in the spelling that is kept; raises Misuse for what it is not."""
        assert self.form is not None  # or nobody asks
        try:
            formed = self.form(text)
        except MailError as error:
            raise Misuse(f"{self.name}{which}: {error}") from error
        return formed if isinstance(formed, str) else text

    def parse(self, text: str) -> Value:
        """The value as an operator writes it: JSON, or bare text where that is clear.

        A list has commas between its entries or, where it has several lines, a line for each.
        """
        if self.type is str:
            return self.check(text)
        if self.type is tuple and not text.lstrip().startswith("["):
            pieces = text.splitlines() if "\n" in text else text.split(",")
            return self.check([piece.strip() for piece in pieces if piece.strip()])
        if self.type is bool and text.lower() in ("yes", "on", "no", "off"):
            return text.lower() in ("yes", "on")
        try:
            return self.check(json.loads(text))
        except ValueError as error:
            raise Misuse(f"{self.name} is {_A[self.type]}") from error


_A: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list of texts",
}

SETTINGS: Final[dict[str, Setting]] = {}
"""Every declared setting by name; complete once the rooms are imported."""


def setting(  # a dataclass field, typed as what it holds: HOUSE §6
    default: Any,
    help: str,  # noqa: A002 - the word that every reader expects
    *,
    unit: str = "",
    scopes: Iterable[Scope] = (Scope.SERVER, Scope.NODE),
    role: Role = Role.ADMIN,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Iterable[str] = (),
    form: Callable[[str], object] | None = None,
    secret: bool = False,
) -> Any:
    """Declare a setting: its default, what it does, in which unit, and where it may be set.

    `form` reads a text and raises a MailError for what it is not; if it returns a text, that is
    the value, in the one spelling that is kept and shown. The default is not read. Of a list,
    `form` reads each entry, and `at_most` says how many there may be. A `secret` is a text that is
    kept sealed (`core.secrets`), and shown to nobody.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "unit": unit,
            "scopes": tuple(scopes),
            "role": role,
            "at_least": at_least,
            "at_most": at_most,
            "choices": tuple(choices),
            "form": form,
            "secret": secret,
        },
    )


def group(prefix: str) -> Callable[[type[G]], type[G]]:
    """Register the settings of a group class under `prefix.`; use above @dataclass."""

    def register(cls: type[G]) -> type[G]:
        hints = typing.get_type_hints(cls)
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # the decorator below made it one
            kind = typing.get_origin(hints[field.name]) or hints[field.name]
            if kind not in _A:
                raise TypeError(f"{prefix}.{field.name}: no setting can be of type {kind}")
            if field.metadata["form"] and kind not in (str, tuple):
                raise TypeError(f"{prefix}.{field.name}: only a text has a form, or a list of them")
            if field.metadata["secret"] and kind is not str:
                raise TypeError(f"{prefix}.{field.name}: only a text is a secret")
            if field.metadata["form"] and field.metadata["secret"]:
                raise TypeError(f"{prefix}.{field.name}: what is sealed has no form")
            default: Any = field.default
            declared = Setting(f"{prefix}.{field.name}", kind, default, **dict(field.metadata))
            declared.check(declared.default)
            if declared.name in SETTINGS:
                raise ValueError(f"{declared.name} is declared twice")
            SETTINGS[declared.name] = declared
        _PREFIXES[cls] = prefix
        return cls

    return register


_PREFIXES: Final[dict[type, str]] = {}


def declared(name: str) -> Setting:
    """The setting of that name; raises NotFound."""
    found = SETTINGS.get(name)
    if found is None:
        raise NotFound(f"There is no setting {name}")
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was set: a scope and which object of it (empty for the server)."""

    scope: Scope
    object: str = ""

    def __str__(self) -> str:
        return f"{self.scope}:{self.object}" if self.object else str(self.scope)


Chain = tuple[Place, ...]
"""The places that apply, nearest first."""

SERVER: Final = Place(Scope.SERVER)
Values = Mapping[Place, Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Effective(Generic[G]):
    """A group as it applies to a chain; `origins` names where each changed value was set."""

    values: G
    origins: Mapping[str, Place]


def chain(*places: Place) -> Chain:
    """The places in order of nearness, with the server at the end."""
    given = {place.scope: place for place in (*places, SERVER)}
    return tuple(given[scope] for scope in NEAREST_FIRST if scope in given)


def resolve(cls: type[G], along: Chain, values: Values) -> Effective[G]:
    """The group's effective values along a chain."""
    prefix = _PREFIXES[cls]
    chosen: dict[str, Value] = {}
    origins: dict[str, Place] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # registered groups are dataclasses
        name = f"{prefix}.{field.name}"
        for place in along:
            held = values.get(place)
            if held is not None and name in held:
                chosen[field.name] = held[name]
                origins[name] = place
                break
    return Effective(cls(**chosen), origins)
