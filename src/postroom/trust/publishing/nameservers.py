"""The name servers of a zone, each asked by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Mx, Soa
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, Ip
from postroom.trust.publishing.finding import Finding, advice, error, warning

AskAt: TypeAlias = Callable[[Ip], Lookup | None]
"""Who asks the name server at an address, and no other; None: it may not be asked."""
MOST_SERVERS: Final = 8
LONG: Final = 86_400
"""Seconds. What is cached for longer than a day makes every change slow."""


async def check_name_servers(lookup: Lookup, ask_at: AskAt, facts: DomainFacts) -> list[Finding]:
    """At most one finding. Raises DnsFailed if the zone's own records cannot be learnt."""
    zone, names = await _zone_of(lookup, facts.name)
    serials: dict[str, int] = {}
    longest = 0
    for name in names[:MOST_SERVERS]:
        ips = await asking.addresses(lookup, name)
        if not ips:
            said = (
                f"The name server {name} of {zone} has no address, so part of the questions about "
                "the zone go nowhere."
            )
            return [error("ns-no-address", zone, "NS", said)]
        server = ask_at(ips[0])
        if server is None:
            continue
        try:
            answer = await server.query(zone, Kind.SOA)
            kept = await server.query(facts.name, Kind.MX)
        except DnsFailed as failed:
            said = (
                f"The name server {name} of {zone} does not answer for it ({failed.reason}), so "
                "some lookups fail and mail comes late."
            )
            return [
                error("ns-lame", zone, "NS", said, "Mend it, or take it out of the delegation.")
            ]
        soas = [each for each in answer.records if isinstance(each, Soa)]
        if soas:
            serials[name] = soas[0].serial
        if any(isinstance(each, Mx) for each in kept.records):
            longest = max(longest, kept.ttl)
    if len(set(serials.values())) > 1:
        old, new = min(serials, key=serials.__getitem__), max(serials, key=serials.__getitem__)
        said = (
            f"The name server {old} has an older zone {zone} ({serials[old]}) than {new} "
            f"({serials[new]}), so others see one or the other by chance."
        )
        return [
            warning("ns-stale", zone, "SOA", said, "See why the zone is not transferred to it.")
        ]
    if longest > LONG:
        said = (
            f"The MX record of {facts.name} may be cached for {longest // 3600} hours, so a change "
            "reaches some servers only after that time."
        )
        return [advice("ttl-long", facts.name, "MX", said, "Use 3600 seconds before a change.")]
    return []


async def _zone_of(lookup: Lookup, domain: str) -> tuple[str, tuple[str, ...]]:
    """The zone in which a domain lies, and its name servers."""
    labels = domain.split(".")
    for at in range(len(labels) - 1):
        zone = ".".join(labels[at:])
        names = await asking.ask(lookup, zone, Kind.NS, str)
        if names:
            return zone, tuple(sorted(names))
    return domain, ()
