"""What administration asks all workers, and what each of them answers.

Values alone: `server.ask` carries them, `server.answers` answers. A field that is added has a
default, since workers of two releases may ask each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from postroom.core.bus import Question


@dataclass(frozen=True, slots=True)
class SessionView:
    """A connection of a worker."""

    id: str  # empty while its TLS begins: it is no session yet
    worker: int
    protocol: str
    listener: str
    peer: str
    via: str  # the proxy, if one told us the peer
    tls: str
    who: str
    since: str
    state: str
    sent: int  # octets, with what TLS adds


@dataclass(frozen=True, slots=True)
class FindSessions(Question["SessionsFound"]):
    """Which sessions; an empty text excludes none."""

    protocol: str = ""
    listener: str = ""
    account: str = ""  # an address
    domain: str = ""  # of who signed in
    network: str = ""  # an address or a network, with which the peer's has to fit
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class SessionsFound:
    """The oldest of them, up to the limit, and how many there are."""

    sessions: tuple[SessionView, ...]
    total: int


@dataclass(frozen=True, slots=True)
class CloseSession(Question["Closing"]):
    """The session with that id; with `domain`, only if somebody of it signed in there."""

    id: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Closing:
    """Whether it is here; closed, or will be when what is under way has ended."""

    found: bool
    closed: bool = False


@dataclass(frozen=True, slots=True)
class FindMetrics(Question["MetricsFound"]):
    """All of them."""


@dataclass(frozen=True, slots=True)
class MetricsFound:
    """As `core.metrics.snapshot` gives them."""

    metrics: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FindLines(Question["LinesFound"]):
    """The last lines of the log; of those, with a text that they must hold."""

    lines: int
    session: str = ""
    trace: str = ""
    after: Mapping[str, str] = field(default_factory=dict)  # by worker, a place that it told


@dataclass(frozen=True, slots=True)
class LinesFound:
    """Lines as JSON texts, the oldest first; the place after the last line that there is; and how
    many lines came after the place that was asked for, but are not held any more."""

    lines: tuple[str, ...]
    place: str = ""
    lost: int = 0
