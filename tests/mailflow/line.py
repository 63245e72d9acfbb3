"""A session without a socket: octets in, replies out, and whatever went wrong."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from structlog.testing import capture_logs

from postroom.core.errors import ConnectionLost
from postroom.net.connection import Connection, Peer
from postroom.net.tls import TlsFacts
from postroom.protocols.smtp import SmtpServer
from postroom.wire.smtp import Reply, ReplyReader

TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, None, "test", None, b"e" * 32)


class Line:
    """The connection as the session sees it. It takes all that is written, and never waits."""

    def __init__(self, made: SmtpServer, peer: Peer) -> None:
        self._replies = ReplyReader()
        self.written = 0
        self.paused = False
        self.is_closing = False
        self.known = False
        self.most_buffered = 0
        self.handler = made.handler(peer)
        self.handler.on_connected(cast("Connection", self))

    # --- for the session ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert not self.is_closing, f"written after the end: {data!r}"
        self.written += len(data)
        self._replies.feed(data)

    def set_timeout(self, seconds: float | None) -> None:
        assert seconds is None or seconds > 0

    def pause(self) -> None:
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.is_closing = True

    def signed_in(self) -> None:
        assert not self.known
        self.known = True

    async def drain(self) -> None:
        return

    async def start_tls(
        self, context: ssl.SSLContext, reply: bytes, *, leftover: bool, refusal: bytes = b""
    ) -> TlsFacts:
        if leftover:
            self.write(refusal)
            self.close()
            raise ConnectionLost
        self.write(reply)
        self.paused = True
        return TLS

    # --- for the test ---------------------------------------------------------------------------

    async def say(self, data: bytes, step: int = 16_384) -> None:
        """Send octets as a socket would bring them, and let the session deal with them."""
        for start in range(0, len(data), step):
            if self.is_closing:
                return
            self.handler.on_bytes(data[start : start + step])
            await self._quiet()

    async def end(self) -> None:
        """The peer goes away."""
        if not self.is_closing:
            self.handler.on_eof()
            await self._quiet()
        self.handler.on_lost(None)
        await self._quiet()

    async def _quiet(self) -> None:
        turns = 0
        while self.handler._task is not None:
            self.most_buffered = max(self.most_buffered, self.handler._receiver.buffered)
            turns += 1
            await asyncio.sleep(0 if turns < 20 else 0.0005)  # a thread may be at work

    def replies(self) -> list[Reply]:
        """What was said since the last look."""
        found = []
        while (reply := self._replies.next()) is not None:
            found.append(reply)
        assert self._replies.empty, "half a reply"
        return found


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged within as a warning or worse: nothing, whatever a peer says."""
    found: list[str] = []
    with capture_logs() as said:
        yield found
    found += [str(each) for each in said if each["log_level"] not in ("debug", "info")]
