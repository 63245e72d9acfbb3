"""Where relayed mail ends: counts messages and throws them away.

It speaks enough SMTP for any client, with PIPELINING and nothing else, so that every server under
test sends alike. `XCOUNT` says how many messages it has taken.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import cast

import psutil
import uvloop

from bench.peers.process import Daemon, free_endpoint


class Sink:
    """The sink as a process of its own."""

    def __init__(self) -> None:
        self.at = free_endpoint()
        self._daemon: Daemon | None = None
        self._line: socket.socket | None = None

    def start(self, directory: Path) -> None:
        """Start it, and open the line on which it is asked."""
        command = [sys.executable, "-m", "bench.peers.sink", str(self.at.port)]
        self._daemon = Daemon(command, directory / "sink.log")
        self._daemon.wait_for(self.at)
        self._line = socket.create_connection((self.at.host, self.at.port))
        self._line.recv(100)

    def stop(self) -> None:
        """End it; safe to call twice."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._daemon is not None:
            self._daemon.stop()
            self._daemon = None

    def count(self) -> int:
        """How many messages it has taken."""
        assert self._line is not None
        self._line.sendall(b"XCOUNT\r\n")
        return int(self._line.recv(100).split()[1])

    def processes(self) -> list[psutil.Process]:
        """Its process: part of no server under test."""
        return self._daemon.processes() if self._daemon else []


class _Server(asyncio.Protocol):
    taken = 0  # by all connections

    def __init__(self) -> None:
        self._content = False
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        replies = []
        while data:
            end = data.find(b"\r\n.\r\n" if self._content else b"\r\n")
            if end < 0:
                break
            if self._content:
                data = data[end + 5 :]
                self._content = False
                _Server.taken += 1
                replies.append(b"250 2.0.0 taken\r\n")
                continue
            line, data = data[:end].upper(), data[end + 2 :]
            if line == b"DATA":
                self._content = True
                data = b"\r\n" + data  # what ends an empty message too
                replies.append(b"354 go on\r\n")
            elif line.startswith(b"EHLO"):
                replies.append(b"250-sink\r\n250 PIPELINING\r\n")
            elif line == b"XCOUNT":
                replies.append(b"250 %d\r\n" % _Server.taken)
            elif line == b"QUIT":
                replies.append(b"221 2.0.0 bye\r\n")
            else:
                replies.append(b"250 2.0.0 ok\r\n")
        # Of a content only what may be the beginning of its end is kept.
        self._held = data[-4:] if self._content else data
        if replies:
            self._transport.write(b"".join(replies))
        if replies and replies[-1].startswith(b"221"):
            self._transport.close()


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
