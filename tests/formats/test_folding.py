"""formats.folding: text as names and searches compare it."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.folding import fold, nfc


@given(st.text())
def test_ordinary_text_is_composed(text: str) -> None:
    assert nfc(text) == unicodedata.normalize("NFC", text)


@given(st.text(max_size=40))
@settings(max_examples=200)
def test_texts_compare_by_title_case_and_decomposition(text: str) -> None:
    """RFC 5051 §2, character by character."""
    expected = ""
    for character in text:
        title = character.title() if len(character.title()) == 1 else character
        expected += unicodedata.normalize("NFKD", title)
    assert fold(text) == expected


def test_every_character_folds_in_a_text_as_it_does_alone() -> None:
    """What is folded as a whole must not differ: no mapping may depend on a neighbour."""
    alphabet = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    alone = [
        unicodedata.normalize("NFKD", each.title() if len(each.title()) == 1 else each)
        for each in alphabet
    ]
    assert fold("".join(alphabet)) == "".join(alone)
    assert fold("é".join(alphabet)) == "E\u0301".join(alone)


@given(st.text(), st.integers(0))
def test_a_text_may_be_cut_anywhere(text: str, at: int) -> None:
    at %= len(text) + 1
    assert fold(text[:at]) + fold(text[at:]) == fold(text)


@pytest.mark.parametrize(
    ("some", "other"),
    [
        ("STRAßE", "straße"),
        ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
        ("CAFÉ", "cafe\u0301"),
        ("１", "1"),
    ],
)
def test_what_folds_alike(some: str, other: str) -> None:
    assert fold(some) == fold(other)


def test_what_has_an_accent_is_found_without_and_sorted_behind() -> None:
    assert fold("e") in fold("été")
    assert sorted(["zebra", "Éclair", "eclair", "apple"], key=fold) == [
        "apple", "eclair", "Éclair", "zebra",
    ]  # fmt: skip


@pytest.mark.parametrize("unit", ["\u0301\u0316", "\U0001d165\u0301", "\u0f71\u0f72"])
def test_a_flood_of_marks_costs_no_more_than_its_length(unit: str) -> None:
    text = "a" + unit * 100_000
    started = time.thread_time()
    assert len(fold(text)) >= len(text)
    assert nfc(text) == text, "what no language writes is compared as it is"
    assert time.thread_time() - started < 1, "the library alone needs a minute"


def test_thirty_marks_in_a_row_are_still_text() -> None:
    assert nfc("a" + "\u0301" * 30) == unicodedata.normalize("NFC", "a" + "\u0301" * 30)
