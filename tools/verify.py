"""Run the proofs of `make verify`: every group in tests/verify, or those that are named.

    python -m tools.verify [--form short|long] [--write | --at-once N] [GROUP ...]

Prints each group's numbers and exits 1 if anything did not hold. With --write the numbers also
go into docs/verification.md, between the marks of their group; a failed group's do not. With
--at-once so many groups run beside each other, each in a process of its own: most of them wait
most of the time.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from tools.tree import ROOT
from tools.verification import Form, Group, Report

FOLDER = "tests/verify"
DOCUMENT = "docs/verification.md"


def groups(root: Path) -> tuple[str, ...]:
    """The names of the groups, in alphabetical order."""
    found = (root / FOLDER).glob("*.py")
    return tuple(sorted(p.stem for p in found if not p.stem.startswith(("_", "test_", "conftest"))))


def load(name: str) -> Group:
    """Import a group. Raises TypeError for a module without `run`."""
    module = importlib.import_module(f"{FOLDER.replace('/', '.')}.{name}")
    if not _is_group(module):
        raise TypeError(f"{FOLDER}/{name}.py has no run(form)")
    return module


def _is_group(module: ModuleType | Group) -> TypeGuard[Group]:
    return callable(vars(module).get("run"))


def run_group(name: str, form: Form) -> Report:
    """One group's report; what it raises becomes a failure."""
    try:
        return load(name).run(form)
    except Exception:
        traceback.print_exc()
        return Report((), (), (f"{name} raised; its traceback is above",))


def written(document: str, name: str, about: str, body: str) -> str:
    """`document` with the section of a group replaced, or added at its end."""
    start, end = f"<!-- verify:{name} -->", f"<!-- /verify:{name} -->"
    section = f"{start}\n{body}\n{end}"
    whole = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if whole.search(document):
        return whole.sub(lambda _: section, document)
    return f"{document.rstrip()}\n\n## {name}\n\n{about}\n\n{section}\n"


def _about(root: Path, name: str) -> str:
    """The first line of a group's docstring."""
    text = (root / FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return text.removeprefix('"""').split("\n", 1)[0].removesuffix('"""')


def _circumstances(form: Form, seconds: float) -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{form.value.capitalize()} form, {seconds:.0f} s, {today}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores."
    )


def _run_all(names: Iterable[str], form: Form, root: Path, *, write: bool) -> list[str]:
    """Run and print the groups; the failures of all."""
    failures: list[str] = []
    for name in names:
        print(f"== {name} ({form.value}): {_about(root, name)}", flush=True)
        began = time.monotonic()
        report = run_group(name, form)
        circumstances = _circumstances(form, time.monotonic() - began)
        print(f"{report.table()}\n{circumstances}" if report.columns else circumstances)
        for failure in report.failures:
            print(f"FAILED {name}: {failure}", file=sys.stderr)
        failures += report.failures
        if write and not report.failures:
            path = root / DOCUMENT
            body = f"{circumstances}\n\n{report.table()}"
            text = written(path.read_text(encoding="utf-8"), name, _about(root, name), body)
            path.write_text(text, encoding="utf-8")
    return failures


def _run_beside(names: Iterable[str], form: Form, root: Path, at_once: int) -> list[str]:
    """Run groups in processes of their own, so many at once; the failures of all."""

    def run(name: str) -> tuple[str, subprocess.CompletedProcess[str]]:
        command = [sys.executable, "-m", "tools.verify", "--form", form.value, name]
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        return name, subprocess.run(
            command, cwd=root, stdout=pipe, stderr=both, text=True, check=False
        )

    failures = []
    with ThreadPoolExecutor(at_once) as pool:
        for done in as_completed([pool.submit(run, name) for name in names]):
            name, ended = done.result()
            print(ended.stdout, end="", flush=True)
            if ended.returncode != 0:
                failures.append(f"{name} ended with {ended.returncode}")
    return failures


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run what was asked for; 1 if anything did not hold."""
    known = groups(root)
    parser = argparse.ArgumentParser(prog="python -m tools.verify", description=__doc__)
    parser.add_argument("--form", choices=[f.value for f in Form], default=Form.LONG.value)
    parser.add_argument("--write", action="store_true", help=f"update {DOCUMENT}")
    parser.add_argument("--at-once", type=int, default=1, metavar="N")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(known))
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.groups) - set(known))
    if unknown:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(known)}")
    if options.write and options.at_once > 1:
        parser.error("numbers are written of groups that had the machine to themselves")
    names = options.groups or known
    form = Form(options.form)
    if options.at_once > 1:
        failures = _run_beside(names, form, root, options.at_once)
    else:
        failures = _run_all(names, form, root, write=options.write)
    outcome = f"{len(failures)} did not hold" if failures else "all hold"
    print(f"verify: {len(names)} groups, {outcome}", file=sys.stderr if failures else sys.stdout)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
