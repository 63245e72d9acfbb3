"""Inputs and outputs as JSON: dataclasses of plain types, tuples and mappings of them.

What is read is checked against the declaration, so that neither face can hand an operation a
value that its types exclude.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Final

from postroom.core.errors import Misuse

_SAYS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
}


def encode(value: object) -> Any:
    """As JSON-ready values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return value


def shown(value: Any) -> str:
    """A JSON value in a sentence."""
    if isinstance(value, str):
        return value or "(empty)"
    if isinstance(value, list | tuple):
        return " ".join(map(shown, value)) or "(none)"
    return json.dumps(value)


def decode(kind: Any, data: Any, name: str = "this") -> Any:
    """A value of the declared type; raises Misuse with a sentence that says what fits."""
    if kind is Any or (kind is type(None) and data is None):
        return data
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, data, name)
    origin = typing.get_origin(kind)
    if origin is tuple:
        if not isinstance(data, list):
            raise Misuse(f"{name} is a list")
        item = typing.get_args(kind)[0]
        return tuple(decode(item, piece, name) for piece in data)
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise Misuse(f"{name} is an object")
        inner = typing.get_args(kind)[1]
        return {key: decode(inner, piece, f"{name}.{key}") for key, piece in data.items()}
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(kind), data, name)
    return _plain(kind, data, name)


@cache
def hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def _dataclass(kind: type, data: Any, name: str) -> Any:
    if not isinstance(data, dict):
        raise Misuse(f"{name} is an object")
    fields = {each.name: each for each in dataclasses.fields(kind)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise Misuse(f"{kind.__name__} has no {', '.join(unknown)}")
    given: dict[str, Any] = {}
    for key, each in fields.items():
        if key in data:
            given[key] = decode(hints(kind)[key], data[key], key)
        elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
            raise Misuse(f"{key} is missing")
    return kind(**given)


def _union(kinds: tuple[Any, ...], data: Any, name: str) -> Any:
    # JSON has one list and tells true from 1, so at most one of the kinds fits.
    for kind in kinds:
        try:
            return decode(kind, data, name)
        except Misuse:
            continue
    raise Misuse(f"{name} is of another type")


def _plain(kind: Any, data: Any, name: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            choices = ", ".join(str(each.value) for each in kind)
            raise Misuse(f"{name} is one of {choices}") from None
    if kind is float and type(data) is int:
        return float(data)
    # By exact type: true is no number, though Python says that it is.
    if kind not in _SAYS or type(data) is not kind:
        raise Misuse(f"{name} is {_SAYS.get(kind, 'not to be had')}")
    if kind is str and ("\0" in data or not is_text(data)):
        # No store keeps these: NUL ends a text, and a lone surrogate is half a character.
        raise Misuse(f"{name} holds what is no text")
    return data


def is_text(data: str) -> bool:
    """Whether UTF-8 can write it."""
    try:
        data.encode()
    except UnicodeEncodeError:
        return False
    return True
