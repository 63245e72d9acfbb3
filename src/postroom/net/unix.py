"""Local sockets: short paths for them, and who may open them."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

LONGEST: Final = 107  # bytes of a path in sockaddr_un, unix(7)
_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid


@contextmanager
def short_path(path: str) -> Iterator[str]:
    """`path` as the system takes it: a longer one is reached through its opened folder."""
    if len(os.fsencode(path)) <= LONGEST:
        yield path
        return
    folder, name = os.path.split(path)
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{opened}/{name}"
    finally:
        os.close(opened)


def listen_unix(path: str, *, mode: int = 0o600, backlog: int = 128) -> socket.socket:
    """A listening socket at `path` with exactly `mode`; replaces a dead one.

    The caller holds the instance lock, so a socket that lies there has no listener. Raises
    FileExistsError if something else lies there.
    """
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"{path} is not a socket")
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody can open it before it has its mode: the mask acts as it is made.
        before = os.umask(0o777 & ~mode)
        try:
            with short_path(path) as short:
                sock.bind(short)
        finally:
            os.umask(before)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def connect_unix(path: str, *, timeout: float | None = None) -> socket.socket:
    """A blocking connection to the socket at `path`. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        with short_path(path) as short:
            sock.connect(short)
    except BaseException:
        sock.close()
        raise
    return sock


def peer_user(sock: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel knows it. unix(7)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(raw)[1]
    return user
