"""What a worker answers when administration asks all of them."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import structlog

from postroom.admin.questions import (
    CloseSession,
    Closing,
    FindLines,
    FindMetrics,
    FindSessions,
    LinesFound,
    MetricsFound,
    SessionsFound,
    SessionView,
)
from postroom.core import log, metrics
from postroom.core.bus import Bus
from postroom.core.clock import iso
from postroom.net.accept import Acceptor
from postroom.net.connection import Connection
from postroom.net.proxy import Networks
from postroom.net.sessions import Describes

SLICE: Final = 200
"""Connections that are looked at before the loop serves others: about a millisecond."""
DISMISSED: Final = "An administrator closed this session"

_log: Final = structlog.get_logger("postroom.server")


class Answering:
    """Answers for one worker."""

    def __init__(self, worker: int, acceptors: Sequence[Acceptor]) -> None:
        self._worker = worker
        self._acceptors = acceptors

    def begin(self, bus: Bus[Any]) -> None:
        """From now on."""
        bus.answer(FindSessions, self.sessions)
        bus.answer(CloseSession, self.close)
        bus.answer(FindMetrics, self.metrics)
        bus.answer(FindLines, self.lines)

    async def sessions(self, asked: FindSessions) -> SessionsFound:
        """The sessions that fit, the oldest first."""
        networks = (ipaddress.ip_network(asked.network, strict=False),) if asked.network else ()
        found: list[SessionView] = []
        connections = self._connections()
        while piece := tuple(islice(connections, SLICE)):
            for listener, connection in piece:
                view = self._view(listener, connection)
                if view is not None and _fits(view, connection, asked, networks):
                    found.append(view)
            await asyncio.sleep(0)
        found.sort(key=lambda each: each.since)
        return SessionsFound(tuple(found[: asked.limit]), len(found))

    async def close(self, asked: CloseSession) -> Closing:
        """Say goodbye to a session, if it is one of ours."""
        connections = self._connections()
        while piece := tuple(islice(connections, SLICE)):
            for _, connection in piece:
                handler: object = connection.handler
                if not isinstance(handler, Describes):
                    continue
                told = handler.describe()
                if told.id == asked.id and (not asked.domain or _domain(told.who) == asked.domain):
                    closed = handler.dismiss(DISMISSED)
                    _log.info("session closed by an administrator", session=told.id, who=told.who)
                    return Closing(True, closed)
            await asyncio.sleep(0)
        return Closing(False)

    async def metrics(self, asked: FindMetrics) -> MetricsFound:
        """What this process has counted."""
        return MetricsFound(metrics.snapshot())

    async def lines(self, asked: FindLines) -> LinesFound:
        """The last lines of this process's log, or those after a place in it."""
        holding = [f'"session":{json.dumps(asked.session)}'] if asked.session else []
        if asked.trace:
            holding.append(json.dumps(asked.trace)[1:-1])  # under whatever name
        number = _number(asked.after.get(str(self._worker), ""))
        kept, last, lost = log.RECENT.after(number or 0)
        found = await asyncio.to_thread(log.last_lines, kept, asked.lines, *holding)
        return LinesFound(tuple(found), f"{os.getpid()}.{last}", 0 if number is None else lost)

    def _connections(self) -> Iterator[tuple[str, Connection]]:
        # Copies: others come and go between the slices.
        for acceptor in self._acceptors:
            for connection in tuple(acceptor.connections):
                yield connection.peer.listener, connection

    def _view(self, listener: str, connection: Connection) -> SessionView | None:
        """What is shown of a connection; None if it is over."""
        if connection.is_closing:
            return None
        peer = connection.peer
        handler: object = connection.handler
        told = handler.describe() if isinstance(handler, Describes) else None
        beginning = "" if handler is not None else "in its TLS handshake"
        tls = peer.tls
        return SessionView(
            id=told.id if told else "",
            worker=self._worker,
            protocol=told.protocol if told else "",
            listener=listener,
            peer=str(peer.ip) if peer.ip is not None else "local",
            via=str(peer.via or ""),
            tls=f"{tls.version} {tls.cipher}" if tls is not None else "",
            who=told.who if told else "",
            since=iso(told.since) if told else "",
            state=told.state if told else beginning,
            sent=connection.sent,
        )


def _number(place: str) -> int | None:
    """The number of a line of this process; None if the place is none of its own: a worker that
    has the number of one that died tells all that it has."""
    process, _, number = place.partition(".")
    return int(number) if process == str(os.getpid()) and number.isdecimal() else None


def _fits(
    view: SessionView, connection: Connection, asked: FindSessions, networks: Networks
) -> bool:
    ip = connection.peer.ip
    return (
        asked.protocol in ("", view.protocol)
        and asked.listener in ("", view.listener)
        and (not asked.account or view.who.casefold() == asked.account.casefold())
        and (not asked.domain or _domain(view.who) == asked.domain)
        and (not networks or (ip is not None and any(ip in each for each in networks)))
    )


def _domain(who: str) -> str:
    return who.rpartition("@")[2].casefold()
