"""SMTP sessions that deliver as a real MTA does: one connection, many messages, PIPELINING.

MAIL, RCPT and DATA go in one write (RFC 2920 §3.1); each message is acknowledged by its 250
before the next begins. Every message differs in its first line, so that no server gains by
storing equal content once.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from array import array
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

from bench.load.apart import own_cpu
from bench.load.signer import Signer
from bench.model import BenchError, Endpoint
from postroom.testing.corpus import average_10k

_CORPUS = 400  # messages, used in turn


@dataclass(frozen=True, slots=True)
class SmtpPlan:
    """What to send. Ends after `messages`, else after `warm` + `seconds`."""

    to: Endpoint
    sessions: int
    recipients: tuple[str, ...]
    seed: int
    seconds: float = 0.0
    warm: float = 0.4  # s at the start that are not counted
    messages: int | None = None
    rate: float | None = None  # messages a second at fixed times; None sends as fast as it can
    sender: str = "sender@example.org"
    password: str | None = None  # sign in as the sender
    signer: Signer | None = None  # each message is by the sender, and bears a DKIM signature


@dataclass(frozen=True, slots=True)
class SmtpResult:
    """What was acknowledged. Times are s; `began` and `ended` are of time.monotonic()."""

    acknowledged: int
    began: float
    ended: float
    latencies: array[float]  # each message from MAIL (or its due time) to its 250
    by_session: tuple[tuple[int, array[float]], ...]  # local port, latencies
    cpu: float  # s of CPU that the client used

    @property
    def per_second(self) -> float:
        return self.acknowledged / (self.ended - self.began)

    @property
    def client_share(self) -> float:
        """How much of one core the client used."""
        return self.cpu / (self.ended - self.began)


def deliver(plan: SmtpPlan) -> SmtpResult:
    """Run the plan to its end. Raises BenchError at the first refusal."""
    return uvloop.run(_deliver(plan))


async def _deliver(plan: SmtpPlan) -> SmtpResult:
    return await _Run(plan).run()


class _Run:
    """All sessions of one plan."""

    def __init__(self, plan: SmtpPlan) -> None:
        self.plan = plan
        own = plan.password is not None or plan.signer is not None
        letters = [
            _written_by(plan.sender, message) if own else message
            for message in average_10k(_CORPUS, plan.seed)
        ]
        if plan.signer is not None:
            letters = [plan.signer.sign(letter) + letter for letter in letters]
        self.bodies = [_stuffed(letter) for letter in letters]
        self.stamp = time.time_ns()
        self.sent = 0
        self.began = 0.0  # of time.monotonic(); the end of the warm-up
        self.until = float("inf")
        self._sessions: list[_Session] = []
        self._idle: deque[_Session] = deque()
        self._due: deque[float] = deque()
        self._finished = 0
        self._ready = 0
        self._all_ready = asyncio.Event()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> SmtpResult:
        loop = asyncio.get_running_loop()
        plan = self.plan
        for number in range(plan.sessions):
            make = partial(_Session, self, plan.recipients[number % len(plan.recipients)])
            _, session = await loop.create_connection(
                make, plan.to.host, plan.to.port, ssl=_context() if plan.to.tls else None
            )
            self._sessions.append(session)
        ready = asyncio.ensure_future(self._all_ready.wait())
        await asyncio.wait((ready, self._done), return_when=asyncio.FIRST_COMPLETED)
        if self._done.done():
            ready.cancel()
            self._done.result()
        now = time.monotonic()
        cpu = own_cpu()
        if plan.messages is None:
            self.began = now + plan.warm
            self.until = self.began + plan.seconds
        else:
            self.began = now
        if plan.rate is None:
            for session in self._sessions:
                session.send_next(now)
        else:
            self._idle.extend(self._sessions)
            loop.call_soon(self._tick, loop, now, 0)
        await self._done
        ended = min(self.until, time.monotonic())
        by_session = tuple((session.port, session.latencies) for session in self._sessions)
        latencies = array("d")
        for _, values in by_session:
            latencies.extend(values)
        for session in self._sessions:
            session.close()
        return SmtpResult(len(latencies), self.began, ended, latencies, by_session, own_cpu() - cpu)

    def _tick(self, loop: asyncio.AbstractEventLoop, first: float, number: int) -> None:
        """Send what is due, to whichever session is free; what is late waits and counts so."""
        rate = cast(float, self.plan.rate)
        now = time.monotonic()
        due = first + number / rate
        while due <= now and due < self.until:
            self._due.append(due)
            number += 1
            due = first + number / rate
        while self._due and self._idle:
            self._idle.popleft().send_next(self._due.popleft())
        if due < self.until:
            loop.call_later(max(0.0, due - now), self._tick, loop, first, number)
        elif not self._due and len(self._idle) == len(self._sessions) and not self._done.done():
            self._done.set_result(None)
        else:
            loop.call_later(0.01, self._tick, loop, first, number)

    def session_ready(self) -> None:
        self._ready += 1
        if self._ready == self.plan.sessions:
            self._all_ready.set()

    def acknowledged(self, session: _Session, now: float) -> None:
        """Called after each 250: give the session its next message, or end it."""
        plan = self.plan
        if plan.rate is not None:
            if self._due:
                session.send_next(self._due.popleft())
            else:
                self._idle.append(session)
        elif now < self.until and (plan.messages is None or self.sent < plan.messages):
            session.send_next(now)
        else:
            self._finished += 1
            if self._finished == plan.sessions and not self._done.done():
                self._done.set_result(None)

    def failed(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(BenchError(reason))

    def content(self) -> tuple[bytes, bytes]:
        """The next message: a first line of its own, and the rest with its final dot."""
        number = self.sent
        self.sent = number + 1
        return b"X-Bench: %d.%d\r\n" % (self.stamp, number), self.bodies[number % _CORPUS]


_GREETING, _EHLO, _AUTH, _ENVELOPE, _BODY, _CLOSED = range(6)


class _Session(asyncio.Protocol):
    """One connection; the replies of a working server are recognised without parsing them."""

    __slots__ = (
        "_envelope",
        "_run",
        "_since",
        "_state",
        "_text",
        "_transport",
        "latencies",
        "port",
    )

    def __init__(self, run: _Run, recipient: str) -> None:
        self._run = run
        self._envelope = (
            f"MAIL FROM:<{run.plan.sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode()
        )
        self._state = _GREETING
        self._text = b""
        self._since = 0.0
        self.latencies: array[float] = array("d")
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def connection_lost(self, error: Exception | None) -> None:
        if self._state != _CLOSED:
            self._run.failed(f"connection lost in state {self._state}: {error}")

    def send_next(self, since: float) -> None:
        """Begin the next message; its latency counts from `since`."""
        self._since = since
        self._state = _ENVELOPE
        self._transport.write(self._envelope)

    def close(self) -> None:
        self._state = _CLOSED
        self._transport.write(b"QUIT\r\n")
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        text = self._text + data if self._text else data
        if not text.endswith(b"\r\n"):
            self._text = text
            return
        if self._state == _BODY:
            if not text.startswith(b"250 "):
                self._run.failed(f"message refused: {text!r}")
                return
            self._text = b""
            now = time.monotonic()
            run = self._run
            if run.began <= now <= run.until:
                self.latencies.append(now - self._since)
            run.acknowledged(self, now)
        elif self._state == _ENVELOPE:
            if b"\r\n354" in text and text.count(b"250 ") >= 2:
                self._text = b""
                self._state = _BODY
                self._transport.writelines(self._run.content())
            elif text.count(b"\r\n") >= 3 or not text.startswith(b"2"):
                self._run.failed(f"envelope refused: {text!r}")
            else:
                self._text = text
        else:
            self._opening(text)

    def _opening(self, text: bytes) -> None:
        last = text[text.rfind(b"\r\n", 0, -2) + 2 if b"\r\n" in text[:-2] else 0 :]
        if last[3:4] == b"-":
            self._text = text
            return
        self._text = b""
        if self._state == _GREETING and last.startswith(b"220"):
            self._state = _EHLO
            self._transport.write(b"EHLO client.example.org\r\n")
        elif self._state == _EHLO and last.startswith(b"250") and b"PIPELINING" in text.upper():
            plan = self._run.plan
            if plan.password is None:
                self._run.session_ready()
            else:
                self._state = _AUTH
                said = base64.b64encode(f"\0{plan.sender}\0{plan.password}".encode())
                self._transport.write(b"AUTH PLAIN " + said + b"\r\n")
        elif self._state == _AUTH and last.startswith(b"235"):
            self._run.session_ready()
        elif self._state != _CLOSED:
            self._run.failed(f"no session: {text!r}")


_FROM = re.compile(rb"^From:[^\n]*\n(?:[ \t][^\n]*\n)*", re.MULTILINE | re.IGNORECASE)


def _written_by(sender: str, message: bytes) -> bytes:
    """The message under the address of who signs in: a submission server wants that."""
    return _FROM.sub(b"From: <%s>\r\n" % sender.encode(), message, count=1)


def _context() -> ssl.SSLContext:
    """TLS that believes anybody: the servers under test have certificates of their own making."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _stuffed(message: bytes) -> bytes:
    """The message as it goes over the wire, with its final dot. RFC 5321 §4.5.2."""
    stuffed = message.replace(b"\r\n.", b"\r\n..")
    return (b"." + stuffed if message.startswith(b".") else stuffed) + b".\r\n"
