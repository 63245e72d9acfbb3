"""A house of the small internet: one whole Postroom in this process, under the town's clock.

Its doors are real sockets: SMTP on an address of its own, submission with STARTTLS and AUTH.
Its queues are the product's own runners. What differs from a worker is time: the clock stands
still until the town turns it, and waits on the line are seconds instead of minutes.
"""

from __future__ import annotations

import asyncio
import base64
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from postroom.access import Authenticator, make_secret
from postroom.core.clock import SystemClock
from postroom.core.ids import TRACE, Ids, internal
from postroom.core.settings import SERVER, Place, Role, Value
from postroom.domain import queue, trace
from postroom.domain.directory import aliases, people
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.events import QueueReady
from postroom.domain.mailboxes import folders, messages, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.policy import Assignment, Policies, change
from postroom.domain.queue import byhand
from postroom.formats.address import parse_mailbox
from postroom.mailflow.composed import ComposedQueue
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.mailflow.localqueue import LocalQueue
from postroom.mailflow.relay import Dialer, Finder, RemoteQueue
from postroom.net.accept import Acceptor
from postroom.net.certificates import CertificateStore, self_signed
from postroom.net.dns import Limits as DnsLimits
from postroom.net.dns import Resolver, Server
from postroom.net.egress import Egress
from postroom.net.smtp import Timeouts
from postroom.net.tls import client_context
from postroom.net.wheel import TimerWheel
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.verbs import MX, SUBMISSION
from postroom.store.blobs import Blobs
from postroom.store.files import Files
from postroom.store.sql import Tx
from postroom.store.units import Database
from postroom.testing.clock import ManualClock
from postroom.testing.smtp import SmtpClient, connect, trusting_context
from postroom.wire.smtp import Reply

PASSWORD: Final = "correct horse battery staple"
TICK: Final = 0.02
"""Seconds of the wheel that ends waits on the line: short, as these are."""
PATIENCE: Final = Timeouts(
    connect=2, tls=2, greeting=2, hello=2, mail=2, rcpt=2, data=2, block=2, end=2, quit=1
)
"""Long for one who answers at once, short for one who watches a test."""
HASTE: Final = Timeouts(
    connect=1, tls=0.3, greeting=0.3, hello=0.3, mail=0.3, rcpt=0.3, data=0.3, block=0.3, end=0.3
)
"""For plays in which somebody falls silent."""
DNS_PATIENCE: Final = DnsLimits(tries=(0.4, 0.4), deadline=2.0)
LINGER: Final = 0.01
QUEUES: Final = (queue.REMOTE, queue.COMPOSED, queue.LOCAL)
_ALL: Final = Pick(1, 1 << 31)
_MOST: Final = 10_000

Listener = Callable[[list[object]], None]
OpenStores = Callable[[str, Listener], tuple[Database, Database]]
"""Opens `mail` and `state` of the house of that name; what they commit is told to the listener."""


