"""The records of a domain and their check, as an administrator has them in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from postroom.admin import render
from postroom.admin.house import Caller, ServerView
from postroom.core.errors import Misuse, NotAllowed, NotFound, Unreachable
from postroom.core.settings import Role
from postroom.net.egress import Egress
from postroom.net.fetch import Fetcher
from postroom.net.wheel import TimerWheel
from postroom.testing.dns import Zones
from tests.admin.housing import Admin
from tests.admin.resolving import dialer_of

DOMAIN = "example.org"
LISTENS = ("smtp 0.0.0.0 25", "submissions 0.0.0.0 465", "imaps :: 993", "lmtp run/lmtp.sock")


def running(admin: Admin) -> Admin:
    house = replace(
        admin.house,
        server=lambda: ServerView("running", (), LISTENS),
        tls_keys=lambda host: (b"\x07" * 32,),
    )
    return Admin(house, admin.stores, admin.clock)


async def named(admin: Admin) -> None:
    await admin.do("settings set", name="server.hostname", value="mail.example.org")
    await admin.do("settings set", name="dns.addresses", value="192.0.2.1")


@asynccontextmanager
async def asking(admin: Admin, zones: Zones) -> AsyncIterator[Admin]:
    """A house whose running server asks the DNS of these zones."""
    async with dialer_of(zones, admin.clock) as dialer:
        told = running(admin)
        yield Admin(replace(told.house, dialer=dialer), told.stores, told.clock)


async def test_records_are_those_of_what_the_running_server_offers(admin: Admin) -> None:
    await named(admin)
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    found = await running(admin).json("dns records", domain=DOMAIN, format="table")
    assert [(each.name, each.type) for each in found.records] == [
        (DOMAIN, "MX"),
        (DOMAIN, "TXT"),
        ("s._domainkey.example.org", "TXT"),
        ("_dmarc.example.org", "TXT"),
        ("_submissions._tcp.example.org", "SRV"),
        ("_imaps._tcp.example.org", "SRV"),
        ("mail.example.org", "A"),
        ("1.2.0.192.in-addr.arpa", "PTR"),
        ("mail.example.org", "TXT"),
        ("_25._tcp.mail.example.org", "TLSA"),
    ]
    assert found.notes == () and found.text == ""
    assert "NEED" in render.text(found)


async def test_a_stopped_server_says_what_it_does_not_know(admin: Admin) -> None:
    found = await admin.do("dns records", domain=DOMAIN)
    assert render.text(found).startswith("; The server is not running")
    assert "example.org. 3600 IN MX 10 mail." in found.text


async def test_updates_replace_nothing(admin: Admin) -> None:
    found = await running(admin).do("dns records", domain=DOMAIN, format="nsupdate")
    assert "prereq nxrrset example.org. IN MX" in found.text and "delete" not in found.text


async def test_reports_go_where_the_domain_says(admin: Admin) -> None:
    await admin.do(
        "settings set", name="dns.dmarc_reports", value="d@example.org", at="domain:example.org"
    )
    found = await admin.do("dns records", domain=DOMAIN)
    assert "rua=mailto:d@example.org" in found.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dns.addresses", "192.0.2.1, host"),
        ("dns.dmarc_reports", "a;b@example.org"),
        ("dns.tls_reports", '"a b"@example.org'),
        ("dns.authority", "a b"),
        ("dns.logo", "http://example.org/a.svg"),
        ("dns.logo", 'https://example.org/";x'),
    ],
)
async def test_what_no_record_can_hold_is_refused(admin: Admin, name: str, value: str) -> None:
    with pytest.raises(Misuse):
        await admin.do("settings set", name=name, value=value)


async def test_the_check_tells_of_each_cause_once_and_fails_for_errors(admin: Admin) -> None:
    await named(admin)
    zones = Zones()
    zones.zone(DOMAIN)
    zones.host("mail.example.org", "192.0.2.1")
    zones.text("mail.example.org", "v=spf1 a -all")
    zones.add(DOMAIN, "MX", "10 mail.example.org")
    zones.text("_dmarc.example.org", "v=DMARC1; p=reject")
    await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    async with asking(admin, zones) as there:
        report = await there.json("dns check", domains=[DOMAIN], dns_only=True)
        assert report.looked_at == ("mail.example.org", DOMAIN)
        assert [each.code for each in report.findings] == [
            "spf-missing",
            "dkim-missing",
            "srv-missing",
        ]
        assert report.problems == (
            "example.org has no SPF record, so others cannot tell who may send as the domain.",
        )
        said = report.told()
        assert said.splitlines()[1].startswith("ERROR: example.org has no SPF record, so ")
        assert said.endswith("1 error, 2 pieces of advice.")


async def test_dns_that_is_in_order_is_all_well(admin: Admin) -> None:
    await named(admin)
    (key,) = await admin.do("dkim key create", domain=DOMAIN, kind="ed25519", selector="s")
    zones = Zones()
    async with asking(admin, zones) as there:
        found = await there.do("dns records", domain=DOMAIN)
        zones.load(found.text, ".")
        zones.zone(DOMAIN)
        assert key.zone.split('"')[1] in found.text
        report = await there.do("dns check", dns_only=True)
    assert report.findings == () and report.told().endswith("All is well.")


async def test_exchangers_are_called_unless_dns_alone_is_wanted(admin: Admin) -> None:
    await named(admin)
    nowhere = "240.0.0.1"  # no mail is sent there, so nobody is called
    await admin.do("settings set", name="dns.addresses", value=nowhere)
    zones = Zones()
    async with asking(admin, zones) as there:
        zones.load((await there.do("dns records", domain=DOMAIN)).text, ".")
        zones.zone(DOMAIN)
        called = await there.do("dns check")
        alone = await there.do("dns check", dns_only=True)
    (found,) = [each for each in called.findings if each not in alone.findings]
    assert (found.code, found.name) == ("mx-unreachable", "mail.example.org")
    assert f"{nowhere} is an address to which no mail is sent from here" in found.sentence


async def test_what_cannot_be_is_refused(admin: Admin) -> None:
    with pytest.raises(NotFound):
        await admin.do("dns records", domain="nowhere.example")
    with pytest.raises(NotFound):
        await admin.do("dns check", domains=["nowhere.example"])
    with pytest.raises(Unreachable):
        await admin.do("dns check")
    with pytest.raises(Misuse, match="zone, nsupdate, table"):
        await admin.do("dns records", domain=DOMAIN, format="yaml")


async def test_a_domains_administrator_looks_at_his_own_alone(admin: Admin) -> None:
    theirs = admin.by(Caller(1, Role.DOMAIN_ADMIN, "example.net"))
    for domains in ([], [DOMAIN], ["example.net", DOMAIN]):
        with pytest.raises(NotAllowed):
            await theirs.do("dns check", domains=domains)
    with pytest.raises(NotAllowed):
        await theirs.do("dns records", domain=DOMAIN)


async def test_the_policy_that_a_record_announces_is_looked_at(admin: Admin) -> None:
    await named(admin)
    zones = Zones()
    zones.zone(DOMAIN)
    zones.text("_mta-sts.example.org", "v=STSv1; id=1")
    zones.host("mta-sts.example.org", "127.0.0.1")
    async with asking(admin, zones) as there:
        report = await there.do("dns check", domains=[DOMAIN])
        assert "sts-private" not in [each.code for each in report.findings]  # nothing to fetch with
        dialer = there.house.dialer
        assert dialer is not None
        wheel = TimerWheel(asyncio.get_running_loop())
        fetcher = Fetcher(dialer.finder.resolver, Egress(), wheel)
        fetching = Admin(replace(there.house, fetcher=fetcher), there.stores, there.clock)
        report = await fetching.do("dns check", domains=[DOMAIN])
        wheel.close()
    found = next(each for each in report.findings if each.code == "sts-private")
    assert (found.severity, found.name) == ("warning", "mta-sts.example.org")
    assert found.sentence in report.told() and found.sentence not in report.problems
