"""protocols.imap.kept: what never changes of a message, within a bound of octets."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.formats.folding import fold
from postroom.protocols.imap.kept import BLOCK, ONCE, Kept, Subjects

SIZE = b"RFC822.SIZE %d"
DATE = b"INTERNALDATE %b"


def test_texts_are_wanted_from_the_second_time_on() -> None:
    kept = Kept()
    assert not kept.wants(1, SIZE, [1, 2 * BLOCK])
    assert kept.wants(1, SIZE, [5])
    assert kept.wants(1, SIZE, [5, 2 * BLOCK + 1])
    assert not kept.wants(1, SIZE, [2 * BLOCK, 3 * BLOCK]), "the next piece of an answer"
    assert kept.wants(1, SIZE, [2 * BLOCK, 3 * BLOCK])
    assert not kept.wants(1, DATE, [1])
    assert not kept.wants(2, SIZE, [1])
    kept.keep_texts(3, SIZE, [1], [b"one"])
    assert kept.wants(3, SIZE, [2]), "the block is known"


def test_of_blocks_that_were_asked_for_once_few_are_remembered() -> None:
    kept = Kept()
    for block in range(ONCE + 1):
        assert not kept.wants(1, SIZE, [block * BLOCK])
    assert not kept.wants(1, SIZE, [0])
    assert kept.wants(1, SIZE, [ONCE * BLOCK])
    assert not kept.wants(2, SIZE, [1, (1 << 32) - 1]), "few messages may span a great many"
    assert len(kept._once) <= ONCE


def test_texts_are_kept_by_mailbox_by_what_is_told_and_by_uid() -> None:
    kept = Kept()
    kept.keep_texts(1, SIZE, [1, BLOCK, 3 * BLOCK], [b"one", b"edge", b"far"])
    kept.keep_texts(1, DATE, [1], [b"date"])
    kept.keep_texts(2, SIZE, [1], [b"other"])
    asked = [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK]
    assert kept.texts(1, SIZE, asked) == [b"one", None, None, b"edge", None, b"far"]
    assert kept.texts(1, DATE, [1, BLOCK]) == [b"date", None]
    assert kept.texts(2, SIZE, [1]) == [b"other"]
    assert kept.texts(3, SIZE, [1]) == [None]
    assert kept.texts(1, SIZE, []) == []


def test_what_was_kept_stays_as_it_was() -> None:
    kept = Kept()
    kept.keep_texts(1, SIZE, [1], [b"one"])
    before = kept.octets
    kept.keep_texts(1, SIZE, [1], [b"one"])
    assert kept.octets == before


def test_what_was_not_asked_for_longest_is_forgotten_first() -> None:
    kept = Kept(most=20_000)
    for block in range(30):
        kept.keep_texts(1, SIZE, [block * BLOCK], [b"x" * 1_000])
        assert kept.texts(1, SIZE, [0]) == [b"x" * 1_000], "it is asked for all the time"
        assert kept.octets <= 20_000
    assert kept.texts(1, SIZE, [BLOCK]) == [None]
    assert kept.texts(1, SIZE, [29 * BLOCK]) == [b"x" * 1_000]


def test_a_text_that_is_large_and_a_bound_that_is_small_keep_nothing() -> None:
    kept = Kept(most=100)
    kept.keep_texts(1, SIZE, [1], [b"x"])
    assert (kept.texts(1, SIZE, [1]), kept.octets) == ([None], 0)
    kept = Kept()
    kept.keep_texts(1, SIZE, [1, 2], [b"x" * 100_000, b"y"])
    assert kept.texts(1, SIZE, [1, 2]) == [None, b"y"]
    assert kept.octets < 1_000


def test_subjects_replace_those_that_were_kept_and_count_once() -> None:
    kept = Kept()
    few, more = Subjects([(1, "a")], 1), Subjects([(1, "a"), (2, "b")], 2)
    kept.keep_subjects(1, 0, few)
    kept.keep_subjects(1, 0, more)
    assert kept.subjects(1, 0) is more
    assert kept.octets == more.octets
    assert kept.subjects(1, 1) is None
    assert kept.subjects(2, 0) is None


subjects = st.text(alphabet="abAB é\u0130ß\r\n\u20ac\U0001f600", max_size=12).map(fold)


@given(
    st.lists(st.none() | subjects, max_size=12), subjects | st.sampled_from(["\0", "a\0", "\ud800"])
)
@settings(max_examples=200)
def test_a_subject_is_found_wherever_it_holds_the_text(held: list[str | None], wanted: str) -> None:
    rows = [(3 * n + 1, subject) for n, subject in enumerate(held)]
    found = Subjects(rows, 100).holding(wanted)
    must = {uid for uid, subject in rows if subject is None or wanted in subject}
    if "\0" in wanted:
        assert found >= must  # no subject has it; each is then looked at by itself
    else:
        assert found == must


def test_many_subjects_are_all_told_apart() -> None:
    rng = random.Random(3)
    rows = [(uid, "".join(rng.choices("ab ", k=rng.randrange(6)))) for uid in range(0, 3000, 2)]
    block = Subjects(rows, 3000)
    for wanted in ("a", "ab", "b a", " ", "aaaaa", "bbbbbb"):
        assert block.holding(wanted) == {uid for uid, subject in rows if wanted in subject}
