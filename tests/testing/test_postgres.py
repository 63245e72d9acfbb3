"""The cluster of our own, and what happens where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from postroom.testing.postgres import (
    OVERRIDE,
    Cluster,
    NotInstalledError,
    database_name,
    find_binaries,
)

PROJECT = Path(__file__).parents[2]


def test_each_test_gets_an_empty_database(pg: str) -> None:
    with psycopg.connect(pg) as db:
        tables = db.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', "
            "'information_schema')"
        ).fetchone()
        assert tables == (0,)
        db.execute("CREATE TABLE t (x text)")
        assert db.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert db.execute("SHOW fsync").fetchone() == ("off",)
        assert db.execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_databases_can_be_copied_from_one_that_is_ready(postgres_cluster: Cluster, pg: str) -> None:
    with psycopg.connect(pg) as db:
        db.execute("CREATE TABLE t AS SELECT 42 AS x")
    copy = postgres_cluster.create_database(template=database_name(pg))
    with psycopg.connect(copy) as db:
        assert db.execute("SELECT x FROM t").fetchone() == (42,)
    postgres_cluster.drop_database(copy)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


def test_it_answers_on_loopback_too(postgres_cluster: Cluster, pg: str) -> None:
    with psycopg.connect(postgres_cluster.conninfo(database_name(pg), tcp=True)) as db:
        assert db.execute("SELECT host(inet_server_addr())").fetchone() == ("127.0.0.1",)


@pytest.mark.postgres
def test_what_was_committed_survives_a_kill_and_a_restart(
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue("postgres_cluster")  # skips or fails where there is none
    began = time.monotonic()
    with Cluster() as cluster:
        assert time.monotonic() - began < 10
        url = cluster.create_database()
        with psycopg.connect(url, autocommit=True) as db:
            assert db.execute("SHOW fsync").fetchone() == ("on",)
            db.execute("CREATE TABLE t AS SELECT 1 AS x")
            cluster.kill9()
            assert not cluster.running
            with pytest.raises(psycopg.OperationalError):
                db.execute("SELECT 1")
        cluster.start()
        assert "automatic recovery in progress" in cluster.log()
        with psycopg.connect(url) as db:
            assert db.execute("SELECT x FROM t").fetchone() == (1,)
        cluster.restart()
        with psycopg.connect(url) as db:
            assert db.execute("SELECT x FROM t").fetchone() == (1,)
        folder = cluster.folder
    assert not os.path.exists(folder)


@pytest.mark.postgres
def test_a_cluster_does_not_outlive_a_killed_test_run(request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("postgres_cluster")
    program = (
        "import os, signal\n"
        "from postroom.testing.postgres import Cluster\n"
        "cluster = Cluster(fsync=False)\n"
        "cluster.start()\n"
        "print(cluster.folder, cluster.conninfo(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    folder, url = run.stdout.split()
    try:
        deadline = time.monotonic() + 10
        while os.path.exists(os.path.join(folder, "data", "postmaster.pid")):
            assert time.monotonic() < deadline, "the postmaster still runs"
            time.sleep(0.05)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_machine_without_postgres_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OVERRIDE, "")
    with pytest.raises(NotInstalledError):
        find_binaries()


@pytest.mark.parametrize("ci", [False, True])
def test_without_postgres_the_run_says_so_loudly_and_ci_fails(ci: bool) -> None:
    env = {**os.environ, OVERRIDE: "", "CI": "true" if ci else ""}
    test = "tests/testing/test_postgres.py::test_each_test_gets_an_empty_database"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", test],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
    )
    if ci:
        assert run.returncode == 1, run.stdout
        assert "CI must have it" in run.stdout
    else:
        assert run.returncode == 0, run.stdout
        assert "PostgreSQL not found: 1 tests NOT run" in run.stdout
