"""Operations on what only the workers know: their sessions and their log.

All workers are asked. One that gives no answer in time is named: what it knows is not shown.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from postroom.admin import render
from postroom.admin.house import AdminHouse, number_of
from postroom.admin.questions import CloseSession, FindLines, FindSessions, SessionView
from postroom.core.bus import Answers
from postroom.core.errors import Misuse, NotFound, Unreachable
from postroom.core.ids import SESSION
from postroom.core.operations import argument, operation
from postroom.core.plural import counted
from postroom.core.settings import Role
from postroom.domain.directory.spelling import address_of, named_domain

SESSIONS: Final = 10_000
LINES: Final = 2_000
"""What one operation shows at most."""
EVERY: Final = 0.25
PATIENCE: Final = 1.0
"""Seconds between two looks for new lines, and until an answer says that there are none."""
PLACE_MAX: Final = 16 * 1024
_PLACE: Final = re.compile(r"(?:[0-9]+:[0-9]+\.[0-9]+(?:,[0-9]+:[0-9]+\.[0-9]+)*)?")


@dataclass(frozen=True, slots=True)
class MissingWorker:
    """A worker that gave no answer, and why."""

    worker: int
    why: str

    def told(self) -> str:
        return f"WITHOUT worker {self.worker}: {self.why}"


def who_is_missing(answers: Answers[Any]) -> tuple[MissingWorker, ...]:
    """The workers that gave no answer."""
    return tuple(MissingWorker(w, str(why)) for w, why in sorted(answers.missing.items()))


# --- sessions ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ListSessions:
    """Which sessions."""

    protocol: str = argument("Only of this protocol, such as imap, smtp or submission", default="")
    listener: str = argument("Only of this listener, such as imaps", default="")
    account: str = argument("Only of who signed in with this address", default="")
    domain: str = argument("Only of who signed in with an address of this domain", default="")
    ip: str = argument("Only from this address, or from this network", default="")
    limit: int = argument("How many at most, the oldest first", default=1_000)

    def of_domain(self) -> str:
        return named_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class SessionList:
    """The sessions, and who did not say which it has."""

    sessions: tuple[SessionView, ...]
    more: int  # that fit and are not shown
    missing: tuple[MissingWorker, ...]

    def told_within(self, columns: int) -> str:
        lines = [render.table(self.sessions, columns) if self.sessions else "(none)"]
        if self.more:
            lines.append(f"and {self.more} more: ask for a part of them, or with --limit")
        return "\n".join((*lines, *(each.told() for each in self.missing)))


@operation("session list", Role.DOMAIN_ADMIN, changes=False)
async def list_sessions(house: AdminHouse, asked: ListSessions) -> SessionList:
    """List who is connected: from where, to which listener, how encrypted, signed in as whom, and
    what the session does."""
    if not 1 <= asked.limit <= SESSIONS:
        raise Misuse(f"A limit is from 1 to {SESSIONS:,}")
    answers = await house.ask(
        FindSessions(
            protocol=asked.protocol.lower(),
            listener=asked.listener,
            account=str(address_of(asked.account)) if asked.account else "",
            domain=asked.of_domain(),
            network=_network(asked.ip),
            limit=asked.limit,
        )
    )
    found = [each for answer in answers.by.values() for each in answer.sessions]
    found.sort(key=lambda each: (each.since, each.worker, each.id))
    total = sum(answer.total for answer in answers.by.values())
    shown = tuple(found[: asked.limit])
    return SessionList(shown, total - len(shown), who_is_missing(answers))


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False)) if text else ""
    except ValueError as error:
        raise Misuse(f"{text} is neither an address nor a network") from error


@dataclass(frozen=True, slots=True)
class OneSession:
    """A session to close."""

    id: str = argument("The session's id, as `session list`, the log and traces show it")
    domain: str = argument(
        "Only if who signed in there has an address of this domain", default="", option=True
    )

    def of_domain(self) -> str:
        return named_domain(self.domain) if self.domain else ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """How a session was closed."""

    id: str
    worker: int
    closed: bool

    def told(self) -> str:
        if self.closed:
            return f"{self.id} was told goodbye and closed."
        return f"{self.id} is at work; it is told goodbye and closed when that has ended."


@operation("session close", Role.DOMAIN_ADMIN)
async def close_session(house: AdminHouse, asked: OneSession) -> SessionClosed:
    """Close a session: it is told goodbye in its protocol. A message that was coming in is not
    taken, and its sender has it still; a command that is carried out is carried out."""
    number_of(SESSION, asked.id, "a session")
    answers = await house.ask(CloseSession(asked.id, asked.of_domain()))
    for worker, answer in answers.by.items():
        if answer.found:
            return SessionClosed(asked.id, worker, answer.closed)
    if answers.missing:
        silent = "; ".join(f"worker {w}: {why}" for w, why in answers.missing.items())
        raise Unreachable(
            f"There is no session {asked.id} but perhaps where none answered: {silent}"
        )
    raise NotFound(f"There is no session {asked.id}")


# --- log --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogTail:
    """Which lines."""

    lines: int = argument("How many at most, the last ones", default=100)
    session: str = argument("Only those of this session", default="")
    id: str = argument("Only those that name this id, such as a message's", default="")
    follow: bool = argument("Go on with those that come, until Ctrl-C", default=False)
    after: str = argument("Only those after this place, as the last answer told it", default="")


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of the log."""

    worker: int
    line: Mapping[str, Any]

    def told(self) -> str:
        said = dict(self.line)
        time, level, name, event = (said.pop(key, "") for key in _FIRST)
        trace = said.pop("exception", None)
        pieces = [f"{time} {level:<7} [{self.worker}] {name}: {event}"]
        pieces += [f"{key}={_value(value)}" for key, value in said.items()]
        return " ".join(pieces) + (f"\n{trace}" if trace is not None else "")