@dataclass(frozen=True, slots=True)
class Enclosed(Egress):
    """Nothing leaves this machine, whatever an address in a play or a configuration says."""

    def permits_mail(self, ip: IPv4Address | IPv6Address) -> bool:
        return ip.is_loopback


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a house finds in its town."""

    folder: Path
    clock: ManualClock
    resolver: Server
    port: int  # of SMTP, everywhere
    open_stores: OpenStores
    seed: str = "0"


@dataclass(frozen=True, slots=True)
class Ways:
    """How one house differs from others on the line."""

    timeouts: Timeouts = PATIENCE
    linger: float = LINGER
    workers: int = 1


@dataclass(slots=True)
class Worker:
    """The queues of one worker, running."""

    remote: RemoteQueue
    composed: ComposedQueue
    local: LocalQueue
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        return self.remote.busy or self.composed.loop.busy or self.local.loop.busy

    def start(self) -> None:
        runs = (self.remote.run, self.composed.loop.run, self.local.loop.run)
        self._tasks = [asyncio.create_task(run()) for run in runs]

    def wake(self, event: QueueReady = QueueReady()) -> None:  # noqa: B008 - immutable
        self.remote.wake(event)
        self.composed.loop.wake()
        self.local.loop.wake()

    async def die(self) -> None:
        """As by SIGKILL: nothing under way is finished, no lease is given back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class House:
    """One Postroom. Made by `open_house`; what it keeps is asked of its stores directly."""

    def __init__(self, name: str, ip: str, flow: MailHouse, around: Surroundings) -> None:
        self.name = name
        self.ip = ip
        self.flow = flow
        self.port = around.port
        self.submission_port = 0
        self.workers: list[Worker] = []
        self.stirred = 0
        """How often something was put into a queue: a look at two moments sees what moved."""
        self.intake = Intake(flow)
        self._clock = around.clock
        self._hire: Callable[[int], Worker]
        self._hired = 0

    # --- its life -----------------------------------------------------------------------------

    async def is_quiet(self) -> bool:
        """Whether nothing is under way or due at this moment of the clock; wakes who has work."""
        now = self._clock.now()
        quiet = True
        for name in QUEUES:
            due = await self.flow.mail.read(queue.next_due, name)
            if due is not None and due <= now:
                quiet = False
        if not quiet:
            for worker in self.workers:
                worker.wake()
        return quiet and not any(worker.busy for worker in self.workers)

    async def next_due(self) -> int | None:
        """When something is due next, in milliseconds of the clock."""
        found = [await self.flow.mail.read(queue.next_due, name) for name in QUEUES]
        return min((due for due in found if due is not None), default=None)

    def hire(self) -> Worker:
        """One more worker, with a number of its own."""
        self._hired += 1
        made = self._hire(self._hired)
        self.workers.append(made)
        made.start()
        return made

    async def kill_worker(self, number: int = 0) -> None:
        """A worker dies in the middle of what it does, and its supervisor frees its leases."""
        holder = self._hired - len(self.workers) + number + 1
        await self.workers.pop(number).die()
        await self.flow.mail.write(queue.release_all_of, holder)

    # --- arranging ----------------------------------------------------------------------------

    async def domain(self, name: str) -> None:
        """One more domain of ours."""
        await self.flow.mail.write(people.create_domain, self.flow.ids.new(), name, self._now())

    async def person(self, address: str) -> int:
        """An account with its first mailboxes and the town's password; returns its id."""
        ids = [self.flow.ids.new() for _ in range(16)]
        secret = await asyncio.to_thread(_secret)
        return await self.flow.mail.write(_make_account, address, secret, ids, self._clock)

    async def password(self, address: str) -> None:
        """Give an account that is there the town's password."""
        ids = iter([self.flow.ids.new() for _ in range(people.IDS_FOR_PASSWORD)])
        secret = await asyncio.to_thread(_secret)
        await self.flow.mail.write(_give_password, address, secret, ids, self._clock)

    async def alias(self, address: str, target: str) -> None:
        """`address` leads to `target`, here or elsewhere."""
        ids = iter([self.flow.ids.new()])
        await self.flow.mail.write(aliases.create_alias, address, target, ids, self._now())

    async def set(self, name: str, value: Value | None, place: Place = SERVER) -> None:
        """Set a setting as an administrator does; unset it with None."""
        assigned = [Assignment(place, name, value)]
        await self.flow.mail.write(change, assigned, self.flow.ids.new(), self._now(), 0, "a play")
        await self.flow.mail.read(self.flow.policies.current, self.flow.chain(""))

    async def empty(self, address: str) -> None:
        """Make room: expunge all of an INBOX."""
        account, box = await self.flow.mail.read(_inbox, address)
        now = self._now()
        await self.flow.mail.write(
            messages.expunge, account, box.id, _ALL, now, account, retention=0
        )

    # --- the administrator and the queue ------------------------------------------------------

    async def hold(self, trace_id: int) -> int:
        return await self.flow.mail.write(byhand.hold_back, trace_id)

    async def release(self, trace_id: int) -> int:
        return await self.flow.mail.write(byhand.let_go, trace_id, self._now())

    async def retry(self, trace_id: int) -> int:
        return await self.flow.mail.write(byhand.retry, trace_id, self._now())

    async def delete(self, trace_id: int) -> int:
        return await self.flow.mail.write(byhand.delete, trace_id)

    # --- asking -------------------------------------------------------------------------------

    async def inbox(self, address: str) -> list[bytes]:
        """The messages in somebody's INBOX, in order, as they lie there."""
        return await self.flow.mail.read_much(self._contents, address)

    def _contents(self, tx: Tx, address: str) -> list[bytes]:
        _, box = _inbox(tx, address)
        return [self.flow.blobs.read(tx, row.blob) for row in reading.brief(tx, box.id, _ALL)]

    async def waiting(self) -> list[queue.Recipient]:
        """Everybody who waits in a queue."""
        return await self.flow.mail.read(queue.waiting, _MOST)

    async def trace(self, number: int) -> dict[str, Any]:
        """The trace of a message that was kept."""
        record = await self.flow.mail.read(trace.get, number)
        assert record is not None, f"{self.name} holds no such trace"
        return record

    async def events(self, number: int) -> list[dict[str, Any]]:
        """What the trace says became of a message later, in order."""
        return [event for _, event in await self.flow.mail.read(trace.events, number)]

    # --- at its doors -------------------------------------------------------------------------

    @asynccontextmanager
    async def signed_in(self, login: str) -> AsyncIterator[SmtpClient]:
        """A mail client that signed in for submission, over TLS. RFC 6409, RFC 4954."""
        async with connect(self.ip, self.submission_port, hello="EHLO laptop") as client:
            await client.starttls(trusting_context())
            await client.ask("EHLO laptop", 250)
            said = base64.b64encode(f"\0{login}\0{PASSWORD}".encode()).decode()
            await client.ask(f"AUTH PLAIN {said}", 235)
            yield client

    @asynccontextmanager
    async def stranger(self, hello: str = "EHLO client.example") -> AsyncIterator[SmtpClient]:
        """Another server at the door for mail from everywhere."""
        async with connect(self.ip, self.port, hello=hello) as client:
            yield client

    def _now(self) -> Any:
        return self._clock.now()


