"""Check the rules of the house that no linter knows. Run as `python -m tools.check_house`.

All code: no import inside a function; nothing that hands text to a shell or an interpreter, and
no deserialiser that can run code; no `type: ignore` without its reason. Product code besides:
no standard parser of mail or XML (they are slow and forgiving where input is hostile), SQL only
in the store and in files named tables.py, no file over 700 lines but those that tools/house.toml
lists with a reason. Every file: no path of the machine it was written on. Lock files: no record
of where the packages came from.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tools.tree import ROOT, Finding, Source, report, sources

LONGEST = 700
PRODUCT = "src/postroom/"
BESIDE = "src/postroom/testing/"  # the small internet may use the standard clients
ALLOWANCES = "tools/house.toml"

DESERIALISERS = frozenset({"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"})
EVALUATORS = frozenset({"eval", "exec", "__import__"})
SHELLS = frozenset(
    {
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "subprocess.getstatusoutput",
        "asyncio.create_subprocess_shell",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
    }
)
STANDARD_PARSERS = frozenset(
    {"email", "smtplib", "imaplib", "poplib", "mailbox", "xml", "html.parser"}
)
DECLARES_SQL = frozenset(
    {"postroom.store.sql", "postroom.store.sql.sql", "postroom.store.sql.Statement"}
)

_IGNORE = re.compile(r"#\s*type:\s*ignore(?:\[[^\]]*\])?\s*(?:#\s*)?$", re.MULTILINE)
_ORIGIN = re.compile(r"https?://|^\s*--?(?:extra-)?index-url|^\s*--find-links|^\s*-[if]\b| @ ")
# The top folders that any machine has; another one that holds the checkout is this machine's.
_STANDARD_TOPS = frozenset(
    {"bin", "boot", "dev", "etc", "home", "lib", "media", "mnt", "opt", "proc"}
    | {"root", "run", "sbin", "srv", "sys", "tmp", "usr", "var", "Users"}
)


def imports_inside(source: Source) -> Iterator[Finding]:
    """Imports that run when a function does: they hide the walk, or dodge a cycle."""
    for function in ast.walk(source.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield Finding(source.path, node.lineno, "an import inside a function")


def dangers(source: Source) -> Iterator[Finding]:
    """Shells, evaluators and deserialisers that can run what they read."""
    for name, line in _imported(source.tree):
        if name.split(".")[0] in DESERIALISERS or name in SHELLS:
            yield Finding(source.path, line, f"{name}: runs what it reads")
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        called = _dotted(node.func)
        if called in EVALUATORS or called in SHELLS:
            yield Finding(source.path, node.lineno, f"{called}: runs what it reads")
        for keyword in node.keywords:
            false = isinstance(keyword.value, ast.Constant) and not keyword.value.value
            if keyword.arg == "shell" and not false:
                yield Finding(source.path, node.lineno, "shell=: pass a list of arguments")


def unexplained_ignores(source: Source) -> Iterator[Finding]:
    """`type: ignore` comments with nothing behind them."""
    for match in _IGNORE.finditer(source.text):
        line = source.text.count("\n", 0, match.start()) + 1
        yield Finding(source.path, line, "type: ignore without its reason behind it")


def standard_parsers(source: Source) -> Iterator[Finding]:
    """The standard library's mail and XML parsers in the product."""
    if not source.path.startswith(PRODUCT) or source.path.startswith(BESIDE):
        return
    for name, line in _imported(source.tree):
        if any(name == p or name.startswith(f"{p}.") for p in STANDARD_PARSERS):
            yield Finding(source.path, line, f"{name}: hostile input goes to our own parsers")


def stray_sql(source: Source) -> Iterator[Finding]:
    """Statements outside the store and the tables.py of the room that owns the tables."""
    path = PurePosixPath(source.path)
    beside = source.path.startswith((f"{PRODUCT}store/", BESIDE)) or path.name == "tables.py"
    if beside or not source.path.startswith(PRODUCT):
        return
    for name, line in _imported(source.tree):
        if name.split(".")[0] == "sqlalchemy" or name in DECLARES_SQL:
            yield Finding(source.path, line, f"{name}: SQL stays in the store and in tables.py")


def too_long(source: Source, allowed: frozenset[str]) -> Iterator[Finding]:
    """Product files that have become two things."""
    lines = source.text.count("\n")
    if source.path.startswith(PRODUCT) and lines > LONGEST and source.path not in allowed:
        what = f"{lines} lines: divide it, or say in {ALLOWANCES} why it is one thing"
        yield Finding(source.path, 1, what)


def machine_paths(root: Path, home: Path) -> Iterator[Finding]:
    """Files that name `root`, where this checkout lies, or `home`: they work on one machine."""
    here = {str(root), str(home), "/root"}
    if root.parts[1] not in _STANDARD_TOPS:
        here.add(f"/{root.parts[1]}")
    prefixes = sorted(re.escape(p) for p in here if p != "/")
    pattern = re.compile(rf"(?<![\w.])(?:{'|'.join(prefixes)})(?=/)")
    for path in _versioned(root):
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # not text
        for match in pattern.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            yield Finding(path, line, f"{match[0]}/: a path of this machine")


def lock_origins(root: Path) -> Iterator[Finding]:
    """Lock files that say where packages came from; their hashes say what they are."""
    for path in sorted((root / "requirements").glob("*.txt")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if _ORIGIN.search(line):
                name = path.relative_to(root).as_posix()
                yield Finding(name, number, "says where a package came from: use tools/lock")


def _versioned(root: Path) -> list[str]:
    """The files of the checkout that git keeps or would keep, from the root."""
    # A checkout may belong to somebody else than who checks it, as in CI.
    git = ["git", "-c", "safe.directory=*"]
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    names = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    return sorted(name for name in names if (root / name).is_file())


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The full name of everything imported, with its line; relative imports are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def _dotted(node: ast.expr) -> str:
    """`os.path.join` for the expression of that name; "" for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def allowances(path: Path) -> tuple[frozenset[str], list[Finding]]:
    """The files allowed to be long; an entry without a reason or a file is a finding."""
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("long-files", {})
    findings = [
        Finding(ALLOWANCES, 1, f"{name}: {what}")
        for name, reason in listed.items()
        for wrong, what in (
            (not str(reason).strip(), "no reason given"),
            (not (path.parent.parent / name).is_file(), "no such file"),
        )
        if wrong
    ]
    return frozenset(listed), findings


def check(root: Path, home: Path) -> Iterator[Finding]:
    """Every finding in the checkout at `root`, in no order."""
    allowed, findings = allowances(root / ALLOWANCES)
    yield from findings
    rules = (imports_inside, dangers, unexplained_ignores, standard_parsers, stray_sql)
    for source in sources(root):
        for rule in rules:
            yield from rule(source)
        yield from too_long(source, allowed)
    yield from machine_paths(root, home)
    yield from lock_origins(root)


def main() -> int:
    """Print what must be mended; 1 if anything."""
    return report(set(check(ROOT, Path.home())), "check_house")


if __name__ == "__main__":
    sys.exit(main())
