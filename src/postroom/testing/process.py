"""A server as a child process: started, watched, killed in every way.

The only module that needs psutil, which is a development dependency: import it from tests
and benches, never from what a rehearsal on an operator's machine loads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final

import psutil

_POLL: Final = 0.02  # seconds


class ProcessDiedError(Exception):
    """The process ended while it was waited for; the message holds the end of its stderr."""


class ServerProcess:
    """`args` and `--data DIR` in a process group of its own; output goes to files.

    The parent holds no pipe, so a full one never stops the server.

    `ready` says whether the server serves; by default it is asked by `postroom ready`, with
    the words of `args` that stand before `serve`.
    """

    def __init__(
        self,
        args: Sequence[str],
        data_dir: str | os.PathLike[str],
        *,
        env: Mapping[str, str] | None = None,
        ready: Callable[[], bool] | None = None,
    ) -> None:
        self.args = [*args, "--data", os.fspath(data_dir)]
        self.data_dir = os.fspath(data_dir)
        self._env = dict(os.environ if env is None else env)
        self._ready = ready
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        self._child = subprocess.Popen(
            self.args,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=self._env,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self._child.returncode is not None:
            return self._child.returncode
        # Looked at, not reaped: as long as it is not buried, its number, which is also its
        # group's, goes to no other process, and kill_group() hits nobody else.
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        ended = os.waitid(os.P_PID, self._child.pid, look)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def stdout(self) -> str:
        return _content(self._out.fileno())

    def stderr(self) -> str:
        return _content(self._err.fileno())

    def wait_ready(self, timeout: float) -> None:
        """Until it serves. Raises ProcessDiedError if it ends, TimeoutError if it takes longer."""
        deadline = time.monotonic() + timeout
        ready = self._ready if self._ready is not None else self._ask_ready
        while not ready():
            code = self.returncode
            if code is not None:
                how = f"killed by signal {-code}" if code < 0 else f"ended with {code}"
                raise ProcessDiedError(f"{how} before it was ready:\n{self.stderr()[-4000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not ready in {timeout} s:\n{self.stderr()[-4000:]}")
            time.sleep(_POLL)

    def workers(self) -> list[int]:
        """Process ids of its direct children, oldest first; none once it is gone."""
        try:
            children = psutil.Process(self._child.pid).children()
        except psutil.NoSuchProcess:
            return []
        found = []
        for child in children:
            # One that ends while we look says nothing about the others.
            with suppress(psutil.NoSuchProcess):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append((child.create_time(), child.pid))
        return [pid for _, pid in sorted(found)]

    def group(self) -> list[int]:
        """Process ids of all in its group that run, itself among them; none once reaped."""
        if self._child.returncode is not None:
            return []
        return [pid for pid in psutil.pids() if _group_of(pid) == self._child.pid and _runs(pid)]

    def kill_one(self, pid: int) -> None:
        """SIGKILL for it or one of its group; raises ValueError for any other process."""
        if pid not in self.group():
            raise ValueError(f"{pid} is not of the group of {self._child.pid}")
        os.kill(pid, signal.SIGKILL)

    def kill_group(self) -> None:
        """SIGKILL for every process of the group at once; waits until all are gone."""
        if self._child.returncode is None:
            family = self.group()
            os.killpg(self._child.pid, signal.SIGKILL)
            _wait_gone(family)
            self._child.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the first process alone, such as SIGHUP."""
        if self.returncode is None:
            os.kill(self._child.pid, number)

    def wait(self, timeout: float) -> int:
        """Wait until the first process ends by itself: its exit code. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while (code := self.returncode) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still running after {timeout} s:\n{self.stderr()[-4000:]}")
            time.sleep(_POLL)
        return code

    def terminate(self, timeout: float = 30) -> int:
        """SIGTERM, then wait: the exit code. Past `timeout` seconds kills all and raises."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except TimeoutError:
            self.kill_group()
            raise

    def close(self) -> None:
        """Kill what still runs and let the output go."""
        self.kill_group()
        self._out.close()
        self._err.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask_ready(self) -> bool:
        if "serve" not in self.args:
            raise ValueError("only `postroom serve` can be asked; give ready=")
        command = [*self.args[: self.args.index("serve")], "ready", "--data", self.data_dir]
        answer = subprocess.run(
            [*command, "--timeout", "1"], env=self._env, capture_output=True, check=False
        )
        return answer.returncode == 0


def descendants(pid: int) -> list[int]:
    """Process ids of all that descend from `pid`; none if it is gone."""
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _wait_gone(pids: Iterable[int], timeout: float = 10) -> None:
    """Until none of them runs; a zombie, which only its parent can bury, counts as gone."""
    deadline = time.monotonic() + timeout
    for pid in pids:
        while _runs(pid):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} outlived SIGKILL")
            time.sleep(0.005)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _content(fd: int) -> str:
    """All that was written, read without moving the offset that the child writes at."""
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode(errors="replace")