def transit_of(reply: Reply) -> int:
    """The trace's id in the reply to a message that was taken."""
    name = next(word for word in reply.text.split() if len(word) == 14 and word[0] == TRACE)
    return internal(TRACE, name)


@asynccontextmanager
async def open_house(
    name: str,
    domains: Sequence[str],
    ip: str,
    around: Surroundings,
    ways: Ways = Ways(),
) -> AsyncIterator[House]:
    """A house of that host name, serving until the end of the block."""
    async with AsyncExitStack() as stack:
        told: list[House] = []

        def hear(events: list[object]) -> None:
            for event in events:
                if isinstance(event, QueueReady) and told:
                    told[0].stirred += 1
                    for worker in told[0].workers:
                        worker.wake(event)

        mail, state = around.open_stores(name, hear)
        stack.push_async_callback(state.close)
        stack.push_async_callback(mail.close)
        ids = Ids(around.clock)
        blobs = Blobs(str(around.folder / name / "blobs"), Files(), ids)
        chance = random.Random(f"{around.seed}:{name}")
        flow = MailHouse(mail, state, blobs, around.clock, ids, Policies(), random=chance)
        house = House(name, ip, flow, around)
        told.append(house)
        for domain in domains:
            await house.domain(domain)
        if domains:
            await house.set("server.default_domain", domains[0])
            await house.set("server.hostname", name)
        await _open_doors(stack, house, around)
        house._hire = await _hiring(stack, house, around, ways)
        for _ in range(ways.workers):
            house.hire()
        stack.push_async_callback(_close_shop, house)
        yield house


