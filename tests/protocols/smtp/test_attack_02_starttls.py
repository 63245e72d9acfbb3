"""Attack class 2: what is said before TLS never counts after it. RFC 3207 §4.2, §6."""

from __future__ import annotations

import pytest

from postroom.core.errors import TlsFailed
from postroom.testing.smtp import ServerClosed, SmtpClient, trusting_context
from tests.mailflow.serving import Mx, message

BOB = "bob@example.test"
ANN = "ann@elsewhere.example"

INJECTED = [
    b"NOOP\r\n",
    b"EHLO evil.example\r\n",
    b"EHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
    b"Subject: injected\r\n\r\n.\r\n",
    b"RSET\r\nMAIL FROM:<evil@evil.example>\r\n",
    b"STARTTLS\r\n",
    b"Q",
    b"\r\n",
    b"\x16",  # the first octet of a ClientHello, too early
    b"x" * 5_000,
]


@pytest.mark.parametrize("injected", INJECTED)
async def test_attack_02_what_follows_starttls_in_its_packet_is_never_executed(
    mx: Mx, injected: bytes
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await client.send(b"STARTTLS\r\n" + injected)
        replies = await client.rest()
    assert [reply.code for reply in replies] == [501]  # no 220, nothing executed, closed
    assert await mx.count(bob) == 0
    await mx.settled(lambda: not mx.acceptor.connections)


@pytest.mark.parametrize("injected", [i for i in INJECTED if i != b"\x16"])
async def test_attack_02_plaintext_after_the_220_fails_the_handshake(
    mx: Mx, injected: bytes
) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await client.ask("STARTTLS", 220)
        await client.send(injected)
        with pytest.raises((TlsFailed, ServerClosed, ConnectionError)):
            await client.handshake(trusting_context())
    assert await mx.count(bob) == 0
    await mx.settled(lambda: not mx.acceptor.connections)


async def test_attack_02_what_comes_inside_tls_behind_the_handshake_is_answered_once(
    mx: Mx,
) -> None:
    async with mx.connect() as client:
        await client.starttls(trusting_context())
        await client.send(b"EHLO after.example\r\nNOOP\r\n")
        assert [reply.code for reply in await client.replies(2)] == [250, 250]
        assert await client.silent(0.05)


async def _said_before(client: SmtpClient) -> None:
    await client.ask(f"MAIL FROM:<{ANN}>", 250)
    await client.ask(f"RCPT TO:<{BOB}>", 250)


async def test_attack_02_after_tls_the_transaction_and_the_greeting_are_forgotten(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await _said_before(client)
        await client.starttls(trusting_context())
        for line in (f"MAIL FROM:<{ANN}>", f"RCPT TO:<{BOB}>", "DATA"):
            await client.ask(line, 503)
        await client.ask("EHLO after.example", 250)
        await client.ask("DATA", 503)
        assert (await client.deliver(ANN, [BOB], message())).accepted


async def test_attack_02_the_name_said_before_tls_is_not_in_received(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect(hello="EHLO before.example") as client:
        await client.starttls(trusting_context())
        await client.ask("HELO after.example", 250)
        assert (await client.deliver(ANN, [BOB], message())).accepted
    stored = (await mx.content(bob))[0]
    assert b"before.example" not in stored and b"after.example" in stored
    record = await mx.delivered("<1@elsewhere.example>")
    assert record["facts"]["peer"]["encrypted"] is True
    assert record["facts"]["peer"]["extended"] is False


async def test_bad_commands_are_not_forgiven_by_tls(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.send(b"FOO\r\n" * 15)
        await client.replies(15)
        await client.starttls(trusting_context())
        await client.send(b"FOO\r\n" * 20)
        assert [reply.code for reply in await client.rest()] == [500] * 4 + [421]


async def test_tls_cannot_be_begun_twice(mx: Mx) -> None:
    async with mx.connect() as client:
        await client.starttls(trusting_context())
        await client.ask("EHLO x", 250)
        await client.ask("STARTTLS", 503)
        await client.ask("NOOP", 250)


async def test_a_failed_handshake_ends_this_connection_alone(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client, mx.connect() as other:
        await client.ask("STARTTLS", 220)
        await client.send(b"\x16\x03\x01\x00\x05hello")
        await mx.settled(lambda: len(mx.acceptor.connections) == 1)
        assert (await other.deliver(ANN, [BOB], message())).accepted


async def test_a_peer_that_goes_away_in_the_handshake_leaves_nothing(mx: Mx) -> None:
    for _ in range(5):
        async with mx.connect() as client:
            await client.ask("STARTTLS", 220)
            client.reset()
    await mx.settled(lambda: not mx.acceptor.connections)


async def test_every_handshake_is_followed_by_an_answer(mx: Mx) -> None:
    """The first command may arrive in the same read as the end of the handshake."""
    for _ in range(20):
        async with mx.connect() as client:
            await client.starttls(trusting_context())
            await client.ask("EHLO x", 250)
