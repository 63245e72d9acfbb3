"""postroom.admin.render: what an operator reads."""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Event:
    at: str
    who: str
    what: str
    why: str
    id: str = field(default="e1", metadata=render.DETAIL)


LONG = "account ann@example.org, alias postmaster@example.org -> ann@example.org, 12 more"
EVENTS = (
    Event("2026-11-22T19:58:00.061Z", "the command line", LONG, ""),
    Event("2026-11-22T19:58:01.000Z", "bob@example.org", "domain b.example", ""),
)


def test_without_a_terminal_each_row_is_a_line() -> None:
    lines = render.text(EVENTS).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["AT", "WHO", "WHAT", "WHY"]
    assert lines[1].startswith("2026-11-22T19:58:00Z  the command line  account ann@")


def test_a_table_takes_no_more_than_the_terminal_has() -> None:
    assert render.text(EVENTS, 300) == render.text(EVENTS)
    assert render.text(EVENTS, 80).splitlines() == [
        "AT                    WHO               WHAT",
        "2026-11-22T19:58:00Z  the command line  account ann@example.org, alias",
        "                                        postmaster@example.org ->",
        "                                        ann@example.org, 12 more",
        "2026-11-22T19:58:01Z  bob@example.org   domain b.example",
    ]


def test_where_no_table_fits_each_row_is_a_record() -> None:
    assert render.text(EVENTS[1:] * 2, 40).splitlines() == [
        "at    2026-11-22T19:58:01.000Z",
        "who   bob@example.org",
        "what  domain b.example",
        "id    e1",
        "",
        "at    2026-11-22T19:58:01.000Z",
        "who   bob@example.org",
        "what  domain b.example",
        "id    e1",
    ]


def test_a_column_is_of_numbers_if_all_of_it_are() -> None:
    @dataclass(frozen=True)
    class Value:
        name: str
        value: object

    assert render.text((Value("a", 5), Value("b", "five"))).splitlines()[1:] == [
        "a     5",
        "b     five",
    ]


@given(
    st.lists(st.tuples(st.text(max_size=60), st.text(max_size=60)), min_size=1, max_size=4),
    st.integers(1, 120),
)
def test_no_text_is_lost_in_a_terminal(rows: list[tuple[str, str]], columns: int) -> None:
    events = tuple(Event("now", who, what, "") for who, what in rows)
    said = "".join(render.text(events, columns).split())
    shown = sorted("".join(render.visible(who).split()) for who, _ in rows)
    assert all(sum(said.count(c) for c in set(each)) >= len(each) for each in shown)
