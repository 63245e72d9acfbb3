"""What the tools share: the files of the checkout, findings, and documents that are made."""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "tests", "tools", "bench")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that must be mended: where (path from the root, line from 1) and what."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


@dataclass(frozen=True)
class Source:
    """A Python file: its path from the root with forward slashes, text and syntax tree."""

    path: str
    text: str
    tree: ast.Module


def sources(root: Path, folders: Sequence[str] = CODE) -> Iterator[Source]:
    """Every Python file below `folders`, in order of path.

    Raises SyntaxError for a file that does not parse: nothing could be said of it.
    """
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = path.relative_to(root).as_posix()
            yield Source(name, text, ast.parse(text, name))


def report(findings: Iterable[Finding], tool: str) -> int:
    """Print the findings in order; 1 if there was one, else 0."""
    ordered = sorted(findings)
    for finding in ordered:
        print(finding, file=sys.stderr)
    if ordered:
        print(f"{tool}: {len(ordered)} to mend", file=sys.stderr)
    return 1 if ordered else 0


def bring_up_to_date(document: Path, text: str, tool: str, *, check: bool) -> int:
    """Write `text`, which `tool` made, to `document`; with `check` only compare, 1 if stale."""
    found = document.read_text(encoding="utf-8") if document.exists() else ""
    if found == text:
        return 0
    if check:
        changes = difflib.unified_diff(
            found.splitlines(), text.splitlines(), "as it is", "as it should be", n=0, lineterm=""
        )
        print(f"{document.name} is stale; `python -m {tool}` makes it anew:", file=sys.stderr)
        for line in list(changes)[:20]:
            print(f"  {line}", file=sys.stderr)
        return 1
    document.write_text(text, encoding="utf-8")
    print(f"wrote {document.name}")
    return 0
