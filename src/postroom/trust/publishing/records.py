"""The records that a domain and this server's host name are to have. Pure."""

from __future__ import annotations

from typing import Final

from postroom.net.dns import reverse_name
from postroom.trust.dkim.signature import key_name
from postroom.trust.publishing.facts import DomainFacts, HostFacts, Service
from postroom.trust.publishing.record import Need, Wanted, quoted

PREFERRED: Final = (Service.SUBMISSIONS, Service.IMAPS, Service.POP3S)
"""TLS from the first octet comes before STARTTLS. RFC 8314 §3, §5.1."""


def wanted(facts: DomainFacts) -> tuple[Wanted, ...]:
    """The records of a domain, without those of the host name."""
    return (
        Wanted(
            facts.name,
            "MX",
            f"10 {facts.host.name}.",
            Need.NEEDED,
            "Other servers bring mail for the domain to this host.",
        ),
        Wanted(
            facts.name,
            "TXT",
            quoted(f"v=spf1 a:{facts.host.name} -all"),
            Need.NEEDED,
            "SPF: this host alone sends mail in the name of the domain; name others that do.",
        ),
        *_keys(facts),
        *_policies(facts),
        *_services(facts),
    )


def _keys(facts: DomainFacts) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(key_name(facts.name, key.selector), "TXT", quoted(key.record), *_WHY_KEY[key.state])
        for key in facts.keys
    )


_WHY_KEY: Final = {
    "made": (Need.NEEDED, "DKIM: this new key signs once its record was seen here."),
    "published": (Need.NEEDED, "DKIM: this key is about to sign."),
    "active": (Need.NEEDED, "DKIM: others check our signatures with this key."),
    "retired": (
        Need.NEEDED,
        "DKIM: this key signs no more, but mail that it signed is under way.",
    ),
}


def dmarc_text(facts: DomainFacts) -> str:
    """A policy to begin with that protects; enforcement comes with p=reject. RFC 9989 §4.7."""
    rua = f"; rua=mailto:{facts.dmarc_reports}" if facts.dmarc_reports else ""
    return f"v=DMARC1; p=quarantine{rua}"


def _policies(facts: DomainFacts) -> tuple[Wanted, ...]:
    made = [
        Wanted(
            f"_dmarc.{facts.name}",
            "TXT",
            quoted(dmarc_text(facts)),
            Need.NEEDED,
            "DMARC: mail in the domain's name that neither SPF nor DKIM vouches for is distrusted.",
        )
    ]
    if facts.tls_reports:
        made.append(
            Wanted(
                f"_smtp._tls.{facts.name}",
                "TXT",
                quoted(f"v=TLSRPTv1; rua=mailto:{facts.tls_reports}"),
                Need.OPTIONAL,
                "TLS-RPT: other servers tell this address where TLS to us failed.",
            )
        )
    if facts.bimi_logo:
        made.append(
            Wanted(
                f"default._bimi.{facts.name}",
                "TXT",
                quoted(f"v=BIMI1; l={facts.bimi_logo}; a="),
                Need.OPTIONAL,
                "BIMI: some mail programs show this logo, as long as DMARC is enforced.",
            )
        )
    return tuple(made)


def srv_name(domain: str, service: Service) -> str:
    """Where mail programs look for a service. RFC 6186 §3.4."""
    return f"_{service}._tcp.{domain}"


def _services(facts: DomainFacts) -> tuple[Wanted, ...]:
    return tuple(
        Wanted(
            srv_name(facts.name, service),
            "SRV",
            f"{0 if service in PREFERRED else 10} 1 {port} {facts.host.name}.",
            Need.ADVISED if service in PREFERRED else Need.OPTIONAL,
            f"Mail programs find {service} by themselves.",
        )
        for service, port in facts.host.services
    )


def wanted_of_host(host: HostFacts) -> tuple[Wanted, ...]:
    """The records of the host name and of its addresses."""
    made = [
        Wanted(
            host.name,
            "A" if ip.version == 4 else "AAAA",
            str(ip),
            Need.NEEDED,
            "Everybody finds this host here.",
        )
        for ip in host.addresses
    ]
    made += [
        Wanted(
            reverse_name(ip),
            "PTR",
            f"{host.name}.",
            Need.NEEDED,
            "Many servers refuse mail from an address without a name; who lends it to you sets it.",
            elsewhere=True,
        )
        for ip in host.addresses
    ]
    made.append(
        Wanted(
            host.name,
            "TXT",
            quoted("v=spf1 a -all"),
            Need.ADVISED,
            "SPF of our greeting, which counts for mail without a sender, such as reports.",
        )
    )
    made += [
        Wanted(
            f"_25._tcp.{host.name}",
            "TLSA",
            f"3 1 1 {digest.hex()}",
            Need.OPTIONAL,
            "DANE: other servers know our key; of use only in a zone that is signed by DNSSEC.",
        )
        for digest in host.tls_keys
    ]
    if host.authority:
        made.append(
            Wanted(
                host.name,
                "CAA",
                f'0 issue "{host.authority}"',
                Need.OPTIONAL,
                "No other authority issues certificates for this name.",
            )
        )
    return tuple(made)
