"""From the end of DATA to the mailbox: content, who gets it, how often, and what is kept."""

from __future__ import annotations

import hashlib

import pytest

from postroom.core.errors import Status
from postroom.domain.directory import people
from postroom.formats.address import parse_mailbox
from postroom.store.blobs import ROW_LIMIT, SPOOL_LIMIT
from postroom.testing.corpus import messages
from tests.mailflow.serving import DOMAIN, OTHER, Mx, message

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
ANN = "ann@elsewhere.example"


# --- content ------------------------------------------------------------------------------------


async def test_real_mail_reads_back_octet_for_octet(mx_both: Mx) -> None:
    bob = await mx_both.account(BOB)
    sent = list(messages(25, 7))
    async with mx_both.connect() as client:
        for each in sent:
            assert (await client.deliver(ANN, [BOB], each)).accepted
    kept = await mx_both.content(bob)
    assert [stored.endswith(each) for stored, each in zip(kept, sent, strict=True)] == [True] * 25
    for stored, each in zip(kept, sent, strict=True):
        added = stored[: -len(each)]
        assert added.count(b"Received: ") == 1 and added.startswith(b"Return-Path: ")
        assert added.endswith(b"\r\n") and b"\r\n\r\n" not in added
    octets = sum(len(stored) for stored in kept)
    assert await mx_both.usage(bob) == (octets, 25)


@pytest.mark.parametrize(
    "body",
    [
        b"Gr\xc3\xbc\xc3\x9fe\r\n", bytes(range(128, 256)) + b"\r\n", b"", b"\r\n", b".\r\n..\r\n",
        b"x" * 5_000 + b"\r\n", b"no line end at the end",
    ],
)  # fmt: skip
async def test_content_passes_as_it_is(mx: Mx, body: bytes) -> None:
    bob = await mx.account(BOB)
    sent = message(body=body)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], sent, parameters="BODY=8BITMIME")).accepted
    stored = (await mx.content(bob))[0]
    assert stored.endswith(sent) or stored.endswith(sent + b"\r\n")


@pytest.mark.parametrize("content", [b"", b"\r\n", b"no header at all\r\n", b"\r\nonly a body\r\n"])
async def test_what_is_no_message_by_rfc_5322_is_delivered_all_the_same(
    mx: Mx, content: bytes
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], content)).accepted
    assert (await mx.content(bob))[0].endswith(content)


