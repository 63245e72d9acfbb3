from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from postroom.core.ids import ACCOUNT, BLOB, MAILBOX, MESSAGE, Ids, external
from postroom.domain import check as module
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.marked import tables
from postroom.domain.mailboxes.marked.blocks import Block, Group
from postroom.domain.mailboxes.messages import UNLIMITED, FlagChange, NewMessage, Stored
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.parsed import parse
from postroom.store.blobs import Blobs, NewBlob
from postroom.store.files import Files
from postroom.store.sql import Statement
from postroom.testing.clock import ManualClock
from tests.domain.making import DAY, NOW, Town, checked, letter

EVERY = Pick(1, (1 << 32) - 1)


def damage(town: Town, text: str, **params: Any) -> None:
    assert town.store.write(lambda tx: tx.run(Statement(text), **params)) == 1


def names(problems: list[str], *expected: tuple[str, str]) -> None:
    """Just these problems, by what they name and say."""
    assert len(problems) == len(expected), problems
    for who, what in expected:
        assert any(who in p and what in p for p in problems), (who, what, problems)


@pytest.fixture
def box(town: Town) -> int:
    """ann's INBOX with five messages, one of them seen and one deleted."""
    found = town.box()
    town.append(found, count=3)
    town.append(found, flags=("\\Seen",))
    town.append(found, flags=("\\Deleted",))
    return found


def test_a_sound_store_is_clean_and_counted(town: Town, box: int) -> None:
    report = checked(town.store)
    assert report.clean
    assert report.problems == []
    assert report.counts == {
        "blobs": 5,
        "octets": 5 * len(letter()),
        "messages": 5,
        "mailboxes": 12,
        "accounts": 2,
    }
    assert checked(town.store, repair=True).repaired == []


# --- content ------------------------------------------------------------------------------


def test_one_flipped_bit_in_a_row_is_found(town: Town, box: int) -> None:
    row = town.store.read(reading.brief, box, Pick.of([2]))[0]
    flipped = bytes([letter()[0] ^ 1]) + letter()[1:]
    damage(town, "UPDATE blob SET data = :data WHERE id = :id", id=row.blob, data=flipped)
    for repair in (False, True):
        report = checked(town.store, repair=repair)
        names(report.problems, (external(BLOB, row.blob), "another hash"))
        assert report.repaired == []


def in_file(town: Town, box: int, folder: str) -> tuple[NewBlob, Path, Stored]:
    """A message whose content is a file."""
    blobs = Blobs(folder, Files(), Ids(ManualClock()))
    raw = letter(body=b"x" * 100_000)
    blob = asyncio.run(blobs.make(raw))
    new = NewMessage(next(town.ids), blob.id, blob.size, NOW, parse(raw))
    ann = town.ann.id
    args = (ann, box, [(blob, new)], UNLIMITED, NOW, ann)
    (stored,) = town.store.write(messages.append, *args)
    return blob, Path(blobs.path(blob.id, blob.sha256, compressed=False)), stored


def test_one_flipped_bit_in_a_file_is_found(town: Town, box: int, tmp_path: Path) -> None:
    folder = str(tmp_path / "blobs")
    blob, path, _ = in_file(town, box, folder)
    assert checked(town.store, folder).clean
    whole = path.read_bytes()
    path.write_bytes(whole[:50_000] + bytes([whole[50_000] ^ 0x80]) + whole[50_001:])
    names(checked(town.store, folder).problems, (external(BLOB, blob.id), "another hash"))
    path.write_bytes(whole[:-1])
    names(checked(town.store, folder).problems, (external(BLOB, blob.id), "octets"))
    path.unlink()
    names(checked(town.store, folder).problems, (external(BLOB, blob.id), "cannot read"))


