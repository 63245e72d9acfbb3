"""Contents and envelopes, a channel to a RemoteMx, and a server that is a list of replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from postroom.core.errors import ConnectionLost
from postroom.formats.address import Address, parse_mailbox
from postroom.net.smtp import (
    NO_TLS,
    Credentials,
    Fate,
    LocalTarget,
    Mechanism,
    Peek,
    Read,
    Result,
    Session,
    SmtpChannel,
    Steps,
    Target,
    Timeouts,
    TlsWish,
    Work,
    Write,
)
from postroom.net.smtp.steps import T
from postroom.net.wheel import TimerWheel
from postroom.testing.mx import RemoteMx
from postroom.wire.smtp import BadReply, Mail, Rcpt, Reply, ReplyReader

HELLO = "client.example"
SHORT = Timeouts(
    connect=2, tls=2, greeting=2, hello=2, mail=2, rcpt=2, data=2, block=2, end=2, quit=1
)


@dataclass(frozen=True)
class Octets:
    """A content in memory, in slices of `step` octets."""

    octets: bytes = b"Subject: hi\r\n\r\nhello\r\n"
    binary: bool = False
    step: int = 1 << 20
    claims: int | None = None  # as its size, if that is a lie

    @property
    def size(self) -> int:
        return len(self.octets) if self.claims is None else self.claims

    @property
    def eight_bit(self) -> bool:
        return not self.octets.isascii()

    def slices(self) -> Iterator[bytes]:
        for start in range(0, len(self.octets), self.step):
            yield self.octets[start : start + self.step]


def address(text: str) -> Address:
    return parse_mailbox(text)


SENDER = Mail(address("sam@a.example"))


def rcpts(*names: str) -> list[Rcpt]:
    return [Rcpt(address(name if "@" in name else f"{name}@b.example")) for name in names]


def fates(result: Result) -> dict[str, Fate]:
    return {str(each.recipient.forward_path): each.fate for each in result.outcomes}


def codes(result: Result) -> list[int | None]:
    return [each.answer.code for each in result.outcomes]


@asynccontextmanager
async def wheel(tick: float = 0.02) -> AsyncIterator[TimerWheel]:
    made = TimerWheel(asyncio.get_running_loop(), tick=tick)
    try:
        yield made
    finally:
        made.close()


@asynccontextmanager
async def channel_to(
    mx: RemoteMx,
    *,
    tls: TlsWish = NO_TLS,
    timeouts: Timeouts = SHORT,
    credentials: Credentials | Mechanism | None = None,
) -> AsyncIterator[SmtpChannel]:
    """An open channel; aborted at the end if it is still there."""
    target: Target | LocalTarget
    if mx.path is not None:
        target = LocalTarget("lmtp.example", mx.path)
    else:
        target = Target("mx.example", ip_address(mx.ip), mx.port, lmtp=mx.lmtp)
    async with wheel() as turning:
        channel = await SmtpChannel.open(
            target,
            hello=HELLO,
            wheel=turning,
            tls=tls,
            timeouts=timeouts,
            credentials=credentials,
        )
        try:
            yield channel
        finally:
            channel.abort()
            await asyncio.sleep(0)


# --- without a socket ----------------------------------------------------------------------


@dataclass
class Script:
    """A server that answers each write with the next of its replies, and then hangs up."""

    replies: Sequence[bytes]
    said: list[bytes] = field(default_factory=list)

    def __call__(self, octets: bytes) -> bytes | None:
        n = len(self.said)
        self.said.append(octets)
        return self.replies[n] if n < len(self.replies) else None


def play(steps: Steps[T], server: Callable[[bytes], bytes | None], first: bytes = b"") -> T:
    """Run a conversation against `server`, which is given what is written and says what comes
    back (None: nothing more, ever). `first` is there already."""
    reader = ReplyReader()
    reader.feed(first)
    answer: Reply | None = None
    error: Exception | None = None
    try:
        while True:
            step: Any = steps.throw(error) if error is not None else steps.send(answer)
            answer = error = None
            try:
                match step:
                    case Write(octets, _):
                        reader.feed(server(octets) or b"")
                    case Peek(_) if reader.empty:
                        pass
                    case Work(run, _):
                        run()
                    case Read(_) | Peek(_):
                        answer = reader.next()
                        if answer is None:
                            error = ConnectionLost()
            except BadReply as bad:
                error = bad
    except StopIteration as end:
        value: T = end.value
        return value


def ready(*offers: str, lmtp: bool = False, secured: bool = False) -> Session:
    """A session that has greeted a server with these offers."""
    session = Session("mx.example", HELLO, lmtp=lmtp, secured=secured)
    lines = ["mx.example", *offers]
    said = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
    play(session.greeting(), Script([]), b"220 mx.example ready\r\n")
    play(session.hello(), Script([said.encode()]))
    return session


def script(*replies: str | Iterable[str]) -> Script:
    """One reply to each write, or several where they are pipelined; without CRLF."""
    each = ([reply] if isinstance(reply, str) else reply for reply in replies)
    return Script(["".join(f"{line}\r\n" for line in lines).encode() for lines in each])
