"""What DNS said, for as long as it may be believed; bounded by entries and by octets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

OVERHEAD: Final = 256
"""Octets that an entry costs beside its reply: key, links, small objects."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    expires: float
    cost: int


class Cache(Generic[V]):
    """Forgets what has expired, then what was used longest ago."""

    __slots__ = ("_cost", "_entries", "_most_entries", "_most_octets")

    def __init__(self, most_entries: int, most_octets: int) -> None:
        self._entries: OrderedDict[Hashable, _Entry[V]] = OrderedDict()
        self._most_entries = most_entries
        self._most_octets = most_octets
        self._cost = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def octets(self) -> int:
        """What all entries cost."""
        return self._cost

    def get(self, key: Hashable, now: float) -> V | None:
        """The value, unless its moment has come."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: Hashable, value: V, expires: float, size: int) -> None:
        """Keep `value`, made of `size` octets, until `expires`."""
        self._drop(key)
        self._entries[key] = _Entry(value, expires, size + OVERHEAD)
        self._cost += size + OVERHEAD
        while len(self._entries) > self._most_entries or self._cost > self._most_octets:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        self._entries.clear()
        self._cost = 0

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._cost -= entry.cost
