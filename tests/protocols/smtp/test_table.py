"""The session's table: each verb in each state, what is announced, and how long we listen."""

from __future__ import annotations

import asyncio

import pytest

from postroom.core.errors import Status
from postroom.protocols.smtp.session import BAD_COMMANDS, IDLE_COMMANDS
from postroom.protocols.smtp.verbs import MX
from postroom.testing.smtp import SmtpClient, trusting_context
from postroom.wire.smtp import ehlo_keywords
from tests.mailflow.serving import Mx, message

BOB = "bob@example.test"
ANN = "ann@elsewhere.example"
MAIL = f"MAIL FROM:<{ANN}>"
RCPT = f"RCPT TO:<{BOB}>"

STATES = {
    "connected": [],
    "greeted": ["EHLO client.example"],
    "mail": ["EHLO client.example", MAIL],
    "rcpt": ["EHLO client.example", MAIL, RCPT],
}

# Command, and its code in each state in the order above. RFC 5321 §4.1.4, §4.3.2.
TABLE = [
    ("EHLO client.example", (250, 250, 250, 250)),
    ("EHLO [192.0.2.1]", (250, 250, 250, 250)),
    ("EHLO [IPv6:2001:db8::1]", (250, 250, 250, 250)),
    ("EHLO", (501, 501, 501, 501)),
    ("EHLO two names", (501, 501, 501, 501)),
    ("HELO client.example", (250, 250, 250, 250)),
    ("HELO", (501, 501, 501, 501)),
    (MAIL, (503, 250, 503, 503)),
    ("MAIL FROM:<>", (503, 250, 503, 503)),
    ("mail from:<ann@elsewhere.example>", (503, 250, 503, 503)),
    ("MAIL", (503, 501, 503, 503)),
    ("MAIL FROM:<ann", (503, 501, 503, 503)),
    ("MAIL FROM:<ann@elsewhere.example> FOO=1", (503, 555, 503, 503)),
    ("MAIL FROM:<ann@elsewhere.example> AUTH=<>", (503, 555, 503, 503)),
    ("MAIL FROM:<ann@elsewhere.example> BODY=BINARYMIME", (503, 555, 503, 503)),
    ("MAIL FROM:<ann@elsewhere.example> SIZE=x", (503, 501, 503, 503)),
    (RCPT, (503, 503, 250, 250)),
    ("RCPT TO:<Postmaster>", (503, 503, 250, 250)),
    ("RCPT TO:<nobody@example.test>", (503, 503, 550, 550)),
    ("RCPT TO:<ann@elsewhere.example>", (503, 503, 550, 550)),
    ("RCPT TO:<>", (503, 503, 501, 501)),
    ("RCPT", (503, 503, 501, 501)),
    (RCPT + " NOTIFY=NEVER", (503, 503, 555, 555)),
    ("DATA", (503, 503, 554, 354)),
    ("DATA now", (503, 503, 501, 501)),
    ("RSET", (250, 250, 250, 250)),
    ("RSET x", (501, 501, 501, 501)),
    ("NOOP", (250, 250, 250, 250)),
    ("NOOP anything at all", (250, 250, 250, 250)),
    ("VRFY bob", (252, 252, 252, 252)),
    ("VRFY nobody", (252, 252, 252, 252)),
    ("VRFY", (501, 501, 501, 501)),
    ("EXPN staff", (502, 502, 502, 502)),
    ("HELP", (214, 214, 214, 214)),
    ("HELP MAIL", (214, 214, 214, 214)),
    ("STARTTLS", (220, 220, 220, 220)),
    ("STARTTLS x", (501, 501, 501, 501)),
    ("QUIT", (221, 221, 221, 221)),
    ("QUIT x", (501, 501, 501, 501)),
    ("AUTH PLAIN AGFubgBzZWNyZXQ=", (500, 500, 500, 500)),
    ("BDAT 10 LAST", (500, 500, 500, 500)),
    ("LHLO client.example", (500, 500, 500, 500)),
    ("TURN", (500, 500, 500, 500)),
    ("XCLIENT ADDR=127.0.0.1", (500, 500, 500, 500)),
    ("GET / HTTP/1.1", (500, 500, 500, 500)),
    ("", (500, 500, 500, 500)),
]


async def _set_up(mx: Mx) -> None:
    await mx.account(BOB)
    await mx.alias("postmaster@example.test", BOB)


