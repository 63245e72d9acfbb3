"""What leaves: the messages of a mailbox, page by page, with their content."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from postroom.core.clock import Instant
from postroom.core.errors import Corrupt, MailError
from postroom.domain.mailboxes import flags as bits
from postroom.domain.mailboxes import reading
from postroom.domain.mailboxes.flags import Registry
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.reading import Brief
from postroom.mailflow.house import MailHouse
from postroom.mailflow.transfer.threads import in_thread
from postroom.store import blobs
from postroom.store.blobs import Blobs
from postroom.store.sql import Tx

PAGE: Final = 50
HELD: Final = 8 << 20
"""Octets of content that a page holds in memory; what is larger comes alone, in a file."""
PIECE: Final = 1 << 20


@dataclass(slots=True)
class Outgoing:
    """One message on its way out, with its content in memory or in a file, or with a problem."""

    row: Brief
    flags: tuple[str, ...]
    sha256: bytes = b""
    content: bytes = b""
    file: BinaryIO | None = None
    problem: str = ""

    @property
    def received_at(self) -> Instant:
        return Instant(self.row.received_at)

    def chunks(self) -> Iterator[bytes]:
        """The content, from its beginning."""
        if self.file is None:
            yield self.content
            return
        self.file.seek(0)
        while piece := self.file.read(PIECE):
            yield piece


async def pages(house: MailHouse, box: Mailbox, spool: BinaryIO) -> AsyncIterator[list[Outgoing]]:
    """The messages that are in the mailbox now, ascending by UID, whatever comes meanwhile.

    `spool` is a file of the caller's for content that is too large to be held; each page may
    overwrite it. All content is checked against its hash; what is damaged has a problem.
    """
    after, last = 0, box.uidnext - 1
    while after < last:
        page, after = await house.mail.read_much(_page, house.blobs, box, after, last)
        for each in page:
            if not each.problem and each.row.size > HELD:
                await _spooled(house, each, spool)
        if page:
            yield page


def _page(tx: Tx, of: Blobs, box: Mailbox, after: int, last: int) -> tuple[list[Outgoing], int]:
    """Some messages behind the UID `after`, and the UID behind which the next ones are."""
    registry = bits.registry(tx, box.account)
    rows = reading.brief(tx, box.id, Pick(after + 1, last), PAGE)
    page: list[Outgoing] = []
    octets = 0
    for row in rows:
        octets += row.size
        if page and octets > HELD:
            return page, page[-1].row.uid
        page.append(_outgoing(tx, of, registry, row))
    return page, rows[-1].uid if len(rows) == PAGE else last


def _outgoing(tx: Tx, of: Blobs, registry: Registry, row: Brief) -> Outgoing:
    made = Outgoing(row, registry.flags(row.flags))
    try:
        known = blobs.facts(tx, row.blob)
        made.sha256 = known.sha256
        if row.size <= HELD:
            made.content = of.read_facts(tx, known)
            _verify(hashlib.sha256(made.content).digest(), made)
    except MailError as error:
        made.problem = str(error)
    return made


def _verify(digest: bytes, of: Outgoing) -> None:
    if digest != of.sha256:
        raise Corrupt(detail=f"UID {of.row.uid}: the content has another hash")


async def _spooled(house: MailHouse, each: Outgoing, spool: BinaryIO) -> None:
    """The content by way of the file, a piece at a time."""
    digest = hashlib.sha256()
    await in_thread(spool.truncate, 0)
    spool.seek(0)
    try:
        for start in range(0, each.row.size, PIECE):
            piece = await house.mail.read_much(house.blobs.read, each.row.blob, start, PIECE)
            await in_thread(spool.write, piece)
            digest.update(piece)
        _verify(digest.digest(), each)
    except MailError as error:
        each.problem = str(error)
    each.file = spool
