"""What an administrator tells about this server that DNS is to say, too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from postroom.core.errors import Malformed
from postroom.core.settings import Scope, group, setting
from postroom.formats.address import BadAddress, canonical_domain, parse_mailbox
from postroom.trust.publishing.facts import Ip

MOST_ADDRESSES: Final = 16
_IS_LOGO: Final = re.compile(
    r"https://[!#-+\--:<-~]{1,500}+"
).fullmatch  # no quote, comma, semicolon
_EVERYWHERE: Final = (Scope.SERVER, Scope.DOMAIN)


def read_addresses(text: str) -> tuple[Ip, ...]:
    """Addresses with commas between them. Raises Malformed."""
    pieces = [piece.strip() for piece in text.split(",", MOST_ADDRESSES) if piece.strip()]
    try:
        return tuple(dict.fromkeys(ip_address(piece) for piece in pieces[:MOST_ADDRESSES]))
    except ValueError as error:
        raise Malformed(
            "Write addresses with commas between them, such as 192.0.2.1, 2001:db8::1"
        ) from error


def _addresses(text: str) -> str:
    return ", ".join(str(ip) for ip in read_addresses(text))


def _mailbox(text: str) -> str:
    """An address that a URI can hold as it is; empty for nobody."""
    if not text.strip():
        return ""
    try:
        found = str(parse_mailbox(text.strip()))
    except BadAddress as error:
        raise Malformed("Write an address, such as reports@example.org") from error
    if not _IS_PLAIN(found):
        raise Malformed("Write an address of letters, digits, dots, hyphens, + and _ alone")
    return found


_IS_PLAIN: Final = re.compile(r"[A-Za-z0-9._+\-]{1,64}+@[A-Za-z0-9.\-]{1,253}+").fullmatch


def _authority(text: str) -> str:
    name = text.strip()
    if not name:
        return ""
    try:
        return canonical_domain(name)
    except BadAddress as error:
        raise Malformed(
            "Write the domain by which CAA names the authority, such as letsencrypt.org"
        ) from error


def _logo(text: str) -> str:
    url = text.strip()
    if url and not _IS_LOGO(url):
        raise Malformed("Write the https URL of an SVG, without commas and semicolons")
    return url


@group("dns")
@dataclass(frozen=True, slots=True)
class DnsSettings:
    """What `dns records` shows and `dns check` compares."""

    addresses: str = setting(
        "",
        "The addresses under which others reach this server, with commas between them; empty: "
        "those that DNS has for its host name, whatever they are",
        scopes=(Scope.SERVER,),
        form=_addresses,
    )
    authority: str = setting(
        "",
        "The authority that issues this server's certificates, as CAA names it. RFC 8659 §4.2",
        scopes=(Scope.SERVER,),
        form=_authority,
    )
    dmarc_reports: str = setting(
        "",
        "The address to which others send reports on mail in a domain's name. RFC 9990",
        scopes=_EVERYWHERE,
        form=_mailbox,
    )
    tls_reports: str = setting(
        "",
        "The address to which others tell where TLS to this server failed. RFC 8460 §3",
        scopes=_EVERYWHERE,
        form=_mailbox,
    )
    logo: str = setting(
        "",
        "The https URL of a domain's logo (BIMI), an SVG of the Tiny PS profile",
        scopes=_EVERYWHERE,
        form=_logo,
    )
