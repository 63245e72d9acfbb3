"""Which DNS servers to ask: one that the operator names, or the machine's own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from postroom.core.errors import Misuse

PORT: Final = 53
RESOLV_CONF: Final = "/etc/resolv.conf"
MOST: Final = 3  # nameserver lines that count; resolv.conf(5)

_log: FilteringBoundLogger = structlog.get_logger("postroom.net.dns")


@dataclass(frozen=True, slots=True)
class Server:
    """A recursive DNS server, over UDP and TCP."""

    ip: IPv4Address | IPv6Address
    port: int = PORT

    def __str__(self) -> str:
        host = f"[{self.ip}]" if isinstance(self.ip, IPv6Address) else str(self.ip)
        return f"{host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if isinstance(self.ip, IPv6Address) else socket.AF_INET

    @property
    def address(self) -> tuple[str, int] | tuple[str, int, int, int]:
        """What connect() takes. Raises OSError if the interface of a scope is not there."""
        if isinstance(self.ip, IPv4Address):
            return str(self.ip), self.port
        scope = self.ip.scope_id
        if scope is None:
            return str(self.ip), self.port, 0, 0
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
        return str(IPv6Address(int(self.ip))), self.port, 0, index


def parse_server(text: str) -> Server:
    """`192.0.2.1`, `192.0.2.1:5353`, `[2001:db8::1]` or `[2001:db8::1]:5353`. Raises Misuse."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        version, well = 6, bool(bracket) and colon in ("", ":")
    else:
        host, colon, port = text.partition(":")
        version, well = 4, True
    try:
        ip = ip_address(host)
    except ValueError:
        well = False
    else:
        well = well and ip.version == version
    digits = port.isascii() and port.isdecimal() and len(port) <= 5
    if not well or bool(colon) != bool(port) or (colon and not digits):
        raise Misuse(f"{text!a} is no ADDR:PORT of a DNS server; IPv6 goes in brackets")
    number = int(port) if port else PORT
    if not 0 < number <= 65535:
        raise Misuse(f"{text!a} names no port")
    return Server(ip, number)


def system_servers(path: str = RESOLV_CONF) -> tuple[Server, ...]:
    """The machine's servers, at most 3; the local one if none is named. resolv.conf(5)

    Search lists and options do not concern us: mail knows only absolute names.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            servers = tuple(_named(file))[:MOST]
    except OSError as error:
        _log.warning("no resolv.conf; asking the local DNS server", reason=str(error))
        servers = ()
    return servers or (Server(IPv4Address("127.0.0.1")),)


def _named(lines: Iterable[str]) -> Iterable[Server]:
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            yield Server(ip_address(words[1]))
        except ValueError:
            _log.warning("a nameserver is not an address; passed over", text=words[1][:80])