async def _open_doors(stack: AsyncExitStack, house: House, around: Surroundings) -> None:
    flow = house.flow
    authenticator = Authenticator(
        flow.mail, flow.clock, flow.policies, flow.ids, default_domain=lambda: flow.default_domain
    )
    stack.push_async_callback(authenticator.close)
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop, tick=TICK)
    stack.callback(wheel.close)
    for listener, service, port in (("smtp", MX, around.port), ("submission", SUBMISSION, 0)):
        asks = authenticator if service is SUBMISSION else None
        server = SmtpServer(
            house.intake, flow.clock, flow.ids, lambda: flow.hostname, server_context, service, asks
        )
        family = socket.AF_INET6 if ":" in house.ip else socket.AF_INET
        sock = socket.create_server((house.ip, port), family=family, backlog=128)
        if service is SUBMISSION:
            house.submission_port = sock.getsockname()[1]
        acceptor = Acceptor(loop, sock, listener, server.handler, wheel)
        acceptor.start()
        stack.push_async_callback(_shut, acceptor)
    stack.callback(house.intake.refusals.flush)
    stack.callback(house.intake.feedback.flush)
    stack.callback(flow.copies.flush, flow.state)


async def _hiring(
    stack: AsyncExitStack, house: House, around: Surroundings, ways: Ways
) -> Callable[[int], Worker]:
    flow = house.flow
    resolver = Resolver(
        around.clock,
        servers=[around.resolver],
        limits=DNS_PATIENCE,
        rng=random.Random(f"{around.seed}:{house.name}:dns"),
    )
    stack.push_async_callback(resolver.close)
    wheel = TimerWheel(asyncio.get_running_loop(), tick=TICK)
    stack.callback(wheel.close)
    finder = Finder(
        resolver,
        Enclosed(loopback=True),
        around.port,
        own=lambda: (flow.hostname,),
        random=flow.random,
    )
    dialer = Dialer(
        finder, wheel, lambda: flow.hostname, client_context(verify=False), ways.timeouts
    )

    def hire(number: int) -> Worker:
        return Worker(
            RemoteQueue(flow, dialer, number, linger=ways.linger),
            ComposedQueue(flow, house.intake, number),
            LocalQueue(flow, number),
        )

    return hire


async def _close_shop(house: House) -> None:
    for worker in house.workers:
        await worker.die()


async def _shut(acceptor: Acceptor) -> None:
    acceptor.close()
    for connection in tuple(acceptor.connections):
        connection.abort()
    while acceptor.connections:  # noqa: ASYNC110 - nobody tells when the last one is gone
        await asyncio.sleep(0.001)


def _make_account(
    tx: Tx, address: str, secret: Verifiers, made: list[int], clock: ManualClock
) -> int:
    ids = iter(made)
    new = NewAccount(parse_mailbox(address), "", Role.USER, secret)
    account = people.create_account(tx, new, ids, clock.now())
    folders.create_first(tx, account.id, ids, clock.now(), account.id)
    return account.id


def _give_password(
    tx: Tx, address: str, secret: Verifiers, ids: Iterator[int], clock: ManualClock
) -> None:
    account = people.account(tx, parse_mailbox(address))
    people.set_secret(tx, account.id, secret, ids, clock.now())


def _inbox(tx: Tx, address: str) -> tuple[int, folders.Mailbox]:
    account = people.account(tx, parse_mailbox(address)).id
    box = folders.by_role(tx, account, "inbox")
    assert box is not None, f"{address} has no INBOX"
    return account, box


@lru_cache(maxsize=1)
def _secret() -> Verifiers:
    """One for all: what it costs is not what is tried here."""
    return make_secret(PASSWORD)


@lru_cache(maxsize=1)
def server_context() -> ssl.SSLContext:
    """TLS for all houses of a run."""
    with TemporaryDirectory() as folder:
        store = CertificateStore(folder)
        store.write("default", *self_signed(["mail.small.internet"], SystemClock().now()))
        store.reload()
        return store.context()
