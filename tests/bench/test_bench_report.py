"""The arithmetic and the page of the report; the floor; one whole small run."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from bench.__main__ import main
from bench.model import BenchError, Goal, Measure, Options, Row, Sample, percentile
from bench.peers.bare import Bare
from bench.peers.disc import GroupCommit
from bench.report import BEGIN, END, Machine, as_json, as_table, write_into
from bench.runner import Outcome, compare, reached, run
from bench.workloads.smtp import Accept

MACHINE = Machine(2, 4.0, "6.1", "3.11", "ext4", 0.5, {"postfix": "3.7"}, "Others used it.")
WHEN = datetime(2026, 1, 12, 8, tzinfo=UTC)


def row(target: str, values: list[float], *, higher: bool, goal: Goal | None) -> Row:
    measure = Measure("key", "a title", "ms", higher, goal)
    return Row("load", measure, target, [Sample(value, {"p99 ms": value}) for value in values])


def test_percentile_is_the_nearest_rank() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(("higher", "ratio"), [(True, 4.0), (False, 0.25)])
def test_a_ratio_above_one_is_better_whichever_way_is_up(higher: bool, ratio: float) -> None:
    goal = Goal("peer", 4.0)
    ours = row("postroom", [30.0, 40.0, 90.0], higher=higher, goal=goal)
    peer = row("peer", [10.0], higher=higher, goal=goal)
    compare([ours, peer])
    assert ours.ratio == pytest.approx(ratio)
    assert peer.ratio is None
    assert reached(ours, goal) is higher


def test_a_goal_without_its_peer_is_neither_reached_nor_missed() -> None:
    goal = Goal("peer", 4.0)
    ours = row("postroom", [1.0], higher=True, goal=goal)
    compare([ours])
    assert reached(ours, goal) is None


def test_a_bound_needs_no_peer() -> None:
    goal = Goal("peer", at_most=35.0)
    assert reached(row("postroom", [34.0], higher=False, goal=goal), goal) is True
    assert reached(row("postroom", [36.0], higher=False, goal=goal), goal) is False


def outcome() -> Outcome:
    goal = Goal("peer", 2.0, words="2x the peer")
    rows = [
        row("postroom", [10.0, 20.0, 30.0], higher=True, goal=goal),
        row("peer", [5.0], higher=True, goal=goal),
    ]
    compare(rows)
    absent = {("load", "dovecot"): "not installed"}
    return Outcome(rows, absent, [("load", "postfix", "ended with 1")])


def test_the_table_has_median_spread_ratio_goal_and_what_is_missing() -> None:
    table = as_table(outcome(), MACHINE, "python -m bench", WHEN)
    ours = next(line for line in table.splitlines() if "| postroom" in line)
    assert [cell.strip() for cell in ours.split("|")[1:-1]] == [
        *("a title", "postroom", "20.0 ms", "10.0 to 30.0", "4.00", "2x the peer: reached"),
        "p99 ms 20.0",
    ]
    assert "Not measured: dovecot (not installed)." in table
    assert "Failed: postfix in load: ended with 1" in table
    assert "2026-01-12 08:00 UTC" in table
    assert "Others used it." in table


def test_json_has_every_round() -> None:
    shown = json.loads(as_json(outcome(), MACHINE, "python -m bench", WHEN))
    assert shown["rows"][0]["values"] == [10.0, 20.0, 30.0]
    assert shown["rows"][0]["reached"] is True
    assert shown["failed"] == [{"workload": "load", "target": "postfix", "why": "ended with 1"}]


def test_an_outcome_is_told_by_workload() -> None:
    whole = outcome()
    assert as_table(whole.of("load"), MACHINE, "x", WHEN) == as_table(whole, MACHINE, "x", WHEN)
    other = whole.of("other")
    assert (other.rows, other.absent, other.failed) == ([], {}, [])


def test_writing_replaces_only_the_sections_that_were_measured(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nnot yet\n{END}\n### after\n")
    order = ("first", "second", "third")
    write_into(page, {"third": "3\n", "first": "1\n"}, order)
    write_into(page, {"second": "| 2 |\n\nFailed: it.\n", "third": "3, again\n"}, order)
    assert page.read_text() == (
        f"before\n{BEGIN}\n\n### first\n\n1\n\n### second\n\n| 2 |\n\nFailed: it.\n"
        f"\n### third\n\n3, again\n\n{END}\n### after\n"
    )


def test_writing_drops_a_section_whose_workload_is_no_more(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n\n### gone\n\nold\n\n{END}\n")
    write_into(page, {"here": "new\n"}, ("here",))
    assert page.read_text() == f"{BEGIN}\n\n### here\n\nnew\n\n{END}\n"


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_writing_refuses_a_page_without_its_markers(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(BenchError, match="markers"):
        write_into(page, {"load": "new"}, ("load",))
    assert page.read_text() == text


def test_the_manual_has_the_markers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1


def test_group_commit_writes_every_record_once(tmp_path: Path) -> None:
    commit = GroupCommit(tmp_path / "log")

    def work(number: int) -> None:
        for count in range(20):
            commit.append(b"%04d%04d" % (number, count))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    commit.close()
    data = (tmp_path / "log").read_bytes()
    records = [data[at : at + 8] for at in range(0, len(data), 8)]
    assert sorted(records) == sorted(b"%04d%04d" % (n, c) for n in range(8) for c in range(20))


def test_a_run_measures_and_leaves_no_process(tmp_path: Path) -> None:
    found = Outcome()
    options = Options(True, 2, 0.2, 1, 1, 1, frozenset({"bare python"}), tmp_path)
    run(Accept(), options, found, say=lambda text: None)
    assert not found.failed
    assert [line.target for line in found.rows] == ["bare python"] * 3
    assert all(len(line.samples) == 2 and line.value > 0 for line in found.rows)
    left = [child for child in psutil.Process().children() if "bench.peers" in str(child.cmdline())]
    assert left == []


def test_a_target_that_fails_is_reported_and_ended(tmp_path: Path) -> None:
    class Broken(Bare):
        name = "broken"

        def settle(self) -> None:
            raise BenchError("it broke")

    class Load(Accept):
        targets = (Broken,)  # type: ignore[assignment]  # one target where the workload has three

    found = Outcome()
    options = Options(True, 1, 0.2, 1, 1, 1, directory=tmp_path)
    run(Load(), options, found, say=lambda text: None)
    assert found.failed == [("smtp-accept", "broken", "it broke")]
    assert found.rows == []


def test_an_unknown_name_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["no-such-workload"])
    assert ended.value.code == 2
    assert "no workload no-such-workload" in capsys.readouterr().err