def test_pages_end_by_count_and_by_octets(
    town: Town, box: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PAGE", 2), ("PAGE_OCTETS", 10)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            report = checked(town.store)
            assert report.clean
            assert report.counts["blobs"] == 5
            assert report.counts["mailboxes"] == 12


def test_many_findings_are_counted_and_only_some_listed(
    town: Town, box: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORST", 2)
    town.store.write(lambda tx: tx.run(Statement("UPDATE blob SET sha256 = :s"), s=bytes(32)))
    report = checked(town.store)
    assert (report.found, len(report.problems), report.clean) == (5, 2, False)


# --- what is derived ----------------------------------------------------------------------


def test_wrong_counters_are_found_and_put_right(town: Town, box: int) -> None:
    good = town.store.read(folders.get, box)
    usage = town.store.read(reading.usage, town.ann.id)
    for column in ("total", "unseen", "deleted", "size"):
        damage(town, f"UPDATE mailbox SET {column} = {column} + 1 WHERE id = :id", id=box)
        found = checked(town.store).problems
        # What an account holds is the sum of its mailboxes.
        assert external(MAILBOX, box) in found[0], column
        assert checked(town.store).clean is False
        repaired = checked(town.store, repair=True)
        assert repaired.clean
        assert repaired.repaired
        assert town.store.read(folders.get, box) == good
        assert checked(town.store).clean
    for column in ("used_bytes", "used_messages"):
        damage(town, f"UPDATE account SET {column} = 0 WHERE id = :id", id=town.ann.id)
        names(checked(town.store).problems, (external(ACCOUNT, town.ann.id), "holds"))
        assert len(checked(town.store, repair=True).repaired) == 1
        assert town.store.read(reading.usage, town.ann.id) == usage


def test_a_missing_or_old_parse_is_made_again(town: Town, box: int) -> None:
    rows = town.store.read(reading.full, box, EVERY)
    damage(town, "DELETE FROM parsed WHERE blob = :id", id=rows[0].blob)
    damage(town, "UPDATE parsed SET version = 0, preview = '' WHERE blob = :id", id=rows[1].blob)
    names(
        checked(town.store).problems,
        (external(MESSAGE, rows[0].message), "parse"),
        (external(MESSAGE, rows[1].message), "parse"),
    )
    assert len(checked(town.store, repair=True).repaired) == 2
    assert town.store.read(reading.full, box, EVERY) == rows
    assert checked(town.store).clean


def test_a_parse_that_cannot_be_made_stops_nothing(town: Town, box: int, tmp_path: Path) -> None:
    folder = str(tmp_path / "blobs")
    blob, path, stored = in_file(town, box, folder)
    other = town.store.read(reading.brief, box, Pick.of([1]))[0]
    for each in (blob.id, other.blob):
        damage(town, "DELETE FROM parsed WHERE blob = :id", id=each)
    damage(town, "UPDATE mailbox SET total = 99 WHERE id = :id", id=box)
    path.unlink()
    report = checked(town.store, folder, repair=True)
    names(
        report.problems,
        (external(BLOB, blob.id), "cannot read"),
        (external(MESSAGE, stored.message), "cannot be parsed"),
    )
    # Its mailbox and the other message are put right all the same.
    assert any(external(MESSAGE, other.message) in r for r in report.repaired)
    assert town.store.read(folders.get, box).total == 6


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_uidnext_that_would_give_a_uid_again_is_raised(
    town: Town, box: int, forgotten: bool
) -> None:
    """A UID may be remembered by its tombstone alone, or by what can be recovered."""
    ann = town.ann.id
    town.store.write(messages.expunge, ann, box, Pick(4, 5), NOW, ann, retention=DAY)
    if forgotten:
        town.store.write(lambda tx: tx.run(Statement("DELETE FROM tombstone")))
    damage(town, "UPDATE mailbox SET uidnext = 4 WHERE id = :id", id=box)
    names(checked(town.store).problems, (external(MAILBOX, box), "UIDNEXT 4 is not above UID 5"))
    assert len(checked(town.store, repair=True).repaired) == 1
    assert town.store.read(folders.get, box).uidnext == 6
    town.append(box)
    assert checked(town.store).clean


def test_a_mailbox_behind_its_messages_is_brought_up(town: Town, box: int) -> None:
    good = town.store.read(folders.get, box).modseq
    damage(town, "UPDATE mailbox SET modseq = modseq - 1 WHERE id = :id", id=box)
    names(checked(town.store).problems, (external(MAILBOX, box), "modseq"))
    assert len(checked(town.store, repair=True).repaired) == 1
    assert town.store.read(folders.get, box).modseq == good
    assert checked(town.store).clean


@pytest.mark.parametrize("keeps", ["mailbox", "journal", "type_state", "tombstone"])
def test_an_account_behind_its_log_is_brought_up(town: Town, box: int, keeps: str) -> None:
    """Else its next change would take a number that was given before."""
    ann = town.ann.id
    town.store.write(messages.set_flags, ann, box, EVERY, FlagChange(("\\Flagged",)), NOW, ann)
    town.store.write(messages.expunge, ann, box, Pick.of([1]), NOW, ann, retention=DAY)
    good = town.store.read(reading.account_state, ann).modseq
    damage(town, "UPDATE account SET modseq = :m WHERE id = :id", id=ann, m=good - 2)
    for table, column in (
        ("mailbox", "modseq"),
        ("journal", "modseq"),
        ("type_state", "modseq"),
        ("tombstone", "modseq"),
    ):
        if table == keeps:
            continue
        if table == "mailbox":
            text = "UPDATE mailbox SET modseq = :m, changed_modseq = 1 WHERE account = :id"
            town.store.write(
                lambda tx, t=text: tx.run(Statement(t), id=ann, m=good - 2)  # type: ignore[misc]  # bound
            )
            town.store.write(lambda tx: tx.run(Statement("DELETE FROM flag_block")))
        else:
            text = f"DELETE FROM {table} WHERE account = :id AND {column} > :m"
            town.store.write(
                lambda tx, t=text: tx.run(Statement(t), id=ann, m=good - 2)  # type: ignore[misc]  # bound
            )
    found = checked(town.store).problems
    assert any(external(ACCOUNT, ann) in p and "modseq" in p for p in found), found
    assert checked(town.store, repair=True).repaired
    assert town.store.read(reading.account_state, ann).modseq == good
    assert checked(town.store).clean
    town.append(box)
    assert town.store.read(reading.account_state, ann).modseq == good + 1


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE flag_block SET modseq = modseq + 1",
        "UPDATE flag_block SET marked = marked - 2",
        "UPDATE flag_block SET unseen = 4",
        "UPDATE flag_block SET groups = substr(groups, 1, 20)",
        "DELETE FROM placement WHERE uid = 2",
    ],
)
def test_flags_that_do_not_fit_are_found_and_put_right(town: Town, box: int, text: str) -> None:
    seen = FlagChange(add=("\\Seen",))
    town.store.write(messages.set_flags, town.ann.id, box, Pick(1, 2), seen, NOW, 1)
    assert checked(town.store).clean
    damage(town, text)
    found = checked(town.store).problems
    assert any(external(MAILBOX, box) in p and "flags of UIDs 0:63" in p for p in found), found
    checked(town.store, repair=True)
    left = [p for p in checked(town.store).problems if "lies nowhere" not in p]
    assert left == []
    found_now = {uid: set_ for uid, set_, _ in town.store.read(reading.flags, box, EVERY)}
    lost = "substr" in text  # what cannot be read is as it came
    assert found_now[1] == (0 if lost else 1)


