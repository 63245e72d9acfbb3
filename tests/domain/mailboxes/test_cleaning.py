from __future__ import annotations

import pytest

from postroom.core.clock import Instant
from postroom.core.errors import NotAllowed, NotFound
from postroom.domain.directory import people
from postroom.domain.mailboxes import cleaning, folders, messages, reading
from postroom.domain.mailboxes.messages import FlagChange, Quota
from postroom.domain.mailboxes.picking import Pick
from postroom.store import journal
from postroom.store.schema import MAIL
from postroom.store.sql import Statement, Tx
from tests.domain.making import DAY, NOW, Town, letter

EVERY = Pick(1, (1 << 32) - 1)
MONTH = 30 * DAY
DOOMED = Statement("SELECT 1 FROM mailbox WHERE doomed = 1")
COUNTERS = Statement("""
    SELECT b.total, (SELECT count(*) FROM placement p WHERE p.mailbox = b.id),
        b.size, (SELECT coalesce(sum(p.size), 0) FROM placement p WHERE p.mailbox = b.id)
    FROM mailbox b WHERE b.account = :account
""")


class Counting:
    """A transaction that counts the rows which each unit touched."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.largest = 0

    def run(self, statement: Statement, **params: object) -> int:
        touched = self._tx.run(statement, **params)
        self.largest = max(self.largest, touched)
        return touched

    def __getattr__(self, name: str) -> object:
        return getattr(self._tx, name)


# --- deleted mailboxes --------------------------------------------------------------------


def test_a_deleted_mailbox_is_emptied_in_bounded_units(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "UNIT_ROWS", 3)
    box = town.folder("Work/May")
    stored = town.append(box, count=7)
    town.append(town.box(), count=2)
    before = town.store.read(reading.usage, town.ann.id)
    town.store.write(folders.delete, town.ann.id, "Work/May", NOW, 1)
    assert town.store.read(reading.usage, town.ann.id) == before, "until it is emptied"
    left = [6, 3, 2, 2]
    for expected in left:
        assert town.store.write(cleaning.empty_doomed, NOW, MONTH)
        assert town.store.read(reading.usage, town.ann.id)[1] == expected
    assert not town.store.write(cleaning.empty_doomed, NOW, MONTH)
    rows = town.store.read(reading.recoverable, town.ann.id, 100)
    assert {r.message for r in rows} == {s.message for s in stored}
    assert {r.path for r in rows} == {"Work/May"}, "from where it can be brought back"
    assert all(r.until == NOW + MONTH for r in rows)
    assert not town.store.read(lambda tx: tx.all(DOOMED))


def test_an_emptied_mailbox_can_be_deleted_beside_others(town: Town) -> None:
    for path in ("a", "b", "c"):
        town.folder(path)
        town.store.write(folders.delete, town.ann.id, path, NOW, 1)
    rounds = 0
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        rounds += 1
    assert rounds == 3


# --- what is kept for a time --------------------------------------------------------------


def test_recoverable_messages_go_when_their_time_is_over(town: Town) -> None:
    box = town.box()
    stored = town.append(box, count=3)
    ann = town.ann.id
    town.store.write(messages.copy, ann, box, town.box("Archive"), Pick.of([3]), Quota(), NOW, 1)
    town.store.write(messages.expunge, ann, box, Pick.of([1]), NOW, 1, retention=MONTH)
    town.store.write(messages.expunge, ann, box, Pick(2, 3), Instant(NOW + DAY), 1, retention=MONTH)
    assert town.store.write(cleaning.forget_expired, Instant(NOW + MONTH - 1)) == 0
    assert town.store.write(cleaning.forget_expired, Instant(NOW + MONTH)) == 1
    assert {r.uid for r in town.store.read(reading.recoverable, ann, 9)} == {2, 3}
    assert town.store.write(cleaning.forget_expired, Instant(NOW + DAY + MONTH)) == 2
    threads = town.store.read(reading.threads_of, [s.message for s in stored])
    assert list(threads) == [stored[2].message], "it lies in Archive still"


def test_old_tombstones_go_and_the_floor_rises(town: Town) -> None:
    box, ann = town.box(), town.ann.id
    town.append(box, count=3)
    town.store.write(messages.expunge, ann, box, Pick.of([1]), NOW, 1, retention=MONTH)
    first = town.store.read(reading.account_state, ann).modseq
    later = Instant(NOW + 50 * DAY)
    town.store.write(messages.expunge, ann, box, Pick.of([2]), later, 1, retention=MONTH)
    assert town.store.read(reading.account_state, ann).floor_modseq == 0
    assert town.store.write(cleaning.forget_tombstones, NOW) == 0
    assert town.store.write(cleaning.forget_tombstones, Instant(NOW + 1)) == 1
    state = town.store.read(reading.account_state, ann)
    assert state.floor_modseq == first
    assert town.store.read(reading.changes, box, first).vanished == (2,)
    assert town.store.read(reading.changes, box, 0).vanished == (2,)
    assert town.store.write(cleaning.forget_tombstones, Instant(NOW + 1)) == 0
    assert town.store.write(cleaning.forget_tombstones, Instant(NOW + 90 * DAY)) == 1
    assert town.store.read(reading.account_state, ann).floor_modseq == state.modseq
    assert town.store.read(reading.changes, box, first).vanished == ()


def test_tombstones_of_many_accounts_go_in_pieces(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "UNIT_ROWS", 2)
    for account in (town.ann, town.root):
        box = town.box(of=account)
        town.append(box, count=3, of=account)
        for uid in (1, 2, 3):
            town.store.write(
                messages.expunge, account.id, box, Pick.of([uid]), NOW, 1, retention=MONTH
            )
    rounds = 0
    while town.store.write(cleaning.forget_tombstones, Instant(NOW + 1)):
        rounds += 1
    assert rounds == 3
    for account in (town.ann, town.root):
        state = town.store.read(reading.account_state, account.id)
        assert state.floor_modseq == state.modseq


def held(town: Town, account: int) -> tuple[int, int]:
    """How many tombstones an account has, and how many its count says."""
    rows = Statement("SELECT count(*) FROM tombstone WHERE account = :account")
    count = Statement("SELECT held FROM tombstone_count WHERE account = :account")
    found = [town.store.read(lambda tx, s=s: tx.one(s, account=account)) for s in (rows, count)]  # type: ignore[misc]  # bound
    return tuple(row[0] if row is not None else 0 for row in found)  # type: ignore[return-value]  # two of them


def test_an_account_with_too_many_tombstones_loses_the_oldest_in_pieces(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "UNIT_ROWS", 3)
    monkeypatch.setattr(cleaning, "TOMBSTONES_MOST", 10)
    box, ann, root = town.box(), town.ann.id, town.root.id
    town.append(box, count=25)
    modseqs = {}
    for uid in range(1, 21):
        done = town.store.write(messages.expunge, ann, box, Pick.of([uid]), NOW, 1, retention=MONTH)
        modseqs[uid] = done.modseq
    # Ten are not too many, nor do others count.
    other = town.box(of=town.root)
    town.append(other, count=10, of=town.root)
    town.store.write(messages.expunge, root, other, Pick(1, 10), NOW, 1, retention=MONTH)
    assert held(town, ann) == (20, 20)
    left = []
    while town.store.write(cleaning.forget_tombstones, NOW):
        left.append(held(town, ann))
    assert left == [(17, 17), (14, 14), (11, 11), (10, 10)]
    assert town.store.read(reading.account_state, ann).floor_modseq == modseqs[10]
    assert town.store.read(reading.changes, box, modseqs[10]).vanished == tuple(range(11, 21))
    assert held(town, root) == (10, 10)
    assert town.store.read(reading.account_state, root).floor_modseq == 0


def test_a_change_that_took_many_goes_as_a_whole_when_the_floor_rises(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a change above the floor would be told as if it were all of it."""
    monkeypatch.setattr(cleaning, "TOMBSTONES_MOST", 10)
    box, ann = town.box(), town.ann.id
    town.append(box, count=14)
    town.store.write(messages.expunge, ann, box, Pick(1, 8), NOW, 1, retention=MONTH)
    town.store.write(messages.expunge, ann, box, Pick(9, 12), NOW, 1, retention=MONTH)
    assert town.store.write(cleaning.forget_tombstones, NOW) == 1
    assert held(town, ann) == (4, 4)
    assert town.store.write(cleaning.forget_tombstones, NOW) == 0


