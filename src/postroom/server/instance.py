"""One server on one directory: the layout of `DIR`, its lock, what it says about itself."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from postroom.core.errors import InUse

WAIT: Final = 5.0  # seconds for a predecessor that is just ending
_POLL: Final = 0.05


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in `DIR`."""

    root: str

    @property
    def bootstrap(self) -> str:
        """What is needed to start; optional."""
        return os.path.join(self.root, "postroom.toml")

    @property
    def tls(self) -> str:
        return os.path.join(self.root, "tls")

    @property
    def secrets(self) -> str:
        """The keys of sealed secrets, alone in their folder."""
        return os.path.join(self.root, "secrets", "keys")

    @property
    def run(self) -> str:
        """What means nothing once the server has ended: sockets, lock, status."""
        return os.path.join(self.root, "run")

    @property
    def lock(self) -> str:
        return os.path.join(self.run, "instance.lock")

    @property
    def pid_file(self) -> str:
        return os.path.join(self.run, "postroom.pid")

    @property
    def status(self) -> str:
        return os.path.join(self.run, "status.json")

    @property
    def control_socket(self) -> str:
        return os.path.join(self.run, "control.sock")

    @property
    def lmtp_socket(self) -> str:
        return os.path.join(self.run, "lmtp.sock")

    def create(self, owner: tuple[int, int] | None = None) -> None:
        """Make the folders that are missing, open to nobody else.

        `owner` (user, group) is who gets the new ones when root makes them for another.
        """
        for folder in (self.root, self.run, self.tls, os.path.dirname(self.secrets)):
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                continue
            except FileNotFoundError:  # DIR deep below what exists; its parents are not ours
                os.makedirs(folder, 0o700)
            if owner is not None:
                os.chown(folder, *owner)


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    index: int
    pid: int
    state: str  # starting, ready, dead
    deaths: int


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """What the supervisor says about itself; `postroom ready` reads it."""

    pid: int
    state: str  # starting, ready, degraded, reloading, stopping
    listeners: tuple[tuple[str, str, int], ...]  # name, address, port
    workers: tuple[WorkerStatus, ...]
    background: WorkerStatus | None = None  # the process that does what takes long

    @property
    def serves(self) -> bool:
        """True if every listener accepts in every worker that is not given up."""
        return self.state in ("ready", "degraded", "reloading")


class Instance:
    """The lock on a directory, held until the process and all that it forked have ended."""

    def __init__(self, layout: Layout, descriptor: int) -> None:
        self.layout = layout
        self._descriptor = descriptor

    @classmethod
    def acquire(
        cls,
        layout: Layout,
        *,
        wait: float = WAIT,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Instance:
        """Take the lock, waiting `wait` seconds for a predecessor. Raises InUse.

        Forked workers inherit it: as long as one of a killed server still writes, no second
        server begins. A status that a killed predecessor left is removed.
        """
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = clock() + wait
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if clock() >= deadline:
                        raise InUse(
                            f"Another server runs on {layout.root}{_by_whom(layout)}"
                        ) from None
                    sleep(_POLL)
            _remove(layout.status)
            _replace(layout.pid_file, f"{os.getpid()}\n".encode("ascii"))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(layout, descriptor)

    def publish(self, status: ServerStatus) -> None:
        """Tell `postroom ready` and whoever asks; readers see the old or the new, never half."""
        _replace(self.layout.status, json.dumps(asdict(status)).encode("utf-8"))

    def release(self) -> None:
        """Let go, at the end: nothing says any more that a server is here."""
        _remove(self.layout.status)
        _remove(self.layout.pid_file)
        os.close(self._descriptor)


def read_status(layout: Layout) -> ServerStatus | None:
    """What the running server says; None if none runs or it has not come that far."""
    try:
        with open(layout.status, "rb") as file:
            told = json.loads(file.read(1 << 20))
        status = ServerStatus(
            pid=told["pid"],
            state=told["state"],
            listeners=tuple((name, address, port) for name, address, port in told["listeners"]),
            workers=tuple(WorkerStatus(**worker) for worker in told["workers"]),
            background=WorkerStatus(**told["background"]) if told.get("background") else None,
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    # A killed server leaves its status; its process may be a zombie, its number another's.
    return status if _alive(status.pid) and _locked(layout) else None


def wait_ready(
    layout: Layout,
    timeout: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """True once every listener accepts; False after `timeout` seconds. `DIR` may come later."""
    deadline = clock() + timeout
    while True:
        status = read_status(layout)
        if status is not None and status.serves:
            return True
        if clock() >= deadline:
            return False
        sleep(_POLL)


def _by_whom(layout: Layout) -> str:
    try:
        with open(layout.pid_file, encoding="ascii") as file:
            return f" (process {int(file.read(32))})"
    except (OSError, ValueError):
        return ""


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, but there
    return True


def _locked(layout: Layout) -> bool:
    """True if some process holds the instance lock. One that starts now tries again."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(path: str, content: bytes) -> None:
    """Readers see the old or the new. Not synced: after a crash of the machine it is void."""
    fresh = f"{path}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
    os.rename(fresh, path)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
