"""Runs one workload on all its targets, interleaved, and gathers the rows."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.model import BenchError, Goal, Options, Row, Sample, Target, Workload


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Outcome:
    """All rows of a run; what could not run here; what failed."""

    rows: list[Row] = field(default_factory=list)
    absent: dict[tuple[str, str], str] = field(default_factory=dict)  # workload, target: why
    failed: list[tuple[str, str, str]] = field(default_factory=list)  # workload, target, why

    def of(self, workload: str) -> Outcome:
        """The part that concerns one workload."""
        return Outcome(
            [row for row in self.rows if row.workload == workload],
            {key: why for key, why in self.absent.items() if key[0] == workload},
            [each for each in self.failed if each[0] == workload],
        )


def run(
    workload: Workload,
    options: Options,
    outcome: Outcome,
    say: Callable[[str], None] = _say,
) -> None:
    """Add the workload's rows to `outcome`.

    A target that fails is left out from then on, and the others go on.
    """
    with ExitStack() as stack:
        running = _start(workload, options, outcome, stack, say)
        samples: dict[str, list[dict[str, Sample]]] = {target.name: [] for target in running}
        for repeat in range(options.repeats):
            for target in tuple(running):
                say(f"{workload.name}: {target.name}, round {repeat + 1}")
                try:
                    samples[target.name].append(workload.once(target, options, repeat))
                except (BenchError, OSError) as error:
                    outcome.failed.append((workload.name, target.name, str(error)))
                    running.remove(target)
                    target.stop()
    for measure in workload.measures:
        for name, rounds in samples.items():
            values = [found[measure.key] for found in rounds if measure.key in found]
            if values:
                outcome.rows.append(Row(workload.name, measure, name, values))


def _start(
    workload: Workload,
    options: Options,
    outcome: Outcome,
    stack: ExitStack,
    say: Callable[[str], None],
) -> list[Target]:
    """Start and fill every target that can run here; the stack ends them."""
    root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=options.directory)))
    root = root.resolve()
    root.chmod(0o755)  # the peers' own users must pass through
    running: list[Target] = []
    for number, make in enumerate(workload.targets):
        target = make()
        if options.only and target.name not in options.only:
            continue
        missing = target.missing()
        if missing is not None:
            outcome.absent[workload.name, target.name] = missing
            continue
        own = root / str(number)
        own.mkdir(mode=0o755)
        stack.callback(target.stop)
        say(f"{workload.name}: {target.name}, starting and filling")
        try:
            target.start(own)
            workload.prepare(target, options)
        except (BenchError, OSError) as error:
            outcome.failed.append((workload.name, target.name, str(error)))
            target.stop()
            continue
        running.append(target)
    return running


def compare(rows: list[Row]) -> None:
    """Set each row's ratio to its goal's peer: above 1 is better than the peer."""
    values = {(row.measure.key, row.target): row.value for row in rows}
    for row in rows:
        goal = row.measure.goal
        if goal is None or goal.peer == row.target:
            continue
        peer = values.get((row.measure.key, goal.peer))
        if peer and row.value:
            row.ratio = row.value / peer if row.measure.higher else peer / row.value


def reached(row: Row, goal: Goal) -> bool | None:
    """Whether the row meets the goal; None if there is nothing to compare with."""
    if goal.at_most is not None:
        return row.value <= goal.at_most
    if goal.factor is None or row.ratio is None:
        return None
    return row.ratio >= goal.factor
