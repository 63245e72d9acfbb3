"""What a round of a durability proof needs: a data directory, workers, a look into the stores.

A directory is furnished before the first start: a domain, accounts with one password, a
certificate. Workers then run in processes of their own (testing.process) or, where files and
SQLite are to be wired with recorders or faults, in this one (`serving`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from postroom.access import make_secret
from postroom.core.clock import Instant, SystemClock
from postroom.core.settings import Role
from postroom.domain import queue
from postroom.domain.directory import people
from postroom.domain.directory.people import NewAccount, Verifiers
from postroom.domain.mailboxes import flags, folders, reading
from postroom.domain.mailboxes.picking import Pick
from postroom.formats.address import Address
from postroom.mailflow.house import MailHouse
from postroom.mailflow.localqueue import LocalQueue
from postroom.net.certificates import CertificateStore, self_signed
from postroom.server import first_start
from postroom.server import house as stores
from postroom.server.fork import READY, WorkerContext
from postroom.server.house import OFFLINE, Parts
from postroom.server.instance import Layout
from postroom.server.sockets import Kind, Listener, open_sockets
from postroom.server.worker import run_worker
from postroom.store.files import is_unfinished
from postroom.store.sql import Tx
from postroom.testing.imap import ImapClient, flags_of
from postroom.testing.promises import Box, Boxes, Found, Ledger

DOMAIN: Final = "example.test"
PASSWORD: Final = "correct horse battery staple"
START: Final = 20.0
"""Seconds that a worker in this process may take to begin."""

REAL: Final = Parts()
"""Files, VFS and clock as the product has them."""

_LONG: Final = 60.0  # seconds for the answer to a long FETCH
_QUEUE: Final = 90.0  # seconds in which the local queue has to end: more than a lease
_EVERY: Final = Pick(1, 1 << 32)


def addresses(count: int) -> tuple[str, ...]:
    """So many people."""
    return tuple(f"p{n:02}@{DOMAIN}" for n in range(count))


# --- the directory ----------------------------------------------------------------------------


async def furnish(layout: Layout, accounts: Sequence[str], database_url: str = "") -> None:
    """Make the store with these accounts, as a first start and an administrator would."""
    await asyncio.to_thread(_make_store, layout, database_url)
    # One password for all: its cost is not what is tested here.
    secret = await asyncio.to_thread(make_secret, PASSWORD)
    async with stores.open_house(layout) as house:
        await first_start.make(house, DOMAIN, PASSWORD, secret)
        for address in accounts:
            ids = [house.ids.new() for _ in range(16)]
            await house.mail.write(_account, address, secret, ids, SystemClock())
    chain, key = self_signed([f"mail.{DOMAIN}"], SystemClock().now())
    CertificateStore(layout.tls).write("self-signed", chain, key)


def _make_store(layout: Layout, database_url: str) -> None:
    layout.create()
    if database_url:
        with open(layout.bootstrap, "w", encoding="utf-8") as file:
            file.write(f'[database]\nurl = "{database_url}"\n')
    stores.migrate(layout, stores.read_bootstrap(layout))


def _account(tx: Tx, address: str, secret: Verifiers, made: list[int], clock: SystemClock) -> None:
    ids = iter(made)
    new = NewAccount(_parsed(address), "", Role.USER, secret)
    account = people.create_account(tx, new, ids, clock.now())
    folders.create_first(tx, account.id, ids, clock.now(), account.id)


# --- workers in this process --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a server listens, on loopback."""

    smtp: int
    imaps: int


@asynccontextmanager
async def serving(layout: Layout, *, workers: int = 1, parts: Parts = REAL) -> AsyncIterator[Ports]:
    """Workers on this loop, over a furnished directory: what is in them is the product's own."""
    doors = (Listener("smtp", 0, Kind.STARTTLS), Listener("imaps", 0, Kind.TLS))
    sockets = open_sockets(doors, workers, bind=("127.0.0.1",))
    async with AsyncExitStack() as stack:
        stack.callback(sockets.close)
        for index in range(workers):
            ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, ours)
            stack.callback(os.close, theirs)
            context = WorkerContext(index, workers, layout, sockets.of(index), theirs)
            task = asyncio.create_task(run_worker(context, parts=parts))
            stack.push_async_callback(_stop, context, task)
            await _ready(ours, task)
        at = {bound.listener.name: bound.address[1] for bound in sockets}
        yield Ports(at["smtp"], at["imaps"])


