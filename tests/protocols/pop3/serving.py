"""POP3 workers on free ports of loopback, beside the IMAP workers of the same house."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from postroom.access import Authenticator
from postroom.core.clock import Clock
from postroom.mailflow.house import MailHouse
from postroom.net.accept import Acceptor, Strangers
from postroom.net.wheel import TimerWheel
from postroom.protocols.pop3 import Pop3Server
from postroom.protocols.pop3.locks import Locks
from postroom.protocols.pop3.server import Pop3Connection
from postroom.protocols.pop3.session import Shared
from postroom.store.units import Database
from postroom.testing.pop3 import Pop3Client
from tests.protocols.imap.serving import (
    ANN,
    PASSWORD,
    TICK,
    Room,
    client_context,
    new_bus,
    server_context,
)
from tests.protocols.imap.serving import serve as serve_imap

WAIT = 0.3
"""Seconds that a sign-in waits here for another session to end."""


@dataclass(slots=True)
class Worker:
    """The POP3 doors of one worker."""

    server: Pop3Server
    authenticator: Authenticator
    acceptors: dict[str, Acceptor]
    ports: dict[str, int]
    wheel: TimerWheel

    @property
    def locks(self) -> Locks:
        return self.server.shared.locks

    def connections(self) -> list[Pop3Connection]:
        """The sessions that are open, over all doors."""
        return [
            connection.handler
            for acceptor in self.acceptors.values()
            for connection in acceptor.connections
            if isinstance(connection.handler, Pop3Connection)
        ]

    async def close(self) -> None:
        for acceptor in self.acceptors.values():
            acceptor.close()
            for connection in tuple(acceptor.connections):
                connection.abort()
        while any(acceptor.connections for acceptor in self.acceptors.values()):
            await asyncio.sleep(0.001)
        await self.server.close()
        await self.authenticator.close()
        self.wheel.close()


@dataclass(slots=True)
class Pop3Room:
    """The POP3 workers under test; `imap` is the house's other side, and arranges what there is."""

    imap: Room
    workers: list[Worker]
    clients: list[Pop3Client] = field(default_factory=list)

    @property
    def house(self) -> MailHouse:
        return self.imap.house

    async def connect(self, door: str = "pop3s", worker: int = 0) -> Pop3Client:
        """A connection that has not signed in: `pop3s` after its handshake, or `pop3`."""
        port = self.workers[worker].ports[door]
        tls = client_context() if door == "pop3s" else None
        client = await Pop3Client.connect("127.0.0.1", port, tls=tls)
        self.clients.append(client)
        return client

    async def client(self, user: str = ANN, worker: int = 0) -> Pop3Client:
        """A connection that has signed in."""
        client = await self.connect(worker=worker)
        reply = await client.login(user, PASSWORD)
        assert reply.ok, reply
        return client

    async def uids(self, user: str = ANN) -> list[int]:
        """What lies in INBOX."""
        return sorted(await self.imap.stored(user=user))


def open_worker(house: MailHouse, holder: int) -> Worker:
    """The doors of one worker over a house that is open."""
    authenticator = Authenticator(
        house.mail,
        house.clock,
        house.policies,
        house.ids,
        default_domain=lambda: house.default_domain,
    )
    locks = Locks(house.state, house.clock, holder, patience=WAIT)
    server = Pop3Server(Shared(house, authenticator, locks, server_context))
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, tick=TICK)
    acceptors: dict[str, Acceptor] = {}
    ports: dict[str, int] = {}
    strangers = Strangers(1000)
    for door in ("pop3", "pop3s"):
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        ports[door] = sock.getsockname()[1]
        tls = server_context() if door == "pop3s" else None
        acceptors[door] = Acceptor(
            loop, sock, door, server.handler, wheel, tls=tls, strangers=strangers
        )
        acceptors[door].start()
    return Worker(server, authenticator, acceptors, ports, wheel)


@asynccontextmanager
async def serve(
    folder: Path,
    mail: Database,
    state: Database,
    *,
    clock: Clock | None = None,
    workers: int = 2,
) -> AsyncIterator[Pop3Room]:
    """Serve POP3 and IMAP over two open stores, by as many workers as one process can hold."""
    async with serve_imap(folder, mail, state, new_bus(), clock=clock, workers=workers) as imap:
        room = Pop3Room(imap, [open_worker(imap.house, n + 1) for n in range(workers)])
        try:
            yield room
        finally:
            for client in room.clients:
                client.abort()
            for worker in room.workers:
                await worker.close()
