"""The PROXY protocol, versions 1 and 2: how a proxy in front of us says who its client is.

Pure and bounded: octets in, a `Route` out. Whose header is believed is decided elsewhere.
Written after the specification that HAProxy publishes as proxy-protocol.txt: section 2.1 is
version 1, a line, section 2.2 is version 2, binary.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

from postroom.core.errors import Malformed, Misuse

Ip: TypeAlias = IPv4Address | IPv6Address
Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

LONGEST_LINE: Final = 107  # octets of version 1 with its CRLF
LONGEST_BLOCK: Final = 4096  # octets of version 2 behind its first 16; what is known needs 600

_LINE: Final = b"PROXY "
_KINDS: Final[dict[bytes, type[Ip]]] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_HEAD: Final = struct.Struct("!12sBBH")  # signature, version and command, family, length
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED: Final = 0x00
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESSES: Final = {  # by family and transport: octets of the addresses
    **{_TCP4: 12, 0x12: 12},
    **{_TCP6: 36, 0x22: 36},
    **{0x31: 216, 0x32: 216},
}
_FOUR: Final = struct.Struct("!4s4sHH")
_SIX: Final = struct.Struct("!16s16sHH")
_EXTENSION: Final = struct.Struct("!BH")  # type, length
_CRC32C: Final = 0x03  # section 2.2.3


@dataclass(frozen=True, slots=True)
class Route:
    """Where a connection came from and went to before the proxy took it.

    IPv4 inside IPv6 is shown as IPv4, so that no rule can be walked around.
    """

    ip: Ip
    port: int
    local_ip: Ip
    local_port: int


class HeaderReader:
    """Reads one header, however it is chopped, and not an octet more.

    `route` is None where the proxy names no client with an address: it speaks for itself
    (LOCAL, a health check), or of a connection that is not TCP over IP (UNKNOWN, UNSPEC, a
    unix socket). The endpoints of the connection itself then count.
    """

    __slots__ = ("_need", "_read", "done", "route")

    def __init__(self) -> None:
        self._read = bytearray()
        self._need = 0  # octets of the whole header; 0: not known yet
        self.done = False
        self.route: Route | None = None

    @property
    def begun(self) -> bool:
        """True once an octet has been read."""
        return bool(self._read)

    def feed(self, ahead: bytes) -> int:
        """How many of the octets `ahead`, of which there is one at least, belong to the header.

        The others are to be offered again, to whoever reads on. Raises Malformed, as soon as
        no header can come of it.
        """
        read = self._read
        first = read[0] if read else ahead[0]
        if first == _LINE[0]:
            end = ahead.find(b"\n", 0, LONGEST_LINE - len(read))
            taken = len(ahead) if end < 0 else end + 1
            read += ahead[:taken]
            _begins(read, _LINE)
            if end >= 0:
                self.route = _line(bytes(read))
                self.done = True
            elif len(read) >= LONGEST_LINE:
                raise Malformed("The PROXY line is too long")
            return taken
        taken = 0
        if len(read) < _HEAD.size:
            taken = min(_HEAD.size - len(read), len(ahead))
            read += ahead[:taken]
            _begins(read, _SIGNATURE)
            if len(read) < _HEAD.size:
                return taken
            self._need = _HEAD.size + _block_size(bytes(read))
        more = ahead[taken : taken + self._need - len(read)]
        read += more
        if len(read) == self._need:
            self.route = _block(bytes(read))
            self.done = True
        return taken + len(more)


def parse_networks(text: str) -> Networks:
    """Networks as CIDR or single addresses, between commas or spaces. Raises Misuse."""
    networks: list[IPv4Network | IPv6Network] = []
    for word in text.replace(",", " ").split():
        try:
            network = ip_network(word)
        except ValueError as error:
            raise Misuse(f"{word} is no network: {error}") from None
        if "%" in word:
            raise Misuse(f"{word} is no network: peers are known without a zone")
        if isinstance(network, IPv6Network):
            mapped = network.network_address.ipv4_mapped
            if mapped is not None and network.prefixlen >= 96:  # as peers are shown
                network = IPv4Network((mapped, network.prefixlen - 96))
        networks.append(network)
    return tuple(networks)


def plain(ip: Ip) -> Ip:
    """IPv4 that is written as IPv6 becomes IPv4."""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return mapped or ip


def _begins(read: bytearray, with_: bytes) -> None:
    if not with_.startswith(read[: len(with_)]):
        raise Malformed("This is no PROXY header")


def _line(line: bytes) -> Route | None:
    """Version 1, a whole line."""
    if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
        raise Malformed("A PROXY line ends in CRLF")
    words = line[:-2].split(b" ")
    if words[1] == b"UNKNOWN":
        return None  # whatever follows it
    kind = _KINDS.get(words[1])
    if kind is None or len(words) != 6:
        raise Malformed("The PROXY line is not of TCP4, TCP6 or UNKNOWN")
    ip, local_ip = _address(words[2], kind), _address(words[3], kind)
    return Route(ip, _port(words[4]), local_ip, _port(words[5]))


def _address(word: bytes, kind: type[Ip]) -> Ip:
    try:
        ip = kind(word.decode("ascii"))
    except ValueError:
        raise Malformed("The PROXY line has a broken address") from None
    if b"%" in word:
        raise Malformed("The PROXY line has an address with a zone")
    return plain(ip)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[0] == 0x30 and len(word) > 1):
        raise Malformed("The PROXY line has a broken port")
    port = int(word)
    if port > 65535:
        raise Malformed("The PROXY line has a broken port")
    return port


def _block_size(head: bytes) -> int:
    """Octets that follow the first 16 of version 2."""
    _, command, family, size = _HEAD.unpack(head)
    if command not in (_LOCAL, _PROXY):
        raise Malformed("The PROXY header is of an unknown version or command")
    if size > LONGEST_BLOCK:
        raise Malformed("The PROXY header is too long")
    if command == _PROXY and family != _UNSPECIFIED:
        least = _ADDRESSES.get(family)
        if least is None:
            raise Malformed("The PROXY header is of an unknown family")
        if size < least:
            raise Malformed("The PROXY header is too short for its addresses")
    return int(size)


def _block(header: bytes) -> Route | None:
    """Version 2, a whole header."""
    _, command, family, _ = _HEAD.unpack_from(header)
    if command == _LOCAL or family == _UNSPECIFIED:
        return None  # the rest is to be skipped, whatever it is
    _extensions(header, _HEAD.size + _ADDRESSES[family])
    if family == _TCP4:
        source, target, port, local_port = _FOUR.unpack_from(header, _HEAD.size)
        return Route(IPv4Address(source), port, IPv4Address(target), local_port)
    if family == _TCP6:
        source, target, port, local_port = _SIX.unpack_from(header, _HEAD.size)
        return Route(plain(IPv6Address(source)), port, plain(IPv6Address(target)), local_port)
    return None


def _extensions(header: bytes, position: int) -> None:
    """Walk over the extensions (TLVs): they must fill the rest, and a checksum must hold."""
    checked = False
    while position < len(header):
        if len(header) - position < _EXTENSION.size:
            raise Malformed("The PROXY header ends inside an extension")
        kind, size = _EXTENSION.unpack_from(header, position)
        position += _EXTENSION.size
        if size > len(header) - position:
            raise Malformed("The PROXY header ends inside an extension")
        if kind == _CRC32C:
            if size != 4 or checked:
                raise Malformed("The PROXY header has a broken checksum")
            checked = True
            zeroed = header[:position] + bytes(4) + header[position + 4 :]
            if crc32c(zeroed) != int.from_bytes(header[position : position + 4], "big"):
                raise Malformed("The PROXY header is not what its checksum says")
        position += size


def _table() -> tuple[int, ...]:
    entries = []
    for number in range(256):
        entry = number
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


_TABLE: Final = _table()


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, for a few KiB. RFC 4960 §B."""
    table, crc = _TABLE, 0xFFFFFFFF
    for octet in data:
        crc = table[(crc ^ octet) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
