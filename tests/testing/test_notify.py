"""The false service manager."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from postroom.testing.notify import NotifySocket

TELL = """
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"READY=1\\nSTATUS=serving")
s.send(b"STOPPING=1")
"""


def test_what_a_process_tells_arrives_in_order() -> None:
    with NotifySocket() as notify:
        env = {**os.environ, **notify.environment}
        subprocess.run([sys.executable, "-c", TELL], env=env, check=True)
        notify.wait_for("STOPPING=1", timeout=5)
        assert notify.messages == ["READY=1", "STATUS=serving", "STOPPING=1"]
        notify.wait_for("READY=1", timeout=0)  # told earlier
        path = notify.path
    assert not os.path.exists(path)


def test_what_is_not_told_in_time_is_an_error_that_shows_what_was() -> None:
    with NotifySocket() as notify, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.connect(notify.path)
        peer.send(b"STATUS=starting")
        with pytest.raises(TimeoutError, match="STATUS=starting"):
            notify.wait_for("READY=1", timeout=0.05)


def test_collecting_does_not_wait() -> None:
    with NotifySocket() as notify, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        assert notify.collect() == []
        peer.connect(notify.path)
        peer.send(b"WATCHDOG=1")
        peer.send(b"WATCHDOG=1")
        assert notify.collect() == ["WATCHDOG=1", "WATCHDOG=1"]