@pytest.mark.parametrize("at", range(len(STATES)), ids=list(STATES))
async def test_each_verb_in_each_state_gives_the_documented_code(mx: Mx, at: int) -> None:
    await _set_up(mx)
    wrong = []
    for line, codes in TABLE:
        async with mx.connect(hello="") as client:
            for before in list(STATES.values())[at]:
                await client.ask(before, 250)
            reply = await client.ask(line)
            if reply.code != codes[at]:
                wrong.append(f"{line!r}: {reply}, not {codes[at]}")
            klass = reply.code // 100
            bare = klass == 3 or (line[:4] in ("EHLO", "HELO") and klass == 2)
            if (reply.status is None) != bare:  # RFC 2034 §4
                wrong.append(f"{line!r}: enhanced status in {reply}")
    assert not wrong, "\n".join(wrong)


def test_every_verb_of_the_product_is_in_the_table_above() -> None:
    assert {verb.decode() for verb in MX} <= {line.split(" ")[0].upper() for line, _ in TABLE}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [(["MAIL FROM:<>"], "Say EHLO first"), (["EHLO x", MAIL, "MAIL FROM:<>"], "RSET")],
)
async def test_a_command_out_of_order_says_what_is_wanted(
    mx: Mx, lines: list[str], sentence: str
) -> None:
    async with mx.connect(hello="") as client:
        replies = [await client.ask(line) for line in lines]
    assert replies[-1].code == 503
    assert sentence in replies[-1].text


async def test_a_refused_command_changes_no_state(mx: Mx) -> None:
    await _set_up(mx)
    async with mx.connect(hello="") as client:
        for line, code in [
            ("EHLO", 501), ("MAIL FROM:<>", 503), ("EHLO x", 250), ("MAIL FROM:<a", 501),
            (RCPT, 503), (MAIL, 250), ("RCPT TO:<nobody@example.test>", 550), ("DATA", 554),
            (RCPT, 250), ("RCPT TO:<nobody@example.test>", 550), ("EHLO", 501), ("DATA", 354),
        ]:  # fmt: skip
            await client.ask(line, code)
        assert (await client.content(message())).code == 250


@pytest.mark.parametrize("again", ["EHLO x", "HELO x", "RSET"])
async def test_what_begins_afresh_forgets_the_transaction(mx: Mx, again: str) -> None:
    await _set_up(mx)
    async with mx.connect() as client:
        await client.ask(MAIL, 250)
        await client.ask(RCPT, 250)
        await client.ask(again, 250)
        await client.ask("DATA", 503)
        await client.ask(RCPT, 503)
        assert (await client.deliver(ANN, [BOB], message())).accepted


async def test_words_that_look_like_commands_are_content_in_data(mx: Mx) -> None:
    bob = await mx.account(BOB)
    sent = message(body=b"RSET\r\nQUIT\r\nMAIL FROM:<x@y.example>\r\n.\r\n..\r\nSTARTTLS\r\n")
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], sent)).accepted
    assert (await mx.content(bob))[0].endswith(sent)


# --- what is announced --------------------------------------------------------------------------

OFFERED = {
    "PIPELINING": "",
    "SIZE": "52428800",
    "8BITMIME": "",
    "SMTPUTF8": "",
    "ENHANCEDSTATUSCODES": "",
    "HELP": "",
}


@pytest.mark.rows("SMTP-01")
async def test_ehlo_offers_exactly_this_before_and_after_tls_and_never_sign_in(mx: Mx) -> None:
    async with mx.connect(hello="") as client:
        before = await client.ask("EHLO client.example", 250)
        assert before.lines[0] == "mail.example.test greets client.example"
        assert ehlo_keywords(before) == OFFERED | {"STARTTLS": ""}
        await client.starttls(trusting_context())
        after = await client.ask("EHLO client.example", 250)
        assert ehlo_keywords(after) == OFFERED
        for mechanism in ("PLAIN AGFubgBzZWNyZXQ=", "LOGIN", "SCRAM-SHA-256", ""):
            refused = await client.ask(f"AUTH {mechanism}".strip(), 500)
            assert refused.status == Status(5, 5, 1)
            assert refused.text == (await client.ask("FROB", 500)).text  # as if it did not exist


