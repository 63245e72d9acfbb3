"""Attack class 6: MIME bombs over SMTP are delivered as they are, in time bounded by their size."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
ANN = "ann@elsewhere.example"

SECONDS_A_MEGABYTE = 4.0
"""Generous on a shared machine; a quadratic step over these takes minutes."""


def _deep(depth: int) -> bytes:
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
        for n in range(depth)
    )
    return b"MIME-Version: 1.0\r\n" + head + b"\r\nx\r\n"


def _wide(parts: int) -> bytes:
    return (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\n\r\nx\r\n" * parts
        + b"--b--\r\n"
    )


def _messages(depth: int) -> bytes:
    return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"Subject: x\r\n\r\nx\r\n"


def _parameters(count: int) -> bytes:
    flood = b";\r\n ".join(b"a*%d*=utf-8''%%41" % n for n in range(count))
    return b"Content-Type: text/plain;\r\n " + flood + b"\r\n\r\nx\r\n"


BOMBS: dict[str, Callable[[], bytes]] = {
    "depth": lambda: _deep(10_000),
    "messages in messages": lambda: _messages(20_000),
    "parts": lambda: _wide(80_000),
    "parameters": lambda: _parameters(40_000),
    "header fields": lambda: b"X: y\r\n" * 150_000 + b"\r\nx\r\n",
    "one header field": lambda: b"Subject: " + b"x\r\n " * 200_000 + b"\r\n\r\nx\r\n",
    "recipients": lambda: b"To: " + b"a@b.example,\r\n " * 60_000 + b"c\r\n\r\nx\r\n",
    "comments": lambda: b"To: " + b"(" * 400_000 + b"\r\n\r\nx\r\n",
    "encoded words": lambda: b"Subject: " + b"=?utf-8?q?a?=\r\n " * 40_000 + b"\r\n\r\nx\r\n",
    "references": lambda: b"References: " + b"<a@b>\r\n " * 80_000 + b"\r\n\r\nx\r\n",
    "same boundary": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 10_000
    ),
    "boundaries like prefixes": lambda: (
        b"Content-Type: multipart/mixed; boundary=" + b"b" * 60 + b"\r\n\r\n"
        + (b"--" + b"b" * 59 + b"\r\n") * 12_000
    ),
    "base64 without end": lambda: (
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + (b"PGRpdj4" * 10 + b"\r\n") * 12_000
    ),
    "no line ends": lambda: b"Subject: x\r\n\r\n" + b"x" * 900_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
async def test_attack_06_a_bomb_is_delivered_opaque_within_its_time(mx: Mx, name: str) -> None:
    bob = await mx.account(BOB)
    bomb = BOMBS[name]()
    async with mx.connect() as client, mx.connect() as other:
        begun = time.monotonic()
        done = await client.deliver(ANN, [BOB], bomb)
        took = time.monotonic() - begun
        assert done.accepted
        assert took < SECONDS_A_MEGABYTE * max(0.3, len(bomb) / 1e6)
        assert (await other.deliver(ANN, [BOB], message())).accepted
    kept = (await mx.content(bob))[0]
    assert kept.endswith(bomb) or kept.endswith(bomb + b"\r\n")


@pytest.mark.parametrize("name", ["depth", "parts", "messages in messages"])
async def test_attack_06_the_trace_names_the_cap_that_was_passed(mx: Mx, name: str) -> None:
    await mx.account(BOB)
    async with mx.connect() as client:
        assert (await client.deliver(ANN, [BOB], BOMBS[name]())).accepted
    (record,) = await mx.traces()
    assert record["facts"]["content"]["complex"]
