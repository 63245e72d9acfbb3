"""Traces: one record for each transit, so that every decision can be explained afterwards.

What was kept is traced in `mail`, with its unit; a refusal in `state`, in batches. A record is
JSON, compressed, with a version in front.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson
import zstandard

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt
from postroom.domain.trace import tables
from postroom.store.sql import Tx, keepable

VERSION: Final = 1
_RECORD_LIMIT: Final = 4 * 1024 * 1024
_KEY_LENGTH: Final = 400
_KEYS: Final = 200


class _Tools(threading.local):
    """Compressors are made once and are not shared between threads."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()
_PREFIX: Final = bytes((VERSION,))


@dataclass(frozen=True, slots=True)
class Trace:
    """One transit: its id, when it began, and the record as JSON-ready values."""

    id: int
    at: Instant
    record: dict[str, Any]
    keys: tuple[str, ...] = ()


def message_id_key(message_id: str) -> str:
    """Without the angle brackets, so that either way of asking finds it."""
    return "m:" + keepable(message_id.strip().strip("<>")[:_KEY_LENGTH])


def address_key(address: str) -> str:
    return "a:" + keepable(address[:_KEY_LENGTH].lower())


def pack(record: dict[str, Any]) -> bytes:
    """The record as it is kept: made before the unit, so that the lock is not held for it."""
    try:
        text = orjson.dumps(record)
    except TypeError:
        # A lone surrogate, from octets that were no UTF-8, or a number that JSON seldom sees.
        text = json.dumps(record, ensure_ascii=False).encode(errors="replace")
    return _PREFIX + _tools.compressor.compress(text)


def _unpacked(packed: bytes) -> dict[str, Any]:
    if not packed or packed[0] != VERSION:
        raise Corrupt(detail="a trace of unknown version")
    try:
        if zstandard.frame_content_size(packed[1:]) > _RECORD_LIMIT:
            raise Corrupt(detail="a trace beyond its bound")
        record: dict[str, Any] = orjson.loads(_tools.decompressor.decompress(packed[1:]))
    except (zstandard.ZstdError, ValueError) as error:
        raise Corrupt(detail=f"a trace does not unpack: {error}") from error
    return record


def keep(tx: Tx, trace: int, at: Instant, packed: bytes, keys: tuple[str, ...]) -> None:
    """In `mail`, within the unit of the delivery; `packed` is made by `pack`."""
    tx.run(tables.INSERT_TRACE, id=trace, at=at, record=packed)
    tx.many(tables.INSERT_KEY, [{"key": key, "trace": trace} for key in keys[:_KEYS]])


def note_refusals(tx: Tx, refusals: Iterable[Trace]) -> None:
    """In `state`: refusals, several at once."""
    for trace in refusals:
        tx.run(tables.INSERT_REFUSAL, id=trace.id, at=trace.at, record=pack(trace.record))
        tx.many(
            tables.INSERT_REFUSAL_KEY,
            [{"key": key, "trace": trace.id} for key in trace.keys[:_KEYS]],
        )


def get(tx: Tx, trace: int) -> dict[str, Any] | None:
    """In `mail`: the record of a trace that was kept."""
    row = tx.one(tables.TRACE_ROW, id=trace)
    return _unpacked(row[0]) if row is not None else None


def get_refusal(tx: Tx, trace: int) -> dict[str, Any] | None:
    """In `state`: the record of a refusal."""
    row = tx.one(tables.REFUSAL_ROW, id=trace)
    return _unpacked(row[0]) if row is not None else None


def find(tx: Tx, key: str, limit: int = 20) -> list[tuple[int, dict[str, Any]]]:
    """In `mail`: traces with that key, the latest first."""
    return [(i, _unpacked(r)) for i, r in tx.all(tables.TRACES_OF, key=key, limit=limit)]


def find_refusals(tx: Tx, key: str, limit: int = 20) -> list[tuple[int, dict[str, Any]]]:
    """In `state`: refusals with that key, the latest first."""
    return [(i, _unpacked(r)) for i, r in tx.all(tables.REFUSALS_OF, key=key, limit=limit)]


def latest(tx: Tx, limit: int = 20) -> list[tuple[int, dict[str, Any]]]:
    """In `mail`: the latest traces."""
    return [(i, _unpacked(r)) for i, r in tx.all(tables.LATEST, limit=limit)]


def latest_refusals(tx: Tx, limit: int = 20) -> list[tuple[int, dict[str, Any]]]:
    """In `state`: the latest refusals."""
    return [(i, _unpacked(r)) for i, r in tx.all(tables.LATEST_REFUSALS, limit=limit)]


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """What became of recipients of a transit later: delivered, returned, tried in vain."""

    trace: int
    id: int  # events of a trace are told in the order of their ids
    at: Instant
    record: dict[str, Any]


def add_events(tx: Tx, events: Iterable[TraceEvent]) -> None:
    """In `mail`, within the unit of what happened. The record itself is never rewritten."""
    tx.many(
        tables.INSERT_EVENT,
        [
            {
                "trace": each.trace,
                "id": each.id,
                "at": each.at,
                "record": keepable(json.dumps(each.record, ensure_ascii=False)),
            }
            for each in events
        ],
    )


def events(tx: Tx, trace: int, limit: int = 1000) -> list[tuple[Instant, dict[str, Any]]]:
    """In `mail`: what became of a transit, in order."""
    rows = tx.all(tables.EVENTS_OF, trace=trace, limit=limit)
    return [(Instant(at), json.loads(record)) for at, record in rows]


def forget(tx: Tx, before: Instant, limit: int = 500) -> int:
    """In `mail`: forget traces older than `before`; returns how many."""
    ids = [row[0] for row in tx.all(tables.OLD_TRACES, before=before, limit=limit)]
    if ids:
        tx.run(tables.FORGET_KEYS, ids=ids)
        tx.run(tables.FORGET_EVENTS, ids=ids)
        tx.run(tables.FORGET_TRACES, ids=ids)
    return len(ids)


def forget_refusals(tx: Tx, before: Instant, limit: int = 500) -> int:
    """In `state`: forget refusals older than `before`; returns how many."""
    ids = [row[0] for row in tx.all(tables.OLD_REFUSALS, before=before, limit=limit)]
    if ids:
        tx.run(tables.FORGET_REFUSAL_KEYS, ids=ids)
        tx.run(tables.FORGET_REFUSALS, ids=ids)
    return len(ids)
