"""APPEND: messages stream in, and all of them go into the mailbox by one unit.

RFC 3501 §6.3.11; several messages: RFC 3502; APPENDUID: RFC 4315 §3.
"""

from __future__ import annotations

import asyncio
from typing import Final

from postroom.core.clock import from_datetime
from postroom.core.errors import (
    LimitReached,
    MailError,
    Malformed,
    NotAllowed,
    NotFound,
    OverQuota,
)
from postroom.domain.mailboxes import messages, reading
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import NewMessage, Quota
from postroom.formats.parsed import Parsed, parse
from postroom.protocols.imap.commands.copy import NoTarget
from postroom.protocols.imap.replies import code_of
from postroom.protocols.imap.session import Session
from postroom.store.blobs import ROW_LIMIT, Form, NewBlob, Spool
from postroom.store.units import UNIT_ROWS
from postroom.wire.imap import (
    AppendMessage,
    BadSyntax,
    Command,
    Cursor,
    NeedLiteral,
    compress,
    parse_append,
    parse_append_more,
)

LIGHT: Final = 20
"""Messages that a unit on the loop may place; more go to the writer's thread."""

MOST: Final = UNIT_ROWS // 8
"""Messages of one command: each is some eight rows, and all go into one unit."""


async def append(session: Session, command: Command) -> None:
    """The arguments before the first message; the server then feeds `session.appending`."""
    asked = parse_append(command.args)
    said = _understood(asked.message)
    try:
        box = await session.find(asked.mailbox)
    except NotFound:
        raise NoTarget from None
    session.appending = Appending(session, command, box, said, await session.quota())


def _understood(said: AppendMessage) -> AppendMessage:
    if said.utf8:
        raise BadSyntax("UTF8 needs UTF8=ACCEPT, which is not offered")
    return said


class LineEnds:
    """Makes every line of a stream end in CRLF: a bare LF and a bare CR are line ends too.

    What comes out does not depend on where the stream was cut.
    """

    __slots__ = ("_cr",)

    def __init__(self) -> None:
        self._cr = False  # a CR was last: the next octet says what it is

    def feed(self, data: bytes) -> bytes:
        """What is certain so far, whole lines or not."""
        if self._cr:
            data = b"\r" + data
        self._cr = data.endswith(b"\r")
        if self._cr:
            data = data[:-1]
        pairs = data.count(b"\r\n")
        if data.count(b"\n") == pairs and data.count(b"\r") == pairs:
            return data
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def flush(self) -> bytes:
        """The rest, at the end of the stream."""
        held, self._cr = self._cr, False
        return b"\r\n" if held else b""


class Appending:
    """One APPEND under way. An error is kept until the literal ends, then said under its tag.

    Messages up to a row's size wait in memory, larger ones in files that are durable already; if
    the command comes to nothing the sweeper removes those, as after a crash. They are not unlinked
    here: a unit that was sent off may still be written when the connection is lost.
    """

    __slots__ = (
        "_box",
        "_command",
        "_ends",
        "_failure",
        "_made",
        "_octets",
        "_quota",
        "_said",
        "_session",
        "_spool",
        "tag",
    )

    def __init__(
        self, session: Session, command: Command, box: Mailbox, said: AppendMessage, quota: Quota
    ) -> None:
        self.tag = command.tag
        self._session = session
        self._command = command
        self._box = box
        self._said = said
        self._quota = quota
        self._made: list[tuple[NewBlob, NewMessage]] = []
        self._octets = 0  # of those that are made
        self._spool: Spool | None = None
        self._ends = LineEnds()
        self._failure: MailError | None = None

    async def literal(self, need: NeedLiteral) -> bool:
        """A message is announced: take it, or refuse the command under its tag."""
        try:
            await self._check(need)
        except BadSyntax as error:
            self._session.bad += 1
            self._session.tell(self.tag, "BAD", str(error))
            return False
        except MailError as error:
            self._session.tell(self.tag, "NO", str(error), code_of(error))
            return False
        self._spool = self._session.shared.house.blobs.spool()
        self._ends = LineEnds()
        return True

    async def _check(self, need: NeedLiteral) -> None:
        """Whether a message of this size may come; the unit checks the quota again."""
        if need.binary:
            raise BadSyntax("A binary literal needs BINARY, which is not offered")
        if not need.size:
            # Also how a client takes back an APPEND of several: RFC 3502 §6.3.11.
            raise NotAllowed("A message may not be empty; nothing was appended")
        if len(self._made) >= MOST:
            raise LimitReached("These are too many messages for one APPEND")
        mail, quota = self._session.shared.house.mail, self._quota
        octets, count = await mail.read(reading.usage, self._session.account)
        if quota.octets and octets + self._octets + need.size > quota.octets:
            raise OverQuota
        if quota.messages and count + len(self._made) >= quota.messages:
            raise OverQuota

    def chunk(self, data: memoryview) -> None:
        """Some octets of the message."""
        spool = self._spool
        if spool is None:
            return  # it failed: what still comes is dropped
        octets = bytes(data)
        try:
            if b"\0" in octets:
                raise Malformed("A message may not hold NUL")  # RFC 3501 §9: CHAR8
            spool.write(self._ends.feed(octets))
        except MailError as error:
            self._failure = error
            self._drop()

    async def literal_end(self) -> None:
        """The message is whole: parse it and make it durable. Raises what failed."""
        spool, self._spool = self._spool, None
        if spool is None:
            raise self._failure or Malformed("No message was announced")
        try:
            spool.write(self._ends.flush())
            parsed = await _parsed(spool)
            (blob,) = (await self._session.shared.house.blobs.finish(spool, [Form()])).stored
        finally:
            spool.drop()
        house, said = self._session.shared.house, self._said
        message = NewMessage(
            id=house.ids.new(),
            blob=blob.id,
            size=blob.size,
            received_at=from_datetime(said.date) if said.date is not None else house.clock.now(),
            parsed=parsed,
            flags=tuple(flag for flag in said.flags if flag.lower() != "\\recent"),
        )
        self._made.append((blob, message))
        self._octets += blob.size

    async def part(self, args: Cursor, more: bool) -> None:
        """What follows a message: what is said of the next one, or the end of the command."""
        said = parse_append_more(args, self._said)
        if said is not None:
            self._said = _understood(said)
            return
        session = self._session
        house = session.shared.house
        try:
            write = house.mail.write if len(self._made) <= LIGHT else house.mail.write_much
            stored = await write(
                messages.append,
                session.account,
                self._box.id,
                tuple(self._made),
                self._quota,
                house.clock.now(),
                session.actor,
            )
        except NotFound:
            raise NoTarget from None
        session.appending = None
        uids = compress([each.uid for each in stored])
        code = b"APPENDUID %d %b" % (stored[0].uidvalidity, uids)
        await session.finish(self._command, "Appended", code)

    def abort(self) -> None:
        """The command comes to nothing."""
        self._drop()
        self._made.clear()

    def _drop(self) -> None:
        if self._spool is not None:
            self._spool.drop()
            self._spool = None


async def _parsed(spool: Spool) -> Parsed:
    """Off the loop, unless the message is small."""
    if spool.size <= ROW_LIMIT:
        return parse(spool.content())
    return await asyncio.to_thread(lambda: parse(spool.content()))
