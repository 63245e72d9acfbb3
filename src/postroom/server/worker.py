"""A worker: everything is constructed here, in the order in which it depends on each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from postroom.access import Authenticator
from postroom.core.errors import MailError
from postroom.domain.events import QueueReady
from postroom.mailflow.intake import Intake
from postroom.mailflow.localqueue import LocalQueue
from postroom.net.accept import Acceptor, Strangers
from postroom.net.certificates import CertificateStore
from postroom.net.connection import Handler, Peer
from postroom.net.wheel import TimerWheel
from postroom.protocols.imap import ImapServer
from postroom.protocols.imap.replies import BUSY as IMAP_BUSY
from postroom.protocols.imap.session import Shared
from postroom.protocols.imap.view import Views
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.replies import BUSY as SMTP_BUSY
from postroom.server.bus import MachineBus
from postroom.server.fork import WorkerContext
from postroom.server.house import Parts, open_house
from postroom.server.sockets import Kind

DRAIN: Final = 25.0  # seconds: under the supervisor's grace

_log: Final = structlog.get_logger("postroom.server")

Make = Callable[[Peer], Handler]


async def run_worker(context: WorkerContext, *, parts: Parts = Parts()) -> None:  # noqa: B008 - immutable
    """One worker's life. `parts` replaces files, VFS and clock in tests."""
    layout = context.layout
    bus = MachineBus(layout.run, context.index, context.workers)
    bus.start()
    async with open_house(layout, worker=context.index, events=bus.tell, parts=parts) as house:
        certificates = CertificateStore(layout.tls)
        await asyncio.to_thread(certificates.reload)
        context.on_reload(partial(_reload, certificates))
        intake = Intake(house)
        queue = LocalQueue(house, context.index + 1)
        bus.subscribe(QueueReady, lambda event: queue.wake())
        bus.on_overflow(queue.wake)
        authenticator = Authenticator(
            house.mail,
            house.clock,
            house.policies,
            default_domain=lambda: house.default_domain,
            node=house.node,
        )
        smtp = SmtpServer(
            intake, house.clock, house.ids, lambda: house.hostname, certificates.context
        )
        imap = ImapServer(Shared(house, authenticator, bus, Views(), certificates.context))
        doors: Mapping[str, tuple[Make, bytes]] = {
            "smtp": (smtp.handler, SMTP_BUSY.render()),
            "imap": (imap.handler, IMAP_BUSY),
            "imaps": (imap.handler, b""),
        }
        acceptors = _acceptors(context, doors, certificates)
        runner = asyncio.create_task(queue.run())
        for acceptor in acceptors:
            acceptor.start()
        context.ready()
        try:
            await context.stopping.wait()
            await _drain(acceptors)
        finally:
            runner.cancel()
            intake.refusals.flush()
            with contextlib.suppress(asyncio.CancelledError):
                await runner
            await authenticator.close()
            bus.close()


def _acceptors(
    context: WorkerContext, doors: Mapping[str, tuple[Make, bytes]], certificates: CertificateStore
) -> list[Acceptor]:
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    strangers = Strangers()
    made = []
    for bound in context.sockets:
        door = doors.get(bound.listener.name)
        if door is None:
            continue
        make, busy = door
        tls = certificates.context() if bound.listener.kind is Kind.TLS else None
        made.append(
            Acceptor(
                loop,
                bound.sock,
                bound.listener.name,
                make,
                wheel,
                tls=tls,
                strangers=strangers,
                busy=busy,
            )
        )
    return made


async def _drain(acceptors: list[Acceptor]) -> None:
    """Finish what is in flight; what does not end in time is cut off."""
    try:
        async with asyncio.timeout(DRAIN):
            await asyncio.gather(*(acceptor.shutdown() for acceptor in acceptors))
    except TimeoutError:
        left = [c for acceptor in acceptors for c in acceptor.connections]
        _log.warning("connections cut off", count=len(left))
        for connection in left:
            connection.abort()


def _reload(certificates: CertificateStore) -> None:
    try:
        done = certificates.reload()
    except MailError as error:
        _log.error("certificates not reloaded", error=error.detail or str(error))
        return
    for problem in done.problems:
        _log.warning("certificate", problem=problem)
    _log.info("certificates reloaded", names=done.names)
