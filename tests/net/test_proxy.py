from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.core.errors import Malformed, Misuse
from postroom.net.proxy import HeaderReader, Route, crc32c, parse_networks

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
V4 = Route(IPv4Address("192.0.2.1"), 4711, IPv4Address("198.51.100.2"), 25)
V6 = Route(IPv6Address("2001:db8::1"), 65535, IPv6Address("2001:db8::2"), 0)


def line(route: Route) -> bytes:
    kind = "TCP4" if route.ip.version == 4 else "TCP6"
    return (
        f"PROXY {kind} {route.ip} {route.local_ip} {route.port} {route.local_port}\r\n"
    ).encode()


def block(route: Route) -> bytes:
    ports = struct.pack("!HH", route.port, route.local_port)
    return route.ip.packed + route.local_ip.packed + ports


def binary(
    body: bytes, *, command: int = 0x21, family: int = 0x11, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body


def of(route: Route, extensions: bytes = b"") -> bytes:
    return binary(block(route) + extensions, family=0x11 if route.ip.version == 4 else 0x21)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def read(data: bytes, step: int = 1 << 20) -> tuple[HeaderReader, int]:
    """The reader after `data` in steps, and how much of it belonged to the header."""
    reader, taken = HeaderReader(), 0
    while not reader.done and taken < len(data):
        ahead = data[taken : taken + step]
        used = reader.feed(ahead)
        assert 0 < used <= len(ahead)
        assert used == len(ahead) or reader.done
        taken += used
    return reader, taken


@pytest.mark.parametrize("step", [1, 3, 16, 1000])
@pytest.mark.parametrize(
    ("header", "route"),
    [
        (line(V4), V4),
        (line(V6), V6),
        (of(V4), V4),
        (of(V6), V6),
        (of(V4, tlv(0x04, b"") + tlv(0x05, b"id" * 60) + tlv(0xE0, b"x" * 3000)), V4),
        (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 2001:db8::2 65535 0\r\n", V6),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 whatever 0 70000\r\n", None),
        (binary(b"", command=0x20, family=0x00), None),
        (binary(b"\xff" * 50, command=0x20, family=0x99), None),  # LOCAL: all is ignored
        (binary(b"", family=0x00), None),
        (binary(b"junk", family=0x00), None),
        (binary(b"/a".ljust(216, b"\0"), family=0x31), None),
        (binary(b"/a".ljust(216, b"\0"), family=0x32), None),
        (binary(block(V4), family=0x12), None),  # no connection is UDP
        (binary(block(V6), family=0x22), None),
    ],
)
def test_a_header_is_read_to_its_end_and_no_further(
    header: bytes, route: Route | None, step: int
) -> None:
    for rest in (b"", b"EHLO me\r\n", b"\x16\x03\x01\x02\x00", header):
        reader, taken = read(header + rest, step)
        assert reader.done
        assert reader.route == route
        assert taken == len(header)


def test_ipv4_in_ipv6_is_shown_as_ipv4() -> None:
    inside = Route(IPv6Address("::ffff:192.0.2.1"), 4711, IPv6Address("::ffff:198.51.100.2"), 25)
    assert read(line(inside))[0].route == V4
    assert read(of(inside))[0].route == V4


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO me\r\n",
        b"\x16\x03\x01\x02\x00",
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n",
        b"PROXY UNKNOWN\rx\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 localhost 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.１ 192.0.2.2 1 2\r\n".encode(),
        b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1_0 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xb2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",  # 108 octets
        b"PROXY UNKNOWN " + b"x" * 5000,
        SIGNATURE[:-1] + b"\r" + b"\x21\x11\x00\x0c" + block(V4),
        binary(block(V4), command=0x11),
        binary(block(V4), command=0x31),
        binary(block(V4), command=0x22),
        binary(block(V4), family=0x10),
        binary(block(V4), family=0x13),
        binary(block(V4), family=0x01),
        binary(block(V4), family=0x41),
        binary(block(V4)[:-1]),
        binary(block(V4), family=0x21),
        binary(block(V4), family=0x31),
        binary(b"", length=4097, family=0x00),
        binary(b"", length=65535, command=0x20),
        of(V4, b"\x04"),
        of(V4, b"\x04\x00"),
        of(V4, b"\x04\x00\x01"),
        of(V4, tlv(0x04, b"x") + b"\x04\xff\xff"),
        of(V4, tlv(0x03, b"\0\0\0\0")),
        of(V4, tlv(0x03, b"\0\0\0")),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    for step in (1, 7, 1 << 20):
        with pytest.raises(Malformed):
            read(header + b"\r\nEHLO me\r\n", step)


def test_the_longest_line_of_the_specification_is_taken() -> None:
    words = " ".join(["ffff:" * 7 + "ffff"] * 2)
    longest = f"PROXY UNKNOWN {words} 65535 65535\r\n".encode()
    assert len(longest) == 107
    reader, taken = read(longest + b"\n")
    assert (reader.done, taken) == (True, 107)


def test_what_cannot_become_a_header_is_refused_at_once() -> None:
    for start in (b"E", b"PX", SIGNATURE[:4] + b"x", b"\r\r"):
        with pytest.raises(Malformed):
            HeaderReader().feed(start)
    for begin in (b"P", b"PROXY ", SIGNATURE, of(V4)[:-1], line(V4)[:-1]):
        reader = HeaderReader()
        assert reader.feed(begin) == len(begin)
        assert not reader.done


def test_a_checksum_is_held_against_the_whole_header() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of this polynomial
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720 §B.4

    def signed(route: Route, extra: bytes) -> bytes:
        zeroed = of(route, extra + tlv(0x03, bytes(4)))
        return zeroed[:-4] + crc32c(zeroed).to_bytes(4, "big")

    for route in (V4, V6):
        header = signed(route, tlv(0x02, b"mail.example"))
        assert read(header)[0].route == route
        marks = len(header) - 7  # turned into another extension, there is no checksum
        for position in (n for n in range(16, len(header)) if n != marks):
            forged = bytearray(header)
            forged[position] ^= 0x01
            with pytest.raises(Malformed):
                read(bytes(forged))
    double = signed(V4, tlv(0x03, bytes(4)))
    with pytest.raises(Malformed):
        read(double)


addresses = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)
ports = st.integers(0, 65535)


