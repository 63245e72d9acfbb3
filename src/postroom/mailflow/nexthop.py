"""What a next hop is: the domain whose mail exchangers are asked (RFC 5321 §5), or a host that an
administrator named. It is what the queue leases: all mail for it shares its connections.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from postroom.core.errors import Malformed
from postroom.domain.queue import REMOTE, Hop
from postroom.formats.address import canonical_domain

_FOR = " for "


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
    return parse_host(host, sender)


def parse_host(text: str, sender: str = "") -> NextHop:
    """`host`, `host:port`, `[literal]` or `[literal]:port`. Raises Malformed."""
    name, port = text, ""
    if text.startswith("["):
        literal, _, after = text.partition("]")
        name, port = literal + "]", after.removeprefix(":")
        if after and not after.startswith(":"):
            raise Malformed("This is not a host")
    elif ":" in text:
        name, _, port = text.rpartition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise Malformed("This is not a port")
    return NextHop(Way.HOST, canonical_domain(name), int(port or 0), sender)
