"""A server that answers while the content is still on its way, and takes no more of it.

RFC 5321 §4.2.1: a 5yz is the last word on a message, whenever it comes. Such a server has read
enough: what it said lies with us, while what we write lies before it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from postroom.net.smtp import (
    NO_TLS,
    Fate,
    Outcome,
    Phase,
    SmtpChannel,
    Target,
    TlsMode,
    TlsWish,
)
from postroom.net.tls import client_context
from postroom.testing.mx import mx_tls

from ..lines import Scenario
from .sending import HELLO, SENDER, SHORT, Octets, rcpts, wheel

MEGABYTE = 1 << 20
LINE = b"x" * 98 + b"\r\n"
LARGE = LINE * 160_000  # beyond what the buffers of both ends hold
TOO_LARGE = b"552 5.3.4 Enough\r\n"


class Peer(threading.Thread):
    """Reads the dialogue and a megabyte, and no more. It answers when all buffers on the way are
    full, or at once; then it holds, closes or resets the connection."""

    def __init__(
        self,
        then: str,
        answer: bytes = TOO_LARGE,
        *,
        chunking: bool = True,
        tls: ssl.SSLContext | None = None,
        at_once: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        self.port: int = self._door.getsockname()[1]
        self._then = then
        self._answer = answer
        self._at_once = at_once
        self._offers = b"250-mx\r\n250 CHUNKING\r\n" if chunking else b"250 mx\r\n"
        self._tls = tls
        self.answered = threading.Event()
        self.over = threading.Event()

    def run(self) -> None:
        line, _ = self._door.accept()
        line.settimeout(20)
        if self._tls is not None:
            line = self._tls.wrap_socket(line, server_side=True)
        with self._door, line, contextlib.suppress(OSError):
            self._converse(line)
            if not self._at_once:
                self.over.wait(0.1)
            line.sendall(self._answer)
            if self._then == "hold":
                self.answered.set()
                self.over.wait(20)
                return
            if self._then == "reset":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.close()  # with octets unread this is a reset, too
            self.answered.set()

    def _converse(self, line: socket.socket) -> None:
        line.sendall(b"220 mx\r\n")
        heard = b""
        for verb, reply in (
            (b"EHLO", self._offers),
            (b"MAIL", b"250 yes\r\n"),
            (b"RCPT", b"250 yes\r\n"),
            (b"", b"354 go\r\n"),
        ):
            while b"\r\n" not in heard:
                heard += line.recv(4096)
            command, _, heard = heard.partition(b"\r\n")
            assert command.startswith(verb)
            if command.startswith(b"BDAT"):
                break
            line.sendall(reply)
        taken = len(heard)
        while taken < MEGABYTE:
            taken += len(line.recv(65_536))


@dataclass(frozen=True)
class Waiting(Octets):
    """Goes on after two megabytes only when the peer has done all that it does: then the next
    thing that we do is to write."""

    peer: Peer | None = None

    def slices(self) -> Iterator[bytes]:
        yield self.octets[: MEGABYTE * 2]
        if self.peer is not None:
            assert self.peer.answered.wait(20)
        yield self.octets[MEGABYTE * 2 :]


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, TlsWish]:
    wish = TlsWish(TlsMode.MUST, client_context(verify=False), "mx.example", implicit=True)
    return mx_tls(tmp_path, ["mx.example"]).context, wish


def sent(play: Scenario, peer: Peer, content: Octets, wish: TlsWish = NO_TLS) -> Outcome:
    """What came of the message, at once; the channel is of no more use."""
    outcomes: list[Outcome] = []

    async def scenario() -> None:
        target = Target("mx.example", ip_address("127.0.0.1"), peer.port)
        # No deadline is near: what is not heard is waited for in vain.
        patient = replace(SHORT, block=10, end=10)
        async with wheel() as turning:
            channel = await SmtpChannel.open(
                target, hello=HELLO, wheel=turning, tls=wish, timeouts=patient
            )
            try:
                result = await channel.send(SENDER, rcpts("ann"), content)
                assert not channel.is_usable
            finally:
                channel.abort()
        outcomes.extend(result.outcomes)

    peer.start()
    try:
        play(scenario)
    finally:
        peer.over.set()
        peer.join(20)
    (outcome,) = outcomes
    return outcome


@pytest.mark.parametrize("then", ["hold", "close", "reset"])
@pytest.mark.parametrize(("chunking", "secured"), [(True, False), (False, False), (True, True)])
def test_an_answer_within_the_content_is_the_answer_to_the_message(
    play: Scenario,
    contexts: tuple[ssl.SSLContext, TlsWish],
    then: str,
    chunking: bool,
    secured: bool,
) -> None:
    peer = Peer(then, chunking=chunking, tls=contexts[0] if secured else None)
    outcome = sent(play, peer, Octets(LARGE), contexts[1] if secured else NO_TLS)
    assert (outcome.fate, outcome.answer.code, outcome.phase) == (
        Fate.PERMANENT,
        552,
        Phase.CONTENT,
    )
    assert str(outcome.answer) == "552 5.3.4 Enough"


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("secured", [True, False])
def test_the_last_word_is_heard_although_writing_fails_first(
    play: Scenario, contexts: tuple[ssl.SSLContext, TlsWish], then: str, secured: bool
) -> None:
    peer = Peer(then, tls=contexts[0] if secured else None, at_once=True)
    content = Waiting(LARGE, peer=peer)
    outcome = sent(play, peer, content, contexts[1] if secured else NO_TLS)
    assert (outcome.fate, outcome.answer.code) == (Fate.PERMANENT, 552)


@pytest.mark.parametrize(
    ("answer", "fate", "code"),
    [
        (b"452 4.3.1 Full\r\n", Fate.TEMPORARY, 452),
        (b"421 4.3.2 Going down\r\n", Fate.TEMPORARY, 421),
        (b"550-5.7.1 No\r\n550 5.7.1 such\r\n", Fate.PERMANENT, 550),
        (b"250 2.0.0 Taken\r\n", Fate.TEMPORARY, None),  # it cannot have been taken
        (b"552 5.3.4 En", Fate.TEMPORARY, None),
    ],
)
def test_whatever_it_is_it_counts_as_what_it_says(
    play: Scenario, answer: bytes, fate: Fate, code: int | None
) -> None:
    outcome = sent(play, Peer("close", answer), Octets(LARGE))
    assert (outcome.fate, outcome.answer.code) == (fate, code)
    assert not outcome.in_doubt


def test_a_word_while_the_last_block_waits_to_be_taken(play: Scenario) -> None:
    """The block is as large as the content, so nothing comes after it: a "250" would be a lie."""
    for answer, fate in ((TOO_LARGE, Fate.PERMANENT), (b"250 Taken\r\n", Fate.TEMPORARY)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("postroom.net.smtp.framing.BLOCK", len(LARGE) * 2)
            outcome = sent(play, Peer("hold", answer), Octets(LARGE, step=len(LARGE)))
        assert outcome.fate is fate
