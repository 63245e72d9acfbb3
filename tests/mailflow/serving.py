"""A house with its mail server on a free port of loopback, built as a worker builds it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from postroom.core.clock import SystemClock
from postroom.core.ids import TRACE, Ids, internal
from postroom.core.settings import SERVER, Place, Role, Scope, Value
from postroom.domain import queue, trace
from postroom.domain.directory import aliases, people
from postroom.domain.directory.people import NewAccount
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, Policies, change
from postroom.formats.address import parse_mailbox
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.mailflow.localqueue import LocalQueue
from postroom.mailflow.phases import Phases
from postroom.net.accept import Acceptor
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.connection import LIMITS, Limits
from postroom.net.wheel import TimerWheel
from postroom.protocols.smtp import SmtpServer
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.sql import Tx
from postroom.store.units import Database
from postroom.testing.clock import ManualClock
from postroom.testing.smtp import SmtpClient, connect
from postroom.wire.smtp import Reply

DOMAIN = "example.test"
OTHER = "other.test"  # a second domain of ours
LISTENER = "smtp"
TICK = 0.02

_TRACE_ID = re.compile(rf"\b({TRACE}[0-9a-z]{{13}})\b")


@dataclass(slots=True)
class Mx:
    """The server under test, and what a test asks of the house behind it."""

    house: MailHouse
    intake: Intake
    acceptor: Acceptor
    port: int
    clock: ManualClock
    wheel: TimerWheel

    # --- a client -----------------------------------------------------------------------------

    def connect(
        self, hello: str = "EHLO client.example", host: str = "127.0.0.1"
    ) -> AbstractAsyncContextManager[SmtpClient]:
        return connect(host, self.port, hello=hello)

    # --- arranging ----------------------------------------------------------------------------

    async def account(self, address: str) -> int:
        """A person's account with its first folders; returns its id."""
        ids = [self.house.ids.new() for _ in range(16)]
        return await self.house.mail.write(_account, address, ids, self.clock)

    async def alias(self, address: str, target: str) -> None:
        ids = iter([self.house.ids.new()])
        now = self.clock.now()
        await self.house.mail.write(aliases.create_alias, address, target, ids, now)

    async def set(self, name: str, value: Value | None, place: Place = SERVER) -> None:
        """Set a setting, as administration does; unset it with None."""
        assigned = [Assignment(place, name, value)]
        now = self.clock.now()
        await self.house.mail.write(change, assigned, self.house.ids.new(), now, 0, "test")

    # --- asking -------------------------------------------------------------------------------

    async def content(self, account: int, role: str = "inbox") -> list[bytes]:
        """The messages of a mailbox, in order, as they lie there."""
        return await self.house.mail.read_much(self._content, account, role)

    def _content(self, tx: Tx, account: int, role: str) -> list[bytes]:
        box = folders.by_role(tx, account, role)
        assert box is not None
        rows = reading.brief(tx, box.id, Pick(1, 1 << 31))
        return [self.house.blobs.read(tx, row.blob) for row in rows]

    async def count(self, account: int, role: str = "inbox") -> int:
        box = await self.house.mail.read(folders.by_role, account, role)
        assert box is not None
        return box.total

    async def usage(self, account: int) -> tuple[int, int]:
        return await self.house.mail.read(reading.usage, account)

    async def waiting(self) -> list[queue.Recipient]:
        return await self.house.mail.read(queue.waiting, 10_000)

    def queue(self) -> LocalQueue:
        return LocalQueue(self.house, 1)

    async def find(self, address: str) -> int:
        return (await self.house.mail.read(people.account, parse_mailbox(address))).id

    async def empty(self, account: int) -> None:
        """Make room: expunge all of INBOX."""
        box = await self.house.mail.read(folders.by_role, account, "inbox")
        assert box is not None
        pick = Pick(1, 1 << 31)
        now = self.clock.now()
        await self.house.mail.write(
            messages.expunge, account, box.id, pick, now, account, retention=0
        )

    async def refusal(self, reply: Reply) -> dict[str, Any]:
        """The trace of a refusal, by the id in its reply."""
        self.intake.refusals.flush()
        found = _TRACE_ID.search(reply.text)
        assert found is not None, f"no trace id in: {reply}"
        wanted = internal(TRACE, found[1])
        for _ in range(500):  # a note is written soon, and nobody waits for it
            if (record := await self.house.state.read(trace.get_refusal, wanted)) is not None:
                return record
            await asyncio.sleep(0.01)
        raise AssertionError(f"no trace for: {reply}")

    async def delivered(self, message_id: str) -> dict[str, Any]:
        """The one trace with that Message-ID."""
        found = await self.house.mail.read(trace.find, trace.message_id_key(message_id))
        assert len(found) == 1, f"{len(found)} traces of {message_id}"
        return found[0][1]

    async def traces(self) -> list[dict[str, Any]]:
        return [record for _, record in await self.house.mail.read(trace.latest, 1000)]

    def files(self) -> list[str]:
        """Every file of the blob folder, those under way among them."""
        root = self.house.blobs.folder
        return sorted(os.path.join(at, name) for at, _, names in os.walk(root) for name in names)

    async def settled(self, true: Callable[[], bool]) -> None:
        """Wait until it is so; fails after five seconds."""
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.005)


