"""APPEND: messages stream in, and all of them go into the mailbox by one unit.

RFC 3501 §6.3.11; several messages: RFC 3502; APPENDUID: RFC 4315 §3. REPLACE streams in the same
way, and its unit also takes the old message away: RFC 8508. A literal8 may hold NUL: RFC 3516 §4.4.
CATENATE puts a message together of texts that stream in and of what URLs name: RFC 4469.

A header with octets beyond ASCII is taken from any client. RFC 6855 §4 would have it refused from
one that has not enabled UTF8=ACCEPT; but most such headers are of senders who never heard of it,
and who moves his mail here from elsewhere would lose those messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from postroom.core.clock import Instant, from_datetime
from postroom.core.errors import (
    LimitReached,
    MailError,
    Malformed,
    NotAllowed,
    NotFound,
    OverQuota,
    TooLarge,
)
from postroom.domain.mailboxes import flags, messages, reading, rights
from postroom.domain.mailboxes.change import begin_all
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.messages import NewMessage, Quota, Stored
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.rights import Right
from postroom.domain.mailboxes.sharing import Reached
from postroom.formats import mime
from postroom.formats.parsed import Parsed, parse
from postroom.formats.recode import binary_to_eight_bit
from postroom.mailflow.binary import CannotConvert
from postroom.protocols.imap.commands.copy import NoTarget, no_target
from postroom.protocols.imap.keeping_up import finish
from postroom.protocols.imap.pace import Pace
from postroom.protocols.imap.replies import code_of
from postroom.protocols.imap.selected import may_change
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.urls import BadUrl, Urls
from postroom.store.blobs import ROW_LIMIT, Form, NewBlob, Spool
from postroom.store.sql import Tx
from postroom.store.units import UNIT_ROWS
from postroom.wire.imap import (
    SIGNED_IN,
    URL_LONGEST,
    AppendMessage,
    BadSyntax,
    Command,
    Cursor,
    NeedLiteral,
    Then,
    compress,
    parse_append,
    parse_append_more,
    parse_parts,
)

LIGHT: Final = 20
"""Messages that a unit on the loop may place; more go to the writer's thread."""

MOST: Final = UNIT_ROWS // 8
"""Messages of one command: each is some eight rows, and all go into one unit."""

MOST_PARTS: Final = 500
"""Parts of all CATENATEs of one command: each costs a look at a mailbox and a message."""


class Gone(NotFound):
    """The message to replace is not there, or not any more."""

    sentence = "The message to replace is not there; nothing was stored"


@dataclass(frozen=True, slots=True)
class Replaced:
    """The message of the open mailbox that goes when the new one comes. RFC 8508 §3."""

    box: Mailbox
    uid: int
    octets: int
    retention: int  # milliseconds for which it can be brought back
    actor: int


async def append(session: Session, command: Command) -> None:
    """The arguments before the first message; the server then feeds `session.appending`."""
    asked = parse_append(command.args)
    said = understood(session, asked.message)
    try:
        reached, quota = await session.reach_to_fill(asked.mailbox)
    except NotFound:
        raise no_target(asked.mailbox) from None
    appending = Appending(session, command, reached, said, quota)
    session.appending = appending
    await appending.start(command.args)


