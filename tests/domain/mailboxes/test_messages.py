from __future__ import annotations

import pytest

from postroom.core.errors import NotFound, OverQuota
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.flags import ANSWERED, DELETED, FLAGGED, SEEN
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import ALL, FlagChange, Quota, compressed, pieces
from postroom.domain.mailboxes.picking import Pick
from postroom.store import journal
from tests.domain.making import DAY, NOW, Town, letter

EVERY = Pick(1, (1 << 32) - 1)


def state(town: Town, box: int) -> Mailbox:
    return town.store.read(folders.get, box)


def uids(town: Town, box: int) -> list[int]:
    return list(town.store.read(reading.uids, box))


def flags(town: Town, box: int) -> dict[int, int]:
    return {uid: set_ for uid, set_, _ in town.store.read(reading.flags, box, EVERY)}


def modseq(town: Town) -> int:
    return town.store.read(reading.account_state, town.ann.id).modseq


# --- append -------------------------------------------------------------------------------


def test_appended_messages_are_there_with_their_counters(town: Town) -> None:
    box = town.box()
    stored = town.append(box, count=3)
    seen = town.append(box, flags=("\\Seen", "\\Deleted", "$Forwarded"))
    assert [s.uid for s in stored + seen] == [1, 2, 3, 4]
    size = len(letter())
    after = state(town, box)
    assert (after.total, after.unseen, after.deleted, after.size) == (4, 3, 1, 4 * size)
    assert after.uidnext == 5
    assert town.store.read(reading.usage, town.ann.id) == (4 * size, 4)
    rows = town.store.read(reading.full, box, EVERY)
    assert [row.uid for row in rows] == [1, 2, 3, 4]
    assert all(row.size == size and row.envelope.startswith(b"(") for row in rows)
    assert len({row.message for row in rows}) == 4
    assert flags(town, box)[4] == SEEN | DELETED | 1 << 5
    assert town.store.read(reading.first_unseen, box) == 1


def test_several_are_appended_all_or_none(town: Town) -> None:
    box = town.box()
    size = len(letter())
    before = state(town, box)
    with pytest.raises(OverQuota):
        town.append(box, count=3, quota=Quota(octets=3 * size - 1))
    with pytest.raises(OverQuota):
        town.append(box, count=3, quota=Quota(messages=2))
    assert state(town, box) == before
    assert uids(town, box) == []
    town.append(box, count=3, quota=Quota(octets=3 * size, messages=3))
    with pytest.raises(OverQuota):
        town.append(box, quota=Quota(messages=3))


def test_one_unit_is_one_modseq_one_entry_and_one_event(town: Town) -> None:
    box = town.box()
    before = modseq(town)
    town.store.events.clear()
    town.append(box, count=5)
    assert modseq(town) == before + 1 == state(town, box).modseq
    assert {m for _, _, m in town.store.read(reading.flags, box, EVERY)} == {before + 1}
    assert town.store.events == [Changed(town.ann.id, before + 1, Type.EMAIL | Type.MAILBOX)]
    entries = town.store.read(journal.since, town.ann.id, before)
    assert [(e.modseq, e.kind, e.before) for e in entries] == [
        (before + 1, "append", {"box": box, "uids": [1, 2, 3, 4, 5]})
    ]


def test_nobody_changes_the_mailbox_of_another(town: Town) -> None:
    box, other = town.box(), town.box(of=town.root)
    town.append(box, flags=("\\Deleted",))
    root = town.root.id
    with pytest.raises(NotFound):
        town.append(box, of=town.root)
    with pytest.raises(NotFound):
        town.store.write(messages.set_flags, root, box, EVERY, FlagChange(("\\Seen",)), NOW, root)
    with pytest.raises(NotFound):
        town.store.write(messages.expunge, root, box, EVERY, NOW, root, retention=DAY)
    for target in (other, box):
        with pytest.raises(NotFound):
            town.store.write(messages.copy, root, box, target, EVERY, Quota(), NOW, root)
        with pytest.raises(NotFound):
            town.store.write(messages.move, root, box, target, EVERY, NOW, root)
    with pytest.raises(NotFound):
        town.store.write(messages.move, town.ann.id, box, other, EVERY, NOW, 1)
    assert uids(town, box) == [1]
    assert uids(town, other) == []


