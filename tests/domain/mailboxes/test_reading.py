from __future__ import annotations

import pytest

from postroom.core.errors import NotFound
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.messages import Pick
from postroom.formats.parsed import parse
from postroom.store.sql import Statement
from tests.domain.making import Town, letter
from tests.stores import Stores

EVERY = Pick(1, (1 << 32) - 1)


def test_what_a_session_opens_is_one_snapshot_of_all_it_needs(town: Town) -> None:
    box = town.box()
    town.append(box, flags=("\\Seen",))
    town.append(box, count=2, flags=("blue",))
    opened = town.store.read(reading.open_mailbox, box)
    assert list(opened.uids) == [1, 2, 3]
    assert (opened.mailbox.total, opened.first_unseen) == (3, 2)
    assert opened.registry.names[-1] == "blue"
    empty = town.store.read(reading.open_mailbox, town.box("Sent"))
    assert (list(empty.uids), empty.first_unseen) == ([], None)
    for function in (reading.open_mailbox, reading.usage, reading.account_state):
        with pytest.raises(NotFound):
            town.store.read(function, 5)


def test_rows_come_by_range_by_list_and_up_to_a_limit(town: Town) -> None:
    box = town.box()
    town.append(box, count=5)
    for pick, expected in (
        (EVERY, [1, 2, 3, 4, 5]),
        (Pick(2, 3), [2, 3]),
        (Pick.of([1, 4, 9]), [1, 4]),
        (Pick(6, 9), []),
    ):
        assert [r.uid for r in town.store.read(reading.brief, box, pick)] == expected
        assert [r.uid for r in town.store.read(reading.full, box, pick)] == expected
        assert [r[0] for r in town.store.read(reading.flags, box, pick)] == expected
    assert [r.uid for r in town.store.read(reading.brief, box, EVERY, 2)] == [1, 2]


def test_changes_of_nothing_cost_one_row_and_say_nothing(town: Town) -> None:
    box = town.box()
    town.append(box)
    town.append(town.box("Sent"))
    now = town.store.read(reading.account_state, town.ann.id).modseq
    for since in (now, now - 1):
        found = town.store.read(reading.changes, box, since)
        assert (found.flags, found.vanished) == ((), ())
    assert [uid for uid, _, _ in town.store.read(reading.changes, box, 0).flags] == [1]
    with pytest.raises(NotFound):
        town.store.read(reading.changes, 5, 0)


def test_a_parse_is_stale_when_it_is_old_or_missing_and_can_be_renewed(town: Town) -> None:
    box = town.box()
    town.append(box)
    (row,) = town.store.read(reading.full, box, EVERY)
    assert not town.store.read(reading.stale, row.blob)
    for damage in ("UPDATE parsed SET version = 0, preview = ''", "DELETE FROM parsed"):
        town.store.write(lambda tx, text=damage: tx.run(Statement(text)))  # type: ignore[misc]  # bound
        assert town.store.read(reading.stale, row.blob)
        town.store.write(reading.renew, row.blob, parse(letter()))
        assert not town.store.read(reading.stale, row.blob)
        assert town.store.read(reading.full, box, EVERY) == [row]


async def test_what_sessions_were_told_never_goes_back(stores: Stores) -> None:
    """RFC 3501 §2.3.2: a message is recent in one session."""
    for floor, expected in ((5, 5), (3, 5), (5, 5), (9, 9)):
        await stores.state.write(reading.raise_recent, 7, floor)
        assert await stores.state.read(reading.recent_floor, 7) == expected
    assert await stores.state.read(reading.recent_floor, 8) == 1
