"""The names that an address has by its reverse zone, and which of them are its own.

Anybody may claim any name for an address; a name is its own if it leads back. RFC 8601 §3,
RFC 7208 §5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, reverse_name
from postroom.trust.lookups import Lookup

MOST_NAMES: Final = 10
"""Claimed names that are looked at. RFC 7208 §4.6.4."""

Ip: TypeAlias = IPv4Address | IPv6Address


class Iprev(StrEnum):
    """The results of RFC 8601 §2.7.3."""

    PASS = "pass"  # noqa: S105 - not a password
    FAIL = "fail"  # the names lead elsewhere
    TEMPERROR = "temperror"
    PERMERROR = "permerror"  # the address has no names


@dataclass(frozen=True, slots=True)
class Reverse:
    """What is known of an address's names."""

    result: Iprev
    names: tuple[str, ...]  # its own; as DNS names them
    claimed: int  # names that its reverse zone gives, at most MOST_NAMES of them looked at


async def look_up(lookup: Lookup, ip: Ip) -> Reverse:
    """The address's own names. Never raises."""
    if isinstance(ip, IPv6Address):
        ip = ip.ipv4_mapped or IPv6Address(int(ip))  # a scope is no part of it
    try:
        answer = await lookup.query(reverse_name(ip), Kind.PTR)
    except DnsFailed:
        return Reverse(Iprev.TEMPERROR, (), 0)
    claimed = [name for name in answer.records if isinstance(name, str) and name != "."]
    kind = Kind.A if ip.version == 4 else Kind.AAAA
    own: list[str] = []
    failed = False
    for name in claimed[:MOST_NAMES]:
        try:
            addresses = (await lookup.query(name, kind)).records
        except DnsFailed:
            failed = True  # this name may be its own, or not
        else:
            if ip in addresses:
                own.append(name)
    if own:
        result = Iprev.PASS
    elif failed:
        result = Iprev.TEMPERROR
    else:
        result = Iprev.FAIL if claimed else Iprev.PERMERROR
    return Reverse(result, tuple(own), len(claimed))


def is_below(name: str, domain: str) -> bool:
    """Whether a name of DNS is `domain` or lies below it, label by label."""
    if name == domain:
        return True
    if not name.endswith("." + domain):
        return False
    # An escaped dot parts no labels: RFC 1035 §5.1.
    before = name[: -len(domain) - 1]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 0
