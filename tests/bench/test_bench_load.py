"""The load clients send what they claim, and refuse to measure a server that refuses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from bench.load.imap import Imap, ends_with_tagged
from bench.load.imap_many import ImapPlan, run_imap
from bench.load.smtp import SmtpPlan, deliver
from bench.model import BenchError, Endpoint
from postroom.testing.corpus import average_10k


@contextmanager
def listening(serve: Callable[..., object]) -> Iterator[Endpoint]:
    """A server in a thread of its own, on a free port."""
    started = threading.Event()
    found: list[Endpoint] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 23)  # type: ignore[arg-type]  # a coroutine function of two streams
        found.append(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert started.wait(5)
    try:
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


class Mx:
    """An SMTP server that keeps what it is sent, in small slices."""

    def __init__(self, refuse_after: int = 10**9, pipelining: bool = True) -> None:
        self.messages: list[bytes] = []
        self.recipients: list[bytes] = []
        self._refuse_after = refuse_after
        self._pipelining = pipelining

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220-two\r\n220 lines\r\n")
        while line := await reader.readline():
            if line.startswith(b"EHLO"):
                more = b"250-PIPELINING\r\n" if self._pipelining else b""
                writer.write(b"250-mx\r\n" + more + b"250 8BITMIME\r\n")
            elif line.startswith(b"MAIL"):
                writer.write(b"250 2.1.0 O")
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(b"k\r\n")
            elif line.startswith(b"RCPT"):
                self.recipients.append(line)
                writer.write(b"250 2.1.5 Ok\r\n")
            elif line.startswith(b"DATA"):
                writer.write(b"354 Go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                self.messages.append(content)
                refused = len(self.messages) > self._refuse_after
                writer.write(b"451 4.3.0 Later\r\n" if refused else b"250 2.0.0 Ok\r\n")
            elif line.startswith(b"QUIT"):
                writer.write(b"221 2.0.0 Bye\r\n")
                break
        writer.close()


def plan(to: Endpoint, **more: float) -> SmtpPlan:
    base = SmtpPlan(to, 3, ("a@bench.example", "b@bench.example"), 1)
    return SmtpPlan(
        base.to,
        base.sessions,
        base.recipients,
        base.seed,
        seconds=more.get("seconds", 0.0),
        warm=more.get("warm", 0.1),
        messages=int(more["messages"]) if "messages" in more else None,
        rate=more.get("rate"),
    )


def test_smtp_delivers_the_corpus_unchanged_and_never_twice_the_same() -> None:
    mx = Mx()
    with listening(mx.serve) as to:
        result = deliver(plan(to, messages=60))
    assert result.acknowledged == len(result.latencies) == len(mx.messages) >= 60
    assert len(set(mx.messages)) == len(mx.messages)
    sent = set(average_10k(400, 1))
    for content in mx.messages:
        first, _, rest = content.partition(b"\r\n")
        assert first.startswith(b"X-Bench: ")
        unstuffed = b"\r\n".join(
            line[1:] if line.startswith(b".") else line for line in rest[:-3].split(b"\r\n")
        )
        assert unstuffed in sent
    assert {line.split(b"<")[1] for line in mx.recipients} == {
        b"a@bench.example>\r\n",
        b"b@bench.example>\r\n",
    }


def test_smtp_counts_only_what_falls_into_the_measured_time() -> None:
    mx = Mx()
    with listening(mx.serve) as to:
        result = deliver(plan(to, seconds=0.3, warm=0.2))
    assert 0 < result.acknowledged < len(mx.messages)
    assert result.ended - result.began == pytest.approx(0.3)


def test_smtp_at_a_fixed_rate_sends_as_many_as_are_due() -> None:
    mx = Mx()
    with listening(mx.serve) as to:
        deliver(plan(to, seconds=0.5, warm=0.1, rate=50.0))
    assert len(mx.messages) == pytest.approx(30, abs=2)


def test_smtp_refuses_to_measure_a_server_that_refuses() -> None:
    with (
        listening(Mx(refuse_after=5).serve) as to,
        pytest.raises(BenchError, match=r"451 4\.3\.0"),
    ):
        deliver(plan(to, messages=60))


def test_smtp_wants_pipelining() -> None:
    with listening(Mx(pipelining=False).serve) as to, pytest.raises(BenchError, match="no session"):
        deliver(plan(to, messages=10))


class Store:
    """An IMAP server that says OK to everything and keeps what is appended."""

    def __init__(self, capabilities: bytes) -> None:
        self.appended: list[bytes] = []
        self._capabilities = capabilities

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        while line := await reader.readline():
            tag = line.split()[0]
            while line.rstrip().endswith(b"}"):
                size = line.rstrip()[line.rindex(b"{") + 1 : -1]
                if not size.endswith(b"+"):
                    writer.write(b"+ go on\r\n")
                self.appended.append(await reader.readexactly(int(size.rstrip(b"+"))))
                line = await reader.readline()  # a command goes on after a literal
            if b"CAPABILITY" in line:
                writer.write(b"* CAPABILITY IMAP4rev1 " + self._capabilities + b"\r\n")
            if b"BAD" in line:
                writer.write(tag + b" BAD no\r\n")
            else:
                writer.write(tag + b" O")
                await writer.drain()
                writer.write(b"K done\r\n")
        writer.close()


@pytest.mark.parametrize("capabilities", [b"", b"LITERAL+", b"LITERAL+ MULTIAPPEND"])
def test_imap_appends_every_message_however_literals_are_taken(capabilities: bytes) -> None:
    store = Store(capabilities)
    messages = list(average_10k(120, 2))
    with listening(store.serve) as to:
        client = Imap(to, "a", "b")
        assert client.append_all(b"INBOX", messages) == 120
        client.close()
    assert store.appended == messages


def test_imap_raises_for_what_is_not_ok() -> None:
    with listening(Store(b"").serve) as to:
        client = Imap(to, "a", "b")
        with pytest.raises(BenchError, match="BAD"):
            client.command(b"BAD")
        client.close()


@pytest.mark.parametrize("capabilities", [b"", b"LITERAL+"])
def test_imap_many_appends_different_messages_on_every_connection(capabilities: bytes) -> None:
    store = Store(capabilities)
    with listening(store.serve) as to:
        result = run_imap(ImapPlan(to, ("a", "b"), "c", 4, 0.3, 1, mixed=False, warm=0.1))
    assert 0 < result.operations <= len(store.appended)
    assert len(set(store.appended)) == len(store.appended)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (b"t1 OK done\r\n", True),
        (b"* 1 FETCH ()\r\nt1 OK done\r\n", True),
        (b"* 1 FETCH ()\r\nt1 OK done", False),
        (b"* 1 FETCH ()\r\n", False),
        (b"t1 OK in a literal\r\n)\r\n", False),
        (b"", False),
    ],
)
def test_the_tagged_line_is_found_only_at_the_end(text: bytes, ends: bool) -> None:
    assert ends_with_tagged(text, len(text), b"t1") is ends
