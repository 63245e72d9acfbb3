"""The commands on a running server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mailflow.transfer.test_importing import lines, numbered
from tests.mailflow.transfer.trees import maildir, put, text
from tests.walking import ENVIRONMENT, PROGRAM, Walking, fetched


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walking]:
    walking = Walking(tmp_path_factory.mktemp("walk"))
    walking.start()
    try:
        yield walking
    finally:
        walking.close()


def test_a_running_server_imports_and_exports_and_imap_sees_it(
    walk: Walking, tmp_path: Path
) -> None:
    ann = walk.account("ann")
    source = maildir(tmp_path / "source")
    numbered(source, 3)
    ran = walk.postroom("import", "maildir", str(source), ann.address)
    assert ran.text.startswith("Imported 3 messages of ")
    with walk.imaplib(ann) as box:
        box.select("INBOX", readonly=True)
        assert len(fetched(box)) == 3
        _, data = box.fetch("1", "(FLAGS INTERNALDATE)")
        assert b"\\Seen" in data[0]  # type: ignore[operator]  # bytes, of what was asked
        assert b"13-Sep-2020 12:26:40 +0000" in data[0]  # type: ignore[operator]  # as above
    target = tmp_path / "out"
    ran = walk.postroom("--json", "export", "maildir", ann.address, str(target))
    assert json.loads(ran.out)["exported"] == 3
    assert len(os.listdir(target / "cur")) == 3
    ran = walk.postroom(
        *("export", "mbox", ann.address, str(tmp_path / "in.mbox"), "--mailbox", "INBOX")
    )
    assert "Exported 3 messages" in ran.text


def test_what_failed_makes_the_exit_code(walk: Walking, tmp_path: Path) -> None:
    bea = walk.account("bea")
    source = maildir(tmp_path / "source")
    put(source, "cur/1.a", b"")
    ran = walk.postroom("import", "maildir", str(source), bea.address, code=1)
    assert "PROBLEM: cur/1.a: It is empty" in ran.text
    ran = walk.postroom("import", "mbox", str(tmp_path / "none"), bea.address, code=2)
    assert "on the server's machine" in ran.text


def test_a_relative_path_is_the_callers(walk: Walking, tmp_path: Path) -> None:
    walk.account("dora")
    (tmp_path / "x.mbox").write_bytes(b"From a@b Sun Sep 13 12:26:40 2020\n" + text("one") + b"\n")
    done = subprocess.run(
        [*PROGRAM, "--data", str(walk.data), "import", "mbox", "x.mbox", "dora@example.test",
         "--receipt", "receipt", "--dry-run"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert lines(str(tmp_path / "receipt"))[-1]["summary"]["imported"] == 1
