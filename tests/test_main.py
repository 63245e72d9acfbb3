"""The command `postroom`, as a process: without a server, with one, and after it."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom import __version__
from postroom.server import house
from postroom.server.instance import Layout
from postroom.testing.ports import free_offset

SRC = str(Path(__file__).parents[1] / "src")
PROGRAM = [sys.executable, "-m", "postroom"]
ENV = {**os.environ, "PYTHONPATH": SRC}


def postroom(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], env=ENV, input=stdin, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data directory with empty stores and no server."""
    layout = Layout(str(tmp_path / "data"))
    layout.create()
    house.migrate(layout, house.read_bootstrap(layout))
    return layout.root


def test_without_a_store_nothing_is_made(tmp_path: Path) -> None:
    done = postroom("domain", "list", "--data", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "There is no store in" in done.stderr
    assert not (tmp_path / "none").exists()


def test_a_stopped_server_is_administered_directly(data: str) -> None:
    made = postroom("--data", data, "domain", "create", "example.org", "--json")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["domain"] == "example.org"
    assert made.stderr == ""
    again = postroom("domain", "create", "example.org", f"--data={data}")
    assert (again.returncode, again.stdout) == (1, "")
    wrong = postroom("domain", "create", "not a domain", "--data", data)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "postroom: not a domain is not a valid domain\n",
    )
    assert postroom("jobs", "run", "blobs.sweep", "--data", data).returncode == 0


def test_without_a_command_it_is_misuse() -> None:
    for words in ((), ("--json",), ("--data", "x"), ("--data",)):
        assert postroom(*words).returncode == 2
    assert "serve" in postroom("--help").stdout
    assert postroom("--version").stdout == f"Postroom {__version__}\n"


def test_a_reader_that_goes_away_is_no_crash(data: str) -> None:
    with subprocess.Popen(
        [*PROGRAM, "settings", "list", "--json", "--data", data],
        env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as listing:  # fmt: skip
        assert listing.stdout is not None
        assert listing.stderr is not None
        listing.stdout.close()
        assert "Traceback" not in listing.stderr.read()


def test_ready_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    done = postroom("ready", "--timeout", "0.2", "--data", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "was not ready within 0.2 s" in done.stderr
    assert postroom("--data", str(tmp_path), "ready", "--timeout", "soon").returncode == 2


def test_serve_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    done = postroom("serve", "--data", str(tmp_path), "--workers", "0", "--port-offset", "20000")
    assert done.returncode == 2
    assert "Workers are from 1" in done.stderr
    assert postroom("serve", "--sparkle").returncode == 2
    assert "--port-offset" in postroom("serve", "--help").stdout


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server that `postroom serve` has just made."""
    data = str(tmp_path / "fresh")
    options = ["--port-offset", str(free_offset()), "--bind", "127.0.0.1", "--workers", "2"]
    with subprocess.Popen(
        [*PROGRAM, "--data", data, "serve", *options, "--domain", "first.example"],
        env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as server:  # fmt: skip
        ready = postroom("ready", "--timeout", "30", "--data", data)
        if ready.returncode:
            server.kill()
            assert server.stdout is not None
            raise AssertionError(server.stdout.read())
        try:
            yield data, server
        finally:
            server.kill()


def test_a_running_server_is_administered_through_its_socket(
    served: tuple[str, subprocess.Popen[str]],
) -> None:
    data, server = served
    assert _imported("account", "show", "admin@first.example", "--data", data) < 120
    status = json.loads(postroom("status", "--json", "--data", data).stdout)
    assert status["state"] == "ready"
    assert [worker["state"] for worker in status["workers"]] == ["ready", "ready"]
    assert "admin.operations" in status["metrics"]
    made = postroom(
        "account", "create", "ann@first.example", "--password-stdin", "--data", data,
        stdin="correct horse\n",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert postroom("account", "show", "bob@first.example", "--data", data).returncode == 1
    assert postroom("settings", "set", "smtp.max_hops", "x", "--data", data).returncode == 2
    server.send_signal(signal.SIGTERM)
    said, _ = server.communicate(timeout=40)
    assert server.returncode == 0
    assert "admin@first.example" in said
    assert "correct horse" not in said
    assert "operation performed" in said
    # And now without it: the same command, the same answer.
    listed = json.loads(postroom("account", "list", "--json", "--data", data).stdout)
    assert [each["address"] for each in listed] == ["admin@first.example", "ann@first.example"]


def _imported(*words: str) -> int:
    """How many modules a command imports where a server runs."""
    counted = (
        "import sys; from postroom.__main__ import main; code = main(sys.argv[1:]);"
        "print(len(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", counted, *words], env=ENV, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr)


def test_what_a_command_reads_lies_where_it_was_typed(
    served: tuple[str, subprocess.Popen[str]], tmp_path: Path
) -> None:
    data, _ = served
    (tmp_path / "town.toml").write_text('format = 1\ndomains = ["b.example"]\n', encoding="utf-8")

    def here(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *words, "--data", data],
            cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    done = here("config", "diff", "town.toml")
    assert (done.returncode, done.stdout) == (0, "+ domain b.example\n"), done.stderr
    done = here("config", "diff", "gone.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"postroom: {tmp_path}/gone.toml cannot be read: No such file or directory\n"
    )
    done = here("backup", "copies")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copies").is_dir()
    assert postroom("restore", str(tmp_path / "copies"), "--data", data).returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another")
def test_root_leaves_nothing_behind_that_the_server_could_not_open() -> None:
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        layout = Layout(folder)
        layout.create()
        house.migrate(layout, house.read_bootstrap(layout))
        for path in (folder, *map(str, Path(folder).rglob("*"))):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        made = postroom("domain", "create", "example.org", "--data", folder)
        if "cannot read" in made.stderr:
            # Python lies where that user may not look: then nothing is done at all.
            assert (made.returncode, made.stdout) == (2, "")
        else:
            assert made.returncode == 0, made.stderr
        owners = {path.name: path.stat().st_uid for path in Path(folder).rglob("*")}
        assert set(owners.values()) == {nobody.pw_uid}, owners
