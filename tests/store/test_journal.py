from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import StoreFailed
from postroom.store import journal
from postroom.store.sql import Tx
from tests.stores import Stores


def note(tx: Tx, account: int, modseq: int, at: int, kind: str = "flags") -> None:
    before = {"box": 1 << 60, "was": [[0, "1:3,7"]], "name": "Größe \N{SNOWMAN}"}
    journal.note(tx, account, modseq, Instant(at), 5, kind, before)


async def test_what_was_noted_is_read_back_in_order(stores: Stores) -> None:
    for modseq in (3, 2, 9):
        await stores.mail.write(note, 1, modseq, modseq * 10)
    await stores.mail.write(note, 2, 4, 40)
    found = await stores.mail.read(journal.since, 1, 2)
    assert [(e.modseq, e.at, e.actor, e.kind) for e in found] == [
        (3, 30, 5, "flags"),
        (9, 90, 5, "flags"),
    ]
    assert found[0].before == {
        "box": 1 << 60,
        "was": [[0, "1:3,7"]],
        "name": "Größe \N{SNOWMAN}",
    }
    assert [e.modseq for e in await stores.mail.read(journal.since, 1, 0, 2)] == [2, 3]


async def test_an_account_has_one_entry_for_each_modseq(stores: Stores) -> None:
    await stores.mail.write(note, 1, 3, 10)
    with pytest.raises(StoreFailed):
        await stores.mail.write(note, 1, 3, 11)


async def test_old_entries_are_forgotten_in_pieces(stores: Stores) -> None:
    for n in range(7):
        await stores.mail.write(note, 1 + n % 2, n, n * 10)
    assert await stores.mail.write(journal.prune, Instant(50), 3) == 3
    assert await stores.mail.write(journal.prune, Instant(50), 3) == 2
    assert await stores.mail.write(journal.prune, Instant(50), 3) == 0
    left = [await stores.mail.read(journal.since, account, -1) for account in (1, 2)]
    assert [[e.modseq for e in entries] for entries in left] == [[6], [5]]