def _account(tx: Tx, address: str, ids: list[int], clock: ManualClock) -> int:
    made = iter(ids)
    new = NewAccount(parse_mailbox(address), "", Role.USER, None)
    account = people.create_account(tx, new, made, clock.now())
    folders.create_first(tx, account.id, made, clock.now(), account.id)
    return account.id


def _domains(tx: Tx, ids: list[int], clock: ManualClock) -> None:
    for n, name in enumerate((DOMAIN, OTHER)):
        people.create_domain(tx, ids[n], name, clock.now())


def at_listener(name: str = LISTENER) -> Place:
    return Place(Scope.LISTENER, name)


@lru_cache(maxsize=1)
def server_context() -> ssl.SSLContext:
    """TLS for all servers of a run."""
    with TemporaryDirectory() as folder:
        store = CertificateStore(folder)
        store.write("default", *self_signed([f"mail.{DOMAIN}"], SystemClock().now()))
        store.reload()
        return store.context()


@asynccontextmanager
async def serve(
    folder: Path,
    mail: Database,
    state: Database,
    *,
    phases: Phases | None = None,
    files: Files | None = None,
    tls: bool = False,
    limits: Limits = LIMITS,
    host: str = "127.0.0.1",
) -> AsyncIterator[Mx]:
    """Serve SMTP over two open stores, under a clock that the test turns."""
    clock = ManualClock()
    ids = Ids(clock)
    blobs = Blobs(str(folder / "blobs"), files or Files(), ids)
    house = MailHouse(mail, state, blobs, clock, ids, Policies())
    if not await mail.read(people.domains):
        await mail.write(_domains, [ids.new(), ids.new()], clock)
    await mail.read(house.policies.current, house.chain(""))
    intake = Intake(house, phases)
    server = SmtpServer(intake, clock, ids, lambda: house.hostname, server_context if tls else None)
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, tick=TICK)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, 0), family=family, backlog=128, dualstack_ipv6=host == "::")
    port = sock.getsockname()[1]
    acceptor = Acceptor(loop, sock, LISTENER, server.handler, wheel, limits=limits)
    acceptor.start()
    try:
        yield Mx(house, intake, acceptor, port, clock, wheel)
    finally:
        acceptor.close()
        for connection in tuple(acceptor.connections):
            connection.abort()
        while acceptor.connections:
            await asyncio.sleep(0.001)
        intake.refusals.flush()
        wheel.close()


def message(
    subject: str = "Hello",
    body: bytes = b"Good morning.\r\n",
    *,
    message_id: str = "<1@elsewhere.example>",
    fields: bytes = b"",
) -> bytes:
    """A small honest message."""
    head = (
        f"From: Ann <ann@elsewhere.example>\r\nTo: bob@{DOMAIN}\r\nSubject: {subject}\r\n"
        f"Message-ID: {message_id}\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    )
    return head.encode() + fields + b"\r\n" + body
