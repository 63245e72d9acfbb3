"""The published validation tests of ARC: tests/vectors/arc."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.trust.chains import verify
from tests.trust.zones import Dns

SUITE = Path(__file__).parents[1] / "vectors" / "arc" / "validation-tests-part.yml"
EXCEPTIONS = {
    # RFC 8617 §4.1.2 takes h= from DKIM, and RFC 6376 §5.4 wants the author signed.
    "ams_fields_h_empty": "fail",
    # An empty name in h= is against the grammar of RFC 6376 §3.5; our DKIM has no meaning for it.
    "ams_fields_h_mis_hdr": "fail",
}


@dataclass(frozen=True)
class Case:
    """One test of the suite with the keys of its section."""

    name: str
    said: dict[str, Any]
    keys: dict[str, str]


def load() -> list[Case]:
    with SUITE.open(encoding="utf-8") as file:
        sections = list(yaml.safe_load_all(file))
    return [
        Case(name, said, section["txt-records"])
        for section in sections
        for name, said in section["tests"].items()
    ]


CASES = load()


def test_the_suite_is_the_one_we_know() -> None:
    assert len(CASES) == 87
    assert set(EXCEPTIONS) < {case.name for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_suite(case: Case) -> None:
    dns = Dns()
    for name, text in case.keys.items():
        dns.add(name, "TXT", text)
    found = await verify(case.said["message"].replace("\n", "\r\n").encode(), dns)
    wanted = str(case.said["cv"]).lower()
    assert wanted != EXCEPTIONS.get(case.name)
    assert found.code.value == EXCEPTIONS.get(case.name, wanted), found.reason
