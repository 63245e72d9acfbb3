"""Processes killed in the middle of the load: what got 250 is there, exactly once, after a restart.

Rounds on one growing data directory with two workers. In each, SMTP sessions send, in half of
them IMAP sessions change mailboxes as well, and at a random moment something dies by SIGKILL: a
worker, the supervisor alone, the whole process group, on PostgreSQL also the database server.
Then the server is up again on the same ports, and what clients were promised is compared with
the store and with what an IMAP client sees.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from postroom.domain.check import check
from postroom.mailflow.house import MailHouse
from postroom.server import house as stores
from postroom.server.instance import Layout, read_status
from postroom.testing import rounds, smtp
from postroom.testing.imap import ImapClient
from postroom.testing.load import Reader, Senders, Writer, stop
from postroom.testing.postgres import Cluster, NotInstalledError
from postroom.testing.process import ServerProcess, free_offset
from postroom.testing.promises import Boxes, Ledger
from postroom.testing.rounds import Looker
from postroom.testing.smtp import trusting_context
from tools.verification import Form, Report

WORKERS: Final = 2
SESSIONS: Final = 6
PAUSE: Final = 0.02  # seconds between the messages of a session
PEOPLE: Final = rounds.addresses(60)
ACTORS: Final = PEOPLE[:4]  # whose mailboxes IMAP sessions change
PATIENCE: Final = 30.0  # seconds for anything that must come

# Deaths of workers in one server's life: the supervisor gives one up after five in a minute.
WORKER_KILLS: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds, and after how many of them the whole store is checked."""

    sqlite: int
    postgres: int
    check_every: int
    seed: int


PLANS: Final = {Form.SHORT: Plan(12, 2, 1, 1), Form.LONG: Plan(200, 20, 5, 2)}


def run(form: Form) -> Report:
    """All rounds on both engines."""
    plan = PLANS[form]
    done = [asyncio.run(_campaign("SQLite", plan, plan.sqlite, None))]
    try:
        cluster = Cluster(fsync=False)  # it is processes that die here, not the machine
    except NotInstalledError:
        done.append(Campaign("PostgreSQL: none here", Layout(""), 0, None))
    else:
        with cluster:
            done.append(asyncio.run(_campaign("PostgreSQL", plan, plan.postgres, cluster)))
    columns = (
        "store",
        "rounds",
        "messages taken",
        "copies in mailboxes",
        "IMAP changes",
        "kills",
        "restart p50/max, ms",
        "successor p50/max, ms",
        "checks",
    )
    failures = tuple(f"{c.name}, {failure}" for c in done for failure in c.failures)
    return Report(columns, tuple(c.row() for c in done), failures)


async def _campaign(name: str, plan: Plan, count: int, cluster: Cluster | None) -> Campaign:
    with tempfile.TemporaryDirectory(prefix="postroom-crash-") as folder:
        layout = Layout(os.path.join(folder, "data"))
        url = cluster.create_database() if cluster is not None else ""
        await rounds.furnish(layout, PEOPLE, url)
        campaign = Campaign(name, layout, plan.seed, cluster)
        try:
            for number in range(count):
                last = number + 1 == count
                whole = last or (number + 1) % plan.check_every == 0
                await campaign.round(number, check_all=whole, read_all=last)
                if campaign.failures:
                    break
        finally:
            campaign.close()
        return campaign


