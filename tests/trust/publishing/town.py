"""A domain whose DNS is in order, and the means to look at it once something is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address

from postroom.net.dns import Limits, Resolver, Server, reverse_name
from postroom.testing.clock import ManualClock
from postroom.testing.dns import DnsServer, Zones
from postroom.trust.dkim import sign
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import (
    DomainFacts,
    Finding,
    HostFacts,
    KeyFact,
    Service,
    look,
    look_at_host,
    wanted,
    wanted_of_host,
    zone_text,
)
from postroom.trust.publishing.facts import Ip

DOMAIN, HOST = "example.org", "mail.example.org"
V4, V6 = ip_address("192.0.2.1"), ip_address("2001:db8::1")
PRIMARY, SECONDARY = ip_address("192.0.2.53"), ip_address("192.0.2.54")
KEY, NEXT_KEY = b"\x01" * 32, b"\x02" * 32
QUICK = Limits(tries=(0.25,), deadline=1.0, failure=0.001, ttl_most=1_000_000)


@cache
def key_record(kind: str) -> str:
    return sign.record(kind, sign.make_key(kind))


@cache
def facts() -> DomainFacts:
    host = HostFacts(
        HOST,
        (V4, V6),
        ((Service.SUBMISSIONS, 465), (Service.IMAPS, 993), (Service.SUBMISSION, 587)),
        (KEY, NEXT_KEY),
        "ca.example",
    )
    return DomainFacts(
        DOMAIN,
        host,
        (
            KeyFact("r", "active", key_record("rsa")),
            KeyFact("e", "retired", key_record("ed25519")),
        ),
        dmarc_reports="dmarc@example.org",
        tls_reports="tls@example.org",
    )


@dataclass(slots=True)
class Town:
    """What DNS says, on both name servers of the domain, and what is known without it."""

    zones: Zones  # of the first, whom the recursive server asks
    second: Zones
    facts: DomainFacts

    def both(self, name: str, kind: str, *data: str, ttl: int = 300) -> None:
        """From now on exactly these records are there; none: the kind is taken out."""
        for zones in (self.zones, self.second):
            zones.remove(name, kind)
            for each in data:
                zones.add(name, kind, each, ttl=ttl)

    def text(self, name: str, *values: str | bytes) -> None:
        """The same for TXT."""
        for zones in (self.zones, self.second):
            zones.remove(name, "TXT")
            for each in values:
                zones.text(name, each)

    def host(self, **other: object) -> None:
        """Other facts about the host."""
        self.facts = replace(self.facts, host=replace(self.facts.host, **other))  # type: ignore[arg-type]  # names of fields


def healthy(zones: Zones, known: DomainFacts) -> None:
    """Publish what is wanted, as the text of a zone."""
    head = (
        f"{DOMAIN}. IN SOA ns1.example.net. hostmaster.example.org. 7 7200 900 1209600 300\n"
        f"{DOMAIN}. IN NS ns1.example.net.\n{DOMAIN}. IN NS ns2.example.net.\n"
    )
    ours = [each for each in (*wanted(known), *wanted_of_host(known.host)) if not each.elsewhere]
    zones.load(head + zone_text(ours), DOMAIN, secure=True)
    zones.host("ns1.example.net", str(PRIMARY))
    zones.host("ns2.example.net", str(SECONDARY))
    for ip in known.host.addresses:
        zones.add(reverse_name(ip), "PTR", f"{HOST}.")


@dataclass(slots=True)
class Look:
    """All of the check, asked of servers on loopback."""

    town: Town
    lookup: Resolver
    at: dict[Ip, Resolver]

    async def __call__(self) -> tuple[Finding, ...]:
        def ask_at(ip: Ip) -> Lookup | None:
            return self.at.get(ip)

        host = await look_at_host(self.lookup, self.town.facts.host, validating=True)
        return (*host, *await look(self.lookup, self.town.facts, ask_at))


@asynccontextmanager
async def town() -> AsyncIterator[tuple[Town, Look]]:
    made = Town(Zones(), Zones(), facts())
    for zones in (made.zones, made.second):
        healthy(zones, made.facts)
    async with DnsServer(made.zones) as first, DnsServer(made.second) as second:
        resolvers = [
            Resolver(
                ManualClock(),
                servers=[Server(ip_address("127.0.0.1"), server.port)],
                trusted=True,
                limits=QUICK,
            )
            for server in (first, first, second)
        ]
        try:
            at: dict[Ip, Resolver] = {PRIMARY: resolvers[1], SECONDARY: resolvers[2]}
            yield made, Look(made, resolvers[0], at)
        finally:
            for each in resolvers:
                await each.close()
