"""postroom.admin.cli: the command line made from the declarations, without a server."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from postroom.admin import cli
from postroom.admin.cli import DONE, MISUSE, REFUSED, Ways
from postroom.core import log
from postroom.core.errors import NotFound
from postroom.core.operations import OPERATIONS
from postroom.mailflow.house import MailHouse
from postroom.testing.clock import ManualClock
from tests.admin.housing import open_admin
from tests.stores import Stores, open_mail

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def log_as_the_command_sets_it_up() -> Iterator[None]:
    before = structlog.get_config()
    log.configure("text", level="warning", once=False)
    yield
    structlog.configure(**before)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in a directory that holds the domain example.org."""
    made = False
    seconds = itertools.count(10, 10)

    @asynccontextmanager
    async def ours(data: str) -> AsyncIterator[MailHouse]:
        nonlocal made
        if "nowhere" in data:
            raise NotFound("There is no store there")
        mail, state = open_mail("sqlite", data)
        try:
            stores, clock = Stores("sqlite", mail, state), ManualClock()
            clock.advance(next(seconds))  # no two commands at one moment: ids are made of it
            async with open_admin(stores, clock, Path(data), first=not made) as admin:
                made = True
                yield admin.house.flow
        finally:
            await mail.close()
            await state.close()

    def command(*words: str, stdin: str = "", data: str = str(tmp_path)) -> tuple[int, str, str]:
        ways = Ways(lambda data: f"{data}/control.sock", ours)
        code = cli.main(["--data", data, *words], ways, io.StringIO(stdin))
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def told(out: str) -> Any:
    return json.loads(out)


def test_a_command_for_people_and_for_machines(run: Run) -> None:
    code, out, err = run("domain", "list")
    assert (code, err) == (DONE, "")
    assert out.splitlines()[0].split() == ["DOMAIN", "ACCOUNTS", "ALIASES", "CREATED"]
    assert out.splitlines()[1].startswith("example.org")
    code, out, _ = run("domain", "list", "--json")
    assert told(out)[0]["domain"] == "example.org"
    assert told(run("--json", "domain", "list")[1]) == told(out)


def test_data_stands_before_or_after(tmp_path: Path, run: Run) -> None:
    other = tmp_path / "other"
    other.mkdir()
    code, _, err = run("domain", "list", "--data", f"{other}/nowhere")
    assert code == REFUSED
    assert "no store" in err
    assert run("domain", "--data", str(tmp_path), "list", data="nowhere")[0] == DONE


def test_secrets_come_from_standard_input_alone(run: Run) -> None:
    code, out, _ = run(
        "account", "create", "ann@example.org", "--password-stdin", "--json",
        stdin="correct horse\r\nmore\n",
    )  # fmt: skip
    assert code == DONE
    assert told(out)["password"] == ""
    assert run("account", "create", "bob@example.org", "--password", "correct horse")[0] == MISUSE
    code, _, err = run("account", "create", "bob@example.org", "--password-stdin", stdin="\n")
    assert code == MISUSE
    assert "no password on standard input" in err
    code, out, _ = run("account", "create", "bob@example.org")
    assert re.search(r"^password +\w{5}(-\w{5}){3}$", out, re.MULTILINE)


def test_what_changes_takes_a_reason_that_the_history_tells(run: Run) -> None:
    assert run("domain", "create", "b.example", "--reason", "we bought it")[0] == DONE
    (made, *_) = told(run("changes", "list", "--json")[1])
    assert (made["operation"], made["reason"]) == ("domain create", "we bought it")
    code, out, _ = run("changes", "show", made["id"])
    assert code == DONE
    assert "because: we bought it" in out
    assert "+ domain b.example" in out
    assert run("changes", "revert", made["id"], "--reason", "sold again")[0] == DONE
    assert run("domain", "show", "b.example")[0] == REFUSED
    assert run("domain", "list", "--reason", "none is needed")[0] == MISUSE
    assert run("domain", "create", "c.example", "--reason", "x" * 1001)[0] == MISUSE


