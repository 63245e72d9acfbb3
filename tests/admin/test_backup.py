"""The operations on backups: through the declarations, as every face calls them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from postroom.admin import Caller, cli
from postroom.admin.restore import RESTORED
from postroom.core.clock import Instant
from postroom.core.errors import (
    AlreadyExists,
    Misuse,
    NotAllowed,
    NotFound,
    OverQuota,
)
from postroom.core.ids import MESSAGE, external
from postroom.core.settings import Place, Role, Scope
from postroom.domain import check
from postroom.domain.directory import people
from postroom.domain.mailboxes import flags, folders, messages, reading
from postroom.domain.mailboxes.messages import UNLIMITED, FlagChange, NewMessage, Stored
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, change
from postroom.formats.address import parse_mailbox
from postroom.formats.parsed import parse
from postroom.store.sql import Tx
from tests.admin.housing import Admin
from tests.domain.making import letter

EVERY = Pick(1, (1 << 32) - 1)
THEN = Instant(1_500_000_000_000)


async def account(admin: Admin, name: str = "ann") -> int:
    await admin.do("account create", address=f"{name}@example.org")
    address = parse_mailbox(f"{name}@example.org")
    return (await admin.stores.mail.read(people.account, address)).id


async def put(
    admin: Admin, owner: int, path: str, raw: bytes, set_: tuple[str, ...] = ()
) -> Stored:
    """A message that came long ago."""
    flow = admin.house.flow
    boxes = await flow.mail.read(folders.tree, owner)
    if path not in boxes.by_path:
        ids = iter([flow.ids.new() for _ in range(8)])
        await flow.mail.write(folders.create, owner, path, ids, admin.clock.now(), owner)
        boxes = await flow.mail.read(folders.tree, owner)
    blob = await flow.blobs.make(raw)
    message = NewMessage(flow.ids.new(), blob.id, len(raw), THEN, parse(raw), set_)
    args = (owner, boxes.find(path).id, [(blob, message)], UNLIMITED, admin.clock.now(), owner)
    (stored,) = await flow.mail.write_much(messages.append, *args)
    return stored


async def lies(admin: Admin, owner: int, path: str) -> list[tuple[bytes, int, tuple[str, ...]]]:
    """What lies in a mailbox: content, date and flags of each message."""
    flow = admin.house.flow

    def look(tx: Tx) -> list[tuple[bytes, int, tuple[str, ...]]]:
        box = folders.tree(tx, owner).find(path).id
        registry = flags.registry(tx, owner)
        return [
            (flow.blobs.read(tx, row.blob), row.received_at, registry.flags(row.flags))
            for row in reading.brief(tx, box, EVERY)
        ]

    return await flow.mail.read_much(look)


async def paths(admin: Admin, owner: int) -> set[str]:
    return set((await admin.stores.mail.read(folders.tree, owner)).by_path)


async def sound(admin: Admin) -> None:
    flow = admin.house.flow
    assert (await check.check(flow.mail, flow.blobs, repair=False)).problems == []


@pytest.fixture
def target(tmp_path: Path) -> str:
    return str(tmp_path / "backups")


async def test_backups_are_taken_listed_verified_and_forgotten(admin: Admin, target: str) -> None:
    ann = await account(admin)
    await put(admin, ann, "INBOX", letter())
    first = await admin.json("backup", target=target)
    assert (first.contents, first.octets, first.problems) == (1, len(letter()), ())
    assert "1 content " in first.told()
    admin.clock.advance(60)
    second = await admin.json("backup", target=target)
    assert second.copied_octets == 0
    listed = await admin.json("backup list", target=target)
    assert [line.backup for line in listed] == [first.backup, second.backup]
    for at in ("", "latest", first.backup):
        report = await admin.json("backup verify", target=target, at=at)
        assert (report.problems, report.backups) == ((), 1 if at else 2)
    gone = await admin.json("backup forget", target=target, keep=1)
    assert (gone.forgotten, gone.left) == ((first.backup,), 1)
    assert len(await admin.json("backup list", target=target)) == 1


async def test_damage_is_a_problem_of_the_report(admin: Admin, target: str) -> None:
    await admin.do("backup", target=target)
    pack = next((Path(target) / "packs").iterdir())
    pack.write_bytes(pack.read_bytes()[:-100])
    report = await admin.json("backup verify", target=target)
    assert report.problems
    assert "PROBLEM" in report.told()
    assert isinstance(report, cli.Finds)


async def test_what_cannot_be_is_refused(admin: Admin, target: str, tmp_path: Path) -> None:
    for name, asked in (
        ("backup", {"target": "below/here"}),
        ("backup list", {"target": "backups"}),
        ("backup forget", {"target": target}),
    ):
        with pytest.raises(Misuse):
            await admin.do(name, **asked)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(Misuse):
        await admin.do("backup", target=str(tmp_path / "other"))
    for name in ("backup list", "backup verify"):
        with pytest.raises(NotFound):
            await admin.do(name, target=target)
    with pytest.raises(NotFound):
        await admin.do("backup forget", target=target, keep=3)
    assert not Path(target).exists()
    await admin.do("backup", target=target)
    with pytest.raises(NotFound):
        await admin.do("backup verify", target=target, at="20200101T000000000Z")


async def test_a_folder_that_the_server_may_not_use_is_named(admin: Admin, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = str(tmp_path / "file" / "backups")
    for name, what in (("backup", "cannot be written"), ("backup list", "cannot be read")):
        with pytest.raises(Misuse, match=f"{below} {what}: Not a directory"):
            await admin.do(name, target=below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_of_somebody_else_is_named(admin: Admin, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o500)
    with pytest.raises(Misuse, match="theirs cannot be written"):
        await admin.do("backup", target=str(theirs))


async def test_a_mailbox_that_a_backup_does_not_have_is_named(admin: Admin, target: str) -> None:
    await account(admin)
    await admin.do("backup", target=target)
    with pytest.raises(NotFound, match=r"no mailbox Attic of ann@example\.org"):
        await admin.do("restore mailbox", target=target, address="ann@example.org", mailbox="Attic")


async def test_a_house_with_a_store_is_never_restored_over(admin: Admin, target: str) -> None:
    await admin.do("backup", target=target)
    with pytest.raises(AlreadyExists):
        await admin.do("restore", target=target)


@pytest.mark.parametrize("role", [Role.USER, Role.DOMAIN_ADMIN])
async def test_only_administrators_may(admin: Admin, target: str, role: Role) -> None:
    by = admin.by(Caller(7, role, "example.org"))
    of = {"target": target, "address": "ann@example.org"}
    for name, asked in (
        ("backup", {"target": target}),
        ("backup list", {"target": target}),
        ("backup verify", {"target": target}),
        ("backup forget", {"target": target, "keep": 1}),
        ("restore mailbox", {**of, "mailbox": "INBOX"}),
        ("restore message", {**of, "message": "<a@b>"}),
    ):
        with pytest.raises(NotAllowed):
            await by.do(name, **asked)
    assert not Path(target).exists()


# --- a mailbox ------------------------------------------------------------------------------------


async def test_a_mailbox_comes_back_beside_what_is_there(admin: Admin, target: str) -> None:
    ann = await account(admin)
    large = letter("large", body=b"0123456789\r\n" * 40_000)
    await put(admin, ann, "INBOX", letter("one"), ("\\Seen", "Urgent"))
    await put(admin, ann, "INBOX", large, ("\\Flagged",))
    await put(admin, ann, "Work", letter("elsewhere"))
    was = await lies(admin, ann, "INBOX")
    await admin.do("backup", target=target)
    inbox = (await admin.stores.mail.read(folders.tree, ann)).find("INBOX").id
    now = admin.clock.now()
    mail = admin.stores.mail
    await mail.write(messages.set_flags, ann, inbox, Pick.of([2]), FlagChange(("new",)), now, ann)
    await mail.write(messages.expunge, ann, inbox, Pick.of([1]), now, ann, retention=0)
    await put(admin, ann, "INBOX", letter("after the backup"))
    there = await lies(admin, ann, "INBOX")

    done = await admin.json(
        "restore mailbox", target=target, address="ann@example.org", mailbox="INBOX"
    )
    assert (done.messages, done.octets, done.problems) == (2, len(letter("one")) + len(large), ())
    assert done.mailbox == "INBOX restored 2026-01-01"
    assert await lies(admin, ann, done.mailbox) == was
    assert await lies(admin, ann, "INBOX") == there
    await sound(admin)
    again = await admin.json(
        "restore mailbox", target=target, address="ann@example.org", mailbox="inbox"
    )
    assert again.mailbox == "inbox restored 2026-01-01"
    third = await admin.json(
        "restore mailbox", target=target, address="ann@example.org", mailbox="INBOX"
    )
    assert third.mailbox == "INBOX restored 2026-01-01 2"
    await sound(admin)


async def test_a_mailbox_may_go_elsewhere(admin: Admin, target: str) -> None:
    ann, bob = await account(admin), await account(admin, "bob")
    await put(admin, ann, "A/B", letter("one"), ("work",))
    await put(admin, bob, "There", letter("mine"))
    await admin.do("backup", target=target)
    await admin.do("account delete", address="ann@example.org")
    of = {"target": target, "address": "ann@example.org", "mailbox": "A/B"}
    with pytest.raises(NotFound, match="--to"):
        await admin.do("restore mailbox", **of)
    to = {**of, "to": "bob@example.org"}
    done = await admin.json("restore mailbox", **to)
    assert done.mailbox == "A/B restored 2026-01-01"
    assert {"A", "A/B restored 2026-01-01"} <= await paths(admin, bob)
    # What is named and is there is added to.
    await admin.do("restore mailbox", **to, into="There")
    found = await lies(admin, bob, "There")
    assert [(raw, set_) for raw, _, set_ in found] == [
        (letter("mine"), ()),
        (letter("one"), ("work",)),
    ]
    await sound(admin)


async def test_the_quota_counts_and_nothing_comes_in_part(admin: Admin, target: str) -> None:
    ann = await account(admin)
    for n in range(4):
        await put(admin, ann, "INBOX", letter(str(n)))
    await admin.do("backup", target=target)
    before = await paths(admin, ann)
    of: dict[str, Any] = {"target": target, "address": "ann@example.org", "mailbox": "INBOX"}
    for name, value in (("quota.messages", 7), ("quota.octets", len(letter("0")) * 7)):
        flow = admin.house.flow
        for limit, fits in ((value, False), (0, True)):
            place = Place(Scope.ACCOUNT, str(ann))
            set_ = [Assignment(place, name, limit)]
            await flow.mail.write(change, set_, flow.ids.new(), admin.clock.now(), 0, "test")
            if fits:
                assert (await admin.json("restore mailbox", **of)).messages == 4
                box = (await paths(admin, ann)) - before
                for path in box:
                    await flow.mail.write(folders.delete, ann, path, admin.clock.now(), ann)
                await admin.do("jobs run", name="mailboxes.empty")
            else:
                with pytest.raises(OverQuota, match="nothing was restored"):
                    await admin.do("restore mailbox", **of)
                assert await paths(admin, ann) == before
    await sound(admin)


async def test_an_older_backup_can_be_asked(admin: Admin, target: str) -> None:
    ann = await account(admin)
    await put(admin, ann, "INBOX", letter("one"))
    first = await admin.json("backup", target=target)
    admin.clock.advance(5)
    await put(admin, ann, "INBOX", letter("two"))
    await admin.do("backup", target=target)
    of = {"target": target, "address": "ann@example.org", "mailbox": "INBOX"}
    assert (await admin.json("restore mailbox", **of, at=first.backup)).messages == 1
    assert (await admin.json("restore mailbox", **of)).messages == 2


async def test_damaged_content_is_told_and_the_rest_comes(admin: Admin, target: str) -> None:
    ann = await account(admin)
    body = b"x" * 70_000
    lost = await put(admin, ann, "INBOX", letter("lost", body=body))
    await put(admin, ann, "INBOX", letter("here"))
    flow = admin.house.flow
    row = (await flow.mail.read(reading.brief, lost.mailbox, Pick.of([1])))[0]
    for path in Path(flow.blobs.folder).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-5])
    taken = await admin.json("backup", target=target)
    assert len(taken.problems) == 1
    done = await admin.json(
        "restore mailbox", target=target, address="ann@example.org", mailbox="INBOX"
    )
    assert (done.messages, len(done.problems)) == (1, 1)
    assert "INBOX UID 1" in done.problems[0]
    assert row.size > 70_000


# --- a message ------------------------------------------------------------------------------------


async def test_a_message_comes_back(admin: Admin, target: str) -> None:
    ann = await account(admin)
    raw = letter("one", "<one@a.test>")
    stored = await put(admin, ann, "INBOX", raw, ("\\Answered", "work"))
    await put(admin, ann, "INBOX", letter("two", "<two@a.test>"))
    await admin.do("backup", target=target)
    of = {"target": target, "address": "ann@example.org"}
    by_name = await admin.json("restore message", **of, message="<one@a.test>")
    assert (by_name.messages, by_name.mailbox) == (1, RESTORED)
    by_id = await admin.json("restore message", **of, message=external(MESSAGE, stored.message))
    assert by_id.mailbox == RESTORED
    assert await lies(admin, ann, RESTORED) == [(raw, THEN, ("\\Answered", "work"))] * 2
    await admin.do("restore message", **of, message="one@a.test", into="INBOX")
    assert len(await lies(admin, ann, "INBOX")) == 3
    with pytest.raises(NotFound):
        await admin.do("restore message", **of, message="<three@a.test>")
    await sound(admin)
