"""Starting and killing servers, tried on a small one that forks workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.testing.process import (
    ProcessDiedError,
    ServerProcess,
    descendants,
)

# Two workers in the supervisor's group; DIR/ready appears when they run.
SERVER = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--data") + 1])
print("to stdout", flush=True)
print("to stderr", file=sys.stderr, flush=True)
for n in range(2):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif "--loud" in sys.argv:
    sys.stderr.write("x" * 1_000_000)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
(folder / "ready").touch()
time.sleep(60)
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    return str(path)


def start(script: str, folder: Path, *options: str) -> ServerProcess:
    return ServerProcess(
        [sys.executable, script, *options], folder, ready=(folder / "ready").exists
    )


@pytest.fixture
def server(script: str, tmp_path: Path) -> Iterator[ServerProcess]:
    with start(script, tmp_path) as server:
        server.wait_ready(10)
        yield server


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def test_it_runs_in_a_group_of_its_own_and_shows_its_workers(server: ServerProcess) -> None:
    workers = server.workers()
    assert len(workers) == 2
    assert workers == sorted(workers)
    assert set(server.group()) == {server.pid, *workers}
    assert os.getpgid(server.pid) == server.pid != os.getpgid(0)
    assert set(workers) <= set(descendants(os.getpid()))
    assert server.returncode is None
    assert server.stdout() == "to stdout\n"
    assert server.stderr() == "to stderr\n"


def test_killing_the_group_leaves_nobody(server: ServerProcess) -> None:
    family = server.group()
    server.kill_group()
    assert len(family) == 3
    assert not any(alive(pid) for pid in family)
    assert server.returncode == -signal.SIGKILL
    assert server.workers() == server.group() == []
    server.kill_group()  # nobody is left to be hit


def test_one_worker_can_be_killed_and_the_rest_lives(server: ServerProcess) -> None:
    first, second = server.workers()
    server.kill_one(first)
    deadline = time.monotonic() + 5
    while server.workers() != [second]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.returncode is None


def test_nobody_outside_the_group_can_be_killed(server: ServerProcess) -> None:
    with pytest.raises(ValueError, match="group"):
        server.kill_one(os.getpid())


def test_orphans_of_a_dead_supervisor_are_seen_and_killed(server: ServerProcess) -> None:
    workers = server.workers()
    server.kill_one(server.pid)
    assert server.wait(5) == -signal.SIGKILL
    assert set(server.group()) == set(workers)
    server.kill_group()
    assert not any(alive(pid) for pid in workers)


def test_terminate_gives_the_exit_code(server: ServerProcess) -> None:
    assert server.terminate(10) == 7


def test_what_ignores_sigterm_is_killed_and_reported(script: str, tmp_path: Path) -> None:
    with start(script, tmp_path, "--stubborn") as server:
        server.wait_ready(10)
        family = server.group()
        with pytest.raises(TimeoutError):
            server.terminate(0.2)
        assert not any(alive(pid) for pid in family)


def test_much_output_does_not_stop_it(script: str, tmp_path: Path) -> None:
    with start(script, tmp_path, "--loud") as server:
        server.wait_ready(10)
        assert len(server.stderr()) > 1_000_000


def test_a_process_that_ends_before_it_is_ready_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such setting')"]
    with (
        ServerProcess(command, tmp_path, ready=lambda: False) as server,
        pytest.raises(ProcessDiedError, match=r"ended with 1 (?s:.)*no such setting"),
    ):
        server.wait_ready(10)


def test_one_that_never_gets_ready_times_out(script: str, tmp_path: Path) -> None:
    with (
        ServerProcess([sys.executable, script], tmp_path, ready=lambda: False) as server,
        pytest.raises(TimeoutError, match="not ready"),
    ):
        server.wait_ready(0.2)


def test_readiness_is_asked_by_the_command_beside_serve(tmp_path: Path) -> None:
    """`X serve` is asked by `X ready --data DIR --timeout S`, until that exits 0."""
    script = tmp_path / "postroom.py"
    script.write_text(
        "import pathlib, sys, time\n"
        "serve, folder = sys.argv[1] == 'serve', pathlib.Path(sys.argv[3])\n"
        "assert sys.argv[2] == '--data'\n"
        "if serve: time.sleep(0.3); (folder / 'up').touch(); time.sleep(60)\n"
        "sys.exit(0 if sys.argv[1] == 'ready' and (folder / 'up').exists() else 1)\n"
    )
    with ServerProcess([sys.executable, str(script), "serve"], tmp_path) as server:
        server.wait_ready(10)
        assert (tmp_path / "up").exists()
