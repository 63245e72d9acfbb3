"""Processes killed while mail goes out: what got 250 reaches its recipients, twice only in doubt.

Rounds on one growing data directory with two workers and three domains of others, whose hosts
take mail in this process and count it. In each, SMTP sessions bring mail that aliases lead out;
hosts refuse for now, answer slowly, and lose the reply to a message that they have taken; and at
a random moment a worker, the supervisor or the whole group dies by SIGKILL. Then the server is up
again, and every message that it took must be there: whole, and for each recipient. It may be
there twice only where SMTP allows it: if the connection by which it came first ended right
after it, before its sender can have known (RFC 1047).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from postroom.admin import client
from postroom.core.clock import SystemClock
from postroom.domain.directory import aliases
from postroom.domain.queue import byhand
from postroom.mailflow.house import MailHouse
from postroom.server import house as stores
from postroom.server.instance import Layout
from postroom.testing import rounds, smtp
from postroom.testing.dns import DnsServer, Zones
from postroom.testing.load import Mix, Senders, Writer, stop
from postroom.testing.mx import Received, RemoteMx
from postroom.testing.promises import Answered, Event, Offered
from postroom.testing.victim import Victim
from tools.verification import Form, Report

DOMAINS: Final = ("one.example", "two.example", "three.example")
SESSIONS: Final = 4
PAUSE: Final = 0.02  # seconds between the messages of a session
PEOPLE: Final = 10  # of each domain
EMPTIED: Final = 90.0  # seconds in which the queue has to end: more than a lease
MIX: Final = Mix(
    sizes=((80, 200, 8_000), (14, 16_000, 60_000), (4, 70_000, 200_000), (2, 1_100_000, 1_200_000)),
    recipients=((60, 1), (30, 3), (10, 12)),
)
ROUNDS: Final = {Form.SHORT: (8, 1), Form.LONG: (200, 2)}  # how many, and the seed

_MESSAGE_ID: Final = re.compile(rb"^Message-ID: <([^>\r\n]{1,200})>\r$", re.MULTILINE)


def run(form: Form) -> Report:
    """All rounds."""
    count, seed = ROUNDS[form]
    done = asyncio.run(_campaign(count, seed))
    columns = (
        "what dies",
        "rounds",
        "messages taken",
        "recipients reached",
        "reached twice, in doubt",
        "replies lost by hosts",
        "kills",
        "restart p50/max, ms",
    )
    return Report(columns, (done.row(),), tuple(done.failures))


async def _campaign(count: int, seed: int) -> Campaign:
    zones = Zones()
    with tempfile.TemporaryDirectory(prefix="postroom-relay-") as folder:
        layout = Layout(os.path.join(folder, "data"))
        await rounds.furnish(layout, ())
        await _lead_out(layout)
        async with DnsServer(zones) as dns, _hosts(zones) as hosts:
            campaign = Campaign(layout, seed, str(dns), hosts)
            try:
                for number in range(count):
                    await campaign.round(number)
                    if campaign.failures:
                        break
            finally:
                campaign.close()
            return campaign


def _addresses() -> tuple[str, ...]:
    """The addresses of ours that lead out, in turn of their domains."""
    return tuple(f"p{n}-{d.split('.')[0]}@{rounds.DOMAIN}" for n in range(PEOPLE) for d in DOMAINS)


def _target(address: str) -> str:
    """Where one of them leads."""
    local, _, domain = address.partition("@")[0].partition("-")
    return f"{local}@{domain}.example"


async def _lead_out(layout: Layout) -> None:
    async with stores.open_house(layout) as house:
        for address in _addresses():
            ids = iter([house.ids.new()])
            now = SystemClock().now()
            await house.mail.write(aliases.create_alias, address, _target(address), ids, now)


@asynccontextmanager
async def _hosts(zones: Zones) -> AsyncIterator[list[RemoteMx]]:
    hosts: list[RemoteMx] = []
    try:
        for n, domain in enumerate(DOMAINS):
            name, ip = f"mx.{domain}", f"127.0.3.{n + 1}"
            # One without CHUNKING: DATA and its dots die as well.
            without = ("CHUNKING", "BINARYMIME") if n == 2 else ()
            host = RemoteMx(ip, hosts[0].port if hosts else 0, name=name, without=without)
            await host.start()
            hosts.append(host)
            zones.add(domain, "MX", f"10 {name}")
            zones.host(name, ip)
        yield hosts
    finally:
        for host in hosts:
            await host.stop()


@dataclass(frozen=True, slots=True)
class _Copy:
    """One time that a host took a message for a recipient."""

    host: str
    connection: int
    last: bool  # of its connection
    broken_off: bool  # that connection ended without QUIT
    wrong: str


class Books:
    """What the server promised, and what the hosts have."""

    def __init__(self) -> None:
        self._sent: dict[str, Offered] = {}
        self._taken: set[str] = set()
        self._refused: set[str] = set()
        self._copies: dict[tuple[str, str], list[_Copy]] = defaultdict(list)
        self._entered: dict[str, int] = defaultdict(int)  # of each host's messages
        self.twice = 0
        self.reached = 0

    def note(self, event: Event) -> None:
        """What a sender has seen."""
        match event:
            case Offered(mail):
                self._sent[mail] = event
            case Answered(mail, taken):
                (self._taken if taken else self._refused).add(mail)

    def enter(self, hosts: Sequence[RemoteMx]) -> None:
        """Put down what hosts took since the last time. Nothing is under way."""
        for host in hosts:
            news = host.messages[self._entered[host.ip] :]
            self._entered[host.ip] = len(host.messages)
            ends = {each.connection: n for n, each in enumerate(news)}
            for n, got in enumerate(news):
                name, wrong = self._recognised(got)
                visit = host.visits[got.connection]
                for to in got.recipients:
                    last = ends[got.connection] == n
                    broken_off = visit.over and not visit.quit
                    copy = _Copy(host.ip, got.connection, last, broken_off, wrong)
                    self._copies[name, to].append(copy)

    def _recognised(self, got: Received) -> tuple[str, str]:
        found = _MESSAGE_ID.search(got.content[:4_096])
        name = found[1].decode() if found is not None else ""
        sent = self._sent.get(name)
        if sent is None:
            return name, "nobody sent it"
        same = hashlib.sha256(got.content[-sent.size :]).hexdigest() == sent.sha256
        return name, "" if same else "its octets are not those that were sent"

    def broken(self) -> list[str]:
        """What was not kept, in the messages of this round; then they are settled."""
        problems = []
        for name, sent in self._sent.items():
            whom = [_target(address) for address in sent.accounts]
            there = [to for to in whom if self._copies.get((name, to))]
            self.reached += len(there)
            if name in self._taken:
                problems += [f"{name}: lost for {to}" for to in whom if to not in there]
            elif name in self._refused and there:
                problems.append(f"{name}: was refused, and reached {there}")
            elif there and len(there) != len(whom):
                problems.append(f"{name}: reached {len(there)} of {len(whom)} recipients")
        for (name, to), copies in self._copies.items():
            problems += [f"{name} to {to}: {each.wrong}" for each in copies if each.wrong]
            # Every copy but the last must be one of which its sender could not know.
            for each in copies[:-1]:
                self.twice += 1
                if not (each.last and each.broken_off):
                    problems.append(
                        f"{name} to {to}: twice, though connection {each.connection} to"
                        f" {each.host} went on after the first"
                    )
        for done in (self._sent, self._taken, self._refused, self._copies):
            done.clear()
        return problems


@dataclass
class Campaign:
    """The rounds, and what came of them."""

    layout: Layout
    seed: int
    dns: str
    hosts: list[RemoteMx]
    books: Books = field(default_factory=Books)
    failures: list[str] = field(default_factory=list)
    rounds: int = 0
    taken: int = 0
    lost_replies: int = 0

    def __post_init__(self) -> None:
        options = ("--resolver", self.dns, "--outbound-port", str(self.hosts[0].port))
        self._victim = Victim(self.layout, self._answers, options)

    async def _answers(self) -> None:
        async with smtp.connect("127.0.0.1", self._port):
            pass

    @property
    def _port(self) -> int:
        return 25 + self._victim.offset

    def row(self) -> tuple[str, ...]:
        times = [seconds * 1000 for seconds in self._victim.restarts] or [0.0]
        return (
            "a server that relays",
            f"{self.rounds:,}",
            f"{self.taken:,}",
            f"{self.books.reached:,}",
            f"{self.books.twice:,}",
            f"{self.lost_replies:,}",
            self._victim.killed,
            f"{statistics.median(times):.0f} / {max(times):.0f}",
        )

    def close(self) -> None:
        self._victim.close()
        raised = self._victim.tracebacks
        self.failures += [f"a server's log holds a traceback: {line}" for line in raised]
        for host in self.hosts:
            self.failures += [f"{host.ip}: {what}" for what in host.complaints[:5]]

    async def round(self, number: int) -> None:
        """Load, death, start, comparison."""
        rng = random.Random(f"{self.seed}:relay:{number}")
        if not number:
            await self._victim.start()
        self._instruct(rng)
        writer = Writer(rng, f"r{number}", MIX)
        senders = Senders(self._port, _addresses(), writer, rng, self.books.note)
        load = asyncio.create_task(senders.run(SESSIONS, PAUSE))
        await asyncio.sleep(rng.uniform(0.1, 1.0))
        if rng.random() < 0.4:  # what waits goes out, while nothing more comes in
            stop(senders)
            await load
            await asyncio.sleep(rng.uniform(0.0, 0.1))
        how = self._victim.choose(rng)
        began = time.monotonic()
        died = await self._victim.kill(how, rng)
        stop(senders)
        if died:
            await self._victim.start()
        await asyncio.wait_for(load, EMPTIED)
        self.taken += senders.taken
        self.rounds += 1
        where = f"round {number} ({how}, seed {self.seed})"
        found = await self._compare()
        self.failures += [f"{where}: {problem}" for problem in found[:20]]
        print(
            f"  relay {number}: {how}, {senders.taken} taken, {time.monotonic() - began:.1f} s",
            flush=True,
        )

    def _instruct(self, rng: random.Random) -> None:
        """What hosts do wrong in this round."""
        for host in self.hosts:
            self._forget(host)
            slow = rng.choice((0.0, 0.0, 0.005, 0.05))
            times = rng.choice((0, 0, 1, 3))
            self.lost_replies += times
            if times:
                host.on("END", drop=True, keep=True, skip=rng.randrange(10), times=times)
            if rng.random() < 0.3:
                host.on("RCPT", reply="450 4.2.0 Later", skip=rng.randrange(10), times=5)
            if rng.random() < 0.3:
                host.on("CONTENT", octets=1_000, reset=True, skip=rng.randrange(5), times=1)
            if slow:
                host.on("END", slow=slow)

    def _forget(self, host: RemoteMx) -> None:
        """No more faults; those that did not strike are not counted."""
        for fault in host.faults:
            if fault.phase == "END" and fault.keep:
                self.lost_replies -= fault.times or 0
        host.faults.clear()

    async def _compare(self) -> list[str]:
        """Everything that the server took, against what the hosts have."""
        async with stores.open_house(self.layout) as house:
            if not await self._emptied(house):
                return ["the queue does not end"]
        self.books.enter(self.hosts)
        return self.books.broken()

    async def _emptied(self, house: MailHouse) -> bool:
        """Have what waits tried at once, over and over, until nothing does."""
        deadline = time.monotonic() + EMPTIED
        while waiting := await house.mail.read(byhand.destinations, 100):
            if time.monotonic() > deadline:
                return False
            for each in waiting:
                await asyncio.to_thread(self._hasten, each.hop.next_hop)
            await asyncio.sleep(0.1)
        return True

    def _hasten(self, next_hop: str) -> None:
        try:
            client.call(self.layout.control_socket, "queue retry", {"next_hop": next_hop})
        except client.Refused:
            pass  # by now nothing waits there
