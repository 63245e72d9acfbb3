"""What mail programs and authorities read: SRV, CAA, TLSA."""

from __future__ import annotations

from typing import Final

from postroom.net.dns import Caa, Kind, Srv, Tlsa
from postroom.trust.lookups import Lookup
from postroom.trust.publishing import asking
from postroom.trust.publishing.facts import DomainFacts, HostFacts, Service
from postroom.trust.publishing.finding import Finding, advice, error, warning
from postroom.trust.publishing.records import PREFERRED, srv_name

_CRITICAL: Final = 0x80
_KNOWN_TAGS: Final = frozenset({"issue", "issuewild", "iodef", "issuemail", "issuevmc"})
_DANE_EE: Final = 3
_PUBLIC_KEY: Final = 1


# --- SRV: RFC 2782, RFC 6186 --------------------------------------------------------------------


async def check_services(lookup: Lookup, facts: DomainFacts) -> list[Finding]:
    """One finding for each record that misleads, one for all that are missing. Raises DnsFailed."""
    offered = dict(facts.host.services)
    found: list[Finding] = []
    missing: list[str] = []
    for service in Service:
        owner = srv_name(facts.name, service)
        held = await asking.ask(lookup, owner, Kind.SRV, Srv)
        port = offered.get(service)
        if port is None:
            if any(each.target == facts.host.name for each in held):
                said = (
                    f"{owner} sends mail programs to this server, which does not offer {service}, "
                    "so they fail."
                )
                found.append(error("srv-not-offered", owner, "SRV", said, "Take it out."))
        elif not held:
            if service in PREFERRED:
                missing.append(service)
        else:
            wrong = _misleads(owner, service, port, facts.host.name, held)
            if wrong is not None:
                found.append(wrong)
    if missing:
        said = (
            f"{facts.name} has no SRV records for {', '.join(missing)}, so people have to type the "
            "server's name into their mail programs."
        )
        remedy = f"`postroom dns records {facts.name}` shows them."
        found.append(advice("srv-missing", facts.name, "SRV", said, remedy))
    return found


def _misleads(
    owner: str, service: Service, port: int, host: str, held: tuple[Srv, ...]
) -> Finding | None:
    remedy = f"Publish {owner} SRV 0 1 {port} {host}."
    if all(each.target == "." for each in held):
        said = f"{owner} says that there is no {service}, so mail programs do not use it."
        return error("srv-denied", owner, "SRV", said, remedy)
    ours = [each for each in held if each.target == host]
    if not ours:
        said = (
            f"{owner} leads to {held[0].target} and not to {host}, so mail programs go to another "
            "server."
        )
        return error("srv-elsewhere", owner, "SRV", said, remedy)
    if all(each.port != port for each in ours):
        said = (
            f"{owner} names port {ours[0].port} and not {port}, so mail programs do not reach "
            f"{service}."
        )
        return error("srv-port", owner, "SRV", said, remedy)
    return None


# --- CAA: RFC 8659 ------------------------------------------------------------------------------


async def check_authority(lookup: Lookup, host: HostFacts) -> list[Finding]:
    """Whether our authority may issue for the host name. Raises DnsFailed."""
    if not host.authority:
        return []
    labels = host.name.split(".")
    for at in range(len(labels) - 1):
        owner = ".".join(labels[at:])
        held = await asking.ask(lookup, owner, Kind.CAA, Caa)
        if not held:
            continue
        remedy = f'Publish {owner} CAA 0 issue "{host.authority}".'
        strange = [
            each.tag for each in held if each.flags & _CRITICAL and each.tag not in _KNOWN_TAGS
        ]
        if strange:
            said = (
                f"The CAA records of {owner} hold the critical tag {strange[0]}, which nobody "
                "knows, so no authority issues a certificate for this server."
            )
            return [error("caa-critical", owner, "CAA", said, remedy)]
        issuers = [_issuer(each) for each in held if each.tag == "issue"]
        if issuers and host.authority not in issuers:
            said = (
                f"The CAA records of {owner} do not allow {host.authority}, so it will not renew "
                "the certificate of this server."
            )
            return [error("caa-forbids", owner, "CAA", said, remedy)]
        return []
    return []


def _issuer(record: Caa) -> str:
    return record.value.partition(b";")[0].strip().decode("latin-1").lower()


# --- TLSA: RFC 7672 -----------------------------------------------------------------------------


async def check_tlsa(lookup: Lookup, host: HostFacts, validating: bool) -> list[Finding]:
    """`validating`: the resolver vouches for what is signed. Raises DnsFailed."""
    owner = f"_25._tcp.{host.name}"
    answer = await lookup.query(owner, Kind.TLSA)
    held = [each for each in answer.records if isinstance(each, Tlsa)]
    remedy = f"`postroom dns records` shows the right ones for {host.name}."
    if not held or not host.tls_keys:
        return []
    if validating and not answer.secure:
        said = (
            f"The TLSA records of {host.name} are in a zone that is not signed by DNSSEC, so "
            "nobody heeds them."
        )
        return [warning("tlsa-unsigned", owner, "TLSA", said, "Sign the zone, or take them out.")]
    ours = [each for each in held if each.usage == _DANE_EE and each.selector == _PUBLIC_KEY]
    judged = [each for each in ours if each.matching == 1]
    if len(judged) < len(held):
        return []  # some are of another form: what they say of the chain is not known here
    if any(each.data in host.tls_keys for each in judged):
        return []
    said = (
        f"The TLSA records of {host.name} do not match the key of its certificate, so servers that "
        "check DANE do not deliver to us."
    )
    return [error("tlsa-mismatch", owner, "TLSA", said, remedy)]
