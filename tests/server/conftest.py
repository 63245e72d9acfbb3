"""The echo server in a folder of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.server.instance import Layout
from postroom.testing.process import ServerProcess
from tests.stores import stores

from .running import (
    Serve,
    serves,
)

__all__ = ["layout", "serve", "stores"]

ECHO = str(Path(__file__).parent / "echo.py")
SRC = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[ServerProcess] = []

    def start(
        *options: str, env: dict[str, str] | None = None, ready: bool = True
    ) -> ServerProcess:
        layout = Layout(str(tmp_path))
        process = ServerProcess(
            [sys.executable, ECHO, *options],
            tmp_path,
            env={**os.environ, "PYTHONPATH": SRC, **(env or {})},
            ready=lambda: serves(layout, process.pid),
        )
        running.append(process)
        if ready:
            process.wait_ready(10)
        return process

    yield start
    for process in running:
        process.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(str(tmp_path))
