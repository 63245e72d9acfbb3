"""postroom.admin.codec and the declarations: what crosses a face is what was declared."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import postroom.admin
from postroom.admin import codec
from postroom.core.errors import Misuse
from postroom.core.operations import OPERATIONS, Operation
from postroom.core.settings import Role, Value


@dataclass(frozen=True)
class Inner:
    role: Role
    number: float


@dataclass(frozen=True)
class Outer:
    text: str
    count: int = 3
    sure: bool = False
    many: tuple[Inner, ...] = ()
    table: Mapping[str, int] = dataclasses.field(default_factory=dict)
    value: Value = 0
    maybe: str | None = None


outers = st.builds(
    Outer,
    st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    st.integers(),
    st.booleans(),
    st.lists(st.builds(Inner, st.sampled_from(Role), st.floats(allow_nan=False)), max_size=3).map(
        tuple
    ),
    st.dictionaries(st.text("abc"), st.integers(), max_size=3),
    st.one_of(st.booleans(), st.integers(), st.just("x"), st.just(("a", "b")), st.just(1.5)),
    st.one_of(st.none(), st.just("x")),
)


@given(outers)
@settings(max_examples=100)
def test_what_is_encoded_is_decoded(value: Outer) -> None:
    back = codec.decode(Outer, json.loads(json.dumps(codec.encode(value))))
    assert back == value
    assert type(back.value) is type(value.value)


@pytest.mark.parametrize(
    "data",
    [
        [],
        "x",
        {},
        {"text": 1},
        {"text": None},
        {"text": "a\0b"},
        {"text": "\ud800"},
        {"text": "x", "count": "3"},
        {"text": "x", "count": True},
        {"text": "x", "count": 3.0},
        {"text": "x", "sure": 1},
        {"text": "x", "many": {}},
        {"text": "x", "many": [{"role": "king", "number": 1}]},
        {"text": "x", "many": [{"role": "user"}]},
        {"text": "x", "table": []},
        {"text": "x", "table": {"a": "b"}},
        {"text": "x", "value": None},
        {"text": "x", "value": {"a": 1}},
        {"text": "x", "more": 1},
    ],
)
def test_what_was_not_declared_is_misuse(data: Any) -> None:
    with pytest.raises(Misuse):
        codec.decode(Outer, data)


def test_whole_numbers_are_numbers() -> None:
    assert codec.decode(Inner, {"role": "user", "number": 2}) == Inner(Role.USER, 2.0)


# --- every operation that is declared ---------------------------------------------------------


@pytest.fixture(params=sorted(OPERATIONS), ids=str)
def operation(request: pytest.FixtureRequest) -> Operation:
    assert postroom.admin.__doc__  # importing it declared them all
    return OPERATIONS[request.param]


def test_every_argument_is_declared_with_its_help(operation: Operation) -> None:
    for each in dataclasses.fields(operation.input):
        assert each.metadata.get("help"), f"{operation.name} {each.name}"
        kind = codec.hints(operation.input)[each.name]
        if kind == tuple[str, ...]:
            assert each.default == (), f"{operation.name} {each.name}: words after the others"
            continue
        assert kind in (str, int, bool) or issubclass(kind, Role), f"{operation.name} {each.name}"
        if each.metadata["secret"]:
            assert kind is str


def test_every_output_can_be_read_back(operation: Operation) -> None:
    def check(kind: Any) -> None:
        if typing.get_origin(kind) is tuple:
            check(typing.get_args(kind)[0])
        elif dataclasses.is_dataclass(kind):
            for hint in codec.hints(typing.cast("type", kind)).values():
                check(hint)
        else:
            mapping = typing.get_origin(kind) is Mapping
            union = kind == Value
            assert mapping or union or kind in (str, int, float, bool) or issubclass(kind, Role)

    check(operation.output)


def test_every_operation_says_what_it_does_in_a_sentence(operation: Operation) -> None:
    first = operation.summary.partition("\n")[0]
    assert first[0].isupper()
    assert operation.summary.rstrip().endswith(".")