def test_texts_of_strangers_can_be_kept(town: Town) -> None:
    """Encoded NULs, lone surrogates and raw octets in what is derived from a message."""
    box = town.box()
    for raw in (
        letter("=?utf-8?q?a=00b?= =?utf-16?b?2AA=?="),
        letter("=?utf-7?q?+2AA-?="),
        letter(body=b"nul \x00 and \xff\xfe raw\r\n"),
        b"Subject: \xed\xa0\x80 raw\r\nFrom: \xff\x00\r\n\r\n\x00",
        b"\x00",
        b"",
    ):
        town.append(box, raw)
    rows = town.store.read(reading.full, box, EVERY)
    assert len(rows) == 6


# --- flags --------------------------------------------------------------------------------


def change(
    town: Town, box: int, pick: Pick, wanted: FlagChange, since: int | None = None
) -> messages.Flagged:
    return town.store.write(
        messages.set_flags, town.ann.id, box, pick, wanted, NOW, 1, unchanged_since=since
    )


def test_flags_are_added_removed_and_replaced(town: Town) -> None:
    box = town.box()
    town.append(box)
    town.append(box, flags=("\\Seen", "\\Flagged"))
    town.append(box, flags=("\\Deleted",))
    change(town, box, EVERY, FlagChange(add=("\\Seen", "\\Answered"), remove=("\\Deleted",)))
    assert flags(town, box) == {
        1: SEEN | ANSWERED,
        2: SEEN | FLAGGED | ANSWERED,
        3: SEEN | ANSWERED,
    }
    assert (state(town, box).unseen, state(town, box).deleted) == (0, 0)
    done = change(town, box, Pick.of([1, 3]), FlagChange(("\\Deleted",), replace=True))
    assert flags(town, box) == {1: DELETED, 2: SEEN | FLAGGED | ANSWERED, 3: DELETED}
    assert done.groups == ((DELETED, (1, 3)),)
    assert (state(town, box).unseen, state(town, box).deleted) == (2, 2)
    change(town, box, EVERY, FlagChange(replace=True))
    assert set(flags(town, box).values()) == {0}


def test_what_is_so_already_changes_nothing(town: Town) -> None:
    box = town.box()
    town.append(box, flags=("\\Seen",))
    town.append(box)
    before = modseq(town)
    done = change(town, box, Pick.of([1]), FlagChange(("\\Seen",)))
    assert (done.groups, done.same, done.modseq) == ((), ((SEEN, (1,)),), before)
    assert modseq(town) == before
    done = change(town, box, EVERY, FlagChange(("\\Seen",)))
    assert (done.groups, done.same, done.modseq) == (
        ((SEEN, (2,)),),
        ((SEEN, (1,)),),
        before + 1,
    )
    entry = town.store.read(journal.since, town.ann.id, before)[0]
    assert entry.before == {"box": box, "was": [[0, "2"]]}


def test_what_changed_meanwhile_is_passed_over(town: Town) -> None:
    """UNCHANGEDSINCE: RFC 7162 §3.1.3."""
    box = town.box()
    town.append(box, count=4)
    since = modseq(town)
    change(town, box, Pick.of([2, 3]), FlagChange(("\\Flagged",)))
    done = change(town, box, EVERY, FlagChange(("\\Seen",)), since)
    assert done.failed == (2, 3)
    assert done.groups == ((SEEN, (1, 4)),)
    assert flags(town, box) == {1: SEEN, 2: FLAGGED, 3: FLAGGED, 4: SEEN}
    assert change(town, box, EVERY, FlagChange(("\\Seen",)), 0).failed == (1, 2, 3, 4)