SIZES = [ROW_LIMIT - 2_000, ROW_LIMIT, SPOOL_LIMIT - 600, SPOOL_LIMIT, SPOOL_LIMIT + 1, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
async def test_a_message_of_any_size_reads_back_and_nothing_is_left_under_way(
    mx_both: Mx, size: int
) -> None:
    bob = await mx_both.account(BOB)
    head = message(body=b"")
    line = hashlib.sha256(str(size).encode()).hexdigest().encode() + b"\r\n"
    sent = (head + line * (size // len(line) + 1))[: size - 2] + b"\r\n"
    async with mx_both.connect() as client:
        assert (await client.deliver(ANN, [BOB], sent)).accepted
    stored = (await mx_both.content(bob))[0]
    assert stored.endswith(sent)
    files = mx_both.files()
    assert not any("/new/" in path for path in files)
    # A spooled one is kept as the file that it was: a rope of the trace fields and it.
    sizes = {SPOOL_LIMIT + 1: size, 3_000_000: size}
    in_file = len(stored) > ROW_LIMIT
    assert len(files) == int(in_file)
    if size in sizes:
        with open(files[0], "rb") as file:
            assert file.read() == sent
    record = await mx_both.delivered("<1@elsewhere.example>")
    assert record["size"] == len(stored)
    assert record["sha256"] == hashlib.sha256(stored).hexdigest()


async def test_a_declared_size_too_big_is_refused_before_it_travels(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        refused = await client.ask(f"MAIL FROM:<{ANN}> SIZE=52428801", 552)
        assert refused.status == Status(5, 3, 4)
        await client.ask(f"MAIL FROM:<{ANN}> SIZE={10**19}", 552)
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=52428800", 250)


async def test_an_undeclared_size_too_big_is_refused_at_its_end_and_leaves_no_file(mx: Mx) -> None:
    bob = await mx.account(BOB)
    limit = 64 * 1024 * 5
    await mx.set("smtp.max_size", limit)
    async with mx.connect() as client:
        for size in (limit + 100, 10 * limit):
            big = message(body=b"x" * 70 + b"\r\n") + (b"y" * 70 + b"\r\n") * (size // 72)
            done = await client.deliver(ANN, [BOB], big)
            assert done.end is not None
            assert (done.end.code, done.end.status) == (552, Status(5, 3, 4))
            assert not mx.files()
        assert (await client.deliver(ANN, [BOB], message())).accepted
    assert await mx.count(bob) == 1


async def test_the_spool_is_gone_from_disk_as_soon_as_the_limit_is_passed(mx: Mx) -> None:
    await mx.account(BOB)
    await mx.set("smtp.max_size", 400_000)
    async with mx.connect() as client:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        await client.send(b"y" * 300_000)
        await mx.settled(lambda: len(mx.files()) == 1)
        await client.send(b"y" * 200_000)
        await mx.settled(lambda: not mx.files())
        await client.send(b"y" * 300_000 + b"\r\n.\r\n")
        assert (await client.reply()).code == 552


async def test_a_limit_lowered_while_a_message_comes_in_is_for_the_next(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client, mx.connect() as other:
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        await client.ask(f"RCPT TO:<{BOB}>", 250)
        await client.ask("DATA", 354)
        await mx.set("smtp.max_size", 64 * 1024)
        await other.ask(f"MAIL FROM:<{ANN}> SIZE=100000", 552)  # so the new value is known
        await client.send(b"y" * 100_000 + b"\r\n.\r\n")
        assert (await client.reply()).code == 250
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=100000", 552)
    assert await mx.count(bob) == 1


# --- SMTPUTF8: RFC 6531 -------------------------------------------------------------------------


async def test_addresses_beyond_ascii_need_smtputf8(mx: Mx) -> None:
    jorg = await mx.account(f"jörg@{DOMAIN}")
    async with mx.connect() as client:
        refused = await client.ask("MAIL FROM:<ännchen@elsewhere.example>", 553)
        assert refused.status == Status(5, 6, 7)
        await client.ask(f"MAIL FROM:<{ANN}>", 250)
        refused = await client.ask(f"RCPT TO:<jörg@{DOMAIN}>", 553)
        assert refused.status == Status(5, 6, 7)
        await client.ask("RSET", 250)
        sent = message(fields="X-Gruß: ß\r\n".encode())
        done = await client.deliver(
            "ännchen@elsewhere.example", [f"jörg@{DOMAIN}"], sent, parameters="SMTPUTF8"
        )
        assert done.accepted
    stored = (await mx.content(jorg))[0]
    assert stored.startswith("Return-Path: <ännchen@elsewhere.example>".encode())
    assert stored.endswith(sent)


async def test_a_decomposed_address_is_the_same_mailbox(mx: Mx) -> None:
    jorg = await mx.account(f"jörg@{DOMAIN}")
    async with mx.connect() as client:
        done = await client.deliver(ANN, [f"jo\u0308rg@{DOMAIN}"], message(), parameters="SMTPUTF8")
        assert done.accepted
    assert await mx.count(jorg) == 1


# --- who gets it --------------------------------------------------------------------------------


async def test_two_addresses_that_lead_to_one_account_deliver_once(mx_both: Mx) -> None:
    bob = await mx_both.account(BOB)
    await mx_both.alias(f"sales@{DOMAIN}", BOB)
    await mx_both.alias(f"info@{OTHER}", f"sales@{DOMAIN}")
    async with mx_both.connect() as client:
        to = [f"sales@{DOMAIN}", BOB, f"info@{OTHER}", f"BOB@{DOMAIN.upper()}", f"bob+x@{DOMAIN}"]
        assert (await client.deliver(ANN, to, message())).accepted
    assert await mx_both.count(bob) == 1
    record = await mx_both.delivered("<1@elsewhere.example>")
    assert [d["account"] for d in record["delivered"]] == [bob]
    assert record["delivered"][0]["because"] == (f"sales@{DOMAIN} is an alias of {BOB}")


async def test_an_alias_reaches_all_it_names_each_once(mx_both: Mx) -> None:
    people_ = [await mx_both.account(f"p{n}@{DOMAIN}") for n in range(5)]
    for n in range(5):
        await mx_both.alias(f"staff@{DOMAIN}", f"p{n}@{DOMAIN}")
    await mx_both.alias(f"all@{DOMAIN}", f"staff@{DOMAIN}")
    await mx_both.alias(f"all@{DOMAIN}", f"p0@{DOMAIN}")
    async with mx_both.connect() as client:
        assert (await client.deliver(ANN, [f"all@{DOMAIN}"], message())).accepted
    assert [await mx_both.count(p) for p in people_] == [1] * 5
    kept = [(await mx_both.content(p))[0] for p in people_]
    assert len(set(kept)) == 1  # stored once, the same for all
    record = await mx_both.delivered("<1@elsewhere.example>")
    because = {d["to"]: d["because"] for d in record["delivered"]}
    assert because[f"p0@{DOMAIN}"] == f"all@{DOMAIN} is an alias of p0@{DOMAIN}"
    assert because[f"p1@{DOMAIN}"] == (
        f"all@{DOMAIN} is an alias of p1@{DOMAIN}, by way of staff@{DOMAIN}"
    )


@pytest.mark.parametrize(
    "to",
    ["Postmaster", "postmaster", f"postmaster@{DOMAIN}", f"PostMaster@{DOMAIN}"],
)
async def test_postmaster_is_reached_with_and_without_a_domain(mx: Mx, to: str) -> None:
    """RFC 5321 §4.5.1."""
    bob = await mx.account(BOB)
    await mx.alias(f"postmaster@{DOMAIN}", BOB)
    async with mx.connect() as client:
        assert (await client.deliver("", [to], message())).accepted
    assert await mx.count(bob) == 1


async def test_the_null_sender_is_taken_and_kept_as_such(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver("", [BOB], message())).accepted
    assert (await mx.content(bob))[0].startswith(b"Return-Path: <>\r\n")
    assert (await mx.delivered("<1@elsewhere.example>"))["from"] == ""


async def test_a_subaddress_reaches_its_account_and_is_named_in_the_trace(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [f"bob+lists@{DOMAIN}"], message())).accepted
    assert await mx.count(bob) == 1
    record = await mx.delivered("<1@elsewhere.example>")
    assert record["delivered"][0] | {"message": 0} == {
        "to": BOB,
        "account": bob,
        "message": 0,
        "mailbox": "inbox",
        "because": f'bob+lists@{DOMAIN} is {BOB} with the tag "lists"',
    }


async def test_a_refused_recipient_beside_good_ones_keeps_nobody_from_his_mail(mx: Mx) -> None:
    bob, eve = await mx.account(BOB), await mx.account(EVE)
    async with mx.connect() as client:
        done = await client.deliver(
            ANN, [BOB, f"no@{DOMAIN}", "x@far.example", EVE], message(), pipelined=True
        )
    assert [reply.code for reply in done.rcpts] == [250, 550, 550, 250]
    assert done.accepted
    assert (await mx.count(bob), await mx.count(eve)) == (1, 1)
    record = await mx.delivered("<1@elsewhere.example>")
    assert [(r["address"], r["rule"]) for r in record["refused"]] == [
        (f"no@{DOMAIN}", "known"), ("x@far.example", "relay"),
    ]  # fmt: skip


async def test_a_disabled_account_is_as_if_it_did_not_exist(mx: Mx) -> None:
    await mx.account(BOB)
    found = await mx.house.mail.read(people.account, parse_mailbox(BOB))
    await mx.house.mail.write(people.set_state, found, "disabled")
    async with mx.connect() as client:
        done = await client.deliver(ANN, [BOB], message())
    assert (done.last.code, done.last.status) == (550, Status(5, 1, 1))


async def test_an_account_that_vanishes_between_rcpt_and_the_dot_is_no_loss_for_others(
    mx_both: Mx,
) -> None:
    bob, eve = await mx_both.account(BOB), await mx_both.account(EVE)
    async with mx_both.connect() as client:
        for line, code in [
            (f"MAIL FROM:<{ANN}>", 250), (f"RCPT TO:<{BOB}>", 250), (f"RCPT TO:<{EVE}>", 250),
            ("DATA", 354),
        ]:  # fmt: skip
            await client.ask(line, code)
        found = await mx_both.house.mail.read(people.account, parse_mailbox(BOB))
        await mx_both.house.mail.write(people.delete_account, found)
        assert (await client.content(message())).code == 250
    assert await mx_both.count(eve) == 1
    assert bob in [d["account"] for d in (await mx_both.traces())[0]["delivered"]]


# --- loops --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hops", "code"), [(49, 250), (50, 554), (500, 554)])
async def test_a_message_with_too_many_hops_goes_in_circles(mx: Mx, hops: int, code: int) -> None:
    await mx.account(BOB)
    received = b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    async with mx.connect() as client:
        done = await client.deliver(ANN, [BOB], received * hops + message())
        assert done.end is not None and done.end.code == code
        if code == 554:
            assert done.end.status == Status(5, 4, 6)
            record = await mx.refusal(done.end)
            assert record["facts"]["content"]["hops"] == hops
