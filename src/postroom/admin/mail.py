"""Operations on mail: traces, what can be brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postroom.admin.explain import Now, set_at, story
from postroom.admin.house import AdminHouse
from postroom.admin.settings import shown
from postroom.core.clock import to_datetime
from postroom.core.errors import Malformed, Misuse, NotFound
from postroom.core.ids import MESSAGE, TRACE, external, internal
from postroom.core.operations import argument, operation
from postroom.core.settings import Place, Role, Scope
from postroom.domain import trace
from postroom.domain.directory import people
from postroom.domain.directory.spelling import address_of
from postroom.domain.mailboxes import reading
from postroom.domain.queue import byhand
from postroom.store.sql import Tx

_LIMIT = 1_000
Found = list[tuple[int, dict[str, Any]]]


def _bounded(limit: int) -> int:
    if not 1 <= limit <= _LIMIT:
        raise Misuse(f"A limit is from 1 to {_LIMIT:,}")
    return limit


# --- traces -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TraceOf:
    """Which traces."""

    what: str = argument(
        "A trace id (from a Received field, a reply or the log), a Message-ID, or an address",
    )
    limit: int = argument("How many at most, the latest first", default=20)


@dataclass(frozen=True, slots=True)
class TraceView:
    """One message's way, in plain sentences, and the record that they were made from."""

    id: str
    at: str
    outcome: str
    sentences: tuple[str, ...]
    record: Mapping[str, Any]

    def told(self) -> str:
        head = f"{self.id}  {self.at}  {self.outcome}"
        return "\n".join((head, *(f"  {sentence}" for sentence in self.sentences)))


@operation("trace", Role.ADMIN, changes=False, audited=True)
async def trace_message(house: AdminHouse, asked: TraceOf) -> tuple[TraceView, ...]:
    """Say why a message lies where it lies, or why it was refused."""
    limit = _bounded(asked.limit)
    flow = house.flow
    kept = await flow.mail.read_much(_kept, asked.what, limit)
    refused = await flow.state.read_much(_refused, asked.what, limit)
    found = sorted(kept + refused, key=lambda each: each[0], reverse=True)[:limit]
    if not found:
        raise NotFound(f"There is no trace of {asked.what}")
    views: list[TraceView] = []
    for number, record in found:
        now = await flow.mail.read(_whereabouts, number, record)
        views.append(
            TraceView(
                external(TRACE, number),
                str(record.get("at", "")),
                str(record.get("outcome", "")),
                story(record, now),
                record,
            )
        )
    return tuple(views)


def _trace_id(text: str) -> int | None:
    try:
        return internal(TRACE, text.strip())
    except Malformed:
        return None


def _keys(text: str) -> tuple[str, ...]:
    return trace.message_id_key(text), trace.address_key(text.strip().strip("<>"))


def _kept(tx: Tx, text: str, limit: int) -> Found:
    number = _trace_id(text)
    if number is not None:
        record = trace.get(tx, number)
        return [(number, record)] if record is not None else []
    return _distinct([each for key in _keys(text) for each in trace.find(tx, key, limit)])


def _refused(tx: Tx, text: str, limit: int) -> Found:
    number = _trace_id(text)
    if number is not None:
        record = trace.get_refusal(tx, number)
        return [(number, record)] if record is not None else []
    return _distinct([each for key in _keys(text) for each in trace.find_refusals(tx, key, limit)])


def _distinct(found: Found) -> Found:
    return list(dict(found).items())


def _whereabouts(tx: Tx, number: int, record: Mapping[str, Any]) -> Now:
    happened = tuple(event for _, event in trace.events(tx, number))
    messages = [copy["message"] for copy in record.get("delivered", ())]
    # What the local queue delivered has its id from there.
    messages += [event["message"] for event in happened if "message" in event]
    lies = tuple(reading.whereabouts(tx, messages)) if messages else ()
    places = {text: _named(tx, text) for text in set_at(record)}
    waits = tuple(each.recipient for each in byhand.of_trace(tx, number))
    return Now(lies, waits, happened, places)


def _named(tx: Tx, place: str) -> str:
    """The place of a setting as an operator names it."""
    scope, _, of = place.partition(":")
    if scope == Scope.ACCOUNT and of.isdecimal():
        return shown(tx, Place(Scope.ACCOUNT, of))
    return place


# --- what can be brought back -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecoverableOf:
    """Whose deleted messages."""

    address: str = argument("The account's address")
    limit: int = argument("How many at most, the latest first", default=100)


@dataclass(frozen=True, slots=True)
class RecoverableLine:
    """A deleted message that can be brought back."""

    mailbox: str
    uid: int
    received: str
    until: str
    message: str


@operation("recoverable list", Role.ADMIN, changes=False, audited=True)
async def list_recoverable(house: AdminHouse, asked: RecoverableOf) -> tuple[RecoverableLine, ...]:
    """List the deleted messages of an account that can be brought back."""
    address, limit = address_of(asked.address), _bounded(asked.limit)

    def look(tx: Tx) -> list[reading.Recoverable]:
        return reading.recoverable(tx, people.account(tx, address).id, limit)

    found = await house.flow.mail.read_much(look)
    return tuple(
        RecoverableLine(
            each.path,
            each.uid,
            to_datetime(each.received_at).strftime("%Y-%m-%d %H:%M"),
            to_datetime(each.until).strftime("%Y-%m-%d %H:%M"),
            external(MESSAGE, each.message),
        )
        for each in found
    )
