"""Deleted messages come back: where to, as what, and never more than may be."""

from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import LimitReached, NotFound, OverQuota
from postroom.domain.events import Changed, Type
from postroom.domain.mailboxes import cleaning, flags, folders, messages, reading, recover
from postroom.domain.mailboxes.messages import UNLIMITED, Quota
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.recover import Brought, Wanted
from postroom.store import journal
from postroom.store.sql import Tx
from tests.domain.making import DAY, NOW, Town, checked, letter

EVERY = Pick(1, (1 << 31) - 1)
MONTH = 30 * DAY
LATER = Instant(NOW + DAY)


def expunge(town: Town, box: int, pick: Pick = EVERY, now: Instant = NOW) -> None:
    town.store.write(messages.expunge, town.ann.id, box, pick, now, 1, retention=MONTH)


def back(
    town: Town,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    into: str = "",
    quota: Quota = UNLIMITED,
    now: Instant = LATER,
) -> list[Brought]:
    """All that fits, as the operation does it."""
    found = town.store.read(recover.find, town.ann.id, wanted, now)
    ids = [next(town.ids) for _ in range(folders.DEPTH)]
    return [
        town.store.write(
            recover.bring_back, town.ann.id, origin, uids, into, quota, ids, now, town.root.id
        )
        for origin, uids in sorted(found.origins.items())
    ]


def lies(town: Town, box: int) -> list[tuple[int, int, tuple[str, ...], int]]:
    """UID, message, flags and date of what lies in a mailbox."""

    def look(tx: Tx) -> list[tuple[int, int, tuple[str, ...], int]]:
        names = flags.registry(tx, town.ann.id)
        rows = reading.brief(tx, box, EVERY)
        return [(r.uid, r.message, names.flags(r.flags), r.received_at) for r in rows]

    return town.store.read(look)


def test_a_message_comes_back_with_all_but_its_uid(town: Town) -> None:
    box = town.box()
    (stored,) = town.append(box, letter(message_id="<1@a>"), ("\\Flagged", "\\Deleted", "work"))
    town.append(box, letter(message_id="<2@a>"))
    expunge(town, box, Pick(1, 1))
    before = town.store.read(reading.account_state, town.ann.id).modseq
    town.store.events.clear()
    (brought,) = back(town)
    assert (brought.path, brought.uids, brought.made) == ("INBOX", (3,), False)
    assert lies(town, box)[1] == (3, stored.message, ("\\Flagged", "work"), NOW)
    assert town.store.events == [Changed(town.ann.id, before + 1, Type.EMAIL | Type.MAILBOX)]
    (entry,) = town.store.read(journal.since, town.ann.id, before)
    assert (entry.kind, entry.actor) == ("recover", town.root.id)
    assert entry.before == {"box": box, "uids": "3", "from": box, "were": "1"}
    found = town.store.read(folders.get, box)
    assert (found.total, found.unseen, found.deleted, found.modseq) == (2, 2, 0, before + 1)
    assert checked(town.store).found == 0


def test_bringing_back_twice_changes_nothing(town: Town) -> None:
    box = town.box()
    town.append(box, count=3)
    expunge(town, box)
    (first,) = back(town)
    modseq = town.store.read(reading.account_state, town.ann.id).modseq
    again = town.store.write(
        recover.bring_back,
        town.ann.id,
        (box, "INBOX"),
        [1, 2, 3],
        "",
        UNLIMITED,
        [],
        LATER,
        town.root.id,
    )
    assert (len(first.uids), again.uids, again.there) == (3, (), 0)
    assert town.store.read(reading.account_state, town.ann.id).modseq == modseq
    assert back(town) == []


def test_a_message_that_lies_there_is_not_put_there_twice(town: Town) -> None:
    box, other = town.box(), town.folder("Other")
    town.append(box)
    town.store.write(
        messages.copy, town.ann.id, box, other, Pick(1, 1), UNLIMITED, NOW, town.ann.id
    )
    expunge(town, box)
    expunge(town, other)
    first, second = back(town, into="Both")
    assert (first.uids, first.there, first.made) == ((1,), 0, True)
    assert (second.uids, second.there, second.made) == ((), 1, False)
    assert len(lies(town, town.box("Both"))) == 1
    assert checked(town.store).found == 0


