"""The host name, its addresses and their names; and the mail exchangers of a domain."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from postroom.core.errors import DnsFailed
from postroom.net.dns import Kind, Mx, reverse_name
from postroom.trust import reverse
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, HostFacts, Ip
from postroom.trust.publishing.finding import Finding, advice, error, warning
from postroom.trust.reverse import Iprev
from postroom.trust.spf import Client, Result, check_helo

_RESERVED: Final = ("test", "example", "invalid", "localhost", "local", "internal")
"""Top-level names that no public DNS has. RFC 6761 §6, RFC 6762 §3."""
_UNROUTED: Final = tuple(
    ip_network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.168.0.0/16", "::/127", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 6890 §2.2."""


# --- the name -----------------------------------------------------------------------------------


def named_wrongly(host: HostFacts) -> Finding | None:
    """What no record can mend: a name that nobody outside can look up."""
    if "." not in host.name:
        return error(
            "host-unqualified",
            host.name,
            "A",
            f"The host name {host.name} has no domain, so nobody outside finds this server and "
            "many refuse its greeting.",
            "Set server.hostname to a full name, such as mail.example.org.",
        )
    if host.name.rpartition(".")[2] in _RESERVED:
        return error(
            "host-reserved",
            host.name,
            "A",
            f"The host name {host.name} lies below a name that is reserved for tests and local "
            "use, so no public DNS can have it and nobody finds this server.",
            "Set server.hostname to a name in a domain of yours.",
        )
    return None


async def check_addresses(lookup: Lookup, host: HostFacts) -> list[Finding]:
    """A, AAAA and PTR. Raises DnsFailed."""
    target = await asking.alias(lookup, host.name)
    found = await asking.addresses(lookup, host.name)
    if target and not found:
        said = f"The host name {host.name} is an alias of {target}, which has no address"
        return [error("host-alias", host.name, "CNAME", f"{said}, so no mail reaches this server.")]
    if not found:
        said = f"The host name {host.name} has no address, so no mail reaches this server."
        return [error("host-address", host.name, "A", said, _publish(host))]
    if target:
        said = (
            f"The host name {host.name} is an alias of {target}, so MX and SRV records may not "
            "name it and some servers do not deliver to it."
        )
        return [error("host-cname", host.name, "CNAME", said, "Give it addresses of its own.")]
    private = [ip for ip in found if any(ip in network for network in _UNROUTED)]
    if private and not any(ip in host.addresses for ip in private):
        said = (
            f"The host name {host.name} leads to {private[0]}, an address of private networks, so "
            "nobody outside reaches this server by it."
        )
        return [error("host-private", host.name, _kind(private[0]), said, _publish(host))]
    if host.addresses:
        wrong = _differing(host, found)
        if wrong:
            return [wrong]
    return [finding for ip in found if (finding := await _check_reverse(lookup, host, ip))]


def _differing(host: HostFacts, found: tuple[Ip, ...]) -> Finding | None:
    """Where DNS and the addresses that the administrator told are not the same."""
    for ip in found:
        if ip not in host.addresses:
            said = (
                f"The host name {host.name} leads to {ip}, which is none of this server's "
                "addresses, so mail goes to another machine or is lost."
            )
            return error("host-elsewhere", host.name, _kind(ip), said, _publish(host))
    for ip in host.addresses:
        if ip in found:
            continue
        if ip.version == 6:
            said = (
                f"The host name {host.name} has no AAAA record for {ip}, so others do not reach "
                "this server over IPv6, and what it sends from there is distrusted."
            )
            return warning("host-aaaa", host.name, "AAAA", said, _publish(host))
        said = (
            f"The host name {host.name} has no A record for {ip}, so whoever has IPv4 alone does "
            "not reach this server there."
        )
        return error("host-a", host.name, "A", said, _publish(host))
    return None


def _kind(ip: Ip) -> str:
    return "A" if ip.version == 4 else "AAAA"


def _publish(host: HostFacts) -> str:
    told = ", ".join(f"{_kind(ip)} {ip}" for ip in host.addresses)
    return f"Publish {told} at {host.name}." if told else f"Publish A (and AAAA) at {host.name}."


async def _check_reverse(lookup: Lookup, host: HostFacts, ip: Ip) -> Finding | None:
    owner = reverse_name(ip)
    remedy = f"Ask who lends you the address to let it lead to {host.name}."
    found = await reverse.look_up(lookup, ip)
    match found.result:
        case Iprev.TEMPERROR:
            said = f"The reverse zone of {ip} gives no answer, so many servers defer our mail."
            return warning("ptr-unanswered", owner, "PTR", said, remedy)
        case Iprev.PERMERROR:
            said = f"The address {ip} has no name (PTR), so many servers refuse mail from it."
            return error("ptr-missing", owner, "PTR", said, remedy)
        case Iprev.FAIL:
            said = (
                f"The name of the address {ip} (PTR) does not lead back to it, so many servers "
                "refuse mail from it."
            )
            return error("ptr-unconfirmed", owner, "PTR", said, remedy)
    if host.name in found.names:
        return None
    said = (
        f"The address {ip} is named {found.names[0]} and not {host.name} as we greet, so some "
        "servers distrust mail from it."
    )
    return advice("ptr-other", owner, "PTR", said, remedy)


