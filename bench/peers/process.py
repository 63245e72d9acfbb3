"""What every target needs: free ports, a process that is watched and ended, cold files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil

from bench.model import BenchError, Endpoint

_HOST = "127.0.0.1"
_PROJECT = Path(__file__).parents[2]  # where `python -m bench.…` finds its modules
_START = 30.0  # s until every listener accepts
_STOP = 20.0  # s until the processes are gone


def free_endpoint(*, tls: bool = False) -> Endpoint:
    """A loopback port that nothing holds just now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return Endpoint(_HOST, probe.getsockname()[1], tls)


class Daemon:
    """A server process in the foreground and its children, with its output in a file."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=_PROJECT,
                start_new_session=True,
            )

    def wait_for(self, *endpoints: Endpoint) -> None:
        """Return once each accepts. Raises BenchError with the log's end if it does not."""
        for endpoint in endpoints:
            wait_until(partial(self._accepts, endpoint), f"port {endpoint.port}", _START)

    def processes(self) -> list[psutil.Process]:
        """The process and all that descend from it."""
        try:
            first = psutil.Process(self._process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what is left of the tree."""
        tree = self.processes()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _, left = psutil.wait_procs(tree[1:], timeout=2)
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def output(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-2_000:]

    def _accepts(self, endpoint: Endpoint) -> bool:
        if self._process.poll() is not None:
            raise BenchError(f"ended with {self._process.returncode}: {self.output()}")
        try:
            with socket.create_connection((endpoint.host, endpoint.port), timeout=5) as probe:
                # A TLS listener waits for the client; any other greets it.
                return endpoint.tls or probe.recv(1) != b""
        except OSError:
            return False


def wait_until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Poll until `holds()`. Raises BenchError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise BenchError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


def forget_pages(directory: Path) -> None:
    """Write back and drop the page cache of every file below `directory`, and of no other."""
    for path in _files(directory):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _files(directory: Path) -> Iterator[Path]:
    for root, _, names in os.walk(directory):
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path


def cpu(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that the processes and their children that ended have used."""
    used = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system + times.children_user + times.children_system
    return used


def memory(processes: list[psutil.Process]) -> tuple[int, int]:
    """(PSS, RSS) of the processes in octets; PSS shares out what they share."""
    pss = rss = 0
    for process in processes:
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for line in text.splitlines():
            if line.startswith("Pss:"):
                pss += int(line.split()[1]) * 1024
            elif line.startswith("Rss:"):
                rss += int(line.split()[1]) * 1024
    return pss, rss