def test_the_count_of_tombstones_follows_all_that_makes_and_takes_them(town: Town) -> None:
    busy(town)
    while town.store.write(cleaning.empty_doomed, NOW, MONTH):
        pass
    rows, count = held(town, town.ann.id)
    assert rows == count > 0
    assert town.store.write(cleaning.forget_tombstones, Instant(NOW + 1)) == 1
    assert held(town, town.ann.id) == (0, 0)


# --- deleted accounts ---------------------------------------------------------------------


def busy(town: Town) -> None:
    """Something of everything that an account can own."""
    ann = town.ann.id
    for n in range(4):
        raw = letter(f"s{n}", f"<{n}@x>", [f"<r{n}@x>"])
        town.append(town.box(), raw, flags=("blue", "\\Seen") if n % 2 else ("green",), count=3)
    town.folder("a/b/c")
    box, target = town.box(), town.box("a/b/c")
    town.store.write(messages.copy, ann, box, target, Pick(1, 5), Quota(), NOW, 1)
    town.store.write(messages.move, ann, box, target, Pick(6, 7), NOW, 1)
    town.store.write(messages.expunge, ann, box, Pick(8, 9), NOW, 1, retention=MONTH)
    town.store.write(messages.set_flags, ann, box, EVERY, FlagChange(("\\Flagged",)), NOW, 1)
    town.folder("doomed")
    town.append(town.box("doomed"), count=2)
    town.store.write(folders.delete, ann, "doomed", NOW, 1)


