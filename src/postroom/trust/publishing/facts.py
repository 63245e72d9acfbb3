"""What is known of this server and of a domain, before DNS is asked. Values alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Ip: TypeAlias = IPv4Address | IPv6Address


class Service(StrEnum):
    """The services that mail programs find by SRV, and how. RFC 6186 §3, RFC 8314 §5.1."""

    SUBMISSION = "submission"
    SUBMISSIONS = "submissions"
    IMAP = "imap"
    IMAPS = "imaps"
    POP3 = "pop3"
    POP3S = "pop3s"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """This server. Names are in lower-case A-labels, without a dot at the end."""

    name: str
    addresses: tuple[Ip, ...] = ()  # as others reach it; empty: whatever DNS says
    services: tuple[tuple[Service, int], ...] = ()  # offered, with their ports
    tls_keys: tuple[bytes, ...] = ()  # SHA-256 of SubjectPublicKeyInfo, of keys in use and next
    authority: str = ""  # whom CAA is to name; empty: nobody issues certificates by himself


@dataclass(frozen=True, slots=True)
class KeyFact:
    """A DKIM key of a domain."""

    selector: str
    state: str  # as domain.signing has them: made, published, active, retired
    record: str  # what DNS is to say of it


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """A domain of this server."""

    name: str
    host: HostFacts
    keys: tuple[KeyFact, ...] = ()
    dmarc_reports: str = ""  # an address, or empty
    tls_reports: str = ""  # an address, or empty
    bimi_logo: str = ""  # the https URL of an SVG, or empty
