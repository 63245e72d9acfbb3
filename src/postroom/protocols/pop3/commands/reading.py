"""RETR and TOP: messages, in slices while the peer reads. RFC 1939 §5, §7."""

from __future__ import annotations

from typing import Final

import structlog

from postroom.core.errors import ConnectionLost, Corrupt, MailError, NotFound
from postroom.core.ids import BLOB, external
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.picking import Pick
from postroom.protocols.pop3.session import Session
from postroom.wire.pop3 import Crlf, Reply, Stuffer, Top, parse_number, parse_top

SLICE: Final = 128 * 1024
"""Content is read and sent in slices of this: one frame of the store."""

_log: Final = structlog.get_logger("postroom.pop3")

# Positions in the rows of reading.whole_rows.
_SIZE, _BLOB, _DATA = 3, 7, 8


class Removed(NotFound):
    """Somebody else removed it since the sign-in. RFC 1939 §8 leaves it to the server."""

    sentence = "That message was removed meanwhile"


async def retr(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §5."""
    number = parse_number(argument)
    await _send(session, number, None)
    session.open.read(number)
    return None


async def top(session: Session, argument: bytes) -> Reply | None:
    """RFC 1939 §7."""
    number, lines = parse_top(argument)
    await _send(session, number, Top(lines))
    return None


async def _send(session: Session, number: int, part: Top | None) -> None:
    uid, size = session.open.message(number)
    mail, read = session.shared.house.mail, session.shared.house.blobs.read
    rows = await mail.read(reading.whole_rows, session.open.mailbox.id, Pick(uid, uid))
    # A UID is never given twice; the size is looked at because nobody would notice if it were.
    if not rows or rows[0][_SIZE] != size:
        raise Removed
    blob, data = rows[0][_BLOB], rows[0][_DATA]
    sending = _Sending(part)
    try:
        if data is None:
            much = mail.read_much if size > SLICE else mail.read
            data = await much(read, blob, 0, SLICE)
        at = len(data)
        _whole(at, min(size, SLICE))
    except MailError as error:
        _note(session, blob, error)
        raise
    session.say(Reply(True, f"{size} octets" if part is None else "The top follows"))
    session.output.write(sending.feed(data))
    while at < size and not sending.done:
        await session.output.drain()
        try:
            data = await mail.read_much(read, blob, at, SLICE)
            _whole(len(data), min(size - at, SLICE))
        except MailError as error:
            # Nothing could stand in the place of the rest.
            _note(session, blob, error)
            session.output.abort()
            raise ConnectionLost(detail="a message could not be finished") from error
        at += len(data)
        session.output.write(sending.feed(data))
    session.output.write(sending.finish())
    await session.output.drain()


class _Sending:
    """The way of a message onto the line."""

    __slots__ = ("_crlf", "_part", "_stuffer")

    def __init__(self, part: Top | None) -> None:
        self._crlf = Crlf()
        self._part = part
        self._stuffer = Stuffer()

    @property
    def done(self) -> bool:
        """What is still to come does not pass."""
        return self._part is not None and self._part.done

    def feed(self, data: bytes) -> bytes:
        return self._pass(self._crlf.feed(data))

    def finish(self) -> bytes:
        return self._pass(self._crlf.finish()) + self._stuffer.finish()

    def _pass(self, data: bytes) -> bytes:
        return self._stuffer.feed(data if self._part is None else self._part.feed(data))


def _whole(found: int, wanted: int) -> None:
    if found < wanted:
        raise Corrupt(detail=f"{found} of {wanted} octets")


def _note(session: Session, blob: int, error: MailError) -> None:
    reason = error.detail or str(error)
    _log.error("content not readable", session=session.id, blob=external(BLOB, blob), reason=reason)
    error.detail = ""  # it is in the log
