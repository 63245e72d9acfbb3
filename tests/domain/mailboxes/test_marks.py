"""Flags as they are, over several blocks; `test_machine` compares them with a model besides."""

from __future__ import annotations

import random

import pytest

from postroom.core.errors import Corrupt
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import folders, marks, messages, reading
from postroom.domain.mailboxes.flags import DELETED, FLAGGED, SEEN
from postroom.domain.mailboxes.marked.blocks import SIZE
from postroom.domain.mailboxes.messages import UNLIMITED, FlagChange
from postroom.domain.mailboxes.picking import Pick
from postroom.store.sql import Statement
from tests.domain.making import DAY, NOW, Town

EVERY = Pick(1, (1 << 32) - 1)
SEEN_NOW = FlagChange(add=("\\Seen",))


def store(town: Town, box: int, pick: Pick, change: FlagChange) -> None:
    town.store.write(messages.set_flags, town.ann.id, box, pick, change, NOW, 1)


def rows(town: Town) -> int:
    return len(town.store.read(lambda tx: tx.all(Statement("SELECT block FROM flag_block"))))


def test_messages_that_nobody_marked_cost_no_row(town: Town) -> None:
    box = town.box()
    town.append(box, count=3, flags=("\\Seen",))
    assert rows(town) == 0
    store(town, box, EVERY, SEEN_NOW)  # as it is
    assert rows(town) == 0
    store(town, box, Pick(2, 2), FlagChange(add=("\\Flagged",)))
    assert rows(town) == 1


def test_new_messages_beside_marked_ones_have_the_flags_they_came_with(town: Town) -> None:
    box = town.box()
    town.append(box, count=2)
    store(town, box, EVERY, SEEN_NOW)
    town.append(box, flags=("\\Flagged",))
    found = {uid: set_ for uid, set_, _ in town.store.read(reading.flags, box, EVERY)}
    assert found == {1: SEEN, 2: SEEN, 3: FLAGGED}
    assert town.store.read(reading.first_unseen, box) == 3


