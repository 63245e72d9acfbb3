"""postroom.admin.render: what an operator reads."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from postroom.admin import render
from postroom.core.settings import Role


@dataclass(frozen=True)
class Row:
    name: str
    long_count: int
    sure: bool
    tags: tuple[str, ...]
    role: Role = Role.USER


def test_rows_stand_in_columns_numbers_to_the_right() -> None:
    rows = (Row("ann", 5, True, ("a", "b")), Row("bartholomew", 1234567, False, ()))
    assert render.text(rows).splitlines() == [
        "NAME         LONG COUNT  SURE  TAGS  ROLE",
        "ann                   5   yes  a, b  user",
        "bartholomew     1234567    no        user",
    ]


def test_one_record_is_a_line_for_each_field_that_says_something() -> None:
    assert render.text(Row("ann", 0, False, ())).splitlines() == [
        "name        ann",
        "long count  0",
        "sure        no",
        "role        user",
    ]


def test_nothing_is_said_to_be_nothing() -> None:
    assert render.text(()) == "(none)"


def test_outputs_that_know_how_are_asked() -> None:
    @dataclass(frozen=True)
    class Story:
        text: str

        def told(self) -> str:
            return f"once: {self.text}"

    assert render.text(Story("\x1b[31m")) == "once: \\x1b[31m"
    assert render.text((Story("a"), Story("b"))) == "once: a\n\nonce: b"


@given(st.text())
def test_nothing_invisible_reaches_the_terminal(said: str) -> None:
    shown = render.visible(said)
    assert all(c == "\n" or c.isprintable() for c in shown)
    row = render.text((Row(said, 1, True, (said,)),))
    assert row.count("\n") == 1