async def test_the_greeting_names_the_host_and_says_esmtp(mx: Mx) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", mx.port)
    assert await reader.readline() == b"220 mail.example.test ESMTP Postroom\r\n"
    writer.close()
    await writer.wait_closed()


async def test_helo_brings_no_extensions(mx: Mx) -> None:
    await _set_up(mx)
    async with mx.connect(hello="HELO old.example") as client:
        await client.ask(f"MAIL FROM:<{ANN}> SIZE=100", 555)
        await client.ask(f"MAIL FROM:<{ANN}> BODY=8BITMIME", 555)
        assert (await client.deliver(ANN, [BOB], message())).accepted


@pytest.mark.parametrize(
    ("hello", "tls", "parameters", "expected"),
    [
        ("HELO old.example", False, "", b" with SMTP "),
        ("EHLO new.example", False, "", b" with ESMTP "),
        ("EHLO new.example", True, "", b" with ESMTPS "),
        ("EHLO new.example", False, "SMTPUTF8", b" with UTF8SMTP "),
        ("EHLO new.example", True, "SMTPUTF8", b" with UTF8SMTPS "),
    ],
)
async def test_received_says_how_the_message_came(
    mx: Mx, hello: str, tls: bool, parameters: str, expected: bytes
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect(hello=hello) as client:
        if tls:
            await client.starttls(trusting_context())
            await client.ask(hello, 250)
        sent = message()
        assert (await client.deliver(ANN, [BOB], sent, parameters=parameters)).accepted
    stored = (await mx.content(bob))[0]
    added = stored[: -len(sent)]
    unfolded = added.replace(b"\r\n\t", b" ").replace(b"\r\n ", b" ")
    assert unfolded.startswith(b"Return-Path: <ann@elsewhere.example>\r\nReceived: from ")
    assert hello.split()[1].encode() in unfolded
    assert b"[127.0.0.1]" in unfolded
    assert b"by mail.example.test" in unfolded
    assert expected in unfolded
    assert b"for <bob@example.test>" in unfolded
    assert (b"TLSv1.3" in unfolded) == tls


async def test_received_names_no_recipient_where_there_are_two(mx: Mx) -> None:
    """RFC 5321 §7.2: it would tell each of the other, Bcc among them."""
    bob = await mx.account(BOB)
    await mx.account("eve@example.test")
    async with mx.connect() as client:
        sent = message()
        assert (await client.deliver(ANN, [BOB, "eve@example.test"], sent)).accepted
    added = (await mx.content(bob))[0][: -len(sent)]
    assert b" for " not in added and b"eve" not in added


# --- pipelining ---------------------------------------------------------------------------------


async def test_a_whole_session_in_one_packet(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect(hello="") as client:
        await client.send(
            f"EHLO x\r\n{MAIL}\r\nRCPT TO:<nobody@example.test>\r\n{RCPT}\r\nDATA\r\n".encode()
            + message()
            + b".\r\n"
            + f"{MAIL}\r\n{RCPT}\r\nRSET\r\nNOOP\r\nQUIT\r\nNOOP\r\n".encode()
        )
        codes = [reply.code for reply in await client.rest()]
    assert codes == [250, 250, 550, 250, 354, 250, 250, 250, 250, 250, 221]
    assert await mx.count(bob) == 1


async def test_pipelined_data_after_only_refused_recipients_is_554(mx: Mx) -> None:
    """RFC 2920 §3.1: the client may have sent the dot already; the session stays in step."""
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        refused = await client.deliver(
            ANN, ["nobody@example.test", "none@example.test"], message(), pipelined=True
        )
        assert refused.data is not None and refused.data.code == 554
        assert refused.data.status == Status(5, 5, 1)
        await client.ask("RSET", 250)
        assert (await client.deliver(ANN, [BOB], message(), pipelined=True)).accepted
    assert await mx.count(bob) == 1


async def test_a_transaction_octet_by_octet(mx: Mx) -> None:
    bob = await mx.account(BOB)
    text = f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode() + message() + b".\r\n"
    async with mx.connect() as client:
        await client.drip(text)
        assert [r.code for r in await client.replies(4)] == [250, 250, 354, 250]
    assert (await mx.content(bob))[0].endswith(message())


async def test_many_messages_in_one_session(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        for n in range(30):
            done = await client.deliver(ANN, [BOB], message(str(n)), pipelined=bool(n % 2))
            assert done.accepted
    assert await mx.count(bob) == 30


# --- patience -----------------------------------------------------------------------------------

BAD = ["FOO", "AUTH LOGIN", "", "MAIL FROM:<a b@c>", "RCPT TO:<a@b>", "RSET x", "MAIL FROM:<>>"]


@pytest.mark.parametrize("line", BAD)
async def test_twenty_bad_commands_end_the_session(mx: Mx, line: str) -> None:
    async with mx.connect() as client:
        await client.send(f"{line}\r\n".encode() * 50)
        replies = await client.rest()
    assert len(replies) == BAD_COMMANDS
    assert replies[-1].code == 421
    assert all(reply.permanent for reply in replies[:-1])


async def test_bad_addresses_count_as_bad_commands(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.ask(MAIL, 250)
        await client.send(b"RCPT TO:<a@@b>\r\n" * 50)
        replies = await client.rest()
    assert [reply.code for reply in replies] == [501] * (BAD_COMMANDS - 1) + [421]


@pytest.mark.parametrize(
    "lines",
    [
        "NOOP", "RSET", "VRFY bob", "HELP", "EXPN staff", "EHLO x", "HELO x",
        f"{MAIL}\r\nDATA\r\nRSET", f"{MAIL}\r\nRSET", "MAIL FROM:<x@example.test>",
        f"{MAIL}\r\nRCPT TO:<bob@example.test>\r\nEHLO x",
    ],
)  # fmt: skip
async def test_commands_that_lead_nowhere_end_the_session(mx: Mx, lines: str) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await client.send(f"{lines}\r\n".encode() * 3 * IDLE_COMMANDS)
        replies = await client.rest()
    assert replies[-1].code == 421
    assert len(replies) <= 3 * IDLE_COMMANDS + 3


async def test_commands_that_lead_nowhere_are_forgiven_by_a_message(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        for _ in range(3):
            await client.send(b"NOOP\r\n" * (IDLE_COMMANDS - 10))
            await client.replies(IDLE_COMMANDS - 10)
            assert (await client.deliver(ANN, [BOB], message())).accepted


# --- lines --------------------------------------------------------------------------------------


async def _in_step(client: SmtpClient) -> None:
    await client.ask("NOOP", 250)


@pytest.mark.parametrize("length", [4095, 4096, 5000, 20_000, 60_000])
async def test_a_line_too_long_is_500_and_the_session_stays_in_step(mx: Mx, length: int) -> None:
    async with mx.connect() as client:
        await client.send(b"NOOP " + b"x" * length + b"\r\nNOOP\r\n")
        first, second = await client.replies(2)
        assert (first.code, first.status) == (500, Status(5, 5, 2))
        assert second.code == 250
        await _in_step(client)


async def test_the_longest_line_is_taken(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.ask("NOOP " + "x" * (4096 - 7), 250)


async def test_a_line_without_end_is_given_up(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.flood(b"x" * 200_000, 0.5)
        replies = await client.rest()
    assert [reply.code for reply in replies] == [500]


@pytest.mark.parametrize("octet", [0, 1, 7, 8, 9, 11, 27, 127])
async def test_control_characters_are_refused_and_the_session_stays_in_step(
    mx: Mx, octet: int
) -> None:
    async with mx.connect() as client:
        refused = await client.ask(b"NOOP " + bytes([octet]), 500)
        assert refused.status == Status(5, 5, 2)
        await _in_step(client)


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP\nQUIT\r\n", b"NOOP\rRSET\r\n", b"\n", b"NOOP\r\r\n", b"NOOP\n\r\n"]
)
async def test_a_bare_line_end_in_a_command_ends_the_session(mx: Mx, line: bytes) -> None:
    """The two sides no longer agree where a line ends."""
    async with mx.connect() as client:
        await client.send(line + b"NOOP\r\n")
        replies = await client.rest()
    assert [(reply.code, reply.status) for reply in replies] == [(500, Status(5, 5, 2))]


async def test_octets_beyond_ascii_break_nothing(mx: Mx) -> None:
    async with mx.connect() as client:
        for line, code in [
            (b"\xff\xfe", 500), (b"EHLO \xc3\xa9.example", 501), (b"NOOP \xff", 250),
            (b"MAIL FROM:<\xff@a.example> SMTPUTF8", 501), (b"VRFY \xc3\xa9", 553),
        ]:  # fmt: skip
            await client.ask(line, code)
        await _in_step(client)
