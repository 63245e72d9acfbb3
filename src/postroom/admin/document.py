"""The configuration as a text: TOML, in one order, so that two of them can be compared.

    format = 1
    domains = ["example.org"]

    [settings."domain:example.org"]
    "quota.octets" = 1000000000

    [[accounts]]
    address = "ann@example.org"
    name = "Ann"
    role = "user"
    state = "active"

    [[aliases]]
    address = "info@example.org"
    targets = ["ann@example.org"]

A section that is missing says nothing about what it would hold; an empty one says that there is
none. `password` of an account holds verifiers by kind, never a password.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

from postroom.admin.directory import checked_name
from postroom.core.errors import Malformed
from postroom.core.settings import Role, Value
from postroom.domain.changes.configuration import Configuration, Person
from postroom.domain.directory import former, people
from postroom.domain.directory.aliases import spelled
from postroom.domain.directory.spelling import address_of, named_domain

FORMAT: Final = 1
_SECTIONS: Final = frozenset({"format", "domains", "settings", "accounts", "aliases"})
_PERSON: Final = frozenset({"address", "name", "role", "state", "password"})
_ALIAS: Final = frozenset({"address", "targets"})
_VERIFIER: Final = 1_000
"""Characters of a verifier."""

T = TypeVar("T")


# --- writing ------------------------------------------------------------------------------------


def render(configuration: Configuration) -> str:
    """The text of a configuration; `parse` reads it back."""
    return "\n".join(_lines(configuration)) + "\n"


def _lines(of: Configuration) -> Iterator[str]:
    yield f"format = {FORMAT}"
    if of.domains is not None:
        yield f"domains = {_value(tuple(sorted(of.domains)))}"
    # Empty lists stand before the first table: after it they would be a part of that.
    if of.accounts is not None and not of.accounts:
        yield "accounts = []"
    if of.aliases is not None and not of.aliases:
        yield "aliases = []"
    if of.settings is not None:
        yield from _settings(of.settings)
    for person in sorted(of.accounts or (), key=_order):
        yield from _person(person)
    targets: dict[str, list[str]] = {}
    for address, target in sorted(of.aliases or ()):
        targets.setdefault(address, []).append(target)
    for address, leads in targets.items():
        yield from ("", "[[aliases]]", f"address = {_text(address)}")
        yield f"targets = {_value(tuple(leads))}"


def _order(person: Person) -> tuple[str, str]:
    return person.address.domain, people.key(person.address.local)


def _settings(of: Mapping[str, Mapping[str, Value]]) -> Iterator[str]:
    yield from ("", "[settings]")
    for place, values in sorted(of.items()):
        yield from ("", f"[settings.{_text(place)}]")
        yield from (f"{_text(name)} = {_value(value)}" for name, value in sorted(values.items()))


def _person(of: Person) -> Iterator[str]:
    yield from ("", "[[accounts]]", f"address = {_text(str(of.address))}")
    for name, value in (("name", of.name), ("role", of.role), ("state", of.state)):
        if value is not None:
            yield f"{name} = {_text(value)}"
    if of.verifiers is not None:
        pairs = ", ".join(f"{_text(k)} = {_text(v)}" for k, v in sorted(of.verifiers.items()))
        yield f"password = {{ {pairs} }}" if pairs else "password = {}"


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, tuple):
        if len(value) > 1:
            return "[\n" + "".join(f"  {_text(each)},\n" for each in value) + "]"
        return f"[{', '.join(map(_text, value))}]"
    return repr(value)


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _text(text: str) -> str:
    """A basic string; what cannot be seen is escaped, so that it survives every terminal."""
    return '"' + "".join(map(_character, text)) + '"'


def _character(c: str) -> str:
    if c in _ESCAPES:
        return _ESCAPES[c]
    if c.isprintable():
        return c
    if 0xD800 <= ord(c) <= 0xDFFF:
        raise Malformed("Half a character cannot be written into a document")
    return f"\\u{ord(c):04x}" if ord(c) <= 0xFFFF else f"\\U{ord(c):08x}"


# --- reading ------------------------------------------------------------------------------------


def parse(text: str) -> Configuration:
    """The configuration in a text; raises Malformed with where and what."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"This is no TOML: {error}") from error
    except RecursionError as error:
        raise Malformed("This document is nested too deeply") from error
    _known(told, _SECTIONS, "The document")
    if told.get("format") != FORMAT:
        raise Malformed(f"A document of this release begins with: format = {FORMAT}")
    return Configuration(
        domains=_section(told, "domains", _domains),
        accounts=_section(told, "accounts", _accounts),
        aliases=_section(told, "aliases", _aliases),
        settings=_section(told, "settings", _read_settings),
    )


