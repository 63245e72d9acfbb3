"""Imports: each message once, however often, with all that belongs to it, and a receipt."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from postroom.core.errors import Malformed, Misuse, NotFound, StoreFull
from postroom.core.settings import SERVER
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, change
from postroom.formats.address import parse_mailbox
from postroom.mailflow.transfer import importing
from postroom.testing.corpus import average_10k
from tests.admin.housing import Admin
from tests.mailflow.transfer.trees import (
    ANN,
    BOB,
    Message,
    account,
    filled,
    kept,
    maildir,
    put,
    subscribed,
    text,
    wired,
)

SECOND = 1_600_000_000
FROM = b"From ann@example.net Sun Sep 13 12:26:40 2020\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return maildir(tmp_path / "source")


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def told(path: str) -> list[dict[str, Any]]:
    """The lines of the receipt that are about messages."""
    return [line for line in lines(path) if "status" in line]


async def setting(admin: Admin, name: str, value: int) -> None:
    flow = admin.house.flow
    await flow.mail.write(
        change, [Assignment(SERVER, name, value)], flow.ids.new(), flow.clock.now(), 0, "a test"
    )


def numbered(folder: Path, count: int, first: int = 0) -> None:
    for n in range(first, first + count):
        put(folder, f"cur/{1_700_000_000 + n}.a{n}:2,S", text(f"m{n}"), at=SECOND + n)


# --- what is brought ------------------------------------------------------------------------------


async def test_a_maildir_comes_with_all_that_belongs_to_it(admin: Admin, source: Path) -> None:
    await account(admin)
    (source / "dovecot-keywords").write_bytes(b"0 $label1\n1 work\n")
    put(source, "cur/1.a:2,FSab", text("one"), at=SECOND + 0.25)
    put(source, "new/2.a", text("two"))
    maildir(source / ".Sent Items")
    put(source / ".Sent Items", "cur/1.a:2,S", text("sent"))
    maildir(source / ".Work.2026")
    put(source / ".Work.2026", "cur/1.a:2,RT", text("work"))
    maildir(source / ".Empty")
    (source / "subscriptions").write_bytes(b"V\t2\n\nWork\t2026\n")
    done = await admin.json("import maildir", path=str(source), account=ANN)
    assert (done.imported, done.failed, done.problems) == (4, 0, ())
    at = SECOND * 1000
    assert await filled(admin) == {
        "INBOX": [
            Message(
                wired(text("one")),
                frozenset({"\\Flagged", "\\Seen", "$label1", "work"}),
                at + 250,
            ),
            Message(wired(text("two")), frozenset(), at),
        ],
        "Sent": [Message(wired(text("sent")), frozenset({"\\Seen"}), at)],
        "Work/2026": [Message(wired(text("work")), frozenset({"\\Answered", "\\Deleted"}), at)],
    }
    assert "Empty" in await kept(admin)
    assert {"Work/2026", "Empty", "Work"} & await subscribed(admin) == {"Work/2026"}
    report = await admin.do("check")
    assert report.problems == ()


async def test_the_receipt_has_a_line_for_each_item(house: Admin, source: Path) -> None:
    await account(house)
    put(source, "cur/1.a:2,S", text("one"))
    put(source, "cur/2.a:2,", b"Subject: \0\n\n")
    put(source, "cur/3.a:2,", b"")
    (source / "cur" / "4.a").symlink_to("/etc/passwd")
    done = await house.do("import maildir", path=str(source), account=ANN)
    one, nul, empty, link = told(done.receipt)
    uid = {"status": "imported", "mailbox": "INBOX", "uid": 1}
    assert {key: one[key] for key in uid} == uid
    assert one["source"] == "cur/1.a:2,S"
    assert one["source_sha256"] == hashlib.sha256(text("one")).hexdigest()
    assert one["sha256"] == hashlib.sha256(wired(text("one"))).hexdigest()
    assert one["size"] == len(wired(text("one")))
    assert one["message_id"] == "<one@example.net>"
    assert one["message"].startswith("m")
    assert one["flags"] == ["\\Seen"]
    assert (nul["status"], nul["why"]) == ("failed", "A message may not hold NUL")
    assert nul["source_sha256"] == hashlib.sha256(b"Subject: \0\n\n").hexdigest()
    assert (empty["status"], empty["why"]) == ("failed", "It is empty")
    assert (link["status"], link["why"]) == ("failed", "A symbolic link is not followed")
    first, *_, last = lines(done.receipt)
    assert (first["receipt"], first["account"], first["source"]) == (
        "import maildir",
        ANN,
        str(source),
    )
    assert (last["summary"]["imported"], last["summary"]["failed"]) == (1, 3)
    assert done.problems == (
        "cur/2.a:2,: A message may not hold NUL",
        "cur/3.a:2,: It is empty",
        "cur/4.a: A symbolic link is not followed",
    )
    assert os.stat(done.receipt).st_mode & 0o777 == 0o600


async def test_an_mbox_comes_with_flags_dates_and_odd_ends(admin: Admin, tmp_path: Path) -> None:
    await account(admin)
    file = tmp_path / "Old mail.mbox"
    file.write_bytes(
        b"junk before all\n\n"
        + FROM
        + b"From: a@b.example\nStatus: RO\nX-Keywords: work\n\n>From here\n\n"
        + FROM
        + b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n"
        + b"From -\nFrom: c@d.example\nDate: Mon, 14 Sep 2020 12:26:40 +0000\n\nno date above\n"
    )
    done = await admin.do("import mbox", file=str(file), account=ANN)
    assert (done.imported, done.failed, done.left_out) == (2, 1, 1)
    assert done.problems == ("offset 0: Here no message begins: there is no From line",)
    assert await filled(admin) == {
        "Old mail": [
            Message(
                b"From: a@b.example\r\n\r\nFrom here\r\n",
                frozenset({"\\Seen", "work"}),
                SECOND * 1000,
            ),
            Message(
                b"From: c@d.example\r\nDate: Mon, 14 Sep 2020 12:26:40 +0000\r\n\r\n"
                b"no date above\r\n",
                frozenset(),
                (SECOND + 86_400) * 1000,
            ),
        ]
    }
    again = await admin.do("import mbox", file=str(file), account=ANN)
    assert (again.imported, again.already_there) == (0, 2)


async def test_into_a_mailbox(house: Admin, source: Path) -> None:
    await account(house)
    put(source, "cur/1.a", text("one"))
    put(maildir(source / ".Sent"), "cur/1.a", text("two"))
    await house.do("import maildir", path=str(source), account=ANN, into="Old/2020")
    assert set(await filled(house)) == {"Old/2020", "Old/2020/Sent"}
    assert {"Old/2020", "Old/2020/Sent"} <= await subscribed(house)
    with pytest.raises(Malformed):
        await house.do("import maildir", path=str(source), account=ANN, into="a//b")


async def test_bare_ends_and_repeated_carriage_returns_are_mended(
    house: Admin, source: Path
) -> None:
    await account(house)
    put(source, "cur/1.a", b"A: 1\r\r\nB: 2\r\r\n\r\r\nx\ry\n")
    await house.do("import maildir", path=str(source), account=ANN)
    ((content, _, _),) = (await kept(house))["INBOX"]
    assert content == b"A: 1\r\nB: 2\r\n\r\nx\r\ny\r\n"


async def test_keywords_that_cannot_be_kept_are_told_and_the_message_comes(
    admin: Admin, tmp_path: Path
) -> None:
    await account(admin)
    file = tmp_path / "x.mbox"
    many = " ".join(f"k{n}" for n in range(70))
    file.write_bytes(FROM + f"X-Keywords: good b(d {many}\nA: 1\n\nx\n".encode())
    done = await admin.do("import mbox", file=str(file), account=ANN, into="INBOX")
    (line,) = told(done.receipt)
    assert line["status"] == "imported"
    assert line["flags"] == ["good", *(f"k{n}" for n in range(52))]
    assert line["flags_not_kept"] == ["b(d", *(f"k{n}" for n in range(52, 70))]
    assert set(await filled(admin)) == {"INBOX"}


# --- what does not fit ----------------------------------------------------------------------------


async def test_what_is_too_large_is_listed(house: Admin, source: Path) -> None:
    await account(house)
    await setting(house, "smtp.max_size", 64 << 10)
    put(source, "cur/1.a", b"A: 1\n\n" + b"x\n" * 30_000)  # fits, until its lines end in CRLF
    put(source, "cur/2.a", text("two"))
    with (source / "cur" / "3.a").open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    done = await house.do("import maildir", path=str(source), account=ANN)
    assert (done.imported, done.failed) == (1, 2)
    large, _, sparse = told(done.receipt)
    assert large["why"] == sparse["why"] == "This is larger than this server accepts"
    assert "source_sha256" in large
    assert "source_sha256" not in sparse


async def test_what_is_over_quota_is_listed_and_the_small_ones_still_fit(
    admin: Admin, source: Path
) -> None:
    await account(admin)
    await setting(admin, "quota.octets", 2_000)
    put(source, "cur/1.a", text("one"))
    put(source, "cur/2.a", text("two", "x" * 3_000))
    put(source, "cur/3.a", text("three"))
    for dry in (True, False):
        done = await admin.do("import maildir", path=str(source), account=ANN, dry_run=dry)
        assert (done.imported, done.failed) == (2, 1)
        assert done.problems == ("cur/2.a: The mailbox is full",)
    await setting(admin, "quota.octets", 0)
    done = await admin.do("import maildir", path=str(source), account=ANN)
    assert (done.imported, done.already_there, done.failed) == (1, 2, 0)
    assert (await admin.do("check")).problems == ()


async def test_a_mailbox_that_cannot_be_made_fails_with_each_of_its_messages(
    house: Admin, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account(house)
    monkeypatch.setattr(folders, "MOST", 6)  # those that every account has
    put(source, "cur/1.a", text("one"))
    put(maildir(source / ".More"), "cur/1.a", text("two"))
    done = await house.do("import maildir", path=str(source), account=ANN)
    assert (done.imported, done.failed) == (1, 1)
    assert "The mailbox More cannot be made" in done.problems[0]


async def test_a_full_disk_ends_it_and_what_was_brought_is_in_the_receipt(
    house: Admin, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await account(house)
    numbered(source, 120)
    whole, calls = importing._append, 0

    def append(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreFull
        return whole(*args, **kwargs)

    monkeypatch.setattr(importing, "_append", append)
    receipt = str(tmp_path / "receipt")
    with pytest.raises(StoreFull):
        await house.do("import maildir", path=str(source), account=ANN, receipt=receipt)
    assert len(told(receipt)) == importing.BATCH
    assert "summary" not in lines(receipt)[-1]
    done = await house.do("import maildir", path=str(source), account=ANN, receipt=receipt)
    assert (done.imported, done.already_there) == (70, 50)
    assert len((await kept(house))["INBOX"]) == 120


# --- again and again ------------------------------------------------------------------------------


async def test_a_second_run_brings_only_what_is_missing(admin: Admin, source: Path) -> None:
    await account(admin)
    numbered(source, 130)
    put(source, "cur/5.twin", text("m5"))  # the same content twice: two messages
    done = await admin.do("import maildir", path=str(source), account=ANN)
    assert done.imported == 131
    numbered(source, 3, first=130)
    put(source, "cur/6.twin", text("m5"))
    done = await admin.do("import maildir", path=str(source), account=ANN)
    assert (done.imported, done.already_there) == (4, 131)
    held = (await kept(admin))["INBOX"]
    assert len(held) == 135
    assert sum(message.content == wired(text("m5")) for message in held) == 3


async def test_without_a_receipt_what_was_deleted_comes_back_and_with_it_it_does_not(
    house: Admin, source: Path, tmp_path: Path
) -> None:
    ann = await account(house)
    numbered(source, 4)
    receipt = str(tmp_path / "receipt.jsonl")
    asked = {"path": str(source), "account": ANN}
    await house.do("import maildir", **asked, receipt=receipt)
    box = await house.stores.mail.read(folders.by_role, ann, "inbox")
    assert box is not None
    now = house.clock.now()
    await house.stores.mail.write(messages.expunge, ann, box.id, Pick(1, 2), now, 0, retention=1000)
    done = await house.do("import maildir", **asked, receipt=receipt)
    assert (done.imported, done.already_there) == (0, 4)
    done = await house.do("import maildir", **asked, receipt=receipt)  # told twice by now
    assert (done.imported, done.already_there) == (0, 4)
    put(source, "cur/9.twin", text("m0"))
    done = await house.do("import maildir", **asked, receipt=receipt)
    assert (done.imported, done.already_there) == (1, 4)
    done = await house.do("import maildir", **asked)
    assert (done.imported, done.already_there) == (2, 3)


async def test_a_receipt_that_was_cut_by_a_kill_is_gone_on_with(
    house: Admin, source: Path, tmp_path: Path
) -> None:
    await account(house)
    numbered(source, 60)
    receipt = tmp_path / "receipt.jsonl"
    asked = {"path": str(source), "account": ANN, "receipt": str(receipt)}
    await house.do("import maildir", **asked)
    data = receipt.read_bytes()
    receipt.write_bytes(data[: len(data) // 2])
    done = await house.do("import maildir", **asked)
    assert (done.imported, done.already_there) == (0, 60)
    assert receipt.read_bytes().startswith(data[: len(data) // 2] + b"\n")
    done = await house.do("import maildir", **asked)
    assert (done.imported, done.already_there) == (0, 60)


async def test_a_receipt_is_the_accounts_own_and_is_one(
    house: Admin, source: Path, tmp_path: Path
) -> None:
    await account(house)
    await account(house, BOB)
    numbered(source, 2)
    receipt = tmp_path / "receipt.jsonl"
    await house.do("import maildir", path=str(source), account=ANN, receipt=str(receipt))
    with pytest.raises(Misuse, match="is a receipt of ann"):
        await house.do("import maildir", path=str(source), account=BOB, receipt=str(receipt))
    for other in (b"hello\nworld\n", b"[1]\n"):
        receipt.write_bytes(other)
        with pytest.raises(Misuse, match="is no receipt"):
            await house.do("import maildir", path=str(source), account=ANN, receipt=str(receipt))
        assert receipt.read_bytes() == other
    with pytest.raises(Misuse, match="It is written as"):
        await house.do("import maildir", path=str(source), account=ANN, receipt="/no/such/place")


async def test_two_imports_at_the_same_time_bring_each_message_once(
    admin: Admin, source: Path
) -> None:
    await account(admin)
    numbered(source, 230)
    put(source, "cur/5.twin", text("m5"))
    one, two = await asyncio.gather(
        admin.do("import maildir", path=str(source), account=ANN),
        admin.do("import maildir", path=str(source), account=ANN),
    )
    assert one.imported + two.imported == 231
    assert one.already_there + two.already_there == 231
    assert len((await kept(admin))["INBOX"]) == 231


async def test_folders_that_become_one_mailbox_are_one_source(house: Admin, source: Path) -> None:
    await account(house)
    put(source, "cur/1.a", text("one"))
    put(maildir(source / ".INBOX"), "cur/1.a", text("one"))
    for there in (0, 2):
        done = await house.do("import maildir", path=str(source), account=ANN)
        assert done.already_there == there
    assert len((await kept(house))["INBOX"]) == 2


async def test_a_dry_run_says_what_would_be_and_changes_nothing(admin: Admin, source: Path) -> None:
    await account(admin)
    numbered(source, 3)
    put(maildir(source / ".New"), "cur/1.a", text("new"))
    before = await kept(admin)
    done = await admin.do("import maildir", path=str(source), account=ANN, dry_run=True)
    assert (done.imported, done.already_there) == (4, 0)
    assert done.told().startswith("Would import 4 messages")
    assert {line["status"] for line in told(done.receipt)} == {"would be imported"}
    assert await kept(admin) == before
    await admin.do("import maildir", path=str(source), account=ANN)
    done = await admin.do("import maildir", path=str(source), account=ANN, dry_run=True)
    assert (done.imported, done.already_there) == (0, 4)


async def test_an_account_that_goes_away_ends_it(house: Admin, source: Path) -> None:
    numbered(source, 1)
    with pytest.raises(NotFound):
        await house.do("import maildir", path=str(source), account="nobody@example.org")


# --- what it costs --------------------------------------------------------------------------------


async def test_a_large_source_is_not_held_in_memory(house: Admin, tmp_path: Path) -> None:
    await account(house)
    file = tmp_path / "large.mbox"
    body = (b"x" * 70 + b"\n") * 2_900  # 200 KB
    with file.open("wb") as out:
        for n in range(300):
            out.write(FROM + b"A: %d\n\n" % n + body + b"\n")
    tracemalloc.start()
    try:
        done = await house.do("import mbox", file=str(file), account=ANN)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.imported == 300
    assert peak < 30 << 20  # of 60 MB


async def test_a_cancelled_import_leaves_whole_messages_and_no_descriptor(
    house: Admin, source: Path
) -> None:
    await account(house)
    numbered(source, 400)
    before = len(os.listdir("/proc/self/fd"))
    task = asyncio.create_task(house.do("import maildir", path=str(source), account=ANN))
    async with asyncio.timeout(30):
        while not (await kept(house))["INBOX"]:
            await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    part = len((await kept(house))["INBOX"])
    assert 0 < part <= 400
    done = await house.do("import maildir", path=str(source), account=ANN)
    assert done.imported + part == 400
    assert len(os.listdir("/proc/self/fd")) <= before + 2  # the store's own readers


async def test_real_mail_comes_unchanged(house: Admin, source: Path) -> None:
    await account(house)
    mail = list(average_10k(60, seed=7))
    for n, content in enumerate(mail):
        put(source, f"cur/{n}.a", content.replace(b"\r\n", b"\n"))
    await house.do("import maildir", path=str(source), account=ANN)
    assert [message.content for message in (await kept(house))["INBOX"]] == mail


async def test_who_imports_is_in_the_journal_and_the_quota_counts(
    house: Admin, source: Path
) -> None:
    ann = await account(house)
    numbered(source, 3)
    await house.do("import maildir", path=str(source), account=ANN)
    found = await house.stores.mail.read(people.account, parse_mailbox(ANN))
    assert found.id == ann
    assert found.used_messages == 3
    assert found.used_bytes == sum(len(m.content) for m in (await kept(house))["INBOX"])
