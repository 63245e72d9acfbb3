"""The whole published suite of RFC 7208: tests/vectors/spf."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from postroom.trust.spf import Client, Identity, check_host
from tests.trust.zones import Dns

SUITE = Path(__file__).parents[1] / "vectors" / "spf" / "rfc7208-tests.yml"
NO_EXPLANATION = "DEFAULT"  # the suite's word for a checker's own text


@dataclass(frozen=True)
class Case:
    """One test of the suite with the zone data of its section."""

    name: str
    said: dict[str, Any]
    zones: dict[str, list[Any]]

    @property
    def results(self) -> list[str]:
        found = self.said["result"]
        return found if isinstance(found, list) else [found]


def load() -> list[Case]:
    with SUITE.open(encoding="utf-8") as file:
        sections = list(yaml.safe_load_all(file))
    return [
        Case(f"{name}", said, section["zonedata"])
        for section in sections
        for name, said in section["tests"].items()
    ]


def dns_of(zones: dict[str, list[Any]]) -> Dns:
    """Zone data as the suite means it.

    A record of the type SPF stands for a TXT record where there is no other, and `TXT: NONE`
    forbids that. TIMEOUT is what happens to a question for anything else.
    """
    dns = Dns()
    for name, entries in zones.items():
        pairs = [pair for entry in entries if entry != "TIMEOUT" for pair in entry.items()]
        kinds = {kind for kind, _ in pairs}
        for kind, value in pairs:
            if kind == "SPF" and "TXT" not in kinds:
                dns.add(name, "TXT", value)
            elif kind != "SPF" and value != "NONE":
                dns.add(name, kind, value)
        if "TIMEOUT" in entries:
            answered = {kind for kind, value in pairs if value != "NONE"}
            for kind in {"TXT", "A", "AAAA", "MX", "PTR"} - answered:
                dns.fail(name, kind)
    return dns


CASES = load()


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 203


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_case(case: Case) -> None:
    said = case.said
    client = Client(ip_address(said["host"]), said["helo"], "mx.receiver.example", 1_700_000_000)
    sender = said["mailfrom"] or f"postmaster@{said['helo']}"
    local, _, domain = sender.rpartition("@")
    found = await check_host(dns_of(case.zones), client, domain, local, Identity.MAIL_FROM)
    assert found.result in case.results, found
    explanation = said.get("explanation")
    if explanation == NO_EXPLANATION:
        assert found.explanation == ""
    elif explanation is not None:
        assert found.explanation == explanation
