"""What DNS answers with: kinds of records, their values, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Generic, TypeAlias, TypeVar

from postroom.core.errors import DnsFailed


class Kind(StrEnum):
    """A type of record that may be asked for; class IN only."""

    A = "A"
    AAAA = "AAAA"
    CAA = "CAA"
    CNAME = "CNAME"
    MX = "MX"
    NS = "NS"
    PTR = "PTR"
    SOA = "SOA"
    SRV = "SRV"
    TLSA = "TLSA"
    TXT = "TXT"


NUMBER: Final[dict[Kind, int]] = {
    Kind.A: 1,  # RFC 1035 §3.2.2
    Kind.NS: 2,
    Kind.CNAME: 5,
    Kind.SOA: 6,
    Kind.PTR: 12,
    Kind.MX: 15,
    Kind.TXT: 16,
    Kind.AAAA: 28,  # RFC 3596 §2.1
    Kind.SRV: 33,  # RFC 2782
    Kind.TLSA: 52,  # RFC 6698 §2.1
    Kind.CAA: 257,  # RFC 8659 §4
}
"""The number of each kind on the wire."""


@dataclass(frozen=True, slots=True)
class Mx:
    """RFC 1035 §3.3.9. `host` is "." in a null MX (RFC 7505 §3)."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Soa:
    """RFC 1035 §3.3.13; times in seconds."""

    primary: str
    contact: str
    serial: int
    refresh: int
    retry: int
    expire: int
    minimum: int


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782. `target` "." says that the service is not there."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Tlsa:
    """RFC 6698 §2.1."""

    usage: int
    selector: int
    matching: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Caa:
    """RFC 8659 §4.1; `tag` in lower case."""

    flags: int
    tag: str
    value: bytes


Record: TypeAlias = IPv4Address | IPv6Address | Mx | Soa | Srv | Tlsa | Caa | str | bytes
"""PTR, CNAME and NS are names (str); TXT is its character-strings joined (bytes)."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """What is known about a name and a kind. No records and `exists`: NODATA (RFC 2308 §2.2)."""

    records: tuple[T_co, ...]
    exists: bool
    """False: NXDOMAIN, of `canonical` (RFC 6604 §3)."""
    secure: bool
    """A trusted validating server vouches for it, also for a denial and every CNAME passed."""
    canonical: str
    """The name at the end of the CNAMEs."""
    ttl: int
    """Seconds it was good for when it came."""
    expires: float
    """Moment on the monotonic clock."""


@dataclass(frozen=True, slots=True)
class MxAnswer:
    """Where a domain takes mail. No hosts and not `null`: the domain itself (RFC 5321 §5.1)."""

    hosts: tuple[Mx, ...]
    """Lowest preference first; equal ones as they came, for the sender to shuffle."""
    null: bool
    """The domain takes no mail at all. RFC 7505 §3."""
    exists: bool
    secure: bool
    canonical: str
    ttl: int
    expires: float


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a host."""

    v4: tuple[IPv4Address, ...]
    v6: tuple[IPv6Address, ...]
    exists: bool
    secure: bool
    """Of every answer that came."""
    canonical: str
    failed: DnsFailed | None
    """One family could not be learnt: there may be more addresses than these."""
    ttl: int
    expires: float
