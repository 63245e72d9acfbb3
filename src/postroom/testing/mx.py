"""A remote mail exchanger of the small internet: takes mail into memory, fails as it is told.

Independent of our own server: it shares the codecs of wire/smtp with it, nothing else. It is
strict with its client: whatever breaks a rule is noted in `complaints`, so that a test can say
`assert not mx.complaints`.

    async with RemoteMx("127.0.0.2", port) as mx:
        mx.on("RCPT", to="ann@b.example", reply="450 4.2.0 later", times=2)
        mx.on("END", drop=True, keep=True)  # takes the message, then its reply is lost
        ...
        assert mx.messages[0].content == b"..."

Different hosts are different addresses (127.0.0.2, 127.0.0.3, ::1) on one port.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import warnings
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from postroom.core.clock import Instant, SystemClock
from postroom.net.certificates import self_signed
from postroom.testing.mx_session import Conversation, Fault, Host, Received, Visit, Wire

__all__ = ["OFFERS", "MxTls", "Received", "RemoteMx", "Visit", "mx_tls"]

OFFERS: Final = (
    "PIPELINING",
    "SIZE 52428800",
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "CHUNKING",
    "BINARYMIME",
    "ENHANCEDSTATUSCODES",
)
"""What a modern host offers. STARTTLS and AUTH are added where they are possible."""

_DAY: Final = 86_400_000  # milliseconds


@dataclass(frozen=True, slots=True)
class MxTls:
    """A certificate for an exchanger; `ca_file` is what a client must trust to believe it."""

    context: ssl.SSLContext
    ca_file: str


def mx_tls(
    folder: Path, names: Iterable[str], *, expired: bool = False, ancient: bool = False
) -> MxTls:
    """A self-signed certificate for `names`; `ancient` speaks nothing newer than TLS 1.0."""
    now = SystemClock().now()
    chain, key = self_signed(names, Instant(now - 1_000 * _DAY) if expired else now)
    made = folder / f"mx-{os.urandom(4).hex()}"
    made.with_suffix(".pem").write_bytes(chain)
    made.with_suffix(".key").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.with_suffix(".pem"), made.with_suffix(".key"))
    if ancient:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
    return MxTls(context, str(made.with_suffix(".pem")))


class RemoteMx:
    """One host. Listens between `start` and `stop`, or as an async context manager."""

    def __init__(
        self,
        ip: str = "127.0.0.1",
        port: int = 0,
        *,
        path: str | None = None,
        name: str = "mx.example",
        offers: Iterable[str] = OFFERS,
        without: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        lmtp: bool = False,
        users: Mapping[str, str] | None = None,
        mechanisms: str = "PLAIN LOGIN",
        listening: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        """`path`: a local socket instead of an address. `users`: sign-in (over TLS) is needed.

        `listening`: without it the port is held but nobody answers. `receive_buffer`: octets
        that the kernel takes for us, so that a stall is soon felt.
        """
        dropped = frozenset(without)
        self.ip = ip
        self.port = port
        self.path = path
        self.lmtp = lmtp
        self._host = Host(
            name,
            [offer for offer in offers if offer.split()[0] not in dropped],
            tls,
            implicit,
            lmtp,
            users,
            mechanisms,
        )
        self._listening = listening
        self._receive_buffer = receive_buffer
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> RemoteMx:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def messages(self) -> list[Received]:
        """What was taken, in order."""
        return self._host.messages

    @property
    def visits(self) -> list[Visit]:
        """Every connection, in order."""
        return self._host.visits

    @property
    def complaints(self) -> list[str]:
        """What clients did against the rules."""
        return self._host.complaints

    @property
    def faults(self) -> list[Fault]:
        """What it is to do wrong, each with how often still; clear it, and it does well."""
        return self._host.faults

    def on(
        self,
        phase: str,
        *,
        to: str | None = None,
        skip: int = 0,
        times: int | None = None,
        reply: str | bytes | None = None,
        slow: float = 0,
        octets: int = 0,
        drop: bool = False,
        reset: bool = False,
        keep: bool = False,
        stall: bool = False,
        endless: bool = False,
    ) -> None:
        """At `phase`, do something else; the first fault that fits counts.

        A phase is CONNECT (before the greeting), GREETING, HANDSHAKE, a verb, CONTENT (when
        more than `octets` of the message are here) or END (the reply to the message; by LMTP
        to each recipient). `to` is a recipient; the first `skip` times pass; it strikes
        `times` times, or always.

        `slow` waits so many seconds first. `reply`: a line, or lines parted by "\\n", or the
        exact octets; 2yz and 3yz let things go on as if they were ours. `drop` closes after
        it, `reset` does so by RST; with `keep` a message that is complete was taken. `stall`
        reads no more and says nothing. `endless` is a reply whose last line never comes.
        """
        self._host.faults.append(
            Fault(phase, to, skip, times, reply, slow, octets, drop, reset, keep, stall, endless)
        )

    async def start(self) -> None:
        """Listen. With port 0 the system chooses one: see `port`."""
        if self.path is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.bind(self.path)
        else:
            family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.ip, self.port))
            self.port = sock.getsockname()[1]
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        sock.setblocking(False)
        self._socket = sock
        if self._listening:
            sock.listen(128)
            self._spawn(self._accept(sock))

    async def stop(self) -> None:
        """Close the door and every connection."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listening)
            sock.setblocking(False)
            if self.path is None:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            visit = Visit(len(self.visits))
            self.visits.append(visit)
            self._spawn(Conversation(self._host, visit, Wire(sock, visit)).serve())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.complaints.append(f"the exchanger itself broke: {error!r}")
