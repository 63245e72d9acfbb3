"""`postroom serve`: from the command line to the supervisor's loop."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
import uvloop

from postroom.access import make_secret, random_password
from postroom.core.clock import SystemClock
from postroom.core.errors import MailError, Misuse
from postroom.domain import jobs, queue
from postroom.domain.mailboxes import maildrop, unfinished
from postroom.mailflow.house import MailHouse
from postroom.net.certificates import CertificateStore, self_signed
from postroom.server import first_start, house
from postroom.server.background import run_background
from postroom.server.fork import RunWorker, in_child
from postroom.server.instance import Instance, Layout
from postroom.server.notify import Notify, clean_environment
from postroom.server.options import DATA
from postroom.server.privileges import account_for, drop, restrict
from postroom.server.reach import Reach
from postroom.server.sockets import Kind, Listener, open_sockets
from postroom.server.supervisor import Supervisor
from postroom.server.worker import run_worker
from postroom.store.sql import Tx
from postroom.store.sweeper import clear_unfinished

WORKERS_MOST: Final = 60
"""Ids name 63 workers; the last ones are for commands."""

_LOOPBACK_OF: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - reads it

_log: Final = structlog.get_logger("postroom.server")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `postroom serve` was told."""

    data: str
    port_offset: int = 0
    bind: tuple[str, ...] = ()
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    domain: str = "example.test"
    user: str | None = None
    reach: Reach = Reach()


def listeners(layout: Layout) -> tuple[Listener, ...]:
    """The doors of the rooms that are built."""
    return (
        Listener("smtp", 25, Kind.STARTTLS),
        Listener("submission", 587, Kind.STARTTLS),
        Listener("submissions", 465, Kind.TLS),
        Listener("lmtp", path=layout.lmtp_socket),
        Listener("imap", 143, Kind.STARTTLS),
        Listener("imaps", 993, Kind.TLS),
        Listener("pop3", 110, Kind.STARTTLS),
        Listener("pop3s", 995, Kind.TLS),
        Listener("control", path=layout.control_socket),
    )


def serve(options: ServeOptions, *, run: RunWorker | None = None) -> int:
    """Until stopped; the exit status. Raises MailError with a sentence for a person.

    `run` is a worker's life, in tests another one.
    """
    options.reach.check()
    background = run_background if run is None else None
    run = run or partial(run_worker, reach=options.reach)
    if not 1 <= options.workers <= WORKERS_MOST:
        raise Misuse(f"Workers are from 1 to {WORKERS_MOST}")
    layout = Layout(os.path.abspath(options.data))
    notify = Notify.from_environment(os.environ, os.getpid())
    clean_environment()
    restrict()
    account = account_for(layout.root, options.user, port_offset=options.port_offset)
    owner = (account.uid, account.gid)
    layout.create(owner)
    instance = Instance.acquire(layout)
    try:
        os.chown(layout.lock, *owner)
        if account.is_root:
            _log.warning("serving as root, since a port offset says that this is a trial")
        sockets = open_sockets(
            listeners(layout),
            options.workers,
            bind=options.bind,
            port_offset=options.port_offset,
            owner=owner,
        )
        drop(account)
        # What opens the store before the fork does so in a child that exits.
        status = in_child(partial(_prepare, layout, options))
        if status:
            sockets.close()
            return 1
        supervisor = Supervisor(
            instance,
            sockets,
            run,
            background=background,
            notify=notify,
            on_worker_death=partial(_worker_died, layout),
        )
        return supervisor.run()
    finally:
        instance.release()


def _prepare(layout: Layout, options: ServeOptions) -> int:
    try:
        boot = house.read_bootstrap(layout)
        house.migrate(layout, boot)
        uvloop.run(_first(layout, options))
    except MailError as error:
        _log.error("cannot start", error=str(error), detail=error.detail)
        print(f"postroom: {error}", file=sys.stderr)  # noqa: T201 - a person started us
        return 1
    return 0


async def _first(layout: Layout, options: ServeOptions) -> None:
    async with house.open_house(layout) as opened:
        clear_unfinished(opened.blobs)
        await first_start.keys_of_secrets(opened)
        await opened.mail.write(_free_all, opened)
        await _take_back(opened, _holders(opened))
        await opened.state.write(_free_maildrops, opened)
        if opened.indexer is not None:
            await opened.indexer.reconcile()
        made = None
        if await first_start.is_new(opened):
            password = random_password()
            secret = await asyncio.to_thread(make_secret, password)
            made = await first_start.make(opened, options.domain, password, secret)
        _certificate(layout, [opened.hostname, opened.default_domain])
        if made is not None:
            print(_welcome(made, options), flush=True)  # noqa: T201 - printed once, for a person


def _welcome(made: first_start.FirstStart, options: ServeOptions) -> str:
    bound = options.bind[0] if options.bind else ""
    host = _LOOPBACK_OF.get(bound, bound)
    smtp, imaps = 25 + options.port_offset, 993 + options.port_offset
    return first_start.welcome(made, _command(options.data), host, smtp, imaps)


def _command(data: str) -> str:
    """The words that start `postroom` on this directory in the shell that started us."""
    program = os.path.join(os.path.dirname(sys.executable), "postroom")
    if shutil.which("postroom") == program or not os.path.exists(program):
        program = "postroom"
    elif not (below := os.path.relpath(program)).startswith(os.pardir):
        program = below
    words = [program] if data == DATA else [program, "--data", data]
    return shlex.join(words)


def _free_all(tx: Tx, opened: MailHouse) -> None:
    """Free what a killed server's workers had leased: those whom they served wait no longer."""
    for holder in _holders(opened):
        _release(tx, holder)


def _free_maildrops(tx: Tx, opened: MailHouse) -> None:
    """`_free_all`, in state."""
    for holder in _holders(opened):
        maildrop.free_all_of(tx, holder)


def _holders(opened: MailHouse) -> list[int]:
    """Everybody of this node: its workers, and the process beside them."""
    return [house.holder_of(opened, index) for index in range(WORKERS_MOST + 1)]


async def _take_back(opened: MailHouse, holders: list[int]) -> None:
    """Copies of dead workers that did not come to their end."""
    now = opened.clock.now()
    while await opened.mail.write_much(unfinished.take_back, holders, now):
        _log.info("a piece of an unfinished copy was taken back")


def _certificate(layout: Layout, names: Sequence[str]) -> None:
    """A self-signed certificate where there is none; what an administrator put there stays."""
    store = CertificateStore(layout.tls)
    try:
        store.reload()
    except MailError:
        chain, key = self_signed(names, SystemClock().now())
        store.write("self-signed", chain, key)


def _worker_died(layout: Layout, index: int, pid: int, status: int) -> None:
    """In a child of the supervisor: free at once what the dead worker had leased."""
    uvloop.run(_free(layout, index))


async def _free(layout: Layout, index: int) -> None:
    async with house.open_house(layout) as opened:
        holder = house.holder_of(opened, index)
        freed = await opened.mail.write(_release, holder)
        freed += await opened.state.write(maildrop.free_all_of, holder)
        if freed:
            _log.info("leases freed", holder=holder, count=freed)
        await _take_back(opened, [holder])


def _release(tx: Tx, holder: int) -> int:
    return queue.release_all_of(tx, holder) + jobs.release_all_of(tx, holder)