@pytest.mark.parametrize("page", [1, 2, 256])
def test_the_first_unseen_is_found_wherever_it_lies(
    town: Town, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(marks, "_PAGE", page)
    box, rng = town.box(), random.Random(page)
    for n in range(6):
        town.append(box, count=SIZE - 5, flags=("\\Seen",) if n == 2 else ())
    uids = list(town.store.read(reading.uids, box))
    for _ in range(60):
        some = sorted(rng.sample(uids, min(len(uids), rng.choice((1, 5, 90)))))
        pick = rng.choice((Pick.of(some), Pick(some[0], some[-1]), Pick(1, rng.choice(uids))))
        if rng.random() < 0.1:
            town.store.write(messages.expunge, town.ann.id, box, pick, NOW, 1, retention=DAY)
            uids = list(town.store.read(reading.uids, box))
            if not uids:
                break
        else:
            add = rng.random() < 0.7
            names = ("\\Seen",)
            store(town, box, pick, FlagChange(names) if add else FlagChange(remove=names))
        now = town.store.read(reading.flags, box, EVERY)
        first = min((uid for uid, set_, _ in now if not set_ & SEEN), default=None)
        assert town.store.read(reading.first_unseen, box) == first


def test_marked_messages_are_found_beside_those_that_came_so(town: Town) -> None:
    box = town.box()
    town.append(box, count=SIZE)
    town.append(box, count=2, flags=("\\Deleted",))
    town.append(box, count=SIZE)
    store(town, box, Pick(SIZE + 1, SIZE + 1), FlagChange(remove=("\\Deleted",)))
    store(town, box, Pick.of([5, 2 * SIZE + 1]), FlagChange(add=("\\Deleted",)))
    expected = [5, SIZE + 2, 2 * SIZE + 1]
    for limit in (1, 2, 3, 9):
        found = town.store.read(marks.flagged, box, DELETED, limit)
        assert found == expected[:limit]
    size = town.store.read(folders.get, box).size // (2 * SIZE + 2)
    assert town.store.read(reading.deleted_size, box) == 3 * size


def test_copies_have_the_flags_that_their_originals_have_now(town: Town) -> None:
    box, target = town.box(), town.folder("Work")
    town.append(target)
    town.append(box, count=SIZE + 3, flags=("blue",))
    store(town, box, Pick.of([2, SIZE + 1]), FlagChange(add=("\\Flagged",)))
    store(town, box, Pick.of([2]), FlagChange(remove=("blue",)))
    copied = town.store.write(messages.copy, town.ann.id, box, target, EVERY, UNLIMITED, NOW, 1)
    here = {uid: set_ for uid, set_, _ in town.store.read(reading.flags, box, EVERY)}
    there = {uid: row for uid, *row in town.store.read(reading.flags, target, EVERY)}
    assert [there[uid] for uid in copied.target] == [
        [here[u], copied.modseq] for u in copied.source
    ]
    # Within the mailbox itself too, where the old go and the new stay.
    moved = town.store.write(messages.move, town.ann.id, box, box, EVERY, NOW, 1)
    now = {uid: set_ for uid, set_, _ in town.store.read(reading.flags, box, EVERY)}
    assert [now[uid] for uid in moved.target] == [here[uid] for uid in moved.source]


def test_what_goes_takes_its_marks_with_it_and_can_come_back_with_its_flags(town: Town) -> None:
    box = town.box()
    town.append(box, count=SIZE)
    store(town, box, EVERY, SEEN_NOW)
    store(town, box, Pick.of([3, 9]), FlagChange(add=("\\Flagged",)))
    before = rows(town)
    gone = Pick.of([3, 4])
    town.store.write(messages.expunge, town.ann.id, box, gone, NOW, 1, retention=DAY)
    assert rows(town) == before
    kept = town.store.read(reading.recoverable, town.ann.id, 10)
    assert {each.uid: each.flags for each in kept} == {3: SEEN | FLAGGED, 4: SEEN}
    town.store.write(messages.expunge, town.ann.id, box, EVERY, NOW, 1, retention=0)
    assert rows(town) == 0


def test_who_asks_where_a_message_lies_hears_its_flags_of_now(town: Town) -> None:
    box = town.box()
    (stored,) = town.append(box, flags=("\\Draft",))
    store(town, box, EVERY, FlagChange(add=("\\Seen", "red"), replace=True))
    (found,) = town.store.read(reading.whereabouts, [stored.message])
    assert found.flags == ("\\Seen", "red")
    registry = town.store.read(bits.registry, town.ann.id)
    assert registry.names[-1] == "red"


def test_changes_are_read_in_pieces_without_a_gap(town: Town) -> None:
    box = town.box()
    town.append(box, count=SIZE + 9)
    since = town.store.read(reading.modseq, box)
    assert since is not None
    store(town, box, Pick.of([1, 2, 40, SIZE + 4]), SEEN_NOW)
    town.append(box, count=3)
    expected = list(town.store.read(reading.changes, box, since).flags)
    assert [uid for uid, _, _ in expected] == [1, 2, 40, SIZE + 4, *range(SIZE + 10, SIZE + 13)]
    found: list[tuple[int, int, int]] = []
    at = 1
    while piece := town.store.read(reading.changed_in, box, since, at, 2 * SIZE, 2):
        assert len(piece) <= 2
        found += piece
        at = piece[-1][0] + 1
    assert found == expected
    mailbox = town.store.read(folders.get, box)
    spans = town.store.read(reading.changed_spans, mailbox, since)
    assert all(any(lo <= uid <= hi for lo, hi in spans) for uid, _, _ in expected)


def test_a_page_reads_no_more_blocks_than_it_has_messages_in(town: Town) -> None:
    """Else a mailbox that is read in pages would be read as often as it has pages."""
    box = town.box()
    town.append(box, count=3 * SIZE)
    store(town, box, EVERY, SEEN_NOW)
    unreadable = Statement("UPDATE flag_block SET groups = substr(groups, 1, 5) WHERE block > 1")
    town.store.write(lambda tx: tx.run(unreadable))
    found = town.store.read(reading.brief, box, EVERY, SIZE)
    assert [(row.uid, row.flags) for row in found] == [(uid, SEEN) for uid in range(1, SIZE + 1)]
    listed = Pick(1, 3 * SIZE, list(range(1, 3 * SIZE, 2)))
    assert [row.uid for row in town.store.read(reading.brief, box, listed, 2)] == [1, 3]
    with pytest.raises(Corrupt):
        town.store.read(reading.brief, box, EVERY)
