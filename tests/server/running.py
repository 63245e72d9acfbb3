"""What the tests ask of a running echo server."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import psutil

from postroom.server.instance import Layout, ServerStatus, read_status
from postroom.testing.process import ServerProcess

Serve = Callable[..., ServerProcess]


def serves(layout: Layout, pid: int) -> bool:
    told = read_status(layout)
    return told is not None and told.pid == pid and told.serves


def status(layout: Layout) -> ServerStatus:
    told = read_status(layout)
    assert told is not None
    return told


def port(layout: Layout, name: str = "echo") -> int:
    return next(p for n, _, p in status(layout).listeners if n == name)


def connect(layout: Layout) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port(layout)), timeout=5)


def ask(sock: socket.socket, line: bytes) -> bytes:
    sock.sendall(line + b"\n")
    return sock.recv(100).rstrip(b"\n")


def eventually(what: Callable[[], bool], *, within: float = 5) -> float:
    """Seconds until `what` holds."""
    begun = time.monotonic()
    while not what():
        assert time.monotonic() - begun < within, "it never came true"
        time.sleep(0.002)
    return time.monotonic() - begun


def connections_to_each(layout: Layout) -> dict[int, list[socket.socket]]:
    """Connections by the process that serves them, until each worker has one."""
    found: dict[int, list[socket.socket]] = {}
    workers = {worker.pid for worker in status(layout).workers}
    for _ in range(200):
        sock = connect(layout)
        found.setdefault(int(ask(sock, b"PID")), []).append(sock)
        if set(found) == workers:
            return found
    raise AssertionError("some worker gets no connection")


def close(found: dict[int, list[socket.socket]]) -> None:
    for socks in found.values():
        for sock in socks:
            sock.close()


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
