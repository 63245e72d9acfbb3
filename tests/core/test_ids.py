"""postroom.core.ids: fresh, ascending, and the same outside as inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core import ids
from postroom.core.errors import Malformed
from postroom.core.ids import Ids, external, internal, made_at
from postroom.testing.clock import ManualClock

LETTERS = [
    ids.ACCOUNT,
    ids.BLOB,
    ids.CHANGE_SET,
    ids.DOMAIN,
    ids.JOB,
    ids.MAILBOX,
    ids.MESSAGE,
    ids.QUEUE,
    ids.REPORT,
    ids.SESSION,
    ids.THREAD,
    ids.TRACE,
]


def test_ids_of_one_maker_ascend_even_when_the_clock_stands_or_goes_back(
    clock: ManualClock,
) -> None:
    maker = Ids(clock)
    made = [maker.new() for _ in range(5_000)]  # more than a millisecond holds
    clock.jump(-3600)
    made += [maker.new() for _ in range(10)]
    clock.jump(7200)
    made += [maker.new() for _ in range(10)]
    assert made == sorted(set(made))
    assert all(0 < number < 1 << 63 for number in made)


def test_ids_of_different_makers_never_meet(clock: ManualClock) -> None:
    makers = [Ids(clock, node=node, worker=worker) for node in (0, 63) for worker in (0, 63)]
    made = [maker.new() for maker in makers for _ in range(1_100)]
    assert len(set(made)) == len(made)


def test_an_id_knows_when_it_was_made(clock: ManualClock) -> None:
    clock.advance(12.345)
    assert made_at(Ids(clock, node=63, worker=63).new()) == clock.now()


@pytest.mark.parametrize(("node", "worker"), [(-1, 0), (64, 0), (0, -1), (0, 64)])
def test_a_node_or_worker_beyond_the_layout_is_a_mistake(
    clock: ManualClock, node: int, worker: int
) -> None:
    with pytest.raises(ValueError, match=r"0\.\.63"):
        Ids(clock, node=node, worker=worker)


@given(st.integers(0, (1 << 63) - 1), st.sampled_from(LETTERS))
def test_outside_and_inside_are_each_others_inverse(value: int, letter: str) -> None:
    text = external(letter, value)
    assert len(text) == 14
    assert text[0] == letter
    assert internal(letter, text) == value


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_texts_sort_as_the_numbers_do(a: int, b: int) -> None:
    assert (external("m", a) < external("m", b)) == (a < b)


@given(st.text(max_size=20))
def test_what_is_no_id_is_malformed(text: str) -> None:
    try:
        value = internal("m", text)
    except Malformed:
        return
    assert external("m", value) == text


@pytest.mark.parametrize(
    "text", ["", "m", "x0000000000000", "m000000000000o", "m00000000000000", "mzzzzzzzzzzzzz"]
)
def test_another_type_a_foreign_letter_or_too_much_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        internal("m", text)


def test_no_letter_is_used_twice() -> None:
    assert len(set(LETTERS)) == len(LETTERS)
    named = {name for name, value in vars(ids).items() if name.isupper() and isinstance(value, str)}
    assert len(named - {"_ALPHABET"}) == len(LETTERS)
