"""Fixtures that all tests share: clock, folders, PostgreSQL, uvloop, a watch for threads."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from hypothesis import settings

from postroom.testing.clock import ManualClock
from postroom.testing.postgres import Cluster, NotInstalledError

# What CI finds must be found again by the next one who looks: the same examples each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

_NO_POSTGRES = "PostgreSQL not found"
_PATIENCE = 2.0  # seconds for a thread to end after its test


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every async test runs on the loop that the server runs on."""
    return {"uvloop": uvloop.new_event_loop}


# --- time and place -----------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A folder on a real disk, for tests that time or trust fsync; tmp_path may be memory.

    Below POSTROOM_TEST_DISK if that is set, else below /var/tmp, which outlives a reboot.
    """
    place = os.environ.get("POSTROOM_TEST_DISK", "/var/tmp")
    folder = tempfile.mkdtemp(prefix="postroom-", dir=place)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- PostgreSQL ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """One cluster for the run, or for each xdist worker; without fsync, started once."""
    try:
        cluster = Cluster(fsync=False)
    except NotInstalledError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{_NO_POSTGRES}, and CI must have it: {error}", pytrace=False)
        pytest.skip(f"{_NO_POSTGRES}: {error}")
    with cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres_cluster: Cluster) -> Iterator[str]:
    """The conninfo of a fresh, empty database, dropped afterwards."""
    url = postgres_cluster.create_database()
    try:
        yield url
    finally:
        if postgres_cluster.running:
            postgres_cluster.drop_database(url)


@pytest.fixture
def pg(postgres_url: str) -> str:
    """The short name of postgres_url."""
    return postgres_url


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs PostgreSQL: `-m "not postgres"` leaves it out."""
    for item in items:
        if isinstance(item, pytest.Function) and "postgres_cluster" in item.fixturenames:
            item.add_marker(pytest.mark.postgres)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what did not run: a skip among a thousand dots is not seen."""
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and _NO_POSTGRES in report.longrepr[2]
    ]
    if skipped:
        terminalreporter.write_line(
            f"{_NO_POSTGRES}: {len(skipped)} tests NOT run", red=True, bold=True
        )


# --- nothing is left behind ---------------------------------------------------------------

_threads_before = pytest.StashKey[frozenset[threading.Thread]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    item.stash[_threads_before] = frozenset(threading.enumerate())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test whose threads still run once its fixtures are gone; daemons are let be."""
    yield
    before = item.stash[_threads_before]
    deadline = time.monotonic() + _PATIENCE
    while left := [t for t in threading.enumerate() if t not in before and not t.daemon]:
        if time.monotonic() > deadline:
            names = ", ".join(thread.name for thread in left)
            pytest.fail(f"threads left behind: {names}", pytrace=False)
        time.sleep(0.01)