def _section(told: Mapping[str, Any], name: str, read: Callable[[Any], T]) -> T | None:
    return read(told[name]) if name in told else None


def _known(told: Mapping[str, Any], names: frozenset[str], what: str) -> None:
    unknown = sorted(set(told) - names)
    if unknown:
        known = ", ".join(sorted(names))
        raise Malformed(f"{what} may hold {known}, but not {', '.join(unknown)}")


def _list(told: Any, what: str) -> list[Any]:
    if not isinstance(told, list):
        raise Malformed(f"{what} is a list")
    return told


def _str(told: Any, what: str) -> str:
    if not isinstance(told, str) or "\0" in told:
        raise Malformed(f"{what} is a text")
    return told


def _once(keys: Iterable[T], what: str) -> None:
    seen: set[T] = set()
    for key in keys:
        if key in seen:
            raise Malformed(f"{what} {key} stands there twice")
        seen.add(key)


def _domains(told: Any) -> tuple[str, ...]:
    names = tuple(named_domain(_str(each, "A domain")) for each in _list(told, "domains"))
    for name in names:
        if name.startswith("["):
            raise Malformed("An address literal is no domain")
    _once(names, "The domain")
    return names


def _accounts(told: Any) -> tuple[Person, ...]:
    found = tuple(map(_read_person, _list(told, "accounts")))
    _once((people.written(each.address) for each in found), "The account")
    return found


def _read_person(told: Any) -> Person:
    if not isinstance(told, dict):
        raise Malformed("An account is a table")
    text = _str(told.get("address"), "The address of an account")
    _known(told, _PERSON, f"The account {text}")
    address = address_of(text)
    if any(c in address.local for c in "*?"):
        raise Malformed(f"{text} is a pattern, not an account")
    role, state = told.get("role"), told.get("state")
    if role is not None and role not in tuple(Role):
        raise Malformed(f"The role of {text} is one of {', '.join(Role)}")
    if state is not None and state not in people.STATES:
        raise Malformed(f"The state of {text} is one of {', '.join(people.STATES)}")
    name = checked_name(_str(told["name"], f"The name of {text}")) if "name" in told else None
    verifiers = _verifiers(told["password"], text) if "password" in told else None
    return Person(address, name, Role(role) if role is not None else None, state, verifiers)


def _verifiers(told: Any, address: str) -> dict[str, str]:
    """Verifiers by kind. Whether one is sound shows when somebody signs in."""
    if not isinstance(told, dict):
        raise Malformed(f"The password of {address} is a table of verifiers, never a password")
    _known(told, frozenset(former.KINDS), f"The password of {address}")
    for kind, text in told.items():
        if not isinstance(text, str) or not text.isascii() or len(text) > _VERIFIER:
            raise Malformed(f"The {kind} of {address} is no verifier")
    return told


def _aliases(told: Any) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for each in _list(told, "aliases"):
        if not isinstance(each, dict):
            raise Malformed("An alias is a table")
        text = _str(each.get("address"), "The address of an alias")
        _known(each, _ALIAS, f"The alias {text}")
        address = spelled(text)
        for target in _list(each.get("targets"), f"targets of {text}"):
            to = address_of(_str(target, f"A target of {text}"))
            pairs.append((address, people.written(to)))
    _once(pairs, "The way of an alias")
    return tuple(pairs)


def _read_settings(told: Any) -> dict[str, dict[str, Value]]:
    if not isinstance(told, dict):
        raise Malformed("settings is a table")
    for place, values in told.items():
        if not isinstance(values, dict):
            raise Malformed(f"settings of {place} is a table")
        for name, value in values.items():
            if isinstance(value, dict):  # TOML takes a dot in a name for a table in a table
                inner = next(iter(value), "...")
                raise Malformed(f'The names of settings stand in quotes: "{name}.{inner}" = ...')
    return told
