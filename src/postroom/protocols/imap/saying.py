"""What a session says: gathered until a peer may wait for it, and compressed if it asked so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from postroom.core.errors import ConnectionLost
from postroom.net.connection import Connection
from postroom.protocols.imap.compression import Compression

GATHERED: Final = 16 * 1024
"""Octets that are sent at once: a TLS record holds no more. RFC 8446 §5.1."""


HELD: Final = 0.005
"""Seconds for which a line waits for the next ones of a command that is under way."""


class Saying:
    """The sending side of one connection.

    The lines of an answer go out together: each by itself would cost a TLS record and a call of
    the kernel. Whoever waits for the peer flushes before; who works on drains now and then.
    """

    __slots__ = ("_gathered", "_seconds", "_since", "_size", "compression", "connection")

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self.connection: Connection | None = None
        self.compression: Compression | None = None
        self._gathered: list[bytes] = []
        self._size = 0
        self._since = 0.0  # when the first of what waits was said; 0 if nothing waits

    def write(self, data: bytes) -> None:
        """Say `data`, at the latest with the next flush."""
        if self.connection is None:
            return
        self._since = self._since or self._seconds()
        if self.compression is not None:
            self._send(self.compression.seal(data))
            return
        self._gathered.append(data)
        self._size += len(data)
        if self._size >= GATHERED:
            self._pour()

    def flush(self) -> None:
        """Nothing that was written waits to be sent."""
        self._since = 0.0
        if self._gathered:
            self._pour()
        if self.compression is not None:
            self._send(self.compression.flush())

    async def drain(self) -> None:
        """Flush what waits for long, and wait until the peer takes more. Raises ConnectionLost."""
        if self.connection is None:
            raise ConnectionLost
        if self._since and self._seconds() - self._since > HELD:
            self.flush()
        await self.connection.drain()

    def compress(self) -> None:
        """All that follows goes out compressed. RFC 4978 §3."""
        self.flush()
        self.compression = Compression()

    def let_go(self) -> None:
        """Who waits for long holds no compressor."""
        if self.compression is not None:
            self._send(self.compression.rest())

    def abort(self) -> None:
        """End the connection at once: what was begun cannot be finished."""
        if self.connection is not None:
            self.connection.abort()

    def lose(self) -> None:
        """Nobody is there any more."""
        self.connection = None
        self._gathered.clear()
        self._size = 0
        self._since = 0.0

    def _pour(self) -> None:
        gathered, self._gathered, self._size = self._gathered, [], 0
        self._since = 0.0
        self._send(gathered[0] if len(gathered) == 1 else b"".join(gathered))

    def _send(self, octets: bytes) -> None:
        if octets and self.connection is not None:
            self.connection.write(octets)
