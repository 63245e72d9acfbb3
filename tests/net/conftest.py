"""A certificate store with one self-signed certificate, and both kinds of loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from postroom.core.clock import SystemClock
from postroom.net.certificates import CertificateStore, self_signed

from .lines import Scenario


@pytest.fixture
def certificates(tmp_path: Path) -> CertificateStore:
    store = CertificateStore(str(tmp_path), [("line",)])
    store.write("self-signed", *self_signed(["mail.example.test"], SystemClock().now()))
    store.reload()
    return store


@pytest.fixture(params=["uvloop", "asyncio"])
def play(request: pytest.FixtureRequest) -> Scenario:
    """Runs a scenario on each kind of loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())

    return run
