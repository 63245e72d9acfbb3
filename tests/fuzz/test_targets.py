"""Every fuzz target holds for its seeds and a few hundred inputs, in each run of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.fuzzing import fuzz, load

TARGETS = sorted(Path(__file__).parent.glob("fuzz_*.py"))


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_nothing_is_found_in_a_moment(path: Path) -> None:
    outcome = fuzz(load(path), seconds=0.5, seed=0)
    assert not outcome.crashes
    assert outcome.runs > len(load(path).seeds)


@pytest.mark.parametrize("path", TARGETS, ids=lambda path: path.stem)
def test_a_target_says_what_it_fuzzes(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith('"""')
    seeds = load(path).seeds
    assert len(set(seeds)) == len(seeds)
