"""What a next hop is: the domain whose mail exchangers are asked (RFC 5321 §5), or a host that an
administrator named. It is what the queue leases: all mail for it shares its connections.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from postroom.core.errors import MailError, Malformed
from postroom.domain.queue import REMOTE, Hop
from postroom.formats.address import canonical_domain

_FOR: Final = " for "
_RIGHT: Final = (
    "write relay.example, relay.example:587, 192.0.2.1, 192.0.2.1:587, 2001:db8::1 or "
    "[2001:db8::1]:587"
)
_PORTS: Final = 65_536


class Way(StrEnum):
    """How the servers behind a next hop are found."""

    EXCHANGERS = "mx"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class NextHop:
    """`mx:example.org` or `host:relay.example:587`; a name may be an address literal.

    With `sender`, a domain of ours that signs in at the host in its own way, connections are for
    its mail alone: `host:relay.example:587 for example.org`.
    """

    way: Way
    name: str
    port: int = 0  # of a host; 0 is the port of SMTP
    sender: str = ""

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        sender = f"{_FOR}{self.sender}" if self.sender else ""
        return f"{self.way}:{self.name}{port}{sender}"

    @property
    def hop(self) -> Hop:
        """Its place in the queue."""
        return Hop(REMOTE, str(self))


def parse_next_hop(text: str) -> NextHop:
    """What `str` of a NextHop gave. Raises Malformed."""
    way, _, rest = text.partition(":")
    if way not in (Way.EXCHANGERS, Way.HOST):
        raise Malformed("This is not a next hop", detail=text[:100])
    if way == Way.EXCHANGERS:
        return NextHop(Way.EXCHANGERS, rest)
    host, _, sender = rest.partition(_FOR)
    # Taken as it is: a host that a later release no longer takes must not keep a queue from
    # being read. It is not found, and what waits for it goes where policy sends it by then.
    literal, bracket, after = host.rpartition("]")
    name, _, port = after.partition(":")
    if port and not _is_port(port):
        raise Malformed("This is not a next hop", detail=text[:100])
    return NextHop(Way.HOST, literal + bracket + name, int(port or 0), sender)


def parse_host(text: str) -> NextHop:
    """A host as an administrator writes it: a name or an address, with a port or without.

    An address may stand bare or in brackets; one of IPv6 with a port needs them. Raises Malformed
    with a sentence that says what is right.
    """
    name, port = _split(text)
    if port is not None and not _is_port(port):
        raise Malformed(f"A port is a number from 1 to 65535; {_RIGHT}")
    return NextHop(Way.HOST, name, int(port or 0))


def _split(text: str) -> tuple[str, str | None]:
    """The canonical name, and what stands where a port would."""
    if text.startswith("["):
        inside, bracket, after = text[1:].partition("]")
        address = _address(inside.removeprefix("IPv6:"))
        if not bracket or address is None or (after and not after.startswith(":")):
            raise Malformed(f"Brackets hold an address, and a name stands without; {_RIGHT}")
        return address, after[1:] if after else None
    address = _address(text)
    if address is not None:
        return address, None
    name, colon, port = text.partition(":")
    return _address(name) or _name(name), port if colon else None


def _name(text: str) -> str:
    try:
        name = canonical_domain(text.removesuffix("."))
    except MailError as error:
        raise Malformed(f"This is no name of a host; {_RIGHT}", detail=error.detail) from error
    if name.rpartition(".")[2].isdigit():  # RFC 1123 §2.1: then it would be an address
        raise Malformed(f"This is neither a name nor an address of a host; {_RIGHT}")
    return name


def _address(text: str) -> str | None:
    """The literal of an address, RFC 5321 §4.1.3; None if this is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if ip.is_unspecified or ip.is_multicast or "%" in text:
        raise Malformed(f"There is no host at this address; {_RIGHT}")
    return canonical_domain(f"[{ip}]" if ip.version == 4 else f"[IPv6:{ip}]")


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) < _PORTS
