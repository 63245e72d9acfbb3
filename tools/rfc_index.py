"""Make docs/rfc-index.md: each RFC and section, and the code and tests that refer to it.

    python -m tools.rfc_index [--check]

A reference is written `RFC 5321 §4.1.1.3`, or `RFC 5321` for the whole. A section that stands
alone belongs to the RFC that the file named last, and to none after a section of another
document (`ARCHITECTURE.md §3`, `XEP-0198 §5`). Any other way to write a reference is a finding,
so that one search for a section finds all of it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tools.tree import ROOT, Finding, Source, bring_up_to_date, report, sources

DOCUMENT = "docs/rfc-index.md"
FOLDERS = ("src", "tests")
EDITOR = "https://www.rfc-editor.org/rfc/rfc"

# (RFC number, section or "" for the whole): the files that refer to it.
Index = Mapping[tuple[int, str], frozenset[str]]

_REFERENCE = re.compile(
    r"""
      \bRFC\ (?P<number>[0-9]+) (?:\ (?=§))?
    | (?P<other>\b(?:[\w-]+\.md|ARCHITECTURE|HOUSE|[A-Z]+-[A-Z0-9]+)\ §)
    | §(?P<section>[0-9A-Z]+(?:\.[0-9]+)*)
    """,
    re.VERBOSE,
)
_MALFORMED = tuple(
    (re.compile(pattern, re.MULTILINE), what)
    for pattern, what in (
        # RFC822, RFC822.SIZE and rfc822 are names in protocols, not references.
        (r"\bRFC[-_#]?(?!822(?![0-9]))[0-9]+", "write RFC and its number with one space"),
        (r"\bRFC {2,}[0-9]", "write RFC and its number with one space"),
        (r"\bRFC$", "keep RFC and its number on one line"),
        (r"\b(?:Rfc|rfc) (?!822(?![0-9]))[0-9]+", "write RFC in capitals"),
        (r"\bRFC [0-9]+,? +[0-9]+(?:\.[0-9]+)+", "write a section with §"),
        (r"\bRFC [0-9]+[,:]? +\(?(?i:section|sect?\.|s\.) ?[0-9A-Z]", "write a section with §"),
        (r"\bRFC [0-9]+(?:, ?| {2,}|)§", "write the section after one space"),
        (r"§ +[0-9A-Z]", "write § and the section without a space"),
    )
)


def references(text: str) -> Iterator[tuple[int, str]]:
    """Every reference in a file's text, in order: (number, section or "" for the whole)."""
    current: int | None = None
    for match in _REFERENCE.finditer(text):
        if match["number"]:
            current = int(match["number"])
            if text[match.end() : match.end() + 1] != "§":
                yield current, ""
        elif match["other"]:
            current = None
        elif current is not None:
            yield current, match["section"]


def malformed(source: Source) -> Iterator[Finding]:
    """References that are not written as the index expects."""
    for pattern, what in _MALFORMED:
        for match in pattern.finditer(source.text):
            line = source.text.count("\n", 0, match.start()) + 1
            yield Finding(source.path, line, f"{match[0]!r}: {what}")


def build(files: Iterable[Source]) -> Index:
    """The index over `files`."""
    index: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    for source in files:
        for reference in references(source.text):
            index[reference].add(source.path)
    return {reference: frozenset(paths) for reference, paths in index.items()}


def render(index: Index) -> str:
    """The whole of docs/rfc-index.md."""
    numbers = sorted({number for number, _ in index})
    lines = [
        "# RFC index",
        "",
        "<!-- Made by `python -m tools.rfc_index` from the references in src and tests. -->",
        "",
        f"{len(numbers)} RFCs, and where the code and the tests refer to them.",
    ]
    for number in numbers:
        lines += ["", f"## RFC {number}", "", f"<{EDITOR}{number}>", ""]
        lines += ["| section | code | tests |", "| --- | --- | --- |"]
        for section in sorted((s for n, s in index if n == number), key=_section_order):
            paths = sorted(index[number, section])
            code = "<br>".join(_code(p, "src/postroom/") for p in paths if p.startswith("src/"))
            tests = "<br>".join(_code(p, "tests/") for p in paths if p.startswith("tests/"))
            lines.append(f"| {f'§{section}' if section else 'whole'} | {code} | {tests} |")
    return "\n".join(lines) + "\n"


def _code(path: str, folder: str) -> str:
    return f"`{path.removeprefix(folder)}`"


def _section_order(section: str) -> list[tuple[int, int, str]]:
    """4.2 before 4.10, numbers before appendices, the whole before all."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in section.split(".")
        if part
    ]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write docs/rfc-index.md, or compare it; 1 when stale or a reference is malformed."""
    parser = argparse.ArgumentParser(prog="python -m tools.rfc_index", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(arguments).check
    # The tests of the tools hold references as examples and refer to nothing by them.
    files = [s for s in sources(root, FOLDERS) if not s.path.startswith("tests/tools/")]
    wrong = report((f for source in files for f in malformed(source)), "rfc_index")
    text = render(build(files))
    stale = bring_up_to_date(root / DOCUMENT, text, "tools.rfc_index", check=check)
    return wrong or stale


if __name__ == "__main__":
    sys.exit(main())
