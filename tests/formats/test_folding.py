"""formats.folding: text as names and searches compare it."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.formats.folding import fold, nfc


@given(st.text())
def test_ordinary_text_is_composed(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


@given(st.text(), st.text())
def test_case_and_the_encoding_of_accents_do_not_count(some: str, other: str) -> None:
    assert fold(unicodedata.normalize("NFD", some)) == fold(some)
    if some.casefold() == other.casefold():
        assert fold(some) == fold(other)


@pytest.mark.parametrize(
    ("some", "other"),
    [("STRASSE", "straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("CAFÉ", "cafe\u0301"), ("ﬀ", "FF")],
)
def test_what_folds_alike(some: str, other: str) -> None:
    assert fold(some) == fold(other)


@pytest.mark.parametrize(("some", "other"), [("e", "é"), ("Å", "A"), ("１", "1")])
def test_what_does_not(some: str, other: str) -> None:
    assert fold(some) != fold(other)


@pytest.mark.parametrize("unit", ["\u0301\u0316", "\U0001d165\u0301", "\u0f71\u0f72"])
def test_a_flood_of_marks_costs_no_more_than_its_length(unit: str) -> None:
    text = "a" + unit * 100_000
    started = time.thread_time()
    assert fold(text) == text.casefold(), "what no language writes is compared as it is"
    assert time.thread_time() - started < 1, "the library alone needs a minute"


def test_thirty_marks_in_a_row_are_still_text() -> None:
    assert nfc("a" + "\u0301" * 30) == unicodedata.normalize("NFC", "a" + "\u0301" * 30)
