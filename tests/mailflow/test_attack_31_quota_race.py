"""Attack class 31: messages that race into an account with less room than they need."""

from __future__ import annotations

import asyncio

import pytest

from postroom.core.settings import Place, Scope
from tests.mailflow.serving import DOMAIN, Mx, message

BOB = f"bob@{DOMAIN}"
EVE = f"eve@{DOMAIN}"
ANN = "ann@elsewhere.example"
BIG = message(message_id="<big@x.example>") + b"y" * 4_000 + b"\r\n"


def own(account: int) -> Place:
    return Place(Scope.ACCOUNT, str(account))


@pytest.mark.parametrize("alone", [True, False])
async def test_attack_31_two_messages_at_once_into_room_for_one_place_exactly_one(
    mx_both: Mx, alone: bool
) -> None:
    """RCPT found room for both. With another recipient the loser waits; alone it is refused."""
    mx = mx_both
    bob = await mx.account(BOB)
    await mx.account(EVE)
    await mx.set("quota.octets", len(BIG) + 1_000, own(bob))
    to = [BOB] if alone else [BOB, EVE]

    ready = asyncio.Barrier(2)

    async def racer() -> int:
        async with mx.connect() as client:
            await client.ask(f"MAIL FROM:<{ANN}>", 250)
            for each in to:
                await client.ask(f"RCPT TO:<{each}>", 250)
            await client.ask("DATA", 354)
            await ready.wait()
            return (await client.content(BIG)).code

    codes = sorted(await asyncio.gather(racer(), racer()))
    assert codes == ([250, 452] if alone else [250, 250])
    assert await mx.count(bob) == 1
    octets, messages = await mx.usage(bob)
    assert messages == 1 and octets <= len(BIG) + 1_000
    assert len(await mx.waiting()) == int(not alone)


async def test_attack_31_many_at_once_never_go_beyond_the_quota(mx_both: Mx) -> None:
    mx = mx_both
    bob = await mx.account(BOB)
    await mx.set("quota.messages", 7, own(bob))

    async def one(n: int) -> int:
        async with mx.connect() as client:
            done = await client.deliver(ANN, [BOB], message(message_id=f"<{n}@x.example>"))
            return done.last.code

    codes = await asyncio.gather(*(one(n) for n in range(20)))
    assert sorted(codes) == [250] * 7 + [452] * 13
    assert await mx.count(bob) == 7
