"""AUTH over sockets: every mechanism, every way to fail, and what follows. RFC 4954."""

from __future__ import annotations

import asyncio
import base64
import smtplib
import subprocess
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from postroom.core.errors import MailError, NotFound, Status, StoreFailed
from postroom.domain.directory import people
from postroom.net.connection import Connection
from postroom.protocols.smtp.commands import signin
from postroom.protocols.smtp.session import BAD_COMMANDS, IDLE_COMMANDS
from postroom.testing.smtp import trusting_context
from postroom.wire.smtp import Reply
from postroom.wire.smtp.limits import AUTH_LINE_CAP
from tests.mailflow.doors import ANN, PASSWORD, Doors, client_of, sign_in
from tests.mailflow.serving import DOMAIN, Mx
from tests.walking import is_installed

BOB = f"bob@{DOMAIN}"
MECHANISMS = ["PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
MAIL = f"MAIL FROM:<{ANN}>"


HOST = "127.0.0.1"


def _smtplib(port: int) -> smtplib.SMTP:
    return smtplib.SMTP(HOST, port, "laptop.example", timeout=10)


def coded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def plain(login: str = ANN, password: str = PASSWORD, acting: str = "") -> str:
    return coded(f"{acting}\0{login}\0{password}")


def said(reply: Reply) -> tuple[int, str]:
    return reply.code, str(reply.status)


# --- signing in ---------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [True, False], ids=["at once", "when asked"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_each_mechanism_signs_in_and_the_message_is_then_taken(
    doors: Doors, mechanism: str, initial: bool
) -> None:
    await doors.mx.account(BOB)
    async with doors.open() as client:
        await client.ask(MAIL, 530)
        channel = client.tls if mechanism.endswith("PLUS") else None
        reply = await sign_in(client, client_of(mechanism, channel=channel), initial=initial)
        assert said(reply) == (235, "2.7.0")
        done = await client.deliver(ANN, [BOB], b"From: <ann@example.test>\r\n\r\nHello\r\n")
        assert done.accepted


@pytest.mark.parametrize("login", ["ann", "ANN", "Ann@Example.Test", ANN])
async def test_a_login_is_the_address_or_its_local_part(doors: Doors, login: str) -> None:
    async with doors.open() as client:
        assert (await client.ask(f"AUTH PLAIN {plain(login)}")).code == 235
        await client.ask(MAIL, 250)


async def test_login_takes_the_name_as_initial_response(doors: Doors) -> None:
    async with doors.open() as client:
        asked = await client.ask(f"AUTH login {coded(ANN)}", 334)
        assert base64.b64decode(asked.text).lower().startswith(b"password")
        assert (await client.ask(coded(PASSWORD))).code == 235


async def test_an_exchange_octet_by_octet(doors: Doors) -> None:
    async with doors.open() as client:
        for line, code in (
            ("AUTH LOGIN", 334), (coded(ANN), 334), (coded(PASSWORD), 235), ("NOOP", 250),
        ):  # fmt: skip
            for octet in f"{line}\r\n".encode():
                await client.send(bytes([octet]))
            assert (await client.reply()).code == code


async def test_a_pipelined_answer_is_no_command(doors: Doors) -> None:
    """The lines of an exchange are never executed, whatever they spell."""
    async with doors.open() as client:
        await client.send(f"AUTH LOGIN\r\nRSET\r\nRSET\r\n{MAIL}\r\n".encode())
        codes = [said(reply) for reply in await client.replies(4)]
        # "RSET" is base64: a name and a password that are nobody's.
        assert codes == [(334, "None"), (334, "None"), (535, "5.7.8"), (530, "5.7.0")]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "SCRAM-SHA-256"])
async def test_another_password_another_name_and_nobody_look_alike(
    doors: Doors, mechanism: str
) -> None:
    told = set()
    for login, password in ((ANN, "wrong"), ("nobody", PASSWORD), ("nobody@far.example", "x")):
        async with doors.open() as client:
            reply = await sign_in(client, client_of(mechanism, login, password))
            told.add(str(reply))
            await client.ask(MAIL, 530)
    assert told == {"535 5.7.8 Authentication credentials invalid"}


async def test_acting_for_another_is_refused_and_for_oneself_is_not(doors: Doors) -> None:
    await doors.person(BOB)
    async with doors.open() as client:
        assert (await client.ask(f"AUTH PLAIN {plain(acting=BOB)}")).code == 535
        assert (await client.ask(f"AUTH PLAIN {plain(acting=ANN)}")).code == 235


async def test_a_frozen_account_does_not_sign_in(doors: Doors) -> None:
    await doors.set_state(ANN, "frozen")
    async with doors.open() as client:
        assert (await client.ask(f"AUTH PLAIN {plain()}")).code == 535


