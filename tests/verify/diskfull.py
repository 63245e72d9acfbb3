"""Disks that are full or fail: refused with 4yz, nothing lost, nothing half there, no restart.

A small file system in memory is filled by mail until no octet fits, then until no file does;
mounting one needs root. And errors are injected below SQLite and below the blob files, one kind
of place after the other, once and lasting, while mail and mailbox changes go on. Each time room
or disk come back, and the same processes take mail again.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from postroom.core import log
from postroom.core.errors import MailError
from postroom.domain.check import check
from postroom.server import house as stores
from postroom.server.house import Parts
from postroom.server.instance import Layout, read_status
from postroom.store.files import Files
from postroom.testing import rounds
from postroom.testing.faults import Error, Fault, Faults, Op
from postroom.testing.imap import ImapClient
from postroom.testing.load import Mix, Reader, Senders, Writer, stop
from postroom.testing.ports import free_offset
from postroom.testing.process import ServerProcess
from postroom.testing.promises import Ledger
from postroom.testing.rounds import Looker, Ports
from postroom.testing.smtp import trusting_context
from tools.verification import Form, Report

PEOPLE: Final = rounds.addresses(60)
SESSIONS: Final = 3
PAUSE: Final = 0.01  # seconds between the messages of a session
PATIENCE: Final = 30.0  # seconds for anything that must come

SIZE: Final = 24 << 20  # octets of the small file system
INODES: Final = 150
BALLAST: Final = 6 << 20
BALLAST_FILES: Final = 40

SEEDS: Final = {Form.SHORT: 1, Form.LONG: 2}
REPEATS: Final = 3  # of each fault, in the long form

# RFC 5530 §3; the second is what FETCH says of content that it cannot read.
REFUSALS: Final = ("NO UNAVAILABLE", "NO CORRUPTION")

COLUMNS: Final = (
    "disk",
    "messages taken",
    "IMAP changes",
    "errors met",
    "SMTP said",
    "IMAP said",
    "taken again p50/max, ms",
)
MIX: Final = Mix(recipients=((80, 1), (15, 3), (5, 60)))
ROWS: Final = Mix(sizes=((1, 50_000, 60_000),), recipients=((1, 1),))
FILES: Final = Mix(
    sizes=((2, 70_000, 90_000), (1, 270_000, 300_000)), recipients=((80, 1), (20, 60))
)


def run(form: Form) -> Report:
    """Small disks, then failing ones."""
    said = io.StringIO()
    log.configure(level="error", stream=said)
    with tempfile.TemporaryDirectory(prefix="postroom-disk-") as folder:
        outcomes = [_small(kind, Path(folder)) for kind in SMALL_DISKS]
        outcomes += asyncio.run(_failing(form, Path(folder)))
    failures = [f"{o.name}: {problem}" for o in outcomes for problem in o.problems]
    failures += [
        f"the log holds a traceback: {line}" for line in rounds.tracebacks(said.getvalue())
    ]
    return Report(COLUMNS, tuple(o.row() for o in outcomes), tuple(failures))


@dataclass(slots=True)
class Outcome:
    """What happened on one kind of disk."""

    name: str
    taken: int = 0
    changes: int = 0
    hits: int = 0
    smtp: Counter[str] = field(default_factory=Counter)
    imap: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)  # seconds
    problems: list[str] = field(default_factory=list)

    def add(self, senders: Senders, *readers: Reader) -> None:
        """Count what a load came to; only 4yz and NO with one of two codes may refuse."""
        self.taken += senders.taken
        self.smtp += senders.refused
        self.changes += sum(reader.changes for reader in readers)
        for reader in readers:
            self.imap += reader.refused
        wrong = [reply for reply in senders.refused if not reply.startswith("4")]
        wrong += [r for reader in readers for r in reader.refused if r not in REFUSALS]
        if wrong:
            self.problems.append(f"answered {sorted(set(wrong))}")

    def row(self) -> tuple[str, ...]:
        spread = "-"
        if self.recoveries:
            median, worst = statistics.median(self.recoveries), max(self.recoveries)
            spread = f"{median * 1000:.0f} / {worst * 1000:.0f}"
        counts = (f"{self.taken:,}", f"{self.changes:,}", f"{self.hits:,}")
        return (self.name, *counts, _told(self.smtp), _told(self.imap), spread)


def _say(line: str) -> None:
    print(f"  {line}", flush=True)


def _told(replies: Counter[str]) -> str:
    return ", ".join(f"{count:,} x {reply}" for reply, count in sorted(replies.items())) or "-"


# --- small disks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system in memory that ends, and what is put aside so that it can be freed."""

    name: str
    options: str
    ballast: Callable[[Path], None]
    mix: Mix


