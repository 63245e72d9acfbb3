"""The bus: what was committed is *told* to whoever listens, and workers are *asked*.

Told are hints only: the store is the truth. Events of one kind, the keyed one, are told by key:
a session that idles on one account hears of that account alone, however many accounts change.
Asked is what only a process knows of itself: its sessions, its counters, its log. An answer comes
by a deadline or is missing, by name. This class tells and asks this process; `server.bus` carries
both to the other workers of the machine.

Between nodes, a tell will travel by `pg_notify`, and an ask will be passed on by one worker of
each node: `Answers` then names a node beside the worker, and nobody who asks or answers changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from postroom.core import metrics

E = TypeVar("E")
K = TypeVar("K")
A = TypeVar("A")
Unsubscribe = Callable[[], None]

TOLD: Final = metrics.counter("bus.told", "events", "Events that were told in this process")
FAILED: Final = metrics.counter("bus.failed", "calls", "Listeners that raised when told")

ASKED: Final = metrics.counter("bus.asked", "questions", "Questions to all workers", label="kind")
UNANSWERED: Final = metrics.counter(
    "bus.unanswered", "answers", "Answers that did not come", label="reason"
)

DEADLINE: Final = 5.0
"""Seconds that workers have for an answer."""

_log: Final = structlog.get_logger("postroom.bus")


class Question(Generic[A]):
    """What workers are asked; each answers with an `A`. A frozen dataclass of plain values."""

    __slots__ = ()


class Missing(StrEnum):
    """Why a worker gave no answer."""

    GONE = "it is not there"
    LATE = "it did not answer in time"
    FAILED = "it failed, and its log says how"
    TOO_LARGE = "it has more to say than an answer holds"
    STRANGE = "it is of another release"


class NoAnswer(Exception):
    """A worker gives no answer, and why."""

    def __init__(self, why: Missing) -> None:
        super().__init__(str(why))
        self.why = why


@dataclass(frozen=True, slots=True)
class Answers(Generic[A]):
    """What came back, by worker; who was asked stands in one of the two."""

    by: Mapping[int, A]
    missing: Mapping[int, Missing]


class Ask(Protocol):
    """How a question reaches all workers."""

    async def __call__(self, question: Question[A], deadline: float = DEADLINE) -> Answers[A]: ...


class Bus(Generic[K]):
    """Tells events to their listeners, on the loop, at once.

    `keyed` is the kind that `watch` is for; `key` gives its key; `merge` joins two of equal key
    into one that says as much, so that a batch tells each watcher once.
    """

    def __init__(
        self, keyed: type[K], key: Callable[[K], Hashable], merge: Callable[[K, K], K]
    ) -> None:
        self._keyed = keyed
        self._key = key
        self._merge = merge
        # Dicts keep the order of subscription and let go in constant time.
        self._listeners: dict[type, dict[object, Callable[[Any], None]]] = {}
        self._watchers: dict[Hashable, dict[object, Callable[[K], None]]] = {}
        self._doubters: dict[object, Callable[[], None]] = {}
        self._responders: dict[type, Callable[[Any], Awaitable[Any]]] = {}

    # --- tell --------------------------------------------------------------------------------

    def subscribe(self, kind: type[E], callback: Callable[[E], None]) -> Unsubscribe:
        """Call back for every event of `kind`; returns what ends it, which may be called twice."""
        return _enter(self._listeners, kind, callback)

    def watch(self, key: Hashable, callback: Callable[[K], None]) -> Unsubscribe:
        """Call back for events of the keyed kind with that key."""
        return _enter(self._watchers, key, callback)

    def on_overflow(self, callback: Callable[[], None]) -> Unsubscribe:
        """Call back when hints may have been lost: compare what you watch with the store."""
        token = object()
        self._doubters[token] = callback
        return lambda: _forget(self._doubters, token)

    def tell(self, events: Iterable[object]) -> None:
        """Tell events in order, each once. A listener that raises is logged and keeps nobody up."""
        self.tell_here(self.merged(events))

    def tell_here(self, events: Iterable[object]) -> None:
        """Tell merged events to the listeners of this process alone."""
        for event in events:
            TOLD.add()
            # Copies: a listener may end its own or another's subscription.
            for callback in tuple(self._listeners.get(type(event), {}).values()):
                _call(callback, event)
            if isinstance(event, self._keyed):
                for watcher in tuple(self._watchers.get(self._key(event), {}).values()):
                    _call(watcher, event)

    def overflowed(self) -> None:
        """Tell that hints may have been lost."""
        for callback in tuple(self._doubters.values()):
            _call(callback)

    def merged(self, events: Iterable[object]) -> list[object]:
        """The events without repetitions; those of the keyed kind merged by key."""
        kept: dict[Hashable, object] = {}
        for event in events:
            if not isinstance(event, self._keyed):
                kept[event] = event
                continue
            name = (self._keyed, self._key(event))
            before = kept.get(name)
            kept[name] = event if before is None else self._merge(before, event)  # type: ignore[arg-type]  # under this name only the keyed kind is kept
        return list(kept.values())

    # --- ask ---------------------------------------------------------------------------------

    def answer(
        self, kind: type[Question[A]], responder: Callable[[Any], Awaitable[A]]
    ) -> Unsubscribe:
        """Answer questions of `kind` in this process; returns what ends it. On the loop, so in
        slices."""
        if kind in self._responders:
            raise ValueError(f"{kind.__name__} is answered already")
        self._responders[kind] = responder
        return lambda: _forget(self._responders, kind)

    async def ask(self, question: Question[A], deadline: float = DEADLINE) -> Answers[A]:
        """Ask this process, which is worker 0, for an answer in `deadline` seconds."""
        return await gathered(question, {0: self.answer_here(question)}, deadline)

    async def answer_here(self, question: Question[A]) -> A:
        """The answer of this process alone; raises NoAnswer."""
        responder = self._responders.get(type(question))
        if responder is None:
            raise NoAnswer(Missing.STRANGE)
        try:
            answer: A = await responder(question)
        except Exception as error:
            _log.exception("a question was not answered", asked=type(question).__name__)
            raise NoAnswer(Missing.FAILED) from error
        return answer


async def gathered(
    question: Question[A], pending: Mapping[int, Coroutine[Any, Any, A]], deadline: float
) -> Answers[A]:
    """Wait for the answers of workers, for so many seconds; who is late is heard no more."""
    ASKED.add(label=type(question).__name__)
    loop = asyncio.get_running_loop()
    tasks = {worker: loop.create_task(each) for worker, each in pending.items()}
    by: dict[int, A] = {}
    missing: dict[int, Missing] = {}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=deadline)
        for worker, task in sorted(tasks.items()):
            if not task.done():
                missing[worker] = Missing.LATE
            elif isinstance(error := task.exception(), NoAnswer):
                missing[worker] = error.why
            else:
                by[worker] = task.result()
    finally:
        for task in tasks.values():
            task.cancel()
    for why in missing.values():
        UNANSWERED.add(label=why.name.lower())
    return Answers(by, missing)


def _enter(
    table: dict[Any, dict[object, Callable[[Any], None]]],
    under: Any,
    callback: Callable[[Any], None],
) -> Unsubscribe:
    token = object()
    table.setdefault(under, {})[token] = callback

    def leave() -> None:
        held = table.get(under)
        if held is not None and held.pop(token, None) is not None and not held:
            del table[under]

    return leave


def _forget(table: dict[Any, Any], token: object) -> None:
    table.pop(token, None)


def _call(callback: Callable[..., None], *events: object) -> None:
    try:
        callback(*events)
    except Exception:
        FAILED.add()
        _log.exception("a listener failed", told=[type(event).__name__ for event in events])
