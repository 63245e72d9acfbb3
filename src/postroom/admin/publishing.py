"""Operations on what DNS is to say of our domains: the records, and whether they are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from postroom.admin import render
from postroom.admin.house import AdminHouse
from postroom.core.errors import Misuse, Unreachable
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain import signing
from postroom.domain.directory import people
from postroom.domain.directory.spelling import named_domain
from postroom.domain.signing import SigningKey
from postroom.net.dns import Limits, Resolver, Server
from postroom.store.sql import Tx
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import (
    Caller,
    DomainFacts,
    Finding,
    HostFacts,
    KeyFact,
    Service,
    Severity,
    Visit,
    Wanted,
    look,
    look_at_host,
    update_text,
    wanted,
    wanted_of_host,
    zone_text,
)
from postroom.trust.publishing.facts import Ip
from postroom.trust.publishing.settings import DnsSettings, read_addresses

FORMATS: Final = ("zone", "nsupdate", "table")
AT_ONCE: Final = 8
"""Domains that are looked at together."""
_AS_PUBLISHED: Final = Limits(ttl_most=1 << 31)  # name servers are asked for the true TTL
_NOT_RUNNING: Final = (
    "The server is not running, so its services (SRV) and keys (TLSA) are not known"
)


# --- what is known ------------------------------------------------------------------------------


def _services(house: AdminHouse) -> tuple[tuple[Service, int], ...]:
    """Those that the running server offers, with their ports."""
    server = house.server()
    doors = [each.split() for each in server.listeners] if server is not None else []
    ports = {door[0]: int(door[2]) for door in doors if len(door) == 3}
    return tuple((service, ports[service]) for service in Service if service in ports)


def _host(house: AdminHouse) -> HostFacts:
    flow = house.flow
    told = flow.policies.latest(flow.chain("")).of(DnsSettings)
    return HostFacts(
        flow.hostname,
        read_addresses(told.addresses),
        _services(house),
        house.tls_keys(flow.hostname),
        told.authority,
    )


async def _facts(house: AdminHouse, names: tuple[str, ...]) -> tuple[DomainFacts, ...]:
    """Of these domains, or of all. Raises NotFound."""
    flow = house.flow

    def unit(tx: Tx) -> list[tuple[str, list[SigningKey]]]:
        found = [people.domain(tx, name).name for name in names]
        found = found or [each.name for each in people.domains(tx)]
        return [(name, list(signing.of_domain(tx, name))) for name in found]

    held = await flow.mail.read(unit)
    policies = {
        name: (await flow.mail.read(flow.policies.current, flow.chain("", name))).of(DnsSettings)
        for name, _ in held
    }
    host = _host(house)
    return tuple(
        DomainFacts(
            name,
            host,
            tuple(KeyFact(key.selector, key.state, key.record) for key in keys),
            policies[name].dmarc_reports,
            policies[name].tls_reports,
            policies[name].logo,
        )
        for name, keys in held
    )


# --- records ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordsOf:
    """The records of one domain."""

    domain: str = argument("The domain's name, such as example.org")
    format: str = argument("`zone`, `nsupdate` (RFC 2136) or `table`", default="zone")

    def of_domain(self) -> str:
        return named_domain(self.domain)


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record that DNS is to have."""

    need: str
    name: str
    ttl: int
    type: str
    data: str
    why: str


@dataclass(frozen=True, slots=True)
class RecordsView:
    """What DNS is to have, and the same as a text for whoever keeps the zone."""

    domain: str
    records: tuple[RecordView, ...]
    text: str  # empty: a table is wanted
    notes: tuple[str, ...] = ()

    def told_within(self, columns: int) -> str:
        said = self.text or render.table(self.records, columns)
        return "\n".join((*(f"; {each}." for each in self.notes), render.visible(said)))


async def records_of(house: AdminHouse, domain: str) -> tuple[Wanted, ...]:
    """What DNS is to have for a domain and for our host name. Raises NotFound."""
    (facts,) = await _facts(house, (domain,))
    return (*wanted(facts), *wanted_of_host(facts.host))


@operation("dns records", Role.DOMAIN_ADMIN, changes=False)
async def dns_records(house: AdminHouse, asked: RecordsOf) -> RecordsView:
    """Show the records that DNS is to have for a domain and for this server's host name, with
    the reason for each: as text of a zone, as commands for nsupdate, or as a table. The commands
    add what is not there and replace nothing."""
    if asked.format not in FORMATS:
        raise Misuse(f"A format is one of {', '.join(FORMATS)}")
    domain = asked.of_domain()
    found = await records_of(house, domain)
    text = {"zone": zone_text, "nsupdate": update_text}.get(asked.format)
    return RecordsView(
        domain,
        tuple(map(_record, found)),
        text(found) if text is not None else "",
        (_NOT_RUNNING,) if house.server() is None else (),
    )


