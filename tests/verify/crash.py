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
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from postroom.domain.check import check
from postroom.mailflow.house import MailHouse
from postroom.server import house as stores
from postroom.server.instance import Layout
from postroom.testing import rounds, smtp
from postroom.testing.imap import ImapClient
from postroom.testing.load import Reader, Senders, Writer, stop
from postroom.testing.postgres import Cluster, NotInstalledError
from postroom.testing.promises import Boxes, Ledger
from postroom.testing.rounds import Looker
from postroom.testing.smtp import trusting_context
from postroom.testing.victim import PATIENCE, Victim
from tools.verification import Form, Report

SESSIONS: Final = 6
PAUSE: Final = 0.02  # seconds between the messages of a session
PEOPLE: Final = rounds.addresses(60)
ACTORS: Final = PEOPLE[:4]  # whose mailboxes IMAP sessions change


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


@dataclass
class Campaign:
    """One engine's rounds, and what came of them."""

    name: str
    layout: Layout
    seed: int
    cluster: Cluster | None
    ledger: Ledger = field(default_factory=Ledger)
    failures: list[str] = field(default_factory=list)
    rounds: int = 0
    taken: int = 0
    copies: int = 0
    changes: int = 0
    checks: int = 0
    _looker: Looker | None = None
    _by_imap: dict[str, Boxes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._victim = Victim(self.layout, self._answers)

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.rounds:,}",
            f"{self.taken:,}",
            f"{self.copies:,}",
            f"{self.changes:,}",
            ", ".join(f"{count} {what}" for what, count in sorted(self._victim.kills.items()))
            or "-",
            _spread(self._victim.restarts),
            _spread(self._victim.successors),
            f"{self.checks}",
        )

    def close(self) -> None:
        self._victim.close()
        raised = self._victim.tracebacks
        self.failures += [f"a server's log holds a traceback: {line}" for line in raised]

    # --- one round ----------------------------------------------------------------------------

    async def round(self, number: int, *, check_all: bool, read_all: bool) -> None:
        """Load, death, start, comparison."""
        rng = random.Random(f"{self.seed}:{self.name}:{number}")
        if not number:
            await self._victim.start()
        writer = Writer(rng, f"r{number}")
        port = 25 + self._victim.offset
        senders = Senders(port, PEOPLE, writer, rng, self.ledger.note)
        readers = [self._reader(account, writer, rng) for account in ACTORS if number % 2]
        tasks = [asyncio.create_task(senders.run(SESSIONS, PAUSE))]
        tasks += [asyncio.create_task(reader.run(PAUSE)) for reader in readers]
        await asyncio.sleep(rng.uniform(0.2, 1.3))
        how = self._choose(rng, number)
        began = time.monotonic()
        died = await self._kill(how, rng)
        if not died:
            await asyncio.sleep(rng.uniform(0.1, 0.4))  # the load goes on over the successor
        stop(senders, *readers)
        if died:
            await self._victim.start()
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
        port = 993 + self._victim.offset
        return Reader(port, account, rounds.PASSWORD, context, writer, rng, self.ledger.note)

    def _choose(self, rng: random.Random, number: int) -> str:
        if self.cluster is not None and number % 4 == 1:
            return "database"
        return self._victim.choose(rng)

    async def _kill(self, how: str, rng: random.Random) -> bool:
        """Do it; True if the server has to be started again."""
        if how != "database":
            return await self._victim.kill(how, rng)
        assert self.cluster is not None
        self._victim.kills[how] += 1
        await asyncio.to_thread(self.cluster.kill9)
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        await asyncio.to_thread(self.cluster.start)
        return False

    async def _answers(self) -> None:
        """SMTP and IMAP answer."""
        async with smtp.connect("127.0.0.1", 25 + self._victim.offset), self._imap():
            pass

    # --- comparison ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _imap(self) -> AsyncIterator[ImapClient]:
        client = await ImapClient.connect(
            "127.0.0.1", 993 + self._victim.offset, tls=trusting_context(), patience=PATIENCE
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


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"{statistics.median(seconds) * 1000:.0f} / {max(seconds) * 1000:.0f}"
