"""tools.extensions: the table of IMAP extensions is what is declared."""

from __future__ import annotations

from pathlib import Path

from postroom.protocols.imap.capabilities import ANY, SIGNED_IN, Capability
from tools import extensions
from tools.extensions import DECLINED, NOT_YET, render, untested

DOCS = Path(__file__).parents[2] / "docs"

OFFERED = (*ANY, *SIGNED_IN)


def test_every_capability_has_its_row_with_rfc_and_tests() -> None:
    index = {(each.rfc, ""): frozenset({"tests/a.py"}) for each in OFFERED}
    text = render(OFFERED, index)
    for each in OFFERED:
        assert f"| `{each.name}` | [RFC {each.rfc}]" in text
    assert text.count("| offered | `a.py` |") == len(OFFERED)


def test_what_is_offered_is_no_longer_awaited() -> None:
    for name, (rfc, when) in NOT_YET.items():
        (line,) = (line for line in render([], {}).splitlines() if f"| `{name}` |" in line)
        assert f"[RFC {rfc}]" in line
        assert line.endswith(f"| {when} | |")
        (line,) = (
            line
            for line in render([Capability(name, rfc)], {}).splitlines()
            if f"| `{name}` |" in line
        )
        assert "| offered |" in line


def test_what_is_declined_says_why() -> None:
    for name, (_, why) in DECLINED.items():
        assert f"| `{name}` |" in render([], {})
        assert (DOCS / why).is_file()


def test_a_capability_that_no_test_names_is_a_finding() -> None:
    (found,) = untested([Capability("X", 9999)], {(1, ""): frozenset({"tests/a.py"})})
    assert "RFC 9999" in str(found)


def test_the_page_is_current() -> None:
    assert extensions.main(["--check"]) == 0
