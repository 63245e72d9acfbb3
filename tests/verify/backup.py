"""Backups while mail flows, some cut short by SIGKILL: each that came to its end is whole.

A server with two workers takes mail from SMTP sessions, and IMAP sessions change mailboxes, while
the command takes one incremental backup after the other; now and then the whole process group is
killed in the middle of one. Then the data directory is gone. Each backup is restored into an
empty one: `check` finds nothing, every message that was acknowledged before the backup began is
there to the octet, once for each recipient, and one that was offered later is there for all of
its recipients or for none. At last a mailbox is restored beside itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any, Final

from postroom.domain.check import check
from postroom.server import house as stores
from postroom.server.instance import Layout, read_status
from postroom.testing import rounds
from postroom.testing.load import Reader, Senders, Writer, stop
from postroom.testing.ports import free_offset
from postroom.testing.postgres import Cluster, NotInstalledError
from postroom.testing.process import ServerProcess
from postroom.testing.promises import INBOX, Event, Ledger, Offered
from postroom.testing.rounds import Looker
from postroom.testing.smtp import trusting_context
from tools.verification import Form, Report

SESSIONS: Final = 6
PAUSE: Final = 0.02  # seconds between the messages of a session
PEOPLE: Final = rounds.addresses(40)
ACTORS: Final = PEOPLE[:3]  # whose mailboxes IMAP sessions change: they only make a load here
WITNESSES: Final = PEOPLE[3:]
PATIENCE: Final = 60.0  # seconds for anything that must come


@dataclass(frozen=True, slots=True)
class Plan:
    """How many backups on each engine, every which of them is cut short, which are restored."""

    sqlite: int
    postgres: int
    kill_every: int
    restore_every: int
    seed: int


PLANS: Final = {Form.SHORT: Plan(6, 3, 3, 2, 1), Form.LONG: Plan(60, 20, 4, 1, 2)}


def run(form: Form) -> Report:
    """All backups on both engines."""
    plan = PLANS[form]
    done = [asyncio.run(_campaign("SQLite", plan, plan.sqlite, None))]
    try:
        cluster = Cluster(fsync=False)  # it is processes that die here, not the machine
    except NotInstalledError:
        done.append(Campaign("PostgreSQL: none here", "", 0))
    else:
        with cluster:
            done.append(asyncio.run(_campaign("PostgreSQL", plan, plan.postgres, cluster)))
    columns = (
        "store",
        "backups",
        "cut short",
        "restored",
        "messages taken",
        "copies compared",
        "backup p50/max, s",
        "restore p50/max, s",
        "beside, messages",
    )
    failures = tuple(f"{c.name}, {failure}" for c in done for failure in c.failures)
    return Report(columns, tuple(c.row() for c in done), failures)


async def _campaign(name: str, plan: Plan, count: int, cluster: Cluster | None) -> Campaign:
    with tempfile.TemporaryDirectory(prefix="postroom-backup-") as folder:
        url = cluster.create_database() if cluster is not None else ""
        campaign = Campaign(name, folder, plan.seed)
        await rounds.furnish(campaign.layout, PEOPLE, url)
        try:
            await campaign.load(count, plan.kill_every)
        finally:
            campaign.close()
        if not campaign.failures:
            shutil.rmtree(campaign.layout.root)
            await campaign.compare(plan.restore_every)
        return campaign


@dataclass(frozen=True, slots=True)
class Taken:
    """A backup, and how many events had been noted when it began and when it had ended."""

    name: str
    began: int
    ended: int


@dataclass(slots=True)
class Campaign:
    """One engine's backups, and what came of them."""

    name: str
    folder: str
    seed: int
    events: list[Event] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    cut: int = 0
    messages: int = 0
    copies: int = 0
    restored: int = 0
    beside: int = 0
    backing: list[float] = field(default_factory=list)  # seconds
    restoring: list[float] = field(default_factory=list)  # seconds
    failures: list[str] = field(default_factory=list)
    _server: ServerProcess | None = None
    _offset: int = 0

    @property
    def layout(self) -> Layout:
        return Layout(os.path.join(self.folder, "data"))

    @property
    def target(self) -> str:
        return os.path.join(self.folder, "backups")

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{len(self.taken)}",
            f"{self.cut}",
            f"{self.restored}",
            f"{self.messages:,}",
            f"{self.copies:,}",
            _spread(self.backing),
            _spread(self.restoring),
            f"{self.beside}",
        )

    def close(self) -> None:
        if self._server is not None:
            self._bury(self._server)
            self._server = None

    def _bury(self, server: ServerProcess) -> None:
        server.kill_group()
        raised = rounds.tracebacks(server.stderr())
        self.failures += [f"a server's log holds a traceback: {line}" for line in raised]
        server.close()

    # --- taking -------------------------------------------------------------------------------

    async def load(self, count: int, kill_every: int) -> None:
        """Mail and changes all the time, and backups beside them."""
        rng = random.Random(f"{self.seed}:{self.name}")
        self._offset = free_offset()
        await self._start()
        writer = Writer(rng, "b")
        note = self.events.append
        senders = Senders(25 + self._offset, PEOPLE, writer, rng, note)
        readers = [
            Reader(993 + self._offset, who, rounds.PASSWORD, trusting_context(), writer, rng, note)
            for who in ACTORS
        ]
        tasks = [asyncio.create_task(senders.run(SESSIONS, PAUSE))]
        tasks += [asyncio.create_task(reader.run(PAUSE)) for reader in readers]
        try:
            for number in range(1, count + 1):
                await asyncio.sleep(rng.uniform(0.2, 1.0))
                if number % kill_every == 0:
                    await self._cut_short(rng)
                else:
                    await self._take()
        finally:
            stop(senders, *readers)
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        self.messages = senders.taken
        code, said = await self._command("backup", "verify", self.target)
        if code or len(self.taken) != said["backups"]:
            self.failures.append(f"backup verify: {said}")

    async def _take(self) -> None:
        began, since = len(self.events), time.monotonic()
        code, said = await self._command("backup", self.target)
        self.backing.append(time.monotonic() - since)
        if code:
            self.failures.append(f"a backup failed: {said}")
            return
        self.taken.append(Taken(said["backup"], began, len(self.events)))
        print(f"  {self.name}: {said['contents']} contents, {self.backing[-1]:.1f} s", flush=True)

    async def _cut_short(self, rng: random.Random) -> None:
        """Kill the server, and so the backup, at some moment; its successor goes on."""
        server = self._server
        assert server is not None
        began = len(self.events)
        backup = asyncio.create_task(self._command("backup", self.target, "--full"))
        while not backup.done() and not self._under_way():
            await asyncio.sleep(0.002)
        await asyncio.sleep(rng.uniform(0.0, 0.5))
        server.kill_group()
        code, said = await backup
        if code == 0:  # it was quicker
            self.taken.append(Taken(said["backup"], began, len(self.events)))
        else:
            self.cut += 1
        self._bury(server)
        await self._start()

    def _under_way(self) -> bool:
        """Whether somebody writes to the backups."""
        with open(os.path.join(self.target, "lock"), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    async def _start(self) -> None:
        command = [sys.executable, "-m", "postroom", "serve", "--workers", "2"]
        command += ["--port-offset", f"{self._offset}"]

        def ready() -> bool:
            status = read_status(self.layout)
            return status is not None and status.serves and status.pid == server.pid

        server = self._server = ServerProcess(command, self.layout.root, ready=ready)
        await asyncio.to_thread(server.wait_ready, PATIENCE)

    async def _command(self, *words: str, data: str = "") -> tuple[int, Any]:
        """A command's exit code, and its output if there is one."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "postroom",
            *words,
            "--json",
            "--data",
            data or self.layout.root,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out else err.decode()

    # --- comparing ----------------------------------------------------------------------------

    async def compare(self, every: int) -> None:
        """Restore backups into empty directories; the last one in any case."""
        for number, taken in enumerate(self.taken):
            last = number + 1 == len(self.taken)
            if last or number % every == 0:
                data = os.path.join(self.folder, taken.name)
                found = await self._restore(taken, data, beside=last)
                self.failures += [f"backup {taken.name}: {problem}" for problem in found[:20]]
                shutil.rmtree(data, ignore_errors=True)
        if not self.taken:
            self.failures.append("no backup came to its end")

    async def _restore(self, taken: Taken, data: str, *, beside: bool) -> list[str]:
        since = time.monotonic()
        words = ("restore", self.target, "--at", taken.name)
        code, said = await self._command(*words, data=data)
        self.restoring.append(time.monotonic() - since)
        if code:
            return [f"restore: {said}"]
        self.restored += 1
        ledger = self._promised(taken)
        async with stores.open_house(Layout(data)) as house:
            await rounds.end_queue(house)
            found = await Looker(ledger).look(house, WITNESSES)
            problems = ledger.broken(found)
            self.copies += sum(len(b.messages) for boxes in found.values() for b in boxes.values())
        if beside:
            problems += await self._beside(data, {w: len(found[w][INBOX].messages) for w in found})
        return problems

    def _promised(self, taken: Taken) -> Ledger:
        """What a backup has to hold: what came while it was made may be in it or not."""
        ledger = Ledger()
        for event in self.events[: taken.began]:
            ledger.note(event)
        for event in self.events[taken.began : taken.ended]:
            if isinstance(event, Offered):
                ledger.note(event)
        return ledger

    async def _beside(self, data: str, counts: dict[str, int]) -> list[str]:
        """The fullest INBOX, restored beside itself into the restored store."""
        account, count = max(counts.items(), key=lambda each: each[1])
        words = ("restore", "mailbox", self.target, account, INBOX)
        code, said = await self._command(*words, data=data)
        if code:
            return [f"restore mailbox: {said}"]
        self.beside = said["messages"]
        ledger = self._promised(self.taken[-1])
        async with stores.open_house(Layout(data)) as house:
            report = await check(house.mail, house.blobs, repair=False)
            boxes = (await Looker(ledger).look(house, [account]))[account]
        problems = [f"check: {problem}" for problem in report.problems]
        one, two = (boxes[path].messages.values() for path in (INBOX, said["mailbox"]))
        before, after = ([(m.mail, m.flags, m.wrong) for m in each] for each in (one, two))
        # What still waited in the queue has come to the INBOX since.
        if len(one) != count or after != before[: len(after)]:
            problems.append(f"{said['mailbox']} of {account} is not what {INBOX} was")
        return problems


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "-"
    return f"{statistics.median(seconds):.1f} / {max(seconds):.1f}"
