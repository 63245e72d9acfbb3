"""The supervisor as a process with real workers: deaths and stops."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

from postroom.server.instance import Layout, read_status
from postroom.testing.notify import NotifySocket

from .running import (
    Serve,
    ask,
    close,
    connect,
    connections_to_each,
    eventually,
    port,
    runs,
    status,
)

# --- restart ------------------------------------------------------------------------------


def test_a_killed_worker_is_replaced_fast_and_nobody_is_refused(
    serve: Serve, layout: Layout, tmp_path: Path
) -> None:
    server = serve()
    served = connections_to_each(layout)
    victim, survivor = served
    refused: list[OSError] = []
    answered = 0
    done = threading.Event()

    def knock() -> None:
        nonlocal answered
        while not done.is_set():
            try:
                with connect(layout) as sock:
                    if ask(sock, b"x") == b"x":
                        answered += 1
            except ConnectionResetError:
                pass  # it was in the hands of the victim
            except OSError as error:
                refused.append(error)

    thread = threading.Thread(target=knock)
    thread.start()
    time.sleep(0.05)
    server.kill_one(victim)
    took = eventually(lambda: victim not in server.workers() and len(server.workers()) == 2)
    ready = eventually(lambda: all(w.state == "ready" for w in status(layout).workers))
    time.sleep(0.2)
    done.set()
    thread.join()
    assert took < 0.2
    assert took + ready < 1
    assert refused == []
    assert answered > 20
    # Who was served by the other one has noticed nothing.
    assert ask(served[survivor][0], b"still here") == b"still here"
    assert served[victim][0].recv(10) == b""
    close(served)
    # What was to be cleared up was, by a process of its own.
    deaths = tmp_path / "deaths"
    eventually(deaths.exists)
    index, pid, code, by = (int(word) for word in deaths.read_text().split())
    assert (pid, code) == (victim, -signal.SIGKILL)
    assert index in (0, 1)
    assert by not in (server.pid, survivor, victim)
    assert sorted(w.deaths for w in status(layout).workers) == [0, 1]


def test_a_status_that_cannot_be_written_ends_nobody_and_is_written_later(
    serve: Serve, layout: Layout
) -> None:
    server = serve()
    victim, survivor = (worker.pid for worker in status(layout).workers)
    # As a full disk refuses it, for root as well.
    obstacle = Path(f"{layout.status}.new")
    obstacle.mkdir()
    server.kill_one(victim)
    eventually(lambda: victim not in server.workers() and len(server.workers()) == 2)
    assert survivor in server.workers()
    assert victim in (worker.pid for worker in status(layout).workers)  # the old one still
    obstacle.rmdir()
    eventually(lambda: all(w.state == "ready" for w in status(layout).workers))
    eventually(lambda: {w.pid for w in status(layout).workers} <= set(server.workers()))
    assert server.returncode is None


def test_what_waits_in_the_backlog_of_a_dead_worker_is_served_by_its_successor(
    serve: Serve, layout: Layout
) -> None:
    server = serve("--workers", "1")
    with connect(layout) as first:
        pid = int(ask(first, b"PID"))
        os.kill(pid, signal.SIGSTOP)  # connections now only reach the backlog
        waiting = [connect(layout) for _ in range(20)]
        for sock in waiting:
            sock.sendall(b"hello\n")
        server.kill_one(pid)
        for sock in waiting:
            with sock:
                assert sock.recv(100) == b"hello\n"


def test_a_worker_that_keeps_dying_is_given_up_and_the_others_get_its_share(
    serve: Serve, layout: Layout
) -> None:
    server = serve()
    index = 0
    for deaths in range(1, 6):
        victim = status(layout).workers[index]
        server.kill_one(victim.pid)
        eventually(lambda n=deaths: status(layout).workers[index].deaths == n)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    assert status(layout).state == "degraded"
    assert status(layout).workers[index].state == "dead"
    survivor = status(layout).workers[1].pid
    # Who clears up after a death may hold the door open for a moment longer.
    eventually(lambda: all(_served_by(layout) == survivor for _ in range(30)))
    assert server.returncode is None
    assert "given up" in server.stdout() + server.stderr()


def test_background_work_has_a_process_without_doors(
    serve: Serve, layout: Layout, tmp_path: Path
) -> None:
    server = serve("--background")
    eventually((tmp_path / "background").exists)
    told = status(layout)
    assert told.background is not None
    assert [worker.index for worker in told.workers] == [0, 1]
    assert told.background.index == 2
    eventually(lambda: (tmp_path / "background").read_text().endswith("]\n"))
    pid, given, listening = (tmp_path / "background").read_text().strip().split(" ", 2)
    assert (int(pid), given, listening) == (told.background.pid, "0", "[]")
    assert set(server.workers()) == {told.background.pid, *(w.pid for w in told.workers)}
    server.terminate()
    assert server.wait(10) == 0


def test_background_work_that_keeps_dying_leaves_the_workers_alone(
    serve: Serve, layout: Layout
) -> None:
    server = serve("--background")
    workers = {worker.pid for worker in status(layout).workers}
    for deaths in range(1, 6):
        background = status(layout).background
        assert background is not None
        server.kill_one(background.pid)

        def died(deaths: int = deaths) -> bool:
            now = status(layout).background
            return now is not None and now.deaths == deaths

        eventually(died)
    assert status(layout).state == "degraded"
    assert {worker.pid for worker in status(layout).workers} == workers
    with connect(layout) as sock:
        assert int(ask(sock, b"PID")) in workers
    assert server.returncode is None


def _served_by(layout: Layout) -> int:
    try:
        with connect(layout) as sock:
            return int(ask(sock, b"PID"))
    except ConnectionResetError:
        return 0


def test_when_no_worker_can_live_the_server_says_so_and_fails(serve: Serve, tmp_path: Path) -> None:
    with NotifySocket() as notify:
        server = serve("--die-at-start", env=notify.environment, ready=False)
        assert server.wait(10) == 1
        assert "READY=1" not in notify.collect()
    assert len((tmp_path / "deaths").read_text().splitlines()) == 10


# --- stop ---------------------------------------------------------------------------------


def test_sigterm_finishes_what_is_in_flight(serve: Serve, layout: Layout) -> None:
    server = serve()
    idle, busy = connect(layout), connect(layout)
    assert ask(idle, b"x") == b"x"
    assert ask(busy, b"x") == b"x"
    where = ("127.0.0.1", port(layout))
    busy.sendall(b"SLOW\n")
    time.sleep(0.1)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert idle.recv(100) == b"bye\n"
    assert idle.recv(100) == b""
    eventually(lambda: _refused(where))  # as soon as the other worker has heard it too
    assert busy.recv(100) == b"done\n"
    assert busy.recv(100) == b""
    idle.close()
    busy.close()
    assert server.wait(10) == 0
    assert 0.3 < time.monotonic() - begun < 5
    assert os.listdir(layout.run) == ["instance.lock"]


def _refused(where: tuple[str, int]) -> bool:
    try:
        socket.create_connection(where, timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_that_does_not_drain_is_killed_in_the_end(serve: Serve, layout: Layout) -> None:
    server = serve("--no-drain", "--grace", "0.5")
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 0
    assert 0.4 < time.monotonic() - begun < 5


def test_ctrl_c_twice_does_not_wait(serve: Serve, layout: Layout) -> None:
    server = serve("--no-drain", "--grace", "60")
    os.killpg(server.pid, signal.SIGINT)  # as the terminal does: to the whole group
    time.sleep(0.2)
    assert server.returncode is None
    os.killpg(server.pid, signal.SIGINT)
    assert server.wait(5) == 0


def test_workers_die_with_the_supervisor_and_the_next_server_starts_at_once(
    serve: Serve, layout: Layout
) -> None:
    server = serve()
    workers = server.workers()
    os.kill(server.pid, signal.SIGKILL)
    server.wait(5)
    took = eventually(lambda: not any(runs(pid) for pid in workers))
    assert took < 1
    assert read_status(layout) is None
    serve()
    with connect(layout) as sock:
        assert ask(sock, b"x") == b"x"
