"""The other doors of the serving house: submission with and without implicit TLS, LMTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from postroom.access import Authenticator, make_secret
from postroom.access.passwords import Cost
from postroom.domain import queue
from postroom.domain.directory import people
from postroom.formats.address import parse_mailbox
from postroom.net.accept import Acceptor, Strangers
from postroom.net.tls import TlsFacts
from postroom.net.unix import listen_unix
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.session import Service
from postroom.protocols.smtp.verbs import LMTP, SUBMISSION
from postroom.store.sql import Tx
from postroom.testing.smtp import PATIENCE, SmtpClient, connect, trusting_context
from postroom.wire.sasl import Client, LoginClient, PlainClient, ScramClient
from postroom.wire.smtp import Reply
from tests.mailflow.serving import DOMAIN, Mx, server_context

ANN = f"ann@{DOMAIN}"
PASSWORD = "correct horse battery staple"
CHEAP = Cost(8192, 1, 1)
"""Passwords that cost next to nothing to prove."""


@dataclass(slots=True)
class Doors:
    """Where clients of our own and programs of this machine come in; Ann signs in."""

    mx: Mx
    authenticator: Authenticator
    submission: Acceptor
    port: int
    tls_port: int
    lmtp: Acceptor
    path: str
    strangers: Strangers
    ann: int

    @asynccontextmanager
    async def open(
        self, *, tls: bool = True, hello: str = "EHLO laptop.example"
    ) -> AsyncIterator[SmtpClient]:
        """Port 587; with `tls` behind STARTTLS, with `hello` said again."""
        first = hello if hello and not tls else ("EHLO laptop.example" if tls else "")
        async with connect("127.0.0.1", self.port, hello=first) as client:
            if tls:
                await client.starttls(trusting_context())
                if hello:
                    await client.ask(hello, 250)
            yield client

    @asynccontextmanager
    async def signed_in(self, login: str = ANN) -> AsyncIterator[SmtpClient]:
        """Port 587, behind TLS, somebody signed in."""
        async with self.open() as client:
            reply = await sign_in(client, PlainClient(login, PASSWORD))
            assert reply.code == 235, reply
            yield client

    @asynccontextmanager
    async def local(self, hello: str = "LHLO filter.example") -> AsyncIterator[SmtpClient]:
        """LMTP over the unix socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        async with SmtpClient(sock) as client:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_connect(sock, self.path)
            greeting = await client.reply()
            assert greeting.code == 220, greeting
            if hello:
                await client.ask(hello, 250)
            yield client

    async def person(self, address: str, password: str = PASSWORD) -> int:
        """An account that can sign in."""
        account = await self.mx.account(address)
        await self.set_password(account, password)
        return account

    async def outgoing(self) -> list[tuple[queue.Recipient, bytes]]:
        """Who waits in the queue, with the content as it would go out."""
        return [
            (each, await self.mx.house.mail.read_much(self._content, each.message.blob))
            for each in await self.mx.waiting()
        ]

    def _content(self, tx: Tx, blob: int) -> bytes:
        return self.mx.house.blobs.read(tx, blob)

    async def set_password(self, account: int, password: str) -> None:
        fresh = await asyncio.to_thread(make_secret, password, CHEAP)
        mx = self.mx
        ids = [mx.house.ids.new() for _ in range(people.IDS_FOR_PASSWORD)]
        await mx.house.mail.write(people.set_secret, account, fresh, ids, mx.clock.now())

    async def set_state(self, address: str, state: str) -> None:
        mx = self.mx
        found = await mx.house.mail.read(people.account, parse_mailbox(address))
        await mx.house.mail.write(people.set_state, found, state)


@asynccontextmanager
async def open_doors(mx: Mx, folder: Path) -> AsyncIterator[Doors]:
    """Open them beside port 25 of a house."""
    house = mx.house
    loop = asyncio.get_running_loop()
    strangers = Strangers()
    authenticator = Authenticator(
        house.mail,
        mx.clock,
        house.policies,
        house.ids,
        default_domain=lambda: house.default_domain,
        node=house.node,
        key=b"k" * 32,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(authenticator.close)

        def server(service: Service, tls: Callable[[], ssl.SSLContext] | None) -> SmtpServer:
            door = authenticator if service.signs_in else None
            return SmtpServer(
                mx.intake, mx.clock, house.ids, lambda: house.hostname, tls, service, door
            )

        def accept(
            sock: socket.socket, name: str, made: SmtpServer, tls: ssl.SSLContext | None = None
        ) -> Acceptor:
            acceptor = Acceptor(
                loop, sock, name, made.handler, mx.wheel, tls=tls, strangers=strangers
            )
            acceptor.start()
            stack.push_async_callback(_end, acceptor)
            return acceptor

        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        tls_sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        path = str(folder / "lmtp.sock")
        submission = server(SUBMISSION, server_context)
        first = accept(sock, "submission", submission)
        accept(tls_sock, "submissions", submission, server_context())
        lmtp = accept(listen_unix(path), "lmtp", server(LMTP, None))
        await mx.set("access.hash_memory", CHEAP.memory)
        await mx.set("access.hash_passes", CHEAP.passes)
        ports = sock.getsockname()[1], tls_sock.getsockname()[1]
        doors = Doors(mx, authenticator, first, *ports, lmtp, path, strangers, 0)
        doors.ann = await doors.person(ANN)
        yield doors


async def _end(acceptor: Acceptor) -> None:
    acceptor.close()
    for connection in tuple(acceptor.connections):
        connection.abort()
    while acceptor.connections:
        await asyncio.sleep(0.001)


# --- the client's side of AUTH ------------------------------------------------------------------


async def sign_in(client: SmtpClient, sasl: Client, *, initial: bool = True) -> Reply:
    """The whole exchange; the reply that ends it. RFC 4954 §4."""
    said = sasl.start()
    line = f"AUTH {sasl.name}"
    if initial and said is not None:
        line, said = f"{line} {_coded(said)}", None
    reply = await client.ask(line)
    while reply.code == 334:
        challenge = base64.b64decode(reply.text)
        if said is not None:
            assert not challenge  # it was asked for what it had to say first
            answer, said = said, None
        else:
            answered = sasl.step(challenge)
            assert answered is not None, sasl.problem
            answer = answered
        reply = await client.ask(_coded(answer, empty=""))
    return reply


def client_of(
    mechanism: str, login: str = ANN, password: str = PASSWORD, *, channel: TlsFacts | None = None
) -> Client:
    """Our own client of a mechanism; bound to a channel if that is given. RFC 5929 §4."""
    binding = hashlib.sha256(channel.chain[0]).digest() if channel is not None else b""
    if mechanism == "PLAIN":
        return PlainClient(login, password)
    if mechanism == "LOGIN":
        return LoginClient(login, password)
    return ScramClient(mechanism, login, password, secrets.token_urlsafe(18), binding=binding)


def _coded(message: bytes, empty: str = "=") -> str:
    return base64.b64encode(message).decode() or empty
