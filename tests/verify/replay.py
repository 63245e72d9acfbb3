"""Power cut at every fsync: whatever POSIX lets the disk keep, what was acknowledged is there.

Two workers over recorded files take mail and mailbox changes; every promise to a client is a
mark in the same log. The state that a power cut may leave is then made for every cut and
variant, opened as a start would, checked and compared with the promises made before the cut.

A proof that cannot fail proves nothing: the same is done with a server that leaves out the
fsync of directories, the fsync of files, or runs SQLite with synchronous=NORMAL. Each must be
caught.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from unittest.mock import patch

import apsw

from postroom.core import log
from postroom.core.errors import MailError
from postroom.domain.check import check
from postroom.server import house as stores
from postroom.server.house import Parts
from postroom.server.instance import Layout
from postroom.store import sqlite, sqlite_writer
from postroom.store.files import Files, Syscalls
from postroom.testing import rounds
from postroom.testing.load import Mix, Reader, Senders, Writer, stop
from postroom.testing.promises import Event as Promise
from postroom.testing.promises import Ledger, packed, unpacked
from postroom.testing.recorder import Event, Recorder
from postroom.testing.replay import State, Variant, cuts, states
from postroom.testing.rounds import Looker
from postroom.testing.smtp import trusting_context
from tools.verification import Form, Report

PEOPLE: Final = rounds.addresses(60)
READERS: Final = 2
SESSIONS: Final = 4
PAUSE: Final = 0.03  # seconds between the messages of a session
MIX: Final = Mix(
    sizes=((40, 200, 8_000), (40, 20_000, 60_000), (12, 70_000, 150_000), (8, 270_000, 320_000)),
    recipients=((70, 1), (25, 3), (5, 60)),
)
BEGIN: Final = "begin"
MEMORY: Final = "/dev/shm"  # states are made and thrown away by the hundred


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the load, how many of the cuts, how many throws of the random variant."""

    messages: int
    changes: int  # of mailboxes, by IMAP
    cuts: int | None  # None: every one
    throws: int
    seed: int


PLANS: Final = {Form.SHORT: Plan(70, 20, 20, 1, 1), Form.LONG: Plan(160, 60, None, 2, 2)}
CARELESS: Final = Plan(40, 4, 25, 1, 3)
COLUMNS: Final = (
    "server",
    "messages",
    "IMAP changes",
    "checkpoints",
    "events",
    "cuts",
    "states",
    "states broken",
)


def run(form: Form) -> Report:
    """The product as it is, then each way of being careless."""
    log.configure(level="error")  # workers run in this process
    base = MEMORY if os.path.isdir(MEMORY) else None
    with tempfile.TemporaryDirectory(prefix="postroom-replay-", dir=base) as folder:
        return asyncio.run(_all(form, Path(folder)))


async def _all(form: Form, folder: Path) -> Report:
    found = [await _proof(Kind("as it is"), PLANS[form], folder)]
    failures = [f"{problem}" for problem in found[0].problems]
    for kind in KINDS:
        proof = await _proof(kind, CARELESS, folder, enough=1)
        found.append(proof)
        if not proof.problems:
            failures.append(f"{kind.name}: not caught in {proof.states} states")
    return Report(COLUMNS, tuple(proof.row() for proof in found), tuple(failures))


# --- ways of being careless -----------------------------------------------------------------


class Forgetful(Syscalls):
    """Files that leave out one kind of fsync, over those that record."""

    __slots__ = ("_base", "_kind")

    def __init__(self, base: Syscalls, kind: Callable[[int], bool]) -> None:
        self._base = base
        self._kind = kind

    def fsync(self, fd: int) -> None:
        if not self._kind(os.fstat(fd).st_mode):
            self._base.fsync(fd)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return self._base.open(path, flags, mode)

    def close(self, fd: int) -> None:
        self._base.close(fd)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        return self._base.write(fd, data)

    def rename(self, source: str, target: str) -> None:
        self._base.rename(source, target)

    def unlink(self, path: str) -> None:
        self._base.unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._base.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        self._base.rmdir(path)


def _as_it_is(base: Syscalls) -> Syscalls:
    return base


def _without_directories(base: Syscalls) -> Syscalls:
    return Forgetful(base, stat.S_ISDIR)


def _without_files(base: Syscalls) -> Syscalls:
    return Forgetful(base, stat.S_ISREG)


@contextmanager
def _normal() -> Iterator[None]:
    """SQLite syncs its WAL before a checkpoint only."""
    connect = sqlite.connect

    def careless(path: str, *, durable: bool, vfs: str | None = None) -> apsw.Connection:
        return connect(path, durable=False, vfs=vfs)

    with (
        patch.object(sqlite, "connect", careless),
        patch.object(sqlite_writer, "connect", careless),
    ):
        yield


@dataclass(frozen=True, slots=True)
class Kind:
    """How a server keeps its promises."""

    name: str
    files: Callable[[Syscalls], Syscalls] = _as_it_is
    around: Callable[[], AbstractContextManager[None]] = nullcontext


KINDS: Final = (
    Kind("directories not synced", _without_directories),
    Kind("files not synced", _without_files),
    Kind("synchronous=NORMAL", around=_normal),
)


