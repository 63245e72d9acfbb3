from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from postroom.core.errors import InUse
from postroom.server.fork import in_child
from postroom.server.instance import (
    Instance,
    Layout,
    ServerStatus,
    WorkerStatus,
    read_status,
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(str(tmp_path / "deep" / "data"))
    made.create()
    return made


def _status(state: str) -> ServerStatus:
    return ServerStatus(
        os.getpid(), state, (("smtp", "127.0.0.1", 25),), (WorkerStatus(0, 1, "ready", 0),)
    )


def test_the_folders_are_private_and_making_them_again_changes_nothing(layout: Layout) -> None:
    for folder in (layout.root, layout.run, layout.tls):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    os.chmod(layout.root, 0o750)
    layout.create()
    assert stat.S_IMODE(os.stat(layout.root).st_mode) == 0o750


def test_a_second_one_waits_and_then_names_the_first(layout: Layout) -> None:
    first = Instance.acquire(layout)
    now = 0.0
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        naps.append(seconds)

    with pytest.raises(InUse, match=f"process {os.getpid()}"):
        Instance.acquire(layout, clock=lambda: now, sleep=sleep)
    assert 5 <= sum(naps) < 5.2
    first.release()
    Instance.acquire(layout, wait=0).release()


def test_the_lock_lasts_as_long_as_a_child_that_inherited_it(layout: Layout) -> None:
    def nested() -> int:
        held = Instance.acquire(layout, wait=0)
        pid = os.fork()
        if pid:
            os.close(held._descriptor)
            try:
                Instance.acquire(layout, wait=0)
            except InUse:
                return 0
            finally:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
            return 1
        while True:
            os.read(os.pipe()[0], 1)

    assert in_child(nested) == 0
    Instance.acquire(layout, wait=0).release()


def test_a_status_can_be_read_while_its_server_lives(layout: Layout) -> None:
    assert read_status(layout) is None
    instance = Instance.acquire(layout)
    assert read_status(layout) is None
    for state, serves in (("starting", False), ("ready", True), ("stopping", False)):
        instance.publish(_status(state))
        told = read_status(layout)
        assert told == _status(state)
        assert told is not None
        assert told.serves is serves
    instance.release()
    assert read_status(layout) is None
    assert os.listdir(layout.run) == ["instance.lock"]


def test_what_a_killed_server_left_is_not_believed_and_cleared(layout: Layout) -> None:
    instance = Instance.acquire(layout)
    instance.publish(_status("ready"))
    os.close(instance._descriptor)
    assert read_status(layout) is None
    Instance.acquire(layout)
    assert not os.path.exists(layout.status)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff\xfe"])
def test_a_broken_status_is_none(layout: Layout, content: bytes) -> None:
    instance = Instance.acquire(layout)
    Path(layout.status).write_bytes(content)
    assert read_status(layout) is None
    instance.release()
