"""`recoverable restore`: what comes back, what is refused, what is said."""

from __future__ import annotations

import pytest

from postroom.admin import cli
from postroom.admin import recover as operations
from postroom.core.errors import Misuse, NotFound, OverQuota
from postroom.core.terminal import MISUSE, Answered, Typed
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders, messages, recover
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.address import parse_mailbox
from postroom.store.sql import Tx
from tests.admin.housing import Admin
from tests.admin.test_audit import audited
from tests.admin.test_mail import send

ANN = "ann@example.org"
EVERY = Pick(1, 1 << 30)
MONTH = 30 * 86_400_000


async def deliver(admin: Admin, count: int) -> int:
    """So many messages in ann's INBOX; her account."""
    await admin.do("account create", address=ANN)
    for n in range(count):
        body = b"Message-ID: <%d@elsewhere.example>\r\n\r\nHello\r\n" % n
        await send(admin, ANN, body=b"From: eve@elsewhere.example\r\n" + body)
    found = await admin.stores.mail.read(people.account, parse_mailbox(ANN))
    return found.id


async def expunge(admin: Admin, account: int) -> None:
    def unit(tx: Tx) -> None:
        inbox = folders.by_role(tx, account, "inbox")
        assert inbox is not None
        now = admin.clock.now()
        messages.expunge(tx, account, inbox.id, EVERY, now, account, retention=MONTH)

    await admin.stores.mail.write(unit)


async def total(admin: Admin, account: int, path: str) -> int:
    boxes = await admin.stores.mail.read(folders.tree, account)
    return boxes.find(path).total


async def test_named_messages_come_back_and_the_second_time_says_so(admin: Admin) -> None:
    ann = await deliver(admin, 3)
    await expunge(admin, ann)
    lines = await admin.json("recoverable list", address=ANN)
    named = [lines[0].message, lines[1].message]
    told = await admin.json("recoverable restore", address=ANN, messages=named)
    assert told.told().splitlines() == [
        f"Brought back 2 messages of {told.octets} octets for {ANN}.",
        "  INBOX: 2 messages",
    ]
    assert await total(admin, ann, "INBOX") == 2
    again = await admin.json("recoverable restore", address=ANN, messages=named)
    assert (again.messages, again.there, again.mailboxes) == (0, 2, ())
    (left,) = await admin.json("recoverable list", address=ANN)
    assert left.message == lines[2].message
    performed = [each.operation for each in await audited(admin)]
    assert performed.count("recoverable restore") == 2


async def test_a_mailbox_that_is_not_emptied_yet_comes_back(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PIECE", 2)
    ann = await deliver(admin, 5)

    def unit(tx: Tx) -> None:
        inbox, now = folders.by_role(tx, ann, "inbox"), admin.clock.now()
        assert inbox is not None
        ids = iter([admin.house.flow.ids.new() for _ in range(3)])
        work = folders.create(tx, ann, "Work/May", ids, now, ann)
        messages.move(tx, ann, inbox.id, work, EVERY, now, ann)
        folders.delete(tx, ann, "Work/May", now, ann)

    await admin.stores.mail.write(unit)
    told = await admin.json("recoverable restore", address=ANN, folder="Work/May")
    assert [(b.mailbox, b.messages, b.note) for b in told.mailboxes] == [
        ("Work/May", 5, "made again")
    ]
    assert await total(admin, ann, "Work/May") == 5
    report = await admin.do("check")
    assert report.problems == ()
    again = await admin.json("recoverable restore", address=ANN, folder="Work/May")
    assert again.told() == f"Nothing of that is left to bring back for {ANN}."


async def test_all_since_a_moment_come_back_into_a_mailbox(admin: Admin) -> None:
    ann = await deliver(admin, 2)
    await expunge(admin, ann)
    admin.clock.advance(7200)
    for since, expected in (("90m", 0), ("2100-01-01", 0), ("3h", 2), ("2026-01-01T00:00", 0)):
        told = await admin.json("recoverable restore", address=ANN, deleted_since=since, into="Old")
        assert told.messages == expected, since
    assert await total(admin, ann, "Old") == 2


async def test_beyond_the_quota_nothing_comes_back(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "PIECE", 1)
    ann = await deliver(admin, 3)
    await expunge(admin, ann)
    at = f"account:{ANN}"
    await admin.do("settings set", name="quota.messages", value="2", at=at)
    with pytest.raises(OverQuota, match=r"no room for 3 messages of .* nothing was brought back"):
        await admin.do("recoverable restore", address=ANN, folder="INBOX")
    assert await total(admin, ann, "INBOX") == 0
    await admin.do("settings unset", name="quota.messages", at=at)
    assert (await admin.do("recoverable restore", address=ANN, folder="INBOX")).messages == 3


async def test_what_cannot_be_brought_back_is_refused_before_anything_is_done(
    admin: Admin,
) -> None:
    ann = await deliver(admin, 1)
    await expunge(admin, ann)
    (line,) = await admin.json("recoverable list", address=ANN)
    other = "m0000000000000"
    with pytest.raises(NotFound, match=f"{other} cannot be brought back; nothing was"):
        await admin.do("recoverable restore", address=ANN, messages=[line.message, other])
    assert await total(admin, ann, "INBOX") == 0
    for asked, sentence in (
        ({}, "Name messages"),
        ({"deleted_since": "yesterday"}, "yesterday is no moment"),
        ({"messages": [line.message] * 1001}, "At most 1,000"),
    ):
        with pytest.raises(Misuse, match=sentence):
            await admin.do("recoverable restore", address=ANN, **asked)
    with pytest.raises(NotFound):
        await admin.do("recoverable restore", address=ANN, folder="Nowhere")
    with pytest.raises(NotFound):
        await admin.do("recoverable restore", address="no@example.org", folder="INBOX")


def test_a_unit_stays_within_its_rows() -> None:
    assert recover.PIECE * 2 + folders.DEPTH < 2_000


@pytest.mark.parametrize(
    "words",
    [
        (ANN, "m1", "m2", "--into", "Work"),
        (ANN, "--into", "Work", "m1", "m2"),
        ("--json", ANN, "m1", "--into=Work", "m2", "--data", "elsewhere"),
    ],
)
def test_messages_may_be_named_before_and_after_options(words: tuple[str, ...]) -> None:
    command = cli.understood(Typed(("recoverable", "restore", *words)))
    assert isinstance(command, cli.Understood)
    assert command.values == {"address": ANN, "messages": ["m1", "m2"], "into": "Work"}


@pytest.mark.parametrize(
    "words",
    [("recoverable", "restore", ANN, "--nope", "m1"), ("account", "show", ANN, "more")],
)
def test_a_word_too_many_is_misuse_where_none_is_taken(words: tuple[str, ...]) -> None:
    answered = cli.understood(Typed(words))
    assert isinstance(answered, Answered)
    assert answered.code == MISUSE
    assert "unrecognized arguments" in answered.err
