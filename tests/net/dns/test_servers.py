"""Which servers are asked: the option, and resolv.conf."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.core.errors import Misuse
from postroom.net.dns import Server, parse_server, system_servers
from postroom.net.dns.resolver import Resolver
from postroom.testing.clock import ManualClock


@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_server_survives_its_text(ip: object, port: int) -> None:
    server = Server(ip_address(str(ip)), port)
    assert parse_server(str(server)) == server


@given(st.ip_addresses())
def test_the_port_may_be_left_out(ip: object) -> None:
    address = ip_address(str(ip))
    text = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    assert parse_server(text) == Server(address, 53)


@given(st.text(alphabet="0123456789.:[]af%x ١", max_size=30))
def test_any_other_text_is_misuse(text: str) -> None:
    try:
        server = parse_server(text)
    except Misuse:
        return
    # What is taken means the same when it is written again.
    assert parse_server(str(server)) == server
    assert 0 < server.port <= 65535


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "localhost:53",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:5_3",
        "192.0.2.1:+53",
        "192.0.2.1: 53",
        "192.0.2.1:٥٣",
        "192.0.2.1:53:53",
        "::1",
        "2001:db8::1:53",
        "[::1",
        "[::1]53",
        "[::1]:",
        "[192.0.2.1]:53",
        "[]:53",
        " 192.0.2.1",
    ],
)
def test_what_names_no_server_is_misuse(text: str) -> None:
    with pytest.raises(Misuse):
        parse_server(text)


def test_a_scope_becomes_an_interface() -> None:
    name = socket.if_nameindex()[0][1]
    server = parse_server(f"[fe80::1%{name}]:53")
    assert server.address == ("fe80::1", 53, 0, socket.if_nametoindex(name))
    assert parse_server("[fe80::1%7]").address == ("fe80::1", 53, 0, 7)
    with pytest.raises(OSError):
        assert parse_server("[fe80::1%nosuchinterface]").address


def test_resolv_conf_names_servers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\n"
        "search example.org\noptions ndots:5 rotate\nnameserver\n"
        "nameserver ns.example\n  nameserver 192.0.2.1 # the first\n"
        "nameserver 2001:db8::1\nnameserver fe80::1%7\nnameserver 192.0.2.4\n"
    )
    assert [str(server) for server in system_servers(str(path))] == [
        "192.0.2.1:53",
        "[2001:db8::1]:53",
        "[fe80::1%7]:53",
    ]


@pytest.mark.parametrize("text", [None, "", "search example.org\n", "nameserver \xff\n"])
def test_without_a_server_the_local_one_is_asked(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "resolv.conf"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    assert system_servers(str(path)) == (parse_server("127.0.0.1"),)


def test_a_resolver_knows_the_machines_servers(clock: ManualClock) -> None:
    assert Resolver(clock).servers == system_servers()
    with pytest.raises(Misuse):
        Resolver(clock, servers=[])
