"""What POP3 reads of a mailbox, on both engines. The lock has its tests with those who hold it."""

from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import NotFound
from postroom.domain.mailboxes import folders, maildrop, messages, reading
from postroom.domain.mailboxes.messages import FlagChange
from postroom.domain.mailboxes.picking import Pick
from tests.domain.making import DAY, NOW, Town, letter

EVERY = Pick(1, (1 << 31) - 1)


def test_the_inbox_of_an_account(town: Town) -> None:
    assert town.store.read(maildrop.inbox, town.ann.id).id == town.box()
    with pytest.raises(NotFound):
        town.store.read(maildrop.inbox, 7)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
def test_all_messages_are_read_whatever_the_pages(
    town: Town, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(maildrop, "PAGE", 2)
    box = town.box()
    raws = [letter(body=b"x" * n + b"\r\n") for n in range(count)]
    for raw in raws:
        town.append(box, raw)
    opened = town.store.read(maildrop.read, box)
    assert opened.uids.tolist() == list(range(1, count + 1))
    assert opened.sizes.tolist() == [len(raw) for raw in raws]
    assert opened.octets == opened.mailbox.size == sum(map(len, raws))


def test_a_mailbox_that_is_gone(town: Town) -> None:
    box = town.folder("Work")
    town.store.write(folders.delete, town.ann.id, "Work", NOW, 1)
    with pytest.raises(NotFound):
        town.store.read(maildrop.read, box)


def test_what_is_old_and_read(town: Town) -> None:
    box = town.box()
    town.append(box, count=6)
    later = Instant(NOW + DAY)
    seen = FlagChange(add=("\\Seen", "\\Flagged"))
    town.store.write(messages.set_flags, town.ann.id, box, Pick.of([1, 3, 5, 6]), seen, NOW, 1)
    assert town.store.read(maildrop.read_before, box, 5, later, 10) == [1, 3, 5]
    assert town.store.read(maildrop.read_before, box, 5, later, 2) == [1, 3]
    assert town.store.read(maildrop.read_before, box, 9, NOW, 10) == []


def test_seen_is_set_on_what_is_still_there(town: Town) -> None:
    box = town.box()
    town.append(box, count=4)
    town.store.write(messages.expunge, town.ann.id, box, Pick.of([2]), NOW, 1, retention=0)
    row = town.store.read(folders.get, box)
    town.store.write(maildrop.mark_seen, row, [1, 2, 3], NOW, 1)
    assert [(u, bits) for u, bits, _ in town.store.read(reading.flags, box, EVERY)] == [
        (1, 1),
        (3, 1),
        (4, 0),
    ]
    assert town.store.read(folders.get, box).unseen == 1
