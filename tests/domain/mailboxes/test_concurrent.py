"""Several connections at one account: numbers rise, counters are true, nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest

from postroom.core.errors import MailError, OverQuota
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.messages import UNLIMITED, FlagChange, Quota, Stored
from postroom.domain.mailboxes.picking import Pick
from tests.domain.making import NOW, Direct, Town, checked

EVERY: Final = Pick(1, (1 << 32) - 1)
_EACH: Final = 25


def beside(town: Town, *works: Callable[[Direct], None]) -> None:
    """Run each on a connection of its own, all at once; raises what one of them raised."""
    together = threading.Barrier(len(works), timeout=20)
    failed: list[Exception] = []

    def run(work: Callable[[Direct], None]) -> None:
        own = Direct(town.store.engine, town.store.place, migrated=True)
        try:
            together.wait()
            work(own)
        except Exception as error:
            failed.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "somebody waits for ever"
    if failed:
        raise failed[0]


def appender(
    town: Town, box: int, into: list[Stored], quota: Quota = UNLIMITED
) -> Callable[[Direct], None]:
    new = [town.new() for _ in range(_EACH)]
    ann = town.ann.id

    def work(store: Direct) -> None:
        for each in new:
            into.extend(store.write(messages.append, ann, box, [each], quota, NOW, ann))

    return work


def test_uids_rise_for_everybody_who_appends(town: Town) -> None:
    box = town.box()
    told: list[list[Stored]] = [[], [], []]
    beside(town, *(appender(town, box, into) for into in told))
    for mine in told:
        uids = [s.uid for s in mine]
        assert uids == sorted(set(uids))
    everyone = sorted(s.uid for mine in told for s in mine)
    assert everyone == list(range(1, 3 * _EACH + 1))
    row = town.store.read(folders.get, box)
    assert (row.total, row.uidnext) == (3 * _EACH, 3 * _EACH + 1)
    rows = town.store.read(reading.brief, box, EVERY)
    modseqs = [r.modseq for r in rows]
    assert modseqs == sorted(set(modseqs)), "a later UID has a later modseq"
    assert {r.uid: r.message for r in rows} == {s.uid: s.message for mine in told for s in mine}
    assert checked(town.store).problems == []


def test_a_quota_holds_for_all_of_them_together(town: Town) -> None:
    box = town.box()
    refused: list[int] = []

    def greedy(work: Callable[[Direct], None]) -> Callable[[Direct], None]:
        def until_full(store: Direct) -> None:
            with pytest.raises(OverQuota):
                work(store)
            refused.append(1)

        return until_full

    quota = Quota(messages=_EACH - 5)
    works = [greedy(appender(town, box, [], quota)) for _ in range(3)]
    beside(town, *works)
    assert len(refused) == 3
    assert town.store.read(folders.get, box).total == _EACH - 5


def test_moves_flags_and_folders_cross_without_harm(town: Town) -> None:
    """Two mailboxes whose messages go back and forth, as others set flags and rename."""
    ann = town.ann.id
    one, two = town.box(), town.folder("two")
    town.append(one, count=10)
    town.append(two, count=10)

    def mover(source: int, target: int) -> Callable[[Direct], None]:
        def work(store: Direct) -> None:
            for _ in range(_EACH):
                uids = list(store.read(reading.uids, source))[:3]
                if uids:
                    store.write(messages.move, ann, source, target, Pick.of(uids), NOW, ann)

        return work

    def flagger(store: Direct) -> None:
        for n in range(_EACH):
            wanted = FlagChange(("\\Seen", f"k{n % 5}"), replace=n % 2 == 0)
            store.write(messages.set_flags, ann, one, EVERY, wanted, NOW, ann)
            store.write(messages.set_flags, ann, two, EVERY, wanted, NOW, ann)

    def renamer(store: Direct) -> None:
        ids = iter(range(900_000, 910_000))
        at = "two"
        for n in range(_EACH):
            store.write(folders.rename, ann, at, f"r{n}/s", ids, NOW, ann)
            at = f"r{n}/s"

    beside(town, mover(one, two), mover(two, one), flagger, renamer)
    totals = [town.store.read(folders.get, box).total for box in (one, two)]
    assert sum(totals) == 20
    messages_left = {
        row.message for box in (one, two) for row in town.store.read(reading.brief, box, EVERY)
    }
    assert len(messages_left) == 20
    assert checked(town.store).problems == []


def test_two_who_make_one_folder_get_one(town: Town) -> None:
    ann = town.ann.id
    made: list[int] = []
    refused: list[MailError] = []

    def maker(start: int) -> Callable[[Direct], None]:
        def work(store: Direct) -> None:
            ids = iter(range(start, start + 1_000))
            for n in range(8):
                try:
                    made.append(store.write(folders.create, ann, f"f{n}/g", ids, NOW, ann))
                except MailError as error:
                    refused.append(error)

        return work

    beside(town, maker(900_000), maker(910_000), maker(920_000))
    assert len(made) == 8
    assert {type(e).__name__ for e in refused} == {"AlreadyExists"}
    tree = town.store.read(folders.tree, ann)
    assert {f"f{n}/g" for n in range(8)} <= set(tree.by_path)
    validities = [box.uidvalidity for box in tree.by_id.values()]
    assert len(set(validities)) == len(validities)
