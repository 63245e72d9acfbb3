"""The bus's *tell*: what was committed is told to whoever listens in this process.

Hints only: the store is the truth. `server.bus` carries them to the other workers as well.
Events of one kind, the keyed one, are told by key: a session that idles on one account hears
of that account alone, however many accounts change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Generic, TypeVar

import structlog

from postroom.core import metrics

E = TypeVar("E")
K = TypeVar("K")
Unsubscribe = Callable[[], None]

TOLD: Final = metrics.counter("bus.told", "events", "Events that were told in this process")
FAILED: Final = metrics.counter("bus.failed", "calls", "Listeners that raised when told")

_log: Final = structlog.get_logger("postroom.bus")


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


def _forget(table: dict[object, Any], token: object) -> None:
    table.pop(token, None)


def _call(callback: Callable[..., None], *events: object) -> None:
    try:
        callback(*events)
    except Exception:
        FAILED.add()
        _log.exception("a listener failed", told=[type(event).__name__ for event in events])
