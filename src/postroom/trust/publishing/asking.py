"""Questions of a check, typed; and the finding that stands for a question without an answer."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind
from postroom.trust.lookups import Lookup
from postroom.trust.publishing.facts import Ip
from postroom.trust.publishing.finding import Finding, error

T = TypeVar("T")


async def ask(lookup: Lookup, name: str, kind: Kind, of: type[T]) -> tuple[T, ...]:
    """The records of one type. Raises DnsFailed."""
    answer = await lookup.query(name, kind)
    return tuple(each for each in answer.records if isinstance(each, of))


async def texts(lookup: Lookup, name: str) -> tuple[bytes, ...]:
    """The TXT records, each joined. Raises DnsFailed."""
    return await ask(lookup, name, Kind.TXT, bytes)


async def addresses(lookup: Lookup, name: str) -> tuple[Ip, ...]:
    """A and AAAA. Raises DnsFailed."""
    v4 = await ask(lookup, name, Kind.A, IPv4Address)
    return (*v4, *await ask(lookup, name, Kind.AAAA, IPv6Address))


async def alias(lookup: Lookup, name: str) -> str:
    """Where a CNAME of the name leads, or empty. Raises DnsFailed."""
    found = await ask(lookup, name, Kind.CNAME, str)
    return found[0] if found else ""


def unanswered(name: str, kind: str, failed: DnsFailed) -> Finding:
    """A question that DNS did not answer, by its reason."""
    code, said, remedy = _REASONS.get(failed.reason, _OTHER)
    return error(
        code,
        name,
        kind,
        f"{said.format(name=name)}, so other servers learn nothing about it and defer mail.",
        remedy,
    )


_OTHER: Final = (
    "dns-unanswered",
    "DNS gives no usable answer about {name}",
    "Look at the name servers of the zone.",
)
_SILENT: Final = (
    "dns-timeout",
    "The name servers of {name} do not answer in time",
    "See whether they run, and whether port 53 is open over UDP and TCP.",
)
_REASONS: Final = {
    "timeout": _SILENT,
    "deadline": _SILENT,
    "unreachable": _SILENT,
    "silent": _SILENT,
    "servfail": (
        "dns-servfail",
        "The name servers of {name} fail (SERVFAIL)",
        "Look at their log; often the zone did not load.",
    ),
    "bogus": (
        "dns-bogus",
        "The DNSSEC signatures of {name} are wrong and validating resolvers believe nothing of it",
        "Sign the zone anew, or take its DS record out of the zone above.",
    ),
    "lame": (
        "dns-lame",
        "{name} is delegated to name servers that do not serve it",
        "Let the delegation name the servers that have the zone.",
    ),
    "refused": (
        "dns-refused",
        "The name servers of {name} refuse to answer",
        "Let the delegation name the servers that have the zone.",
    ),
}