async def test_the_channel_of_another_server_is_not_bound(doors: Doors) -> None:
    """Somebody in between has another certificate. RFC 5802 §6."""
    async with doors.open() as client:
        bound = client_of("SCRAM-SHA-256-PLUS", channel=client.tls)
        other = client_of("SCRAM-SHA-256-PLUS", channel=client.tls)
        other._bound = other._bound[:-32] + bytes(32)  # type: ignore[attr-defined]  # a forged channel
        assert (await sign_in(client, other)).code == 535
        assert (await sign_in(client, bound)).code == 235


# --- when it may be tried -----------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS[:3])
async def test_before_tls_no_mechanism_is_taken(doors: Doors, mechanism: str) -> None:
    async with doors.open(tls=False) as client:
        assert said(await client.ask(f"AUTH {mechanism}")) == (538, "5.7.11")
        assert said(await client.ask(f"AUTH PLAIN {plain()}")) == (538, "5.7.11")
        assert said(await client.ask(MAIL)) == (530, "5.7.0")
        await client.starttls(trusting_context())
        await client.ask("EHLO laptop.example", 250)
        assert (await client.ask(f"AUTH PLAIN {plain()}")).code == 235


async def test_an_unknown_mechanism_is_504_before_and_after_tls(doors: Doors) -> None:
    for tls in (False, True):
        async with doors.open(tls=tls) as client:
            for name in ("CRAM-MD5", "GSSAPI", "X"):
                assert said(await client.ask(f"AUTH {name}")) == (504, "5.5.4")


async def test_once_signed_in_is_enough(doors: Doors) -> None:
    async with doors.signed_in() as client:
        for line in (f"AUTH PLAIN {plain()}", "AUTH PLAIN", "AUTH FROB", "AUTH"):
            assert said(await client.ask(line)) == (503, "5.5.1")
        await client.ask("EHLO again.example", 250)
        await client.ask(f"AUTH PLAIN {plain()}", 503)
        await client.ask(MAIL, 250)  # a greeting forgets no sign-in: RFC 4954 §4


async def test_not_within_a_message(doors: Doors) -> None:
    async with doors.signed_in() as client:
        await client.ask(MAIL, 250)
        await client.ask("AUTH PLAIN", 503)
        await client.ask(f"RCPT TO:<{ANN}>", 250)
        await client.ask("AUTH PLAIN", 503)


# --- when it fails ------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS[:3])
async def test_a_star_cancels_and_the_session_goes_on(doors: Doors, mechanism: str) -> None:
    async with doors.open() as client:
        await client.ask(f"AUTH {mechanism}", 334)
        assert said(await client.ask("*")) == (501, "5.0.0")
        await client.ask("NOOP", 250)
        await client.ask("AUTH LOGIN", 334)
        await client.ask(coded(ANN), 334)
        assert (await client.ask("*")).code == 501
        assert (await client.ask(f"AUTH PLAIN {plain()}")).code == 235


@pytest.mark.parametrize("line", ["?", "AGFu=", "AGFu bgBz", "=", "AGF\tu", "**", "\u00e9"])
async def test_what_is_no_base64_is_501_and_ends_the_exchange(doors: Doors, line: str) -> None:
    async with doors.open() as client:
        await client.ask("AUTH PLAIN", 334)
        reply = await client.ask(line)
        assert reply.code in (500, 501) and reply.status == Status(5, 5, 2), reply
        await client.ask("NOOP", 250)
        if line not in ("=", "*"):
            reply = await client.ask(f"AUTH PLAIN {line}")
            assert reply.code in (500, 501), reply
        await client.ask("NOOP", 250)


@pytest.mark.parametrize(
    "message", ["", "a", "\0\0", "\0ann", "ann\0secret", "\0ann\0a\0b", "\0\0secret", "\0ann\0"]
)
async def test_what_is_no_plain_message_is_refused_and_counts(doors: Doors, message: str) -> None:
    async with doors.open() as client:
        reply = await client.ask(f"AUTH PLAIN {coded(message) or '='}")
        assert said(reply) in ((501, "5.5.2"), (535, "5.7.8"))
        await client.ask(f"AUTH PLAIN {coded('x')}", 501)
        await client.ask(f"AUTH PLAIN {coded('x')}", 421)


@pytest.mark.parametrize("length", [AUTH_LINE_CAP - 1, 20_000, 60_000])
async def test_a_response_too_long_is_500_5_5_6_and_no_command_is_eaten(
    doors: Doors, length: int
) -> None:
    """RFC 4954 §6. The next line is a command again."""
    async with doors.open() as client:
        await client.ask("AUTH LOGIN", 334)
        reply = await client.ask("A" * length)
        assert said(reply) == (500, "5.5.6")
        await client.ask("NOOP", 250)
        await client.ask("HELP", 214)
        assert (await client.ask(f"AUTH PLAIN {plain()}")).code == 235


