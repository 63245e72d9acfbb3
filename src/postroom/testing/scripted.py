"""What scripted clients have in common: a connection, and responses with a deadline."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar

PATIENCE: Final = 10.0
"""Seconds to wait for a response, unless the caller says otherwise."""

_READ: Final = 64 * 1024

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ClosedError(Exception):
    """The server ended the connection; `heard` is what it said before."""

    def __init__(self, heard: Sequence[object] = ()) -> None:
        super().__init__(f"the server closed the connection after {list(heard)!r}")
        self.heard = list(heard)


class Responses(Protocol[T_co]):
    """A codec's reader of responses."""

    def feed(self, data: bytes) -> None: ...

    def next(self) -> T_co | None: ...


class ScriptedClient(Generic[T]):
    """One connection, whose responses are of type T. Not for two tasks at once."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        responses: Responses[T],
        patience: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._responses = responses
        self._patience = patience
        self._streams: tuple[zlib._Compress, zlib._Decompress] | None = None

    @staticmethod
    async def dial(
        host: str, port: int, tls: ssl.SSLContext | None, patience: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with `tls` by implicit TLS."""
        name = host if tls is not None else None
        opening = asyncio.open_connection(host, port, ssl=tls, server_hostname=name, limit=_READ)
        return await asyncio.wait_for(opening, patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def send(self, data: bytes) -> None:
        """Octets as they are, right or wrong."""
        if self._streams is not None:
            deflate = self._streams[0]
            data = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
        self._writer.write(data)

    def send_raw(self, data: bytes) -> None:
        """Octets as they are, also where the connection is compressed."""
        self._writer.write(data)

    def compressed(self) -> None:
        """Speak and hear DEFLATE from here on, with the largest window. RFC 4978 §3."""
        bits = -zlib.MAX_WBITS
        self._streams = zlib.compressobj(wbits=bits), zlib.decompressobj(bits)

    async def flush(self) -> None:
        """Wait until the loop has taken what was sent."""
        await self._writer.drain()

    def send_eof(self) -> None:
        """Say no more, but go on listening. Not over TLS."""
        self._writer.write_eof()

    async def response(self, patience: float | None = None) -> T:
        """The next response; raises ClosedError at the end, TimeoutError if none comes in time."""
        async with asyncio.timeout(self._patience if patience is None else patience):
            while (found := self._responses.next()) is None:
                try:
                    data = await self._reader.read(_READ)
                except (ConnectionError, ssl.SSLError):
                    data = b""
                if not data:
                    raise ClosedError
                self._heard(data)
        return found

    def _heard(self, data: bytes) -> None:
        self._responses.feed(self._streams[1].decompress(data) if self._streams else data)

    async def silent(self, seconds: float) -> bool:
        """True if nothing is said for so long; what is said is lost to nobody."""
        try:
            async with asyncio.timeout(seconds):
                self._heard(await self._reader.read(_READ))
        except TimeoutError:
            return True
        return False

    async def until_closed(self, patience: float | None = None) -> list[T]:
        """Everything that is said until the server ends the connection."""
        heard: list[T] = []
        while True:
            try:
                heard.append(await self.response(patience))
            except ClosedError:
                return heard

    async def upgrade(self, context: ssl.SSLContext, name: str) -> None:
        """TLS from here on."""
        async with asyncio.timeout(self._patience):
            await self._writer.start_tls(context, server_hostname=name)

    async def close(self) -> None:
        """End the connection without a word."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._patience):
                await self._writer.wait_closed()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.abort()

    def abort(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()
