"""PARTIAL in SEARCH, SORT and UID FETCH. RFC 9394 §4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.wire.imap import (
    BadSyntax,
    Cursor,
    Partial,
    SearchReturn,
    parse_fetch,
    parse_partial,
    parse_search,
    parse_sort,
    parse_uid_fetch,
)

PLACES = st.builds(Partial, st.integers(1, 60), st.integers(1, 60), st.booleans())


@given(PLACES, st.integers(0, 50))
def test_a_page_is_what_lies_between_its_places(page: Partial, count: int) -> None:
    results = [*range(count)]
    counted = results[::-1] if page.from_end else results
    low, high = sorted((page.one, page.other))
    wanted = sorted(counted[low - 1 : high])
    assert [results[place] for place in page.cut(count)] == wanted


@given(PLACES)
def test_a_range_is_told_as_it_was_asked(page: Partial) -> None:
    assert parse_partial(Cursor(page.render() + b")")) == page


def test_search_and_sort_take_a_page() -> None:
    asked = parse_search(Cursor(b" RETURN (PARTIAL 1:100 COUNT) ALL"))
    assert (asked.returns, asked.partial) == (frozenset({SearchReturn.COUNT}), Partial(1, 100))
    asked = parse_search(Cursor(b" RETURN (save partial -500:-400) ALL"))
    assert (asked.returns, asked.partial) == (
        frozenset({SearchReturn.SAVE}),
        Partial(500, 400, True),
    )
    assert parse_search(Cursor(b" RETURN (PARTIAL 1:1) ALL")).returns == frozenset()
    assert parse_sort(Cursor(b" RETURN (PARTIAL 1:2) (DATE) UTF-8 ALL")).partial == Partial(1, 2)


def test_uid_fetch_takes_a_page_in_any_place() -> None:
    for modifiers in (b"PARTIAL -1:-30 CHANGEDSINCE 98305", b"CHANGEDSINCE 98305 PARTIAL -1:-30"):
        asked = parse_uid_fetch(Cursor(b" 1:* (FLAGS) (" + modifiers + b")"))
        assert (asked.changed_since, asked.partial) == (98305, Partial(1, 30, True))
    with pytest.raises(BadSyntax):
        parse_fetch(Cursor(b" 1:* (FLAGS) (PARTIAL 1:2)"))


@pytest.mark.parametrize(
    "wrong",
    [
        b"0:1", b"1", b"1:*", b"-1:2", b"1:-2", b"1:2,3", b"--1:-2", b"4294967296:1", b"", b"1:",
        b"99999999999999999999:1", b"1:1 PARTIAL 2:2", b"1:1 ALL",
    ],
)  # fmt: skip
def test_what_is_no_page_is_refused(wrong: bytes) -> None:
    with pytest.raises(BadSyntax):
        parse_search(Cursor(b" RETURN (PARTIAL " + wrong + b") ALL"))
    with pytest.raises(BadSyntax):
        parse_uid_fetch(Cursor(b" 1 FLAGS (PARTIAL " + wrong + b")"))
