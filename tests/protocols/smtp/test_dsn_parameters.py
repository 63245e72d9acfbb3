"""NOTIFY, ORCPT, RET and ENVID on their way into the queue. RFC 3461 §4, RFC 6533 §3."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.core.errors import Status
from postroom.formats import dsn
from postroom.mailflow.composed import ComposedQueue
from postroom.testing.internet import small_internet
from postroom.wire.smtp import Notify, Return
from tests.mailflow.doors import ANN, Doors
from tests.mailflow.serving import DOMAIN

BOB = f"bob@{DOMAIN}"
FAR = "someone@far.example"
CONTENT = b"From: <ann@example.test>\r\nSubject: Hello\r\n\r\nHi\r\n"

MAILS = [
    ("", (None, None)),
    ("RET=FULL", ("FULL", None)),
    ("RET=hdrs", ("HDRS", None)),
    ("ENVID=QQ314159", (None, "QQ314159")),
    ("ENVID=a+20b+2B+3D RET=HDRS", ("HDRS", "a b+=")),
    ("ENVID=" + "x" * 100, (None, "x" * 100)),
]
RCPTS = [
    ("", (), None),
    ("NOTIFY=NEVER", ("NEVER",), None),
    ("NOTIFY=never", ("NEVER",), None),
    ("NOTIFY=SUCCESS,FAILURE,DELAY", ("SUCCESS", "FAILURE", "DELAY"), None),
    ("NOTIFY=DELAY,SUCCESS", ("SUCCESS", "DELAY"), None),
    ("NOTIFY=FAILURE ORCPT=rfc822;Bob@a.example", ("FAILURE",), "rfc822;Bob@a.example"),
    ("ORCPT=rfc822;bob+2Btag+3Dx@a.example", (), "rfc822;bob+tag=x@a.example"),
    ("ORCPT=x400;/S=bob/", (), "x400;/S=bob/"),
    ("ORCPT=utf-8;zo\\x{EB}@a.example", (), "utf-8;zoë@a.example"),
]
BAD_MAILS = [
    "RET=SOME", "RET=", "RET", "RET=FULL RET=HDRS", "ENVID=", "ENVID", "ENVID=a+2", "ENVID=a+zz",
    "ENVID=a+0D+0Ab", "ENVID=a+00", "ENVID=a+E9", "ENVID=" + "x" * 101, "ENVID=a ENVID=b",
]  # fmt: skip
BAD_RCPTS = [
    "NOTIFY=", "NOTIFY", "NOTIFY=NEVER,SUCCESS", "NOTIFY=SOMETIMES", "NOTIFY=SUCCESS,",
    "NOTIFY=SUCCESS NOTIFY=DELAY", "ORCPT=", "ORCPT", "ORCPT=bob@a.example", "ORCPT=;bob",
    "ORCPT=rfc822;", "ORCPT=rfc822;a+0D+0ABcc:+20x@y.example", "ORCPT=rfc822;a+00@y.example",
    "ORCPT=rfc822;a+2@y.example", "ORCPT=utf-8;\\x{D}\\x{A}", "ORCPT=rfc822;" + "x" * 500,
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "expected"), MAILS)
async def test_ret_and_envid_are_kept(
    doors: Doors, parameters: str, expected: tuple[str | None, str | None]
) -> None:
    async with doors.signed_in() as client:
        assert (await client.deliver(ANN, [FAR], CONTENT, parameters=parameters)).accepted
    ((row, _),) = await doors.outgoing()
    assert (row.message.ret, row.message.envid) == expected


@pytest.mark.parametrize(("parameters", "notify", "orcpt"), RCPTS)
async def test_notify_and_orcpt_are_kept(
    doors: Doors, parameters: str, notify: tuple[str, ...], orcpt: str | None
) -> None:
    async with doors.signed_in() as client:
        await client.ask(f"MAIL FROM:<{ANN}> SMTPUTF8", 250)
        await client.ask(f"RCPT TO:<{FAR}> {parameters}".rstrip(), 250)
        await client.ask("DATA", 354)
        assert (await client.content(CONTENT)).code == 250
    ((row, _),) = await doors.outgoing()
    assert (row.notify, row.orcpt) == (notify, orcpt)


@pytest.mark.parametrize("parameters", BAD_MAILS)
async def test_a_malformed_parameter_of_mail_is_501(doors: Doors, parameters: str) -> None:
    async with doors.signed_in() as client, doors.mx.connect() as stranger:
        for each, sender in ((client, ANN), (stranger, "x@far.example")):
            reply = await each.ask(f"MAIL FROM:<{sender}> {parameters}", 501)
            assert reply.status == Status(5, 5, 4)
            await each.ask(f"RCPT TO:<{BOB}>", 503)  # nothing of it was begun


@pytest.mark.parametrize("parameters", BAD_RCPTS)
async def test_a_malformed_parameter_of_rcpt_is_501(doors: Doors, parameters: str) -> None:
    await doors.mx.account(BOB)
    async with doors.mx.connect() as client:
        await client.ask("MAIL FROM:<x@far.example> SMTPUTF8", 250)
        reply = await client.ask(f"RCPT TO:<{BOB}> {parameters}", 501)
        assert reply.status == Status(5, 5, 4)
        await client.ask("DATA", 554)


async def test_after_helo_no_parameter_is_known(doors: Doors) -> None:
    async with doors.mx.connect(hello="HELO old.example") as client:
        await client.ask("MAIL FROM:<x@far.example> RET=FULL", 555)
        await client.ask("MAIL FROM:<x@far.example>", 250)
        await client.ask(f"RCPT TO:<{BOB}> NOTIFY=NEVER", 555)


async def test_who_has_to_wait_here_keeps_the_wishes_too(doors: Doors) -> None:
    mx = doors.mx
    for n in range(52):
        await mx.account(f"p{n}@{DOMAIN}")
    async with mx.connect() as client:
        await client.ask("MAIL FROM:<x@far.example> ENVID=e1 RET=HDRS", 250)
        for n in range(52):
            await client.ask(f"RCPT TO:<p{n}@{DOMAIN}> NOTIFY=SUCCESS ORCPT=rfc822;q{n}@a", 250)
        await client.ask("DATA", 354)
        assert (await client.content(b"Subject: x\r\n\r\nHi\r\n")).code == 250
    rows = [row for row in await mx.waiting() if row.account is not None]
    assert sorted((row.address, row.notify, row.orcpt) for row in rows) == [
        ("p50@example.test", ("SUCCESS",), "rfc822;q50@a"),
        ("p51@example.test", ("SUCCESS",), "rfc822;q51@a"),
    ]
    assert {(row.message.envid, row.message.ret) for row in rows} == {("e1", "HDRS")}


async def test_who_asks_hears_of_a_delivery_and_by_the_name_that_he_gave(doors: Doors) -> None:
    """RFC 3461 §6.2: one report for the recipient who asked; the other did not."""
    mx = doors.mx
    await mx.account(BOB)
    await mx.account(f"eve@{DOMAIN}")
    async with doors.signed_in() as client:
        await client.ask(f"MAIL FROM:<{ANN}> ENVID=my+20envelope", 250)
        await client.ask(f"RCPT TO:<{BOB}> NOTIFY=SUCCESS ORCPT=rfc822;Old+2BBob@a.example", 250)
        await client.ask(f"RCPT TO:<eve@{DOMAIN}>", 250)
        await client.ask("DATA", 354)
        assert (await client.content(CONTENT)).code == 250
    await ComposedQueue(mx.house, mx.intake, 1).round()
    (stored,) = await mx.content(doors.ann)
    report = dsn.parse(stored)
    assert report is not None and report.original_envelope_id == "my envelope"
    (status,) = report.recipients
    assert status.action is dsn.Action.DELIVERED and status.final_recipient.value == BOB
    assert status.original_recipient is not None
    assert status.original_recipient.value == "Old+Bob@a.example"
    assert stored.startswith(b"Return-Path: <>\r\n")


async def test_the_next_server_is_told_what_we_were_told(tmp_path: Path) -> None:
    """RFC 3461 §5.2.1: octet for octet in what it means, however it is written."""
    async with small_internet(tmp_path) as town:
        house = await town.house("a.test", "ann")
        far = await town.server("far.example")
        async with house.signed_in("ann@a.test") as client:
            await client.ask("MAIL FROM:<ann@a.test> SMTPUTF8 RET=HDRS ENVID=a+20b+2B+3D", 250)
            asked = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Btag+3Dx@old.example"
            await client.ask(f"RCPT TO:<bob@far.example> {asked}", 250)
            await client.ask("RCPT TO:<eve@far.example> NOTIFY=NEVER ORCPT=utf-8;zo\\x{EB}@b", 250)
            await client.ask("RCPT TO:<joe@far.example>", 250)
            await client.ask("DATA", 354)
            content = b"From: <ann@a.test>\r\n\r\nHi\r\n"
            assert (await client.content(content)).code == 250
        await town.settle()
        assert not far.complaints
        (got,) = far.messages
        assert (got.mail.ret, got.mail.envid) == (Return.HEADERS, "a b+=")
        told = {str(each.forward_path): (each.notify, each.orcpt) for each in got.rcpts}
        bob, eve, joe = (told[f"{name}@far.example"] for name in ("bob", "eve", "joe"))
        assert bob[0] == Notify.SUCCESS | Notify.DELAY and bob[1] is not None
        assert (bob[1].kind, bob[1].address) == ("rfc822", "Bob+tag=x@old.example")
        assert eve[0] == Notify.NEVER and eve[1] is not None
        assert (eve[1].kind, eve[1].address) == ("utf-8", "zoë@b")
        assert joe[0] is None