def _one_file(folder: Path) -> None:
    (folder / "ballast-0").write_bytes(b"\0" * BALLAST)


def _many_files(folder: Path) -> None:
    for n in range(BALLAST_FILES):
        (folder / f"ballast-{n}").touch()


SMALL_DISKS: Final = (
    SmallDisk("no room left", f"size={SIZE}", _one_file, MIX),
    SmallDisk("no inodes left", f"size={256 << 20},nr_inodes={INODES}", _many_files, FILES),
)


def _small(kind: SmallDisk, folder: Path) -> Outcome:
    outcome = Outcome(kind.name)
    if os.geteuid() != 0:
        outcome.name += ": not tried, mounting needs root"
        return outcome
    mount = folder / kind.name.replace(" ", "-")
    mount.mkdir()
    with _mounted(mount, kind.options):
        asyncio.run(_fill(kind, mount, outcome))
    return outcome


@contextmanager
def _mounted(folder: Path, options: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _fill(kind: SmallDisk, mount: Path, outcome: Outcome) -> None:
    layout = Layout(str(mount / "data"))
    await rounds.furnish(layout, PEOPLE)
    kind.ballast(mount)
    offset = free_offset()
    command = [sys.executable, "-m", "postroom", "serve", "--workers", "2"]
    command += ["--port-offset", f"{offset}"]

    def ready() -> bool:
        status = read_status(layout)
        return status is not None and status.serves

    with ServerProcess(command, layout.root, ready=ready) as server:
        await asyncio.to_thread(server.wait_ready, PATIENCE)
        trial = Trial(layout, Ports(25 + offset, 993 + offset), outcome, kind.mix, 1)
        await trial.load(lambda s, r: s.refused.total() >= 40 and r.refused.total() >= 1)
        await _read_by_imap(trial)
        outcome.problems += await _killed_while_full(server, layout, trial)
        workers = set(server.workers())
        for path in mount.glob("ballast-*"):
            path.unlink()
        await trial.recovers()
        await trial.compare("room again", served=True)
        if server.returncode is not None:
            outcome.problems.append(f"the server ended: {server.stderr()[-500:]}")
        else:
            await asyncio.sleep(1.5)  # the status follows once it can be written again
            if not workers.issuperset(_workers(layout)):
                outcome.problems.append("workers died while the disk was full")
        outcome.problems += [f"a traceback: {end}" for end in rounds.tracebacks(server.stderr())]
    if not any(reply.startswith("452 4.3.1") for reply in outcome.smtp):
        outcome.problems.append("SMTP never said 452 4.3.1")


def _workers(layout: Layout) -> list[int]:
    status = read_status(layout)
    return [worker.pid for worker in status.workers] if status is not None else []


async def _read_by_imap(trial: Trial) -> None:
    """On a full disk mail can still be read."""
    async with await ImapClient.connect(
        "127.0.0.1", trial.ports.imaps, tls=trusting_context()
    ) as client:
        said = await client.login(PEOPLE[1], rounds.PASSWORD)
        if said.ok:
            await rounds.seen_by_imap(client, trial.ledger, ("INBOX",))
        else:
            trial.outcome.problems.append(f"nobody can sign in on a full disk: {said.text}")


async def _killed_while_full(server: ServerProcess, layout: Layout, trial: Trial) -> list[str]:
    """A worker dies just then: its successor comes, and the server lives."""
    victim = _workers(layout)[0]
    server.kill_one(victim)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        alive = server.workers()
        if len(alive) >= 2 and victim not in alive:
            await asyncio.sleep(1.0)  # a successor that cannot start would be gone by then
            return []  # whether all live is asked at the end
        if not alive:
            return [f"the server died with its worker on a full disk: {server.stderr()[-800:]}"]
        await asyncio.sleep(0.02)
    return ["no successor on a full disk"]


# --- a load, and what it must keep ------------------------------------------------------------


@dataclass(slots=True)
class Trial:
    """A load on one server, what it was promised, and what is there."""

    layout: Layout
    ports: Ports
    outcome: Outcome
    mix: Mix
    seed: int
    ledger: Ledger = field(default_factory=Ledger)
    looker: Looker | None = None
    loads: int = 0

    async def load(self, enough: Callable[[Senders, Reader], bool], patience: float = 60) -> bool:
        """Mail and changes until `enough` says so; False if it never does."""
        self.loads += 1
        rng = random.Random(f"{self.seed}:{self.loads}")
        writer = Writer(rng, f"t{self.seed}.{self.loads}", self.mix)
        senders = Senders(self.ports.smtp, PEOPLE, writer, rng, self.ledger.note)
        reader = self._reader(writer, rng)
        readers = [reader]
        runs = (senders.run(SESSIONS, PAUSE), reader.run(PAUSE))
        tasks = [asyncio.create_task(run) for run in runs]
        deadline = time.monotonic() + patience
        while not (met := enough(senders, reader)) and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        stop(senders, *readers)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        self.outcome.add(senders, *readers)
        return met

    def _reader(self, writer: Writer, rng: random.Random) -> Reader:
        return Reader(
            self.ports.imaps,
            # Another one each time: a change of the last one's may still be open.
            PEOPLE[self.loads % len(PEOPLE)],
            rounds.PASSWORD,
            trusting_context(),
            writer,
            rng,
            self.ledger.note,
        )

    async def recovers(self) -> None:
        """Mail is taken again, and mailboxes change again; how soon is measured for mail."""
        began = time.monotonic()
        first: list[float] = []

        def enough(senders: Senders, reader: Reader) -> bool:
            if senders.taken and not first:
                first.append(time.monotonic() - began)
            return senders.taken >= 6 and reader.changes >= 3

        if not await self.load(enough, PATIENCE):
            self.outcome.problems.append(f"no mail and changes within {PATIENCE:.0f} s after it")
        self.outcome.recoveries += first

    async def compare(self, when: str, *, served: bool) -> None:
        """What was promised against the store, and the store against itself."""
        if self.looker is None:
            self.looker = Looker(self.ledger)
        async with stores.open_house(self.layout) as house:
            if not served:
                await rounds.end_queue(house)
            elif not await rounds.emptied(house):
                self.outcome.problems.append("the local queue does not end")
            found = await self.looker.look(house, PEOPLE)
            problems = self.ledger.broken(found)
            report = await check(house.mail, house.blobs, repair=False)
            problems += [f"check: {problem}" for problem in report.problems]
        self.ledger.adopt(found)
        self.outcome.problems += [f"{when}: {problem}" for problem in problems[:10]]


# --- failing disks --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """A kind of place where a disk fails, and how it may."""

    name: str
    op: Op
    file: str | None
    errors: tuple[Error, ...]
    mix: Mix
    below: str = "SQLite"
    later: int = 6  # below which so many operations are let through, if it strikes once
    at_start: bool = False  # it strikes a server that starts, or nobody


BLOBS: Final = "blob files"
SITES: Final = (
    Site("mail.db open", "open", "mail.db", ("io",), MIX, later=2, at_start=True),
    Site("mail.db read", "read", "mail.db", ("io", "short"), MIX),
    Site("mail.db write", "write", "mail.db", ("io", "full"), ROWS),
    Site("mail.db sync", "sync", "mail.db", ("io",), ROWS, later=2),
    Site("mail.db-wal open", "open", "mail.db-wal", ("io",), MIX, later=2, at_start=True),
    Site("mail.db-wal read", "read", "mail.db-wal", ("io",), MIX),
    Site("mail.db-wal write", "write", "mail.db-wal", ("io", "full", "short"), MIX),
    Site("mail.db-wal sync", "sync", "mail.db-wal", ("io",), MIX),
    Site("state.db-wal write", "write", "state.db-wal", ("io", "full"), MIX),
    Site("blob open", "open", None, ("io", "full"), FILES, BLOBS),
    Site("blob write", "write", None, ("io", "full", "quota"), FILES, BLOBS),
    Site("blob fsync, of file or folder", "sync", None, ("io", "full"), FILES, BLOBS),
    Site("blob rename", "rename", None, ("io", "full"), FILES, BLOBS),
    Site("blob mkdir", "mkdir", None, ("io", "full"), FILES, BLOBS),
    Site("blob read", "read", None, ("io",), FILES, BLOBS),
)
LASTING: Final = 0.4  # seconds that a lasting fault goes on after it first struck
STRIKE: Final = 15.0  # seconds in which a fault has to strike


async def _failing(form: Form, folder: Path) -> list[Outcome]:
    layout = Layout(str(folder / "failing"))
    await rounds.furnish(layout, PEOPLE)
    trial: Trial | None = None
    outcomes = []
    for n, site in enumerate(SITES):
        outcome = Outcome(site.name)
        rng = random.Random(f"{SEEDS[form]}:{site.name}")
        cases = [(error, times) for error in site.errors for times in (1, None)]
        if form is Form.SHORT:
            # Once and lasting, with errors of any kind the site knows.
            cases = [(rng.choice(site.errors), times) for times in (1, None)]
        else:
            cases *= REPEATS
        for error, times in cases:
            after = rng.randrange(site.later) if times is not None else 0
            fault = Fault(site.op, error, file=site.file, after=after, times=times)
            known = Ledger() if trial is None else trial.ledger
            looker = None if trial is None else trial.looker
            count = 0 if trial is None else trial.loads
            trial = Trial(layout, Ports(0, 0), outcome, site.mix, n, known, looker, count)
            await _strike(trial, site, fault)
        outcomes.append(outcome)
    return outcomes


async def _strike(trial: Trial, site: Site, fault: Fault) -> None:
    """A server of its own, with one fault."""
    faults = Faults()
    vfs = faults.vfs(f"faulty {trial.loads}")
    parts = Parts(vfs=vfs.name)
    if site.below == BLOBS:
        parts = Parts(files=Files(faults.syscalls()))
    began = time.monotonic()
    when = f"{fault.error} {'once' if fault.times else 'lasting'}"
    struck: list[float] = []

    def enough(senders: Senders, reader: Reader) -> bool:
        if fault.hits and not struck:
            struck.append(time.monotonic())
        return bool(struck) and time.monotonic() > struck[0] + LASTING

    if site.at_start:
        with faults.armed(fault):
            await _start(trial, parts)
    async with rounds.serving(trial.layout, parts=parts) as ports:
        trial.ports = ports
        if not site.at_start:
            with faults.armed(fault):
                await trial.load(enough, STRIKE)
        trial.outcome.hits += fault.hits
        if not fault.hits:
            trial.outcome.problems.append(f"{when}: it never struck")
        await trial.recovers()
    await trial.compare(when, served=False)
    _say(f"{site.name}, {when}: {fault.hits} errors, {time.monotonic() - began:.1f} s")


async def _start(trial: Trial, parts: Parts) -> None:
    """A start that the disk refuses ends in an error that says so, and the next one goes."""
    try:
        async with rounds.serving(trial.layout, parts=parts):
            pass
    except MailError:
        return
