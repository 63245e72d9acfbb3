"""References to RFCs: which count, which are malformed, and the page made from them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.rfc_index import build, main, malformed, references, render
from tools.tree import Source


def source(text: str, path: str = "src/postroom/x.py") -> Source:
    return Source(path, text, ast.parse(""))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see RFC 5321 §4.1.1.3.", [(5321, "4.1.1.3")]),
        ("of RFC 5598 and RFC 5322 §3.6", [(5598, ""), (5322, "3.6")]),
        ("RFC 5321 §4.1, §4.10 and §4.2", [(5321, "4.1"), (5321, "4.10"), (5321, "4.2")]),
        ("# RFC 5321 §2.3.1\nx = None  # (§4.5.5)", [(5321, "2.3.1"), (5321, "4.5.5")]),
        ("RFC 9051 §A.1", [(9051, "A.1")]),
        ("the body is RFC822, see §4", []),
        ("RFC 5321 §2; ARCHITECTURE.md §8 and §9; RFC 2920 §3", [(5321, "2"), (2920, "3")]),
        ("RFC 6120 §4, XEP-0198 §5, §6", [(6120, "4")]),
    ],
)
def test_sections_belong_to_the_rfc_named_last(text: str, found: list[tuple[int, str]]) -> None:
    assert list(references(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "RFC5321 §4.1",
        "RFC-5321",
        "RFC_5321",
        "RFC  5321",
        "as RFC\n5321 says",
        "rfc 5321",
        "RFC 5321 4.1.1",
        "RFC 5321, 4.1.1",
        "RFC 5321 section 4.1",
        "RFC 5321, Section 4.1",
        "RFC 5321 (sec. 4)",
        "RFC 5321§4.1",
        "RFC 5321, §4.1",
        "RFC 5321 § 4.1",
    ],
)
def test_other_ways_to_write_a_reference_are_findings(text: str) -> None:
    findings = list(malformed(source(f"\n{text}")))
    assert len(findings) == 1
    assert findings[0].line == 2


@pytest.mark.parametrize(
    "text",
    [
        "RFC822.SIZE",
        "RFC822_SIZE = 1",
        "rfc 822;a@b",
        "RFC 5321 §4.1 and 550 5.7.1",
        "RFC 2369, RFC 2919",
        "message/rfc822",
    ],
)
def test_what_is_well_written_passes(text: str) -> None:
    assert not list(malformed(source(text)))


def test_sections_are_in_the_order_of_numbers_and_parted_into_code_and_tests() -> None:
    page = render(
        build(
            [
                source("RFC 5321 §4.10 RFC 5321 §4.2 RFC 5321 §A RFC 5321"),
                source("RFC 5321 §4.2", "tests/test_x.py"),
                source("RFC 822 §3"),
            ]
        )
    )
    rows = [line for line in page.splitlines() if line.startswith(("| §", "| whole", "## "))]
    assert rows == [
        "## RFC 822",
        "| §3 | `x.py` |  |",
        "## RFC 5321",
        "| whole | `x.py` |  |",
        "| §4.2 | `x.py` | `test_x.py` |",
        "| §4.10 | `x.py` |  |",
        "| §A | `x.py` |  |",
    ]


def test_a_new_reference_makes_the_page_stale(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    code = tmp_path / "src" / "x.py"
    code.parent.mkdir()
    code.write_text('"""RFC 5321 §4.1."""\n')
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    examples = tmp_path / "tests/tools/test_x.py"
    examples.parent.mkdir(parents=True)
    examples.write_text('"""RFC 5321 §9."""\n')
    assert main(["--check"], tmp_path) == 0
    code.write_text('"""RFC 5321 §4.2."""\n')
    assert main(["--check"], tmp_path) == 1
