"""Make docs/manual.md: every command, setting, job and metric, from where they are declared.

    python -m tools.manual [--check]

A declaration without a help text that stands for itself is a finding: nobody could use it.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from enum import Enum

import postroom
from postroom.admin import cli
from postroom.core.jobs import JOBS, Job
from postroom.core.metrics import METRICS, Metric
from postroom.core.operations import OPERATIONS, Argument, Operation
from postroom.core.settings import SETTINGS, Setting
from tools.tree import ROOT, Finding, bring_up_to_date, report

DOCUMENT = "docs/manual.md"
SHORTEST = 8  # characters of a help text that says something
_BESIDE = ("postroom.testing", "postroom.__main__", "postroom.server.__main__")


def declare_all() -> None:
    """Import every room, so that all that they declare is known."""
    for found in pkgutil.walk_packages(postroom.__path__, "postroom."):
        if not found.name.startswith(_BESIDE):
            importlib.import_module(found.name)


# --- the document -----------------------------------------------------------------------------


def manual() -> str:
    """The whole text."""
    parts = [
        "# The manual",
        "",
        "Made by `python -m tools.manual` from the declarations in the code; not edited by hand.",
        "",
        *_commands(),
        *_settings(),
        *_jobs(),
        *_metrics(),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _commands() -> Iterator[str]:
    yield from (
        "## Commands",
        "",
        "Every command takes `--data DIR` (the data directory, `./data`) and `--json` "
        "(machine-readable output), before or after its other words. A running server is asked "
        "over its local socket; a stopped one's stores are opened. Exit codes: 0 done, "
        "1 refused, 2 misuse.",
        "",
    )
    for name, operation in sorted(OPERATIONS.items()):
        yield from _command(name, operation)


def _command(name: str, operation: Operation) -> Iterator[str]:
    arguments = operation.arguments()
    words = " ".join(map(_usage, arguments))
    yield f"### {name}"
    yield ""
    yield f"`postroom {name}{' ' + words if words else ''}`"
    yield ""
    yield f"{' '.join(operation.summary.split())} Role: {operation.role}."
    yield ""
    if arguments:
        yield from (
            f"- `{_name(each.field)}`: {each.field.metadata['help']}." for each in arguments
        )
        yield ""


def _name(each: dataclasses.Field[object]) -> str:
    if each.metadata["secret"]:
        return f"--{each.name}-stdin"
    return each.name.upper() if cli.is_positional(each) else cli.flag(each.name)


def _usage(argument: Argument) -> str:
    each, kind = argument.field, argument.kind
    if cli.is_positional(each):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return "|".join(str(choice.value) for choice in kind)
        return each.name.upper()
    if each.metadata["secret"] or kind is bool:
        return f"[{_name(each)}]"
    if isinstance(kind, type) and issubclass(kind, Enum):
        value = "|".join(str(choice.value) for choice in kind)
    else:
        value = "N" if kind is int else each.name.upper()
    return f"[{cli.flag(each.name)} {value}]"


def _settings() -> Iterator[str]:
    yield from (
        "## Settings",
        "",
        "`postroom settings set NAME VALUE [--at PLACE]`; a change applies at once. Places, from "
        "the widest to the nearest, which wins: `server`, `node:N`, `listener:NAME`, "
        "`domain:NAME`, `account:ADDRESS`.",
        "",
    )
    groups: dict[str, list[Setting]] = {}
    for name, setting in sorted(SETTINGS.items()):
        groups.setdefault(name.partition(".")[0], []).append(setting)
    for group, settings in groups.items():
        yield from (f"### {group}", "", "| setting | default | where | what |", "|---|---|---|---|")
        yield from map(_setting, settings)
        yield ""


def _setting(setting: Setting) -> str:
    default = setting.default
    if isinstance(default, bool):
        shown = "true" if default else "false"
    elif isinstance(default, tuple):
        shown = ",".join(default)
    else:
        shown = str(default)
    shown = f"`{shown}`" if shown else "empty"
    unit = f" {setting.unit}" if setting.unit else ""
    where = ", ".join(setting.scopes)
    return (
        f"| `{setting.name}` | {shown}{unit} | {where} | {_cell(setting.help)}{_range(setting)} |"
    )


def _range(setting: Setting) -> str:
    if setting.choices:
        return f". One of {', '.join(setting.choices)}"
    low, high = setting.at_least, setting.at_most
    if low is not None and high is not None:
        return f". From {low:.15g} to {high:.15g}"
    if low is not None:
        return f". At least {low:.15g}"
    return f". At most {high:.15g}" if high is not None else ""


def _jobs() -> Iterator[str]:
    if JOBS:
        yield from ("## Jobs", "", "Run by the server itself; `postroom jobs list`.", "")
        yield from ("| job | every | what |", "|---|---|---|")
        for name, job in sorted(JOBS.items()):
            yield f"| `{name}` | {job.every:g} seconds | {_cell(job.summary)} |"
        yield ""


def _metrics() -> Iterator[str]:
    if METRICS:
        yield from ("## Metrics", "", "Counted by each worker; `postroom status`.", "")
        yield from ("| metric | kind | unit | what |", "|---|---|---|---|")
        for name, metric in sorted(METRICS.items()):
            yield f"| `{name}` | {metric.kind} | {metric.unit} | {_cell(metric.help)} |"
        yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# --- what lacks its text ----------------------------------------------------------------------


def lacking(
    operations: Iterable[Operation],
    settings: Iterable[Setting],
    jobs: Iterable[Job],
    metrics: Iterable[Metric],
) -> Iterator[Finding]:
    """Declarations that a reader of the manual could not use."""
    for operation in operations:
        if len(operation.summary) < SHORTEST:
            yield _finding(f"operation {operation.name} does not say what it does")
        for argument in operation.arguments():
            each = argument.field
            if len(each.metadata.get("help", "")) < SHORTEST:
                yield _finding(f"operation {operation.name}: {each.name} lacks its help")
    for setting in settings:
        if len(setting.help) < SHORTEST:
            yield _finding(f"setting {setting.name} lacks its help")
        if not setting.scopes:
            yield _finding(f"setting {setting.name} can be set nowhere")
    for job in jobs:
        if len(job.summary) < SHORTEST:
            yield _finding(f"job {job.name} does not say what it does")
    for metric in metrics:
        if len(metric.help) < SHORTEST or not metric.unit:
            yield _finding(f"metric {metric.name} lacks its help or its unit")


def _finding(what: str) -> Finding:
    return Finding(DOCUMENT, 1, what)


def main(arguments: list[str]) -> int:
    """Write the manual, or with --check say whether it is stale; 1 if something is to mend."""
    parser = argparse.ArgumentParser(prog="tools.manual", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, only say")
    check = parser.parse_args(arguments).check
    declare_all()
    found = lacking(OPERATIONS.values(), SETTINGS.values(), JOBS.values(), METRICS.values())
    mend = report(found, "manual")
    return bring_up_to_date(ROOT / DOCUMENT, manual(), "tools.manual", check=check) or mend


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
