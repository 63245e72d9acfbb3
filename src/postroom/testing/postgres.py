"""A PostgreSQL cluster of our own: made, started, killed and thrown away by the tests.

It runs the system's binaries (Debian's place, PATH, or POSTROOM_TEST_POSTGRES=DIR) as a user
without rights, in a folder of its own, on a Unix socket and a loopback port. Anybody on this
machine may sign in to it: it holds nothing but test data.
"""

from __future__ import annotations

import atexit
import ctypes
import glob
import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

OVERRIDE: Final = "POSTROOM_TEST_POSTGRES"
"""Environment variable: the folder of initdb and postgres. Set to "" it means: there is none."""

_USER: Final = "postroom"
_PLACES: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
_RUN_AS: Final = ("postgres", "nobody")  # by choice, when we are root: initdb refuses root
_START: Final = 30.0  # seconds, beyond which starting has failed
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

SETTINGS: Final[Mapping[str, str]] = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "autovacuum_naptime": "10s",
    "log_checkpoints": "off",
    # A test that leaves a transaction open shows as a failure, not as a stopped run.
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
}


class NotInstalledError(Exception):
    """There is no PostgreSQL server on this machine."""


class StartFailedError(Exception):
    """initdb or postgres failed; the message holds what they said."""


def find_binaries() -> str:
    """The folder of initdb and postgres, the newest version first. Raises NotInstalledError."""
    override = os.environ.get(OVERRIDE)
    if override is not None:
        places = [override] if override else []
    else:
        found = [folder for place in _PLACES for folder in glob.glob(place)]
        places = sorted(found, key=_version, reverse=True)
        on_path = shutil.which("initdb")
        if on_path is not None:
            places.append(os.path.dirname(os.path.realpath(on_path)))
    for folder in places:
        if all(os.access(os.path.join(folder, name), os.X_OK) for name in ("initdb", "postgres")):
            return folder
    raise NotInstalledError(f"no initdb and postgres in {', '.join(places or _PLACES)}")


class Cluster:
    """One cluster. `fsync=False` is for tests of behaviour, True for tests of durability."""

    def __init__(self, *, fsync: bool = True, settings: Mapping[str, str] | None = None) -> None:
        self._bin = find_binaries()
        self._identity = _unprivileged()
        self.folder = tempfile.mkdtemp(prefix="postroom-pg-")
        self.data = os.path.join(self.folder, "data")
        self.socket_dir = self.folder
        self.port = _free_port()
        self._log = os.path.join(self.folder, "log")
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if self._identity is not None:
            os.chown(self.folder, *self._identity)
        atexit.register(self.remove)
        self._initdb({**SETTINGS, **_durability(fsync), **(settings or {})})

    def start(self) -> None:
        """Start it and wait until it answers. Raises StartFailedError."""
        if self._postmaster is not None:
            raise StartFailedError("it runs already")
        with open(self._log, "ab") as log:
            self._postmaster = self._spawn(
                [os.path.join(self._bin, "postgres"), "-D", self.data], log.fileno()
            )
        deadline = time.monotonic() + _START
        while not self._answers():
            if self._postmaster.poll() is not None or time.monotonic() > deadline:
                self._kill()
                raise StartFailedError(self.log()[-4000:])
            time.sleep(0.02)

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, sessions ended.."""
        self._end(signal.SIGINT)

    def kill9(self) -> None:
        """SIGKILL for the postmaster and all its processes, as if the machine had lost them.

        What the kernel holds is not lost by this: it tests recovery, not fsync.
        """
        self._kill()

    def restart(self) -> None:
        """Stop if it runs, and start: same port, same data."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        return self._postmaster is not None and self._postmaster.poll() is None

    def conninfo(self, database: str = "postgres", *, tcp: bool = False) -> str:
        """A libpq connection URL, by the Unix socket or by loopback."""
        if tcp:
            return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"
        host = self.socket_dir.replace("/", "%2F")
        return f"postgresql://{_USER}@{host}:{self.port}/{database}"

    def create_database(self, *, template: str = "template0") -> str:
        """A fresh database, its conninfo. `template`: the name of one to copy, if none is in it."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        command = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(command.format(sql.Identifier(name), sql.Identifier(template)))
        return self.conninfo(name)

    def drop_database(self, conninfo: str) -> None:
        """Remove a database of create_database(), with the sessions that are in it."""
        name = database_name(conninfo)
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))

    def log(self) -> str:
        """What the server has written to its log."""
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def remove(self) -> None:
        """Kill it and remove its folder; may be called twice."""
        self._kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.remove)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    # --- within --------------------------------------------------------------------------

    def _initdb(self, settings: Mapping[str, str]) -> None:
        command = [os.path.join(self._bin, "initdb"), "-D", self.data, "-U", _USER, "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        made = self._spawn(command, subprocess.PIPE)
        said, _ = made.communicate()
        if made.returncode != 0:
            raise StartFailedError(said.decode(errors="replace"))
        settings = {
            **settings,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": self.socket_dir,
        }
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="ascii") as conf:
            conf.writelines(lines)

    def _spawn(self, command: list[str], output: int) -> subprocess.Popen[bytes]:
        user, group = self._identity if self._identity is not None else (None, None)
        return subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            user=user,
            group=group,
            extra_groups=[] if user is not None else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call, no lock, no import
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.conninfo(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, command: sql.Composed) -> None:
        with psycopg.connect(self.conninfo(), autocommit=True) as db:
            db.execute(command)

    def _end(self, number: int) -> None:
        if self._postmaster is None:
            return
        self._postmaster.send_signal(number)
        try:
            self._postmaster.wait(_START)
        except subprocess.TimeoutExpired:
            self._kill()
            raise
        self._postmaster = None

    def _kill(self) -> None:
        if self._postmaster is None:
            return
        # Each server process has a session of its own, so no signal reaches all by a group.
        children = _children(self._postmaster.pid)
        self._postmaster.kill()
        for pid in children:
            _kill_process(pid)
        self._postmaster.wait()
        self._postmaster = None
        for pid in children:
            _wait_gone(pid)


def database_name(conninfo: str) -> str:
    """The database of a conninfo."""
    name = conninfo_to_dict(conninfo)["dbname"]
    if not isinstance(name, str):
        raise ValueError(f"{conninfo} names no database")
    return name


def _durability(fsync: bool) -> dict[str, str]:
    # synchronous_commit stays on: the store sets it for each session, and tests look at it.
    state = "on" if fsync else "off"
    return {"fsync": state, "full_page_writes": state}


def _version(folder: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", folder))


def _unprivileged() -> tuple[int, int] | None:
    """Whom to run as (uid, gid); None if we are nobody special ourselves."""
    if os.geteuid() != 0:
        return None
    for name in _RUN_AS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise NotInstalledError(f"PostgreSQL does not run as root, and there is no user {_RUN_AS}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> Callable[[], None] | None:
    """For the child between fork and exec: end with us, even if we are killed. Linux only."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)  # to PostgreSQL: stop at once


def _children(pid: int) -> list[int]:
    """Its direct children, from /proc; none where there is no /proc."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, "rb") as file:
                # pid (name) state ppid ...: the name may hold anything. proc(5)
                after_name = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(after_name[1]) == pid:
            found.append(int(path.split("/")[2]))
    return found


def _kill_process(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _wait_gone(pid: int) -> None:
    """Until init has buried it: before, its shared memory keeps the next start away."""
    deadline = time.monotonic() + _START
    while os.path.exists(f"/proc/{pid}"):
        if _is_zombie(pid):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"process {pid} outlived SIGKILL")
        time.sleep(0.005)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
