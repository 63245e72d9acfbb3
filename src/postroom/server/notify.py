"""Telling systemd how it goes: sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

_log: FilteringBoundLogger = structlog.get_logger("postroom.server")

_TIMEOUT: Final = 1.0  # seconds: a receiver that does not read must not hold us up


class Notify:
    """The service manager's socket; says nothing if there is none."""

    def __init__(self, address: str | None = None, watchdog: float | None = None) -> None:
        """`address` is a path, or an abstract name after "@". `watchdog` is in seconds."""
        self._address = address
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Notify:
        """As the manager set it up for the process `pid`. sd_notify(3), sd_watchdog_enabled(3)."""
        address = environ.get("NOTIFY_SOCKET") or None
        watchdog: float | None = None
        usec = environ.get("WATCHDOG_USEC", "")
        if usec.isdecimal() and int(usec) > 0:
            meant_for = environ.get("WATCHDOG_PID", "")
            if not meant_for or meant_for == str(pid):
                watchdog = int(usec) / 1_000_000
        return cls(address, watchdog)

    def ready(self, text: str) -> None:
        """Started, or done with a reload."""
        self._send(f"READY=1\nSTATUS={_line(text)}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=Draining")

    def status(self, text: str) -> None:
        """One line for whoever looks at the unit."""
        self._send(f"STATUS={_line(text)}")

    def alive(self) -> None:
        """Keep the watchdog quiet."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # A leading @ is the abstract namespace, whose names begin with a zero byte. unix(7)
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_TIMEOUT)
                sock.sendto(message.encode("utf-8"), address)
        except OSError as error:
            # The service works without its manager; the manager will notice by itself.
            _log.warning("service manager not reached", address=self._address, reason=str(error))


def clean_environment() -> None:
    """Forget the manager's variables, so that no child program speaks for the service."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        os.environ.pop(name, None)


def _line(text: str) -> str:
    """A newline would begin another assignment."""
    return text.replace("\n", " ")
