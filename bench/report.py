"""Turns an outcome into a table, JSON, or the measured part of docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil

from bench.model import BenchError, Row
from bench.runner import Outcome, reached

BEGIN = "<!-- measured: begin; written by python -m bench --write -->"
END = "<!-- measured: end -->"
_HEADING = "### "  # of a workload's section between the markers
_OURS = frozenset({"postroom", "our dkim"})
"""Targets that goals are for."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the numbers were taken on, and how busy it was."""

    cores: int
    memory_gib: float
    kernel: str
    python: str
    filesystem: str  # of the directory where all targets keep their files
    load_before: float  # load average over a minute, before the run
    peers: dict[str, str]  # program: version
    remark: str  # of whoever ran it


def machine(directory: Path, remark: str) -> Machine:
    """Ask the system. `directory` is where the targets keep their files."""
    return Machine(
        os.cpu_count() or 1,
        round(psutil.virtual_memory().total / 2**30, 1),
        platform.release(),
        platform.python_version(),
        _filesystem(directory),
        round(os.getloadavg()[0], 2),
        {
            "postfix": _version("postconf", "-d", "-h", "mail_version"),
            "dovecot": _version("dovecot", "--version"),
        },
        remark,
    )


def as_json(outcome: Outcome, on: Machine, command: str, when: datetime) -> str:
    """Everything, raw values included."""
    return json.dumps(
        {
            "command": command,
            "when": when.isoformat(timespec="seconds"),
            "machine": {
                "cores": on.cores,
                "memory_gib": on.memory_gib,
                "kernel": on.kernel,
                "python": on.python,
                "filesystem": on.filesystem,
                "load_before": on.load_before,
                "peers": on.peers,
                "remark": on.remark,
            },
            "rows": [_row_json(row) for row in outcome.rows],
            "absent": dict(sorted((target, why) for (_, target), why in outcome.absent.items())),
            "failed": [
                {"workload": workload, "target": target, "why": why}
                for workload, target, why in outcome.failed
            ],
        },
        indent=1,
    )


def as_table(outcome: Outcome, on: Machine, command: str, when: datetime) -> str:
    """Markdown that also reads well on a terminal."""
    lines = [
        f"`{command}`, {when:%Y-%m-%d %H:%M} UTC. {on.cores} cores, {on.memory_gib} GiB, "
        f"Linux {on.kernel}, {on.filesystem}, Python {on.python}, "
        + ", ".join(f"{name} {version}" for name, version in on.peers.items())
        + f"; load average before the run {on.load_before:.2f}."
        + (f" {on.remark}" if on.remark else ""),
        "",
        "Median of the rounds, least to most; a ratio above 1 is better than the goal's peer.",
        "",
    ]
    if on.filesystem == "tmpfs":
        lines += ["**The files lie on tmpfs: nothing was durable, the numbers mean little.**", ""]
    header = ("workload", "target", "median", "least to most", "ratio", "goal", "notes")
    cells = [header, *(_cells(row) for row in outcome.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    for number, line in enumerate(cells):
        lines.append(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            + " |"
        )  # fmt: skip
        if number == 0:
            lines.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    absent = sorted({(target, why) for (_, target), why in outcome.absent.items()})
    lines += [f"\nNot measured: {target} ({why})." for target, why in absent]
    lines += [
        f"\nFailed: {target} in {workload}: {why}" for workload, target, why in outcome.failed
    ]
    return "\n".join(lines) + "\n"


def write_into(page: Path, sections: Mapping[str, str], order: Sequence[str]) -> None:
    """Replace the sections of these workloads between the markers of `page`; others stay.

    `order` names all workloads, in the order of the page; a section of none of them is dropped.
    Raises BenchError if the markers are not there, in order, once each.
    """
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BenchError(f"{page} does not have the two markers")
    before, rest = text.split(BEGIN)
    between, after = rest.split(END)
    known = dict(_sections(between)) | dict(sections)
    shown = "".join(f"\n{_HEADING}{name}\n\n{known[name]}" for name in order if name in known)
    page.write_text(f"{before}{BEGIN}\n{shown}\n{END}{after}")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """The name and the text of every section."""
    for piece in ("\n" + text).split("\n" + _HEADING)[1:]:
        name, _, body = piece.partition("\n")
        yield name.strip(), body.strip("\n") + "\n"


def _row_json(row: Row) -> dict[str, object]:
    goal = row.measure.goal
    low, high = row.spread
    return {
        "workload": row.workload,
        "measure": row.measure.key,
        "title": row.measure.title,
        "target": row.target,
        "unit": row.measure.unit,
        "median": row.value,
        "least": low,
        "most": high,
        "values": [sample.value for sample in row.samples],
        "notes": {name: row.note(name) for name in _note_names(row)},
        "ratio": row.ratio,
        "peer": goal.peer if goal else None,
        "goal": goal.words if goal else None,
        "reached": reached(row, goal) if goal and row.target in _OURS else None,
    }


def _cells(row: Row) -> tuple[str, ...]:
    goal = row.measure.goal
    low, high = row.spread
    wanted = ""
    if goal is not None and row.target in _OURS:
        met = reached(row, goal)
        wanted = goal.words + {True: ": reached", False: ": not reached", None: ""}[met]
    notes = ", ".join(f"{name} {_number(row.note(name) or 0.0)}" for name in _note_names(row))
    return (
        row.measure.title,
        row.target,
        f"{_number(row.value)} {row.measure.unit}",
        f"{_number(low)} to {_number(high)}",
        f"{row.ratio:.2f}" if row.ratio is not None else "",
        wanted,
        notes,
    )


def _note_names(row: Row) -> list[str]:
    return list(dict.fromkeys(name for sample in row.samples for name in sample.notes))


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 1_000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def _filesystem(directory: Path) -> str:
    resolved = directory.resolve()
    best = max(
        (
            part
            for part in psutil.disk_partitions(all=True)
            if resolved.is_relative_to(part.mountpoint)
        ),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    return best.fstype if best is not None else "unknown file system"


def _version(program: str, *arguments: str) -> str:
    found = shutil.which(program, path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if found is None:
        return "not installed"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    return (done.stdout.split() or ["unknown"])[0]