async def _ready(pipe: int, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(START):
        while True:
            if task.done():
                await task
                raise RuntimeError("a worker ended before it was ready")
            try:
                if READY in os.read(pipe, 64):
                    return
            except BlockingIOError:
                await asyncio.sleep(0.002)


async def _stop(context: WorkerContext, task: asyncio.Task[None]) -> None:
    context.stopping.set()
    await task


# --- looking ------------------------------------------------------------------------------------


class Looker:
    """Reads mailboxes from the store itself, beside or without a server.

    Content is read once for each blob: it never changes, and `check` compares its hash.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._blobs: dict[int, Found] = {}

    async def look(self, house: MailHouse, accounts: Sequence[str]) -> dict[str, Boxes]:
        """The mailboxes of these accounts, each account in one snapshot."""
        return {a: await house.mail.read_much(self._boxes, house, a) for a in accounts}

    def _boxes(self, tx: Tx, house: MailHouse, address: str) -> Boxes:
        account = people.account(tx, _parsed(address)).id
        registry = flags.registry(tx, account)
        found: Boxes = {}
        for path, box in folders.tree(tx, account).by_path.items():
            messages = {}
            for row in reading.brief(tx, box.id, _EVERY):
                known = self._blobs.get(row.blob)
                if known is None:
                    content = house.blobs.read(tx, row.blob)
                    known = self._blobs[row.blob] = self._ledger.recognise(content)
                set_ = frozenset(registry.flags(row.flags))
                messages[row.uid] = Found(known.mail, set_, known.wrong)
            found[path] = Box(box.uidvalidity, box.uidnext, messages)
        return found


async def seen_by_imap(
    client: ImapClient, ledger: Ledger, paths: Sequence[str], known: Boxes | None = None
) -> Boxes:
    """The same as a client sees it; content of what is `known` by its UID is not fetched again."""
    found: Boxes = {}
    for path in paths:
        said = await client.command(f"EXAMINE {path}")
        if not said.ok:
            raise AssertionError(f"EXAMINE {path}: {said.text}")
        numbers = [said.code_data(name) for name in ("UIDVALIDITY", "UIDNEXT")]
        uidvalidity, uidnext = (n[0] for n in numbers if n is not None)
        assert isinstance(uidvalidity, int)
        assert isinstance(uidnext, int)
        before = known[path].messages if known is not None and path in known else {}
        box = found[path] = Box(uidvalidity, uidnext)
        listed = await client.command("UID FETCH 1:* (FLAGS)", patience=_LONG)
        for items in listed.fetched().values():
            uid, set_ = items["UID"], flags_of(items["FLAGS"]) - {"\\Recent"}
            assert isinstance(uid, int)
            if uid in before:
                box.messages[uid] = Found(before[uid].mail, frozenset(set_), before[uid].wrong)
                continue
            got = await client.command(f"UID FETCH {uid} (BODY.PEEK[])")
            (one,) = got.fetched().values()
            content = one["BODY[]"]
            assert isinstance(content, bytes)
            there = ledger.recognise(content)
            box.messages[uid] = Found(there.mail, frozenset(set_), there.wrong)
    return found


async def emptied(house: MailHouse) -> bool:
    """Wait until the local queue has ended; False if it does not."""
    deadline = time.monotonic() + _QUEUE
    while await house.mail.read(queue.waiting, 1):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


async def end_queue(house: MailHouse) -> None:
    """Do what workers do after a start: free what the dead held, and deliver what waits.

    What a disk that failed has put off until later is delivered now.
    """
    for holder in range(1, OFFLINE):
        await house.mail.write(queue.release_all_of, holder)
    runner = LocalQueue(replace(house, clock=_Later()), OFFLINE)
    while await house.mail.read(queue.waiting, 1):
        await runner.round()


def tracebacks(said: str) -> list[str]:
    """The last line of each traceback in a log, each once: what was not foreseen."""
    pieces = said.split("Traceback (most recent call last)")[1:]
    ends = (next((ln for ln in p.splitlines()[1:] if ln and ln[0] != " "), "?") for p in pieces)
    return list(dict.fromkeys(ends))


class _Later(SystemClock):
    """An hour from now."""

    __slots__ = ()

    def now(self) -> Instant:
        return Instant(super().now() + 3_600_000)


def unfinished(layout: Layout) -> list[str]:
    """Files that a write under way left behind; after a start there are none."""
    folder = stores.blob_folder(layout)
    return sorted(
        os.path.join(at, name)
        for at, _, names in os.walk(folder)
        for name in names
        if is_unfinished(name) or os.path.basename(at) == "new"
    )


def _parsed(address: str) -> Address:
    local, _, domain = address.partition("@")
    return Address(local, domain)
