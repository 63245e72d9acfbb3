"""Where we may go: one place that says which addresses others may make us connect to.

A record in DNS is the word of a stranger. An MX that names 127.0.0.1 would make us talk to
ourselves, one that names a link-local address to the machine's metadata service. Attack classes
15 and 22.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

_NEVER: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # RFC 1122 §3.2.1.3: this network
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and the broadcast address
        "::/128",
        "ff00::/8",
    )
)
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_LINK_LOCAL: Final = (ip_network("169.254.0.0/16"), ip_network("fe80::/10"))
# RFC 1918, RFC 6598, RFC 4193. Mail may go there, since many a network has its servers there;
# what fetches for a stranger may not.
_PRIVATE: Final = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
)
# What leads nowhere in the internet, or somewhere else than it says: RFC 6890, RFC 8215, RFC 2544,
# RFC 4380, RFC 3879.
_SPECIAL: Final = tuple(
    ip_network(text)
    for text in ("192.0.0.0/24", "198.18.0.0/15", "64:ff9b:1::/48", "2001::/32", "fec0::/10")
)
# The last 32 bits are an IPv4 address: RFC 6052 §2.1, and RFC 4291 §2.5.5.1, which nobody uses.
_EMBEDDING: Final = (ip_network("64:ff9b::/96"), ip_network("::/96"))


@dataclass(frozen=True, slots=True)
class Egress:
    """The rules. `allow` are networks that an administrator opened; `loopback` is for trials on
    one machine."""

    allow: tuple[Network, ...] = ()
    loopback: bool = False

    def permits_mail(self, ip: IPv4Address | IPv6Address) -> bool:
        """Whether mail may be brought there."""
        return self._permits(_plain(ip), (*_NEVER, *_LINK_LOCAL))

    def permits_fetching(self, ip: IPv4Address | IPv6Address) -> bool:
        """Whether something may be fetched from there because a stranger said so."""
        return self._permits(_plain(ip), (*_NEVER, *_LINK_LOCAL, *_PRIVATE, *_SPECIAL))

    def _permits(self, ip: IPv4Address | IPv6Address, closed: tuple[Network, ...]) -> bool:
        if _within(ip, self.allow):
            return True
        if _within(ip, _LOOPBACK):
            return self.loopback
        return not _within(ip, closed)


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to, so that no rule can be walked around."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if _within(ip, _EMBEDDING) and int(ip) > 1:  # not ::, not ::1
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip


def _within(ip: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)
