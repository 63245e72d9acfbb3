"""A responder that accepts mail and throws it away: the ceiling of an SMTP server in Python.

It recognises the end of a message and answers; it parses, checks and keeps nothing. Two
processes share the port with SO_REUSEPORT, as Postroom's workers do.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import cast

import psutil
import uvloop

from bench.model import BenchError, Endpoint, Filling
from bench.peers.process import Daemon, free_endpoint

_WORKERS = 2


class Bare:
    """The responder as a target."""

    name = "bare python"

    def __init__(self) -> None:
        self._daemons: list[Daemon] = []
        self.smtp: Endpoint | None = None
        self.imap: Endpoint | None = None
        self.imap_plain: Endpoint | None = None

    def missing(self) -> str | None:
        """It needs nothing."""
        return None

    def start(self, directory: Path) -> None:
        """Start the workers."""
        self.smtp = free_endpoint()
        command = [sys.executable, "-m", "bench.peers.bare", str(self.smtp.port)]
        for _ in range(_WORKERS):
            self._daemons.append(Daemon(command, directory / "bare.log"))
        for daemon in self._daemons:
            daemon.wait_for(self.smtp)

    def stop(self) -> None:
        """End the workers."""
        for daemon in self._daemons:
            daemon.stop()
        self._daemons.clear()

    def resume(self) -> None:
        """Not offered: it keeps nothing."""
        raise BenchError("the bare responder has no store")

    def restart_cold(self) -> None:
        """Not offered: it keeps nothing."""
        raise BenchError("the bare responder has no store")

    def fill(self, *fillings: Filling) -> None:
        """Not offered, for the same reason."""
        raise BenchError("the bare responder has no store")

    def settle(self) -> None:
        """It does nothing in the background."""

    def processes(self) -> list[psutil.Process]:
        """The workers."""
        return [process for daemon in self._daemons for process in daemon.processes()]


class _Responder(asyncio.Protocol):
    def __init__(self) -> None:
        self._in_data = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 bare ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self._in_data:
            self._tail = (self._tail + data)[-5:]
            if self._tail == b"\r\n.\r\n":
                self._in_data = False
                self._tail = b""
                self._transport.write(b"250 2.0.0 Ok\r\n")
            return
        text = self._tail + data
        if not text.endswith(b"\r\n"):
            self._tail = text
            return
        self._tail = b""
        if text.endswith(b"DATA\r\n"):
            self._in_data = True
            self._transport.write(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 Go on\r\n")
        elif text.startswith(b"EHLO"):
            self._transport.write(b"250-bare\r\n250 PIPELINING\r\n")
        elif text.startswith(b"QUIT"):
            self._transport.write(b"221 2.0.0 Bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"500 5.5.2 What?\r\n")


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        _Responder, "127.0.0.1", port, reuse_port=True, backlog=512
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
