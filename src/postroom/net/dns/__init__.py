"""DNS: a stub resolver that asks a recursive server, remembers, and believes little.

An answer is records, or the word that there are none (NXDOMAIN, NODATA); everything else is
`DnsFailed`, temporary, and never a pass. `secure` says that a validating server vouched for the
answer (AD), and only if the operator trusts that server and the way to it.

Floor 2. May import: core. Called by trust, guard, mailflow and the egress.
"""

from __future__ import annotations

from postroom.core.errors import DnsFailed
from postroom.net.dns.names import canonical_name, from_labels, reverse_name
from postroom.net.dns.records import (
    Addresses,
    Answer,
    Caa,
    Kind,
    Mx,
    MxAnswer,
    Record,
    Soa,
    Srv,
    Tlsa,
)
from postroom.net.dns.resolver import Limits, Resolver
from postroom.net.dns.servers import Server, parse_server, system_servers

__all__ = [
    "Addresses",
    "Answer",
    "Caa",
    "DnsFailed",
    "Kind",
    "Limits",
    "Mx",
    "MxAnswer",
    "Record",
    "Resolver",
    "Server",
    "Soa",
    "Srv",
    "Tlsa",
    "canonical_name",
    "from_labels",
    "parse_server",
    "reverse_name",
    "system_servers",
]
