"""From root to as little as possible: bind first, then give up everything but low ports.

Linux: capabilities(7) and prctl(2) through the C library that Python already runs on.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.errors import Misuse

# linux/prctl.h and linux/capability.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522
_CAP_NET_BIND_SERVICE: Final = 10


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that the server runs as."""

    name: str
    uid: int
    gid: int

    @property
    def is_root(self) -> bool:
        return self.uid == 0


def account_for(
    directory: str,
    user: str | None,
    *,
    port_offset: int,
    code: Sequence[str] = (os.__file__, __file__),
) -> Account:
    """Who to run as: `user`, else the owner of `directory`, else whoever we are.

    `directory` or the nearest parent that exists is asked. Only root can become another, and
    stays root only with a port offset (a trial), never on the real ports. Who cannot read
    `code` cannot run it: modules that are loaded late, such as character sets, would be
    missing in the middle of a message. Raises Misuse.
    """
    own = os.geteuid()
    if user is not None:
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise Misuse(f"There is no user {user}") from None
        account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
        if own not in (0, account.uid):
            raise Misuse(f"Only root can become {user}")
    elif own != 0:
        account = Account(_name(own), own, os.getegid())
    else:
        found = os.stat(_existing(directory))
        account = Account(_name(found.st_uid), found.st_uid, found.st_gid)
    if account.is_root and port_offset == 0:
        raise Misuse(
            f"Refusing to serve as root: give --user NAME, or let {directory} belong to a user"
        )
    for path in code:
        if own == 0 and not account.is_root and not _can_read(account, path):
            raise Misuse(f"{account.name} cannot read {path}: install Postroom where that user can")
    return account


def restrict() -> None:
    """What holds for everybody, root or not: nothing readable by others, no core, all files."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def drop(account: Account) -> None:
    """Become `account` for good, keeping only the right to bind low ports where we had it.

    Call after everything that needs root is done and before any thread exists: capabilities
    belong to a thread. Raises OSError, or RuntimeError if root could be had back.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if os.geteuid() != 0:
        return  # started by systemd or by hand: the manager gave what we may have
    if account.is_root:
        return
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    _set_capabilities(1 << _CAP_NET_BIND_SERVICE)
    _prctl(_PR_SET_KEEPCAPS, 0)
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    raise RuntimeError("privileges were not dropped")


def drop_capabilities() -> None:
    """For workers and other children: not even low ports. Root stays root on a trial."""
    if os.geteuid() != 0:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
        _set_capabilities(0)


def die_with_parent(parent: int) -> bool:
    """Be killed when the process `parent`, which forked us, ends; False if it is gone already.

    Call after the last change of user: that clears it. prctl(2)
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _set_capabilities(mask: int) -> None:
    """Effective and permitted become `mask` (of the first 32 capabilities); nothing inheritable."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)(_Sets(mask, mask, 0), _Sets(0, 0, 0))
    if _libc.capset(ctypes.byref(header), ctypes.byref(sets)) != 0:
        _raise("capset")


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero) != 0:
        _raise(f"prctl({option})")


def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def _can_read(account: Account, path: str) -> bool:
    """Asked of the system, by a child that has become `account`: rights have many sources."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    readable = False
    try:
        os.initgroups(account.name, account.gid)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        readable = os.access(path, os.R_OK)
    finally:
        os._exit(0 if readable else 1)


def _existing(path: str) -> str:
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)  # a container's bare number