@settings(max_examples=200)
@given(
    addresses,
    ports,
    ports,
    st.lists(st.tuples(st.integers(0, 255).filter(lambda n: n != 3), st.binary(max_size=40))),
    st.binary(max_size=30),
    st.integers(1, 60),
)
def test_any_route_comes_back_from_both_versions(
    ends: tuple[IPv4Address, IPv4Address] | tuple[IPv6Address, IPv6Address],
    port: int,
    local_port: int,
    extensions: list[tuple[int, bytes]],
    rest: bytes,
    step: int,
) -> None:
    route = Route(ends[0], port, ends[1], local_port)
    tlvs = b"".join(tlv(kind, value) for kind, value in extensions)
    shown = Route(_plain(ends[0]), port, _plain(ends[1]), local_port)
    for header in (line(route), of(route, tlvs)):
        reader, taken = read(header + rest, step)
        assert reader.route == shown
        assert taken == len(header)


def _plain(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    return ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip


# --- networks -----------------------------------------------------------------------------


def test_networks_are_read_as_peers_are_shown() -> None:
    assert parse_networks("") == ()
    assert parse_networks("10.0.0.0/8, 192.0.2.7 2001:db8::/32,::1") == (
        ip_network("10.0.0.0/8"),
        ip_network("192.0.2.7/32"),
        ip_network("2001:db8::/32"),
        ip_network("::1/128"),
    )
    (mapped,) = parse_networks("::ffff:10.0.0.0/104")
    assert ip_address("10.1.2.3") in mapped


@pytest.mark.parametrize(
    "text", ["10.0.0.1/8", "10.0.0.0/33", "proxy.example", "fe80::1%eth0", "*"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(Misuse):
        parse_networks(f"::1, {text}")