def test_a_message_that_is_named_twice_has_its_later_flags(town: Town, box: int) -> None:
    block = Block(0)
    block.groups = [Group(4, 9, 0b110), Group(2, 8, 0b10)]
    row = dict(block.row(box))
    town.store.write(lambda tx: tx.run(tables.PUT_BLOCK, **row))
    damage(town, "UPDATE mailbox SET modseq = 9 WHERE id = :id", id=box)
    assert any("flags of UIDs" in p for p in checked(town.store).problems)
    checked(town.store, repair=True)
    assert checked(town.store).clean
    found = {uid: (set_, m) for uid, set_, m in town.store.read(reading.flags, box, EVERY)}
    assert (found[1], found[2]) == ((4, 9), (4, 9))


# --- what is not derived ------------------------------------------------------------------


def test_a_placement_that_does_not_fit_is_reported_and_left(town: Town, box: int) -> None:
    rows = town.store.read(reading.brief, box, EVERY)
    where = "WHERE mailbox = :box AND uid = :uid"
    damage(town, f"UPDATE placement SET blob = :b {where}", box=box, uid=1, b=rows[1].blob)
    size = rows[2].size + 5
    damage(town, f"UPDATE placement SET size = :s {where}", box=box, uid=3, s=size)
    damage(town, "UPDATE mailbox SET size = size + 5 WHERE id = :id", id=box)
    damage(town, "UPDATE account SET used_bytes = used_bytes + 5 WHERE id = :id", id=town.ann.id)
    for repair in (False, True):
        report = checked(town.store, repair=repair)
        names(
            report.problems,
            (f"{external(MAILBOX, box)} 1:", "does not fit its message"),
            (f"{external(MAILBOX, box)} 3:", "size is not its content's"),
        )
        assert report.repaired == []


def test_a_message_of_another_account_is_reported(town: Town, box: int) -> None:
    other = town.box(of=town.root)
    damage(town, "UPDATE placement SET mailbox = :o WHERE mailbox = :b AND uid = 1", o=other, b=box)
    found = checked(town.store).problems
    assert any(f"{external(MAILBOX, other)} 1: does not fit" in p for p in found)


def test_a_message_that_lies_nowhere_is_reported(town: Town, box: int) -> None:
    row = town.store.read(reading.brief, box, Pick.of([1]))[0]
    lost = next(town.ids)
    damage(
        town,
        """INSERT INTO message (id, account, blob, thread, received_at, created_modseq)
        VALUES (:id, :account, :blob, :id, 0, 1)""",
        id=lost,
        account=town.ann.id,
        blob=row.blob,
    )
    names(checked(town.store).problems, (external(MESSAGE, lost), "lies nowhere"))


def test_a_mailbox_that_nobody_sees_is_reported(town: Town, box: int) -> None:
    town.folder("a/b")
    below = town.box("a/b")
    damage(town, "UPDATE mailbox SET parent = 5 WHERE id = :id", id=below)
    names(checked(town.store).problems, (external(MAILBOX, below), "its parent is gone"))


def test_mailboxes_that_are_being_emptied_are_clean(town: Town, box: int) -> None:
    town.append(town.folder("a"), count=2)
    town.store.write(folders.delete, town.ann.id, "a", NOW, 1)
    assert checked(town.store).clean
