"""Ports for servers that run beside each other, in however many processes of ours."""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections import deque
from collections.abc import Iterable
from functools import cache
from typing import Final

# Every TCP port of ARCHITECTURE.md §8 that --port-offset moves.
STANDARD_PORTS: Final = (
    25, 80, 110, 143, 443, 465, 587, 993, 995, 4069, 4190, 5222, 5223, 5269,
)  # fmt: skip

# Below the range from which the system picks ports for clients, who would take them any time. In
# steps of 100 few would be left beside each other, as some ports lie 300 and 1,200 apart.
_OFFSETS: Final = range(10_000, 26_000)
_KEPT: Final = 24
"""So many offsets a process has at most; then the oldest is let go, as its server is gone."""

_kept: deque[frozenset[int]] = deque()


def free_offset(ports: Iterable[int] = STANDARD_PORTS, *, host: str = "127.0.0.1") -> int:
    """An offset at which every one of `ports` can be bound, and that nobody else is given.

    The ports stay this process's own until it ends or has asked for `_KEPT` more, even while
    no server listens there, such as between two starts. Raises OSError if there is none.
    """
    wanted = tuple(ports)
    first = random.randrange(len(_OFFSETS))
    for offset in itertools.chain(_OFFSETS[first:], _OFFSETS[:first]):
        moved = frozenset(port + offset for port in wanted)
        if any(moved & ours for ours in _kept) or not _reserve(moved):
            continue
        if all(_is_free(host, port) for port in moved):
            _kept.append(moved)
            if len(_kept) > _KEPT:
                _release(_kept.popleft())
            return offset
        _release(moved)
    raise OSError("no offset at which all ports are free")


@cache
def _register() -> int:
    """A file whose byte N, locked, says that port N is somebody's; the system frees it at a death.

    Opened once, as a process that closes it anywhere loses all its locks (fcntl(2)).
    """
    path = os.path.join(tempfile.gettempdir(), f"postroom-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _reserve(ports: frozenset[int]) -> bool:
    """All of them or none."""
    got: set[int] = set()
    for port in ports:
        try:
            fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            _release(got)
            return False
        got.add(port)
    return True


def _release(ports: Iterable[int]) -> None:
    for port in ports:
        fcntl.lockf(_register(), fcntl.LOCK_UN, 1, port)


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A port in TIME_WAIT is free for a server, which sets this too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
