"""The fuzzer finds what is wrong, says how to see it again, and survives what it finds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import fuzzing
from tools.fuzzing import (
    COMMON_TOKENS,
    Mutator,
    Target,
    fuzz,
    fuzz_apart,
    judge,
    load,
    reduce,
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "REDUCING", 0.5)


def target(one_input: Callable[[bytes], None], *seeds: bytes, longest: int = 4096) -> Target:
    return Target("demo", one_input, seeds or (b"hello",), COMMON_TOKENS, longest)


def fails_on_nul(data: bytes) -> None:
    if b"\0" in data:
        raise KeyError("nul")


def test_the_same_seed_makes_the_same_inputs_and_another_seed_others() -> None:
    def inputs(seed: int) -> list[bytes]:
        mutator = Mutator(target(fails_on_nul), random.Random(seed))
        return [mutator.next() for _ in range(200)]

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def test_inputs_vary_and_stay_within_the_longest() -> None:
    mutator = Mutator(target(fails_on_nul, longest=512), random.Random(3))
    inputs = [mutator.next() for _ in range(3000)]
    assert max(map(len, inputs)) == 512
    assert len(set(inputs)) > 2000
    assert any(b"\r\n.\r\n" in data for data in inputs)


def test_an_empty_input_can_be_changed_in_every_way() -> None:
    mutator = Mutator(target(fails_on_nul, b""), random.Random(4))
    assert len({mutator.next() for _ in range(500)}) > 50


def test_a_crash_is_found_reduced_and_saved(tmp_path: Path) -> None:
    outcome = fuzz(target(fails_on_nul), 1.0, 1, tmp_path)
    assert len(outcome.crashes) == 1
    assert outcome.crashes[0].what.startswith("KeyError at test_fuzzing.py:")
    assert Path(outcome.crashes[0].saved).read_bytes() == b"\0"
    assert Path(outcome.crashes[0].saved).parent == tmp_path


def test_a_seed_that_fails_is_found_even_without_time(tmp_path: Path) -> None:
    assert fuzz(target(fails_on_nul, b"a\0b"), 0.0, 1, tmp_path).crashes


def test_correct_code_gives_no_finding(tmp_path: Path) -> None:
    tried: list[bytes] = []
    outcome = fuzz(target(lambda data: None), 0.2, 1, tmp_path, tried.append)
    assert outcome.crashes == ()
    assert outcome.runs == len(tried) > 100
    assert outcome.octets == sum(map(len, tried))
    assert list(tmp_path.iterdir()) == []


def test_an_input_over_its_time_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))
    assert judge(target(lambda data: None), b"x" * 100) == (1.0, "TooSlow")


def test_an_input_that_was_slow_once_only_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 9.0, 9.0, 9.1])
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    seconds, what = judge(target(lambda data: None), b"")
    assert (round(seconds, 3), what) == (0.1, "")


def test_reducing_keeps_the_same_failure() -> None:
    def both(data: bytes) -> None:
        if b"{" in data:
            raise KeyError
        fails_on_nul(data)

    wanted = target(both)
    data = b"\0" + b"x" * 999 + b"{"
    assert reduce(wanted, data, judge(wanted, data)[1]) == b"{"


def write(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "fuzz_demo.py"
    path.write_text(f"import os\ndef one_input(data):\n    {body}\nSEEDS = [b'a', b'b']\n")
    return path


def test_a_target_needs_its_two_names(tmp_path: Path) -> None:
    path = tmp_path / "fuzz_demo.py"
    path.write_text("def one_input(data): ...\n")
    with pytest.raises(TypeError, match="SEEDS"):
        load(path)


def test_apart_a_target_that_holds_is_counted(tmp_path: Path) -> None:
    outcome = fuzz_apart(write(tmp_path, "pass"), 0.1, 1, tmp_path / "saved")
    assert outcome.crashes == ()
    assert outcome.runs > 2
    assert list((tmp_path / "saved").iterdir()) == []


def test_apart_a_finding_comes_back(tmp_path: Path) -> None:
    outcome = fuzz_apart(write(tmp_path, "assert data != b'b'"), 0.1, 1, tmp_path / "saved")
    assert [c.what.split(" at ")[0] for c in outcome.crashes] == ["AssertionError"]
    assert Path(outcome.crashes[0].saved).read_bytes() == b"b"


def test_apart_a_dying_interpreter_leaves_its_input(tmp_path: Path) -> None:
    path = write(tmp_path, "os.abort() if data == b'b' else None")
    (crash,) = fuzz_apart(path, 0.1, 1, tmp_path / "saved").crashes
    assert crash.what == "the interpreter died or hung (exit -6)"
    assert Path(crash.saved).read_bytes() == b"b"


def test_apart_a_hang_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "HANG", 0.5)
    monkeypatch.setattr(fuzzing, "REDUCING", 0.1)
    path = write(tmp_path, "os.read(os.pipe()[0], 1) if data == b'b' else None")
    (crash,) = fuzz_apart(path, 0.1, 1, tmp_path / "saved").crashes
    assert crash.what == "the interpreter died or hung (exit -6)"
    assert Path(crash.saved).read_bytes() == b"b"


def test_apart_a_memory_bomb_is_a_finding(tmp_path: Path) -> None:
    path = write(tmp_path, "bytearray(1 << 32) if data == b'b' else None")
    outcome = fuzz_apart(path, 0.1, 1, tmp_path / "saved")
    assert [c.what.split(" at ")[0] for c in outcome.crashes] == ["MemoryError"]


def test_apart_a_target_that_does_not_load_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "fuzz_broken.py"
    path.write_text("import no_such_module\n")
    (crash,) = fuzz_apart(path, 0.1, 1, tmp_path / "saved").crashes
    assert crash.what == "the target did not start (exit 1)"