def understood(session: Session, said: AppendMessage) -> AppendMessage:
    """What is said of a message, if this client may say it; raises BadSyntax."""
    if said.utf8 and not session.utf8_accept:
        raise BadSyntax("UTF8 needs UTF8=ACCEPT, which was not enabled")  # RFC 6855 §4
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
        "_binary",
        "_box",
        "_command",
        "_copied",
        "_ends",
        "_failure",
        "_made",
        "_octets",
        "_old",
        "_parts",
        "_quota",
        "_raw",
        "_rights",
        "_said",
        "_session",
        "_spool",
        "_then",
        "_url",
        "_urls",
        "tag",
    )

    def __init__(
        self,
        session: Session,
        command: Command,
        to: Reached,
        said: AppendMessage,
        quota: Quota,
        old: Replaced | None = None,
    ) -> None:
        self.tag = command.tag
        self._session = session
        self._command = command
        self._box = to.mailbox
        self._rights = to.rights
        self._said = said
        self._quota = quota
        self._old = old
        self._made: list[tuple[NewBlob, NewMessage]] = []
        self._octets = 0  # of those that are made
        self._spool: Spool | None = None
        self._ends = LineEnds()
        self._binary = False  # something of it came as a literal8
        self._raw = False  # so does what comes now
        self._then: Then | None = None  # inside a CATENATE: what the next literal is
        self._url = bytearray()  # a URL that comes as a literal
        self._urls = Urls(session)
        self._parts = 0  # of all CATENATEs so far
        self._copied = 0  # octets that URLs named
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
        if self._then is Then.URL:
            self._url.clear()
            return True
        if self._spool is None:
            self._begin()
        elif need.binary:
            self._write(self._ends.flush())
        self._raw = need.binary
        self._binary = self._binary or need.binary
        return True

    async def _check(self, need: NeedLiteral) -> None:
        """Whether this literal may come."""
        if self._then is Then.URL:
            if need.binary or need.size > URL_LONGEST:
                raise BadSyntax("This cannot be a URL")
            return
        if (self._said.utf8 or self._then is Then.UTF8) and not need.binary:
            raise BadSyntax("UTF8 takes a binary literal")  # RFC 6855 §4
        if not need.size and self._then is None:
            # Also how a client takes back an APPEND of several: RFC 3502 §6.3.11.
            raise NotAllowed("A message may not be empty; nothing was appended")
        await self._check_room(need.size)

    async def _check_room(self, size: int) -> None:
        """Whether so many octets more of the message may come; the unit checks the quota again."""
        if len(self._made) >= MOST:
            raise LimitReached("These are too many messages for one APPEND")
        if self._spool is not None:
            size += self._spool.size
        if size > SIGNED_IN.append:
            raise TooLarge
        quota = self._quota
        if not quota.octets and not quota.messages:
            return
        mail = self._session.shared.house.mail
        octets, count = await mail.read(reading.usage, self._box.account)
        if self._old is not None and self._old.box.account == self._box.account:
            octets, count = octets - self._old.octets, count - 1  # its room is free by then
        if quota.octets and octets + self._octets + size > quota.octets:
            raise OverQuota
        if quota.messages and count + len(self._made) >= quota.messages:
            raise OverQuota

    def _begin(self) -> None:
        """A message begins."""
        self._spool = self._session.shared.house.blobs.spool()
        self._ends = LineEnds()
        self._raw = self._binary = False

    def _write(self, octets: bytes) -> None:
        """Octets of the message; raises StoreFull, StoreFailed."""
        if self._spool is not None:
            self._spool.write(octets)

    def chunk(self, data: memoryview) -> None:
        """Some octets of the message, or of a URL."""
        if self._spool is None:
            return  # it failed: what still comes is dropped
        octets = bytes(data)
        if self._then is Then.URL:
            self._url += octets
            return
        try:
            if self._raw:
                self._write(octets)  # what they are is seen at the end
                return
            if b"\0" in octets:
                raise Malformed("A message may not hold NUL")  # RFC 3501 §9: CHAR8
            self._write(self._ends.feed(octets))
        except MailError as error:
            self._failure = error
            self._drop()

    async def literal_end(self) -> None:
        """The message is whole, or a part of it. Raises what failed."""
        if self._spool is None:
            raise self._failure or Malformed("No message was announced")
        if self._then is Then.URL:
            await self._copy(bytes(self._url))
        elif self._then is None:
            await self._whole(self._spool)

    async def _whole(self, spool: Spool) -> None:
        """The message is whole: parse it and make it durable."""
        self._spool = None
        try:
            spool.write(self._ends.flush())
            if self._binary:
                spool = await self._lines(spool)
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
            flags=tuple(
                flag
                for flag in said.flags
                if flag.lower() != "\\recent" and may_change(self._rights, flag)
            ),
        )
        self._made.append((blob, message))
        self._octets += blob.size

    async def _catenate(self, args: Cursor) -> None:
        """The parts of a message up to the next literal, or to its end. RFC 4469 §3."""
        if self._spool is None:
            self._begin()
        parts = parse_parts(args, self._then)
        self._parts += len(parts.urls) + (parts.then is not Then.END)
        if self._parts > MOST_PARTS:
            raise LimitReached("These are too many parts for one command")
        if parts.then is Then.UTF8 and not self._session.utf8_accept:
            raise BadSyntax("UTF8 needs UTF8=ACCEPT, which was not enabled")  # RFC 6855 §4
        pace = Pace(self._session.shared.clock)
        for url in parts.urls:
            await self._copy(url)
            if pace.over:
                await pace.rest()
        self._then = parts.then
        if parts.then is not Then.END:
            return
        self._then = None
        if self._spool is None or not self._spool.size:
            raise NotAllowed("A message may not be empty; nothing was appended")
        await self._whole(self._spool)

    async def _copy(self, url: bytes) -> None:
        """What a URL names becomes a part of the message, a slice at a time."""
        found = await self._urls.find(url)
        self._copied += found.length
        if self._copied > SIGNED_IN.append:
            raise TooLarge  # one short line, over and over, would fill the disk
        await self._check_room(found.length)
        async for octets in self._urls.read(url, found):
            if b"\0" in octets and not self._binary:
                raise BadUrl(url)  # of what came here before NUL was refused
            self._write(self._ends.feed(octets))

    async def _lines(self, spool: Spool) -> Spool:
        """What came as a literal8 as lines: a spool that takes the place of this one."""
        content, made = await asyncio.to_thread(_content_as_lines, spool)
        if made == content:
            return spool
        fresh = self._session.shared.house.blobs.spool()
        try:
            await asyncio.to_thread(fresh.write, made)
        except MailError:
            fresh.drop()
            raise
        spool.drop()
        return fresh

    async def start(self, args: Cursor) -> None:
        """What follows the first message's flags and date, before any literal."""
        if self._said.catenate:
            await self._catenate(args)
            await self._go_on(args)

    async def part(self, args: Cursor, more: bool) -> None:
        """What follows a literal."""
        if self._then is not None:
            await self._catenate(args)
        await self._go_on(args)

    async def _go_on(self, args: Cursor) -> None:
        """What follows a message: what is said of the next one, or the end of the command."""
        while self._then is None:
            said = parse_append_more(args, self._said)
            if said is None:
                await self._commit()
                return
            if self._old is not None:
                raise BadSyntax("REPLACE takes one message")  # RFC 8508 §4.7, §5
            self._said = understood(self._session, said)
            if not said.catenate:
                return
            await self._catenate(args)

    async def _commit(self) -> None:
        """All messages go into the mailbox, by one unit."""
        session = self._session
        house = session.shared.house
        try:
            write = house.mail.write if len(self._made) <= LIGHT else house.mail.write_much
            stored = await write(
                _place,
                session.account,
                self._box,
                tuple(self._made),
                self._quota,
                house.clock.now(),
                self._old,
            )
        except Gone:
            raise  # not the mailbox is missing: to make one would not help
        except NotFound:
            raise NoTarget from None
        session.appending = None
        session.placed(self._box.id, [each.uid for each in stored])
        code = None
        if self._rights & Right.READ:  # RFC 4315 §3: else it has no use for UIDs
            uids = compress([each.uid for each in stored])
            code = b"APPENDUID %d %b" % (stored[0].uidvalidity, uids)
        if self._old is None:
            await finish(session, self._command, "Appended", code)
            return
        if code is not None:
            session.tell(None, "OK", "Replaced", code)  # before the EXPUNGE: RFC 8508 §4.3
        await finish(session, self._command, "Replaced", highest=True)

    def abort(self) -> None:
        """The command comes to nothing."""
        self._drop()
        self._made.clear()

    def _drop(self) -> None:
        if self._spool is not None:
            self._spool.drop()
            self._spool = None


