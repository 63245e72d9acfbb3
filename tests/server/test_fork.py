from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from postroom.server.fork import FAILED, in_child, start_child


def test_a_child_says_how_it_ended() -> None:
    assert in_child(lambda: None) == 0
    assert in_child(lambda: 7) == 7
    assert in_child(lambda: sys.exit(3)) == 3
    assert in_child(lambda: os.kill(os.getpid(), signal.SIGKILL)) == -signal.SIGKILL


def test_a_child_that_raises_shows_where_and_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise LookupError("in the child")

    assert in_child(fail) == FAILED
    assert "LookupError: in the child" in capfd.readouterr().err


def test_what_a_child_prints_arrives_once(capfd: pytest.CaptureFixture[str]) -> None:
    print("before", end=" ")
    assert in_child(lambda: print("inside")) == 0
    assert capfd.readouterr().out == "before inside\n"


def test_a_child_leaves_no_trace() -> None:
    held: list[int] = []
    assert in_child(lambda: held.append(1)) == 0
    assert held == []


def test_a_child_has_fresh_signal_handlers_and_ours_stay() -> None:
    def handler(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, handler)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:

        def look() -> int:
            fresh = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
            return 0 if fresh and not blocked else 1

        assert in_child(look) == 0
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_handed_over_wait_until_the_child_wants_them() -> None:
    def late() -> int:
        got: list[int] = []
        time.sleep(0.2)
        signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return 0 if got == [signal.SIGTERM] else 1

    pid = start_child(late, hand_over=(signal.SIGTERM,))
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_child_of_a_child_dies_with_it() -> None:
    reader, writer = os.pipe()

    def parent() -> None:
        start_child(lambda: time.sleep(60))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(parent) == -signal.SIGKILL
    os.close(writer)
    begun = time.monotonic()
    assert os.read(reader, 1) == b""  # the last holder of the pipe's other end is gone
    os.close(reader)
    assert time.monotonic() - begun < 5


def test_what_should_be_forgotten_is_closed() -> None:
    reader, writer = os.pipe()

    def look() -> int:
        try:
            os.fstat(reader)
        except OSError:
            return 0
        return 1

    pid = start_child(look, forget=(reader,))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(reader)
    os.close(writer)
