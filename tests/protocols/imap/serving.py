"""A house with IMAP workers on free ports of loopback, built as a worker builds its own."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from postroom.access import Authenticator, make_secret
from postroom.access.passwords import Cost
from postroom.core.bus import Bus
from postroom.core.clock import Clock, Instant, SystemClock
from postroom.core.ids import Ids
from postroom.core.settings import SERVER, Place, Role, Scope, Value
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.events import Changed
from postroom.domain.mailboxes import flags, folders, messages, reading
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import UNLIMITED, NewMessage, Stored
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, Policies, change
from postroom.formats.address import parse_mailbox
from postroom.formats.parsed import parse
from postroom.mailflow.house import MailHouse
from postroom.net.accept import Acceptor, Strangers
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.wheel import TimerWheel
from postroom.protocols.imap import ImapServer
from postroom.protocols.imap.server import ImapConnection
from postroom.protocols.imap.session import Shared
from postroom.protocols.imap.view import Views
from postroom.server.bus import account_of, later
from postroom.store.blobs import Blobs, NewBlob
from postroom.store.files import Files
from postroom.store.sql import Tx
from postroom.store.units import Database
from postroom.testing.imap import ImapClient, Reply

DOMAIN = "example.test"
ANN = f"ann@{DOMAIN}"
BOB = f"bob@{DOMAIN}"
PASSWORD = "correct horse"
CHEAP = Cost(8192, 1, 1)
TICK = 0.02
EVERY = Pick(1, (1 << 31) - 1)


@dataclass(slots=True)
class Worker:
    """The IMAP doors of one worker: its own views, its own bus or one that it shares."""

    shared: Shared
    acceptors: dict[str, Acceptor]
    ports: dict[str, int]
    wheel: TimerWheel

    def connections(self) -> list[ImapConnection]:
        """The sessions that are open, over all doors."""
        return [
            connection.handler
            for acceptor in self.acceptors.values()
            for connection in acceptor.connections
            if isinstance(connection.handler, ImapConnection)
        ]

    async def close(self) -> None:
        for acceptor in self.acceptors.values():
            acceptor.close()
            for connection in tuple(acceptor.connections):
                connection.abort()
        while any(acceptor.connections for acceptor in self.acceptors.values()):
            await asyncio.sleep(0.001)
        self.wheel.close()


@dataclass(slots=True)
class Room:
    """The workers under test, what stands behind them, and what a test asks of that."""

    house: MailHouse
    workers: list[Worker]
    bus: Bus[Changed]
    accounts: dict[str, int]
    clients: list[ImapClient] = field(default_factory=list)

    # --- clients ---------------------------------------------------------------------------------

    async def connect(self, door: str = "imaps", worker: int = 0) -> ImapClient:
        """A connection that has not signed in: `imaps` after its handshake, or `imap`."""
        port = self.workers[worker].ports[door]
        tls = client_context() if door == "imaps" else None
        client = await ImapClient.connect("127.0.0.1", port, tls=tls)
        self.clients.append(client)
        return client

    async def client(
        self, user: str = ANN, mailbox: str | None = "INBOX", worker: int = 0
    ) -> ImapClient:
        """A connection that has signed in and, unless told otherwise, opened INBOX."""
        client = await self.connect(worker=worker)
        assert (await client.login(user, PASSWORD)).ok
        if mailbox is not None:
            assert (await client.command("SELECT ", mailbox)).ok
        return client

    # --- arranging -------------------------------------------------------------------------------

    async def deliver(
        self,
        *raws: bytes,
        user: str = ANN,
        path: str = "INBOX",
        flags: tuple[str, ...] = (),
        at: Instant | None = None,
    ) -> list[Stored]:
        """Place messages by the domain's own functions, in one unit."""
        account = self.accounts[user]
        box = await self.box(path, user)
        now = self.house.clock.now()
        new: list[tuple[NewBlob, NewMessage]] = []
        for raw in raws:
            blob = await self.house.blobs.make(raw)
            received = at if at is not None else now
            message = self.house.ids.new()
            new.append((blob, NewMessage(message, blob.id, len(raw), received, parse(raw), flags)))
        return await self.house.mail.write(
            messages.append, account, box.id, new, UNLIMITED, now, account
        )

    async def append_blob(self, blob: NewBlob, raw: bytes, user: str = ANN) -> Stored:
        """Place a message whose content is ready, in INBOX."""
        account, box = self.accounts[user], await self.box(user=user)
        now = self.house.clock.now()
        new = NewMessage(self.house.ids.new(), blob.id, len(raw), now, parse(raw))
        (stored,) = await self.house.mail.write(
            messages.append, account, box.id, [(blob, new)], UNLIMITED, now, account
        )
        return stored

    async def fill(self, count: int, user: str = ANN, path: str = "INBOX") -> None:
        """Many placements of one small message, by set statements: quick, and all alike."""
        (first,) = await self.deliver(SMALL, user=user, path=path)
        account, box = self.accounts[user], (await self.box(path, user)).id
        scratch = await self.create("Scratch", user)
        placed = 1
        while placed < count:
            # Doubling by way of a second mailbox: a copy into its own source is a copy too.
            more = min(placed, count - placed)
            pick = Pick(first.uid, first.uid + more - 1)
            await self.house.mail.write(
                messages.copy, account, box, scratch, pick, UNLIMITED, Instant(1), account
            )
            row = await self.house.mail.read(folders.get, scratch)
            await self.house.mail.write(
                messages.move,
                account,
                scratch,
                box,
                Pick(1, row.uidnext),
                Instant(1),
                account,
            )
            placed += more

    async def create(self, path: str, user: str = ANN) -> int:
        """Make a mailbox unless it is there; returns its id."""
        account = self.accounts[user]
        boxes = await self.house.mail.read(folders.tree, account)
        found = boxes.by_path.get(path)
        if found is not None:
            return found.id
        ids = iter([self.house.ids.new() for _ in range(folders.DEPTH)])
        now = self.house.clock.now()
        return await self.house.mail.write(folders.create, account, path, ids, now, account)

    async def configure(self, name: str, value: Value | None, place: Place = SERVER) -> None:
        """Set a setting, as administration does; unset it with None."""
        assigned = [Assignment(place, name, value)]
        now = self.house.clock.now()
        await self.house.mail.write(change, assigned, self.house.ids.new(), now, 0, "test")

    async def set_password(self, user: str, password: str) -> None:
        secret = await asyncio.to_thread(make_secret, password, CHEAP)
        await self.house.mail.write(
            people.set_secret,
            self.accounts[user],
            secret,
            [self.house.ids.new() for _ in range(people.IDS_FOR_PASSWORD)],
            self.house.clock.now(),
        )

    async def set_state(self, user: str, state: str) -> None:
        await self.house.mail.write(_set_state, self.accounts[user], state)

    def quota(self, user: str = ANN) -> Place:
        """Where to set the quota of one account."""
        return Place(Scope.ACCOUNT, str(self.accounts[user]))

    # --- asking ----------------------------------------------------------------------------------

    async def box(self, path: str = "INBOX", user: str = ANN) -> Mailbox:
        boxes = await self.house.mail.read(folders.tree, self.accounts[user])
        return boxes.find(path)

    async def stored(self, path: str = "INBOX", user: str = ANN) -> dict[int, set[str]]:
        """What the store holds: flags by UID."""
        box = await self.box(path, user)
        return await self.house.mail.read(_stored, box)

    async def modseqs(self, path: str = "INBOX", user: str = ANN) -> dict[int, int]:
        box = await self.box(path, user)
        rows = await self.house.mail.read(reading.flags, box.id, EVERY)
        return {uid: modseq for uid, _, modseq in rows}

    async def rows(self, path: str = "INBOX", user: str = ANN) -> list[reading.Brief]:
        box = await self.box(path, user)
        return await self.house.mail.read(reading.brief, box.id, EVERY)

    async def flag(
        self,
        uids: Sequence[int],
        *,
        add: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        user: str = ANN,
        path: str = "INBOX",
    ) -> None:
        """Change flags behind the back of every session."""
        box = await self.box(path, user)
        await self.house.mail.write(
            messages.set_flags,
            box.account,
            box.id,
            Pick.of(uids),
            messages.FlagChange(add=add, remove=remove),
            self.house.clock.now(),
            box.account,
        )

    async def remove(self, uids: Sequence[int], user: str = ANN, path: str = "INBOX") -> None:
        """Expunge behind the back of every session."""
        box = await self.box(path, user)
        await self.house.mail.write(
            messages.expunge,
            box.account,
            box.id,
            Pick.of(uids),
            self.house.clock.now(),
            box.account,
            retention=0,
        )

    async def settled(self, true: Callable[[], bool], patience: float = 5) -> None:
        """Wait until it is so; TimeoutError if it does not come to be."""
        async with asyncio.timeout(patience):
            while not true():
                await asyncio.sleep(0.005)


