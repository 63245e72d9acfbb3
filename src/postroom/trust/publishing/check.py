"""The check of what is published. What follows from one cause is not told again as another.

The order is that of causes: a zone that does not answer says nothing about its records; a host
without an address is no fault of the MX that names it, nor of the SPF record that does.
"""

from __future__ import annotations

from collections.abc import Awaitable

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind
from postroom.net.fetch import Fetcher
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, HostFacts, Ip
from postroom.trust.publishing.finding import Finding, Severity, error
from postroom.trust.publishing.hosts import (
    check_addresses,
    check_exchangers,
    check_greeting,
    named_wrongly,
    senders,
)
from postroom.trust.publishing.keys import check_keys
from postroom.trust.publishing.nameservers import AskAt, check_name_servers
from postroom.trust.publishing.policies import check_dmarc, check_tls_reports
from postroom.trust.publishing.senders import check_spf
from postroom.trust.publishing.services import check_authority, check_services, check_tlsa
from postroom.trust.publishing.shown import Visit
from postroom.trust.publishing.sts import check_sts


async def look_at_host(
    lookup: Lookup,
    host: HostFacts,
    *,
    validating: bool = False,
    visit: Visit | None = None,
) -> tuple[Finding, ...]:
    """What is wrong with the host name, its addresses and its certificate in DNS, and with what it
    shows to who calls.

    `validating`: the resolver checks DNSSEC and is trusted. `visit` speaks to it; without one
    DNS alone is looked at. Never raises for what DNS does, or the host.
    """
    wrongly = named_wrongly(host)
    if wrongly is not None:
        return (wrongly,)
    found = await _asked(host.name, "A", check_addresses(lookup, host))
    if any(map(_is_cause, found)):
        return tuple(found)
    found += await _asked(host.name, "TXT", check_greeting(lookup, host))
    found += await _asked(host.name, "CAA", check_authority(lookup, host))
    tlsa = await _asked(f"_25._tcp.{host.name}", "TLSA", check_tlsa(lookup, host, validating))
    found += tlsa
    if visit is not None:
        shown = visit.check(lookup, host.name, host.name, dane=not tlsa)
        found += await _asked(host.name, "A", shown)
    return tuple(found)


async def look(
    lookup: Lookup,
    facts: DomainFacts,
    ask_at: AskAt | None = None,
    fetcher: Fetcher | None = None,
    visit: Visit | None = None,
) -> tuple[Finding, ...]:
    """What is wrong with a domain in DNS; the host name is `look_at_host`'s.

    `ask_at` asks name servers by themselves; without it they are not compared. `fetcher` gets the
    policy behind an MTA-STS record, `visit` speaks to exchangers that are not this server; without
    them that is not looked at. Never raises for what DNS and other servers do.
    """
    domain = facts.name
    try:
        there = (await lookup.query(domain, Kind.SOA)).exists
    except DnsFailed as failed:
        return (asking.unanswered(domain, "SOA", failed),)
    if not there:
        said = f"{domain} does not exist in DNS, so no mail to it or from it is believed."
        remedy = "Register the domain, or see that its zone is delegated."
        return (error("domain-missing", domain, "SOA", said, remedy),)
    # What names a host that nobody can find is not judged: the name will be another one.
    named = named_wrongly(facts.host) is None
    found: list[Finding] = []
    sound = False
    ips: tuple[Ip, ...] = ()
    if named:
        sound, ips = await _host_of(lookup, facts.host)
        found += await _asked(domain, "MX", check_exchangers(lookup, facts, sound))
        sound = sound and not found
        if visit is not None and not found:
            found += await _asked(domain, "MX", visit.others(lookup, facts))
    found += await _asked(domain, "TXT", check_spf(lookup, facts, ips, sound))
    found += await _asked(f"_domainkey.{domain}", "TXT", check_keys(lookup, facts))
    found += await _asked(f"_dmarc.{domain}", "TXT", check_dmarc(lookup, facts))
    found += await _asked(f"_smtp._tls.{domain}", "TXT", check_tls_reports(lookup, facts))
    policy = check_sts(lookup, facts, fetcher, sound=sound)
    found += await _asked(f"_mta-sts.{domain}", "TXT", policy)
    if named:
        found += await _asked(domain, "SRV", check_services(lookup, facts))
    if ask_at is not None:
        found += await _asked(domain, "NS", check_name_servers(lookup, ask_at, facts))
    return tuple(found)


async def _host_of(lookup: Lookup, host: HostFacts) -> tuple[bool, tuple[Ip, ...]]:
    """Whether our host name is in order as far as domains depend on it, and its addresses."""
    try:
        wrong = await check_addresses(lookup, host)
        ips = await senders(lookup, host)
    except DnsFailed:
        return False, ()  # `look_at_host` tells
    return not any(map(_is_cause, wrong)), ips


def _is_cause(found: Finding) -> bool:
    """Whether records that name the host are wrong because of this."""
    return found.severity is Severity.ERROR and found.kind != "PTR"


async def _asked(name: str, kind: str, checked: Awaitable[list[Finding]]) -> list[Finding]:
    """What a part found; a question of it that stays unanswered is a finding itself."""
    try:
        return await checked
    except DnsFailed as failed:
        return [asking.unanswered(name, kind, failed)]
