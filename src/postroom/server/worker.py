"""A worker: everything is constructed here, in the order in which it depends on each other."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import structlog

from postroom.access import Authenticator
from postroom.access.tokens import Tokens
from postroom.admin import AdminHouse, ServerView, WorkerView
from postroom.admin.house import checker
from postroom.core import log
from postroom.core.errors import MailError
from postroom.core.jobs import JOBS
from postroom.domain.events import Changed, DirectoryChanged, QueueReady
from postroom.mailflow.house import MailHouse
from postroom.mailflow.intake import Intake
from postroom.mailflow.searching import INDEX
from postroom.net.accept import Acceptor, Strangers
from postroom.net.certificates import CertificateStore
from postroom.net.connection import Handler, Peer
from postroom.net.wheel import TimerWheel
from postroom.protocols.imap import ImapServer
from postroom.protocols.imap.replies import BUSY as IMAP_BUSY
from postroom.protocols.imap.session import Shared
from postroom.protocols.imap.view import Views
from postroom.protocols.pop3 import Pop3Server
from postroom.protocols.pop3.locks import Locks
from postroom.protocols.pop3.replies import BUSY as POP3_BUSY
from postroom.protocols.pop3.session import Shared as Pop3Shared
from postroom.protocols.smtp import SmtpServer
from postroom.protocols.smtp.replies import BUSY as SMTP_BUSY
from postroom.protocols.smtp.session import Service
from postroom.protocols.smtp.verbs import LMTP, MX, SUBMISSION
from postroom.server.answers import Answering
from postroom.server.background import LONG, follow_settings, long_jobs, nobody_here
from postroom.server.bus import MachineBus
from postroom.server.control import ControlServer
from postroom.server.fork import WorkerContext
from postroom.server.house import Parts, holder_of, open_house
from postroom.server.instance import Layout, WorkerStatus, read_status
from postroom.server.jobs import JobRunner
from postroom.server.promptly import Promptly
from postroom.server.queues import Queues
from postroom.server.reach import Reach
from postroom.server.sockets import Kind
from postroom.trust.checks import Checks
from postroom.trust.lookups import Lookups

DRAIN: Final = 25.0  # seconds: under the supervisor's grace
SWITCH: Final = 0.001  # seconds

_log: Final = structlog.get_logger("postroom.server")

Make = Callable[[Peer], Handler]


async def run_worker(
    context: WorkerContext,
    *,
    parts: Parts = Parts(),  # noqa: B008 - immutable
    reach: Reach = Reach(),  # noqa: B008 - immutable
) -> None:
    """One worker's life. `parts` replaces files, VFS and clock in tests."""
    layout = context.layout
    # The writer's thread waits for the interpreter's lock but twice in a batch; with 5 ms, the
    # default, a busy loop would make all who wait for a commit wait for that.
    sys.setswitchinterval(SWITCH)
    log.RECENT.clear()  # until here they are the supervisor's
    bus = MachineBus(layout.run, context.index, context.workers, background=context.background)
    bus.start()
    async with open_house(layout, worker=context.index, events=bus.tell, parts=parts) as house:
        certificates = CertificateStore(layout.tls)
        await asyncio.to_thread(certificates.reload)
        context.on_reload(partial(_reload, certificates))
        wheel = TimerWheel(asyncio.get_running_loop())
        intake = Intake(house)
        holder = holder_of(house, context.index)
        queues = Queues(house, intake, reach, wheel, holder)
        lookups = Lookups(queues.resolver, house.clock)
        house.checks = Checks(lookups, house.clock)
        bus.subscribe(QueueReady, queues.wake)
        bus.on_overflow(queues.wake)
        changed = asyncio.Event()
        bus.subscribe(DirectoryChanged, lambda event: changed.set())
        bus.on_overflow(changed.set)
        authenticator = Authenticator(
            house.mail,
            house.clock,
            house.policies,
            house.ids,
            default_domain=lambda: house.default_domain,
            node=house.node,
            tokens=Tokens(house.clock, reach.documents(queues.resolver, wheel)),
        )
        tls = partial(certificates.context, clients=True)
        imap = ImapServer(Shared(house, authenticator, bus, Views(), tls, holder=holder))
        locks = Locks(house.state, house.clock, holder)
        pop3 = Pop3Server(Pop3Shared(house, authenticator, locks, tls))
        doors: Mapping[str, tuple[Make, bytes]] = {
            **_smtp_doors(house, intake, authenticator, certificates),
            "imap": (imap.handler, IMAP_BUSY),
            "imaps": (imap.handler, b""),
            "pop3": (pop3.handler, POP3_BUSY.render()),
            "pop3s": (pop3.handler, b""),
        }
        acceptors = _acceptors(context, doors, certificates, wheel, reach)
        Answering(context.index, acceptors).begin(bus)
        administration = AdminHouse(
            house,
            authenticator,
            checker(house),
            partial(_server_view, layout),
            bus.ask,
            queues.dialer,
            lambda host: (certificates.choose(host).public_key,),
            fetcher=reach.fetcher(queues.resolver, wheel),
        )
        controls = [
            ControlServer(bound.sock, administration)
            for bound in context.sockets
            if bound.listener.name == "control"
        ]
        ours = {name: job for name, job in JOBS.items() if name not in LONG}
        jobs = {"": JobRunner(house, house.mail, house.clock, holder, declared=ours)}
        if context.background is None:
            jobs |= long_jobs(house, holder)
        promptly = Promptly(house, jobs[INDEX].wake if INDEX in jobs else nobody_here)
        bus.subscribe(Changed, promptly.changed)
        runners = [
            *(asyncio.create_task(run()) for run in queues.runs),
            *(asyncio.create_task(runner.run()) for runner in jobs.values()),
            asyncio.create_task(promptly.run()),
            asyncio.create_task(pop3.run()),
            asyncio.create_task(follow_settings(house, changed)),
        ]
        for acceptor in acceptors:
            acceptor.start()
        for control in controls:
            control.start()
        context.ready()
        try:
            await context.stopping.wait()
            await _drain(acceptors, controls, queues)
        finally:
            for runner in runners:
                runner.cancel()
            intake.refusals.flush()
            intake.feedback.flush()
            house.copies.flush(house.state)
            await asyncio.gather(*runners, return_exceptions=True)
            await pop3.close()
            await authenticator.close()
            await lookups.close()
            await queues.close()
            bus.close()


