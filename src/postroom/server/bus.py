"""The bus of one machine: hints go to the other workers as Unix datagrams.

Each worker binds DIR/run/bus-<index>.sock. What it tells is delivered in its own process at
once, and sent as one datagram for each batch and other worker. A hint may be lost: a peer that
is full or missing is passed over, and the next datagram that it takes says so, on which it
compares what it watches with the store. Questions go another way: see `ask`.

A datagram: magic (1 octet), version (1), sender's index (1), flags (1), then events: a tag (1)
and its codec's fixed number of octets. All numbers in network order.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from postroom.core import metrics
from postroom.core.bus import DEADLINE, Answers, Bus, Question, gathered
from postroom.domain.events import Changed, DirectoryChanged, QueueReady, Type
from postroom.net.unix import short_path
from postroom.server.ask import FORMS, Asker, Form

A = TypeVar("A")

MAGIC: Final = 0x50
VERSION: Final = 1
LARGEST: Final = 60 * 1024
"""Octets of a datagram."""
_HEAD: Final = struct.Struct("!BBBB")
_MISSED: Final = 1  # flag: datagrams before this one were lost
_BUFFER: Final = 1 << 20  # octets that a worker's socket holds while its loop is busy
_AT_ONCE: Final = 64  # datagrams read before the loop serves others
_NUDGE: Final = 0.2  # seconds after which a full peer is tried again

SENT: Final = metrics.counter("bus.sent", "datagrams", "Datagrams to other workers")
PASSED_OVER: Final = metrics.counter(
    "bus.passed_over", "datagrams", "Datagrams that a worker could not take", label="reason"
)
RECEIVED: Final = metrics.counter("bus.received", "datagrams", "Datagrams from other workers")
OVERFLOWS: Final = metrics.counter(
    "bus.overflows", "times", "Times at which hints were lost on their way to this worker"
)

_log: Final = structlog.get_logger("postroom.bus")


@dataclass(frozen=True, slots=True)
class Codec:
    """How events of one kind travel; `fields` and `make` are each other's inverse."""

    tag: int  # 1..255; never given to another kind: workers of two releases may talk
    kind: type
    form: struct.Struct
    fields: Callable[[Any], tuple[int, ...]]
    make: Callable[..., object]


CODECS: Final = (
    Codec(
        1,
        Changed,
        struct.Struct("!qqI"),
        lambda e: (e.account, e.modseq, int(e.types)),
        lambda account, modseq, types: Changed(account, modseq, Type(types)),
    ),
    Codec(2, QueueReady, struct.Struct("!q"), lambda e: (e.destination,), QueueReady),
    Codec(3, DirectoryChanged, struct.Struct("!"), lambda e: (), DirectoryChanged),
)


class NotABatch(ValueError):
    """A datagram that this release cannot read."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a datagram says."""

    sender: int
    missed: bool
    events: tuple[object, ...]


class Codecs:
    """The codecs by kind and by tag."""

    def __init__(self, codecs: Sequence[Codec] = CODECS) -> None:
        self._by_kind: Mapping[type, Codec] = {codec.kind: codec for codec in codecs}
        self._by_tag: Mapping[int, Codec] = {codec.tag: codec for codec in codecs}

    def encode(self, events: Iterable[object]) -> Iterator[bytes]:
        """The events in as few pieces as fit a datagram; raises TypeError for an unknown kind."""
        held: list[bytes] = []
        size = _HEAD.size
        for event in events:
            codec = self._by_kind.get(type(event))
            if codec is None:
                raise TypeError(f"no codec for {type(event).__name__}: it cannot leave the worker")
            piece = bytes((codec.tag,)) + codec.form.pack(*codec.fields(event))
            if size + len(piece) > LARGEST:
                yield b"".join(held)
                held, size = [], _HEAD.size
            held.append(piece)
            size += len(piece)
        if held:
            yield b"".join(held)

    def decode(self, datagram: bytes) -> Batch:
        """Raises NotABatch."""
        if len(datagram) < _HEAD.size:
            raise NotABatch("too short")
        magic, version, sender, flags = _HEAD.unpack_from(datagram)
        if magic != MAGIC or version != VERSION:
            raise NotABatch(f"version {version}, this release speaks {VERSION}")
        events: list[object] = []
        at = _HEAD.size
        while at < len(datagram):
            codec = self._by_tag.get(datagram[at])
            if codec is None or at + 1 + codec.form.size > len(datagram):
                raise NotABatch(f"an unknown event at octet {at}")
            events.append(codec.make(*codec.form.unpack_from(datagram, at + 1)))
            at += 1 + codec.form.size
        return Batch(sender, bool(flags & _MISSED), tuple(events))


def account_of(event: Changed) -> int:
    return event.account


def later(before: Changed, after: Changed) -> Changed:
    """Two changes of one account as one."""
    return Changed(before.account, max(before.modseq, after.modseq), before.types | after.types)


