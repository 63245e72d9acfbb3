"""Ports for servers that run beside each other."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from postroom.testing import ports
from postroom.testing.ports import STANDARD_PORTS, free_offset

OTHER = (
    "import sys\n"
    "from postroom.testing.ports import free_offset\n"
    "print(*(free_offset() for _ in range(20)), flush=True)\n"
    "sys.stdin.read()\n"
)


def moved(offset: int) -> set[int]:
    return {port + offset for port in STANDARD_PORTS}


def test_all_ports_of_an_offset_can_be_bound() -> None:
    offset = free_offset()
    for port in moved(offset):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_a_process_gets_no_port_twice_while_it_may_still_use_it() -> None:
    got = [moved(free_offset()) for _ in range(ports._KEPT)]
    assert len(set().union(*got)) == len(got) * len(STANDARD_PORTS)


def test_nobody_gets_a_port_of_another_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        theirs = set[int]().union(*(moved(int(n)) for n in other.stdout.readline().split()))
        ours = set[int]().union(*(moved(free_offset()) for _ in range(300)))
        other.communicate("")
    assert len(theirs) == 20 * len(STANDARD_PORTS)
    assert not theirs & ours


def test_what_a_process_had_is_free_once_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    script = OTHER.replace("range(20)", "range(1)")
    done = subprocess.run(
        [sys.executable, "-c", script], input="", capture_output=True, text=True, check=True
    )
    monkeypatch.setattr(ports, "_OFFSETS", range(int(done.stdout), int(done.stdout) + 1))
    monkeypatch.setattr(ports, "_kept", type(ports._kept)())
    assert free_offset() == int(done.stdout)


def test_an_offset_with_a_taken_port_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = free_offset()
    monkeypatch.setattr(ports, "_OFFSETS", range(offset, offset + 1))
    monkeypatch.setattr(ports, "_kept", type(ports._kept)())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", offset + 143))
        taken.listen()
        with pytest.raises(OSError, match="no offset"):
            free_offset()
    assert free_offset() == offset