def _smtp_doors(
    house: MailHouse,
    intake: Intake,
    authenticator: Authenticator,
    certificates: CertificateStore,
) -> dict[str, tuple[Make, bytes]]:
    """The doors that speak SMTP and LMTP, each with what it says to one too many."""

    def server(service: Service, authenticator: Authenticator | None) -> SmtpServer:
        own = service is SUBMISSION
        tls = None if service is LMTP else partial(certificates.context, clients=own)
        return SmtpServer(
            intake, house.clock, house.ids, lambda: house.hostname, tls, service, authenticator
        )

    busy = SMTP_BUSY.render()
    submission = server(SUBMISSION, authenticator)
    return {
        "smtp": (server(MX, None).handler, busy),
        "submission": (submission.handler, busy),
        "submissions": (submission.handler, b""),
        "lmtp": (server(LMTP, None).handler, busy),
    }


def _acceptors(
    context: WorkerContext,
    doors: Mapping[str, tuple[Make, bytes]],
    certificates: CertificateStore,
    wheel: TimerWheel,
    reach: Reach,
) -> list[Acceptor]:
    loop = asyncio.get_running_loop()
    strangers = Strangers()
    made = []
    for bound in context.sockets:
        door = doors.get(bound.listener.name)
        if door is None:
            continue
        make, busy = door
        # Each door with implicit TLS is one at which our own people sign in.
        tls = certificates.context(clients=True) if bound.listener.kind is Kind.TLS else None
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
                proxy_from=reach.proxy_from,
            )
        )
    return made


async def _drain(acceptors: list[Acceptor], controls: list[ControlServer], queues: Queues) -> None:
    """Finish what is in flight; what does not end in time is cut off."""
    try:
        async with asyncio.timeout(DRAIN):
            ends = [acceptor.shutdown() for acceptor in acceptors]
            await asyncio.gather(*ends, *(control.close() for control in controls), queues.drain())
    except TimeoutError:
        left = [c for acceptor in acceptors for c in acceptor.connections]
        _log.warning("connections cut off", count=len(left))
        for connection in left:
            connection.abort()


def _server_view(layout: Layout) -> ServerView | None:
    """What the supervisor says of all workers, for `postroom status`."""
    told = read_status(layout)
    if told is None:
        return None
    workers = tuple(map(_worker_view, told.workers))
    background = (_worker_view(told.background),) if told.background is not None else ()
    doors = tuple(
        f"{name} {address} {port}" if port else f"{name} {address}"
        for name, address, port in told.listeners
    )
    return ServerView(told.state, workers, doors, background)


def _worker_view(told: WorkerStatus) -> WorkerView:
    return WorkerView(told.index, told.pid, told.state, told.deaths)


def _reload(certificates: CertificateStore) -> None:
    try:
        done = certificates.reload()
    except MailError as error:
        _log.error("certificates not reloaded", error=error.detail or str(error))
        return
    for problem in done.problems:
        _log.warning("certificate", problem=problem)
    _log.info("certificates reloaded", names=done.names)