def test_a_deleted_mailbox_comes_back_with_its_messages_and_new_uidvalidity(town: Town) -> None:
    box = town.folder("Work/May")
    old = town.store.read(folders.get, box).uidvalidity
    stored = town.append(box, count=4)
    town.store.write(folders.delete, town.ann.id, "Work/May", NOW, 1)
    town.store.write(folders.delete, town.ann.id, "Work", NOW, 1)
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        pass
    (brought,) = back(town, Wanted(path="Work"))
    assert (brought.path, brought.made, len(brought.uids)) == ("Work/May", True, 4)
    again = town.store.read(folders.get, town.box("Work/May"))
    assert (again.subscribed, again.total) == (True, 4)
    assert again.uidvalidity > old
    assert [m for _, m, _, _ in lies(town, again.id)] == [s.message for s in stored]
    assert checked(town.store).found == 0


def test_what_lay_in_a_renamed_mailbox_goes_there(town: Town) -> None:
    box = town.folder("Work")
    town.append(box)
    expunge(town, box)
    town.store.write(folders.rename, town.ann.id, "Work", "Jobs", town.ids, NOW, 1)
    town.folder("Work")
    assert [each.path for each in back(town)] == ["Jobs"]


def test_a_mailbox_that_has_the_path_now_is_taken(town: Town) -> None:
    box = town.folder("Work")
    town.append(box)
    town.store.write(folders.delete, town.ann.id, "Work", NOW, 1)
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        pass
    new = town.folder("Work")
    (brought,) = back(town)
    assert (brought.path, brought.made) == ("Work", False)
    assert len(lies(town, new)) == 1


def test_inbox_takes_what_no_mailbox_can_be_made_for(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = town.folder("Work")
    town.append(box)
    town.store.write(folders.delete, town.ann.id, "Work", NOW, 1)
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        pass
    monkeypatch.setattr(folders, "MOST", 3)
    with pytest.raises(LimitReached):
        back(town, into="Elsewhere")
    (brought,) = back(town)
    assert (brought.path, brought.instead, brought.uids) == ("INBOX", True, (1,))


def test_beyond_the_quota_nothing_is_done(town: Town) -> None:
    box = town.folder("Work")
    town.append(box, count=3)
    town.append(town.box())
    town.store.write(folders.delete, town.ann.id, "Work", NOW, 1)
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        pass
    before = town.store.read(reading.account_state, town.ann.id).modseq
    with pytest.raises(OverQuota):
        back(town, quota=Quota(messages=3))
    assert town.store.read(reading.account_state, town.ann.id).modseq == before
    with pytest.raises(NotFound):
        town.box("Work")
    assert len(back(town, quota=Quota(messages=4))[0].uids) == 3


def test_what_is_wanted_is_what_is_found(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover, "_PAGE", 2)
    inbox, work, may, workshop = (
        town.box(),
        town.folder("Work"),
        town.folder("Work/May"),
        town.folder("Workshop"),
    )
    for box in (inbox, work, may, workshop):
        town.append(box, count=2)
    expunge(town, inbox, Pick(1, 1), NOW)
    for box in (inbox, work, may, workshop):
        expunge(town, box, now=LATER)
    named = town.store.read(reading.recoverable, town.ann.id, 100)[0]

    def found(wanted: Wanted, now: Instant = LATER) -> dict[str, list[int]]:
        origins = town.store.read(recover.find, town.ann.id, wanted, now).origins
        return {path: list(uids) for (_, path), uids in origins.items()}

    every = {"INBOX": [1, 2], "Work": [1, 2], "Work/May": [1, 2], "Workshop": [1, 2]}
    assert found(Wanted()) == every
    assert found(Wanted(path="Work")) == {"Work": [1, 2], "Work/May": [1, 2]}
    assert found(Wanted(path="inbox", since=LATER)) == {"INBOX": [2]}
    assert found(Wanted(frozenset({named.message}))) == {named.path: [named.uid]}
    assert found(Wanted(frozenset({named.message}), path="Elsewhere")) == {}
    assert found(Wanted(), Instant(NOW + MONTH)) == {**every, "INBOX": [2]}, "its time is over"
