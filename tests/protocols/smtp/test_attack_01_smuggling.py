"""Attack class 1, inbound: only CRLF.CRLF ends DATA. RFC 5321 §2.3.8, §4.1.1.4."""

from __future__ import annotations

import pytest

from postroom.core.errors import Status
from postroom.testing.smtp import SmtpClient
from tests.mailflow.serving import Mx, message
from tests.protocols.smtp.variants import VARIANTS, is_strict

BOB = "bob@example.test"
ANN = "ann@elsewhere.example"

SECOND = (
    b"MAIL FROM:<evil@elsewhere.example>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
    b"Subject: smuggled\r\n\r\nsmuggled\r\n"
)


async def _begin(client: SmtpClient) -> None:
    await client.send(f"MAIL FROM:<{ANN}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n".encode())
    assert [reply.code for reply in await client.replies(3)] == [250, 250, 354]


@pytest.mark.parametrize("pieces", ["whole", "octets"])
async def test_attack_01_no_other_end_of_data_ends_it_and_nothing_is_smuggled(
    mx: Mx, pieces: str
) -> None:
    """Every variant: one reply for all, 554 at the true end, nothing kept, still in step."""
    bob = await mx.account(BOB)
    accepted = 0
    for variant in VARIANTS:
        async with mx.connect() as client:
            await _begin(client)
            text = b"Subject: outer\r\n\r\nouter" + variant + SECOND + b"\r\n.\r\n"
            if pieces == "whole":
                await client.send(text)
            else:
                await client.drip(text)
            reply = await client.reply()
            if is_strict(variant):
                assert reply.code == 250, (variant, str(reply))
                accepted += 1
            else:
                assert (reply.code, reply.status) == (554, Status(5, 6, 0)), (variant, str(reply))
            await client.ask("NOOP", 250)  # one reply and no more: the dots ended nothing else
            assert await mx.count(bob) == accepted, variant
            assert (await client.deliver(ANN, [BOB], message())).accepted
            accepted += 1
    assert len(VARIANTS) > 40
    assert not mx.files()


async def test_attack_01_a_refused_message_is_explained(mx: Mx) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        await _begin(client)
        await client.send(message() + b"one\n.\ntwo\r\n.\r\n")
        record = await mx.refusal(await client.reply())
    assert record["outcome"] == "refuse"
    assert record["verdicts"][-1]["rule"] == "line_ends"
    assert "bare LF" in record["verdicts"][-1]["why"]
    assert record["facts"]["content"]["bare_lf"] is True
    assert record["message_id"] == "<1@elsewhere.example>"


@pytest.mark.parametrize("where", ["head", "body", "end"])
@pytest.mark.parametrize("octets", [b"\r", b"\n", b"\0", b"\r\r\n"])
async def test_attack_01_a_bare_line_end_or_nul_anywhere_refuses_the_whole(
    mx: Mx, where: str, octets: bytes
) -> None:
    bob = await mx.account(BOB)
    head, body = b"Subject: x\r\nX-Y: a", b"text"
    text = {
        "head": head + octets + b"b\r\n\r\n" + body + b"\r\n",
        "body": head + b"\r\n\r\n" + body + octets + b"b\r\n",
        "end": head + b"\r\n\r\n" + body + octets + b"\r\n",
    }[where]
    async with mx.connect() as client:
        await _begin(client)
        await client.send(text + b".\r\n")
        reply = await client.reply()
        assert (reply.code, reply.status) == (554, Status(5, 6, 0))
        await client.ask("NOOP", 250)
    assert await mx.count(bob) == 0


async def test_attack_01_a_large_message_with_one_bare_lf_leaves_nothing_on_disk(mx: Mx) -> None:
    bob = await mx.account(BOB)
    async with mx.connect() as client:
        await _begin(client)
        await client.send(b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n")
        await client.send((b"y" * 70 + b"\r\n") * 8_000)
        await mx.settled(lambda: len(mx.files()) == 1)
        await client.send(b"\n.\r\n.\r\n")
        assert (await client.reply()).code == 554
        await client.ask("NOOP", 250)
        assert not mx.files()
    assert await mx.count(bob) == 0