async def test_the_longest_response_is_read(doors: Doors) -> None:
    async with doors.open() as client:
        await client.ask("AUTH PLAIN", 334)
        long = coded(f"\0ann\0{'x' * (AUTH_LINE_CAP * 3 // 4 - 10)}")
        assert AUTH_LINE_CAP - 8 < len(long) <= AUTH_LINE_CAP - 2
        assert (await client.ask(long)).code == 535


async def test_three_failures_end_the_connection(doors: Doors) -> None:
    async with doors.open() as client:
        codes = [(await client.ask(f"AUTH PLAIN {plain(password='no')}")).code for _ in range(2)]
        await client.send(f"AUTH PLAIN {plain(password='no')}\r\n{MAIL}\r\n".encode())
        rest = await client.rest()
    assert codes == [535, 535]
    assert [said(reply) for reply in rest] == [(421, "4.7.0")]
    assert signin.FAILURES == 3


async def test_failures_are_forgiven_by_neither_greeting_nor_reset(doors: Doors) -> None:
    async with doors.open() as client:
        for line in ("EHLO again.example", "RSET"):
            assert (await client.ask(f"AUTH PLAIN {plain(password='no')}")).code == 535
            await client.ask(line, 250)
        assert (await client.ask(f"AUTH PLAIN {plain(password='no')}")).code == 421


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_asking_and_cancelling_for_ever_ends_the_session(
    doors: Doors, mechanism: str
) -> None:
    async with doors.open() as client:
        await client.send(f"AUTH {mechanism}\r\n*\r\n".encode() * (IDLE_COMMANDS + 5))
        replies = await client.rest()
    assert replies[-1].code == 421
    assert len(replies) <= 2 * IDLE_COMMANDS + 3


async def test_overlong_responses_are_bad_commands(doors: Doors) -> None:
    async with doors.open() as client:
        line = b"A" * (AUTH_LINE_CAP + 1)
        await client.send((b"AUTH PLAIN\r\n" + line + b"\r\n") * BAD_COMMANDS)
        replies = await client.rest()
    assert replies[-1].code == 421