@dataclass(slots=True)
class Campaign:
    """One engine's rounds, and what came of them."""

    name: str
    layout: Layout
    seed: int
    cluster: Cluster | None
    ledger: Ledger = field(default_factory=Ledger)
    kills: Counter[str] = field(default_factory=Counter)
    restarts: list[float] = field(default_factory=list)  # seconds
    successors: list[float] = field(default_factory=list)  # seconds
    failures: list[str] = field(default_factory=list)
    rounds: int = 0
    taken: int = 0
    copies: int = 0
    changes: int = 0
    checks: int = 0
    _offset: int = 0
    _server: ServerProcess | None = None
    _worker_kills: int = 0
    _looker: Looker | None = None
    _by_imap: dict[str, Boxes] = field(default_factory=dict)

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.rounds:,}",
            f"{self.taken:,}",
            f"{self.copies:,}",
            f"{self.changes:,}",
            ", ".join(f"{count} {what}" for what, count in sorted(self.kills.items())) or "-",
            _spread(self.restarts),
            _spread(self.successors),
            f"{self.checks}",
        )

    def close(self) -> None:
        if self._server is not None:
            self._bury(self._server)

    def _bury(self, server: ServerProcess) -> None:
        raised = rounds.tracebacks(server.stderr())
        self.failures += [f"a server's log holds a traceback: {line}" for line in raised]
        server.close()

    # --- one round ----------------------------------------------------------------------------

    async def round(self, number: int, *, check_all: bool, read_all: bool) -> None:
        """Load, death, start, comparison."""
        rng = random.Random(f"{self.seed}:{self.name}:{number}")
        server = self._server
        if server is None:
            self._offset = free_offset()
            server = self._server = await self._start()
        writer = Writer(rng, f"r{number}")
        senders = Senders(25 + self._offset, PEOPLE, writer, rng, self.ledger.note)
        readers = [self._reader(account, writer, rng) for account in ACTORS if number % 2]
        tasks = [asyncio.create_task(senders.run(SESSIONS, PAUSE))]
        tasks += [asyncio.create_task(reader.run(PAUSE)) for reader in readers]
        await asyncio.sleep(rng.uniform(0.2, 1.3))
        how = self._choose(rng, number)
        began = time.monotonic()
        died = await self._kill(how, server, rng)
        self.kills[how] += 1
        if not died:
            await asyncio.sleep(rng.uniform(0.1, 0.4))  # the load goes on over the successor
        stop(senders, *readers)
        if died:
            self._server = await self._start()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        self.taken += senders.taken
        self.changes += sum(reader.changes for reader in readers)
        self.rounds += 1
        where = f"round {number} ({how}, seed {self.seed})"
        found = await self._compare(rng, check_all=check_all, read_all=read_all)
        if died and (left := rounds.unfinished(self.layout)):
            found.append(f"unfinished files after a start: {left[:5]}")
        self.failures += [f"{where}: {problem}" for problem in found[:20]]
        print(
            f"  {self.name} {number}: {how}, {senders.taken} taken,"
            f" {time.monotonic() - began:.1f} s",
            flush=True,
        )

    def _reader(self, account: str, writer: Writer, rng: random.Random) -> Reader:
        context = trusting_context()
        port = 993 + self._offset
        return Reader(port, account, rounds.PASSWORD, context, writer, rng, self.ledger.note)

    def _choose(self, rng: random.Random, number: int) -> str:
        if self.cluster is not None and number % 4 == 1:
            return "database"
        if self._worker_kills >= WORKER_KILLS:
            return "group"
        return rng.choices(("group", "worker", "supervisor"), (40, 40, 20))[0]

    async def _kill(self, how: str, server: ServerProcess, rng: random.Random) -> bool:
        """Do it; True if the server has to be started again."""
        match how:
            case "worker":
                self._worker_kills += 1
                victim = rng.choice(_workers(self.layout))
                began = time.monotonic()
                server.kill_one(victim)
                await self._succeeded(victim)
                self.successors.append(time.monotonic() - began)
                return False
            case "database":
                assert self.cluster is not None
                await asyncio.to_thread(self.cluster.kill9)
                await asyncio.sleep(rng.uniform(0.0, 0.3))
                await asyncio.to_thread(self.cluster.start)
                return False
            case "supervisor":
                server.kill_one(server.pid)  # its workers die with it, in their own time
            case _:
                server.kill_group()
        self._worker_kills = 0
        return True

    async def _succeeded(self, victim: int) -> None:
        """Wait until a successor serves."""

        def served() -> bool:
            status = read_status(self.layout)
            workers = status.workers if status is not None else ()
            return bool(workers) and all(w.state == "ready" and w.pid != victim for w in workers)

        await _until(served, "a successor")

    async def _start(self) -> ServerProcess:
        """Start on the same ports, beside what may still be dying; until SMTP and IMAP answer."""
        before = self._server
        command = [sys.executable, "-m", "postroom", "serve", "--workers", f"{WORKERS}"]
        command += ["--port-offset", f"{self._offset}"]
        began = time.monotonic()

        def ready() -> bool:
            status = read_status(self.layout)
            return status is not None and status.serves and status.pid == server.pid

        server = ServerProcess(command, self.layout.root, ready=ready)
        try:
            await asyncio.to_thread(server.wait_ready, PATIENCE)
            async with smtp.connect("127.0.0.1", 25 + self._offset), self._imap():
                pass
        except BaseException:
            server.close()
            raise
        if before is not None:
            self.restarts.append(time.monotonic() - began)
            self._bury(before)
        return server

    # --- comparison ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _imap(self) -> AsyncIterator[ImapClient]:
        client = await ImapClient.connect(
            "127.0.0.1", 993 + self._offset, tls=trusting_context(), patience=PATIENCE
        )
        async with client:
            yield client

    async def _compare(self, rng: random.Random, *, check_all: bool, read_all: bool) -> list[str]:
        """What was promised, against the store and against what a client sees."""
        if self._looker is None:
            self._looker = Looker(self.ledger)
        async with stores.open_house(self.layout) as house:
            problems = [] if await rounds.emptied(house) else ["the local queue does not end"]
            found = await self._looker.look(house, PEOPLE)
            problems += self.ledger.broken(found)
            if check_all:
                problems += await self._check(house)
        self.copies = sum(len(box.messages) for boxes in found.values() for box in boxes.values())
        self.ledger.adopt(found)
        others = rng.sample(PEOPLE[len(ACTORS) :], 2)
        for account in PEOPLE if read_all else (*ACTORS, *others):
            known = None if read_all else self._by_imap.get(account)
            seen = await self._seen(account, found[account], known)
            if seen != found[account]:
                problems.append(f"{account}: IMAP shows something else than the store holds")
            self._by_imap[account] = seen
        return problems

    async def _seen(self, account: str, found: Boxes, known: Boxes | None) -> Boxes:
        async with self._imap() as client:
            said = await client.login(account, rounds.PASSWORD)
            if not said.ok:
                raise AssertionError(f"{account} cannot sign in: {said.text}")
            return await rounds.seen_by_imap(client, self.ledger, tuple(found), known)

    async def _check(self, house: MailHouse) -> list[str]:
        self.checks += 1
        report = await check(house.mail, house.blobs, repair=False)
        return [f"check: {problem}" for problem in report.problems]


def _workers(layout: Layout) -> list[int]:
    status = read_status(layout)
    return [worker.pid for worker in status.workers] if status is not None else []


async def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {PATIENCE:.0f} s")
        await asyncio.sleep(0.002)


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"{statistics.median(seconds) * 1000:.0f} / {max(seconds) * 1000:.0f}"
