"""THREAD and UID THREAD. RFC 5256 §3.

What joins messages is read once from their header blocks and kept, as it never changes; the
threads are made in a thread of their own where there are many messages.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

import structlog

from postroom.core.errors import LimitReached, MailError
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.reading import ToJoin
from postroom.formats import envelope, headers
from postroom.formats.folding import fold
from postroom.formats.parsed import MAKER_VERSION, REFERENCES_MAX, message_ids
from postroom.formats.subject import base_subject
from postroom.protocols.imap.commands.search import find, heed_numbers
from postroom.protocols.imap.conversations import (
    Joined,
    Node,
    by_latest,
    by_references,
    by_subject,
    rendered,
)
from postroom.protocols.imap.filters import expanded
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.kept import Block
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.values import Make, parsed_again, values_of
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx
from postroom.wire.imap import BadSyntax, Command, parse_thread, untagged

MOST: Final = 250_000
"""Messages in one answer: all of them are held at once."""

FEW: Final = 50
"""Messages that are joined on the loop."""

PIECE: Final = 128
"""Header blocks in one turn of a thread of the store."""

_ALGORITHMS: Final[dict[str, Callable[[Sequence[Joined]], list[Node]]]] = {
    "ORDEREDSUBJECT": by_subject,
    "REFERENCES": by_references,
    "REFS": by_latest,
}
_QUOTED: Final = re.compile(rb'<"((?:[^"\\]++|\\.)*+)"(?=@)', re.DOTALL)
_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_NOTHING: Final = Joined(b"", (), "", False, 0)
_log: Final = structlog.get_logger("postroom.imap")


async def thread(session: Session, command: Command) -> None:
    """RFC 5256 §3. What another session removed meanwhile has no part in it."""
    uid = command.name == b"UID THREAD"
    asked = parse_thread(command.args)
    key = await expanded(session, asked.key)
    heed_numbers(session, key, uid=uid)
    algorithm = _ALGORITHMS.get(asked.algorithm)
    if algorithm is None:
        raise BadSyntax("This way of threading is not known here")
    uids = (await find(session, key, uid=True)).numbers
    if len(uids) > MOST:
        raise LimitReached("These are too many messages to thread at once")
    messages = await values_of(session, "THREAD", uids, _maker(session), _NOTHING)
    numbers = uids if uid else list(session.open.view.numbers(uids)) if uids else []
    if len(uids) <= FEW:
        told = rendered(algorithm(messages), numbers)
    else:
        told = await asyncio.to_thread(_told, algorithm, messages, numbers)
    session.write(untagged(b"THREAD", told) if told else untagged(b"THREAD"))
    await finish(session, command, "Threaded")


def _told(
    algorithm: Callable[[Sequence[Joined]], list[Node]],
    messages: Sequence[Joined],
    numbers: Sequence[int],
) -> bytes:
    return rendered(algorithm(messages), numbers)


# --- what joins messages -------------------------------------------------------------------------


def _maker(session: Session) -> Make[Joined]:
    async def make(box: int, first: int, last: int) -> Block[Joined]:
        house = session.shared.house
        rows = await house.mail.read(reading.to_join, box, first, last)
        found: dict[int, Joined] = {}
        whole = all(row.version == MAKER_VERSION for row in rows)
        for start in range(0, len(rows), PIECE):
            piece = [row for row in rows[start : start + PIECE] if row.version is not None]
            made = await house.mail.read_much(_joined, house.blobs, piece)
            whole = whole and len(made) == len(piece)
            found.update(made)
            await session.output.drain()
        lost = [row.uid for row in rows if row.version is None]
        again = await parsed_again(session, lost) if lost else {}
        for uid, (placed, parsed) in again.items():
            references = parsed.references or parsed.in_reply_to[:1]
            sent = placed.received_at if parsed.sent_at is None else parsed.sent_at
            found[uid] = _of(parsed.message_id, references, parsed.subject, sent)
        octets = sum(
            2 * len(each.subject) + 8 + 41 * len(each.references) for each in found.values()
        )
        return Block(found, last if whole else 0, octets)

    return make


def _joined(tx: Tx, blobs: Blobs, rows: Sequence[ToJoin]) -> dict[int, Joined]:
    """By UID; what cannot be read is logged and passed over."""
    places = [(row.blob, 0, row.header_size) for row in rows]
    found: dict[int, Joined] = {}
    for row, data in zip(rows, reading.parts(tx, places), strict=True):
        try:
            raw = data if data is not None else blobs.read(tx, row.blob, 0, row.header_size)
        except MailError as error:
            name = external(BLOB, row.blob)
            _log.warning("a message cannot be threaded", blob=name, detail=error.detail)
            continue
        fields = envelope.read(headers.scan(raw), raw)
        references = (
            message_ids(fields.references)[-REFERENCES_MAX:]
            or message_ids(fields.in_reply_to or b"")[:1]
        )
        found[row.uid] = _of(row.message_id, references, row.subject, row.sent)
    return found


def _of(message_id: bytes | None, references: Sequence[bytes], subject: str, sent: int) -> Joined:
    base, answers = base_subject(subject)
    own = _short(message_id) if message_id else b""
    return Joined(own, tuple(map(_short, references)), fold(base), answers, sent)


def _short(message_id: bytes) -> bytes:
    """Ids are as long as strangers like; two that differ have different digests, unless they differ
    in their quoting alone: RFC 5256 §3, REFERENCES."""
    quoted = _QUOTED.match(message_id)
    if quoted is not None:
        message_id = b"<" + _PAIR.sub(rb"\1", quoted[1]) + message_id[quoted.end() :]
    return blake2b(message_id, digest_size=12).digest()
