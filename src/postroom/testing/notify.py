"""The service manager's end of sd_notify: a datagram socket that keeps what it is told.

Protocol: sd_notify(3). Assignments of one datagram are separated by newlines.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from types import TracebackType

_DATAGRAM = 65536


class NotifySocket:
    """Collects notifications; give `environment` to the process under test.

    >>> with NotifySocket() as notify:
    ...     start(env={**os.environ, **notify.environment})
    ...     notify.wait_for("READY=1", timeout=10)
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="notify-")
        os.chmod(self._folder.name, 0o755)  # the server may have dropped its user
        self.path = os.path.join(self._folder.name, "socket")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(self.path)
        os.chmod(self.path, 0o666)
        self.messages: list[str] = []
        """One assignment each, such as `READY=1`, in the order of arrival."""

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.path}

    def collect(self) -> list[str]:
        """Take what has arrived, without waiting; returns all messages so far."""
        self._socket.setblocking(False)
        while True:
            try:
                datagram = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                return self.messages
            self._keep(datagram)

    def wait_for(self, assignment: str, *, timeout: float) -> None:
        """Block until `assignment` has been told, now or earlier; raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while assignment not in self.messages:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {assignment!r} in {timeout} s; told: {self.messages}")
            self._socket.settimeout(left)
            try:
                self._keep(self._socket.recv(_DATAGRAM))
            except TimeoutError:
                continue

    def close(self) -> None:
        self._socket.close()
        self._folder.cleanup()

    def __enter__(self) -> NotifySocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _keep(self, datagram: bytes) -> None:
        self.messages += [line for line in datagram.decode().split("\n") if line]