# --- the recording ----------------------------------------------------------------------------


@dataclass(slots=True)
class Proof:
    """What was recorded, and what became of it."""

    name: str
    messages: int = 0
    changes: int = 0
    checkpoints: int = 0
    events: int = 0
    cuts: int = 0
    states: int = 0
    broken: int = 0
    problems: list[str] = field(default_factory=list)

    def row(self) -> tuple[str, ...]:
        loaded = (self.messages, self.changes, self.checkpoints, self.events)
        replayed = (self.cuts, self.states, self.broken)
        return (self.name, *(f"{count:,}" for count in (*loaded, *replayed)))


async def _proof(kind: Kind, plan: Plan, folder: Path, *, enough: int = 20) -> Proof:
    """Record and replay; stops after `enough` broken states."""
    proof = Proof(kind.name)
    below = folder / str(len(os.listdir(folder)))
    below.mkdir()
    events = await _record(kind, plan, below, proof)
    proof.events = len(events)
    rng = random.Random(plan.seed)
    # Before this mark lies the picture of the directory that the recording began with.
    first = next(n for n, e in enumerate(events) if e.kind == "mark" and e.target == BEGIN)
    every = [cut for cut in cuts(events) if cut > first]
    at = every if plan.cuts is None else sorted(rng.sample(every, min(plan.cuts, len(every))))
    proof.cuts = len(at)
    for throw in range(plan.throws):
        variants = tuple(Variant) if not throw else (Variant.RANDOM,)
        await _replay(events, at, variants, throw, below / f"states-{throw}", proof, enough)
    shutil.rmtree(below)
    return proof


async def _record(kind: Kind, plan: Plan, folder: Path, proof: Proof) -> Sequence[Event]:
    layout = Layout(str(folder / "data"))
    await rounds.furnish(layout, PEOPLE)
    recorder = Recorder(layout.root, folder / "log")
    vfs = recorder.vfs(f"recording {folder.name}")
    recorder.mark(BEGIN)

    def note(promise: Promise) -> None:
        label, payload = packed(promise)
        recorder.mark(label, payload)

    rng = random.Random(plan.seed)
    writer = Writer(rng, "replay", MIX)
    parts = Parts(files=Files(kind.files(recorder.syscalls())), vfs=vfs.name)
    with kind.around():
        async with rounds.serving(layout, workers=2, parts=parts) as ports:
            senders = Senders(ports.smtp, PEOPLE, writer, rng, note)
            readers = [
                Reader(ports.imaps, a, rounds.PASSWORD, trusting_context(), writer, rng, note)
                for a in PEOPLE[:READERS]
            ]
            tasks = [asyncio.create_task(senders.run(SESSIONS, PAUSE))]
            tasks += [asyncio.create_task(reader.run()) for reader in readers]
            async with asyncio.timeout(120):
                while senders.taken < plan.messages or _changes(readers) < plan.changes:
                    await asyncio.sleep(0.01)
            stop(senders, *readers)
            await asyncio.gather(*tasks)
    events = recorder.events()
    recorder.close()
    vfs.unregister()
    proof.messages = senders.taken
    proof.changes = _changes(readers)
    proof.checkpoints = _checkpoints(events)
    if senders.refused or any(reader.refused for reader in readers):
        said = sum((reader.refused for reader in readers), senders.refused)
        proof.problems.append(f"{kind.name}: the load was refused: {dict(said)}")
    return events


def _changes(readers: Sequence[Reader]) -> int:
    return sum(reader.changes for reader in readers)


def _checkpoints(events: Sequence[Event]) -> int:
    """How often the database file itself was synced: once for each checkpoint."""
    node = next(e.node for e in events if e.kind == "create" and e.path == "mail.db")
    began = next(n for n, e in enumerate(events) if e.kind == "mark")
    return sum(1 for e in events[began:] if e.kind == "fsync" and e.node == node)


# --- the replay ---------------------------------------------------------------------------------


async def _replay(
    events: Sequence[Event],
    at: Sequence[int],
    variants: Sequence[Variant],
    seed: int,
    folder: Path,
    proof: Proof,
    enough: int,
) -> None:
    folder.mkdir()
    for state in states(events, folder, at=at, variants=variants, seed=seed):
        problems = await _problems(state)
        shutil.rmtree(state.folder)
        proof.states += 1
        if problems:
            proof.broken += 1
            where = f"{proof.name}, cut {state.cut} {state.variant.value} (throw {seed})"
            proof.problems += [f"{where}: {problem}" for problem in problems[:3]]
        if proof.broken >= enough:
            return


async def _problems(state: State) -> list[str]:
    """Start on what is left, let the queue end, and compare."""
    layout = Layout(state.folder)
    made = (unpacked(m.target, m.data) for m in state.marks if m.target != BEGIN)
    ledger = Ledger(made)
    try:
        stores.migrate(layout, stores.read_bootstrap(layout))
        async with stores.open_house(layout) as house:
            await rounds.end_queue(house)
            report = await check(house.mail, house.blobs, repair=False)
            found = await Looker(ledger).look(house, PEOPLE)
    except MailError as error:
        return [f"it does not open: {error.detail or error}"]
    return [*ledger.broken(found), *(f"check: {problem}" for problem in report.problems)]
