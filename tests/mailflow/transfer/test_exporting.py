"""Exports: what an account has, as files that others read and that come back the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import string
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.core.clock import Instant
from postroom.core.errors import AlreadyExists, Misuse, NotFound
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.messages import NewMessage, Quota
from postroom.formats.mbox import Dialect, read
from postroom.formats.parsed import parse
from postroom.mailflow.transfer import outgoing
from postroom.mailflow.transfer.mbox_out import file_name
from postroom.store.units import Database
from postroom.testing.clock import ManualClock
from postroom.testing.corpus import average_10k
from tests.admin.housing import Admin, open_admin
from tests.mailflow.transfer.test_importing import lines, told
from tests.mailflow.transfer.trees import (
    ANN,
    BOB,
    Mailboxes,
    Message,
    account,
    filled,
    kept,
    subscribed,
    text,
    wired,
)
from tests.stores import Stores, open_mail

AT = 1_600_000_000_250


async def fill(admin: Admin, of: int, wanted: Mailboxes) -> None:
    """Give an account these messages, each mailbox in one unit."""
    flow = admin.house.flow
    for path, held in wanted.items():
        boxes = (await flow.mail.read(folders.tree, of)).by_path
        now = flow.clock.now()
        ids = [flow.ids.new() for _ in range(folders.DEPTH)]
        box = (
            boxes[path].id
            if path in boxes
            else await flow.mail.write(folders.create, of, path, iter(ids), now, 0)
        )
        new = []
        for content, flags, received_at in held:
            blob = await flow.blobs.make(content)
            at, parsed = Instant(received_at), parse(content)
            new.append(
                (blob, NewMessage(flow.ids.new(), blob.id, blob.size, at, parsed, tuple(flags)))
            )
        if new:
            await flow.mail.write(messages.append, of, box, new, Quota(), now, 0)


def message(name: str, *flags: str, body: str = "Hello", at: int = AT) -> Message:
    return Message(wired(text(name, body)), frozenset(flags), at)


MAIL: Mailboxes = {
    "INBOX": [
        message("one", "\\Seen", "$label1"),
        message("two", "\\Flagged", "\\Draft", "work", "$Forwarded"),
        message("two", body="From here on\n>From there\nfrom everywhere"),
    ],
    "Sent": [message("sent", "\\Seen", "\\Answered", "\\Deleted", "$label1")],
    "Work/2026 ä.b": [message("work", "work")],
    "Empty": [],
}


# --- Maildir --------------------------------------------------------------------------------------


async def test_a_maildir_is_written_as_dovecot_reads_it(admin: Admin, tmp_path: Path) -> None:
    await fill(admin, await account(admin), MAIL)
    target = tmp_path / "out"
    done = await admin.json("export maildir", account=ANN, target=str(target))
    assert (done.exported, done.failed, done.mailboxes) == (5, 0, 9)
    assert (target / "dovecot-keywords").read_bytes() == b"0 $label1\n1 work\n2 $Forwarded\n"
    names = sorted(os.listdir(target / "cur"))
    assert [name.partition(":2,")[2] for name in names] == ["Sa", "DFPbc", ""]
    first = target / "cur" / names[0]
    size, wire = len(text("one")), len(wired(text("one")))
    assert f",S={size},W={wire}:" in names[0]
    assert first.read_bytes() == text("one")
    assert os.stat(first).st_mtime_ns == AT * 1_000_000
    assert os.stat(first).st_mode & 0o777 == 0o600
    work = target / ".Work.2026 &AOQ-\\2eb"
    assert (work / "maildirfolder").exists()
    assert len(os.listdir(work / "cur")) == 1
    assert (target / "subscriptions").read_bytes().startswith(b"V\t2\n\nArchive\n")
    assert not [name for folder in target.glob("**/tmp") for name in os.listdir(folder)]


async def test_the_receipt_says_where_each_message_went(house: Admin, tmp_path: Path) -> None:
    await fill(house, await account(house), MAIL)
    target = tmp_path / "out"
    done = await house.do("export maildir", account=ANN, target=str(target))
    assert done.receipt == str(target / "receipt.jsonl")
    for line in told(done.receipt):
        data = (target / line["file"]).read_bytes()
        assert line["status"] == "exported"
        assert hashlib.sha256(data).hexdigest() == line["file_sha256"]
        assert hashlib.sha256(wired(data)).hexdigest() == line["sha256"]
        assert line["size"] == len(wired(data))
    assert [(line["mailbox"], line["uid"]) for line in told(done.receipt)] == [
        ("INBOX", 1),
        ("INBOX", 2),
        ("INBOX", 3),
        ("Sent", 1),
        ("Work/2026 ä.b", 1),
    ]
    assert lines(done.receipt)[-1]["summary"]["exported"] == 5


async def test_nothing_is_overwritten(house: Admin, tmp_path: Path) -> None:
    await account(house)
    target = tmp_path / "out"
    await house.do("export maildir", account=ANN, target=str(target))
    for kind in ("maildir", "mbox"):
        with pytest.raises(AlreadyExists, match="not empty"):
            await house.do(f"export {kind}", account=ANN, target=str(target))
    file = tmp_path / "one.mbox"
    file.write_bytes(b"mine")
    with pytest.raises(AlreadyExists):
        await house.do("export mbox", account=ANN, target=str(file), mailbox="INBOX")
    assert file.read_bytes() == b"mine"
    with pytest.raises(Misuse, match="It is written as"):
        await house.do("export maildir", account=ANN, target=str(tmp_path / "no" / "such"))
    receipt = tmp_path / "receipt"
    receipt.write_bytes(b'{"receipt":"x"}\n')
    with pytest.raises(Misuse, match="File exists"):
        await house.do(
            "export maildir", account=ANN, target=str(tmp_path / "new"), receipt=str(receipt)
        )
    assert receipt.read_bytes() == b'{"receipt":"x"}\n'


async def test_more_keywords_than_letters_are_told(house: Admin, tmp_path: Path) -> None:
    many = [f"k{n:02}" for n in range(30)]
    await fill(house, await account(house), {"INBOX": [message("one", *many)]})
    done = await house.do("export maildir", account=ANN, target=str(tmp_path / "out"))
    (line,) = told(done.receipt)
    assert len(line["flags_not_kept"]) == 4


async def test_a_name_that_no_disk_takes_is_cut_and_the_receipt_knows_it(
    house: Admin, tmp_path: Path
) -> None:
    path = "/".join(["aé" * 60] * 2)
    await fill(house, await account(house), {path: [message("one")]})
    for kind in ("maildir", "mbox"):
        done = await house.do(f"export {kind}", account=ANN, target=str(tmp_path / kind))
        (line,) = told(done.receipt)
        assert line["mailbox"] == path
        assert (tmp_path / kind / line["file"]).exists()


async def test_what_is_damaged_is_told_and_the_rest_is_written(
    house: Admin, tmp_path: Path
) -> None:
    large = wired(text("large", "x" * 200_000))
    held = [message("one"), Message(large, frozenset(), AT), message("two")]
    await fill(house, await account(house), {"INBOX": held})
    (file,) = [each for each in (tmp_path / "blobs").glob("*/b*") if each.is_file()]
    with file.open("r+b") as out:
        out.seek(100)
        out.write(b"damage")
    for kind in ("maildir", "mbox"):
        done = await house.do(f"export {kind}", account=ANN, target=str(tmp_path / kind))
        assert (done.exported, done.failed) == (2, 1)
        assert done.problems == ("INBOX UID 2: A stored object is damaged",)


async def test_large_content_goes_by_way_of_a_file(
    house: Admin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "HELD", 10_000)
    monkeypatch.setattr(outgoing, "PIECE", 4_001)
    await account(house, BOB)
    mail = [Message(content, frozenset(), AT) for content in average_10k(40, seed=3)]
    await fill(house, await account(house), {"INBOX": mail})
    await house.do("export maildir", account=ANN, target=str(tmp_path / "out"))
    await house.do("import maildir", path=str(tmp_path / "out"), account=BOB)
    assert (await filled(house, BOB))["INBOX"] == mail


# --- mbox -----------------------------------------------------------------------------------------


async def test_mbox_files_are_written_one_for_each_mailbox(admin: Admin, tmp_path: Path) -> None:
    await fill(admin, await account(admin), MAIL)
    target = tmp_path / "out"
    done = await admin.json("export mbox", account=ANN, target=str(target))
    assert (done.exported, done.mailboxes) == (5, 9)
    with (target / "INBOX.mbox").open("rb") as file:
        entries = [(each.date, each.sender, each.read()) for each in read(file, Dialect.MBOXRD)]
    assert entries[0] == (
        datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC),
        "",
        b"Status: RO\nX-Keywords: $label1\n" + text("one"),
    )
    assert entries[2][2].endswith(b"\n\nFrom here on\n>From there\nfrom everywhere\n")
    assert (target / "Work" / "2026 ä.b.mbox").exists()
    assert (target / "Empty.mbox").read_bytes() == b""
    for line in told(done.receipt):
        data = (target / line["file"]).read_bytes()
        assert data[line["offset"] :].startswith(b"From ")


async def test_one_mailbox_is_one_file(house: Admin, tmp_path: Path) -> None:
    await fill(house, await account(house), MAIL)
    target = tmp_path / "work.mbox"
    done = await house.do("export mbox", account=ANN, target=str(target), mailbox="Work/2026 ä.b")
    assert done.exported == 1
    assert done.receipt == f"{target}.receipt.jsonl"
    assert told(done.receipt)[0]["file"] == "work.mbox"
    with pytest.raises(NotFound):
        await house.do("export mbox", account=ANN, target=str(tmp_path / "x"), mailbox="None")
    assert not (tmp_path / "x").exists()


async def test_the_reverse_path_stands_in_the_from_line(house: Admin, tmp_path: Path) -> None:
    content = b"Return-Path: <eve@far.example>\r\n" + wired(text("one"))
    await fill(house, await account(house), {"INBOX": [Message(content, frozenset(), AT)]})
    target = tmp_path / "x.mbox"
    await house.do("export mbox", account=ANN, target=str(target), mailbox="INBOX")
    assert target.read_bytes().startswith(b"From eve@far.example Sun Sep 13 12:26:40 2020\n")


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1))
def test_a_mailbox_name_is_no_way_out_of_the_target(name: str) -> None:
    made = file_name(name.replace("/", ""))
    assert "/" not in made
    assert not made.startswith(".")
    assert not made.lower().endswith((".mbox", ".jsonl"))
    assert len((made + ".mbox").encode()) <= 255


def test_different_names_stay_different() -> None:
    names = ["a.mbox", "a%2Embox", ".a", "%2Ea", "x" * 255, "x" * 254, "..", "."]
    assert len({file_name(name) for name in names}) == len(names)


# --- there and back -------------------------------------------------------------------------------

_ATOM = st.text(string.ascii_letters + string.digits + "$_-", min_size=1, max_size=12)
_FLAGS = st.frozensets(
    st.sampled_from(["\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded"])
    | st.sampled_from(["$label1", "work", "NonJunk"]),
    max_size=5,
)
_LINE = st.sampled_from(
    ["", "From here", ">From there", ">>From x", "Status: R", "X-Status: D", "A: b", ".", "--", "ä"]
)
_CONTENT = st.builds(
    lambda name, header, body: "\r\n".join(
        [f"From: {name}@example.net", *(f"X-{n}: {t}" for n, t in enumerate(header)), "", *body, ""]
    ).encode(),
    _ATOM,
    st.lists(_LINE, max_size=3),
    st.lists(_LINE, max_size=6),
)
_AT = st.integers(0, 4_000_000_000_000)
_MESSAGE = st.builds(Message, _CONTENT, _FLAGS, _AT)
_NAME = st.text("abZ.~&%\\ äÖ…日本", min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and name.upper() != "INBOX"
)
_PATH = st.lists(_NAME, min_size=1, max_size=3).map("/".join)
_MAILBOXES = st.dictionaries(
    st.sampled_from(["INBOX", "Sent", "INBOX/Sub"]) | _PATH,
    st.lists(_MESSAGE, max_size=4),
    max_size=5,
)


FIRST = frozenset(name for _, name in folders.FIRST_FOLDERS)


async def _there_and_back(
    folder: Path, wanted: Mailboxes, kind: str
) -> tuple[Mailboxes, Mailboxes]:
    """What ann has, and what bob has after an export and an import."""
    mail, state = open_mail("sqlite", str(folder))
    clock = ManualClock()
    try:
        async with open_admin(Stores("sqlite", mail, state), clock, folder) as admin:
            await fill(admin, await account(admin), wanted)
            await account(admin, BOB)
            target = folder / "out"
            await admin.do(f"export {kind}", account=ANN, target=str(target))
            if kind == "maildir":
                done = await admin.do("import maildir", path=str(target), account=BOB)
                assert await subscribed(admin) <= await subscribed(admin, BOB)
                assert done.problems == ()
            else:
                for path in await kept(admin):
                    *above, name = map(file_name, path.split("/"))
                    file = target.joinpath(*above, name + ".mbox")
                    if path in FIRST and not file.stat().st_size:
                        continue  # bob has it too
                    done = await admin.do("import mbox", file=str(file), account=BOB, into=path)
                    assert done.problems == ()
            return await kept(admin), await kept(admin, BOB)
    finally:
        await close(mail, state)


async def close(*stores: Database) -> None:
    for store in stores:
        await store.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_MAILBOXES)
def test_what_leaves_as_a_maildir_comes_back_the_same(wanted: Mailboxes) -> None:
    with TemporaryDirectory() as folder:
        ann, bob = asyncio.run(_there_and_back(Path(folder), wanted, "maildir"))
    assert bob == ann


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_MAILBOXES)
def test_what_leaves_as_mbox_comes_back_the_same_to_the_second(wanted: Mailboxes) -> None:
    with TemporaryDirectory() as folder:
        ann, bob = asyncio.run(_there_and_back(Path(folder), wanted, "mbox"))

    def seconds(held: Mailboxes) -> Mailboxes:
        return {
            path: [each._replace(received_at=each.received_at // 1000) for each in box]
            for path, box in held.items()
        }

    assert seconds(bob) == seconds(ann)


async def test_the_summary_is_what_was_told(house: Admin, tmp_path: Path) -> None:
    await account(house)
    done = await house.do("export maildir", account=ANN, target=str(tmp_path / "out"))
    summary = json.loads(Path(done.receipt).read_text().splitlines()[-1])["summary"]
    assert summary["mailboxes"] == done.mailboxes == 6
    assert done.told().startswith("Exported 0 messages of 0 octets from 6 mailboxes of ann@")
