"""The trigrams of a text, and of a message that comes in pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.store.search import Collector, number, trigrams
from postroom.testing.scaling import grows_linearly

_LETTERS = st.text(alphabet="abé \U0001f600\0", max_size=40)


def _plain(text: str) -> set[int]:
    """The definition, character by character."""
    return {
        ord(text[n]) << 42 | ord(text[n + 1]) << 21 | ord(text[n + 2]) for n in range(len(text) - 2)
    }


def _numbers(collector: Collector) -> set[int]:
    return set(map(number, collector.found()))


def _collected(texts: list[list[str]], most: int = 10_000) -> Collector:
    collector = Collector(most)
    for pieces in texts:
        for piece in pieces:
            collector.feed(piece)
        collector.stop()
    return collector


@settings(max_examples=100)
@given(st.text(max_size=60))
def test_every_three_characters_in_a_row_are_a_trigram(text: str) -> None:
    assert trigrams(text) == _plain(text)


def test_less_than_three_characters_have_no_trigram() -> None:
    assert [trigrams(text) for text in ("", "a", "ab")] == [frozenset()] * 3


def test_a_trigram_is_a_positive_integer_of_both_engines() -> None:
    (largest,) = trigrams("\U0010ffff" * 3)
    assert 0 < largest < 1 << 63


@settings(max_examples=100)
@given(st.lists(st.lists(_LETTERS, max_size=4), max_size=3))
def test_cuts_inside_of_a_text_do_not_matter_and_those_between_texts_do(
    texts: list[list[str]],
) -> None:
    wanted: set[int] = set().union(*(_plain("".join(pieces)) for pieces in texts))
    assert _numbers(_collected(texts)) == wanted


@settings(max_examples=100)
@given(_LETTERS, _LETTERS, _LETTERS)
def test_a_text_has_all_trigrams_of_every_string_that_it_holds(
    before: str, string: str, after: str
) -> None:
    assert trigrams(string) <= _numbers(_collected([[before + string + after]]))


def test_a_long_text_is_taken_in_several_goes_without_a_loss() -> None:
    text = "".join(chr(0x4E00 + n % 20_000) for n in range(50_000))
    assert trigrams(text) == _plain(text)
    assert _numbers(_collected([[text[:16_385], text[16_385:]]], 60_000)) == _plain(text)


def test_a_message_of_too_many_trigrams_is_over_and_stays_so() -> None:
    assert not _collected([["abcdef"]], 4).over
    collector = _collected([["abcdef"]], 3)
    assert collector.over
    assert collector.found() == frozenset()
    collector.feed("xyz")
    assert collector.over
    assert collector.found() == frozenset()


def test_the_cost_of_a_text_grows_with_its_length() -> None:
    def run(text: str) -> None:
        _collected([[text]])

    assert grows_linearly(run, "abcdefgh" * 20_000, "abcdefgh" * 160_000, 8)


def test_many_small_pieces_cost_what_one_large_one_does() -> None:
    def run(pieces: list[str]) -> None:
        _collected([pieces])

    assert grows_linearly(run, ["abc"] * 10_000, ["abc"] * 80_000, 8)
