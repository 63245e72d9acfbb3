"""A letter to an alias that leads to a third server: who vouches for it there?

Ann's domain wants rejected what it does not vouch for, and it vouches by SPF alone, which no
forwarder can pass. B seals what it sends on; whether that helps is for C to decide.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from postroom.core.secrets import Keyring
from postroom.domain import feedback, signing
from postroom.domain.feedback import Seen
from postroom.domain.signing import ACTIVE, PUBLISHED
from postroom.formats import headers
from postroom.formats.authres import parse
from postroom.mailflow import signingkeys
from postroom.net.dns import Resolver, Server
from postroom.store.sql import Tx
from postroom.testing.house import House
from postroom.testing.internet import SETTLES
from postroom.testing.plays import Play
from postroom.trust.checks import Checks


@dataclass
class Three:
    """The author's house, the forwarder's, and that of who reads it."""

    play: Play
    a: House
    b: House
    c: House

    async def told(self) -> Seen:
        """The only thing that C will report to A."""
        self.c.intake.feedback.flush()
        today = feedback.day_of(self.play.town.clock.now())
        async with asyncio.timeout(SETTLES):
            while True:  # what is noted is written soon, and nobody waits for it
                found = await self.c.flow.state.read(feedback.tallies, "a.test", today, 10)
                if found:
                    ((seen, _),) = found
                    return seen
                await asyncio.sleep(0.01)


@asynccontextmanager
async def three(play: Play) -> AsyncIterator[Three]:
    town = play.town
    made = [await town.house(f"{each}.test", "ann", "cleo") for each in "abc"]
    async with AsyncExitStack() as stack:
        for house in made:
            server = Server(ip_address(town.dns.ip), town.dns.port)
            resolver = Resolver(town.clock, servers=[server])
            stack.push_async_callback(resolver.close)
            house.flow.checks = Checks(resolver, town.clock)
        # All servers have the same address here: it is their names that Ann's domain knows.
        town.zones.text("a.test", "v=spf1 exists:%{h}.may.a.test -all")
        town.zones.host("mail.a.test.may.a.test", "127.0.0.2")
        town.zones.text("_dmarc.a.test", "v=DMARC1; p=reject; rua=mailto:dmarc@a.test")
        await _seals(made[1], "b.test", play)
        await made[1].alias("team@b.test", "cleo@c.test")
        yield Three(play, *made)


async def _seals(house: House, domain: str, play: Play) -> None:
    flow = house.flow
    os.makedirs(flow.blobs.folder, exist_ok=True)
    flow.secrets = Keyring(f"{flow.blobs.folder}.keys")
    flow.secrets.make()
    key = await signingkeys.make(flow, domain, "rsa", "one")
    play.town.zones.text(f"one._domainkey.{domain}", key.record)

    def unit(tx: Tx) -> None:
        now = flow.clock.now()
        signing.move(tx, signing.move(tx, key, PUBLISHED, now), ACTIVE, now)

    await flow.mail.write(unit)


def results(message: bytes) -> dict[str, str]:
    """What the house that took it found, by method."""
    found = parse(headers.scan(message).all(b"authentication-results")[0])
    assert found is not None
    return {each.method: each.result for each in found.results}


async def test_who_trusts_the_forwarder_gets_the_letter(on_both: Play) -> None:
    async with three(on_both) as town:
        await town.c.set("arc.trusted", ("b.test",))
        letter = await on_both.submits("ann@a.test", to="team@b.test")
        message = await on_both.receives("cleo@c.test", letter)
        found = results(message)
        assert (found["dmarc"], found["arc"]) == ("fail", "pass")
        assert b"ARC-Authentication-Results: i=1; mail.b.test;" in message
        seen = await town.told()
        assert (seen.disposition, seen.override) == ("none", "local_policy")
        assert seen.comment == "arc=pass as[1].d=b.test as[1].s=one"


async def test_who_does_not_trust_it_refuses_the_letter(play: Play) -> None:
    async with three(play) as town:
        await play.submits("ann@a.test", to="team@b.test")
        await play.receives_nothing("cleo@c.test")
        await play.receives_report("ann@a.test", of="5.7.1", about="cleo@c.test")
        seen = await town.told()
        assert (seen.disposition, seen.override) == ("reject", "")


async def test_without_a_seal_trust_helps_nobody(play: Play) -> None:
    async with three(play) as town:
        await town.c.set("arc.trusted", ("b.test",))
        await town.b.set("arc.seal", False)
        await play.submits("ann@a.test", to="team@b.test")
        await play.receives_nothing("cleo@c.test")
        await play.receives_report("ann@a.test", of="5.7.1", about="cleo@c.test")
