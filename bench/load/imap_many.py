"""Many IMAP connections at once from one process: appending, and a mixed day's work."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import cast

import uvloop

from bench.load.apart import own_cpu
from bench.load.imap import METADATA, ends_with_tagged, insecure_tls
from bench.model import BenchError, Endpoint
from postroom.testing.corpus import average_10k

_CORPUS = 200  # messages, used in turn


@dataclass(frozen=True, slots=True)
class ImapPlan:
    """What to do, on `connections` spread over `users` in turn."""

    to: Endpoint
    users: tuple[str, ...]
    password: str
    connections: int
    seconds: float
    seed: int
    mixed: bool  # else APPEND only
    messages: int = 0  # in each INBOX, for the mixed load
    warm: float = 0.4  # s that are not counted


@dataclass(frozen=True, slots=True)
class ImapResult:
    """What was answered OK in the counted time. Times are s."""

    operations: int
    seconds: float
    latencies: array[float]
    cpu: float  # s that the client used

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    @property
    def client_share(self) -> float:
        """How much of one core the client used."""
        return self.cpu / self.seconds


@dataclass(frozen=True, slots=True)
class _Command:
    """What follows the tag; with a literal when `content` is there."""

    text: bytes
    content: bytes | None = None


def run_imap(plan: ImapPlan) -> ImapResult:
    """Run the plan to its end. Raises BenchError at the first answer that is not OK."""
    return uvloop.run(_run(plan))


async def _run(plan: ImapPlan) -> ImapResult:
    return await _Run(plan).run()


class _Run:
    def __init__(self, plan: ImapPlan) -> None:
        self.plan = plan
        self.bodies = list(average_10k(_CORPUS, plan.seed))
        self.stamp = time.time_ns()
        self.began = float("inf")
        self.until = float("inf")
        self.latencies: array[float] = array("d")
        self._appended = 0
        self._ready = 0
        self._finished = 0
        self._gate = asyncio.Event()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> ImapResult:
        plan = self.plan
        loop = asyncio.get_running_loop()
        connections: list[_Connection] = []
        for number in range(plan.connections):
            user = plan.users[number % len(plan.users)]
            commands = self._mixed(Random(plan.seed + number)) if plan.mixed else self._appends()
            make = partial(_Connection, self, user, commands)
            tls = insecure_tls() if plan.to.tls else None
            _, connection = await loop.create_connection(make, plan.to.host, plan.to.port, ssl=tls)
            connections.append(connection)
        gate = asyncio.ensure_future(self._gate.wait())
        await asyncio.wait((gate, self._done), return_when=asyncio.FIRST_COMPLETED)
        if self._done.done():
            gate.cancel()
            self._done.result()
        cpu = own_cpu()
        start = time.monotonic()
        self.began = start + plan.warm
        self.until = self.began + plan.seconds
        for connection in connections:
            connection.send_next(start)
        await self._done
        cpu = (own_cpu() - cpu) * plan.seconds / (plan.warm + plan.seconds)
        for connection in connections:
            connection.close()
        return ImapResult(len(self.latencies), plan.seconds, self.latencies, cpu)

    def ready(self) -> None:
        self._ready += 1
        if self._ready == self.plan.connections:
            self._gate.set()

    def finished(self) -> None:
        self._finished += 1
        if self._finished == self.plan.connections and not self._done.done():
            self._done.set_result(None)

    def failed(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(BenchError(reason))

    def _message(self) -> bytes:
        number = self._appended
        self._appended = number + 1
        return b"X-Bench: %d.%d\r\n" % (self.stamp, number) + self.bodies[number % _CORPUS]

    def _appends(self) -> Iterator[_Command]:
        while True:
            yield _Command(b"APPEND INBOX", self._message())

    def _mixed(self, rng: Random) -> Iterator[_Command]:
        """A day of a mail client, in hundredths: reading leads, one in five changes something."""
        messages = self.plan.messages
        makers: tuple[tuple[int, Callable[[], _Command]], ...] = (
            (25, lambda: _Command(b"FETCH %s " % _range(rng, messages, 50) + METADATA)),
            (25, lambda: _Command(b"FETCH %d (BODY.PEEK[])" % rng.randint(1, messages))),
            (15, lambda: _Command(b"FETCH %s (UID FLAGS)" % _range(rng, messages, 100))),
            (10, lambda: _Command(b"NOOP")),
            (
                15,
                lambda: _Command(
                    b"STORE %d %sFLAGS (%s)"
                    % (
                        rng.randint(1, messages),
                        rng.choice((b"+", b"-")),
                        rng.choice((b"\\Seen", b"\\Flagged")),
                    )
                ),
            ),
            (5, lambda: _Command(b"APPEND INBOX", self._message())),
            (5, lambda: _Command(b"SEARCH SUBJECT budget")),
        )
        table = [make for weight, make in makers for _ in range(weight)]
        while True:
            yield rng.choice(table)()


def _range(rng: Random, messages: int, length: int) -> bytes:
    first = rng.randint(1, max(1, messages - length + 1))
    return b"%d:%d" % (first, min(messages, first + length - 1))


class _Connection(asyncio.Protocol):
    """One connection that always has exactly one command under way."""

    def __init__(self, run: _Run, user: str, commands: Iterator[_Command]) -> None:
        self._run = run
        self._commands = commands
        self._opening: list[bytes] = [
            f'LOGIN "{user}" "{run.plan.password}"'.encode(),
            b"CAPABILITY",
            b"SELECT INBOX",
        ]
        self._literal_plus = False
        self._number = 0
        self._tag = b"*"  # the greeting is awaited like a tagged line
        self._since = 0.0
        self._tail = b""
        self._content: bytes | None = None
        self._started = False
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._closed:
            self._run.failed(f"connection lost: {error}")

    def close(self) -> None:
        self._closed = True
        self._transport.close()

    def send_next(self, now: float) -> None:
        """Begin the next command of the load."""
        self._started = True
        self._since = now
        command = next(self._commands)
        self._number += 1
        self._tag = tag = b"m%06x" % self._number
        content = command.content
        if content is None:
            self._transport.write(tag + b" " + command.text + b"\r\n")
        elif self._literal_plus:
            head = tag + b" " + command.text + b" {%d+}\r\n" % len(content)
            self._transport.writelines((head, content, b"\r\n"))
        else:
            self._content = content
            self._transport.write(tag + b" " + command.text + b" {%d}\r\n" % len(content))

    def data_received(self, data: bytes) -> None:
        tail = (self._tail + data)[-2_000:] if self._tail else data[-2_000:]
        if self._content is not None and tail.endswith(b"\r\n") and b"+ " in tail:
            self._transport.writelines((self._content, b"\r\n"))
            self._content = None
            self._tail = b""
            return
        if not ends_with_tagged(tail, len(tail), self._tag):
            self._tail = tail
            return
        self._tail = b""
        if not self._is_ok(tail):
            self._run.failed(f"not OK: {tail[-300:]!r}")
            return
        if not self._started:
            self._open(tail)
            return
        run = self._run
        now = time.monotonic()
        if run.began <= now <= run.until:
            run.latencies.append(now - self._since)
        if now < run.until:
            self.send_next(now)
        else:
            run.finished()

    def _is_ok(self, tail: bytes) -> bool:
        last = tail[tail.rfind(b"\r\n", 0, -2) + 2 if b"\r\n" in tail[:-2] else 0 :]
        return last.startswith(self._tag + b" OK")

    def _open(self, tail: bytes) -> None:
        """Greeting, LOGIN, CAPABILITY, SELECT; then wait for the others."""
        if b"LITERAL+" in tail.upper():
            self._literal_plus = True
        if not self._opening:
            self._run.ready()
            return
        self._number += 1
        self._tag = b"m%06x" % self._number
        self._transport.write(self._tag + b" " + self._opening.pop(0) + b"\r\n")
