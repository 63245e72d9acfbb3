"""What the workload `dkim` compares: both sign, and each verifies what the other signed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bench.model import Row, Sample
from bench.peers import signers
from bench.peers.signers import Dkimpy, OurSigner
from bench.report import Machine, as_table
from bench.runner import Outcome, compare
from bench.workloads.signing import Dkim
from postroom.trust.dkim import KINDS

CONTENT = b"From: Ann <ann@bench.example>\r\nTo: bob@b.example\r\nSubject: Note\r\n\r\nText\r\n"


@pytest.fixture
def ours() -> Iterator[OurSigner]:
    made = OurSigner()
    yield made
    made.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_each_verifies_what_the_other_signed(ours: OurSigner, kind: str) -> None:
    theirs = Dkimpy()
    for signer in (ours, theirs):
        signed = signer.sign(kind, CONTENT) + CONTENT
        assert f"a={kind}-sha256".encode() in signed
        for verifier in (ours, theirs):
            assert verifier.verify(signed)
            assert not verifier.verify(signed + b"more\r\n")


def test_the_library_is_locked_with_what_tests_need() -> None:
    """So that the ratio is measured wherever `make bench` runs."""
    assert Dkimpy().missing() is None


def test_where_it_is_absent_the_bench_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signers, "dkimpy", None)
    assert "make setup" in (Dkimpy().missing() or "")


def test_both_kinds_are_measured_beside_the_library() -> None:
    names = {each.key: each.goal for each in Dkim.measures}
    assert set(names) == {
        f"dkim-{what}-{kind}-{size}"
        for what in ("sign", "verify")
        for kind in KINDS
        for size in ("10kb", "5mb")
    }
    goals = {name: goal.factor for name, goal in names.items() if goal is not None}
    assert (goals["dkim-sign-rsa-10kb"], goals["dkim-verify-rsa-10kb"]) == (18.0, 8.0)


@pytest.mark.parametrize(("ours", "said"), ((0.35, "18x dkimpy: reached"), (0.6, ": not reached")))
def test_the_report_says_whether_the_goal_was_reached(ours: float, said: str) -> None:
    (measure,) = [each for each in Dkim.measures if each.key == "dkim-sign-rsa-10kb"]
    rows = [Row("dkim", measure, "our dkim", [Sample(ours)])]
    rows.append(Row("dkim", measure, "dkimpy", [Sample(7.0)]))
    compare(rows)
    machine = Machine(2, 4.0, "6.1", "3.11", "ext4", 0.5, {}, "")
    table = as_table(Outcome(rows), machine, "bench dkim", datetime(2026, 1, 12, tzinfo=UTC))
    assert said in table