def bus_path(run: str, index: int) -> str:
    """The socket of a worker's bus."""
    return os.path.join(run, f"bus-{index}.sock")


class MachineBus(Bus[Changed]):
    """The bus of one worker. Construct on the loop, before anything subscribes; then `start`."""

    def __init__(
        self,
        run: str,
        index: int,
        workers: int,
        codecs: Codecs | None = None,
        forms: Sequence[Form] = FORMS,
        background: int | None = None,
    ) -> None:
        """`run` is the folder of the sockets; it is open to nobody else. `background` is asked as
        the others are, and told of the directory alone: it serves nobody who waits for news.
        """
        super().__init__(Changed, account_of, later)
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._index = index
        self._others = [other for other in range(workers) if other != index]
        self._background = [background] if background is not None and background != index else []
        self._codecs = codecs or Codecs()
        self._open = ExitStack()
        self._sock: socket.socket | None = None
        self._addresses: dict[int, str] = {}
        self._missed: set[int] = set()  # who was passed over, and has to be told so
        self._nudge: asyncio.TimerHandle | None = None
        self._asker = Asker(run, index, self.answer_here, forms)

    def start(self) -> None:
        """Bind, in place of a predecessor, and hear the others."""
        own = bus_path(self._run, self._index)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._open.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        try:
            os.unlink(own)
        except FileNotFoundError:
            pass
        before = os.umask(0o177)
        try:
            with short_path(own) as short:
                sock.bind(short)
        finally:
            os.umask(before)
        for other in (*self._others, *self._background):
            path = self._open.enter_context(short_path(bus_path(self._run, other)))
            self._addresses[other] = path
        self._sock = sock
        self._loop.add_reader(sock.fileno(), self._hear)
        self._asker.start()

    def close(self) -> None:
        """Hear and say nothing more; may be called twice."""
        self._asker.close()
        if self._sock is None:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock = None
        if self._nudge is not None:
            self._nudge.cancel()
            self._nudge = None
        self._open.close()
        try:
            os.unlink(bus_path(self._run, self._index))
        except FileNotFoundError:
            pass

    def tell(self, events: Iterable[object]) -> None:
        """Tell here at once, and the other workers by one datagram each."""
        merged = self.merged(events)
        self.tell_here(merged)
        if self._sock is None:
            return
        if self._others:
            for piece in self._codecs.encode(merged):
                for other in self._others:
                    self._send(other, piece)
        for other in self._background:
            for piece in self._codecs.encode(e for e in merged if type(e) is DirectoryChanged):
                self._send(other, piece)

    async def ask(self, question: Question[A], deadline: float = DEADLINE) -> Answers[A]:
        """Ask every worker of this machine, ourselves among them."""
        pending = {self._index: self.answer_here(question)}
        others = (*self._others, *self._background)
        pending |= {other: self._asker.ask(other, question) for other in others}
        return await gathered(question, pending, deadline)

    # --- sending -----------------------------------------------------------------------------

    def _send(self, other: int, piece: bytes) -> bool:
        sock = self._sock
        if sock is None:
            return False
        flags = _MISSED if other in self._missed else 0
        datagram = _HEAD.pack(MAGIC, VERSION, self._index, flags) + piece
        try:
            sock.sendto(datagram, self._addresses[other])
        except (FileNotFoundError, ConnectionRefusedError):
            # Nobody is there: a successor begins by reading the store.
            self._passed_over(other, "missing")
            return False
        except OSError as error:  # EAGAIN, ENOBUFS: its loop is busy, or ours sends too fast
            self._passed_over(other, "full" if isinstance(error, BlockingIOError) else "failed")
            self._nudge_later()
            return False
        self._missed.discard(other)
        SENT.add()
        return True

    def _passed_over(self, other: int, reason: str) -> None:
        self._missed.add(other)
        PASSED_OVER.add(label=reason)

    def _nudge_later(self) -> None:
        if self._nudge is None:
            self._nudge = self._loop.call_later(_NUDGE, self._nudge_now)

    def _nudge_now(self) -> None:
        """An empty batch: whoever takes it learns that it missed some."""
        self._nudge = None
        for other in tuple(self._missed):
            self._send(other, b"")

    # --- hearing -----------------------------------------------------------------------------

    def _hear(self) -> None:
        for _ in range(_AT_ONCE):
            if self._sock is None:
                return  # a listener closed us
            try:
                datagram = self._sock.recv(LARGEST + 1)
            except BlockingIOError:
                return
            RECEIVED.add()
            try:
                batch = self._codecs.decode(datagram)
            except NotABatch as error:
                _log.warning("a hint could not be read", reason=str(error))
                self._overflow()
                continue
            if batch.missed:
                self._overflow()
            self.tell_here(batch.events)

    def _overflow(self) -> None:
        OVERFLOWS.add()
        self.overflowed()