def test_who_is_passed_over_keeps_flags_that_others_lose(town: Town) -> None:
    """Two messages with equal flags, one of them changed there and back since."""
    box = town.box()
    town.append(box, count=3)
    since = modseq(town)
    change(town, box, Pick.of([2]), FlagChange(("\\Flagged",)))
    change(town, box, Pick.of([2]), FlagChange(remove=("\\Flagged",)))
    done = change(town, box, EVERY, FlagChange(("\\Seen",)), since)
    assert (done.failed, done.groups) == ((2,), ((SEEN, (1, 3)),))
    assert flags(town, box) == {1: SEEN, 2: 0, 3: SEEN}
    assert state(town, box).unseen == 1


def test_a_choice_with_gaps_touches_only_what_it_names(town: Town) -> None:
    box = town.box()
    town.append(box, count=6)
    done = change(town, box, Pick.of([1, 4, 5, 77]), FlagChange(("\\Seen",)))
    assert done.groups == ((SEEN, (1, 4, 5)),)
    assert [uid for uid, set_ in flags(town, box).items() if set_] == [1, 4, 5]
    done = change(town, box, Pick(2, 4), FlagChange(("\\Seen",)))
    assert (done.groups, done.same) == (((SEEN, (2, 3)),), ((SEEN, (4,)),))


def test_the_number_of_statements_does_not_follow_the_number_of_messages(town: Town) -> None:
    box = town.box()
    town.append(box, count=60)

    class Counting:
        def __init__(self, tx: object) -> None:
            self._tx = tx
            self.calls = 0

        def __getattr__(self, name: str) -> object:
            self.calls += name in ("all", "one", "run", "many")
            return getattr(self._tx, name)

    def counted(tx: object, pick: Pick) -> int:
        counting = Counting(tx)
        messages.set_flags(
            counting,  # type: ignore[arg-type]  # it passes everything on
            town.ann.id, box, pick, FlagChange(("\\Seen",)), NOW, 1,
        )  # fmt: skip
        return counting.calls

    assert town.store.write(counted, Pick.of([1])) == town.store.write(counted, Pick(2, 60))


# --- copy and move ------------------------------------------------------------------------


def test_a_copy_is_the_same_message_in_another_place(town: Town) -> None:
    box, target = town.box(), town.box("Archive")
    town.append(target)
    town.append(box, count=3, flags=("\\Flagged", "blue"))
    copied = town.store.write(
        messages.copy, town.ann.id, box, target, Pick.of([1, 3, 9]), Quota(), NOW, 1
    )
    assert (copied.source, copied.target) == ((1, 3), (2, 3))
    assert copied.uidvalidity == state(town, target).uidvalidity
    here = {row.uid: row for row in town.store.read(reading.brief, box, EVERY)}
    there = {row.uid: row for row in town.store.read(reading.brief, target, EVERY)}
    for source, made in zip(copied.source, copied.target, strict=True):
        assert there[made].message == here[source].message
        assert there[made].flags == here[source].flags
    assert state(town, target).total == 3
    assert town.store.read(reading.usage, town.ann.id)[1] == 6
    with pytest.raises(OverQuota):
        town.store.write(messages.copy, town.ann.id, box, target, EVERY, Quota(messages=8), NOW, 1)


def test_a_copy_of_nothing_is_no_change(town: Town) -> None:
    box, before = town.box(), modseq(town)
    for function in (messages.copy, messages.move):
        args = (Quota(), NOW, 1) if function is messages.copy else (NOW, 1)
        done = town.store.write(function, town.ann.id, box, town.box("Sent"), EVERY, *args)
        assert (done.source, done.target, done.modseq) == ((), (), before)
    assert modseq(town) == before


def test_a_move_leaves_tombstones_and_nothing_to_recover(town: Town) -> None:
    box, target = town.box(), town.box("Trash")
    town.append(box, count=4)
    since = modseq(town)
    moved = town.store.write(messages.move, town.ann.id, box, target, Pick(2, 3), NOW, 1)
    assert (moved.source, moved.target) == ((2, 3), (1, 2))
    assert uids(town, box) == [1, 4]
    assert town.store.read(reading.changes, box, since).vanished == (2, 3)
    assert town.store.read(reading.recoverable, town.ann.id, 10) == []
    assert (state(town, box).total, state(town, target).total) == (2, 2)
    assert town.store.read(reading.usage, town.ann.id)[1] == 4