def _set_state(tx: Tx, account: int, state: str) -> None:
    people.set_state(tx, people.by_id(tx, account), state)


def _stored(tx: Tx, box: Mailbox) -> dict[int, set[str]]:
    known = flags.registry(tx, box.account)
    return {uid: set(known.flags(bits)) for uid, bits, _ in reading.flags(tx, box.id, EVERY)}


def message(
    subject: str = "Hello", body: bytes = b"Good morning.\r\n", fields: bytes = b""
) -> bytes:
    """A small honest message."""
    head = (
        f"From: Zoe <zoe@elsewhere.example>\r\nTo: {ANN}\r\nSubject: {subject}\r\n"
        "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@elsewhere.example>\r\n"
    )
    return head.encode() + fields + b"\r\n" + body


SMALL = message()


def codes_of(reply: Reply) -> list[bytes]:
    """The names of the response codes, in order."""
    return [code.name for code in reply.codes()]


# --- building ------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _certificates() -> CertificateStore:
    with TemporaryDirectory() as folder:
        store = CertificateStore(folder)
        store.write("default", *self_signed([f"mail.{DOMAIN}"], SystemClock().now()))
        store.reload()
        return store


def server_context() -> ssl.SSLContext:
    """TLS for all servers of a run."""
    return _certificates().context()


