"""The shared fixtures themselves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import uvloop

PROJECT = Path(__file__).parents[1]


async def test_async_tests_run_on_uvloop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


def test_the_disk_path_is_no_memory(disk_path: Path) -> None:
    mounts = Path("/proc/mounts").read_text().splitlines()
    holding = [m.split()[1:3] for m in mounts if disk_path.is_relative_to(m.split()[1])]
    kind = max(holding, key=lambda found: len(found[0]))[1]
    assert kind not in {"tmpfs", "ramfs"}
    (disk_path / "x").write_bytes(b"x")


def test_a_test_that_leaves_a_thread_behind_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((PROJECT / "tests/conftest.py").read_text())
    (tmp_path / "test_leak.py").write_text(
        "import threading, time\n"
        "def test_leak(): threading.Thread(target=time.sleep, args=(4,), name='leaky').start()\n"
        "def test_tidy():\n"
        "    t = threading.Thread(target=time.sleep, args=(0.01,)); t.start(); t.join()\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert "threads left behind: leaky" in run.stdout
    assert "2 passed, 1 error" in run.stdout
