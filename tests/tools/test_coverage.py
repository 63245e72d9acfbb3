"""Which tests prove which rows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import coverage
from tools.coverage import Area, collect, load_inventory, render
from tools.tree import ROOT, Source

KNOWN = frozenset({"SCR-06", "SCR-07", "Q-01"})


def read(text: str, path: str = "tests/test_x.py") -> coverage.Proofs:
    return collect([Source(path, text, ast.parse(text))], KNOWN)


def test_a_marked_test_proves_its_rows() -> None:
    proofs = read(
        "@pytest.mark.rows('SCR-06', 'SCR-07')\n"
        "async def test_cut_off(): ...\n"
        "def test_other(): ...\n"
    )
    assert proofs.tests == {
        "SCR-06": ["tests/test_x.py::test_cut_off"],
        "SCR-07": ["tests/test_x.py::test_cut_off"],
    }
    assert not proofs.findings


def test_a_marked_class_and_a_marked_file_count_for_all_their_tests() -> None:
    proofs = read(
        "pytestmark = [pytest.mark.postgres, pytest.mark.rows('Q-01')]\n"
        "@pytest.mark.rows('SCR-06')\n"
        "class TestSpambots:\n"
        "    pytestmark = pytest.mark.rows('SCR-07')\n"
        "    def test_one(self): ...\n"
        "    def helper(self): ...\n"
        "def test_two(): ...\n"
    )
    one, two = "tests/test_x.py::TestSpambots::test_one", "tests/test_x.py::test_two"
    assert proofs.tests == {"Q-01": [one, two], "SCR-06": [one], "SCR-07": [one]}
    assert not proofs.findings


def test_a_marked_parameter_counts() -> None:
    proofs = read(
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.rows('Q-01'))])\n"
        "def test_one(x): ...\n"
    )
    assert proofs.tests == {"Q-01": ["tests/test_x.py::test_one"]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("@pytest.mark.rows('SCR-99')\ndef test_x(): ...", "SCR-99 is no row"),
        ("@pytest.mark.rows()\ndef test_x(): ...", "names no row"),
        ("@pytest.mark.rows\ndef test_x(): ...", "names no row"),
        ("@pytest.mark.rows(ids='Q-01')\ndef test_x(): ...", "names no row"),
        ("@pytest.mark.rows(*IDS)\ndef test_x(): ...", "plain strings"),
        ("@pytest.mark.rows('Q-01')\ndef helper(): ...", "on no test"),
        ("proves = pytest.mark.rows('Q-01')\n@proves\ndef test_x(): ...", "on no test"),
        ("@pytest.mark.rows('Q-01')\nclass Spambots:\n def test_x(self): ...", "on no test"),
        ("@pytest.mark.skip\n@pytest.mark.rows('Q-01')\ndef test_x(): ...", "marked skip"),
        ("pytestmark = pytest.mark.xfail\n@pytest.mark.rows('Q-01')\ndef test_x(): ...", "xfail"),
    ],
)
def test_what_proves_nothing_is_a_finding(text: str, what: str) -> None:
    proofs = read(text)
    assert not proofs.tests
    assert [what in str(f) for f in proofs.findings] == [True]


def test_a_file_that_pytest_does_not_collect_proves_nothing() -> None:
    proofs = read("@pytest.mark.rows('Q-01')\ndef test_x(): ...", "tests/support.py")
    assert not proofs.tests
    assert len(proofs.findings) == 1


def test_a_row_is_done_only_with_a_test() -> None:
    area = Area("Queues", {"Q-01": "Waiting", "Q-02": "Named"})
    text = render([area], {"Q-01": ["tests/a/test_x.py::test_waits"]})
    assert "**1 of 2 rows are done.**" in text
    assert "| Q-01 | Waiting | done | `a/test_x.py::test_waits` |" in text
    assert "| Q-02 | Named | open |  |" in text


def test_the_inventory_has_every_row_once() -> None:
    areas = load_inventory(ROOT / coverage.INVENTORY)
    rows = [row for area in areas for row in area.rows]
    titles = [title for area in areas for title in area.rows.values()]
    assert len(rows) == len(set(rows)) == 247
    assert len(set(titles)) == 247
    assert all(3 <= len(title.split()) <= 10 and "|" not in title for title in titles)


def test_a_row_in_two_areas_is_refused(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    area = '[[area]]\ntitle = "A"\n[area.rows]\nQ-01 = "Waiting"\n'
    inventory.write_text(area * 2)
    with pytest.raises(ValueError, match="Q-01"):
        load_inventory(inventory)


def test_the_document_is_written_then_checked_then_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    inventory = tmp_path / coverage.INVENTORY
    inventory.write_text('[[area]]\ntitle = "Queues"\n[area.rows]\nQ-01 = "Waiting"\n')
    assert coverage.main(["--check"], tmp_path) == 1
    assert coverage.main([], tmp_path) == 0
    assert coverage.main(["--check"], tmp_path) == 0
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_q.py").write_text("@pytest.mark.rows('Q-01')\ndef test_waits(): ...\n")
    capsys.readouterr()
    assert coverage.main(["--check"], tmp_path) == 1
    assert "coverage.md is stale" in capsys.readouterr().err
