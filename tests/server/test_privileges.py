"""Dropping root, for good, in child processes. Most need root to begin with."""

from __future__ import annotations

import os
import pwd
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.core.errors import Misuse
from postroom.server import privileges
from postroom.server.fork import in_child
from postroom.server.privileges import (
    Account,
    account_for,
    drop,
    drop_capabilities,
    restrict,
)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give root up")
NOBODY = pwd.getpwnam("nobody")
ACCOUNT = Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
_NET_BIND = 1 << 10


def _in_child(check: Callable[[], None]) -> None:
    """The child's assertion is shown on stderr; here only that it held."""
    assert in_child(check) == 0


def _kernel(field: str) -> str:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(line.split()[1] for line in file if line.startswith(field + ":"))


def _can_bind_low() -> bool:
    with socket.socket() as sock:
        for port in (1, 2, 3):
            try:
                sock.bind(("127.0.0.1", port))
            except PermissionError:
                return False
            except OSError:
                continue  # somebody is there
            return True
    raise AssertionError("no low port is free")


@root_only
def test_root_is_given_up_for_good_but_low_ports_are_kept() -> None:
    def check() -> None:
        drop(ACCOUNT)
        assert os.getresuid() == (ACCOUNT.uid,) * 3
        assert os.getresgid() == (ACCOUNT.gid,) * 3
        assert 0 not in os.getgroups()
        assert int(_kernel("CapEff"), 16) == int(_kernel("CapPrm"), 16) == _NET_BIND
        assert int(_kernel("CapInh"), 16) == 0
        assert _kernel("NoNewPrivs") == "1"
        assert _can_bind_low()
        with pytest.raises(PermissionError):
            os.setuid(0)
        with pytest.raises(PermissionError):
            os.open("/etc/shadow", os.O_RDONLY)

    _in_child(check)


@root_only
def test_a_worker_keeps_not_even_low_ports() -> None:
    def check() -> None:
        drop(ACCOUNT)

        def worker() -> None:
            assert int(_kernel("CapEff"), 16) == int(_kernel("CapPrm"), 16) == 0
            with pytest.raises(OSError, match="capset"):
                _regain()

        assert in_child(worker) == 0  # which drops them in every child
        assert int(_kernel("CapEff"), 16) == _NET_BIND

    _in_child(check)


def _regain() -> None:
    privileges._set_capabilities(_NET_BIND)


def test_dropping_nothing_is_no_error() -> None:
    def check() -> None:
        if os.geteuid() == 0:
            os.setresgid(ACCOUNT.gid, ACCOUNT.gid, ACCOUNT.gid)
            os.setresuid(ACCOUNT.uid, ACCOUNT.uid, ACCOUNT.uid)
        drop(Account("me", os.geteuid(), os.getegid()))
        drop_capabilities()
        assert _kernel("NoNewPrivs") == "1"

    _in_child(check)


def test_everybody_is_restricted() -> None:
    def check() -> None:
        restrict()
        assert os.umask(0) == 0o077
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == hard

    _in_child(check)


# --- who to run as ------------------------------------------------------------------------


@root_only
def test_the_user_that_is_named_comes_first(tmp_path: Path) -> None:
    assert account_for(str(tmp_path), "nobody", port_offset=0, code=()) == ACCOUNT


@root_only
def test_else_the_owner_of_the_directory_or_of_its_parent(tmp_path: Path) -> None:
    os.chown(tmp_path, ACCOUNT.uid, ACCOUNT.gid)
    assert account_for(str(tmp_path), None, port_offset=0, code=()).uid == ACCOUNT.uid
    assert (
        account_for(str(tmp_path / "not" / "yet"), None, port_offset=0, code=()).uid == ACCOUNT.uid
    )


@root_only
@pytest.mark.parametrize("user", [None, "root"])
def test_root_serves_only_on_a_trial(tmp_path: Path, user: str | None) -> None:
    with pytest.raises(Misuse, match="--user"):
        account_for(str(tmp_path), user, port_offset=0, code=())
    assert account_for(str(tmp_path), user, port_offset=20000, code=()).is_root


def test_an_unknown_user_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no user nosuchuser"):
        account_for(str(tmp_path), "nosuchuser", port_offset=0, code=())


@root_only
def test_somebody_else_stays_who_they_are_and_can_become_nobody_else(tmp_path: Path) -> None:
    def check() -> None:
        os.setresuid(ACCOUNT.uid, ACCOUNT.uid, ACCOUNT.uid)
        assert account_for(str(tmp_path), None, port_offset=0, code=()).uid == ACCOUNT.uid
        with pytest.raises(Misuse, match="Only root"):
            account_for(str(tmp_path), "root", port_offset=20000, code=())

    _in_child(check)


@root_only
def test_who_cannot_read_the_program_cannot_run_it(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(0o700)
    (hidden / "module.py").touch(0o644)
    code = (str(hidden / "module.py"),)
    with pytest.raises(Misuse, match="nobody cannot read"):
        account_for(str(tmp_path), "nobody", port_offset=0, code=code)
    with pytest.raises(Misuse, match="nobody cannot read"):
        account_for(str(tmp_path), "nobody", port_offset=0, code=(str(tmp_path / "none"),))
    assert account_for("/", "nobody", port_offset=0, code=("/etc/passwd",)) == ACCOUNT
