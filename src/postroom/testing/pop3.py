"""A scripted POP3 client for tests and stress: it says what it is told, well or badly.

It reads with `wire.pop3.ResponseReader`, so an answer that is no POP3 raises BadResponse. Every
wait has a deadline.

    async with await Pop3Client.connect("127.0.0.1", 995, tls=context) as client:
        assert (await client.login("ann@example.test", "secret")).ok
        for number in await client.list():
            content = await client.retr(number)
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from postroom.testing.scripted import PATIENCE, ScriptedClient
from postroom.wire.pop3 import (
    Auth,
    Challenge,
    Chunk,
    End,
    Reply,
    Response,
    ResponseReader,
    auth_command,
    auth_line,
    capabilities,
    command,
)
from postroom.wire.sasl import Client


class RefusedError(Exception):
    """A command that should have gone well did not: `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.text} [{reply.code}]")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Lines:
    """A reply and the lines that followed it, dots removed; none after a refusal."""

    reply: Reply
    content: bytes = b""

    def each(self) -> list[bytes]:
        """The lines without their ends."""
        return self.content.split(b"\r\n")[:-1]


class Pop3Client(ScriptedClient[Response]):
    """One connection. Not for two tasks at once."""

    _responses: ResponseReader

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: float
    ) -> None:
        super().__init__(reader, writer, ResponseReader(), patience)
        self.greeting = Reply(False)

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        patience: float = PATIENCE,
        greeting: bool = True,
    ) -> Pop3Client:
        """Connect, with `tls` by implicit TLS, and hear the greeting."""
        reader, writer = await cls.dial(host, port, tls, patience)
        client = cls(reader, writer, patience)
        if greeting:
            client.greeting = await client.reply()
        return client

    # --- replies ---------------------------------------------------------------------------------

    async def reply(self, patience: float | None = None) -> Reply:
        """The reply to a command that was sent already."""
        found = await self.response(patience)
        assert isinstance(found, Reply), found
        return found

    async def content(self, patience: float | None = None) -> Lines:
        """The reply to a command that was sent already, and the lines behind it if it is +OK."""
        reply = await self.reply(patience)
        if not reply.ok:
            return Lines(reply)
        self._responses.expect_lines()
        whole = []
        while not isinstance(found := await self.response(patience), End):
            assert isinstance(found, Chunk), found
            whole.append(found.data)
        return Lines(reply, b"".join(whole))

    # --- commands --------------------------------------------------------------------------------

    async def ask(self, verb: str, *arguments: str | bytes | int) -> Reply:
        """Say a command whose reply is one line, and hear it."""
        self.send(command(verb, *arguments))
        return await self.reply()

    async def lines(self, verb: str, *arguments: str | bytes | int) -> Lines:
        """Say a command whose reply has lines behind it, and hear them."""
        self.send(command(verb, *arguments))
        return await self.content()

    # --- what most scripts say -------------------------------------------------------------------

    async def stls(self, context: ssl.SSLContext, name: str = "localhost") -> Reply:
        """Upgrade; what was said in plaintext beyond the reply would be an attack."""
        reply = await self.ask("STLS")
        if reply.ok:
            assert self._responses.empty
            await self.upgrade(context, name)
        return reply

    async def login(self, user: str, password: str) -> Reply:
        """USER and PASS."""
        reply = await self.ask("USER", user)
        return await self.ask("PASS", password) if reply.ok else reply

    async def sign_in(self, client: Client, *, initial: bool = True) -> Reply:
        """AUTH in any mechanism; None from the client cancels. RFC 5034 §4."""
        first = client.start()
        along = first if initial else None
        self.send(auth_command(Auth(client.name, along)))
        owed = None if along is not None else first
        while isinstance(found := await self.response(), Challenge):
            answer = owed if owed is not None else client.step(found.data)
            owed = None
            self.send(auth_line(answer))
        assert isinstance(found, Reply), found
        return found

    async def capa(self) -> dict[str, tuple[str, ...]]:
        """What the server can do."""
        return capabilities((await self._good("CAPA")).each())

    async def stat(self) -> tuple[int, int]:
        """How many messages and octets."""
        reply = await self.ask("STAT")
        if not reply.ok:
            raise RefusedError(reply)
        count, octets = reply.text.split()[:2]
        return int(count), int(octets)

    async def list(self) -> dict[int, int]:
        """Octets by message number."""
        listed = (line.split() for line in (await self._good("LIST")).each())
        return {int(number): int(octets) for number, octets in listed}

    async def uidl(self) -> dict[int, str]:
        """Unique ids by message number."""
        listed = (line.split() for line in (await self._good("UIDL")).each())
        return {int(number): unique.decode("ascii") for number, unique in listed}

    async def retr(self, number: int) -> bytes:
        """A message; raises RefusedError."""
        return (await self._good("RETR", number)).content

    async def top(self, number: int, lines: int) -> bytes:
        """The top of a message; raises RefusedError."""
        return (await self._good("TOP", number, lines)).content

    async def _good(self, verb: str, *arguments: int) -> Lines:
        found = await self.lines(verb, *arguments)
        if not found.reply.ok:
            raise RefusedError(found.reply)
        return found