@pytest.mark.parametrize("mechanism", MECHANISMS[:3])
async def test_what_cannot_be_judged_now_is_454_and_no_failure(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    def broken(*asked: object) -> None:
        raise StoreFailed(detail="no disk")

    async with doors.open() as client:
        monkeypatch.setattr(doors.authenticator, "_look", broken)
        for _ in range(signin.FAILURES + 1):
            reply = await sign_in(client, client_of(mechanism))
            assert said(reply) == (454, "4.7.0")
        monkeypatch.undo()
        assert (await sign_in(client, client_of(mechanism))).code == 235


async def test_a_client_that_leaves_within_the_exchange_is_told_to_the_log_of_sign_ins(
    doors: Doors,
) -> None:
    told: list[str] = []
    doors.authenticator.after.append(lambda attempt, outcome: told.append(str(outcome.reason)))
    async with doors.open() as client:
        scram = client_of("SCRAM-SHA-256")
        await client.ask(f"AUTH SCRAM-SHA-256 {coded(scram.start() or b'')}", 334)
        client.reset()
        await doors.mx.settled(lambda: told == ["abandoned"])
    await doors.mx.settled(lambda: not doors.submission.connections)


# --- afterwards ---------------------------------------------------------------------------------


async def test_a_session_is_a_stranger_until_it_signs_in(doors: Doors) -> None:
    doors.strangers.cap = 2
    async with doors.open() as first, doors.open():
        with pytest.raises(smtplib.SMTPServerDisconnected):  # there is no room for a third
            await asyncio.to_thread(_smtplib, doors.port)
        assert (await first.ask(f"AUTH PLAIN {plain()}")).code == 235
        async with doors.open() as third:
            await third.ask("NOOP", 250)


async def test_signing_in_is_told_to_the_connection_once(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    real = Connection.signed_in

    def signed_in(connection: Connection) -> None:
        told.append(connection)
        real(connection)

    monkeypatch.setattr(Connection, "signed_in", signed_in)
    async with doors.signed_in() as client:
        assert len(told) == 1
        for _ in range(3):
            await client.ask("NOOP", 250)
        await client.ask("EHLO again.example", 250)
        assert len(told) == 1


async def _new_password(doors: Doors) -> None:
    await doors.set_password(doors.ann, "another password entirely")


async def _freeze(doors: Doors) -> None:
    await doors.set_state(ANN, "frozen")


async def _disable(doors: Doors) -> None:
    await doors.set_state(ANN, "disabled")


@pytest.mark.parametrize("happens", [_new_password, _freeze, _disable])
async def test_who_is_welcome_no_more_is_let_go_at_the_next_mail(
    doors: Doors, happens: Callable[[Doors], object]
) -> None:
    await doors.mx.account(BOB)
    content = b"From: <ann@example.test>\r\n\r\nHello\r\n"
    async with doors.signed_in() as client, doors.signed_in() as within:
        assert (await client.deliver(ANN, [BOB], content)).accepted
        await within.ask(MAIL, 250)
        await within.ask(f"RCPT TO:<{BOB}>", 250)
        await within.ask("DATA", 354)
        done = happens(doors)
        assert asyncio.iscoroutine(done)
        await done
        # What was begun may end, unless the account is as if it had never been: then whose
        # From is it?
        expected = 550 if happens is _disable else 250
        assert (await within.content(content)).code == expected
        await client.send(f"{MAIL}\r\nNOOP\r\n".encode())
        assert [said(reply) for reply in await client.rest()] == [(421, "4.7.0")]


async def test_an_account_that_is_gone_is_welcome_no_more(
    doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*asked: object) -> None:
        raise NotFound

    async with doors.signed_in() as client:
        monkeypatch.setattr(people, "epoch", gone)
        assert said(await client.ask(MAIL)) == (421, "4.7.0")


async def test_a_before_hook_may_refuse_and_its_words_reach_the_peer(doors: Doors) -> None:
    class Closed(MailError):
        status = Status(5, 7, 13)  # RFC 5248 §2.4: user account disabled
        sentence = "Not at this time of day"

    async def before(attempt: object) -> None:
        raise Closed

    doors.authenticator.before.append(before)
    async with doors.open() as client:
        reply = await client.ask(f"AUTH PLAIN {plain()}")
        assert (reply.code, str(reply.status), reply.text) == (550, "5.7.13", Closed.sentence)


# --- the clients of others ----------------------------------------------------------------------


def _message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = ANN, BOB, "From the library"
    made["Bcc"] = "boss@far.example"
    made.set_content("Good morning.\n.\nWith dots.\n")
    return made


@pytest.mark.parametrize("how", ["starttls", "implicit"])
async def test_smtplib_signs_in_and_sends(doors: Doors, how: str) -> None:
    bob = await doors.mx.account(BOB)

    def send() -> None:
        if how == "implicit":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                HOST, doors.tls_port, "laptop.example", context=trusting_context(), timeout=10
            )
        else:
            client = _smtplib(doors.port)
            client.starttls(context=trusting_context())
        with client:
            client.login(ANN, PASSWORD)
            assert client.send_message(_message()) == {}
            with pytest.raises(smtplib.SMTPSenderRefused):
                client.sendmail(BOB, [BOB], b"From: <bob@example.test>\r\n\r\n")

    await asyncio.to_thread(send)
    (stored,) = await doors.mx.content(bob)
    assert b"\r\nSubject: From the library\r\n" in stored
    assert b"\r\nGood morning.\r\n.\r\nWith dots.\r\n" in stored
    assert b"bcc" not in stored.lower() and b"boss" not in stored


@pytest.mark.skipif(not is_installed("swaks"), reason="needs swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", ["--tls", "--tls-on-connect"])
async def test_swaks_signs_in_and_sends(doors: Doors, mechanism: str, tls: str) -> None:
    bob = await doors.mx.account(BOB)
    port = doors.port if tls == "--tls" else doors.tls_port
    words = [
        *("swaks", "--server", f"127.0.0.1:{port}", tls, "--helo", "laptop.example"),
        *("--auth", mechanism, "--auth-user", ANN, "--auth-password", PASSWORD),
        *("--from", ANN, "--to", BOB, "--header", "Bcc: boss@far.example"),
    ]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=30)
    shown = done.stdout.decode()
    assert done.returncode == 0, shown
    assert "235 2.7.0" in shown and "Message accepted as r" in shown
    (stored,) = await doors.mx.content(bob)
    assert b" with ESMTPSA" in stored and b"boss" not in stored


@pytest.mark.skipif(not is_installed("swaks"), reason="needs swaks")
async def test_swaks_with_a_wrong_password_is_refused(doors: Doors) -> None:
    words = [
        *("swaks", "--server", f"127.0.0.1:{doors.port}", "--tls", "--auth", "PLAIN,LOGIN"),
        *("--auth-user", ANN, "--auth-password", "wrong", "--from", ANN, "--to", BOB),
    ]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=30)
    assert done.returncode == 28  # swaks(1): authentication failed
    assert b"535 5.7.8" in done.stdout


# --- port 25 ------------------------------------------------------------------------------------


async def test_on_port_25_nobody_signs_in_whatever_tls(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.starttls(trusting_context())
        await client.ask("EHLO laptop.example", 250)
        assert said(await client.ask(f"AUTH PLAIN {plain()}")) == (500, "5.5.1")
        await client.ask(f"MAIL FROM:<{ANN}>", 530)
