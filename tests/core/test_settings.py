"""postroom.core.settings: declared once, checked, and the nearest wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from postroom.core import settings
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.settings import (
    SERVER,
    SETTINGS,
    Place,
    Role,
    Scope,
    Setting,
    Values,
    chain,
    declared,
    group,
    resolve,
    setting,
)


@pytest.fixture(autouse=True)
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test declares is gone after it."""
    before = dict(SETTINGS)
    yield
    SETTINGS.clear()
    SETTINGS.update(before)


@pytest.fixture
def lamp() -> type[Any]:
    @group("lamp")
    @dataclass(frozen=True, slots=True)
    class Lamp:
        on: bool = setting(False, "Whether it burns")
        watts: int = setting(60, "How bright", unit="W", at_least=5, at_most=100)
        hours: float = setting(1.5, "How long", at_least=0)
        colour: str = setting("white", "Which light", choices=("white", "red"))
        rooms: tuple[str, ...] = setting((), "Where", scopes=(Scope.SERVER, Scope.DOMAIN))

    return Lamp


def test_a_declared_setting_says_all_that_faces_need(lamp: type[Any]) -> None:
    watts = declared("lamp.watts")
    assert (watts.type, watts.default, watts.unit, watts.help) == (int, 60, "W", "How bright")
    assert watts.scopes == (Scope.SERVER, Scope.NODE)
    assert watts.role is Role.ADMIN
    assert declared("lamp.rooms").type is tuple


def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound):
        declared("lamp.nothing")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("on", "true", True),
        ("on", "yes", True),
        ("on", "OFF", False),
        ("watts", "100", 100),
        ("hours", "2", 2.0),
        ("hours", "0.25", 0.25),
        ("colour", "red", "red"),
        ("rooms", "hall, kitchen,", ("hall", "kitchen")),
        ("rooms", '["a,b", "c"]', ("a,b", "c")),
        ("rooms", "", ()),
    ],
)
def test_values_are_read_as_an_operator_writes_them(
    lamp: type[Any], name: str, text: str, value: object
) -> None:
    parsed = declared(f"lamp.{name}").parse(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("on", "maybe", "true or false"),
        ("on", "1", "true or false"),
        ("watts", "4", "at least 5 W"),
        ("watts", "101", "at most 100 W"),
        ("watts", "sixty", "whole number"),
        ("watts", "60.5", "whole number"),
        ("watts", "true", "whole number"),
        ("hours", "-0.5", "at least 0"),
        ("hours", "[]", "number"),
        ("colour", "blue", "white, red"),
        ("rooms", "[1]", "list of texts"),
        ("rooms", "[", "list of texts"),
    ],
)
def test_what_does_not_fit_is_misuse_with_a_sentence(
    lamp: type[Any], name: str, text: str, said: str
) -> None:
    with pytest.raises(Misuse, match=said) as caught:
        declared(f"lamp.{name}").parse(text)
    assert str(caught.value).startswith(f"lamp.{name} ")


def shout(text: str) -> str:
    if text == "?":
        raise Malformed("That is no word")
    return text.upper()


def test_a_list_has_a_form_of_its_entries_and_a_longest_length() -> None:
    @group("choir")
    @dataclass(frozen=True, slots=True)
    class Choir:
        sings: tuple[str, ...] = setting(("la",), "What", form=shout, at_most=3)

    sings = declared("choir.sings")
    assert sings.check(["la"]) == ("la",)  # the default is not read
    assert sings.parse("la, li") == ("LA", "LI")
    assert sings.parse("a, b\n\n c \n") == ("A, B", "C")
    with pytest.raises(Misuse, match=r"choir\.sings, entry 2: That is no word"):
        sings.parse("la,?")
    with pytest.raises(Misuse, match=r"choir\.sings has at most 3 entries"):
        sings.parse("a,b,c,d")


def test_mistakes_in_a_declaration_are_found_at_import(lamp: type[Any]) -> None:
    with pytest.raises(Misuse):

        @group("bad")
        @dataclass(frozen=True)
        class DefaultOutOfRange:
            size: int = setting(0, "Too small", at_least=1)

    with pytest.raises(TypeError):

        @group("bad2")
        @dataclass(frozen=True)
        class NoSuchType:
            table: bytes = setting(b"", "No setting is of octets")

    with pytest.raises(ValueError, match="twice"):

        @group("lamp")
        @dataclass(frozen=True)
        class Again:
            on: bool = setting(True, "Declared before")


def test_the_nearest_place_wins_and_origins_say_where(lamp: type[Any]) -> None:
    domain, account = Place(Scope.DOMAIN, "example.org"), Place(Scope.ACCOUNT, "7")
    values: Values = {
        SERVER: {"lamp.watts": 40, "lamp.on": True},
        domain: {"lamp.watts": 50},
        Place(Scope.DOMAIN, "elsewhere.example"): {"lamp.watts": 99},
    }
    effective = resolve(lamp, chain(account, domain), values)
    assert (effective.values.watts, effective.values.on, effective.values.hours) == (50, True, 1.5)
    assert dict(effective.origins) == {"lamp.watts": domain, "lamp.on": SERVER}
    assert resolve(lamp, chain(), {}).values == lamp()


def test_a_chain_is_ordered_whatever_order_it_was_given_in() -> None:
    places = [Place(Scope.NODE, "1"), Place(Scope.ACCOUNT, "7"), Place(Scope.DOMAIN, "a")]
    assert chain(*places) == chain(*reversed(places))
    assert [str(place) for place in chain(*places)] == ["account:7", "domain:a", "node:1", "server"]
    assert chain() == (SERVER,)


def test_roles_cover_those_below() -> None:
    assert Role.ADMIN.covers(Role.USER)
    assert Role.DOMAIN_ADMIN.covers(Role.DOMAIN_ADMIN)
    assert not Role.USER.covers(Role.DOMAIN_ADMIN)
    assert not Role.DOMAIN_ADMIN.covers(Role.ADMIN)


def test_every_scope_has_its_place_in_the_order() -> None:
    assert set(settings.NEAREST_FIRST) == set(Scope)


def test_a_setting_checks_values_that_come_as_json() -> None:
    one = Setting("x.y", tuple, (), "", "", (Scope.SERVER,), Role.ADMIN, None, None, ())
    assert one.check(["a", "b"]) == ("a", "b")
    with pytest.raises(Misuse):
        one.check("a")