def test_a_move_within_a_mailbox_gives_new_uids_and_loses_nothing(town: Town) -> None:
    """`1:*` may reach beyond the last UID, where the moved ones come to lie."""
    box = town.box()
    town.append(box, count=3)
    for pick in (EVERY, Pick(1, ALL), Pick.of([7, 8, 9, 10, 11, 12])):
        before = town.store.read(reading.brief, box, EVERY)
        moved = town.store.write(messages.move, town.ann.id, box, box, pick, NOW, 1)
        after = town.store.read(reading.brief, box, EVERY)
        assert [row.message for row in after] == [row.message for row in before]
        assert tuple(row.uid for row in after) == moved.target
        assert moved.source == tuple(row.uid for row in before)
        assert state(town, box).total == 3
    copied = town.store.write(messages.copy, town.ann.id, box, box, Pick(1, ALL), Quota(), NOW, 1)
    assert len(copied.target) == 3
    assert state(town, box).total == len(uids(town, box)) == 6


# --- expunge ------------------------------------------------------------------------------


def test_what_is_expunged_can_be_recovered_for_its_time(town: Town) -> None:
    box = town.folder("Work/May")
    stored = town.append(box, count=3, flags=("\\Deleted",))
    since = modseq(town)
    gone = town.store.write(
        messages.expunge, town.ann.id, box, Pick.of([1, 3]), NOW, 1, retention=30 * DAY
    )
    assert (gone.uids, gone.modseq) == ((1, 3), since + 1)
    assert uids(town, box) == [2]
    assert town.store.read(reading.changes, box, since).vanished == (1, 3)
    rows = town.store.read(reading.recoverable, town.ann.id, 10)
    assert [(r.uid, r.path, r.flags, r.until) for r in rows] == [
        (3, "Work/May", DELETED, NOW + 30 * DAY),
        (1, "Work/May", DELETED, NOW + 30 * DAY),
    ]
    assert {r.message for r in rows} == {stored[0].message, stored[2].message}
    assert town.store.read(reading.usage, town.ann.id)[1] == 1
    assert state(town, box).uidnext == 4, "a UID is never given again"
    assert town.append(box)[0].uid == 4


def test_an_expunge_of_nothing_is_no_change(town: Town) -> None:
    box, before = town.box(), modseq(town)
    gone = town.store.write(messages.expunge, town.ann.id, box, EVERY, NOW, 1, retention=DAY)
    assert (gone.uids, gone.modseq, modseq(town)) == ((), before, before)


def test_what_is_flagged_for_deletion_is_listed_in_pieces(town: Town) -> None:
    box = town.box()
    town.append(box)
    town.append(box, count=3, flags=("\\Deleted",))
    assert town.store.read(messages.flagged_deleted, box, 10) == [2, 3, 4]
    assert town.store.read(messages.flagged_deleted, box, 2) == [2, 3]


def test_a_message_is_found_wherever_it_lies(town: Town) -> None:
    box, target = town.box(), town.folder("Work/May")
    (stored,) = town.append(box, flags=("blue",))
    town.store.write(messages.copy, town.ann.id, box, target, EVERY, Quota(), NOW, 1)
    town.store.write(messages.expunge, town.ann.id, box, EVERY, NOW, 1, retention=DAY)
    found = town.store.read(reading.whereabouts, [stored.message])
    assert [(w.path, w.uid, w.flags, w.recoverable_until) for w in found] == [
        ("Work/May", 1, ("blue",), None),
        ("INBOX", 1, (), NOW + DAY),
    ]


# --- small things -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([], ""),
        ([7], "7"),
        ([1, 2, 3], "1:3"),
        ([1, 3], "1,3"),
        ([1, 2, 4, 6, 7, 8], "1:2,4,6:8"),
        ([4_294_967_294, 4_294_967_295], "4294967294:4294967295"),
    ],
)
def test_numbers_are_written_as_ranges(numbers: list[int], text: str) -> None:
    assert compressed(numbers) == text


def test_a_long_choice_is_cut_into_pieces() -> None:
    assert [list(p) for p in pieces(range(1, 8), 3)] == [[1, 2, 3], [4, 5, 6], [7]]
