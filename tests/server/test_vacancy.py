"""`postroom backup` and `postroom restore` as commands, from one directory into another."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from postroom.core import log
from postroom.core.errors import NotAllowed
from postroom.core.secrets import Keyring
from postroom.domain.directory import people
from postroom.server import house
from postroom.server.command import main
from postroom.server.instance import Instance, Layout
from postroom.store.backup import SqliteLoading
from postroom.store.sql import Statement
from postroom.testing import rounds

_AUDIT = Statement("SELECT operation FROM audit ORDER BY id DESC LIMIT 2")
PEOPLE = rounds.addresses(3)


@pytest.fixture(autouse=True)
def log_of_a_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sets up the log of its process for good; here others come after it."""
    before = structlog.get_config()
    monkeypatch.setattr(log, "configure", partial(log.configure, once=False))
    yield
    structlog.configure(**before)


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A furnished directory."""
    folder = str(tmp_path / "data")
    asyncio.run(rounds.furnish(Layout(folder), PEOPLE))
    Keyring(Layout(folder).secrets).make()
    return folder


@pytest.fixture
def target(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A folder with a backup of it."""
    folder = str(tmp_path / "backups")
    assert main(["--data", data, "backup", folder]) == 0
    capsys.readouterr()
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def addresses(data: str) -> list[str]:
    async def look() -> list[str]:
        async with house.open_house(Layout(data)) as flow:
            found = await flow.mail.read(lambda tx: people.accounts(tx, "", 100))
            return [str(each.address) for each in found]

    return asyncio.run(look())


def audited(data: str) -> list[str]:
    """The latest operations that the audit knows, the latest first."""

    async def look() -> list[str]:
        async with house.open_house(Layout(data)) as flow:
            rows = await flow.state.read(lambda tx: tx.all(_AUDIT))
            return [str(row[0]) for row in rows]

    return asyncio.run(look())


def test_a_directory_is_restored_into_another(
    data: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = str(tmp_path / "new")
    assert main(["restore", target, "--data", new, "--json"]) == 0
    report = told(capsys)
    assert report["problems"] == []
    assert report["checked"]["accounts"] == len(PEOPLE) + 1
    assert addresses(new) == addresses(data)
    assert not os.path.exists(house.restoring_mark(Layout(new)))
    sealed = [(Path(folder) / "secrets" / "keys").read_bytes() for folder in (data, new)]
    assert sealed[0] == sealed[1]
    keys = [sorted(p.name for p in (Path(folder) / "tls").iterdir()) for folder in (data, new)]
    assert keys[0] == keys[1] != []
    assert main(["check", "--data", new]) == 0
    assert audited(new) == ["check", "restore"]


@pytest.mark.postgres
def test_it_moves_to_the_database_that_the_new_directory_names(
    data: str, target: str, tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    new, back = Layout(str(tmp_path / "new")), str(tmp_path / "back")
    new.create()
    Path(new.bootstrap).write_text(f'[database]\nurl = "{postgres_url}"\n')
    assert main(["restore", target, "--data", new.root]) == 0
    assert addresses(new.root) == addresses(data)
    assert main(["restore", target, "--data", new.root]) == 1  # it holds a store now
    again = str(tmp_path / "again")
    assert main(["backup", again, "--data", new.root]) == 0
    assert main(["restore", again, "--data", back]) == 0
    assert addresses(back) == addresses(data)


def test_a_directory_with_a_store_or_a_server_is_left_alone(
    data: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", target, "--data", data]) == 1
    assert "There is a store in" in capsys.readouterr().err
    new = Layout(str(tmp_path / "new"))
    new.create()
    running = Instance.acquire(new)
    try:
        assert main(["restore", target, "--data", new.root]) == 1
        assert "Another server runs" in capsys.readouterr().err
    finally:
        running.release()
    assert main(["restore", str(tmp_path / "nothing"), "--data", new.root]) == 1
    assert main(["restore", target, "--at", "20200101T000000000Z", "--data", new.root]) == 1
    assert not os.path.exists(house.restoring_mark(new))
    assert main(["restore", target, "--data", new.root]) == 0


@pytest.mark.parametrize("at", ["loading", "migrating", "checking"])
def test_what_was_interrupted_is_not_served_and_is_begun_again(
    at: str,
    data: str,
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = Layout(str(tmp_path / "new"))

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "loading":
            patch.setattr(SqliteLoading, "finish", interrupted)
        elif at == "migrating":
            patch.setattr(house, "bring_up", interrupted)
        else:
            patch.setattr(house, "open_house", interrupted)
        assert main(["restore", target, "--data", new.root]) == 130
    assert os.path.exists(house.restoring_mark(new))
    with pytest.raises(NotAllowed):
        house.migrate(new, house.read_bootstrap(new))
    assert main(["check", "--data", new.root]) == 1
    assert "has not come to its end" in capsys.readouterr().err
    assert main(["restore", target, "--data", new.root]) == 0
    assert addresses(new.root) == addresses(data)
    assert main(["check", "--data", new.root]) == 0


def test_another_backup_may_be_chosen_after_an_interruption(
    data: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next((Path(target) / "backups").iterdir()).stem
    assert main(["account", "create", "new@example.test", "--data", data]) == 0
    assert main(["backup", target, "--data", data]) == 0
    new = Layout(str(tmp_path / "new"))

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(house, "bring_up", interrupted)
        assert main(["restore", target, "--data", new.root]) == 130
    assert main(["restore", target, "--at", first, "--data", new.root]) == 0
    assert "new@example.test" not in addresses(new.root)


def test_damage_is_told_by_the_exit_code(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(tmp_path / "data")
    assert main(["backup", "verify", target, "--data", data]) == 0
    for pack in (Path(target) / "packs").iterdir():
        pack.write_bytes(b"x" + pack.read_bytes()[1:])
    assert main(["backup", "verify", target, "--data", data]) == 1
    assert "PROBLEM" in capsys.readouterr().out


def test_a_relative_folder_is_the_shells(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["backup", "here", "--full", "--data", data]) == 0
    assert (tmp_path / "here" / "repository.json").exists()
    # A folder with the name of a verb is written so that it is none.
    assert main(["--data", data, "backup", "./list"]) == 0
    assert main(["backup", "list", "here", "--data", data]) == 0
    assert main(["backup", "--data", data]) == 2
    assert main(["backup", "--data", data, "--json"]) == 2
