"""A scripted SMTP client: says exactly the octets it is told, and reads what comes back.

For plays against a listening server, honest and hostile ones. It repairs nothing and waits for
nothing that the script does not ask for; replies are read by `wire.smtp.ReplyReader`, TLS is
`net.tls.TlsEngine`, so what it sends in one `send` leaves as one write.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from postroom.net.tls import TlsEngine, TlsFacts
from postroom.wire.smtp import Reply, ReplyReader, dot_stuff

PATIENCE: Final = 10.0
"""Seconds that a script waits for anything before it fails with TimeoutError."""

_CHUNK: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class ServerClosed(Exception):
    """The server ended the connection where the script expected a reply."""


class Unexpected(AssertionError):
    """A reply had another code than the script expects."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The replies to one transaction; None where it did not come so far."""

    mail: Reply
    rcpts: tuple[Reply, ...] = ()
    data: Reply | None = None
    end: Reply | None = None

    @property
    def accepted(self) -> bool:
        """True if the server took the message for at least one recipient."""
        return self.end is not None and self.end.positive

    @property
    def last(self) -> Reply:
        """The reply that decided."""
        return self.end or self.data or (self.rcpts[-1] if self.rcpts else self.mail)


class SmtpClient:
    """One connection. Made by `connect`; every wait is bounded by `PATIENCE`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._replies = ReplyReader()
        self._tls: TlsEngine | None = None
        self._ended = False

    async def __aenter__(self) -> SmtpClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- octets --------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send exactly these octets, as one write if the kernel takes them."""
        sealed = self._tls.seal(data) if self._tls is not None else data
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self._sock, sealed)

    async def flood(self, data: bytes, patience: float) -> int:
        """Send what the server takes, without reading; returns how many octets it took.

        Stops when all is sent, or when nothing more went for `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        sent, since = 0, loop.time()
        while sent < len(view):
            try:
                sent += self._sock.send(view[sent : sent + _CHUNK])
                since = loop.time()
            except BlockingIOError:
                if loop.time() - since > patience:
                    break
            except OSError:
                break  # cut off: what it took is the answer
            await asyncio.sleep(0.002)
        return sent

    async def drip(self, data: bytes, pause: float = 0) -> None:
        """Send octet by octet, as slow peers and slow attackers do."""
        for n in range(len(data)):
            self._sock.send(data[n : n + 1])
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Go away in good order."""
        self._sock.close()

    def reset(self) -> None:
        """Go away as a crashed peer does: RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._sock.close()

    def half_close(self) -> None:
        """Send no more, but go on reading."""
        self._sock.shutdown(socket.SHUT_WR)

    async def _more(self) -> None:
        """Read once and feed the replies; at the end sets `_ended`."""
        data = await asyncio.get_running_loop().sock_recv(self._sock, _CHUNK)
        if not data:
            self._ended = True
            return
        if self._tls is None:
            self._replies.feed(data)
            return
        self._tls.feed(data)
        while (plain := self._tls.read()) is not None:
            if not plain:
                self._ended = True
                return
            self._replies.feed(plain)

    # --- replies -------------------------------------------------------------------------------

    async def reply(self, patience: float = PATIENCE) -> Reply:
        """The next reply. Raises ServerClosed, TimeoutError, BadReply."""
        async with asyncio.timeout(patience):
            while (found := self._replies.next()) is None:
                if self._ended:
                    raise ServerClosed
                try:
                    await self._more()
                except ConnectionError:
                    self._ended = True
            return found

    async def replies(self, count: int) -> list[Reply]:
        """The next replies, in order."""
        return [await self.reply() for _ in range(count)]

    async def rest(self, patience: float = PATIENCE) -> list[Reply]:
        """All replies up to the end of the connection, which must come."""
        found = []
        try:
            while True:
                found.append(await self.reply(patience))
        except ServerClosed:
            return found

    async def silent(self, seconds: float) -> bool:
        """True if the server says nothing for so long, and does not close."""
        try:
            await self.reply(seconds)
        except TimeoutError:
            return True
        except ServerClosed:
            return False
        return False

    # --- commands ------------------------------------------------------------------------------

    async def ask(self, line: str | bytes, code: int | None = None) -> Reply:
        """Send a line, add its CRLF, and read one reply; Unexpected if it has another code."""
        octets = line.encode("utf-8") if isinstance(line, str) else line
        await self.send(octets + b"\r\n")
        reply = await self.reply()
        if code is not None and reply.code != code:
            raise Unexpected(f"{line!r}: {code} was expected, not {reply}")
        return reply

    async def starttls(self, context: ssl.SSLContext, hostname: str | None = None) -> None:
        """STARTTLS and the handshake; says nothing after it."""
        await self.ask("STARTTLS", 220)
        await self.handshake(context, hostname)

    async def handshake(self, context: ssl.SSLContext, hostname: str | None = None) -> None:
        """Speak TLS from here on. Raises TlsFailed, ServerClosed."""
        loop = asyncio.get_running_loop()
        engine = TlsEngine(context, server_side=False, hostname=hostname)
        async with asyncio.timeout(PATIENCE):
            while not engine.handshake():
                await loop.sock_sendall(self._sock, engine.take())
                data = await loop.sock_recv(self._sock, _CHUNK)
                if not data:
                    raise ServerClosed
                engine.feed(data)
            await loop.sock_sendall(self._sock, engine.take())
        self._tls = engine

    @property
    def tls(self) -> TlsFacts:
        """What the handshake settled, as the client sees it."""
        assert self._tls is not None, "there was no handshake"
        return self._tls.facts()

    async def deliver(
        self,
        sender: str,
        recipients: Sequence[str],
        content: bytes,
        *,
        parameters: str = "",
        pipelined: bool = False,
    ) -> Delivery:
        """One transaction: MAIL, RCPT for each, DATA, the content with its dots stuffed.

        Without `pipelined` it stops where an honest client would; with it MAIL, RCPT and DATA
        leave as one write (RFC 2920 §3.1), and the content follows if DATA was taken.
        """
        mail = f"MAIL FROM:<{sender}> {parameters}".rstrip()
        rcpts = [f"RCPT TO:<{recipient}>" for recipient in recipients]
        if pipelined:
            await self.send("".join(f"{line}\r\n" for line in (mail, *rcpts, "DATA")).encode())
            first, *told = await self.replies(len(rcpts) + 2)
            data = told.pop()
        else:
            first, told = await self.ask(mail), []
            if not first.positive:
                return Delivery(first)
            told = [await self.ask(rcpt) for rcpt in rcpts]
            if not any(reply.positive for reply in told):
                return Delivery(first, tuple(told))
            data = await self.ask("DATA")
        if not data.intermediate:
            return Delivery(first, tuple(told), data)
        return Delivery(first, tuple(told), data, await self.content(content))

    async def content(self, content: bytes) -> Reply:
        """The content after a 354, as DATA wants it; the reply to its end."""
        await self.send(b"".join(dot_stuff([content])))
        return await self.reply()


@asynccontextmanager
async def connect(
    host: str, port: int, *, hello: str = "EHLO client.example", greeting: int = 220
) -> AsyncIterator[SmtpClient]:
    """Connect, read the greeting and say `hello` (empty: say nothing); closed at the end."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    async with SmtpClient(sock) as client:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_connect(sock, (host, port))
        said = await client.reply()
        if said.code != greeting:
            raise Unexpected(f"the greeting is {said}")
        if hello:
            await client.ask(hello, 250)
        yield client


def trusting_context() -> ssl.SSLContext:
    """A client's context that believes any certificate, as SMTP peers do. RFC 7435."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
