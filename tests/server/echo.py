"""A small server for tests: the real supervisor over an echo worker.

python echo.py [--workers N] [--grace S] [--die-at-start] [--no-drain] [--background] --data DIR
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from functools import partial

from postroom.core.errors import ConnectionLost, MailError
from postroom.net.accept import Acceptor
from postroom.net.certificates import CertificateStore
from postroom.net.connection import Connection, Peer
from postroom.net.wheel import TimerWheel
from postroom.server.fork import WorkerContext
from postroom.server.instance import Instance, Layout
from postroom.server.notify import Notify, clean_environment
from postroom.server.privileges import restrict
from postroom.server.sockets import Kind, Listener, open_sockets
from postroom.server.supervisor import Supervisor


class Echo:
    """Lines: PID, SLOW (answers after 0.5 s), CRASH, BLOCK (holds the loop); others come back."""

    def __init__(self, peer: Peer) -> None:
        self.connection: Connection | None = None
        self.slow: asyncio.Task[None] | None = None
        self.leaving = False

    def on_connected(self, connection: Connection) -> None:
        self.connection = connection

    def on_bytes(self, data: bytes) -> None:
        assert self.connection is not None
        match data.strip():
            case b"PID":
                self.connection.write(b"%d\n" % os.getpid())
            case b"SLOW":
                self.slow = asyncio.get_running_loop().create_task(self.answer())
            case b"CRASH":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"BLOCK":
                time.sleep(60)
            case _:
                self.connection.write(data)

    async def answer(self) -> None:
        assert self.connection is not None
        await asyncio.sleep(0.5)
        self.connection.write(b"done\n")
        self.slow = None
        if self.leaving:
            self.connection.close()

    def on_eof(self) -> None:
        assert self.connection is not None
        self.connection.close()

    def on_timeout(self) -> None: ...

    def on_shutdown(self) -> None:
        assert self.connection is not None
        self.leaving = True
        if self.slow is None:
            self.connection.write(b"bye\n")
            self.connection.close()

    def on_lost(self, error: ConnectionLost | None) -> None:
        self.connection = None


async def work(options: argparse.Namespace, context: WorkerContext) -> None:
    if options.die_at_start:
        os._exit(3)
    loop = asyncio.get_running_loop()
    wheel = TimerWheel(loop)
    store = CertificateStore(context.layout.tls)
    tls = False
    if os.listdir(context.layout.tls):
        store.reload()
        tls = True
        context.on_reload(lambda: print(store.reload(), file=sys.stderr, flush=True))
    acceptors = []
    for bound in context.sockets:
        secret = store.context() if bound.listener.kind is Kind.TLS else None
        if secret is None or tls:
            acceptors.append(
                Acceptor(loop, bound.sock, bound.listener.name, Echo, wheel, tls=secret)
            )
    for acceptor in acceptors:
        acceptor.start()
    context.ready()
    await context.stopping.wait()
    if options.no_drain:
        await asyncio.sleep(3600)
    await asyncio.gather(*(acceptor.shutdown() for acceptor in acceptors))


async def sweep(context: WorkerContext) -> None:
    """The process that serves nobody: it says which doors it was left with."""
    listening = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    listening.append(str(sock.getsockname()))
        except OSError:
            continue  # no socket
    with open(os.path.join(context.layout.root, "background"), "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {len(context.sockets)} {listening}\n")
    context.ready()
    await context.stopping.wait()


def clear_up(layout: Layout, index: int, pid: int, status: int) -> None:
    with open(os.path.join(layout.root, "deaths"), "a", encoding="ascii") as file:
        file.write(f"{index} {pid} {status} {os.getpid()}\n")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--grace", type=float, default=10)
    parser.add_argument("--wait", type=float, default=5)
    parser.add_argument("--die-at-start", action="store_true")
    parser.add_argument("--no-drain", action="store_true")
    parser.add_argument("--background", action="store_true")
    options = parser.parse_args()
    layout = Layout(options.data)
    notify = Notify.from_environment(os.environ, os.getpid())
    clean_environment()
    restrict()
    try:
        layout.create()
        instance = Instance.acquire(layout, wait=options.wait)
        sockets = open_sockets(
            (
                Listener("echo"),
                Listener("secret", kind=Kind.TLS),
                Listener("control", path=layout.control_socket),
            ),
            options.workers,
            bind=("127.0.0.1",),
        )
    except MailError as error:
        print(error, file=sys.stderr)
        return 1
    supervisor = Supervisor(
        instance,
        sockets,
        partial(work, options),
        background=sweep if options.background else None,
        notify=notify,
        on_worker_death=partial(clear_up, layout),
        grace=options.grace,
    )
    code = supervisor.run()
    instance.release()
    return code


if __name__ == "__main__":
    sys.exit(main())
