"""Lists of those whom a check lets be: networks of peers, domains of senders, addresses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

Ip = IPv4Address | IPv6Address

_MOST_LABELS: Final = 127  # of a name of DNS


@dataclass(frozen=True, slots=True)
class Exempt:
    """A list, read."""

    networks: tuple[IPv4Network | IPv6Network, ...]
    names: frozenset[str]  # domains and addresses

    def holds(self, ip: Ip, domain: str) -> bool:
        """Whether the peer or the domain, or one above it, is on the list."""
        return self.holds_peer(ip) or bool(self.above(domain))

    def holds_peer(self, ip: Ip) -> bool:
        """Whether the peer is in a network of the list."""
        if isinstance(ip, IPv6Address):
            ip = ip.ipv4_mapped or ip
        return any(ip in network for network in self.networks)

    def above(self, domain: str) -> str:
        """The entry that is the domain or one above it; empty if there is none."""
        labels = domain.lower().removesuffix(".").split(".")[-_MOST_LABELS:]
        names = (".".join(labels[n:]) for n in range(len(labels)))
        return next((name for name in names if name in self.names), "")


@lru_cache(maxsize=4096)
def exempt(listed: tuple[str, ...]) -> Exempt:
    """Read a list; an entry that is no network is a name, and whoever wrote nonsense named none."""
    networks, names = [], set()
    for entry in listed:
        try:
            networks.append(ip_network(entry.strip(), strict=False))
        except ValueError:
            names.add(entry.strip().lower().removeprefix("*.").removesuffix("."))
    return Exempt(tuple(networks), frozenset(names))
