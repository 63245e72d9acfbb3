from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Corrupt
from postroom.domain.mailboxes.flags import SEEN
from postroom.domain.mailboxes.marked.blocks import (
    FULL,
    SIZE,
    Block,
    masks,
    signed,
    uids,
    unsigned,
)
from postroom.domain.mailboxes.picking import runs

MASKS = st.integers(1, FULL)
CHANGES = st.lists(
    st.tuples(st.sampled_from(("mark", "forget")), MASKS, st.sampled_from((0, SEEN, 6, 1 << 62))),
    max_size=20,
)


@given(st.integers(0, (1 << 26) - 1), CHANGES)
def test_a_block_says_what_was_last_said_of_each_message(
    number: int, changes: list[tuple[str, int, int]]
) -> None:
    block, model = Block(number), dict[int, tuple[int, int]]()
    for modseq, (what, which, flags) in enumerate(changes, start=1):
        if what == "mark":
            block.mark(which, flags, modseq)
            model.update(dict.fromkeys(uids(number, which), (flags, modseq)))
        else:
            block.forget(which)
            for uid in uids(number, which):
                model.pop(uid, None)
        row = block.row(7)
        block = Block(number, bytes(row["groups"]))  # type: ignore[call-overload]  # BYTES
        assert {uid: mark for mark, those in block.sets() for uid in those} == model
        assert set(uids(number, block.marked)) == set(model)
        assert set(uids(number, block.unseen)) == {u for u, (f, _) in model.items() if not f & SEEN}
        assert (row["mailbox"], row["block"]) == (7, number)
        assert row["modseq"] == max((m for _, m in model.values()), default=0)
        assert unsigned(int(str(row["marked"]))) == block.marked
        assert unsigned(int(str(row["unseen"]))) == block.unseen
        later = {uid: mark for mark, those in block.sets(modseq - 1) for uid in those}
        assert later == {uid: mark for uid, mark in model.items() if mark[1] == modseq}


@given(st.sets(st.integers(1, 500), max_size=300))
def test_uids_become_masks_and_masks_uids(some: set[int]) -> None:
    found = masks(runs(sorted(some)))
    assert [uid for block in found for uid in uids(block, found[block])] == sorted(some)
    assert all(0 < which <= FULL for which in found.values())


@given(st.integers(0, FULL))
def test_masks_survive_engines_without_unsigned_numbers(mask: int) -> None:
    assert -(1 << 63) <= signed(mask) < 1 << 63
    assert unsigned(signed(mask)) == mask


def test_many_alike_are_one_group() -> None:
    block = Block(3)
    for uid in range(SIZE):
        block.mark(1 << uid, SEEN, uid + 1)
    assert len(block.groups) == SIZE
    block.mark(FULL, 0, 100)
    assert block.groups == [(0, 100, FULL)]
    assert list(block.sets()) == [((0, 100), range(3 * SIZE, 4 * SIZE))]


@pytest.mark.parametrize("octets", [1, 23, 25])
def test_a_row_that_is_no_block_is_corrupt_and_nothing_worse(octets: int) -> None:
    with pytest.raises(Corrupt):
        Block(1, bytes(octets))