def _record(each: Wanted) -> RecordView:
    return RecordView(each.need, each.owner, each.ttl, each.kind, each.data, each.why)


# --- the check ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckOf:
    """Whose records are looked at."""

    domains: tuple[str, ...] = argument("Names of domains; without one, all", default=())
    dns_only: bool = argument(
        "Ask DNS and fetch policies, but connect to no mail exchanger", default=False, option=True
    )

    def of_domain(self) -> str:
        """A domain's administrator looks at one."""
        return named_domain(self.domains[0]) if len(self.domains) == 1 else ""


@dataclass(frozen=True, slots=True)
class FindingView:
    """What is wrong with one record."""

    severity: str
    code: str
    name: str
    type: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DnsReport:
    """What was looked at, and what is wrong."""

    looked_at: tuple[str, ...]
    findings: tuple[FindingView, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What harms mail now."""
        return tuple([each.sentence for each in self.findings if each.severity == Severity.ERROR])

    def told(self) -> str:
        lines = [f"Looked at {', '.join(self.looked_at)}."]
        for each in self.findings:
            lines.append(f"{each.severity.upper()}: {each.sentence}")
            lines += [f"  {each.remedy}"] if each.remedy else []
        lines.append(self._sum())
        return "\n".join(lines)

    def _sum(self) -> str:
        severities = [each.severity for each in self.findings]
        told = [
            counted(number, *words)
            for words, number in (
                (("error",), severities.count(Severity.ERROR)),
                (("warning",), severities.count(Severity.WARNING)),
                (("piece of advice", "pieces of advice"), severities.count(Severity.ADVICE)),
            )
            if number
        ]
        return f"{', '.join(told)}." if told else "All is well."


@operation("dns check", Role.DOMAIN_ADMIN, changes=False)
async def dns_check(house: AdminHouse, asked: CheckOf) -> DnsReport:
    """Compare what DNS says of a domain, or of all, with what it is to say, fetch the policy that
    an MTA-STS record announces, and look at the certificate that each mail exchanger shows. Each
    finding is one sentence: what is wrong, and what follows. Errors alone make the command
    fail."""
    facts = await _facts(house, tuple(map(named_domain, asked.domains)))
    host = _host(house)
    turns = asyncio.Semaphore(AT_ONCE)
    async with _asking(house) as (lookup, name_servers), _visiting(house, asked) as visit:

        async def one(domain: DomainFacts) -> tuple[Finding, ...]:
            async with turns:
                return await look(lookup, domain, name_servers.at, house.fetcher, visit)

        found = [
            await look_at_host(lookup, host, visit=visit),
            *await asyncio.gather(*map(one, facts)),
        ]
    return DnsReport(
        (host.name, *(each.name for each in facts)),
        tuple(_view(each) for of_one in found for each in of_one),
    )


def _view(each: Finding) -> FindingView:
    return FindingView(each.severity, each.code, each.owner, each.kind, each.sentence, each.remedy)


@asynccontextmanager
async def _visiting(house: AdminHouse, asked: CheckOf) -> AsyncIterator[Visit | None]:
    """Visits to exchangers as our own mail would make them; None where none are wanted."""
    dialer = house.dialer
    if asked.dns_only or dialer is None:
        yield None
        return
    finder = dialer.finder
    caller = Caller(
        dialer.hello(), dialer.wheel, dialer.tls, dialer.trusted, finder.egress, finder.port
    )
    visit = Visit(caller, house.flow.clock.now())
    try:
        yield visit
    finally:
        await visit.close()


class _NameServers:
    """A resolver for each name server that is asked by itself; those of this machine are not."""

    def __init__(self, house: AdminHouse) -> None:
        self._clock = house.flow.clock
        self._made: dict[Ip, Resolver] = {}

    def at(self, ip: Ip) -> Lookup | None:
        """None: not an address of the public internet, so nobody outside asks it either."""
        if not ip.is_global:
            return None
        if ip not in self._made:
            self._made[ip] = Resolver(self._clock, servers=[Server(ip)], limits=_AS_PUBLISHED)
        return self._made[ip]

    async def close(self) -> None:
        await asyncio.gather(*(each.close() for each in self._made.values()))


@asynccontextmanager
async def _asking(house: AdminHouse) -> AsyncIterator[tuple[Resolver, _NameServers]]:
    """A resolver that remembers nothing from before, and those of single name servers.

    Raises Unreachable without a server: how to ask is said where it is started.
    """
    if house.dialer is None:
        raise Unreachable("DNS can be asked by a running server alone")
    servers = house.dialer.finder.resolver.servers
    lookup, name_servers = Resolver(house.flow.clock, servers=servers), _NameServers(house)
    try:
        yield lookup, name_servers
    finally:
        await lookup.close()
        await name_servers.close()
