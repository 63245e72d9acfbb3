"""Make docs/imap-extensions.md: each IMAP extension, its RFC, its state and the tests of it.

    python -m tools.extensions [--check]

What is offered comes from the declarations in `protocols/imap/capabilities.py`. The tests are the
files below `tests` that refer to the extension's RFC; that none refers to it is a finding.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from postroom.protocols.imap.capabilities import ANY, SIGNED_IN, Capability
from tools.rfc_index import EDITOR, Index, build
from tools.tree import ROOT, Finding, bring_up_to_date, report, sources

DOCUMENT: Final = "docs/imap-extensions.md"
WHERE: Final = "src/postroom/protocols/imap/capabilities.py"
SHOWN: Final = 6
"""Tests that are named for an extension: the ones that are about it come first."""

NOT_YET: Final[Mapping[str, tuple[int, str]]] = {
    "JMAPACCESS": (9698, "with JMAP"),
    "LANGUAGE": (5255, "not yet"),
    "URLAUTH=BINARY": (5524, "not yet"),
}
"""Yet to come: the RFC, and when."""

DECLINED: Final[Mapping[str, tuple[int, str]]] = {
    "MESSAGELIMIT": (9738, "adr/0012-no-message-limit-and-who-is-compressed.md"),
}
"""Not offered by decision, and where it says why."""


def render(offered: Sequence[Capability], index: Index) -> str:
    """The whole document."""
    waiting = {name: each for name, each in NOT_YET.items() if name not in _names(offered)}
    lines = [
        "# IMAP extensions",
        "",
        "<!-- Made by `python -m tools.extensions` from protocols/imap/capabilities.py. -->",
        "",
        f"{len(offered)} capabilities are offered, {len(waiting)} are yet to come. Which of them a"
        " client sees before and after it signed in, CAPABILITY tells. How the answers compare with"
        " Dovecot's is in [verification.md](verification.md), under `differential`.",
        "",
        "| capability | RFC | state | tests |",
        "| --- | --- | --- | --- |",
    ]
    for each in sorted(offered, key=lambda each: each.name):
        section = f" §{each.section}" if each.section else ""
        tests = "<br>".join(f"`{path}`" for path in _tests(each, index)[:SHOWN])
        lines.append(f"| `{each.name}` | {_link(each.rfc)}{section} | offered | {tests} |")
    lines += [
        f"| `{name}` | {_link(rfc)} | {when} | |" for name, (rfc, when) in sorted(waiting.items())
    ]
    lines += [
        f"| `{name}` | {_link(rfc)} | not offered: [why]({why}) | |"
        for name, (rfc, why) in sorted(DECLINED.items())
    ]
    return "\n".join(lines) + "\n"


def untested(offered: Sequence[Capability], index: Index) -> Iterator[Finding]:
    """Capabilities whose RFC no test names."""
    for each in offered:
        if not _tests(each, index):
            yield Finding(WHERE, 1, f"no test names RFC {each.rfc}, which {each.name} is")


def _names(offered: Sequence[Capability]) -> set[str]:
    return {each.name for each in offered}


def _link(rfc: int) -> str:
    return f"[RFC {rfc}]({EDITOR}{rfc})"


def _tests(each: Capability, index: Index) -> list[str]:
    """The files that refer to its RFC, those named after the extension first."""
    word = each.name.split("=")[0].lower().replace("-", "_")
    found = {
        path.removeprefix("tests/")
        for (number, _), paths in index.items()
        if number == each.rfc
        for path in paths
        if path.startswith("tests/")
    }
    return sorted(found, key=lambda path: (word not in path, not path.startswith("proto"), path))


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the document, or compare it; 1 when stale or an extension is untested."""
    parser = argparse.ArgumentParser(prog="python -m tools.extensions", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(arguments).check
    index = build(s for s in sources(root, ("tests",)) if not s.path.startswith("tests/tools/"))
    offered = (*ANY, *SIGNED_IN)
    wrong = report(untested(offered, index), "extensions")
    stale = bring_up_to_date(
        root / DOCUMENT, render(offered, index), "tools.extensions", check=check
    )
    return wrong or stale


if __name__ == "__main__":
    sys.exit(main())
