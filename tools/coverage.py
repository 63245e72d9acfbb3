"""Make docs/coverage.md: every row of the inventory and the tests that prove it.

    python -m tools.coverage [--check]

A row of docs/inventory.toml is done when a test names it, and only then:

    @pytest.mark.rows("SCR-06", "SCR-07")
    async def test_same_sender_from_many_addresses_is_dropped(...): ...

The marker may stand on a test, on a class of tests, or in a module's `pytestmark`. Tests are
read, not imported. A marker with an id that the inventory lacks, with something other than
plain ids, or on what pytest never runs is a finding, and so is a row that a test which is
skipped or expected to fail claims to prove.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from tools.tree import ROOT, Finding, Source, bring_up_to_date, report, sources

INVENTORY = "docs/inventory.toml"
DOCUMENT = "docs/coverage.md"
NEVER_RUN = frozenset({"skip", "xfail"})  # skipif depends on the machine, and CI has it all

_Test = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Area:
    """A chapter of the inventory: its title and its rows, id to title, in order."""

    title: str
    rows: Mapping[str, str]


@dataclass
class Proofs:
    """What the markers say: row id to the tests that prove it, and what is wrong with them."""

    tests: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def load_inventory(path: Path) -> tuple[Area, ...]:
    """The areas in the file's order. Raises ValueError when two areas share a row id."""
    areas = tuple(
        Area(a["title"], dict(a["rows"]))
        for a in tomllib.loads(path.read_text(encoding="utf-8"))["area"]
    )
    seen: set[str] = set()
    for area in areas:
        twice = seen.intersection(area.rows)
        if twice:
            raise ValueError(f"{path.name}: rows in two areas: {', '.join(sorted(twice))}")
        seen.update(area.rows)
    return areas


def collect(files: Iterable[Source], known: frozenset[str]) -> Proofs:
    """Every `rows` marker in the test files."""
    proofs = Proofs()
    for source in files:
        _read_file(source, known, proofs)
    for tests in proofs.tests.values():
        tests.sort()
    return proofs


def _read_file(source: Source, known: frozenset[str], proofs: Proofs) -> None:
    placed: set[int] = set()  # the markers found where pytest would see them, by identity
    whole_file = [m for value in _pytestmarks(source.tree.body) for m in _marks(value)]
    collected = source.tree.body if Path(source.path).name.startswith("test_") else []
    for test, name, marks in _tests(collected, source.path, whole_file):
        claims = [m for m in marks if m.name == "rows"]
        placed.update(id(m.node) for m in claims)
        never = sorted({m.name for m in marks} & NEVER_RUN)
        for claim in claims:
            if never:
                what = f"{test.name} proves nothing: it is marked {never[0]}"
                proofs.findings.append(Finding(source.path, claim.node.lineno, what))
                continue
            for row in _ids(claim.node, source.path, known, proofs.findings):
                tests = proofs.tests.setdefault(row, [])
                if name not in tests:
                    tests.append(name)
    for mark in _marks(source.tree):
        if mark.name == "rows" and id(mark.node) not in placed:
            what = "a rows marker that is on no test: pytest runs test_* in files named test_*"
            proofs.findings.append(Finding(source.path, mark.node.lineno, what))


@dataclass(frozen=True)
class _Mark:
    """A use of pytest.mark: its name and the node that it is."""

    name: str
    node: ast.expr


def _marks(tree: ast.AST) -> list[_Mark]:
    """Each `pytest.mark.NAME` and `pytest.mark.NAME(…)` anywhere in `tree`, once."""
    called: set[int] = set()
    found: list[_Mark] = []
    for node in ast.walk(tree):  # breadth first: the call comes before what it calls
        if isinstance(node, ast.Call) and _is_mark(node.func):
            called.add(id(node.func))
            found.append(_Mark(node.func.attr, node))
        elif _is_mark(node) and id(node) not in called:
            found.append(_Mark(node.attr, node))
    return found


def _is_mark(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "mark"
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id == "pytest"
    )


def _pytestmarks(body: list[ast.stmt]) -> Iterator[ast.expr]:
    """The values of `pytestmark = …` in a module's or a class's body."""
    for statement in body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="pytestmark")], value=value):
                yield value
            case ast.AnnAssign(target=ast.Name(id="pytestmark"), value=ast.expr() as value):
                yield value


def _tests(
    body: list[ast.stmt], prefix: str, inherited: list[_Mark]
) -> Iterator[tuple[_Test, str, list[_Mark]]]:
    """Each test that pytest would run: its node, its id, all the marks that hold for it."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        marks = inherited + [m for d in node.decorator_list for m in _marks(d)]
        name = f"{prefix}::{node.name}"
        if isinstance(node, ast.ClassDef):
            if node.name.startswith("Test"):
                marks += [m for value in _pytestmarks(node.body) for m in _marks(value)]
                yield from _tests(node.body, name, marks)
        elif node.name.startswith("test"):
            yield node, name, marks


def _ids(
    node: ast.expr, path: str, known: frozenset[str], findings: list[Finding]
) -> Iterator[str]:
    """The ids in one marker; what is no id of the inventory becomes a finding."""
    arguments = node.args if isinstance(node, ast.Call) and not node.keywords else []
    if not arguments:
        findings.append(Finding(path, node.lineno, "a rows marker that names no row"))
    for argument in arguments:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            what = "a rows marker takes ids as plain strings"
        elif argument.value not in known:
            what = f"{argument.value} is no row of {INVENTORY}"
        else:
            yield argument.value
            continue
        finding = Finding(path, argument.lineno, what)
        if finding not in findings:  # a marker of a class is read once for each of its tests
            findings.append(finding)


def render(areas: Iterable[Area], tests: Mapping[str, list[str]]) -> str:
    """The whole of docs/coverage.md."""
    areas = tuple(areas)
    rows = [row for area in areas for row in area.rows]
    lines = [
        "# What is built, row by row",
        "",
        "<!-- Made by `python -m tools.coverage` from docs/inventory.toml and the tests. -->",
        "",
        "A row is done when a test that speaks to the running server as its client does names it.",
        "",
        f"**{_done(rows, tests)} of {len(rows)} rows are done.**",
        "",
        "| area | done | rows |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {a.title} | {_done(a.rows, tests)} | {len(a.rows)} |" for a in areas]
    for area in areas:
        lines += ["", f"## {area.title}", "", "| row | what | state | proved by |"]
        lines += ["| --- | --- | --- | --- |"]
        for row, title in area.rows.items():
            proofs = tests.get(row, [])
            state = "done" if proofs else "open"
            lines.append(f"| {row} | {title} | {state} | {'<br>'.join(map(_code, proofs))} |")
    return "\n".join(lines) + "\n"


def _done(rows: Iterable[str], tests: Mapping[str, list[str]]) -> int:
    return sum(1 for row in rows if tests.get(row))


def _code(test: str) -> str:
    return f"`{test.removeprefix('tests/')}`"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write docs/coverage.md, or compare it; 1 when stale or when a marker is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.coverage", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(arguments).check
    areas = load_inventory(root / INVENTORY)
    known = frozenset(row for area in areas for row in area.rows)
    proofs = collect(sources(root, ["tests"]), known)
    wrong = report(proofs.findings, "coverage")
    text = render(areas, proofs.tests)
    stale = bring_up_to_date(root / DOCUMENT, text, "tools.coverage", check=check)
    return wrong or stale


if __name__ == "__main__":
    sys.exit(main())
