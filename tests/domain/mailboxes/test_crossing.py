from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import NotFound, OverQuota
from postroom.domain.directory.people import Account
from postroom.domain.events import Changed
from postroom.domain.mailboxes import crossing, flags, folders, messages, reading
from postroom.domain.mailboxes.crossing import Crossing
from postroom.domain.mailboxes.messages import UNLIMITED, FlagChange, NewMessage, Quota
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.parsed import parse
from tests.domain.making import NOW, Town, checked, letter

EVERY = Pick(1, 1 << 30)


@pytest.fixture
def bob(town: Town) -> Account:
    return town.person("bob@a.test")


def ready(town: Town, box: int, keep: tuple[str, ...] = ()) -> list[Crossing]:
    """All that lies in a mailbox, as it would cross."""
    return [
        Crossing(
            row.uid,
            row.message,
            NewMessage(
                next(town.ids), row.blob, row.size, Instant(row.received_at), parse(letter()), keep
            ),
        )
        for row in town.store.read(reading.brief, box, EVERY)
    ]


def uids(town: Town, box: int) -> list[int]:
    return list(town.store.read(reading.uids, box))


@pytest.mark.parametrize("move", [False, True])
def test_messages_cross_with_their_content(town: Town, bob: Account, *, move: bool) -> None:
    source, target = town.box(), town.box(of=bob)
    town.append(source, count=3)
    town.append(target, of=bob)
    items = ready(town, source, ("\\Flagged", "Later"))
    town.store.events.clear()
    done = town.store.write(
        crossing.cross, source, target, items, UNLIMITED, NOW, bob.id, move=move
    )
    assert (done.source, done.target) == ((1, 2, 3), (2, 3, 4))
    assert uids(town, source) == ([] if move else [1, 2, 3])
    rows = {row.uid: row for row in town.store.read(reading.brief, target, EVERY)}
    assert [rows[uid].blob for uid in (2, 3, 4)] == [each.becomes.blob for each in items]
    known = town.store.read(flags.registry, bob.id)
    assert set(known.flags(rows[2].flags)) == {"\\Flagged", "Later"}
    assert town.store.read(flags.registry, town.ann.id).missing(["Later"]) == ["Later"]
    size = len(letter())
    assert town.store.read(reading.usage, bob.id) == (4 * size, 4)
    assert town.store.read(reading.usage, town.ann.id) == ((0, 0) if move else (3 * size, 3))
    told = {event.account for event in town.store.events if isinstance(event, Changed)}
    assert told == ({town.ann.id, bob.id} if move else {bob.id})
    assert checked(town.store).clean
    if move:
        assert town.store.read(reading.changes, source, 0).vanished == (1, 2, 3)
        assert town.store.read(reading.recoverable, town.ann.id, 10) == []


def test_what_is_gone_or_changed_place_is_passed_over(town: Town, bob: Account) -> None:
    source, target = town.box(), town.box(of=bob)
    town.append(source, count=3)
    items = ready(town, source)
    town.store.write(
        messages.expunge, town.ann.id, source, Pick.of([2]), NOW, town.ann.id, retention=0
    )
    done = town.store.write(
        crossing.cross, source, target, items, UNLIMITED, NOW, bob.id, move=True
    )
    assert (done.source, done.target) == ((1, 3), (1, 2))
    again = town.store.write(
        crossing.cross, source, target, items, UNLIMITED, NOW, bob.id, move=True
    )
    assert again.source == ()
    assert checked(town.store).clean


def test_the_quota_is_that_of_whom_it_goes_to(town: Town, bob: Account) -> None:
    source, target = town.box(), town.box(of=bob)
    town.append(source, count=3)
    with pytest.raises(OverQuota):
        town.store.write(
            crossing.cross,
            source,
            target,
            ready(town, source),
            Quota(messages=2),
            NOW,
            bob.id,
            move=True,
        )
    assert (uids(town, source), uids(town, target)) == ([1, 2, 3], [])


def test_within_one_account_nothing_crosses(town: Town) -> None:
    source, target = town.box(), town.box("Archive")
    town.append(source)
    with pytest.raises(NotFound):
        town.store.write(
            crossing.cross,
            source,
            target,
            ready(town, source),
            UNLIMITED,
            NOW,
            town.ann.id,
            move=False,
        )


def test_flags_of_a_shared_mailbox_are_shared(town: Town, bob: Account) -> None:
    """One placement, whoever looks: who sets a flag sets it for all."""
    box = town.box()
    town.append(box)
    wanted = FlagChange(add=("\\Seen",))
    town.store.write(messages.set_flags, town.ann.id, box, EVERY, wanted, NOW, bob.id)
    assert town.store.read(folders.get, box).unseen == 0