def test_the_configuration_goes_out_and_comes_in_as_a_document(run: Run, tmp_path: Path) -> None:
    code, text, _ = run("config", "export")
    assert code == DONE
    assert text.startswith("format = 1\ndomains = [")
    file = tmp_path / "town.toml"
    file.write_text(text.replace("example.org", "b.example"), encoding="utf-8")
    code, out, _ = run("config", "diff", str(file))
    assert (code, out) == (DONE, "+ domain b.example\n")
    code, out, _ = run("config", "apply", "-", stdin=file.read_text(encoding="utf-8"))
    assert code == DONE
    assert re.search(r"^1 change, in c\w+\.$", out, re.MULTILINE)
    assert run("config", "diff", str(file))[1] == "All is as the document says.\n"
    code, _, err = run("config", "diff", str(tmp_path / "nothing.toml"))
    assert code == MISUSE
    assert "cannot be read" in err
    file.write_bytes(b"\xff")
    assert run("config", "diff", str(file))[0] == MISUSE


def test_options_have_their_types_and_choices(run: Run) -> None:
    made = run("account", "create", "ann@example.org", "--role", "admin", "--name", "A B")
    assert made[0] == DONE
    assert run("account", "create", "x@example.org", "--role", "king")[0] == MISUSE
    assert run("queue", "list", "--limit", "many")[0] == MISUSE
    assert run("queue", "list", "--limit", "0")[0] == MISUSE
    assert run("queue", "list", "--lim", "5")[0] == MISUSE  # no abbreviations: they break later
    shown = told(run("account", "show", "ann@example.org", "--json")[1])
    assert (shown["role"], shown["name"]) == ("admin", "A B")


def test_negative_numbers_and_dashes_reach_the_operation(run: Run) -> None:
    code, _, err = run("settings", "set", "quota.octets", "-1")
    assert code == MISUSE
    assert "at least 0" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("account", "show", "nobody@example.org"), REFUSED),
        (("account", "show", "no address"), MISUSE),
        (("settings", "get", "no.such"), REFUSED),
        (("settings", "set", "smtp.max_hops", "many"), MISUSE),
        (("trace", "nothing@example.org"), REFUSED),
        (("domain",), MISUSE),
        ((), MISUSE),
        (("paint",), MISUSE),
        (("domain", "list", "--sparkle"), MISUSE),
        (("--help",), DONE),
        (("account", "create", "--help"), DONE),
        (("check",), DONE),
    ],
)
def test_exit_codes(run: Run, words: tuple[str, ...], code: int) -> None:
    assert run(*words)[0] == code


def test_without_a_log_the_command_says_what_the_log_would(run: Run, tmp_path: Path) -> None:
    run("domain", "list")
    with contextlib.closing(sqlite3.connect(tmp_path / "mail.db")) as db, db:
        db.execute("ALTER TABLE setting RENAME TO unset")
    code, _, err = run("settings", "list")
    assert code == REFUSED
    assert "no such table: setting" in err


def test_errors_for_machines_are_on_standard_output(run: Run) -> None:
    code, out, err = run("account", "show", "nobody@example.org", "--json")
    assert (code, err) == (REFUSED, "")
    assert told(out) == {
        "error": {"status": "5.1.1", "sentence": "There is no account nobody@example.org"}
    }


def test_a_check_that_finds_something_is_no_success(run: Run, tmp_path: Path) -> None:
    run("account", "create", "ann@example.org")
    with contextlib.closing(sqlite3.connect(tmp_path / "mail.db")) as db, db:
        db.execute("UPDATE account SET used_bytes = 5")
    code, out, _ = run("check")
    assert code == REFUSED
    assert "PROBLEM: account a" in out
    assert run("check", "--repair")[0] == DONE
    assert run("check")[0] == DONE


def test_every_operation_is_a_command_with_help(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, operation in OPERATIONS.items():
        code, out, _ = run(*name.split(), "--help")
        assert code == DONE
        said = " ".join(out.split())
        assert " ".join(operation.summary.split()) in said, name
        assert "--data" in out
        assert "--json" in out


def test_the_top_lists_every_command(run: Run) -> None:
    _, out, _ = run("--help")
    for name in (*OPERATIONS, *cli.COMMANDS):
        assert re.search(rf"^ +{name.split()[0]}\b", out, re.MULTILINE), name
