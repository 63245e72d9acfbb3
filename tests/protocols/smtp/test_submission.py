"""Submission: who may write as whom, and what becomes of a message on its way in. RFC 6409."""

from __future__ import annotations

import re
from typing import Any

import pytest

from postroom.core.errors import Status
from postroom.core.settings import Place, Scope
from postroom.formats import headers
from postroom.store.blobs import ROW_LIMIT, SPOOL_LIMIT
from postroom.testing.smtp import SmtpClient
from postroom.wire.smtp import Reply
from tests.mailflow.doors import ANN, Doors
from tests.mailflow.serving import DOMAIN, OTHER

BOB = f"bob@{DOMAIN}"
FAR = "someone@far.example"
FOREIGN = "boss@elsewhere.example"
LINE = b"y" * 70 + b"\r\n"

SMALL = b"Good morning.\r\n"
OVER_A_ROW = LINE * (ROW_LIMIT // len(LINE) + 10)
SPOOLED = LINE * (SPOOL_LIMIT // len(LINE) + 10)
BODIES = [
    pytest.param(SMALL, id="small"),
    pytest.param(OVER_A_ROW, id="over a row"),
    pytest.param(SPOOLED, id="spooled"),
]


def written(fields: bytes = b"", body: bytes = SMALL) -> bytes:
    """A message of Ann's."""
    return b"From: Ann <ann@example.test>\r\nSubject: Hello\r\n" + fields + b"\r\n" + body


async def send(client: SmtpClient, content: bytes, *to: str, sender: str = ANN) -> Reply:
    return (await client.deliver(sender, to or (BOB,), content)).last


def refused(reply: Reply) -> bool:
    return (reply.code, reply.status) == (550, Status(5, 7, 1))


# --- the envelope -------------------------------------------------------------------------------


async def test_the_reverse_path_is_one_s_own(doors: Doors) -> None:
    await doors.person(BOB)
    async with doors.signed_in() as client:
        for sender in (BOB, f"nobody@{DOMAIN}", FOREIGN, "ann@other.test", f"ann@mail.{DOMAIN}"):
            reply = await client.ask(f"MAIL FROM:<{sender}>")
            assert refused(reply), reply
            told = (await doors.mx.refusal(reply))["verdicts"][-1]
            assert told["rule"] == "own_sender" and sender in told["why"] and ANN in told["why"]
            assert told["setting"] == "submission.own_sender"
        for sender in (ANN, "ANN@Example.Test", f"ann+tag@{DOMAIN}", f'"ann"@{DOMAIN}', ""):
            await client.ask(f"MAIL FROM:<{sender}>", 250)
            await client.ask("RSET", 250)


async def test_an_alias_is_an_address_of_one_s_own(doors: Doors) -> None:
    mx = doors.mx
    await doors.person(BOB)
    await mx.alias(f"info@{DOMAIN}", ANN)
    await mx.alias(f"sales@{OTHER}", f"info@{DOMAIN}")
    await mx.alias(f"x-*@{DOMAIN}", ANN)
    await mx.alias(f"both@{DOMAIN}", ANN)
    await mx.alias(f"both@{DOMAIN}", BOB)
    await mx.alias(f"bobs@{DOMAIN}", BOB)
    await mx.alias(f"away@{DOMAIN}", FAR)
    async with doors.signed_in() as client:
        for local in (f"info@{DOMAIN}", f"sales@{OTHER}", f"x-1@{DOMAIN}", f"both@{DOMAIN}"):
            content = b"From: <%b>\r\n\r\nHi\r\n" % local.encode()
            assert (await send(client, content, sender=local)).code == 250, local
        for local in (f"bobs@{DOMAIN}", f"away@{DOMAIN}", f"info@{OTHER}"):
            assert refused(await client.ask(f"MAIL FROM:<{local}>")), local


async def test_a_domain_may_let_its_people_use_any_reverse_path(doors: Doors) -> None:
    """The domain that is claimed decides; of one that is not ours, the server does."""
    await doors.mx.set("submission.own_sender", False, Place(Scope.DOMAIN, OTHER))
    async with doors.signed_in() as client:
        await client.ask(f"MAIL FROM:<x@{OTHER}>", 250)
        await client.ask("RSET", 250)
        assert refused(await client.ask(f"MAIL FROM:<x@{DOMAIN}>"))
        assert refused(await client.ask(f"MAIL FROM:<{FOREIGN}>"))


# --- the author ---------------------------------------------------------------------------------

AUTHORS: list[tuple[bytes, bool]] = [
    (b"From: ann@example.test", True),
    (b"From: Ann <ANN@EXAMPLE.TEST>", True),
    (b"FROM:ann+tag@example.test", True),
    (b"From:\r\n Ann\r\n\t<ann@example.test>", True),
    (b"From: =?utf-8?q?boss=40elsewhere.example?= <ann@example.test>", True),
    (b'From: "boss@elsewhere.example" <ann@example.test>', True),
    (b"From: ann@example.test (boss@elsewhere.example)", True),
    (b"From: ann@example.test, info@example.test\r\nSender: ann@example.test", True),
    (b"From: Us: ann@example.test, info@example.test;", True),
    (b"From: boss@elsewhere.example", False),
    (b"From: bob@example.test", False),
    (b"From: Ann <boss@elsewhere.example>", False),
    (b'From: "ann@example.test" <boss@elsewhere.example>', False),
    (b"From: ann@example.test, boss@elsewhere.example", False),
    (b"From: boss@elsewhere.example, ann@example.test", False),
    (b"From: Us: ann@example.test, boss@elsewhere.example;", False),
    (b"From: undisclosed:;", False),
    (b"From:", False),
    (b"From: Ann", False),
    (b"From: <>", False),
    (b"From: ann@example.test <boss@elsewhere.example>", False),
    (b"From: ann@example.test\r\nFrom: boss@elsewhere.example", False),
    (b"From: ann@example.test\r\nFrom: ann@example.test", False),
    (b"From: ann@example.test\r\nfrom : boss@elsewhere.example", False),
    (b"From: ann@example.test\r\nSender: boss@elsewhere.example", False),
    (b"From: <@far.example:boss@elsewhere.example>", False),
    (b"From: ann@example.test\0", False),
    (b"X: y", False),
    (b"From: ann@example.test, " + b", ".join([b"ann@example.test"] * 30), True),
    (b"From: " + b", ".join(b"info+%d@example.test" % n for n in range(30)), False),
]


@pytest.mark.parametrize(("fields", "own"), AUTHORS)
async def test_from_and_sender_are_one_s_own(doors: Doors, fields: bytes, own: bool) -> None:
    """Attack class 4: whoever may be shown as the author is who signed in."""
    bob = await doors.mx.account(BOB)
    await doors.mx.alias(f"info@{DOMAIN}", ANN)
    async with doors.signed_in() as client:
        reply = await send(client, fields + b"\r\nSubject: x\r\n\r\nHello\r\n")
        if own:
            assert reply.code == 250, reply
        else:
            assert reply.code in (550, 554), reply
            told = (await doors.mx.refusal(reply))["verdicts"][-1]
            assert told["rule"] in ("own_author", "nul")
            assert told["why"]
        assert (await send(client, written())).code == 250
    assert await doors.mx.count(bob) == 1 + own


async def test_the_author_is_not_looked_at_where_the_setting_is_off(doors: Doors) -> None:
    await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        content = f"From: {FOREIGN}\r\n\r\nx\r\n".encode()
        assert refused(await send(client, content))
        await doors.mx.set("submission.own_author", False)
        assert (await send(client, content)).code == 250
        record = (await doors.mx.traces())[0]
        assert record["facts"]["author"]["foreign"] == [FOREIGN]  # it is known all the same


async def test_port_25_asks_nobody_who_wrote_a_message(doors: Doors) -> None:
    await doors.mx.account(BOB)
    async with doors.mx.connect() as client:
        reply = await send(client, f"From: {ANN}\r\n\r\nx\r\n".encode(), sender=FOREIGN)
        assert reply.code == 250
    assert "author" not in (await doors.mx.traces())[0]["facts"]


# --- what is amended ----------------------------------------------------------------------------

UNWANTED = [
    b"Bcc: boss@far.example\r\n",
    b"BCC:boss@far.example\r\n",
    b"bCc : boss@far.example\r\n",
    b"Bcc:\r\n\tboss@far.example,\r\n secret@far.example\r\n",
    b"Bcc: a@far.example\r\nX-Kept: 1\r\nBcc: boss@far.example\r\n",
    b"Resent-Bcc: boss@far.example\r\n",
    b"Return-Path: <boss@far.example>\r\n",
    b"Bcc:\r\n",
]


@pytest.mark.parametrize("unwanted", UNWANTED)
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("body", BODIES)
async def test_what_is_nobody_s_to_read_goes_and_all_else_stays(
    doors: Doors, unwanted: bytes, where: str, body: bytes
) -> None:
    """Bcc and Return-Path: RFC 5322 §3.6.3, RFC 5321 §4.4. Here and elsewhere alike."""
    bob = await doors.mx.account(BOB)
    head = (
        b"From: <ann@example.test>\r\nMessage-ID: <m@x>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    )
    sent = (unwanted + head if where == "first" else head + unwanted) + b"\r\n" + body
    kept = b"X-Kept: 1\r\n" if b"X-Kept" in unwanted else b""
    expected = (kept + head if where == "first" else head + kept) + b"\r\n" + body
    async with doors.signed_in() as client:
        assert (await send(client, sent, BOB, FAR)).code == 250
    ((_, there),) = await doors.outgoing()
    (here,) = await doors.mx.content(bob)
    for content in (here, there):
        assert content.endswith(b"\r\n" + expected)
        assert b"boss" not in content and b"secret" not in content
    assert here.startswith(b"Return-Path: <ann@example.test>\r\nReceived: ")
    assert here.count(b"Return-Path") == 1
    assert there.startswith(b"Received: ")
    assert here.endswith(there)
    record = (await doors.mx.traces())[0]
    name = unwanted.partition(b":")[0].strip().decode()
    assert f"removed {name}" in record["amended"]


async def test_bcc_in_the_body_or_a_part_is_text(doors: Doors) -> None:
    bob = await doors.mx.account(BOB)
    body = b"Bcc: boss@far.example\r\n\r\n--x\r\nBcc: y\r\n"
    async with doors.signed_in() as client:
        assert (await send(client, written(body=body))).code == 250
    assert (await doors.mx.content(bob))[0].endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize("body", BODIES)
async def test_date_and_message_id_are_added_only_where_they_are_missing(
    doors: Doors, body: bytes
) -> None:
    bob = await doors.mx.account(BOB)
    date, own = b"Date: Fri, 2 Jan 2026 00:00:00 +0000\r\n", b"Message-Id: <mine@laptop>\r\n"
    async with doors.signed_in() as client:
        for fields in (b"", date, own, date + own, b"date:\r\nMESSAGE-ID :\r\n"):
            assert (await send(client, written(fields, body))).code == 250
    stored = await doors.mx.content(bob)
    counts = []
    for content in stored:
        found = headers.scan(content)
        counts.append((len(found.find(b"date")), len(found.find(b"message-id"))))
        ours = re.search(rb"\r\nMessage-ID: <(r[0-9a-z]{13})@mail\.example\.test>\r\n", content)
        assert (ours is None) == (b"essage-I" in content[content.index(b"Subject:") :] or
                                  b"MESSAGE-ID" in content)  # fmt: skip
        if ours is not None:
            assert b" id " + ours[1] in content.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
        assert content.endswith(b"\r\n\r\n" + body)
    assert counts == [(1, 1)] * 5
    assert (date in stored[1], own in stored[2]) == (True, True)
    told = [record.get("amended", []) for record in await doors.mx.traces()]
    assert told == [
        [], [], ["added Date"], ["added Message-ID"], ["added Date", "added Message-ID"],
    ]  # fmt: skip


async def test_an_added_message_id_finds_the_trace(doors: Doors) -> None:
    bob = await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        reply = await send(client, written())
    (stored,) = await doors.mx.content(bob)
    made = re.search(rb"Message-ID: (<\S+>)", stored)
    assert made is not None
    record = await doors.mx.delivered(made[1].decode())
    assert record["id"] in reply.text
    assert record["message_id"] == made[1].decode()


async def test_what_strangers_bring_stays_as_it_is(doors: Doors) -> None:
    """Octet for octet: neither Bcc nor a missing Date is our affair on port 25."""
    bob = await doors.mx.account(BOB)
    content = b"Bcc: x@y.example\r\nFrom: <boss@elsewhere.example>\r\n\r\nHi\r\n"
    async with doors.mx.connect() as client:
        assert (await send(client, content, sender=FOREIGN)).code == 250
    (stored,) = await doors.mx.content(bob)
    assert stored.endswith(b"\r\n" + content) and b"\r\nDate: " not in stored


async def test_the_size_and_structure_that_are_kept_are_those_of_what_is_stored(
    doors: Doors,
) -> None:
    bob = await doors.mx.account(BOB)
    parts = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nBcc: x@y.example\r\n"
    )
    body = b"--b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\ntwo\r\n--b--\r\n"
    async with doors.signed_in() as client:
        assert (await send(client, written(parts, body))).code == 250
    (stored,) = await doors.mx.content(bob)
    assert (await doors.mx.usage(bob))[0] == len(stored)
    record = (await doors.mx.traces())[0]
    assert record["size"] == len(stored)


# --- how it came, and where it goes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [("", b" with ESMTPSA (TLSv1.3 "), ("SMTPUTF8", b" with UTF8SMTPSA (TLSv1.3 ")],
)
async def test_received_says_that_somebody_signed_in_over_tls(
    doors: Doors, parameters: str, expected: bytes
) -> None:
    """RFC 3848, RFC 6531 §4.3. And not who: RFC 5321 §7.6."""
    bob = await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        done = await client.deliver(ANN, [BOB], written(), parameters=parameters)
        assert done.accepted
    (stored,) = await doors.mx.content(bob)
    added = stored[: stored.index(b"Date:")].replace(b"\r\n ", b" ")
    assert expected in added, added
    assert b"from laptop.example ([127.0.0.1])" in added
    assert added.count(b"ann@") == 1  # the Return-Path


@pytest.mark.parametrize("body", BODIES)
async def test_one_message_goes_here_and_elsewhere_in_one_unit(doors: Doors, body: bytes) -> None:
    mx = doors.mx
    bob, eve = await mx.account(BOB), await mx.account(f"eve@{OTHER}")
    await mx.alias(f"team@{DOMAIN}", BOB)
    await mx.alias(f"team@{DOMAIN}", "third@else.example")
    async with doors.signed_in() as client:
        to = (BOB, FAR, f"eve@{OTHER}", "Other@far.example", f"team@{DOMAIN}", FAR.upper())
        assert (await send(client, written(body=body), *to)).code == 250
    assert (await mx.count(bob), await mx.count(eve)) == (1, 1)
    outgoing = await doors.outgoing()
    assert sorted((row.address, row.account) for row, _ in outgoing) == [
        ("Other@far.example", None),
        ("someone@far.example", None),
        ("third@else.example", None),
    ]
    assert len({row.message.id for row, _ in outgoing}) == 1
    assert len({content for _, content in outgoing}) == 1
    here, there = (await mx.content(bob))[0], outgoing[0][1]
    assert here == b"Return-Path: <ann@example.test>\r\n" + there
    assert here == (await mx.content(eve))[0]
    message = outgoing[0][0].message
    assert (message.size, message.reverse_path, message.origin) == (len(there), ANN, "submission")
    record = (await mx.traces())[0]
    assert [each["to"] for each in record["delivered"]] == [BOB, f"eve@{OTHER}"]
    assert {each["next hop"] for each in record["relayed"]} == {"mx:far.example", "mx:else.example"}
    assert [
        each["because"] for each in record["relayed"] if each["to"] == "third@else.example"
    ] == [f"team@{DOMAIN} is an alias of third@else.example"]


@pytest.mark.parametrize(
    ("body", "eight_bit"),
    [(SMALL, False), ("Grüße\r\n".encode(), True), (SPOOLED, False), (SPOOLED + b"\xff\r\n", True)],
)
async def test_whether_it_holds_8_bits_is_found_out_and_not_believed(
    doors: Doors, body: bytes, eight_bit: bool
) -> None:
    """BODY= is what a client says; the next server is told what is so. RFC 6152 §2."""
    async with doors.signed_in() as client:
        for said in ("BODY=8BITMIME", "BODY=7BIT", ""):
            done = await client.deliver(ANN, [FAR], written(body=body), parameters=said)
            assert done.accepted
    assert [row.message.eight_bit for row, _ in await doors.outgoing()] == [eight_bit] * 3


async def test_a_null_reverse_path_goes_out_as_such(doors: Doors) -> None:
    bob = await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        assert (await send(client, written(), BOB, FAR, sender="")).code == 250
    ((row, _),) = await doors.outgoing()
    assert row.message.reverse_path is None
    assert (await doors.mx.content(bob))[0].startswith(b"Return-Path: <>\r\n")


async def test_names_beyond_ascii_are_taken_with_smtputf8_only(doors: Doors) -> None:
    """RFC 6531 §3.4, §3.5."""
    zoe = await doors.mx.account(f"zoë@{DOMAIN}")
    async with doors.signed_in() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        refused_ = await client.ask(f"RCPT TO:<zoë@{DOMAIN}>")
        assert (refused_.code, refused_.status) == (553, Status(5, 6, 7))
        await client.ask("RSET", 250)
        content = written("To: Zoë <zoë@example.test>\r\n".encode())
        to = [f"zoë@{DOMAIN}", "用户@far.example"]
        assert (await client.deliver(ANN, to, content, parameters="SMTPUTF8")).accepted
    assert await doors.mx.count(zoe) == 1
    ((row, there),) = await doors.outgoing()
    assert (row.address, row.message.utf8, row.message.eight_bit) == (
        "用户@far.example",
        True,
        True,
    )
    assert "Zoë".encode() in there


async def test_the_size_that_is_declared_is_judged_first_and_the_true_one_last(
    doors: Doors,
) -> None:
    await doors.mx.account(BOB)
    await doors.mx.set("smtp.max_size", 100_000)
    async with doors.signed_in() as client:
        said = await client.ask(f"MAIL FROM:<{ANN}> SIZE=100001", 552)
        assert said.status == Status(5, 3, 4)
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=99", 250)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        told = await client.content(written(body=LINE * 2_000))
        assert (told.code, told.status) == (552, Status(5, 3, 4))
        assert (await send(client, written())).code == 250


async def test_the_auth_parameter_is_taken_and_not_believed(doors: Doors) -> None:
    """RFC 4954 §5: who signed in is known better."""
    await doors.mx.account(BOB)
    async with doors.signed_in() as client:
        for said in ("AUTH=<>", "AUTH=ann+40example.test", "AUTH=boss+40far.example"):
            done = await client.deliver(ANN, [BOB], written(), parameters=said)
            assert done.accepted, done
    records: list[dict[str, Any]] = await doors.mx.traces()
    assert {record["facts"]["peer"]["login"] for record in records} == {ANN}


async def test_a_header_beyond_the_caps_is_refused_whole(doors: Doors) -> None:
    """A Bcc behind the last field that is looked at would go out."""
    await doors.mx.set("submission.own_author", False)
    bob = await doors.mx.account(BOB)
    many = b"X: y\r\n" * headers.FIELDS_MAX
    long = b"X: " + b"z" * 900 + b"\r\n"
    async with doors.signed_in() as client:
        for fields in (many, long * (headers.HEADER_MAX // len(long) + 1)):
            reply = await send(client, written(fields + b"Bcc: boss@far.example\r\n"))
            assert (reply.code, reply.status) == (552, Status(5, 3, 4))
    assert await doors.mx.count(bob) == 0
