"""Postroom itself, started as an administrator starts it, with every check on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

from bench.load.apart import run_apart
from bench.load.signer import Signer
from bench.model import ACCOUNTS, DOMAIN, PASSWORD, BenchError, Endpoint, Filling
from bench.peers.offline import OfflinePlan, fill_offline
from bench.peers.process import Daemon, cpu, forget_pages, wait_until
from postroom.admin.client import call
from postroom.core.errors import MailError
from postroom.server.instance import Layout, wait_ready
from postroom.testing.dns import DnsServer
from postroom.testing.ports import free_offset
from postroom.testing.zones import Zones

SIGNER = Signer.make("example.org", "bench")
"""Whose signature a load may bear; its key is in DNS."""
_START = 60.0  # s
_LOOK = 0.005  # s between two looks whether it is ready
_INDEXED = 600.0  # s until texts must have been indexed
_QUIET = 60.0  # s until background work must have ended


class Postroom:
    """`postroom serve` from the environment that runs the bench."""

    name = "postroom"

    def __init__(self, workers: int = 2, options: tuple[str, ...] = ()) -> None:
        self._workers = workers
        self._options = options
        self._command = str(Path(sys.executable).with_name("postroom"))
        self._server: Daemon | None = None
        self._dns: DnsServer | None = None
        self._root: Path | None = None
        self._offset = 0
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imap_plain: Endpoint | None = None
        self.submissions: Endpoint | None = None
        self.first_start = 0.0  # s from `serve` on an empty directory until it was ready

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
        self._offset = free_offset()
        self.smtp = Endpoint("127.0.0.1", 25 + self._offset)
        # Passwords are taken only over TLS: RFC 8314 §3.
        self.imap = Endpoint("127.0.0.1", 993 + self._offset, tls=True)
        self.imap_plain = Endpoint("127.0.0.1", 143 + self._offset)
        self.submissions = Endpoint("127.0.0.1", 465 + self._offset, tls=True)
        began = time.monotonic()
        self.resume()
        self.first_start = time.monotonic() - began
        for address in ACCOUNTS:
            self.ask("account create", address=address, password=PASSWORD)

    def ask(self, operation: str, **asked: str) -> None:
        """Perform an operation on the running server. Raises BenchError."""
        try:
            call(self._layout().control_socket, operation, asked)
        except MailError as error:
            raise BenchError(f"{operation}: {error}") from error

    def stop(self) -> None:
        """SIGTERM drains and stops."""
        if self._server is not None:
            self._server.stop()
        if self._dns is not None:
            self._dns.__exit__(None, None, None)
        self._server = self._dns = None

    def restart_cold(self) -> None:
        """Stop, forget the pages of the store, start again."""
        self.stop()
        forget_pages(Path(self._layout().root))
        self.resume()

    def fill(self, *fillings: Filling) -> None:
        """Stop, append through the domain functions, start again."""
        self.stop()
        run_apart(fill_offline, OfflinePlan(self._layout().root, fillings))
        self.resume()

    def settle(self) -> None:
        """Wait until every text is indexed, and the server uses under a twentieth of a core."""
        self.ask("jobs run", name="search.index")
        wait_until(self._indexed, "Postroom to have indexed all", _INDEXED)
        wait_until(self._quiet, "Postroom to be quiet", _QUIET)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and its workers."""
        return self._server.processes() if self._server else []

    def resume(self) -> None:
        """Start on the stores that are there; the first start makes them."""
        if self._root is None:
            raise RuntimeError("not started")
        self._dns = DnsServer(_zones())
        self._dns.__enter__()
        self._server = Daemon(
            [
                self._command,
                "serve",
                *("--data", self._layout().root),
                *("--port-offset", str(self._offset)),
                *("--workers", str(self._workers)),
                *("--domain", DOMAIN),
                *("--resolver", str(self._dns)),
                *self._options,
            ],
            self._root / "output.log",
        )
        # What `postroom ready` asks, without the time that a command takes to start.
        if not wait_ready(self._layout(), _START, sleep=lambda seconds: time.sleep(_LOOK)):
            raise BenchError(f"not ready in {_START:g} s; it said: {self._server.output()}")

    def _layout(self) -> Layout:
        if self._root is None:
            raise RuntimeError("not started")
        return Layout(str(self._root / "data"))

    def _indexed(self) -> bool:
        time.sleep(0.5)
        told = call(self._layout().control_socket, "search status", {})
        return all(each["state"] == "up to date" for each in told)

    def _quiet(self) -> bool:
        before, began = cpu(self.processes()), time.monotonic()
        time.sleep(0.4)
        return cpu(self.processes()) - before < (time.monotonic() - began) / 20


class Unchecked(Postroom):
    """Postroom asks nobody who vouches for a message."""

    name = "unchecked"

    def start(self, directory: Path) -> None:
        """As Postroom, and then every check is turned off."""
        super().start(directory)
        for setting in ("spf.check", "dkim.verify", "dmarc.verify"):
            self.ask("settings set", name=setting, value="false")


class Forgetful(Postroom):
    """Postroom hashes every password that is said."""

    name = "forgetful"

    def start(self, directory: Path) -> None:
        """As Postroom, and then its memory is turned off."""
        super().start(directory)
        self.ask("settings set", name="access.remember", value="0")


def _zones() -> Zones:
    """What every check asks of DNS is answered here, and by nothing of this machine: the sender's
    policy, the client's name, and that nobody else exists."""
    zones = Zones()
    zones.text("example.org", "v=spf1 ip4:127.0.0.0/8 -all")
    zones.text("_dmarc.example.org", "v=DMARC1; p=reject")
    zones.text(f"{SIGNER.selector}._domainkey.{SIGNER.domain}", SIGNER.record)
    zones.host("client.example.org", "127.0.0.1")
    return zones
