"""postroom.server.options: what `serve` and `ready` take."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from postroom.core.errors import Misuse
from postroom.net.dns import Server
from postroom.server.options import Given, parse_ready, parse_serve
from postroom.server.reach import Reach


def test_without_options_the_defaults_hold() -> None:
    assert parse_serve([]) == Given(
        "./data", 0, (), os.cpu_count() or 1, "example.test", None, "text"
    )
    assert parse_ready([]) == ("./data", 30.0)


def test_options_as_given() -> None:
    words = (
        "--data d --port-offset 20000 --bind ::1 --bind 192.0.2.1 --workers 3 --domain x.example"
    )
    given = parse_serve([*words.split(), "--user", "mail", "--log-format", "json"])
    assert given == Given("d", 20000, ("::1", "192.0.2.1"), 3, "x.example", "mail", "json")
    assert parse_ready(["--timeout", "0.5", "--data=x"]) == ("x", 0.5)


def test_the_world_outside_as_given() -> None:
    words = (
        "--resolver [2001:db8::1]:5353 --outbound-port 20026 --outbound-https-port 20444 "
        "--ca-file ca.pem "
        "--egress-allow 10.0.0.0/8,192.0.2.7 --egress-allow fd00::/8 --proxy-from 192.0.2.0/24"
    )
    assert parse_serve(words.split()).reach == Reach(
        resolver=Server(ip_address("2001:db8::1"), 5353),
        outbound_port=20026,
        outbound_https_port=20444,
        egress_allow=(
            ip_network("10.0.0.0/8"),
            ip_network("192.0.2.7/32"),
            ip_network("fd00::/8"),
        ),
        ca_file="ca.pem",
        proxy_from=(ip_network("192.0.2.0/24"),),
    )


def test_a_ca_file_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="nowhere"):
        Reach(ca_file=str(tmp_path / "nowhere.pem")).check()
    (tmp_path / "empty.pem").write_bytes(b"")
    with pytest.raises(Misuse):
        Reach(ca_file=str(tmp_path / "empty.pem")).check()
    Reach().check()


@pytest.mark.parametrize(
    "words",
    [
        "--port-offset many",
        "--port-offset -1",
        "--port-offset 70000",
        "--workers x",
        "--log-format xml",
        "--work 3",  # no abbreviations
        "extra",
        "--resolver dns.example",
        "--resolver 192.0.2.1:none",
        "--outbound-port 0",
        "--outbound-port 65536",
        "--egress-allow 10.0.0.1/8",
        "--proxy-from everywhere",
    ],
)
def test_what_cannot_be_is_misuse(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_serve(words.split())
    assert ended.value.code == 2
    assert "postroom serve: error" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--timeout soon", "--timeout -1", "--timeout nan", "--workers 2"]
)
def test_ready_takes_only_seconds(words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_ready(words.split())
    assert ended.value.code == 2
