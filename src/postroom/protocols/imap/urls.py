"""The octets that an IMAP URL names, for who may read them. RFC 4469 §3, RFC 5092.

Whatever is wrong with a URL, the answer is one: that of another's mailbox is that of no mailbox.
One that carries an authorization is read as who authorized it reads: RFC 4467.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes

from postroom.core.errors import Corrupt, MailError, Malformed, NotAllowed, NotFound, Status
from postroom.domain.mailboxes import reading, rights
from postroom.domain.mailboxes.folders import Mailbox
from postroom.domain.mailboxes.picking import Pick
from postroom.domain.mailboxes.rights import Right
from postroom.protocols.imap import authorizing
from postroom.protocols.imap.decoding import Encoded, UnknownEncoding
from postroom.protocols.imap.fetching import (
    SLICE,
    chosen_fields,
    cut,
    encoded_of,
    is_of_fields,
    place_of,
)
from postroom.protocols.imap.plans import BLOB_ID, Row
from postroom.protocols.imap.session import Session
from postroom.protocols.imap.values import parsed_again
from postroom.wire.imap import FetchBody, MessageUrl, Site, is_authorized, parse_url

_TOLD: Final = 1_000  # octets of a URL that a response repeats
_SAFE: Final = "!#$%&'()*+,/:;=?@[^`{|}"  # of url-resp-text, what no string has to escape


class BadUrl(MailError):
    """A URL of a CATENATE names nothing that can be read. RFC 4469 §4."""

    status = Status(5, 6, 0)
    sentence = "A URL names nothing that can be read here; nothing was stored"

    def __init__(self, url: bytes) -> None:
        super().__init__()
        self.url = url

    @property
    def code(self) -> bytes:
        """The response code. What could end it early is percent-encoded."""
        shown = quote_from_bytes(self.url[:_TOLD], _SAFE)
        return b'BADURL "%b"' % shown.encode("ascii")


class Found(NamedTuple):
    """Where octets lie in a blob, or the octets themselves where they had to be picked out."""

    blob: int
    start: int
    length: int
    picked: bytes | None = None
    path: tuple[int, ...] = ()  # of the part that they belong to
    binary: Encoded | None = None  # how BINARY reads them; None: nobody knows, or picked out


class Urls:
    """Finds what the URLs of one command name; each mailbox is looked up once."""

    __slots__ = ("_boxes", "_session")

    def __init__(self, session: Session) -> None:
        self._session = session
        self._boxes: dict[str, Mailbox] = {}

    async def find(self, text: bytes) -> Found:
        """Raises BadUrl, and Corrupt for what is damaged in the store."""
        if is_authorized(text):
            return await self.find_authorized(text)
        try:
            url = parse_url(text)
            if url.site is not None:
                self._check_site(url.site)
            box = await self._box(url.mailbox)
            if url.uidvalidity not in (None, box.uidvalidity):
                raise NotFound
            return await self._octets(box, url)
        except (Malformed, NotFound, NotAllowed) as error:  # NotAllowed: rights
            raise BadUrl(text) from error

    async def find_authorized(self, text: bytes) -> Found:
        """`find` for a URL that carries an authorization, and for no other. RFC 4467 §7."""
        session = self._session
        house = session.shared.house
        server = authorizing.Server(house.hostname, house.secrets)
        now = house.clock.now()
        try:
            box, url = await house.mail.read(authorizing.judge, server, session.account, text, now)
            return await self._octets(box, url)
        except (Malformed, NotFound, NotAllowed) as error:
            raise BadUrl(text) from error

    async def read(self, text: bytes, found: Found) -> AsyncIterator[bytes]:
        """The octets in pieces, while they are asked for."""
        if found.picked is not None:
            yield found.picked
            return
        house = self._session.shared.house
        end = found.start + found.length
        for at in range(found.start, end, SLICE):
            size = min(SLICE, end - at)
            try:
                yield await house.mail.read_much(house.blobs.read, found.blob, at, size)
            except NotFound:
                raise BadUrl(text) from None  # it went meanwhile

    def _check_site(self, site: Site) -> None:
        """An absolute URL is of this server, and of who signed in. Raises NotFound."""
        session = self._session
        assert session.identity is not None  # the table asks for it
        if not authorizing.is_here(site, session.shared.house.hostname):
            raise NotFound
        if site.user is not None and site.user.lower() != str(session.identity.address).lower():
            raise NotFound

    async def _box(self, path: str | None) -> Mailbox:
        """A mailbox that may be read: the one at the path, or the open one."""
        session = self._session
        if path is None:
            if session.selected is None:
                raise NotFound
            rights.check(session.selected.rights, Right.READ)
            return session.selected.mailbox
        if path not in self._boxes:
            self._boxes[path] = await session.find(path, Right.READ)
        return self._boxes[path]

    async def _octets(self, box: Mailbox, url: MessageUrl) -> Found:
        row, wanted = await self._row(box, url.uid), url.wanted()
        start, length = place_of(row, wanted)
        if length < 0:
            raise NotFound
        if is_of_fields(wanted):
            return await self._fields(row[BLOB_ID], start, length, wanted)
        try:
            binary = encoded_of(row, wanted, (start, length))
        except UnknownEncoding:
            binary = None
        place = cut((start, length), wanted.partial)
        return Found(row[BLOB_ID], *place, path=wanted.path, binary=binary)

    async def _fields(self, blob: int, start: int, length: int, wanted: FetchBody) -> Found:
        """Some fields of a header, which do not lie side by side."""
        house = self._session.shared.house
        block = await house.mail.read_much(house.blobs.read, blob, start, length)
        picked = chosen_fields(block, wanted)
        first, size = cut((0, len(picked)), wanted.partial)
        return Found(blob, 0, size, picked[first : first + size], wanted.path)

    async def _row(self, box: Mailbox, uid: int) -> Row:
        """A row in the shape of `reading.Full`; raises NotFound."""
        mail, pick = self._session.shared.house.mail, Pick(uid, uid)
        rows = await mail.read(reading.full_rows, box.id, pick)
        if rows:
            return rows[0]
        again = await parsed_again(self._session, (uid,), box.id)
        if uid not in again:
            if await mail.read(reading.brief, box.id, pick):
                raise Corrupt(detail=f"message {uid} of a URL cannot be read")
            raise NotFound
        brief, parsed = again[uid]
        of_parse = (parsed.envelope, parsed.bodystructure, parsed.layout)
        return (*brief, *of_parse, parsed.header_size, parsed.preview)