_FIRST: Final = ("time", "level", "logger", "event")


def _value(value: object) -> str:
    bare = isinstance(value, str) and value and not any(c in value for c in ' "=\\\n')
    return str(value) if bare else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class LostLines:
    """Lines of a worker that nobody will show: they came faster than they were read."""

    worker: int
    lost: int

    def told(self) -> str:
        return f"WITHOUT {counted(self.lost, 'line')} of worker {self.worker}: read too late"


@dataclass(frozen=True, slots=True)
class LogLines:
    """The last lines, who did not say its own, and where to go on."""

    lines: tuple[LogLine, ...]
    missing: tuple[MissingWorker, ...]
    lost: tuple[LostLines, ...] = ()
    place: str = ""  # after all that every worker has told

    def told(self) -> str:
        told = self.more_told()
        return told if self.lines else f"(none)\n{told}".rstrip("\n")

    def goes_on(self) -> Mapping[str, str]:
        return {"after": self.place}

    def more_told(self) -> str:
        return "\n".join(each.told() for each in self.more_parts())

    def more_parts(self) -> tuple[LostLines | LogLine | MissingWorker, ...]:
        return (*self.lost, *self.lines, *self.missing)


@operation("log tail", Role.ADMIN, changes=False)
async def tail_log(house: AdminHouse, asked: LogTail) -> LogLines:
    """Show the last lines of the log of all workers, in the order of their times. Each worker
    holds its last 2,000 in memory; all others are where its standard error goes, as is all that
    the supervisor says. With --follow it goes on; who reads slower than lines come loses some, and
    is told how many. With --json every line is then an object on a line of its own."""
    if not 1 <= asked.lines <= LINES:
        raise Misuse(f"Lines are from 1 to {LINES:,}")
    if not (asked.follow and asked.after):
        return await _lines(house, asked, asked.lines)
    # Nobody is told of lines: who follows asks again and again, so that what waits for a slow
    # reader is what each worker holds anyway. Short, so that a server that stops is not kept up.
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while True:
        found = await _lines(house, asked, LINES)
        if found.lines or found.lost or loop.time() >= until:
            # Who is missing was told once; what it has to tell comes with a later answer.
            return dataclasses.replace(found, missing=())
        await asyncio.sleep(EVERY)


async def _lines(house: AdminHouse, asked: LogTail, most: int) -> LogLines:
    places = _places(asked.after)
    answers = await house.ask(FindLines(most, asked.session, asked.id, places))
    found = [
        LogLine(worker, json.loads(line))
        for worker, answer in answers.by.items()
        for line in answer.lines
    ]
    found.sort(key=lambda each: (each.line.get("time", ""), each.worker))
    lost = [LostLines(worker, answer.lost) for worker, answer in answers.by.items() if answer.lost]
    # Who gave no answer now is asked from the same place on.
    places = {**places, **{str(w): answer.place for w, answer in answers.by.items()}}
    place = ",".join(f"{worker}:{at}" for worker, at in sorted(places.items()))
    shown = found[-most:] if not asked.after else found
    return LogLines(tuple(shown), who_is_missing(answers), tuple(lost), place)


def _places(text: str) -> dict[str, str]:
    """A place of all workers as each told its own; raises Misuse."""
    if len(text) > PLACE_MAX or not _PLACE.fullmatch(text):
        raise Misuse("This is no place in the log, as an answer tells it")
    return dict(each.split(":") for each in text.split(",")) if text else {}
