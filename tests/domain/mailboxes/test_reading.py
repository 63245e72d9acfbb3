from __future__ import annotations

import random

import apsw
import pytest

from postroom.core.errors import NotFound
from postroom.domain.mailboxes import folders, messages, reading, tables
from postroom.domain.mailboxes.marked.blocks import SIZE
from postroom.domain.mailboxes.messages import FlagChange, Known
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.parsed import parse
from postroom.store.schema import MAIL, ddl
from postroom.store.sql import Statement
from tests.domain.making import DAY, NOW, Town, letter
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


# --- changes -------------------------------------------------------------------------------------


def test_changes_over_many_blocks_are_those_that_the_rows_tell(town: Town) -> None:
    """The log of changes knows blocks; the answer knows messages."""
    rng = random.Random(5)
    box, ann = town.box(), town.ann.id
    states: list[tuple[int, dict[int, int]]] = []  # modseq, flags by UID
    for step in range(40):
        if step % 5 == 0:
            town.append(box, count=rng.randint(20, 60), flags=("blue",) if step % 2 else ())
        rows = town.store.read(reading.flags, box, EVERY)
        uids = [uid for uid, _, _ in rows]
        some = sorted(rng.sample(uids, min(len(uids), rng.choice((1, 2, 30)))))
        pick = Pick.of(some) if step % 3 else Pick(some[0], some[-1])
        if step % 7 == 6:
            town.store.write(messages.expunge, ann, box, pick, NOW, 1, retention=DAY)
        else:
            wanted = FlagChange(add=(rng.choice(("\\Seen", "\\Flagged", "red")),))
            if step % 4 == 3:
                wanted = FlagChange(add=wanted.add, replace=True)
            town.store.write(messages.set_flags, ann, box, pick, wanted, NOW, 1)
        rows = town.store.read(reading.flags, box, EVERY)
        modseq = town.store.read(reading.modseq, box)
        assert modseq is not None
        states.append((modseq, {uid: flags for uid, flags, _ in rows}))
        for since, before in states:
            found = town.store.read(reading.changes, box, since)
            assert list(found.flags) == [row for row in rows if row[2] > since]
            now = {uid: flags for uid, flags in before.items() if uid not in found.vanished}
            now.update((uid, flags) for uid, flags, _ in found.flags)
            assert now == states[-1][1]
    assert max(states[-1][1]) > 3 * SIZE, "the test wants several blocks"


def test_the_log_of_changes_holds_no_block_without_messages(town: Town) -> None:
    box, ann = town.box(), town.ann.id
    town.append(box, count=3 * SIZE)
    town.store.write(messages.set_flags, ann, box, EVERY, FlagChange(("\\Seen",)), NOW, 1)
    blocks = Statement("SELECT block FROM flag_block WHERE mailbox = :box ORDER BY block")

    def held() -> list[int]:
        return [row[0] for row in town.store.read(lambda tx: tx.all(blocks, box=box))]

    assert held() == [0, 1, 2, 3]
    first = Pick(1, SIZE - 1)
    town.store.write(messages.expunge, ann, box, first, NOW, 1, retention=DAY)
    assert held() == [1, 2, 3]
    some = Pick.of([SIZE, *range(2 * SIZE, 3 * SIZE)])
    town.store.write(messages.move, ann, box, town.box("Archive"), some, NOW, 1)
    assert held() == [1, 3], "a block that holds a message still stays"
    town.store.write(messages.expunge, ann, box, EVERY, NOW, 1, retention=DAY)
    assert held() == []


def test_changes_are_looked_up_and_not_searched_for() -> None:
    db = apsw.Connection(":memory:")
    for statement in ddl(MAIL, "sqlite"):
        db.execute(statement)
    plan = db.execute(
        "EXPLAIN QUERY PLAN " + tables.CHANGED.sqlite, {"mailbox": 1, "since": 1}
    ).fetchall()
    steps = [str(row[3]) for row in plan]
    assert any("flag_block_changed (mailbox=? AND modseq>?)" in step for step in steps)
    assert any("PRIMARY KEY (mailbox=? AND uid>?)" in step for step in steps)
    assert not any(step.startswith("SCAN") for step in steps)


# --- flags that the caller knows -----------------------------------------------------------------


def test_flags_that_a_caller_knows_are_believed_for_their_modseq_alone(town: Town) -> None:
    box, ann = town.box(), town.ann.id
    town.append(box, count=4)
    modseq = town.store.read(reading.modseq, box)
    assert modseq is not None
    known = Known(modseq, ((0, [1, 2, 3, 4]),))
    town.store.write(messages.set_flags, ann, box, Pick.of([2]), FlagChange(("\\Seen",)), NOW, 1)
    done = town.store.write(
        messages.set_flags, ann, box, EVERY, FlagChange(("\\Seen",)), NOW, 1, known=known
    )
    assert [list(uids) for _, uids in done.groups] == [[1, 3, 4]]
    assert [list(uids) for _, uids in done.same] == [[2]]
    now = Known(done.modseq, ((1, [1, 2, 3, 4]),))
    done = town.store.write(
        messages.set_flags, ann, box, EVERY, FlagChange(("\\Flagged",)), NOW, 1, known=now
    )
    assert done.groups == ((5, [1, 2, 3, 4]),)
    assert {f for _, f, _ in town.store.read(reading.flags, box, EVERY)} == {5}
    (mailbox,) = [b for b in town.store.read(folders.tree, ann).by_id.values() if b.id == box]
    assert (mailbox.total, mailbox.unseen) == (4, 0)


# --- parts of contents ---------------------------------------------------------------------------


def test_parts_of_raw_rows_come_together_and_of_others_not(town: Town) -> None:
    box = town.box()
    raws = [letter(body=bytes([65 + n]) * 40) for n in range(5)]
    blobs = []
    for raw in raws:
        town.append(box, raw)
        blobs.append(town.store.read(reading.brief, box, EVERY)[-1].blob)
    packed = Statement("UPDATE blob SET frames = :table WHERE id = :id")
    town.store.write(lambda tx: tx.run(packed, table=b"\1\0\0\0", id=blobs[1]))
    town.store.write(lambda tx: tx.run(packed, table=b"", id=blobs[2]))  # not worth packing
    short = Statement("UPDATE blob SET data = substr(data, 1, 10) WHERE id = :id")
    town.store.write(lambda tx: tx.run(short, id=blobs[3]))
    wanted = [(blob, 3, 20) for blob in blobs] + [(blobs[0], 0, len(raws[0])), (77, 0, 5)]
    found = town.store.read(reading.parts, wanted)
    assert found == [raws[0][3:23], None, raws[2][3:23], None, raws[4][3:23], raws[0], None]
    rows = town.store.read(reading.whole_rows, box, EVERY)
    assert [row[8] for row in rows] == [raws[0], None, raws[2], raws[3][:10], raws[4]]
