"""Web addresses as strangers write them: one reading, or none. RFC 3986 §3, RFC 9110 §4.2.

Two readers of one text that see different hosts are how a request ends where nobody allowed it.
So whatever has more than one reading is refused: a name before an @, a backslash, a blank, a host
in percent signs, and an IPv4 address in any spelling but its usual one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final
from urllib.parse import urljoin

from postroom.core.errors import Malformed, NotAllowed
from postroom.formats.address import canonical_domain

URL_MAX: Final = 4_096  # characters

_PORTS: Final = {"http": 80, "https": 443}
_WELL_KNOWN: Final = 1_024
"""Below it, ports belong to other protocols, which may take a request for one of theirs."""

# Nothing that a URL has to escape: RFC 3986 §2.
_FORM: Final = re.compile(
    r"(https?)://([^/?#\\@\s]{1,1000})"
    r"(/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~]*+)?"
    r"(\?[!$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*+)?"
    r"(?:#[!-~]*+)?",
    re.IGNORECASE,
)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.\-]*:", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_QUAD: Final = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}")


@dataclass(frozen=True, slots=True)
class Url:
    """A web address without its fragment, which is nobody's business but the reader's."""

    scheme: str
    """http, https"""
    host: str
    """A name in A-labels, or an address as text."""
    ip: IPv4Address | IPv6Address | None
    port: int
    target: str
    """Path and query, as they stand in a request."""

    @property
    def authority(self) -> str:
        """What the Host field says: the port only if it is not the scheme's. RFC 9110 §7.2."""
        host = f"[{self.host}]" if isinstance(self.ip, IPv6Address) else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_usual_port(self) -> bool:
        return self.port == _PORTS[self.scheme]

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def is_same_place(self, other: Url) -> bool:
        """Whether both are asked of the same server."""
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)

    def joined(self, reference: str) -> Url:
        """Where a reference in an answer from here leads. Raises as `parse_url`."""
        if len(reference) > URL_MAX:
            raise Malformed("This web address is too long")
        try:
            return parse_url(urljoin(str(self), reference))
        except ValueError as error:  # brackets that are no address
            raise _broken(reference) from error


def parse_url(text: str) -> Url:
    """Raises Malformed for what is none; NotAllowed for other schemes, names before an @, and
    ports of other protocols."""
    if len(text) > URL_MAX:
        raise Malformed("This web address is too long")
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[0].lower() not in ("http:", "https:"):
        raise NotAllowed("Only web addresses are fetched", detail=f"{text[:200]!a}")
    found = _FORM.fullmatch(text)
    if found is None:
        if "@" in text.partition("://")[2].partition("/")[0]:
            raise NotAllowed("A web address with a name in it is not fetched")
        raise _broken(text)
    kind, where, path, query = found[1].lower(), found[2], found[3] or "/", found[4] or ""
    parts = _AUTHORITY.fullmatch(where)
    if parts is None:
        raise _broken(text)
    host, ip = _host(parts[1])
    port = int(parts[2]) if parts[2] else _PORTS[kind]
    if not 0 < port < 65_536:
        raise _broken(text)
    if port < _WELL_KNOWN and port != _PORTS[kind]:
        raise NotAllowed(f"Nothing is fetched from port {port}")
    return Url(kind, host, ip, port, path + query)


def _host(text: str) -> tuple[str, IPv4Address | IPv6Address | None]:
    if text.startswith("["):
        try:
            six = IPv6Address(text[1:-1])
        except AddressValueError as error:
            raise _broken(text) from error
        return str(six), six
    name = canonical_domain(text.removesuffix("."))
    # An address in decimal, octal or hex, or with parts left out, is a name to some readers and
    # an address to others. Seen after mapping: there are digits in other scripts.
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return name, None
    try:
        if not _QUAD.fullmatch(name):
            raise AddressValueError(name)
        four = IPv4Address(name)  # no zeros in front
    except AddressValueError as error:
        raise _broken(text) from error
    return str(four), four


def _broken(text: str) -> Malformed:
    return Malformed("This is no web address", detail=f"{text[:200]!a}")
