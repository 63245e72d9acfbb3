"""Traces of real deliveries and refusals in plain sentences; the queue; what is recoverable."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from postroom.admin.render import visible
from postroom.core.errors import Misuse, NotFound
from postroom.domain.directory import people
from postroom.domain.mailboxes import folders, messages
from postroom.domain.mailboxes.messages import FlagChange
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.transit import Protocol, Visit
from postroom.formats.address import parse_mailbox
from postroom.mailflow.intake import Intake, MailFrom, Streamed
from postroom.net.connection import Peer
from postroom.store.sql import Tx
from tests.admin.housing import Admin

BODY = b"From: eve@elsewhere.example\r\nMessage-ID: <one@elsewhere.example>\r\n\r\nHello\r\n"


async def send(admin: Admin, *recipients: str, body: bytes = BODY) -> None:
    """Hand a message in as the SMTP server does, and wait until refusals are written."""
    intake = Intake(admin.house.flow)
    peer = Peer(ip_address("192.0.2.9"), 4711, ip_address("192.0.2.1"), 25, "smtp")
    visit = Visit("s1", peer, Protocol.SMTP, admin.clock.now(), helo="evil\x1b[2J", extended=True)
    sender = parse_mailbox("eve@elsewhere.example")
    transit, verdict = await intake.mail(visit, MailFrom(sender))
    assert verdict.passes
    for recipient in recipients:
        await intake.rcpt(transit, parse_mailbox(recipient))
    if transit.recipients:
        intake.spool(transit).write(body)
        await intake.data(transit, Streamed(len(body), nul=b"\0" in body))
    intake.refusals.flush()


async def noted(admin: Admin, what: str) -> str:
    """The sentences of all traces of something, once `state` holds them."""
    async with asyncio.timeout(5):
        while True:
            try:
                views = await admin.json("trace", what=what)
            except NotFound:
                await asyncio.sleep(0.01)
                continue
            return "\n".join(view.told() for view in views)


async def with_ann(admin: Admin) -> int:
    await admin.do("account create", address="ann@example.org")
    found = await admin.stores.mail.read(people.account, parse_mailbox("ann@example.org"))
    return found.id


async def test_a_trace_says_why_a_message_lies_where_it_lies(admin: Admin) -> None:
    await with_ann(admin)
    await admin.do("alias create", address="info@example.org", target="ann@example.org")
    await send(admin, "info@example.org")
    (view,) = await admin.json("trace", what="<one@elsewhere.example>")
    assert view.outcome == "accepted"
    text = view.told()
    assert "192.0.2.9, which calls itself evil" in text
    assert "to the listener smtp without encryption, by SMTP in session s1" in text
    assert "from eve@elsewhere.example" in text
    assert "Message-ID is" in text
    assert "ann@example.org got a copy: info@example.org is an alias" in text
    assert "meant for INBOX, as no rule said otherwise" in text
    assert "It lies in INBOX as UID 1 (no flags)." in text
    for what in (view.id, "one@elsewhere.example", "info@example.org", "ANN@example.org"):
        assert [each.id for each in await admin.json("trace", what=what)] == [view.id]


async def test_a_trace_follows_a_message_through_the_mailboxes(admin: Admin) -> None:
    ann = await with_ann(admin)
    await send(admin, "ann@example.org")
    now = admin.clock.now()

    def to_trash(tx: Tx) -> tuple[int, int]:
        inbox, trash = folders.by_role(tx, ann, "inbox"), folders.by_role(tx, ann, "trash")
        assert inbox is not None
        assert trash is not None
        every = Pick(1, 1)
        messages.set_flags(tx, ann, inbox.id, every, FlagChange(("\\Seen", "work")), now, ann)
        messages.move(tx, ann, inbox.id, trash.id, every, now, ann)
        return inbox.id, trash.id

    _, trash = await admin.stores.mail.write(to_trash)
    assert "It lies in Trash as UID 1 (\\Seen work)." in await noted(admin, "ann@example.org")
    month = 30 * 86_400_000
    await admin.stores.mail.write(
        messages.expunge, ann, trash, Pick(1, 1), now, ann, retention=month
    )
    text = await noted(admin, "ann@example.org")
    assert "It was deleted from Trash; it can be brought back until 2026-01-31" in text
    (line,) = await admin.json("recoverable list", address="ann@example.org")
    assert (line.mailbox, line.uid) == ("Trash", 1)


async def test_a_trace_says_why_a_recipient_was_refused(admin: Admin) -> None:
    await with_ann(admin)
    await send(admin, "nobody@example.org", "ann@example.org")
    text = await noted(admin, "nobody@example.org")
    assert "The recipient nobody@example.org was refused by the rule known" in text
    assert "no account and no alias has this address" in text
    assert "The peer was told: 5.1.1 " in text
    assert "also" not in text
    # And the message that was taken for the other one tells of it too.
    assert "The recipient nobody@example.org was refused" in await noted(admin, "ann@example.org")


async def test_a_trace_names_the_setting_that_refused_and_who_set_it(admin: Admin) -> None:
    await with_ann(admin)
    await admin.do("settings set", name="smtp.max_hops", value="10", at="listener:smtp")
    hops = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * 11
    await send(admin, "ann@example.org", body=hops + BODY)
    text = await noted(admin, "one@elsewhere.example")
    assert "The message was refused by the rule hops" in text
    assert "(the setting smtp.max_hops, from listener:smtp)" in text
    assert "The peer was told: 5.4.6 " in text


async def test_a_trace_shows_what_waits_in_the_queue(admin: Admin) -> None:
    await with_ann(admin)
    await admin.do("account create", address="bob@example.org")
    await admin.do("settings set", name="quota.messages", value="1", at="account:ann@example.org")
    assert await admin.do("queue list") == ()
    intake = Intake(admin.house.flow)
    peer = Peer(ip_address("192.0.2.9"), 4711, None, 25, "smtp")
    visit = Visit("s2", peer, Protocol.SMTP, admin.clock.now(), helo="x", extended=True)
    transit, _ = await intake.mail(visit, MailFrom(None))
    for address in ("ann@example.org", "bob@example.org"):
        assert (await intake.rcpt(transit, parse_mailbox(address))).passes
    # Full between RCPT and the unit is rare, and is what the queue is for.
    await send(admin, "ann@example.org")
    intake.spool(transit).write(BODY)
    await intake.data(transit, Streamed(len(BODY)))
    (line,) = await admin.json("queue list")
    assert (line.sender, line.recipient, line.attempts) == ("<>", "ann@example.org", 1)
    (view,) = await admin.json("trace", what=line.id)
    text = view.told()
    assert "At first it had to wait: The mailbox is full." in text
    assert "It waits since 2026-01-01T00:00:01.000Z, tried 1 time" in text
    assert "next at 2026-01-01T00:03:01.000Z, until 2026-01-03" in text
    assert "bob@example.org got a copy" in text
    assert (await admin.do("status")).waiting_recipients == 1


@pytest.mark.parametrize("what", ["r0000000000000", "nobody@example.org", "", "rubbish"])
async def test_what_left_no_trace_is_not_found(admin: Admin, what: str) -> None:
    with pytest.raises(NotFound):
        await admin.do("trace", what=what)


async def test_limits_are_bounded(admin: Admin) -> None:
    for operation, asked in (
        ("trace", {"what": "x"}),
        ("queue list", {}),
        ("recoverable list", {"address": "ann@example.org"}),
    ):
        for limit in (0, -1, 1_001):
            with pytest.raises(Misuse):
                await admin.do(operation, limit=limit, **asked)


def test_nothing_that_a_peer_said_moves_the_cursor() -> None:
    assert visible("evil\x1b[2J\r\n") == "evil\\x1b[2J\\r\n"
