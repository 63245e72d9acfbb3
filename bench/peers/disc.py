"""The disc as a target: append 10 KB, wait until it is durable.

Waiters share one fdatasync, as any durable server on one log file must: the physical floor.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import psutil

from bench.model import BenchError, Endpoint, Filling


class Disc:
    """A directory on the disc that every target uses."""

    name = "disc"
    smtp: Endpoint | None = None
    imap: Endpoint | None = None
    imap_plain: Endpoint | None = None

    def __init__(self) -> None:
        self._directory: Path | None = None

    @property
    def directory(self) -> Path:
        """Where to write, once started."""
        if self._directory is None:
            raise RuntimeError("not started")
        return self._directory

    def missing(self) -> str | None:
        """There is always a disc."""
        return None

    def start(self, directory: Path) -> None:
        """Remember the directory."""
        self._directory = directory

    def stop(self) -> None:
        """Nothing runs."""

    def resume(self) -> None:
        """Not offered: nothing is kept."""
        raise BenchError("the disc has no store")

    def restart_cold(self) -> None:
        """Not offered: nothing is read."""
        raise BenchError("the disc has no store")

    def fill(self, *fillings: Filling) -> None:
        """Not offered, for the same reason."""
        raise BenchError("the disc has no store")

    def settle(self) -> None:
        """Nothing runs."""

    def processes(self) -> list[psutil.Process]:
        """None."""
        return []


class GroupCommit:
    """One file to which many threads append; one of them syncs for all that wait."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._generation = 0  # of the batch that now collects
        self._durable = -1  # the last batch on disc
        self._syncing = False

    def append(self, record: bytes) -> None:
        """Return once `record` is on disc."""
        with self._changed:
            mine = self._generation
            self._waiting.append(record)
            while self._durable < mine and self._syncing:
                self._changed.wait()
            if self._durable >= mine:
                return
            self._syncing = True
            batch, self._waiting = self._waiting, []
            self._generation += 1
        os.writev(self._descriptor, batch)
        os.fdatasync(self._descriptor)
        with self._changed:
            self._durable = mine
            self._syncing = False
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