async def senders(lookup: Lookup, host: HostFacts) -> tuple[Ip, ...]:
    """The addresses that mail from here comes from, as far as DNS has them. Raises DnsFailed."""
    found = await asking.addresses(lookup, host.name)
    return tuple(ip for ip in found if ip in host.addresses) if host.addresses else found


async def check_greeting(lookup: Lookup, host: HostFacts) -> list[Finding]:
    """SPF of the host name, which is our HELO. Raises DnsFailed. RFC 7208 §2.3."""
    ips = await senders(lookup, host)
    remedy = f'Publish {host.name} TXT "v=spf1 a -all".'
    for ip in ips:
        found = await check_helo(lookup, Client(ip, host.name))
        if found.result is Result.TEMPERROR:
            raise DnsFailed(detail=found.why)
        if found.result is Result.NONE:
            said = (
                f"The host name {host.name} has no SPF record, so anybody may greet with it, and "
                "SPF vouches for none of our reports."
            )
            return [advice("helo-spf-missing", host.name, "TXT", said, remedy)]
        if found.result is not Result.PASS:
            said = (
                f"The SPF record of the host name {host.name} does not allow {ip} "
                f"({found.result}), so reports from this server fail SPF."
            )
            return [error("helo-spf", host.name, "TXT", said, remedy)]
    return []


# --- mail exchangers ----------------------------------------------------------------------------


async def check_exchangers(lookup: Lookup, facts: DomainFacts, sound: bool) -> list[Finding]:
    """MX, down to their addresses. `sound`: our host name has addresses; else that was told.

    Raises DnsFailed. RFC 5321 §5.1, RFC 2181 §10.3, RFC 7505.
    """
    domain, ours = facts.name, facts.host.name
    remedy = f"Publish {domain} MX 10 {ours}."
    found = await asking.ask(lookup, domain, Kind.MX, Mx)
    if not found:
        said = f"{domain} has no MX record, so its mail goes to the host of that name, if any."
        return [error("mx-missing", domain, "MX", said, remedy)]
    if all(mx.host == "." for mx in found):
        said = f"{domain} says that it takes no mail (null MX), so all mail to it is refused."
        return [error("mx-null", domain, "MX", said, remedy)]
    wrong: list[Finding] = []
    for mx in sorted(found, key=lambda each: each.preference):
        if mx.host == "." or (mx.host == ours and not sound):
            continue
        try:
            finding = await _check_exchanger(lookup, domain, mx.host, remedy)
        except DnsFailed:
            said = (
                f"The MX of {domain} is {mx.host}, of which DNS gives no answer, so mail to it "
                "waits in vain."
            )
            finding = error("mx-unanswered", domain, "MX", said, remedy)
        if finding is not None:
            wrong.append(finding)
    if wrong or any(mx.host == ours for mx in found):
        return wrong or _in_front(domain, ours, found)
    others = ", ".join(sorted(mx.host for mx in found))
    said = f"The MX of {domain} is {others} and not {ours}, so its mail does not come here."
    return [error("mx-elsewhere", domain, "MX", said, remedy)]


async def _check_exchanger(lookup: Lookup, domain: str, host: str, remedy: str) -> Finding | None:
    if _is_address(host):
        said = f"The MX of {domain} is the address {host} and no name, so mail to it is returned."
        return error("mx-address", domain, "MX", said, remedy)
    target = await asking.alias(lookup, host)
    if target:
        said = (
            f"The MX of {domain} is {host}, which is an alias of {target}, so some servers do not "
            "deliver to it."
        )
        return error("mx-cname", domain, "MX", said, "Name the host itself.")
    if not await asking.addresses(lookup, host):
        said = f"The MX of {domain} is {host}, which has no address, so mail to it waits in vain."
        return error("mx-no-address", domain, "MX", said, remedy)
    return None


def _in_front(domain: str, ours: str, found: tuple[Mx, ...]) -> list[Finding]:
    best = min(mx.preference for mx in found if mx.host == ours)
    first = [mx.host for mx in found if mx.preference < best]
    if not first:
        return []
    said = f"The MX {first[0]} of {domain} comes before {ours}, so mail is brought there first."
    return [advice("mx-behind", domain, "MX", said, "If it is no filter of yours, take it out.")]


def _is_address(name: str) -> bool:
    try:
        ip: IPv4Address | IPv6Address = ip_address(name)
    except ValueError:
        return False
    return ip.version == 4
