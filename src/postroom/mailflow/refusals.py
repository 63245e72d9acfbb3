"""Traces of refusals: written in batches to `state`, under a budget for each source.

Nobody waits for them and they may lose a second; a flood of refusals costs its source its
traces, not the server its disk.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from postroom.core.clock import Clock
from postroom.domain import trace
from postroom.domain.trace import Trace
from postroom.mailflow.batches import Soon
from postroom.store.units import Database

GATHER: Final = 0.2  # seconds
BATCH: Final = 200
BURST: Final = 120
A_MINUTE: Final = 60
SOURCES: Final = 10_000


class Refusals:
    """Gathers the refusals of one worker."""

    def __init__(self, state: Database, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._held: list[Trace] = []
        self._budgets: dict[int, tuple[float, float]] = {}  # source: tokens, when
        self._soon = Soon(GATHER, BATCH)
        self.dropped = 0

    def note(self, ip: IPv4Address | IPv6Address | None, refusal: Trace) -> bool:
        """Keep a refusal, if its source has not used up its budget; returns whether."""
        if not self._spend(_source(ip)):
            self.dropped += 1
            return False
        self._held.append(refusal)
        self._soon.gathered(len(self._held), self.flush)
        return True

    def _spend(self, source: int) -> bool:
        now = self._clock.monotonic()
        tokens, when = self._budgets.get(source, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - when) * A_MINUTE / 60)
        if len(self._budgets) >= SOURCES and source not in self._budgets:
            self._budgets.clear()  # all start afresh: bounded memory before fairness
        self._budgets[source] = (tokens - 1 if tokens >= 1 else tokens, now)
        return tokens >= 1

    def flush(self) -> None:
        """Hand what was gathered to the store."""
        self._soon.written()
        if self._held:
            held, self._held = self._held, []
            self._state.note(trace.note_refusals, held)


def _source(ip: IPv4Address | IPv6Address | None) -> int:
    """Whose budget it is. An IPv6 host owns its whole /64; ourselves are one source."""
    if ip is None:
        return -1
    return int(ip) >> 64 << 64 if isinstance(ip, IPv6Address) else int(ip)
