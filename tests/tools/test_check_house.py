"""Every rule of the house catches what it is for, and lets the rest pass."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check_house
from tools.check_house import check
from tools.tree import Finding

IGNORE = "# type: " + "ignore"  # in two parts: this file is checked as well


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty project that keeps the rules."""
    root = tmp_path / "project"
    for folder in ("src/postroom", "tools", "tests", "requirements"):
        (root / folder).mkdir(parents=True)
    (root / "tools/house.toml").write_text("[long-files]\n")
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


def found(root: Path, path: str, text: str) -> list[Finding]:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
    return sorted(set(check(root, home=Path("/nobody/home"))))


def test_an_empty_project_keeps_the_rules(checkout: Path) -> None:
    assert found(checkout, "README.md", "See docs/x.md.") == []


@pytest.mark.parametrize(
    "text",
    [
        "def f():\n    import os",
        "async def f():\n    if x:\n        from os import path",
        "import pickle",
        "from marshal import loads",
        "import yaml\nyaml.load(x)",
        "from os import system",
        "import os\nos.system(x)",
        "import asyncio\nasyncio.create_subprocess_shell(x)",
        "eval(x)",
        "exec(x)",
        "__import__(x)",
        "import subprocess\nsubprocess.run(x, shell=True)",
        "import subprocess\nsubprocess.run(x, shell=maybe)",
        f"x = y  {IGNORE}",
        f"x = y  {IGNORE}[attr-defined]",
        f"x = y  {IGNORE}[attr-defined]  # ",
    ],
)
@pytest.mark.parametrize("path", ["src/postroom/core/x.py", "tools/x.py", "tests/test_x.py"])
def test_forbidden_everywhere(checkout: Path, path: str, text: str) -> None:
    assert len(found(checkout, path, text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import os",
        "import subprocess\nsubprocess.run([x], shell=False)",
        "import re\nre.compile(x)\nmodel.eval(x)",
        f"x = y  {IGNORE}[attr-defined]  # the stubs lack it",
        "import html\nhtml.escape(x)",
        "import emails",
    ],
)
def test_allowed_everywhere(checkout: Path, text: str) -> None:
    assert found(checkout, "src/postroom/core/x.py", text) == []


@pytest.mark.parametrize(
    "text",
    [
        "import email",
        "from email.message import EmailMessage",
        "from email import policy",
        "import smtplib",
        "import imaplib",
        "import xml.etree.ElementTree",
        "from xml import sax",
        "from html.parser import HTMLParser",
        "from html import parser",
    ],
)
def test_standard_parsers_are_for_tests_only(checkout: Path, text: str) -> None:
    assert found(checkout, "src/postroom/testing/x.py", text) == []
    assert found(checkout, "tests/test_x.py", text) == []
    assert len(found(checkout, "src/postroom/formats/x.py", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import sqlalchemy",
        "from sqlalchemy import select",
        "from sqlalchemy.dialects import postgresql",
        "from postroom.store.sql import sql",
        "from postroom.store import sql",
    ],
)
def test_sql_stays_in_the_store_and_in_tables(checkout: Path, text: str) -> None:
    assert found(checkout, "src/postroom/store/x.py", text) == []
    assert found(checkout, "src/postroom/domain/queue/tables.py", text) == []
    assert len(found(checkout, "src/postroom/domain/queue/queue.py", text)) == 1


def test_the_transaction_is_for_everyone(checkout: Path) -> None:
    text = "from postroom.store.sql import Row, Tx"
    assert found(checkout, "src/postroom/domain/queue/queue.py", text) == []


def test_a_long_file_needs_a_reason(checkout: Path) -> None:
    long = "x = 1\n" * (check_house.LONGEST + 1)
    assert found(checkout, "tests/test_x.py", long) == []
    path = "src/postroom/wire/x.py"
    assert [f.path for f in found(checkout, path, long)] == [path]
    listed = f'[long-files]\n"{path}" = "one table"\n'
    assert found(checkout, "tools/house.toml", listed) == []
    assert len(found(checkout, "tools/house.toml", f'[long-files]\n"{path}" = " "\n')) == 1
    gone = f'{listed}"src/postroom/gone.py" = "one table"\n'
    assert [f.what for f in found(checkout, "tools/house.toml", gone)] == [
        "src/postroom/gone.py: no such file"
    ]


def test_no_file_names_this_machine(checkout: Path) -> None:
    assert len(found(checkout, "README.md", f"run {checkout}/x\n")) == 1
    assert len(found(checkout, "README.md", "in\n/nobody/home/.venv\n")) == 1
    assert found(checkout, "README.md", "a/nobody/home/x /nobody/homestead/x") == []
    (checkout / ".gitignore").write_text("/build/\n")
    assert found(checkout, "build/log.txt", f"{checkout}/x") == []


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://registry.example/simple",
        "--find-links wheels",
        "apsw @ https://files.example/apsw.whl",
        "-i https://registry.example/simple",
    ],
)
def test_lock_files_do_not_say_where_packages_came_from(checkout: Path, line: str) -> None:
    good = "apsw==3.54.1.0 \\\n    --hash=sha256:00\n"
    assert found(checkout, "requirements/run.txt", good) == []
    assert len(found(checkout, "requirements/run.txt", f"{line}\n{good}")) == 1
