"""The session's table: each verb in each state, what is announced, and how long we listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from postroom.core.errors import Status
from postroom.protocols.smtp.session import BAD_COMMANDS, IDLE_COMMANDS, Service
from postroom.protocols.smtp.verbs import LMTP, MX, SUBMISSION
from postroom.testing.smtp import SmtpClient, trusting_context
from postroom.wire.sasl import PlainClient
from postroom.wire.smtp import ehlo_keywords
from tests.mailflow.doors import PASSWORD, Doors, sign_in
from tests.mailflow.serving import Mx, message

BOB = "bob@example.test"
ANN = "ann@elsewhere.example"
MAIL = f"MAIL FROM:<{ANN}>"
RCPT = f"RCPT TO:<{BOB}>"
OWN = "MAIL FROM:<ann@example.test>"
PIECE = b"Subject: x\r\n"
LAST = b"From: <ann@example.test>\r\n\r\nGood morning.\r\n"

Row = tuple[str, tuple[int, ...]]

# What both MX and LMTP do with mail: after the greeting, MAIL, RCPT and a BDAT. RFC 5321 §4.1.4,
# §4.3.2; RFC 3030 §2. The first number is before the greeting.
_MESSAGE: list[Row] = [
    (MAIL, (503, 250, 503, 503, 503)),
    ("MAIL FROM:<>", (503, 250, 503, 503, 503)),
    ("mail from:<ann@elsewhere.example>", (503, 250, 503, 503, 503)),
    ("MAIL", (503, 501, 503, 503, 503)),
    ("MAIL FROM:<ann", (503, 501, 503, 503, 503)),
    (f"{MAIL} FOO=1", (503, 555, 503, 503, 503)),
    (f"{MAIL} AUTH=<>", (503, 555, 503, 503, 503)),
    (f"{MAIL} BODY=BINARYMIME", (503, 250, 503, 503, 503)),
    (f"{MAIL} BODY=9BIT", (503, 501, 503, 503, 503)),
    (f"{MAIL} SIZE=x", (503, 501, 503, 503, 503)),
    (f"{MAIL} RET=HDRS ENVID=QQ314", (503, 250, 503, 503, 503)),
    (f"{MAIL} RET=SOME", (503, 501, 503, 503, 503)),
    (f"{MAIL} REQUIRETLS", (503, 555, 503, 503, 503)),
    (RCPT, (503, 503, 250, 250, 503)),
    ("RCPT TO:<Postmaster>", (503, 503, 250, 250, 503)),
    ("RCPT TO:<nobody@example.test>", (503, 503, 550, 550, 503)),
    ("RCPT TO:<ann@elsewhere.example>", (503, 503, 550, 550, 503)),
    ("RCPT TO:<>", (503, 503, 501, 501, 503)),
    ("RCPT", (503, 503, 501, 501, 503)),
    (f"{RCPT} NOTIFY=NEVER", (503, 503, 250, 250, 503)),
    (f"{RCPT} NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x+2Bb@a.example", (503, 503, 250, 250, 503)),
    (f"{RCPT} NOTIFY=NEVER,DELAY", (503, 503, 501, 501, 503)),
    (f"{RCPT} ORCPT=bob", (503, 503, 501, 501, 503)),
    ("DATA now", (503, 503, 501, 501, 503)),
    ("BDAT", (501, 501, 501, 501, 501)),
    ("BDAT x", (501, 501, 501, 501, 501)),
    ("BDAT -1", (501, 501, 501, 501, 501)),
    ("BDAT 1 FIRST", (501, 501, 501, 501, 501)),
]


def _always(columns: int) -> list[Row]:
    """What is answered alike in every state."""
    rows = [
        ("RSET", 250), ("RSET x", 501), ("NOOP", 250), ("NOOP anything at all", 250),
        ("VRFY bob", 252), ("VRFY nobody", 252), ("VRFY", 501), ("EXPN staff", 502),
        ("HELP", 214), ("HELP MAIL", 214), ("QUIT", 221), ("QUIT x", 501), ("TURN", 500),
        ("XCLIENT ADDR=127.0.0.1", 500), ("GET / HTTP/1.1", 500), ("", 500),
    ]  # fmt: skip
    return [(line, (code,) * columns) for line, code in rows]


def _greetings(columns: int) -> list[Row]:
    rows = [
        ("EHLO client.example", 250), ("EHLO [192.0.2.1]", 250), ("EHLO [IPv6:2001:db8::1]", 250),
        ("EHLO", 501), ("EHLO two names", 501), ("HELO client.example", 250), ("HELO", 501),
        ("LHLO client.example", 500),
    ]  # fmt: skip
    return [(line, (code,) * columns) for line, code in rows]


def _chunks(*codes: int) -> list[Row]:
    """BDAT with its octets, of which the last of a message goes with headers."""
    return [
        (f"BDAT {len(LAST)} LAST", codes),
        (f"BDAT {len(LAST)}", codes),
        (f"BDAT {len(LAST)} last", codes),
    ]


@dataclass(frozen=True)
class Table:
    """The states of a service by the commands that lead there, and its rows."""

    service: Service
    states: dict[str, tuple[str, ...]]
    rows: list[Row]


_IN_MESSAGE = ("EHLO client.example", MAIL, RCPT)
_IN_LMTP = ("LHLO client.example", MAIL, RCPT)
_IN_SUBMISSION = ("EHLO client.example", "AUTH", OWN, RCPT)

TABLES = {
    "mx": Table(
        MX,
        {
            "connected": (),
            "greeted": _IN_MESSAGE[:1],
            "mail": _IN_MESSAGE[:2],
            "rcpt": _IN_MESSAGE,
            "chunks": (*_IN_MESSAGE, "BDAT"),
        },
        [
            *_greetings(5),
            *_MESSAGE,
            ("DATA", (503, 503, 554, 354, 503)),
            *_chunks(503, 503, 554, 250, 250),
            ("STARTTLS", (220, 220, 220, 220, 220)),
            ("STARTTLS x", (501, 501, 501, 501, 501)),
            ("AUTH PLAIN AGFubgBzZWNyZXQ=", (500, 500, 500, 500, 500)),
            *_always(5),
        ],
    ),
    "lmtp": Table(
        LMTP,
        {
            "connected": (),
            "greeted": _IN_LMTP[:1],
            "mail": _IN_LMTP[:2],
            "rcpt": _IN_LMTP,
            "chunks": (*_IN_LMTP, "BDAT"),
        },
        [
            ("LHLO client.example", (250, 250, 250, 250, 250)),
            ("LHLO", (501, 501, 501, 501, 501)),
            ("EHLO client.example", (500, 500, 500, 500, 500)),  # RFC 2033 §4.1
            ("HELO client.example", (500, 500, 500, 500, 500)),
            *_MESSAGE,
            ("MAIL FROM:<eve@example.test>", (503, 250, 503, 503, 503)),
            ("DATA", (503, 503, 503, 354, 503)),  # RFC 2033 §4.2
            *_chunks(503, 503, 503, 250, 250),
            ("STARTTLS", (500, 500, 500, 500, 500)),
            ("AUTH PLAIN AGFubgBzZWNyZXQ=", (500, 500, 500, 500, 500)),
            *_always(5),
        ],
    ),
    "submission": Table(
        SUBMISSION,
        {
            "connected": (),
            "greeted": _IN_SUBMISSION[:1],
            "signed-in": _IN_SUBMISSION[:2],
            "mail": _IN_SUBMISSION[:3],
            "rcpt": _IN_SUBMISSION,
            "chunks": (*_IN_SUBMISSION, "BDAT"),
        },
        [
            *_greetings(6),
            (OWN, (503, 530, 250, 503, 503, 503)),
            (f"{OWN} AUTH=<>", (503, 530, 250, 503, 503, 503)),
            (f"{OWN} AUTH=ann+40example.test", (503, 530, 250, 503, 503, 503)),
            (f"{OWN} AUTH=+", (503, 501, 501, 503, 503, 503)),
            ("MAIL FROM:<>", (503, 530, 250, 503, 503, 503)),
            ("MAIL FROM:<bob@example.test>", (503, 530, 550, 503, 503, 503)),
            (MAIL, (503, 530, 550, 503, 503, 503)),
            ("MAIL", (503, 501, 501, 503, 503, 503)),
            (RCPT, (503, 503, 503, 250, 250, 503)),
            ("RCPT TO:<ann@elsewhere.example>", (503, 503, 503, 250, 250, 503)),
            ("RCPT TO:<nobody@example.test>", (503, 503, 503, 550, 550, 503)),
            ("DATA", (503, 503, 503, 554, 354, 503)),
            *_chunks(503, 503, 503, 554, 250, 250),
            ("BDAT x", (501, 501, 501, 501, 501, 501)),
            ("AUTH PLAIN AGFubgBzZWNyZXQ=", (503, 535, 503, 503, 503, 503)),
            ("AUTH PLAIN", (503, 334, 503, 503, 503, 503)),
            ("AUTH LOGIN", (503, 334, 503, 503, 503, 503)),
            ("AUTH FROB", (503, 504, 503, 503, 503, 503)),
            ("AUTH PLAIN ???", (503, 501, 503, 503, 503, 503)),
            ("AUTH", (503, 501, 503, 503, 503, 503)),
            (
                "STARTTLS",
                (503, 503, 503, 503, 503, 503),
            ),  # it is active: the whole table is said so
            *_always(6),
        ],
    ),
}


async def _set_up(mx: Mx) -> None:
    await mx.account(BOB)
    await mx.alias("postmaster@example.test", BOB)


@asynccontextmanager
async def _at(doors: Doors, table: Table, before: tuple[str, ...]) -> AsyncIterator[SmtpClient]:
    """A session of that service, led into a state."""
    if table.service is MX:
        session = doors.mx.connect(hello="")
    elif table.service is LMTP:
        session = doors.local(hello="")
    else:
        session = doors.open(hello="")
    async with session as client:
        for line in before:
            if line == "AUTH":
                assert (await sign_in(client, PlainClient("ann", PASSWORD))).code == 235
            elif line == "BDAT":
                await client.send(b"BDAT %d\r\n%b" % (len(PIECE), PIECE))
                assert (await client.reply()).code == 250
            else:
                await client.ask(line, 250)
        yield client


@pytest.mark.parametrize(
    ("name", "at"),
    [(name, at) for name, table in TABLES.items() for at in table.states],
)
async def test_each_verb_in_each_state_gives_the_documented_code(
    doors: Doors, name: str, at: str
) -> None:
    await _set_up(doors.mx)
    table = TABLES[name]
    column = list(table.states).index(at)
    wrong = []
    for line, codes in table.rows:
        async with _at(doors, table, table.states[at]) as client:
            octets = LAST if line[:4] == "BDAT" and line[5:6] in "0123456789" else b""
            if octets and len(line) > 4 and codes[column] != 501:
                await client.send(line.encode() + b"\r\n" + octets)
                reply = await client.reply()
            else:
                reply = await client.ask(line)
            if reply.code != codes[column]:
                wrong.append(f"{line!r}: {reply}, not {codes[column]}")
            klass = reply.code // 100
            bare = klass == 3 or (line[1:4] in ("HLO", "ELO") and klass == 2)
            if (reply.status is None) != bare:  # RFC 2034 §4
                wrong.append(f"{line!r}: enhanced status in {reply}")
            if reply.code not in (220, 221, 334, 354) and codes[column] != 501:
                again = await client.ask("NOOP")  # and nothing of it was left on the line
                if again.code != 250:
                    wrong.append(f"{line!r}: out of step, {again}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", TABLES)
def test_every_verb_of_the_product_is_in_the_table_above(name: str) -> None:
    table = TABLES[name]
    said = {line.split(" ")[0].upper() for line, _ in table.rows}
    assert {verb.decode() for verb in table.service.verbs} <= said
    assert all(len(codes) == len(table.states) for _, codes in table.rows)


def test_sign_in_is_a_verb_of_submission_alone() -> None:
    assert [b"AUTH" in s.verbs for s in (MX, SUBMISSION, LMTP)] == [False, True, False]
    assert [b"STARTTLS" in s.verbs for s in (MX, SUBMISSION, LMTP)] == [True, True, False]


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
    "DSN": "",
    "CHUNKING": "",
    "BINARYMIME": "",
    "LIMITS": "RCPTMAX=1000",
    "HELP": "",
}
AUTH = {"AUTH": "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN"}
SPELLED = "EHLO client.example"


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


async def test_submission_offers_sign_in_behind_tls_only(doors: Doors) -> None:
    """RFC 8314 §3.3."""
    async with doors.open(tls=False, hello="") as client:
        before = await client.ask(SPELLED, 250)
        assert ehlo_keywords(before) == OFFERED | {"STARTTLS": ""}
        await client.starttls(trusting_context())
        after = await client.ask(SPELLED, 250)
        assert ehlo_keywords(after) == OFFERED | AUTH


async def test_submissions_speaks_tls_first_and_offers_sign_in_at_once(doors: Doors) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", doors.tls_port, ssl=trusting_context()
    )
    assert await reader.readline() == b"220 mail.example.test ESMTP Postroom\r\n"
    writer.write(b"EHLO client.example\r\n")
    said = [(await reader.readline()).decode().strip() for _ in range(len(OFFERED) + 2)]
    assert said[-1][4:] == f"AUTH {AUTH['AUTH']}"
    assert not any("STARTTLS" in line for line in said)
    writer.write(b"STARTTLS\r\n")
    assert (await reader.readline()).startswith(b"503 5.5.1 ")
    writer.close()
    await writer.wait_closed()


async def test_lmtp_offers_neither_tls_nor_sign_in(doors: Doors) -> None:
    async with doors.local(hello="") as client:
        said = await client.ask("LHLO filter.example", 250)
        assert ehlo_keywords(said) == OFFERED


async def test_what_is_announced_follows_the_settings(doors: Doors) -> None:
    """RFC 9422 §4.1; RFC 1870 §4."""
    await doors.mx.set("smtp.max_recipients", 250)
    await doors.mx.set("smtp.max_size", 1_000_000)
    await doors.mx.house.mail.read(doors.mx.house.policies.current, doors.mx.house.chain(""))
    greetings = (
        (doors.mx.connect(hello=""), "EHLO x"),
        (doors.open(hello=""), "EHLO x"),
        (doors.local(hello=""), "LHLO x"),
    )
    for opened, hello in greetings:
        async with opened as client:
            offers = ehlo_keywords(await client.ask(hello, 250))
            assert (offers["LIMITS"], offers["SIZE"]) == ("RCPTMAX=250", "1000000")


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