def _place(
    tx: Tx,
    viewer: int,
    box: Mailbox,
    made: Sequence[tuple[NewBlob, NewMessage]],
    quota: Quota,
    now: Instant,
    old: Replaced | None,
) -> list[Stored]:
    """A message may stream in for minutes: the right to place it is what it is now."""
    if old is not None:
        begin_all(tx, (box.account, old.box.account))  # both locks, in order
        _remove(tx, viewer, old, now, within=old.box.id == box.id)
    rights.check(rights.of(tx, viewer, box), Right.INSERT)
    return messages.append(tx, box.account, box.id, made, quota, now, viewer)


def _remove(tx: Tx, viewer: int, old: Replaced, now: Instant, *, within: bool) -> None:
    """The message that is replaced goes first, so its room counts as free. Raises Gone.

    A draft that a later one supersedes `within` its mailbox is not worth bringing back.
    """
    held = rights.of(tx, viewer, old.box)
    if not held & Right.LOOKUP:
        raise Gone
    rights.check(held, Right.DELETE_MESSAGES | Right.EXPUNGE)
    pick = Pick(old.uid, old.uid)
    there = reading.brief(tx, old.box.id, pick)
    if not there:
        raise Gone
    superseded = within and there[0].flags & flags.DRAFT
    retention = 0 if superseded else old.retention
    account = old.box.account
    messages.expunge(tx, account, old.box.id, pick, now, old.actor, retention=retention)


def as_lines(content: bytes) -> bytes:
    """What came as a literal8 as every reader can have it: parts that are binary are encoded anew,
    and BINARY tells them as they came. RFC 3516 §4.4. Raises CannotConvert.

    What holds no NUL and calls nothing binary is mail like any other: its line ends are repaired.
    """
    is_binary = b"\0" in content or any(
        (part.encoding or b"").strip().lower().startswith(b"binary")
        for part in mime.scan(content).walk()
    )
    if is_binary and (made := binary_to_eight_bit(content)) is not None:
        return made
    ends = LineEnds()
    repaired = ends.feed(content) + ends.flush()
    if is_binary and (repaired != content or b"\0" in content):
        raise CannotConvert  # what is sealed, and would be broken
    return repaired


def _content_as_lines(spool: Spool) -> tuple[bytes, bytes]:
    content = spool.content()
    return content, as_lines(content)


async def _parsed(spool: Spool) -> Parsed:
    """Off the loop, unless the message is small."""
    if spool.size <= ROW_LIMIT:
        return parse(spool.content())
    return await asyncio.to_thread(lambda: parse(spool.content()))
