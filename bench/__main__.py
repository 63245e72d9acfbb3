"""The command: `python -m bench [NAME…] [--quick] [--json] [--write]`.

Exit status: 0 done, 1 a target failed or the page could not be written, 2 misuse.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench.model import BenchError, Options
from bench.report import as_json, as_table, machine, write_into
from bench.runner import Outcome, compare, run
from bench.workloads import WORKLOADS

_PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


def main(arguments: list[str]) -> int:
    """Run the named workloads, or all."""
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help="short rounds, smaller mailboxes")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds (5; 3 with --quick)")
    parser.add_argument("--seconds", type=float, metavar="S", help="of each run (10; 2.5 quick)")
    parser.add_argument("--target", action="append", default=[], help="only these; may be repeated")
    parser.add_argument("--directory", type=Path, help="where targets keep their files")
    parser.add_argument("--json", action="store_true", help="machine-readable, raw values included")
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument(
        "--remark", default="", help="a sentence for the report, such as: others used the machine"
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.names if name not in names]
    if unknown:
        parser.error(f"no workload {', '.join(unknown)}; there are {', '.join(names)}")
    if given.repeats is not None and given.repeats < 1:
        parser.error("--repeats must be at least 1")
    if given.seconds is not None and not given.seconds > 0:
        parser.error("--seconds must be above 0")
    # SIGTERM must unwind the stack that ends the servers, as an interrupt does.
    signal.signal(signal.SIGTERM, _terminated)
    options = replace(
        Options.make(given.quick, given.repeats, given.seconds),
        only=frozenset(given.target),
        directory=given.directory,
    )
    on = machine(given.directory or Path(tempfile.gettempdir()), given.remark)
    when = datetime.now(UTC)
    command = shlex.join(("python", "-m", "bench", *arguments))
    outcome = Outcome()
    for workload in WORKLOADS:
        if not given.names or workload.name in given.names:
            run(workload, options, outcome)
    compare(outcome.rows)
    table = as_table(outcome, on, command, when)
    print(as_json(outcome, on, command, when) if given.json else table)
    if given.write:
        try:
            measured = {row.workload for row in outcome.rows}
            sections = {
                name: as_table(outcome.of(name), on, command, when)
                for name in names
                if name in measured
            }
            write_into(_PAGE, sections, names)
        except (BenchError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    return 1 if outcome.failed else 0


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
