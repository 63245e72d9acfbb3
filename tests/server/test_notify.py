from __future__ import annotations

import os
import socket
import uuid

import pytest

from postroom.server.notify import Notify, clean_environment
from postroom.testing.notify import NotifySocket


def test_each_message_has_its_form() -> None:
    with NotifySocket() as heard:
        notify = Notify.from_environment(heard.environment, 1)
        notify.ready("2 of 2\nREADY=0")
        notify.reloading()
        notify.alive()
        notify.status("fine")
        notify.stopping()
        told = heard.collect()
        assert told[:3] == ["READY=1", "STATUS=2 of 2 READY=0", "RELOADING=1"]
        assert told[3].startswith("MONOTONIC_USEC=")
        assert told[3].removeprefix("MONOTONIC_USEC=").isdecimal()
        assert told[4:] == ["WATCHDOG=1", "STATUS=fine", "STOPPING=1", "STATUS=Draining"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"postroom-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        Notify("@" + name).alive()
        assert sock.recv(100) == b"WATCHDOG=1"


def test_without_a_manager_nothing_happens() -> None:
    Notify.from_environment({}, 1).ready("fine")


def test_a_manager_that_is_gone_stops_nothing() -> None:
    Notify("/nonexistent/socket").ready("fine")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_only_if_it_names_us(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert Notify.from_environment(environ, 77).watchdog == seconds


def test_child_programs_cannot_speak_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/x")
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    clean_environment()
    assert "NOTIFY_SOCKET" not in os.environ
    assert "WATCHDOG_USEC" not in os.environ
