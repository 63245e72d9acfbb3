"""The runner of the proofs: what it finds, runs, reports and writes down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import verify
from tools.tree import ROOT
from tools.verification import Form, Report
from tools.verify import groups, load, main, written

GOOD = Report(("what", "count"), (("kills", "12"),))
BAD = Report(("what", "count"), (("kills", "3"),), ("a message was lost",))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with the groups `bad` and `good`."""
    folder = tmp_path / "tests/verify"
    folder.mkdir(parents=True)
    for name in ("good", "bad", "_shared", "conftest", "test_other"):
        (folder / f"{name}.py").write_text(f'"""About {name}."""\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / verify.DOCUMENT).write_text("# Proved\n")
    return tmp_path


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Form]]:
    """What was run, instead of running it."""
    ran: list[tuple[str, Form]] = []

    def run_group(name: str, form: Form) -> Report:
        ran.append((name, form))
        return GOOD if name == "good" else BAD

    monkeypatch.setattr(verify, "run_group", run_group)
    return ran


def test_every_group_of_the_project_can_be_run() -> None:
    found = groups(ROOT)
    assert {"fuzz", "crash"} <= set(found)
    for name in found:
        assert callable(load(name).run)


def test_groups_are_the_modules_that_are_no_support(checkout: Path) -> None:
    assert groups(checkout) == ("bad", "good")


def test_without_names_all_groups_run_in_the_long_form(
    checkout: Path, forms: list[tuple[str, Form]]
) -> None:
    assert main([], checkout) == 1
    assert forms == [("bad", Form.LONG), ("good", Form.LONG)]


def test_a_named_group_runs_alone_and_its_numbers_are_printed(
    checkout: Path, forms: list[tuple[str, Form]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--form", "short", "good"], checkout) == 0
    assert forms == [("good", Form.SHORT)]
    assert "| kills | 12 |" in capsys.readouterr().out


@pytest.mark.usefixtures("forms")
def test_a_failure_is_named_and_its_numbers_are_not_written(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--write"], checkout) == 1
    assert "FAILED bad: a message was lost" in capsys.readouterr().err
    document = (checkout / verify.DOCUMENT).read_text()
    assert "| kills | 12 |" in document
    assert "About good." in document
    assert "bad" not in document


def test_an_unknown_group_is_misuse(checkout: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["god"], checkout)
    assert raised.value.code == 2


def test_groups_run_beside_each_other_in_processes_of_their_own(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    # What stands for the tool says what it was asked for, once both are there.
    (tools / "verify.py").write_text(
        "import sys, time\nfrom pathlib import Path\n"
        "name = sys.argv[-1]\nPath(name).touch()\nends = time.monotonic() + 30\n"
        "while not (Path('good').exists() and Path('bad').exists()):\n"
        "    assert time.monotonic() < ends\n    time.sleep(0.01)\n"
        "print(*sys.argv[1:])\nsys.exit(name == 'bad')\n"
    )
    assert main(["--form", "short", "--at-once", "2"], checkout) == 1
    said = capsys.readouterr()
    assert sorted(said.out.splitlines()) == ["--form short bad", "--form short good"]
    assert "1 did not hold" in said.err


def test_numbers_of_groups_that_ran_beside_others_are_not_written(checkout: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--write", "--at-once", "2"], checkout)
    assert raised.value.code == 2


def test_a_group_that_raises_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise TypeError(name)

    monkeypatch.setattr(verify, "load", broken)
    assert verify.run_group("x", Form.SHORT).failures


def test_writing_twice_replaces_the_section_and_nothing_else() -> None:
    once = written("# Proved\n\nIntroduction.\n", "fuzz", "Octets.", r"1 \d")
    both = written(once, "crash", "Kills.", "2")
    again = written(both, "fuzz", "Octets.", r"3 \g<0>")
    assert again == both.replace(r"1 \d", r"3 \g<0>")
    assert again.startswith("# Proved\n\nIntroduction.\n\n## fuzz\n\nOctets.\n")


def test_a_report_is_a_table_with_its_numbers_to_the_right() -> None:
    assert GOOD.table() == "| what | count |\n| --- | ---: |\n| kills | 12 |"