@lru_cache(maxsize=1)
def client_context() -> ssl.SSLContext:
    """TLS that trusts anybody: who the server is has its own tests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@lru_cache(maxsize=1)
def _secret() -> Verifiers:
    return make_secret(PASSWORD, CHEAP)


def _settle_in(tx: Tx, addresses: Iterable[str], numbers: list[int], now: Instant) -> None:
    ids = itertools.chain(numbers)
    people.create_domain(tx, next(ids), DOMAIN, now)
    for address in addresses:
        new = NewAccount(parse_mailbox(address), "", Role.USER, _secret())
        account = people.create_account(tx, new, ids, now)
        folders.create_first(tx, account.id, ids, now, account.id)
    cheap = (
        ("access.hash_memory", CHEAP.memory),
        ("access.hash_passes", CHEAP.passes),
        ("access.hash_lanes", CHEAP.lanes),
    )
    assigned = [Assignment(SERVER, name, value) for name, value in cheap]
    change(tx, assigned, next(ids), now, 0, "test")


def new_bus() -> Bus[Changed]:
    """A bus that tells within this process."""
    return Bus(Changed, account_of, later)


async def house_on(
    folder: Path, mail: Database, state: Database, *, clock: Clock | None = None, worker: int = 0
) -> tuple[MailHouse, dict[str, int]]:
    """The house on open stores, with Ann and Bob in it, and their accounts."""
    clock = clock or SystemClock()
    ids = Ids(clock, worker=worker)
    blobs = Blobs(str(folder / "blobs"), Files(), ids)
    house = MailHouse(mail, state, blobs, clock, ids, Policies())
    if not await mail.read(people.domains):
        await mail.write(_settle_in, (ANN, BOB), [ids.new() for _ in range(64)], clock.now())
    await mail.read(house.policies.current, house.chain(""))
    accounts = {str(each.address): each.id for each in await mail.read(people.accounts)}
    return house, accounts


async def open_worker(house: MailHouse, bus: Bus[Changed]) -> tuple[Worker, Authenticator]:
    """The doors of one worker over a house that is open."""
    authenticator = Authenticator(
        house.mail,
        house.clock,
        house.policies,
        house.ids,
        default_domain=lambda: house.default_domain,
    )
    shared = Shared(house, authenticator, bus, Views(), server_context)
    server = ImapServer(shared)
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, tick=TICK)
    acceptors: dict[str, Acceptor] = {}
    ports: dict[str, int] = {}
    strangers = Strangers(1000)
    for door in ("imap", "imaps"):
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        ports[door] = sock.getsockname()[1]
        tls = server_context() if door == "imaps" else None
        acceptors[door] = Acceptor(
            loop, sock, door, server.handler, wheel, tls=tls, strangers=strangers
        )
        acceptors[door].start()
    return Worker(shared, acceptors, ports, wheel), authenticator


@asynccontextmanager
async def serve(
    folder: Path,
    mail: Database,
    state: Database,
    bus: Bus[Changed],
    *,
    clock: Clock | None = None,
    workers: int = 2,
) -> AsyncIterator[Room]:
    """Serve IMAP over two open stores, by as many workers as one process can hold."""
    house, accounts = await house_on(folder, mail, state, clock=clock)
    opened = [await open_worker(house, bus) for _ in range(workers)]
    room = Room(house, [worker for worker, _ in opened], bus, accounts)
    try:
        yield room
    finally:
        for client in room.clients:
            client.abort()
        for worker, authenticator in opened:
            await worker.close()
            await authenticator.close()
