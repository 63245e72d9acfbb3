"""Postroom itself, started as an administrator starts it, with every check on."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.model import ACCOUNTS, DOMAIN, PASSWORD, BenchError, Endpoint
from bench.peers.process import Daemon, forget_pages, wait_until

_PORTS = (25, 80, 110, 143, 443, 465, 587, 993, 995, 4069, 4190, 5222, 5223, 5269)
_START = 60.0  # s
_QUIET = 60.0  # s until background work must have ended


class Postroom:
    """`postroom serve` from the environment that runs the bench."""

    name = "postroom"

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers
        self._command = str(Path(sys.executable).with_name("postroom"))
        self._server: Daemon | None = None
        self._root: Path | None = None
        self._offset = 0
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imaps: Endpoint | None = None

    def missing(self) -> str | None:
        """Why Postroom cannot run here, or None."""
        if not Path(self._command).exists():
            return "no postroom command beside this Python: run make setup"
        shown = subprocess.run([self._command, "serve", "--help"], capture_output=True, check=False)
        return None if shown.returncode == 0 else "this postroom does not serve yet"

    def start(self, directory: Path) -> None:
        """Start the server and create the accounts."""
        self._root = directory / "postroom"
        self._root.mkdir()
        self._offset = _free_offset()
        self.smtp = Endpoint("127.0.0.1", 25 + self._offset)
        self.imap = Endpoint("127.0.0.1", 143 + self._offset)
        self.imaps = Endpoint("127.0.0.1", 993 + self._offset)
        self._serve()
        for address in ACCOUNTS:
            self._run(["account", "create", address, "--password-stdin"], PASSWORD + "\n")

    def stop(self) -> None:
        """SIGTERM drains and stops."""
        if self._server is not None:
            self._server.stop()
        self._server = None

    def restart_cold(self) -> None:
        """Stop, forget the pages of the store, start again."""
        if self._root is None or self._server is None:
            raise RuntimeError("not started")
        self._server.stop()
        forget_pages(self._root)
        self._serve()

    def settle(self) -> None:
        """Wait until the server uses under a twentieth of a core: indexing has caught up."""
        wait_until(self._quiet, "Postroom to be quiet", _QUIET)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and its workers."""
        return self._server.processes() if self._server else []

    def _serve(self) -> None:
        if self._root is None or self.smtp is None or self.imap is None or self.imaps is None:
            raise RuntimeError("not started")
        self._server = Daemon(
            [
                self._command,
                "serve",
                *("--data", str(self._root / "data")),
                *("--port-offset", str(self._offset)),
                *("--workers", str(self._workers)),
                *("--domain", DOMAIN),
            ],
            self._root / "output.log",
        )
        try:
            self._run(["ready", "--timeout", f"{_START:g}"])
        except BenchError as error:
            raise BenchError(f"{error}; the server said: {self._server.output()}") from None
        self._server.wait_for(self.smtp, self.imap, self.imaps)

    def _run(self, arguments: list[str], given: str = "") -> None:
        if self._root is None:
            raise RuntimeError("not started")
        try:
            done = subprocess.run(
                [self._command, *arguments, "--data", str(self._root / "data")],
                input=given,
                capture_output=True,
                text=True,
                timeout=_START + 10,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"postroom {arguments[0]} did not end") from None
        if done.returncode:
            raise BenchError(f"postroom {arguments[0]}: {done.stderr.strip()[-500:]}")

    def _quiet(self) -> bool:
        before, began = self._cpu(), time.monotonic()
        time.sleep(0.4)
        return self._cpu() - before < (time.monotonic() - began) / 20

    def _cpu(self) -> float:
        used = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used += times.user + times.system
        return used


def _free_offset() -> int:
    """An offset at which every standard port is free just now.

    Raises BenchError after many tries.
    """
    for _ in range(200):
        offset = random.randrange(20_500, 27_000)
        if all(_is_free(port + offset) for port in _PORTS):
            return offset
    raise BenchError("no offset leaves all ports free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
