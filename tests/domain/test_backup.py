"""Mail out of a backup, and numbers after a whole restore."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroom.core.errors import NotFound
from postroom.core.ids import MESSAGE, Ids, external
from postroom.domain import backup as module
from postroom.domain.backup import KeptMessage, find, mailbox
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.messages import FlagChange
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.address import Address
from postroom.store.backup import Copy, Repository, Source, take
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.sql import Statement
from postroom.testing.clock import ManualClock
from tests.domain.making import DAY, NOW, Town, checked, letter, opened

_UIDNEXT = Statement("UPDATE mailbox SET uidnext = :uidnext WHERE id = :id")
ANN = Address("ann", "a.test")
EVERY = Pick(1, (1 << 32) - 1)


def copied(town: Town, folder: Path) -> Copy:
    """A backup of the town, opened."""
    repository = Repository(str(folder / "backups"), Files())

    async def run() -> Copy:
        blobs = Blobs(str(folder / "blobs"), Files(), Ids(ManualClock()))
        async with opened(town.store) as mail:
            source = Source("mail", mail, module.MAIL_FORMS)
            manifest = await take(repository, [source], blobs, [], ManualClock(), release="1")
        return Copy(repository, manifest, "mail")

    return asyncio.run(run())


def subjects(copy: Copy, found: list[KeptMessage]) -> list[str]:
    return [copy.content(kept.blob).partition(b"Subject: ")[2].split(b"\r")[0].decode()
            for kept in found]  # fmt: skip


def test_a_mailbox_is_read_as_it_was(town: Town, tmp_path: Path) -> None:
    box = town.folder("Work/2026")
    town.append(box, letter("one"), ("\\Seen", "Urgent"))
    town.append(box, letter("two"), ("$Forwarded",), now=NOW)
    town.append(town.box(), letter("elsewhere"))
    town.append(town.box(of=town.root), letter("another's"), of=town.root)
    copy = copied(town, tmp_path)
    town.store.write(messages.set_flags, town.ann.id, box, EVERY, FlagChange(("later",)), NOW, 0)
    found = mailbox(copy, ANN, "Work/2026")
    assert [(kept.uid, kept.flags) for kept in found] == [
        (1, ("\\Seen", "Urgent")),
        (2, ("$Forwarded",)),
    ]
    assert subjects(copy, found) == ["one", "two"]
    assert {(kept.received_at, kept.path) for kept in found} == {(NOW, "Work/2026")}
    assert subjects(copy, mailbox(copy, Address("ANN", "a.test"), "inbox")) == ["elsewhere"]
    assert mailbox(copy, ANN, "Drafts") == []


def test_what_the_backup_does_not_have_is_not_found(town: Town, tmp_path: Path) -> None:
    town.folder("gone")
    town.store.write(folders.delete, town.ann.id, "gone", NOW, 0)
    town.append(town.box(), letter(message_id="<one@a.test>"))
    copy = copied(town, tmp_path)
    for address, path in (
        (ANN, "Work"),
        (ANN, "gone"),
        (Address("bob", "a.test"), "INBOX"),
        (Address("ann", "b.test"), "INBOX"),
    ):
        with pytest.raises(NotFound):
            mailbox(copy, address, path)
    for what in ("<two@a.test>", external(MESSAGE, 5), ""):
        with pytest.raises(NotFound):
            find(copy, ANN, what)
    with pytest.raises(NotFound):
        find(copy, Address("root", "a.test"), "<one@a.test>")


def test_a_message_is_found_by_either_id_and_once(town: Town, tmp_path: Path) -> None:
    inbox, other = town.box(), town.folder("Other")
    (stored,) = town.append(inbox, letter("wanted", "<one@a.test>"), ("work",))
    town.append(inbox, letter("not this", "<two@a.test>"))
    town.store.write(
        messages.copy, town.ann.id, inbox, other, Pick.of([1]), messages.UNLIMITED, NOW, 0
    )
    copy = copied(town, tmp_path)
    for what in ("<one@a.test>", " one@a.test", external(MESSAGE, stored.message)):
        found = find(copy, ANN, what)
        assert subjects(copy, found) == ["wanted"]
        assert found[0].flags == ("work",)


def test_after_a_restore_no_number_is_given_again(town: Town) -> None:
    inbox, ann = town.box(), town.ann.id
    town.append(inbox, count=3)
    town.append(town.folder("Other"), count=2)
    town.store.write(messages.expunge, ann, inbox, Pick.of([2]), NOW, ann, retention=DAY)
    before = town.store.read(reading.open_mailbox, inbox)
    state = town.store.read(reading.account_state, ann)

    town.store.write(module.renumber_accounts)
    after: int | None = 0
    while after is not None:
        after = town.store.write(module.renumber_messages, after)

    assert checked(town.store).problems == []
    now = town.store.read(reading.account_state, ann)
    # A client that knows anything from before resynchronises in full, but keeps its messages.
    assert now.modseq == now.floor_modseq == state.modseq + module.MODSEQS
    assert now.rights_epoch > state.rights_epoch
    opened_again = town.store.read(reading.open_mailbox, inbox)
    assert opened_again.uids == before.uids
    assert opened_again.mailbox.uidvalidity == before.mailbox.uidvalidity
    assert opened_again.mailbox.uidnext == before.mailbox.uidnext + module.UIDS
    assert opened_again.mailbox.modseq == now.modseq
    changed = town.store.read(reading.changes, inbox, now.modseq - 1)
    assert [uid for uid, _, _ in changed.flags] == [1, 3]
    (stored,) = town.append(inbox)
    assert stored.uid == before.mailbox.uidnext + module.UIDS
    assert town.store.read(reading.account_state, ann).modseq == now.modseq + 1
    assert checked(town.store).problems == []


def test_pages_cover_every_mailbox(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE", 1)
    boxes = [town.folder(f"f{n}") for n in range(3)]
    for box in boxes:
        town.append(box)
    town.store.write(module.renumber_accounts)
    after: int | None = 0
    while after is not None:
        after = town.store.write(module.renumber_messages, after)
    modseq = town.store.read(reading.account_state, town.ann.id).modseq
    for box in boxes:
        rows = town.store.read(reading.flags, box, EVERY)
        assert [changed for _, _, changed in rows] == [modseq]


def test_a_mailbox_at_the_end_of_its_numbers_is_left_as_it_is(town: Town) -> None:
    inbox = town.box()
    near = (1 << 32) - 5
    town.store.write(lambda tx: tx.run(_UIDNEXT, id=inbox, uidnext=near))
    town.store.write(module.renumber_accounts)
    assert town.store.read(folders.get, inbox).uidnext == near
