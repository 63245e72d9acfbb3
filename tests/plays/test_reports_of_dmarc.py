"""A day later the owner of a domain reads who used its name, and nobody reports on reports."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes, policy
from ipaddress import ip_address

from postroom.admin.explain import Now, story
from postroom.core.secrets import Keyring
from postroom.domain import signing
from postroom.domain.feedback import sent
from postroom.domain.signing import ACTIVE, PUBLISHED
from postroom.formats import headers
from postroom.formats.authres import parse
from postroom.mailflow import signingkeys
from postroom.mailflow.dmarc_reports import send_reports
from postroom.net.dns import Resolver, Server
from postroom.store.sql import Tx
from postroom.testing.house import House
from postroom.testing.plays import Play
from postroom.trust.checks import Checks
from postroom.trust.dmarc.reading import Received, read

IN_A_DAY = {"hours": 29}  # from midnight: past the latest start that report_hour=1 leads to


@dataclass
class Neighbours:
    """Two houses that ask for reports and vouch for their mail."""

    play: Play
    a: House
    b: House

    async def report(self, house: House) -> None:
        """The job of that house, as its worker runs it."""
        await self._written(house)
        while await send_reports(house.flow):
            pass
        await self.play.town.settle()

    async def _written(self, house: House) -> None:
        """What was counted is in the store: what is noted is written in the order of its units."""
        house.intake.feedback.flush()
        await house.flow.state.write(lambda tx: None)


@asynccontextmanager
async def neighbours(play: Play) -> AsyncIterator[Neighbours]:
    town = play.town
    a = await town.house("a.test", "ann", "dmarc")
    b = await town.house("b.test", "bob", "dmarc")
    async with AsyncExitStack() as stack:
        for house, domain in ((a, "a.test"), (b, "b.test")):
            resolver = Resolver(
                town.clock, servers=[Server(ip_address(town.dns.ip), town.dns.port)]
            )
            stack.push_async_callback(resolver.close)
            house.flow.checks = Checks(resolver, town.clock)
            town.zones.text(domain, "v=spf1 -all")
            town.zones.text(f"_dmarc.{domain}", f"v=DMARC1; p=none; rua=mailto:dmarc@{domain}")
            await _signs(house, domain, play)
        yield Neighbours(play, a, b)


async def _signs(house: House, domain: str, play: Play) -> None:
    flow = house.flow
    os.makedirs(flow.blobs.folder, exist_ok=True)
    flow.secrets = Keyring(f"{flow.blobs.folder}.keys")
    flow.secrets.make()
    key = await signingkeys.make(flow, domain, "ed25519", "one")
    play.town.zones.text(f"one._domainkey.{domain}", key.record)

    def unit(tx: Tx) -> None:
        now = flow.clock.now()
        signing.move(tx, signing.move(tx, key, PUBLISHED, now), ACTIVE, now)

    await flow.mail.write(unit)


def within(message: bytes) -> Received:
    """The report that a message carries."""
    (part,) = message_from_bytes(message, policy=policy.default).iter_attachments()
    assert part.get_content_type() == "application/gzip"
    packed = part.get_content()
    assert isinstance(packed, bytes)
    return read(packed)


def results(message: bytes) -> dict[str, str]:
    """What the house that took it found, by method."""
    found = parse(headers.scan(message).all(b"authentication-results")[0])
    assert found is not None
    return {each.method: each.result for each in found.results}


async def test_the_owner_of_a_name_reads_who_used_it(on_both: Play) -> None:
    play = on_both
    async with neighbours(play) as town:
        await play.brings("ann@a.test", to="bob@b.test")  # by a stranger: it fails
        await play.submits("ann@a.test", to="bob@b.test")
        await play.town.passes(**IN_A_DAY)
        await town.report(town.b)
        message = await play.receives("dmarc@a.test")
        report = within(message)
        assert {"dkim": "pass", "dmarc": "pass"}.items() <= results(message).items()
        assert (report.organisation, report.published.domain) == ("b.test", "a.test")
        assert sorted((row.dkim, row.spf, row.messages) for row in report.rows) == [
            ("fail", "fail", 1),
            ("pass", "fail", 1),
        ]
        # Its trace says what it was, and where it went.
        (line,) = await town.b.flow.mail.read(sent.latest, "a.test", 10)
        record = await town.b.trace(line.told.trace)
        assert "a report to a domain on mail in its name" in story(record, Now())[0]
        assert line.told.octets < len(message)


async def test_attack_15_two_servers_do_not_report_reports_for_ever(play: Play) -> None:
    async with neighbours(play) as town:
        await play.submits("ann@a.test", to="bob@b.test")
        for day in range(4):
            await play.town.passes(**(IN_A_DAY if not day else {"hours": 24}))
            for house in (town.a, town.b):
                await town.report(house)
        assert len(await town.a.inbox("dmarc@a.test")) == 1
        assert not await town.b.inbox("dmarc@b.test")


async def test_a_report_waits_for_a_server_that_is_down(play: Play) -> None:
    async with neighbours(play) as town:
        far = await play.town.server("c.test")
        play.town.zones.text("_dmarc.c.test", "v=DMARC1; p=reject; rua=mailto:d@c.test")
        await far.goes_down()
        await play.is_refused("x@c.test", to="bob@b.test")
        await play.town.passes(**IN_A_DAY)
        await town.report(town.b)
        assert not far.messages
        await far.comes_back()
        await play.town.passes(hours=5)
        await town.report(town.b)
        assert far.mail_for == ["d@c.test"]
        assert within(far.messages[0].content).rows[0].disposition == "reject"
