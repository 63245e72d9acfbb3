"""Hostile octets into every codec: nothing but declared errors, in linear time, in bounded memory.

Every target in tests/fuzz for a fixed time, from a fixed seed. What is found lies below
build/fuzz; `python -m tools.fuzzing TARGET --replay FILE` shows it again. Mend the code, then
add the input to the target's SEEDS: they are tried in every run of the tests.
"""

from __future__ import annotations

from pathlib import Path

from tools.fuzzing import Outcome, fuzz_apart
from tools.verification import Form, Report

TARGETS = Path(__file__).resolve().parent.parent / "fuzz"
SECONDS = {Form.SHORT: 3.0, Form.LONG: 60.0}  # for each target
SEED = {Form.SHORT: 1, Form.LONG: 2}


def run(form: Form) -> Report:
    """Fuzz all targets one after the other, so that they do not disturb each other's times."""
    paths = sorted(TARGETS.glob("fuzz_*.py"))
    outcomes = [fuzz_apart(path, SECONDS[form], SEED[form]) for path in paths]
    columns = ("target", "inputs", "MB", "seconds", "worst share of the time bound")
    failures = tuple(f"{o.name}: {c.what}, in {c.saved}" for o in outcomes for c in o.crashes)
    if not outcomes:
        failures = ("there is no target in tests/fuzz",)
    return Report(columns, tuple(_row(o) for o in outcomes), failures)


def _row(o: Outcome) -> tuple[str, ...]:
    return (o.name, f"{o.runs:,}", f"{o.octets / 1e6:.1f}", f"{o.seconds:.0f}", f"{o.worst:.1%}")