def owned(town: Town, account: int) -> dict[str, int]:
    """Rows of an account by table, wherever a column names it."""
    found = {}
    for table in MAIL.sorted_tables:
        if table.name in ("account", "principal"):
            column = "id"
        elif "account" in table.columns:
            column = "account"
        else:
            continue
        count = Statement(f"SELECT count(*) FROM {table.name} WHERE {column} = :account")
        row = town.store.read(lambda tx, count=count: tx.one(count, account=account))  # type: ignore[misc]  # bound
        assert row is not None
        found[table.name] = row[0]
    return found


@pytest.mark.parametrize("bound", [1, 5, 2_000])
def test_a_deleted_account_leaves_nothing(
    town: Town, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    monkeypatch.setattr(cleaning, "UNIT_ROWS", bound)
    busy(town)
    town.append(town.box(of=town.root), count=2, of=town.root)
    others = owned(town, town.root.id)
    before = owned(town, town.ann.id)
    for table in ("placement", "type_state", "mailbox", "message", "keyword", "thread_ref",
                  "tombstone", "recoverable", "journal"):  # fmt: skip
        assert before.get(table, 1), f"the test wants something in {table}"
    town.store.write(people.delete_account, town.ann)
    assert town.store.read(people.gone_accounts, 10, NOW) == [town.ann.id]
    rounds = 1
    largest = 0

    def piece(tx: Tx) -> bool:
        nonlocal largest
        counting = Counting(tx)
        more = cleaning.empty_gone(counting, town.ann.id, NOW)  # type: ignore[arg-type]  # it passes everything on
        largest = max(largest, counting.largest)
        return more

    while town.store.write(piece):
        rounds += 1
        # Whoever looks in between finds counters that are true.
        for total, placed, size, held in town.store.read(
            lambda tx: tx.all(COUNTERS, account=town.ann.id)
        ):
            assert (total, size) == (placed, held)
    assert set(owned(town, town.ann.id).values()) == {0}
    assert owned(town, town.root.id) == others
    assert largest <= max(bound, 1)
    assert rounds >= sum(before.values()) // (2 * bound)
    assert rounds == 1 or bound < 2_000
    assert town.store.read(people.gone_accounts, 10, NOW) == []
    # A job that was killed before it noted its end runs it again.
    assert not town.store.write(cleaning.empty_gone, town.ann.id, NOW)
    assert town.store.read(journal.since, town.ann.id, 0) == []


def test_an_account_that_lives_is_not_erased(town: Town) -> None:
    busy(town)
    before = owned(town, town.ann.id)
    with pytest.raises(NotAllowed):
        town.store.write(cleaning.empty_gone, town.ann.id, NOW)
    assert owned(town, town.ann.id) == before


def test_mail_that_was_on_its_way_goes_too(town: Town) -> None:
    town.store.write(people.delete_account, town.ann)
    town.append(town.box())  # RCPT was before the deletion, DATA after it
    while town.store.write(cleaning.empty_gone, town.ann.id, NOW):
        pass
    assert set(owned(town, town.ann.id).values()) == {0}
    with pytest.raises(NotFound):
        town.append(1_007)
