"""One thing and several."""

from __future__ import annotations

import pytest

from postroom.core.plural import all_counted, all_well, counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("account",), "0 accounts"),
        (1, ("account",), "1 account"),
        (2, ("account",), "2 accounts"),
        (1, ("alias", "aliases"), "1 alias"),
        (3, ("alias", "aliases"), "3 aliases"),
    ],
)
def test_a_number_of_things(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said


def test_numbers_under_the_names_of_many() -> None:
    numbers = {"blobs": 1, "mailboxes": 1, "accounts": 2, "octets": 0}
    assert all_counted(numbers) == "1 blob, 1 mailbox, 2 accounts, 0 octets"
    assert all_counted({}) == ""


def test_what_was_found_wrong() -> None:
    assert [all_well(n) for n in (0, 1, 2)] == ["All is well.", "1 problem.", "2 problems."]
