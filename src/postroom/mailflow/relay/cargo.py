"""One message on its way to another server: the envelope in SMTP's words, and the content."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from postroom.core.errors import StoreFailed
from postroom.domain.queue import QueuedMessage, Recipient
from postroom.formats.address import Address, parse_mailbox
from postroom.formats.recode import to_seven_bit
from postroom.mailflow import sealing, signing
from postroom.mailflow.house import MailHouse
from postroom.net.smtp import Content, NeedsDowngrade
from postroom.store.sql import Tx
from postroom.wire.smtp import Body, Mail, Notify, OriginalRecipient, Rcpt, Return

IN_MEMORY: Final = 1 << 20
"""Octets of a content that are held in memory for its way out."""
RECODED: Final = 16 << 20
"""Octets of a content up to which it is re-encoded for a server that takes ASCII only."""
_PIECE: Final = 1 << 20
_SLICE: Final = 1 << 16
_HEADER_ENDS: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Held:
    """A content in memory."""

    content: bytes
    eight_bit: bool
    binary: bool = False

    @property
    def size(self) -> int:
        return len(self.content)

    def slices(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), _SLICE):
            yield self.content[start : start + _SLICE]

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True)
class Filed:
    """A large content in a file without a name, which is gone with its last user."""

    file: IO[bytes]
    size: int
    eight_bit: bool
    binary: bool = False

    def slices(self) -> Iterator[bytes]:
        for start in range(0, self.size, _SLICE):
            yield os.pread(self.file.fileno(), _SLICE, start)

    def close(self) -> None:
        """The file is gone with this."""
        self.file.close()


async def load(house: MailHouse, message: QueuedMessage) -> Held | Filed:
    """The content of a queued message. Raises MailError if it cannot be read."""
    if message.size <= IN_MEMORY:
        read = house.mail.read if message.size <= _SLICE else house.mail.read_much
        content = await read(_piece, house, message.blob, 0, message.size)
        return Held(content, message.eight_bit)
    try:
        return Filed(await _copied(house, message), message.size, message.eight_bit)
    except OSError as error:  # a disk that is full, above all: this message waits, no other
        raise StoreFailed(detail=str(error)) from error


async def _copied(house: MailHouse, message: QueuedMessage) -> IO[bytes]:
    file = await asyncio.to_thread(_nameless, house.blobs.folder)
    try:
        for start in range(0, message.size, _PIECE):
            piece = await house.mail.read_much(_piece, house, message.blob, start, _PIECE)
            await asyncio.to_thread(file.write, piece)
        await asyncio.to_thread(file.flush)
    except BaseException:
        file.close()
        raise
    return file


def _nameless(folder: str) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder)


def _piece(tx: Tx, house: MailHouse, blob: int, start: int, length: int) -> bytes:
    return house.blobs.read(tx, blob, start, length)


async def seven_bit(content: Held | Filed, need: NeedsDowngrade) -> Held | None:
    """The content for a server that takes ASCII only, or None if it cannot be had without
    breaking it; what signed it has to sign it anew. RFC 6152 §3."""
    if need is not NeedsDowngrade.EIGHT_BIT or content.size > RECODED:
        return None
    whole = b"".join(content.slices())
    made = await asyncio.to_thread(to_seven_bit, whole)
    return Held(made, eight_bit=False) if made is not None else None


async def signed_anew(house: MailHouse, content: Held) -> Held:
    """A content that was re-encoded, with signatures that hold in place of those that we made."""
    signed = await signing.again(house, content.content)
    return Held(await sealing.again(house, signed), content.eight_bit)


# --- the envelope -------------------------------------------------------------------------

_NOTIFY: Final = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


def mail_of(message: QueuedMessage, content: Content, sender: Address | None) -> Mail:
    """MAIL for a queued message, under the reverse-path `sender`.

    SMTPUTF8 only if the header needs it (the addresses speak for themselves): many a client says
    it wherever it is offered, and no server that lacks it would take the message. RFC 6531 §3.2.
    """
    return Mail(
        reverse_path=sender,
        size=message.size,
        body=Body.EIGHT_BIT if message.eight_bit else Body.SEVEN_BIT,
        smtputf8=message.utf8 and not _ascii_header(content),
        ret=Return(message.ret) if message.ret else None,
        envid=message.envid,
    )


def _ascii_header(content: Content) -> bool:
    """Whether the header is known to be ASCII; one without an end in sight is not."""
    if not content.eight_bit:
        return True
    seen = b""
    for piece in content.slices():
        seen = seen[-3:] + piece
        end = seen.find(_HEADER_ENDS)
        if end >= 0 or not seen.isascii():
            return end >= 0 and seen[:end].isascii()
    return seen.isascii()


def rcpt_of(recipient: Recipient) -> Rcpt:
    """RCPT for a queued recipient."""
    notify: Notify | None = None
    if recipient.notify:
        notify = Notify.NEVER
        for word in recipient.notify:
            notify |= _NOTIFY.get(word, Notify.NEVER)
    original = None
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        original = OriginalRecipient(kind, address)
    return Rcpt(parse_mailbox(recipient.address), notify=notify, orcpt=original)
